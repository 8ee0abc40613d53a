"""Full disks as a client sees them: what is new is refused, everything else goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.nodes.client.world import World


@pytest.fixture
def world() -> Any:
    made = World(clients=2, osts=1)
    made.run(made.vfs[0].mkdir("d"))
    made.make("d/f", b"text")
    yield made
    made.close()


def disk(world: World, node: str, state: str) -> None:
    world.run(world.cluster.node(node).disk_trouble([], state))


def test_a_full_mdt_makes_nothing_and_changes_and_removes_all(world: World) -> None:
    one, other = world.vfs
    disk(world, "mds0", "full")
    assert world.errno(one.open("g", 0o102)) == "ENOSPC"
    assert world.errno(other.mkdir("e")) == "ENOSPC"
    assert world.errno(other.symlink("d/f", "s")) == "ENOSPC"
    world.make("d/f", b"longer text", client=1)
    assert world.read("d/f") == b"longer text"
    world.run(one.chmod("d/f", 0o600))
    world.run(other.link("d/f", "h"))
    world.run(one.rename("h", "d/i"))
    world.run(one.setxattr("d/f", "user.a", b"1"))
    for name in ("d/f", "d/i"):
        world.run(other.unlink(name))
    world.run(other.rmdir("d"))
    disk(world, "mds0", "ok")
    world.make("g", b"x")
    assert [name for name, *_ in world.run(other.readdir()) if name[0] != "."] == ["g"]


def test_a_read_only_mdt_answers_and_changes_nothing(world: World) -> None:
    disk(world, "mds0", "readonly")
    assert world.run(world.vfs[1].stat("d/f")).size == 4
    assert world.errno(world.vfs[1].mkdir("e")) == "EROFS"
    assert world.errno(world.vfs[1].unlink("d/f")) == "EROFS"
    disk(world, "mds0", "ok")
    world.run(world.vfs[1].unlink("d/f"))

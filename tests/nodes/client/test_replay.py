"""What a client brings back after the power of its servers went: opens, changes, data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labsim.base.faults import FAIL_ONCE, Armed
from labsim.base.payload import Fill, tobytes
from labsim.base.units import MIB, NS_PER_S
from labsim.net.ptlrpc import State
from labsim.net.ptlrpc.replay import Replaying
from labsim.nodes.mds import points as mds
from labsim.wire.constants import MDS_OPEN_HAS_EA

from .world import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World(clients=2, osts=2)
    until(made, 8)  # until then no server has the clients on disk
    yield made
    made.close()


def power_cycle(world: World, name: str) -> None:
    world.run(world.cluster.node(name).power_cycle())


def mdt(world: World) -> Any:
    node = world.cluster.node("mds0").machine.node
    return next(iter(node.rpc.targets.values()))


def until(world: World, seconds: int) -> None:
    world.run(world.env.timeout(seconds * NS_PER_S))


def opens(world: World) -> list[int]:
    return [file.handle for file in mdt(world).opens]


def kept(world: World) -> int:
    return len(world.nodes[0].mdcs[0].imp.replay_list)


# ---- opens


def test_an_open_is_kept_for_as_long_as_the_file_is_open(world: World) -> None:
    file = world.run(world.vfs[0].open("f", 0o102))
    world.run(world.vfs[0].sync())
    until(world, 8)
    assert kept(world) == 1
    request = world.nodes[0].mdcs[0].imp.replay_list[0]
    record = request.fields["rec_reint"]
    assert record.fid2 == file.inode.fid
    assert record.open_handle_old == file.handle == opens(world)[0]
    assert record.flags_l & MDS_OPEN_HAS_EA
    assert request.fields["eadata"] == file.inode.layout
    world.run(world.vfs[0].close(file))
    world.run(world.vfs[0].sync())
    until(world, 8)
    assert (kept(world), opens(world)) == (0, [])


def test_an_open_goes_when_its_close_is_committed(world: World) -> None:
    file = world.run(world.vfs[0].open("f", 0o102))
    world.run(world.vfs[0].sync())
    until(world, 8)
    world.run(world.vfs[0].close(file))
    assert kept(world) == 2
    world.run(world.vfs[0].sync())
    assert kept(world) == 0


def test_an_open_file_gets_another_handle_and_its_close_takes_that(world: World) -> None:
    file = world.run(world.vfs[0].open("f", 0o102))
    world.run(world.vfs[0].sync())
    until(world, 8)
    before = opens(world)
    power_cycle(world, "mds0")
    until(world, 60)
    after = opens(world)
    assert before != after
    assert len(after) == 1
    world.run(world.vfs[0].write(file, b"later"))
    world.run(world.vfs[0].close(file))
    assert opens(world) == []
    assert not [e for e in world.cluster.trace.events if e.kind == "close.failed"]
    assert world.read("f", client=1) == b"later"


def test_a_close_that_waits_while_the_mds_restarts_is_done_with_it(world: World) -> None:
    file = world.run(world.vfs[0].open("f", 0o102))
    world.run(world.vfs[0].sync())
    world.cluster.node("mds0").machine.node.host.faults.arm(
        Armed(mds.MDS_CLOSE_NET.number, FAIL_ONCE)
    )
    closing = world.env.process(world.vfs[0].close(file))
    until(world, 1)
    power_cycle(world, "mds0")
    world.run(closing)
    assert opens(world) == []
    assert not [e for e in world.cluster.trace.events if e.kind == "close.failed"]


def test_a_close_whose_reply_was_lost_leaves_nothing_open(world: World) -> None:
    file = world.run(world.vfs[0].open("f", 0o102))
    world.run(world.vfs[0].sync())
    world.cluster.node("mds0").machine.node.host.faults.arm(
        Armed(mds.MDS_CLOSE_NET_REP.number, FAIL_ONCE)
    )
    closing = world.env.process(world.vfs[0].close(file))
    until(world, 1)
    world.run(world.vfs[1].sync())
    power_cycle(world, "mds0")
    world.run(closing)
    assert opens(world) == []
    assert kept(world) == 0


def test_a_close_that_was_lost_with_the_power_is_replayed_after_its_open(world: World) -> None:
    world.make("f", b"x")
    world.run(world.vfs[0].sync())
    until(world, 8)
    file = world.run(world.vfs[0].open("f"))
    world.run(world.vfs[0].unlink("f"))
    world.run(world.vfs[0].close(file))
    assert kept(world) >= 2
    power_cycle(world, "mds0")
    assert world.errno(world.vfs[1].stat("f")) == "ENOENT"
    until(world, 10)
    assert mdt(world).mdd.orphans() == []
    assert opens(world) == []


# ---- changes


def test_each_change_comes_back_in_its_order(world: World) -> None:
    vfs = world.vfs[0]
    world.run(vfs.mkdir("d"))
    world.run(vfs.sync())

    def work() -> Any:
        for number in range(30):
            yield from vfs.mkdir(f"d/{number}")
            yield from vfs.setxattr("d", "user.last", b"%d" % number, 0)
            if number % 3 == 0:
                yield from vfs.rename(f"d/{number}", f"d/renamed{number}")
            if number % 3 == 1:
                yield from vfs.rmdir(f"d/{number}")

    world.run(work())
    power_cycle(world, "mds0")
    names = {name for name, *_ in world.run(world.vfs[1].readdir("d"))} - {".", ".."}
    assert names == {f"renamed{n}" if n % 3 == 0 else f"{n}" for n in range(30) if n % 3 != 1}
    assert world.run(world.vfs[1].getxattr("d", "user.last")) == b"29"


def test_a_replay_in_another_order_would_be_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above would find out."""

    def backwards(self: Replaying) -> Any:
        self.free_committed()
        left = [one for one in self.replay_list if one.xid in (self._to_replay or ())]
        return left[-1] if left else None

    monkeypatch.setattr(Replaying, "_next", backwards)
    world.run(world.vfs[0].mkdir("d"))
    world.run(world.vfs[0].mkdir("d/e"))
    power_cycle(world, "mds0")
    until(world, 400)
    assert "import.replay_status" in {event.kind for event in world.cluster.trace.events}


# ---- data


def test_data_that_an_ost_lost_is_written_again_to_the_byte(world: World) -> None:
    vfs = world.vfs[0]

    def write() -> Any:
        file = yield from vfs.open("f", 0o102)
        yield from vfs.write(file, Fill(4 * MIB, 5, 0))
        yield from vfs.write(file, b"middle", 1 * MIB + 100)
        yield from vfs.write(file, b"end", 6 * MIB)
        yield from vfs.close(file)

    world.run(write())
    until(world, 1)
    osc = next(osc for osc in world.nodes[0].oscs.values() if osc.imp.uncommitted_bytes)
    assert osc.imp.uncommitted_bytes >= 4 * MIB
    power_cycle(world, "oss0")
    file = world.run(world.vfs[1].open("f"))
    got = tobytes(world.run(world.vfs[1].read(file, 8 * MIB)))
    assert len(got) == 6 * MIB + 3
    assert got[MIB + 100 : MIB + 106] == b"middle"
    assert got[: MIB + 100] == tobytes(Fill(4 * MIB, 5, 0))[: MIB + 100]
    assert got[-3:] == b"end"
    until(world, 20)
    assert all(osc.imp.uncommitted_bytes == 0 for osc in world.nodes[0].oscs.values())


def test_both_servers_down_together(world: World) -> None:
    world.make("a", b"1" * 100_000)
    world.make("b", b"2" * 5000, client=1)
    world.run(world.env.all_of([
        world.cluster.node(name).power_cycle() for name in ("mds0", "oss0")
    ]))  # fmt: skip
    assert world.read("b", client=0) == b"2" * 5000
    assert world.read("a", client=1) == b"1" * 100_000
    assert all(node.mdcs[0].imp.state is State.FULL for node in world.nodes)


def test_objects_that_an_ost_lost_are_waited_for_until_its_mds_is_back(world: World) -> None:
    """The MDT has them made again; who asks before that must not lose what he wrote."""

    def work() -> Any:
        for number in range(100):
            file = yield from world.vfs[0].open(f"f{number}", 0o102)
            yield from world.vfs[0].write(file, b"%d" % number)
            yield from world.vfs[0].close(file)

    world.run(work())
    world.run(world.cluster.node("mds0").kill())
    power_cycle(world, "oss0")
    until(world, 60)
    world.run(world.cluster.node("mds0").start())
    assert [world.read(f"f{n}", client=1) for n in range(100)] == [b"%d" % n for n in range(100)]

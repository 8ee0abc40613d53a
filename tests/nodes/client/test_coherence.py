"""Many processes on three clients at once: afterwards all see the same, cached or not."""

from __future__ import annotations

import stat
from random import Random
from typing import Any

import pytest

from labsim.base.errors import LustreError
from tests.nodes.client.world import World

DIRECTORIES = ["a", "b", "a/c", "b/d"]
NAMES = ["f", "g", "h"]


def calls(vfs: Any, rng: Random, count: int) -> Any:
    """One process: random calls on few names, so that they meet."""
    for _ in range(count):
        one = f"{rng.choice(DIRECTORIES)}/{rng.choice(NAMES)}"
        two = f"{rng.choice(DIRECTORIES)}/{rng.choice(NAMES)}"
        folder = rng.choice(DIRECTORIES)
        value = b"%d" % rng.randrange(10)
        call, *arguments = rng.choice(
            [
                (create, vfs, one, value),
                (read, vfs, one),
                (vfs.unlink, one),
                (vfs.rename, one, two),
                (vfs.link, one, two),
                (vfs.mkdir, folder),
                (vfs.rmdir, folder),
                (vfs.rename, folder, rng.choice(DIRECTORIES)),
                (vfs.chmod, one, 0o600 + rng.randrange(64)),
                (vfs.setxattr, one, "user.a", value),
                (vfs.removexattr, one, "user.a"),
                (vfs.getxattr, one, "user.a"),
                (vfs.stat, one),
                (vfs.stat, folder),
                (vfs.readdir, folder),
            ]
        )
        try:
            yield from call(*arguments)
        except LustreError:
            continue


def create(vfs: Any, path: str, data: bytes) -> Any:
    file = yield from vfs.open(path, 0o101, 0o644)
    yield from vfs.write(file, data)
    yield from vfs.close(file)


def read(vfs: Any, path: str) -> Any:
    file = yield from vfs.open(path)
    try:
        data = yield from vfs.read(file, 100)
    finally:
        yield from vfs.close(file)
    return bytes(data if isinstance(data, bytes) else data.tobytes())


def everything(vfs: Any, path: str = ".") -> Any:
    """All names below a directory with what a program can learn of them."""
    found: dict[str, Any] = {}
    for name, kind, ino in sorted((yield from vfs.readdir(path))):
        if name in (".", ".."):
            continue
        below = f"{path}/{name}"
        told = yield from vfs.stat(below, follow=False)
        assert (stat.S_IFMT(told.mode), told.ino) == (kind, ino)
        if stat.S_ISDIR(told.mode):
            found |= yield from everything(vfs, below)
        try:
            xattr = yield from vfs.getxattr(below, "user.a")
        except LustreError as error:
            xattr = error.name
        text = b"" if stat.S_ISDIR(told.mode) else (yield from read(vfs, below))
        found[below] = (told.mode, told.nlink, told.size, told.mtime, told.ctime, xattr, text)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_all_clients_agree(seed: int) -> None:
    world = World(clients=3, seed=seed)
    try:
        for path in DIRECTORIES:
            world.run(world.vfs[0].mkdir(path))
        works = [
            calls(world.nodes[number % 3].process(), Random(f"{seed}:{number}"), 60)
            for number in range(9)
        ]
        assert world.all(*works) == [None] * 9
        cached = [world.run(everything(vfs)) for vfs in world.vfs]
        for vfs in world.vfs:
            world.run(vfs.drop_caches(3))
        fresh = [world.run(everything(vfs)) for vfs in world.vfs]
        assert cached[0] == cached[1] == cached[2] == fresh[0] == fresh[1] == fresh[2]
        assert not any(node.snapshot()["open_files"] for node in world.nodes)
        for node in world.nodes:
            locks = [lock for lock in node.mdcs[0].ldlm.snapshot() if lock["refs"]]
            assert locks == [], "every reference was given back"
            assert node.mdcs[0]._slots.taken == node.mdcs[0].tags.taken == 0
    finally:
        world.close()

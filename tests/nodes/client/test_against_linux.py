"""Random calls from two clients, and the same calls on the file system of this machine.

What Linux answers is right: results, errnos, link counts of files, names and contents must agree.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from random import Random
from typing import Any

import pytest

from labsim.base.errors import LustreError
from tests.nodes.client.world import World

NAMES = ["a", "b", "a/c", "a/d", "b/c", "a/c/e", "b/c/e", "s", "t", "a/s"]
SUFFIXES = ["", "", "", "", "", "/", "/.", "/.."]


CALLS = [
    "mkdir", "rmdir", "unlink", "rename", "rename", "link", "symlink", "mknod", "write",
    "truncate", "chmod", "stat", "lstat", "readlink", "readdir",
]  # fmt: skip


class Both:
    """One call made on both sides."""

    def __init__(self, world: World, root: Path, rng: Random) -> None:
        self.world = world
        self.root = root
        self.rng = rng

    def path(self) -> str:
        return self.rng.choice(NAMES) + self.rng.choice(SUFFIXES)

    def call(self) -> tuple[str, Any, Any]:
        kind = self.rng.choice(CALLS)
        one, two = self.path(), self.path()
        vfs = self.rng.choice(self.world.vfs)
        here, there = f"{self.root}/{one}", f"{self.root}/{two}"
        number = self.rng.randrange(512)
        sides = {
            "mkdir": (vfs.mkdir(one, 0o755), lambda: os.mkdir(here, 0o755)),
            "rmdir": (vfs.rmdir(one), lambda: os.rmdir(here)),
            "unlink": (vfs.unlink(one), lambda: os.unlink(here)),
            "rename": (vfs.rename(one, two), lambda: os.rename(here, there)),
            "link": (vfs.link(one, two), lambda: os.link(here, there, follow_symlinks=False)),
            "symlink": (vfs.symlink(one, two), lambda: os.symlink(one, there)),
            "mknod": (vfs.mknod(one, 0o100644), lambda: os.mknod(here, 0o100644)),
            "write": (self._write(vfs, one, number), lambda: self._write_here(here, number)),
            "truncate": (vfs.truncate(one, number), lambda: os.truncate(here, number)),
            "chmod": (vfs.chmod(one, number | 0o700), lambda: os.chmod(here, number | 0o700)),
            "stat": (self._stat(vfs, one, True), lambda: _told(os.stat(here))),
            "lstat": (self._stat(vfs, one, False), lambda: _told(os.lstat(here))),
            "readlink": (vfs.readlink(one), lambda: os.readlink(here)),
            "readdir": (self._names(vfs, one), lambda: sorted(os.listdir(here))),
        }
        what = f"{kind} {one} {two} {number} on {vfs.node.host.name}"
        steps, here_call = sides.pop(kind)
        for unused, _ in sides.values():
            unused.close()
        return what, self._there(steps), _here(here_call)

    def _there(self, steps: Any) -> Any:
        try:
            return self.world.run(steps)
        except LustreError as error:
            return error.name

    def _write(self, vfs: Any, path: str, number: int) -> Any:
        flags = os.O_WRONLY | os.O_CREAT | [0, os.O_TRUNC, os.O_EXCL, os.O_APPEND][number % 4]
        file = yield from vfs.open(path, flags, 0o644)
        yield from vfs.write(file, b"%03d" % number)
        yield from vfs.close(file)

    def _write_here(self, path: str, number: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | [0, os.O_TRUNC, os.O_EXCL, os.O_APPEND][number % 4]
        fd = os.open(path, flags, 0o644)
        os.write(fd, b"%03d" % number)
        os.close(fd)

    def _stat(self, vfs: Any, path: str, follow: bool) -> Any:
        return _told((yield from vfs.stat(path, follow)))

    def _names(self, vfs: Any, path: str) -> Any:
        names = yield from vfs.readdir(path)
        return sorted(name for name, _, _ in names if name not in (".", ".."))

    def everything(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The whole tree on both sides: types, modes, link counts, contents."""
        there = {name: self._there(self._whole(self.world.vfs[1], name)) for name in NAMES}
        here = {name: _here(lambda name=name: _content(f"{self.root}/{name}")) for name in NAMES}
        return there, here

    def _whole(self, vfs: Any, path: str) -> Any:
        found = yield from vfs.stat(path, follow=False)
        told = _told(found)
        if not stat.S_ISREG(found.mode):
            return told, b""
        file = yield from vfs.open(path)
        data = yield from vfs.read(file, 1 << 16)
        yield from vfs.close(file)
        return told, bytes(data if isinstance(data, bytes) else data.tobytes())


def deep(world: World, top: Path) -> Path:
    """A directory far enough from the root on both sides that no ".." leads out of it."""
    place = top / "r" / "r" / "r" / "r"
    place.mkdir(parents=True)
    at = ""
    for _ in range(4):
        at += "r/"
        world.run(world.vfs[0].mkdir(at))
    for vfs in world.vfs:
        world.run(vfs.chdir(at))
    return place


def _here(call: Any) -> Any:
    try:
        return call()
    except OSError as error:
        return LustreError(error.errno).name


def _told(found: Any) -> tuple[int, ...]:
    """What both sides must agree on; a directory's size and links depend on the file system."""
    if hasattr(found, "st_mode"):
        mode, nlink, size = found.st_mode, found.st_nlink, found.st_size
    else:
        mode, nlink, size = found.mode, found.nlink, found.size
    return (mode,) if stat.S_ISDIR(mode) else (mode, nlink, size)


def _content(path: str) -> Any:
    found = os.lstat(path)
    data = Path(path).read_bytes() if stat.S_ISREG(found.st_mode) else b""
    return _told(found), data


@pytest.mark.parametrize("seed", range(8))
def test_random_calls(seed: int, tmp_path: Path) -> None:
    world = World()
    before = os.umask(0o022)
    try:
        both = Both(world, deep(world, tmp_path), Random(seed))
        done = []
        for _ in range(400):
            what, there, here = both.call()
            done.append(what)
            assert there == here, done[-12:]
        there, here = both.everything()
        assert there == here
    finally:
        os.umask(before)
        world.close()

"""Corners of the system calls, on a simulated cluster and on a directory of this machine.

What random programs meet too seldom: sticky and set-gid directories, the ends of files and names,
trailing slashes. Left out is what kernels have changed since those that Lustre 2.12 ran on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labsim.nodes.client.cred import Cred
from labsim.scenario.cluster import Cluster

from .rig import Process
from .test_differential import AS_ROOT, DEEP, UMASK, Real, Simulated, folder, identity, outcome

__all__ = ["folder"]

pytestmark = pytest.mark.skipif(not AS_ROOT, reason="needs root to be somebody else")

ROOT = Cred(0, 0)._replace(umask=UMASK)
ANN = Cred(1000, 1000, (1000,))._replace(umask=UMASK)
BOB = Cred(1001, 1001, (1001,))._replace(umask=UMASK)
MEMBER = Cred(1000, 1000, (1000, 2000))._replace(umask=UMASK)
"""Ann, who is in group 2000 here."""

MAKE = os.O_CREAT | os.O_WRONLY
EXT4_MAXBYTES = (1 << 32) - 1 << 12
LONG = "n" * 255


class Both:
    """One process of each kind for each user; what they say must be the same."""

    def __init__(self, cluster: Cluster, top: Path) -> None:
        self.cluster = cluster
        self.real = Real(top)
        os.makedirs(self.real.at("."))
        os.chmod(self.real.at("."), 0o777)
        self.at = ""
        root = Process(cluster, 0)
        for name in (top.name, *DEEP.split("/")):
            self.at += f"/{name}"
            root.mkdir(self.at)
        root.chmod(self.at, 0o777)
        self.processes: dict[Cred, Process] = {}
        self.opened: dict[int, None] = {}

    def __call__(self, cred: Cred, name: str, first: Any, *args: Any) -> Any:
        """One call of one user; `first` is a path, or what "open" returned."""
        mine_first, real_first = first if isinstance(first, tuple) else (first, first)
        process = self.processes.setdefault(cred, Process(self.cluster, 0, cred))
        simulated = Simulated(process, self.at[1:])
        mine = outcome(lambda: getattr(simulated, name)(mine_first, *args))
        with identity(cred):
            real = outcome(lambda: getattr(self.real, name)(real_first, *args))
        same = mine == real or (name == "open" and mine[0] == real[0] == "done")
        asked = f"{name}{tuple(str(one)[:40] for one in (first, *args))} of {cred.uid}"
        assert same, f"{asked}\nlabsim: {str(mine)[:200]}\nLinux:  {str(real)[:200]}"
        if name == "open" and real[0] == "done":
            self.opened[real[1]] = None
        elif name == "close":
            self.opened.pop(real_first, None)
        return mine[1], real[1]

    def make(self, cred: Cred, path: str, mode: int = 0o666) -> None:
        """A file."""
        self(cred, "close", self(cred, "open", path, MAKE, mode))


@pytest.fixture
def both(folder: Path) -> Iterator[Both]:
    with Cluster(clients=1, osts=1, trace_keep=0) as cluster:
        made = Both(cluster, folder)
        yield made
        for file in made.opened:
            os.close(file)


def test_who_inherits_a_group(both: Both) -> None:
    both(ROOT, "mkdir", "sg", 0o777)
    both(ROOT, "chown", "sg", 0, 2000)
    both(ROOT, "chmod", "sg", 0o2777)
    for number, cred in enumerate((ROOT, ANN, MEMBER)):
        folder, file = f"sg/d{number}", f"sg/f{number}"
        both(cred, "mkdir", folder, 0o755)
        both(ROOT, "stat", folder)
        both.make(cred, file, 0o775)
        both(cred, "mknod", f"{file}n", 0o664 | stat.S_IFREG)
        both(cred, "symlink", "x", f"{file}s")
        for path in (file, f"{file}n", f"{file}s"):
            both(ROOT, "lstat", path)
        for path in (file, folder):
            both(cred, "chmod", path, 0o2755)
            both(ROOT, "stat", path)


def test_a_sticky_directory(both: Both) -> None:
    both(ROOT, "mkdir", "st", 0o777)
    both(ROOT, "chmod", "st", 0o1777)
    for name in "abcde":
        both.make(ANN, f"st/{name}")
    both(ANN, "mkdir", "st/dir", 0o777)
    both.make(BOB, "st/mine")
    for cred, name, *args in (
        (BOB, "unlink", "st/a"), (BOB, "rename", "st/a", "st/z"), (BOB, "rmdir", "st/dir"),
        (BOB, "rename", "st/mine", "st/a"), (ANN, "rename", "st/a", "st/mine"),
        (ANN, "rename", "st/a", "st/aa"), (ANN, "unlink", "st/b"), (ROOT, "unlink", "st/c"),
        (BOB, "rename", "st/mine", "mine"), (BOB, "rename", "mine", "st/d"),
        (BOB, "rename", "st/dir", "dir"), (ANN, "chown", "st", 1000, 1000),
        (ROOT, "chown", "st", 1001, 1001), (BOB, "unlink", "st/e"), (BOB, "readdir", "st"),
    ):  # fmt: skip
        both(cred, name, *args)


def test_when_set_id_bits_go(both: Both) -> None:
    both.make(ROOT, "f")
    both(ROOT, "chown", "f", 1000, 1000)
    for mode, cred, name, *args in (
        (0o6777, ANN, "chown", -1, 1000), (0o6777, ROOT, "chown", -1, -1),
        (0o6777, ROOT, "chown", 1001, -1), (0o6767, ROOT, "chown", 1000, -1),
        (0o6777, BOB, "truncate", 5), (0o6777, ANN, "chown", 1000, 2000),
        (0o6777, MEMBER, "chown", 1000, 2000), (0o755, MEMBER, "chmod", 0o2755),
        (0o755, ANN, "chmod", 0o2755), (0o755, ANN, "chown", 1001, -1),
    ):  # fmt: skip
        both(ROOT, "chmod", "f", mode)
        both(cred, name, "f", *args)
        both(ROOT, "stat", "f")
    both(ROOT, "chmod", "f", 0o6777)
    file = both(BOB, "open", "f", os.O_WRONLY, 0)
    both(BOB, "write", file, b"x")
    both(ROOT, "stat", "f")
    both(BOB, "close", file)


def test_how_long_a_file_may_be(both: Both) -> None:
    file = both(ROOT, "open", "big", os.O_CREAT | os.O_RDWR, 0o666)
    for end in (1 << 43, EXT4_MAXBYTES - 1, EXT4_MAXBYTES, 1 << 44, 1 << 45, (1 << 63) - 2):
        both(ROOT, "pwrite", file, b"z", end)
        both(ROOT, "truncate", "big", end)
        both(ROOT, "stat", "big")
        both(ROOT, "lseek", file, end, os.SEEK_SET)
        both(ROOT, "ftruncate", file, end)
        both(ROOT, "ftruncate", file, 0)
    for name, *args in (
        ("pwrite", b"z", -1), ("lseek", -1, os.SEEK_SET), ("pread", 10, (1 << 63) - 1),
        ("pread", 10, 1 << 44), ("ftruncate", -1),
    ):  # fmt: skip
        both(ROOT, name, file, *args)
    both(ROOT, "close", file)


def test_renames_of_directories(both: Both) -> None:
    for path, mode in (("p", 0o755), ("p/d", 0o555), ("q", 0o755)):
        both(ANN, "mkdir", path, mode)
    both.make(ANN, "q/f")
    both(ANN, "link", "q/f", "q/g")
    both(ANN, "symlink", "nowhere", "q/sl")
    both(ANN, "rename", "p/d", "p/e")
    both(ANN, "rename", "p/e", "q/e")  # EACCES: its ".." would change
    both(ANN, "chmod", "p/e", 0o755)
    both(ANN, "rename", "p/e", "q/e")
    both(ANN, "mkdir", "q/full", 0o755)
    both(ANN, "mkdir", "q/full/x", 0o755)
    for old, new in (
        ("q/e", "q/full"), ("q/full", "q/e"), ("q/e/x", "q/e"), ("q/e", "q/e/x"),
        ("q/e", "q/e/x/y"), ("q/f", "q/g"), ("q/f", "q/f"), ("q/f/", "q/h"), ("q/f", "q/h/"),
        ("q/e/", "q/k/"), ("q/k/.", "q/z"), ("q/k/..", "q/z"), ("q/k", "q/."), ("q/k", "q/.."),
        ("q/f", "q/k/.."), ("q/sl", "q/sl2"), ("q/f", "q/sl2"),
    ):  # fmt: skip
        both(ANN, "rename", old, new)
        for path in ("p", "q"):
            both(ANN, "stat", path)
            both(ANN, "readdir", path)
    for old, new in (("q/k/", "q/kk"), ("q/g/", "q/kk"), ("q/g", "q/kk/"), ("q/sl2", "q/sl3")):
        both(ANN, "link", old, new)


def test_slashes_and_dots(both: Both) -> None:
    both(ANN, "mkdir", "p", 0o755)
    both.make(ANN, "f")
    both(ANN, "symlink", "target", "dangling")
    both(ANN, "symlink", "p", "link")
    for path in (".", "..", "p/.", "p/..", "p/./", "f/", "f/.", "link/", "dangling/", "new/"):
        for name, *args in (
            ("mkdir", 0o755), ("rmdir",), ("unlink",), ("stat",), ("lstat",),
            ("open", MAKE, 0o644), ("open", os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o644),
        ):  # fmt: skip
            both(ANN, name, path, *args)
        both(ANN, "readdir", ".")


@pytest.mark.parametrize("name", [LONG, LONG + "n", "\udcff", " ", "\n", "..x", "*"])
def test_names(both: Both, name: str) -> None:
    other = name[:-1] + "m"
    for call, *args in (
        ("mkdir", name, 0o755), ("rename", name, other), ("rmdir", other), ("symlink", "x", name),
        ("lstat", name), ("unlink", name), ("stat", name), ("open", name, MAKE, 0o644),
        ("link", name, "other"), ("unlink", name), ("unlink", "other"),
        ("mknod", name, 0o644 | stat.S_IFIFO), ("unlink", name), ("symlink", name, "to"),
        ("stat", "to"), ("open", "to", MAKE, 0o644), ("unlink", "to"), ("readdir", "."),
    ):  # fmt: skip
        both(ANN, call, *args)


def test_who_may_enter(both: Both) -> None:
    both(ANN, "mkdir", "d", 0o777)
    both(ANN, "mkdir", "d/in", 0o777)
    for mode in (0o700, 0o711, 0o744, 0o600, 0o500, 0o300):
        both(ANN, "chmod", "d", mode)
        for cred in (ANN, BOB):
            for call, *args in (
                ("stat", "d/in"), ("stat", "d/none"), ("readdir", "d"), ("unlink", "d/none"),
                ("unlink", "d/in"), ("open", "d/x", MAKE, 0o644), ("rename", "d/in", "d/ni"),
                ("rename", "d/ni", "d/in"), ("mkdir", "d/in", 0o755), ("rmdir", "d/y"),
                ("rename", "d/none", "z"), ("link", "d/x", "d/l"), ("symlink", "x", "d/s"),
            ):  # fmt: skip
                both(cred, call, *args)
        both(ROOT, "readdir", "d")


def test_modes_at_creation(both: Both) -> None:
    for mode in (0o400, 0o000, 0o200, 0o4755):
        name = f"f{mode:o}"
        file = both(ANN, "open", name, os.O_CREAT | os.O_RDWR, mode)
        both(ANN, "write", file, b"12345")
        both(ANN, "close", file)
        for cred in (ANN, BOB, ROOT):
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDONLY | os.O_TRUNC, MAKE, 3):
                both(cred, "open", name, flags, 0o777)
            both(cred, "truncate", name, 1)
            both(cred, "times", name, 5, 6)
        both(ROOT, "stat", name)


def test_attributes_by_namespace(both: Both) -> None:
    both.make(ANN, "f", 0o644)
    names = ("user.x", "user." + "k" * 250, "user." + "k" * 251, "trusted.x", "security.x",
             "system.x", "other.x", "user", "")  # fmt: skip
    for name in names:
        for cred in (ANN, BOB, ROOT):
            for call, *args in (("setxattr", b"1", 0), ("getxattr",), ("removexattr",)):
                both(cred, call, "f", name, *args)
    both(ANN, "mknod", "fifo", 0o644 | stat.S_IFIFO)
    both(ANN, "setxattr", "fifo", "user.x", b"1", 0)
    both(ROOT, "setxattr", "fifo", "trusted.x", b"1", 0)
    for flags in (1, 1, 2, 3):
        both(ANN, "setxattr", "f", "user.y", b"1", flags)
    both(ANN, "chmod", "f", 0o400)
    both(ANN, "setxattr", "f", "user.y", b"2", 0)
    both(BOB, "listxattr", "f")

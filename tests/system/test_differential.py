"""Random programs of system calls, on a simulated cluster and on a directory of this machine.

Two clients take turns on the cluster, so that their caches have to agree with one another and with
what one kernel does. Results, errnos and the final trees must be the same.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.units import NS_PER_S
from labsim.nodes.client.cred import Cred
from labsim.scenario import checkers
from labsim.scenario.cluster import Cluster

from .rig import Process

NAMES = ("a", "b", "c", "d", "e")
LONG = "n" * 256
DEEP = "/".join("x" * 12)
"""Where the tree is: so deep that no path of a program gets out of it."""
UMASK = 0o022
XATTRS = ("user.one", "user.two")
AS_ROOT = os.geteuid() == 0
CREDS = (
    (Cred(0, 0), Cred(1000, 1000, (1000,)), Cred(1001, 1001, (1001,)))
    if AS_ROOT
    else (Cred(os.geteuid(), os.getegid(), tuple(os.getgroups())),)
)
"""No supplementary groups: an MDT that opens a file by name is not told of them (suppgid2)."""


def hardened(what: str) -> bool:
    """Whether this machine forbids something in sticky directories that POSIX does not."""
    path = Path(f"/proc/sys/fs/protected_{what}")
    return path.exists() and path.read_text().strip() != "0"


STICKY = not (hardened("symlinks") or hardened("regular"))


@contextmanager
def identity(cred: Cred) -> Iterator[None]:
    """This process is somebody else for a while."""
    if not AS_ROOT:
        yield
        return
    before = os.getgroups()
    os.setgroups(cred.groups)
    os.setegid(cred.gid)
    os.seteuid(cred.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


class Real:
    """The calls on a directory of this machine."""

    def __init__(self, top: Path) -> None:
        self.top = str(top)

    def at(self, path: str) -> str:
        return f"{self.top}/{DEEP}/{path}"

    def open(self, path: str, flags: int, mode: int) -> int:
        return os.open(self.at(path), flags | os.O_CLOEXEC, mode)

    def close(self, file: int) -> None:
        os.close(file)

    def read(self, file: int, length: int) -> bytes:
        return os.read(file, length)

    def pread(self, file: int, length: int, offset: int) -> bytes:
        return os.pread(file, length, offset)

    def write(self, file: int, data: bytes) -> int:
        return os.write(file, data)

    def pwrite(self, file: int, data: bytes, offset: int) -> int:
        return os.pwrite(file, data, offset)

    def lseek(self, file: int, offset: int, whence: int) -> int:
        return os.lseek(file, offset, whence)

    def ftruncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def fstat(self, file: int) -> Any:
        return shape(os.fstat(file))

    def stat(self, path: str) -> Any:
        return shape(os.stat(self.at(path)))

    def lstat(self, path: str) -> Any:
        return shape(os.lstat(self.at(path)))

    def readdir(self, path: str) -> list[str]:
        return sorted(os.listdir(self.at(path)))

    def rename(self, old: str, new: str) -> None:
        os.rename(self.at(old), self.at(new))

    def link(self, old: str, new: str) -> None:
        os.link(self.at(old), self.at(new), follow_symlinks=False)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self.at(path))

    def mknod(self, path: str, mode: int) -> None:
        os.mknod(self.at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self.at(path), uid, gid)

    def lchown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(self.at(path), uid, gid)

    def times(self, path: str, atime: int, mtime: int) -> tuple[int, int]:
        os.utime(self.at(path), ns=(atime * 10**9, mtime * 10**9))
        found = os.stat(self.at(path))
        return int(found.st_atime), int(found.st_mtime)

    def access(self, path: str, want: int) -> bool:
        os.stat(self.at(path))
        return os.access(self.at(path), want, effective_ids=AS_ROOT)

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        os.setxattr(self.at(path), name, value, flags)

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self.at(path), name)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self.at(path), name)

    def listxattr(self, path: str) -> list[str]:
        return sorted(name for name in os.listxattr(self.at(path)) if name.startswith("user."))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Calls that are named alike and take a path first: mkdir, rmdir, unlink, chmod..."""
        call = getattr(os, name)
        return lambda path, *rest: call(self.at(path), *rest)


class Simulated:
    """The same calls on the cluster, by one process."""

    def __init__(self, process: Process, top: str) -> None:
        self.process = process
        self.top = top

    def at(self, path: str) -> str:
        return f"/{self.top}/{path}"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Calls that take a path first, or an open file."""
        call = getattr(self.process, name)
        return lambda first, *rest: call(self.at(first) if isinstance(first, str) else first, *rest)

    def rename(self, old: str, new: str) -> None:
        self.process.rename(self.at(old), self.at(new))

    def link(self, old: str, new: str) -> None:
        self.process.link(self.at(old), self.at(new))

    def symlink(self, target: str, path: str) -> None:
        self.process.symlink(target, self.at(path))

    def pread(self, file: Any, length: int, offset: int) -> bytes:
        return self.process.read(file, length, offset)

    def pwrite(self, file: Any, data: bytes, offset: int) -> int:
        return self.process.write(file, data, offset)

    def fstat(self, file: Any) -> Any:
        return shape(self.process.fstat(file))

    def stat(self, path: str) -> Any:
        return shape(self.process.stat(self.at(path)))

    def lstat(self, path: str) -> Any:
        return shape(self.process.stat(self.at(path), follow=False))

    def readdir(self, path: str) -> list[str]:
        return self.process.names(self.at(path))

    def lchown(self, path: str, uid: int, gid: int) -> None:
        self.process.chown(self.at(path), uid, gid, follow=False)

    def times(self, path: str, atime: int, mtime: int) -> tuple[int, int]:
        self.process.utimens(self.at(path), atime * 10**9, mtime * 10**9)
        found = self.process.stat(self.at(path))
        return found.atime, found.mtime

    def access(self, path: str, want: int) -> bool:
        self.process.stat(self.at(path))
        return self.process.access(self.at(path), want)

    def listxattr(self, path: str) -> list[str]:
        names = bytes(self.process.listxattr(self.at(path))).decode().split("\0")
        return sorted(name for name in names if name.startswith("user."))


def shape(found: Any) -> tuple[Any, ...]:
    """What stat must agree on: type, mode, owner, links and, but for directories, the size."""
    get = (
        (lambda name: getattr(found, name))
        if hasattr(found, "fid")
        else (lambda name: getattr(found, f"st_{name}"))
    )
    size = None if stat.S_ISDIR(get("mode")) else get("size")
    return oct(get("mode")), get("uid"), get("gid"), get("nlink"), size


class Program:
    """One random program, run on both sides call by call."""

    def __init__(self, seed: int, cluster: Cluster, top: Path, xattrs: bool) -> None:
        self.rng = Random(seed)
        self.xattrs = xattrs
        self.real = Real(top)
        os.makedirs(self.real.at("."))
        self.processes = {
            (client, cred): Process(cluster, client, cred._replace(umask=UMASK))
            for client in (0, 1)
            for cred in CREDS
        }
        self.root = Process(cluster, 0)
        at = f"t{seed}"
        self.root.mkdir(at)
        for name in DEEP.split("/"):
            at += f"/{name}"
            self.root.mkdir(at)
        self.cwd = at
        if AS_ROOT:
            os.chmod(self.real.at("."), 0o777)
            self.root.chmod(at, 0o777)
        else:
            self.root.chown(at, CREDS[0].uid, CREDS[0].gid)
        self.open: list[tuple[Any, Any, Process]] = []
        self.said: list[str] = []

    # ---- what to call

    def path(self) -> str:
        rng = self.rng
        names = [rng.choice(NAMES) for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
        if rng.random() < 0.04:
            names.insert(rng.randrange(len(names) + 1), rng.choice((".", "..", "", LONG)))
        if rng.random() < 0.03:
            names.append(rng.choice((".", "..")))
        return "/".join(names).lstrip("/") + ("/" if rng.random() < 0.06 else "")

    def flags(self) -> int:
        flags = self.rng.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR))
        for bit, chance in (
            (os.O_CREAT, 0.6), (os.O_EXCL, 0.15), (os.O_TRUNC, 0.2), (os.O_APPEND, 0.2),
            (os.O_DIRECTORY, 0.08), (os.O_NOFOLLOW, 0.1),
        ):  # fmt: skip
            if self.rng.random() < chance:
                flags |= bit
        if not flags & os.O_ACCMODE:
            flags &= ~os.O_APPEND  # takes write permission in Lustre (mdd's accmode)
        if flags & os.O_CREAT and flags & os.O_DIRECTORY:
            flags &= ~os.O_DIRECTORY  # what this means changed in Linux 6.4
        return flags

    def mode(self) -> int:
        return self.rng.choice((0o777, 0o755, 0o700, 0o644, 0o600, 0o444, 0o070, 0o007, 0))

    def set_id(self, path: str) -> int:
        """Bits for directories only: a client that has a file open may not know of its mode."""
        bits = self.rng.choice((0, 0, 0o2000, 0o1000 if STICKY else 0))
        return bits if os.path.isdir(self.real.at(path)) else 0

    def data(self) -> bytes:
        rng = self.rng
        return bytes([rng.randrange(97, 123)]) * rng.choice((0, 1, 5, 100, 4095, 4096, 70000))

    def offset(self) -> int:
        return self.rng.choice((0, 1, 99, 4096, 65536, 65537, 200_000, 1_048_570))

    def target(self) -> str:
        rng = self.rng
        return (
            rng.choice(("", "../")) * (rng.random() < 0.3)
            + "/".join(rng.choice(NAMES) for _ in range(rng.choice((1, 1, 2))))
            + rng.choice(("", "", "", "/", "/."))
        )

    def on_path(self) -> tuple[str, tuple[Any, ...]]:
        """A call by path, and its arguments."""
        rng, path = self.rng, self.path()
        calls: list[tuple[int, str, Callable[[], tuple[Any, ...]]]] = [
            (8, "mkdir", lambda: (path, self.mode())),
            (5, "rmdir", lambda: (path,)),
            (7, "unlink", lambda: (path,)),
            (10, "rename", lambda: (path, self.path())),
            (6, "link", lambda: (path, self.path())),
            (6, "symlink", lambda: (self.target(), path)),
            (2, "readlink", lambda: (path,)),
            (2, "mknod", lambda: (path, rng.choice((stat.S_IFREG, stat.S_IFSOCK)) | self.mode())),
            (6, "stat", lambda: (path,)),
            (6, "lstat", lambda: (path,)),
            (4, "readdir", lambda: (path,)),
            (5, "chmod", lambda: (path, self.mode() | self.set_id(path))),
            (3, "truncate", lambda: (path, self.offset())),
            (2, "access", lambda: (path, rng.randrange(8))),
            (1, "times", lambda: (path, rng.randrange(10**9), rng.randrange(10**9))),
        ]
        ids = (-1, 0, 1000, 1001, 2000)
        calls.append((3, "chown", lambda: (path, rng.choice(ids), rng.choice(ids))))
        calls.append((1, "lchown", lambda: (path, rng.choice(ids), rng.choice(ids))))
        if self.xattrs:
            name = rng.choice(XATTRS)
            calls += [
                (4, "setxattr", lambda: (path, name, self.data()[:100], rng.choice((0, 0, 1, 2)))),
                (3, "getxattr", lambda: (path, name)),
                (2, "removexattr", lambda: (path, name)),
                (2, "listxattr", lambda: (path,)),
            ]
        chosen = rng.choices(calls, [weight for weight, _, _ in calls])[0]
        return chosen[1], chosen[2]()

    def on_file(self) -> tuple[str, tuple[Any, ...]]:
        """A call on an open file, and the arguments behind the file."""
        rng = self.rng
        calls: list[tuple[int, str, Callable[[], tuple[Any, ...]]]] = [
            (5, "read", lambda: (rng.choice((0, 1, 100, 5000, 300_000)),)),
            (3, "pread", lambda: (rng.choice((1, 100, 5000)), self.offset())),
            (6, "write", lambda: (self.data(),)),
            (4, "pwrite", lambda: (self.data(), self.offset())),
            (3, "lseek", lambda: (rng.choice((-1, 0, 10, 5000)), rng.choice((0, 1, 2)))),
            (3, "ftruncate", lambda: (self.offset(),)),
            (3, "fstat", lambda: ()),
            (6, "close", lambda: ()),
        ]
        chosen = rng.choices(calls, [weight for weight, _, _ in calls])[0]
        return chosen[1], chosen[2]()

    # ---- calling

    def step(self) -> None:
        rng = self.rng
        process = self.processes[rng.choice((0, 1)), rng.choice(CREDS)]
        if self.open and (rng.random() < 0.35 or len(self.open) > 6):
            self.use(*rng.choice(self.open))
        elif rng.random() < 0.25:
            self.open_one(process)
        else:
            name, args = self.on_path()
            if name == "link" and self.hardlink_is_protected(process, args[0]):
                return
            if name in ("stat", "lstat", "readdir") and rng.random() < 0.5:
                other = self.processes[1 - process.client, self.cred(process)]
                self.both(other, name, args)
            self.both(process, name, args)

    def cred(self, process: Process) -> Cred:
        return process.vfs.cred._replace(umask=CREDS[0].umask)

    def hardlink_is_protected(self, process: Process, path: str) -> bool:
        """fs.protected_hardlinks of this machine may forbid what Lustre leaves to the kernel."""
        if not process.vfs.cred.uid:
            return False
        try:
            return os.lstat(self.real.at(path)).st_uid != process.vfs.cred.uid
        except OSError:
            return False

    def both(self, process: Process, name: str, args: tuple[Any, ...]) -> Any:
        """One call on both sides; what it returned on either."""
        mine = outcome(lambda: getattr(Simulated(process, self.cwd), name)(*args))
        with identity(self.cred(process)):
            real = outcome(lambda: getattr(self.real, name)(*args))
        cut = tuple(arg[:12] if isinstance(arg, (bytes, str)) else arg for arg in args)
        who = f"c{process.client} uid {process.vfs.cred.uid}"
        self.said.append(f"{who}: {name}{cut} -> {str(real)[:80]}")
        same = mine == real or (name == "open" and mine[0] == real[0] == "done")
        assert same, self.differ(mine, real)
        return mine, real

    def differ(self, mine: Any, real: Any) -> str:
        history = "\n".join(self.said[-400:])
        return f"{history}\nlabsim: {str(mine)[:300]}\nLinux:  {str(real)[:300]}"

    def open_one(self, process: Process) -> None:
        args = self.path(), self.flags(), self.mode()
        mine, real = self.both(process, "open", args)
        if mine[0] == "done":
            self.open.append((mine[1], real[1], process))

    def use(self, mine: Any, real: Any, process: Process) -> None:
        name, args = self.on_file()
        if name == "lseek" and args[1] == os.SEEK_END and stat.S_ISDIR(os.fstat(real).st_mode):
            return  # where a directory ends is for its file system to say
        with_mine = outcome(lambda: getattr(Simulated(process, self.cwd), name)(mine, *args))
        with_real = outcome(lambda: getattr(self.real, name)(real, *args))
        number = next(n for n, one in enumerate(self.open) if one[0] is mine)
        cut = tuple(arg[:12] if isinstance(arg, bytes) else arg for arg in args)
        self.said.append(f"c{process.client} file {real}: {name}{cut} -> {str(with_real)[:80]}")
        assert with_mine == with_real, self.differ(with_mine, with_real)
        if name == "close":
            del self.open[number]

    # ---- the end

    def close(self) -> None:
        for mine, real, process in self.open:
            process.close(mine)
            os.close(real)
        self.open.clear()

    def tree(self, client: int | None) -> dict[str, Any]:
        """All there is, as a client or (None) this machine sees it."""
        if client is None:
            return self.below(self.real, ".")
        return self.below(Simulated(self.processes[client, CREDS[0]], self.cwd), ".")

    def below(self, side: Any, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in side.readdir(path):
            below = f"{path}/{name}"
            seen: Any = side.lstat(below)
            kind = stat.S_IFMT(int(seen[0], 8))
            found[below] = seen
            if kind == stat.S_IFDIR:
                found |= self.below(side, below)
            elif kind == stat.S_IFLNK:
                found[below] += (side.readlink(below),)
            elif kind == stat.S_IFREG:
                file = side.open(below, os.O_RDONLY, 0)
                found[below] += (side.pread(file, 1 << 24, 0),)
                side.close(file)
            if self.xattrs and kind in (stat.S_IFDIR, stat.S_IFREG):
                names = side.listxattr(below)
                found[below] += ([(name, side.getxattr(below, name)) for name in names],)
        return found


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    """("done", value) or ("failed", the errno's name)."""
    try:
        return "done", call()
    except LustreError as error:
        return "failed", errno.errorcode[error.errno]
    except OSError as error:
        assert error.errno is not None
        return "failed", errno.errorcode[error.errno]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(clients=2, oss=2, osts=4, seed=5, trace_keep=0) as made:
        root = Process(made, 0)
        root.setstripe(".", count=3, size=65536)
        yield made
        made.run(made.env.timeout(60 * NS_PER_S))
        assert checkers.check([made.run(made.snapshots())]) == []


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that other users can reach, which those of pytest are not."""
    before = os.umask(UMASK)
    path = Path(tempfile.mkdtemp(prefix="labsim-linux-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)
        os.umask(before)


def user_xattrs(top: Path) -> bool:
    try:
        os.setxattr(top, "user.probe", b"1")
    except OSError:
        return False
    return True


@pytest.mark.parametrize("seed", range(int(os.environ.get("LABSIM_PROGRAMS", "12"))))
def test_as_linux_does(seed: int, cluster: Cluster, folder: Path) -> None:
    program = Program(seed, cluster, folder, user_xattrs(folder))
    try:
        for _ in range(250):
            program.step()
        assert program.tree(1) == program.tree(None)
    finally:
        program.close()

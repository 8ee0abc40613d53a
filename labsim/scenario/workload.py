"""Random system calls of one client, as steps of a scenario.

Does not know whether they are right; `posix_model` does. All clients use the same few names, so
that they meet. Stands for racer and fsx of Lustre's own tests.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from labsim.base.units import NS_PER_MS
from labsim.scenario import model

DIRECTORIES = ("d0", "d1")
FILES = ("a", "b", "c", "d", "e")
MOVING = ("s", "t")
"""Directories that come and go."""

WITHIN_NS = 7200 * 1_000_000_000
"""A call may wait for several recoveries."""
THINK_NS = 150 * NS_PER_MS
LARGEST = 200_000
PAGE = 4096


def whatever(node: str, text: str) -> model.Command:
    """A command that may answer anything, as long as the oracles agree."""
    return model.Command(node=node, text=text, whatever=True, within_ns=WITHIN_NS)


class Workload:
    """The calls of one client: `steps` makes so many."""

    def __init__(self, client: str, rng: Random, waits: bool = True) -> None:
        self.client = client
        self.rng = rng
        self.waits = waits
        """It may wait for file locks: all clients get to the end of their calls."""
        self.opened: dict[str, str] = {}
        """Open files by path, as far as all went well, and their flags."""
        self.locked: dict[str, set[str]] = {}
        """Calls that may have locked an open file, by its path."""
        self._seed = rng.randrange(1 << 20) * 1000

    def steps(self, count: int) -> list[list[model.AnyStep]]:
        """So many calls, each with the pause before it."""
        return [[*self._pause(), *(self._command(text) for text in self._one())]
                for _ in range(count)]  # fmt: skip

    def _pause(self) -> list[model.AnyStep]:
        pause = int(self.rng.expovariate(1 / THINK_NS)) // NS_PER_MS * NS_PER_MS
        return [model.Wait(time_ns=model.Nanoseconds(pause))] if pause else []

    def _command(self, text: str) -> model.Command:
        return whatever(self.client, text)

    def _one(self) -> list[str]:
        rng = self.rng
        names, weights = zip(*WEIGHTS, strict=True)
        make: Callable[[Workload], list[str]] = rng.choices(names, weights)[0]
        return make(self)

    # ---- what there is to choose from

    def path(self) -> str:
        """A file's."""
        rng = self.rng
        folder = rng.choice(("", *(f"{name}/" for name in DIRECTORIES)))
        if folder and rng.random() < 0.1:
            folder += rng.choice(MOVING) + "/"
        return folder + rng.choice(FILES)

    def folder(self) -> str:
        """A directory's that comes and goes."""
        return f"{self.rng.choice(DIRECTORIES)}/{self.rng.choice(MOVING)}"

    def _open_file(self, writing: bool = False) -> str | None:
        """One that is open, for writing."""
        fit = [path for path, flags in self.opened.items() if not writing or "WR" in flags]
        return self.rng.choice(fit) if fit else None

    def _length(self, path: str) -> int:
        length = self.rng.choice((1, 100, PAGE, 5000, 60_000, self.rng.randrange(1, LARGEST)))
        return max(PAGE, length // PAGE * PAGE) if "DIRECT" in self.opened[path] else length

    def _offset(self, path: str) -> int:
        offset = self.rng.choice((0, PAGE, 65536, self.rng.randrange(LARGEST)))
        return offset // PAGE * PAGE if "DIRECT" in self.opened[path] else offset

    # ---- calls on open files

    def open(self) -> list[str]:
        """Open, often with O_CREAT; what was open under the name is closed first."""
        path, rng = self.path(), self.rng
        flags = rng.choice(("O_RDWR", "O_RDWR", "O_WRONLY", "O_RDONLY"))
        if rng.random() < 0.7:
            flags += "|O_CREAT"
        flags += rng.choice(("", "", "", "|O_TRUNC", "|O_APPEND", "|O_EXCL", "|O_DIRECT"))
        if "O_TRUNC" in flags:
            flags = flags.replace("O_RDONLY", "O_RDWR")
        made = [f"proc p close {path}"] if path in self.opened else []
        self.locked.pop(path, None)
        self.opened[path] = flags
        return [*made, f"proc p open {path} {flags}"]

    def close(self) -> list[str]:
        """Close one of the open files."""
        path = self._open_file()
        if path is None:
            return self.open()
        del self.opened[path]
        self.locked.pop(path, None)
        return [f"proc p close {path}"]

    def write(self) -> list[str]:
        """Write a pattern that no other write has."""
        path = self._open_file(writing=True)
        if path is None:
            return self.open()
        self._seed += 1
        offset = "" if "APPEND" in self.opened[path] else f" {self._offset(path)}"
        return [f"proc p fill {path} {self._length(path)} {self._seed}{offset}"]

    def read(self) -> list[str]:
        """Read anywhere in an open file."""
        path = self._open_file()
        if path is None:
            return self.open()
        return [f"proc p read {path} {self._length(path)} {self._offset(path)}"]

    def fsync(self) -> list[str]:
        """Have what was written on disk."""
        path = self._open_file()
        return self.open() if path is None else [f"proc p fsync {path}"]

    def ftruncate(self) -> list[str]:
        """Cut an open file, or make it longer."""
        path = self._open_file(writing=True)
        if path is None:
            return self.open()
        return [f"proc p truncate {path} {self.rng.randrange(LARGEST)}"]

    # ---- locks on open files

    def fcntl(self) -> list[str]:
        """Lock bytes of a file, or let go of them.

        A process that has a lock of flock(2) does not wait: it would wait for itself, or for one
        that waits for it, which no server finds, since each open file is an owner of its own.
        """
        path, rng = self._open_file(), self.rng
        if path is None:
            return self.open()
        kind = rng.choice(("F_RDLCK", "F_WRLCK", "F_WRLCK", "F_UNLCK"))
        where = rng.choice(("", " 0 10", " 5 10", f" {rng.randrange(30)} {rng.randrange(9)}"))
        flocked = any("flock" in calls for calls in self.locked.values())
        call = "setlkw" if self.waits and not flocked and rng.random() < 0.6 else "setlk"
        if kind == "F_UNLCK" and not where:
            self.locked.get(path, set()).discard("fcntl")
        else:
            self.locked.setdefault(path, set()).add("fcntl")
        return [f"proc p {call} {path} {kind}{where}"]

    def flock(self) -> list[str]:
        """Lock a whole file, or let go of it; wait only with no lock at all (see `fcntl`)."""
        path, rng = self._open_file(), self.rng
        if path is None:
            return self.open()
        kind = rng.choice(("LOCK_SH", "LOCK_EX", "LOCK_UN"))
        free = not any(self.locked.values())
        if kind == "LOCK_UN":
            self.locked.get(path, set()).discard("flock")
        else:
            self.locked.setdefault(path, set()).add("flock")
        wait = "" if kind == "LOCK_UN" or (self.waits and free) else "|LOCK_NB"
        return [f"proc p flock {path} {kind}{wait}"]

    def getlk(self) -> list[str]:
        """Ask who has bytes of a file locked."""
        path = self._open_file()
        if path is None:
            return self.open()
        return [f"proc p getlk {path} {self.rng.choice(('F_RDLCK', 'F_WRLCK'))} 0 20"]

    # ---- calls by path

    def truncate(self) -> list[str]:
        """Cut a file by its path."""
        return [f"sys truncate {self.path()} {self.rng.choice((0, 1, PAGE, LARGEST // 2))}"]

    def setstripe(self) -> list[str]:
        """Make a file whose stripes calls meet at once, over all OSTs."""
        return [f"lfs setstripe -c -1 -S 64k {self.path()}"]

    def unlink(self) -> list[str]:
        """Remove a file."""
        return [f"sys unlink {self.path()}"]

    def rename(self) -> list[str]:
        """Move a file or a directory."""
        pick = self.folder if self.rng.random() < 0.2 else self.path
        return [f"sys rename {pick()} {pick()}"]

    def link(self) -> list[str]:
        """One more name for a file."""
        return [f"sys link {self.path()} {self.path()}"]

    def mkdir(self) -> list[str]:
        """Make one of the directories that come and go."""
        return [f"sys mkdir {self.folder()}"]

    def rmdir(self) -> list[str]:
        """Remove it."""
        return [f"sys rmdir {self.folder()}"]

    def stat(self) -> list[str]:
        """Ask for attributes."""
        return [f"sys stat {self.path()}"]

    def readdir(self) -> list[str]:
        """Ask for the names in a directory."""
        return [f"ls {self.rng.choice(('.', *DIRECTORIES))}"]

    def chmod(self) -> list[str]:
        """Change attributes."""
        return [f"sys chmod {self.path()} {self.rng.choice(('0644', '0600', '0755'))}"]

    def setxattr(self) -> list[str]:
        """Set an extended attribute."""
        name, value = self.rng.choice("pq"), self.rng.randrange(1000)
        return [f"sys setxattr {self.path()} user.{name} {value}"]

    def getxattr(self) -> list[str]:
        """Ask for one."""
        return [f"sys getxattr {self.path()} user.{self.rng.choice('pq')}"]

    def removexattr(self) -> list[str]:
        """Take one away."""
        return [f"sys removexattr {self.path()} user.{self.rng.choice('pq')}"]


WEIGHTS: tuple[tuple[Callable[[Workload], list[str]], int], ...] = (
    (Workload.open, 14), (Workload.close, 8), (Workload.write, 22), (Workload.read, 18),
    (Workload.fsync, 4), (Workload.ftruncate, 3), (Workload.truncate, 3), (Workload.unlink, 5),
    (Workload.rename, 5), (Workload.link, 4), (Workload.mkdir, 2), (Workload.rmdir, 2),
    (Workload.stat, 8), (Workload.readdir, 3), (Workload.chmod, 2), (Workload.setxattr, 3),
    (Workload.getxattr, 3), (Workload.removexattr, 1), (Workload.fcntl, 5), (Workload.flock, 3),
    (Workload.getlk, 1), (Workload.setstripe, 2),
)  # fmt: skip


def everything() -> list[str]:
    """Every path of a file that the workload uses."""
    inside = [f"{one}/{two}" for one in DIRECTORIES for two in MOVING]
    folders = ["", *(f"{name}/" for name in (*DIRECTORIES, *inside))]
    return [folder + name for folder in folders for name in FILES]

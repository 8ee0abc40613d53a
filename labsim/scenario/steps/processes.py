"""The verb `proc`: a process that lives on between the steps of a scenario, with its open files.

Does not know what a call does. Stands for multiop and flocks_test of Lustre's own tests, which wait
for a signal in the middle: here the same process is given its next call in a later step.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from labsim.base.errors import InputError, LustreError
from labsim.base.payload import Fill
from labsim.nodes.client.flock import F_GETLK, F_RDLCK, F_SETLK, F_SETLKW, F_UNLCK, F_WRLCK
from labsim.scenario.steps.context import Context
from labsim.scenario.steps.registry import verb
from labsim.scenario.steps.syscalls import Call, call, perform, read_call, text_of

Step = Generator[Any, Any, Any]

EBADF = 9

KINDS = {F_RDLCK: "F_RDLCK", F_WRLCK: "F_WRLCK", F_UNLCK: "F_UNLCK"}


class Process:
    """One process: its system calls, and its open files by the paths they were opened with."""

    def __init__(self, vfs: Any) -> None:
        self.vfs = vfs
        self.files: dict[str, Any] = {}

    def file(self, path: str) -> Any:
        """An open file; EBADF where it has none."""
        if path not in self.files:
            raise LustreError(EBADF)
        return self.files[path]


_living: WeakKeyDictionary[Any, dict[str, Process]] = WeakKeyDictionary()
"""By node, and by name: they die with their node."""

CALLS: dict[str, Call] = {}


def _read(words: Sequence[str]) -> tuple[Call, list[Any]]:
    if len(words) < 2:
        raise InputError("write proc NAME CALL ARGUMENT...")
    return read_call(words[1:], CALLS)


@verb("proc", check=_read)
def proc(ctx: Context, *call: str) -> Step:
    """Have a process that was named make one system call; it is made when it is first named.

    proc NAME open PATH FLAGS [MODE], read PATH LENGTH [OFFSET], write PATH DATA [OFFSET]
    proc NAME setlk|setlkw|getlk PATH F_RDLCK|F_WRLCK|F_UNLCK [OFFSET [LENGTH]]
    proc NAME flock PATH LOCK_SH|LOCK_EX|LOCK_UN|LOCK_NB, group_lock|group_unlock PATH GID
    proc NAME lockahead PATH F_RDLCK|F_WRLCK START END [LF_ASYNC]
    proc NAME fill PATH LENGTH SEED [OFFSET], truncate PATH LENGTH, fsync PATH, close PATH, exit
    proc NAME interrupt: a signal reaches it, which ends its wait for a file lock (EINTR)
    """
    found, values = _read(call)
    living = _living.setdefault(ctx.node, {})
    process = living.get(call[0])
    if process is None:
        process = living[call[0]] = Process(ctx.node.process())
    yield from perform(ctx, found.run(process, *values))
    if call[1] == "exit":
        del living[call[0]]


@call("path flags [mode]", CALLS)
def _open(process: Process, path: str, flags: int, mode: int = 0o666) -> Step:
    process.files[path] = yield from process.vfs.open(path, flags, mode)
    return 2 + len(process.files)


@call("path", CALLS)
def close(process: Process, path: str) -> Step:
    """Its locks on the file go as well."""
    yield from process.vfs.close(process.file(path))
    del process.files[path]


@call("", CALLS)
def _exit(process: Process) -> Step:
    for file in process.files.values():
        with suppress(LustreError):  # nobody is left to be told
            yield from process.vfs.close(file)
    process.vfs.exit()


@call("", CALLS)
def interrupt(process: Process) -> Step:
    """No call of its own: what the process waits for in another step ends with EINTR."""
    process.vfs.interrupt()
    return
    yield


@call("path length [offset]", CALLS)
def read(process: Process, path: str, length: int, offset: int | None = None) -> Step:
    """The value is the text that was read."""
    return text_of((yield from process.vfs.read(process.file(path), length, offset)))


@call("path data [offset]", CALLS)
def write(process: Process, path: str, data: bytes, offset: int | None = None) -> Step:
    """The value is the number of bytes."""
    return (yield from process.vfs.write(process.file(path), data, offset))


@call("path length seed [offset]", CALLS)
def fill(process: Process, path: str, length: int, seed: str, offset: int | None = None) -> Step:
    """Write so many bytes of the pattern of a seed."""
    data = Fill(length, int(seed))
    return (yield from process.vfs.write(process.file(path), data, offset))


@call("path length", CALLS)
def truncate(process: Process, path: str, length: int) -> Step:
    """System call ftruncate."""
    yield from process.vfs.ftruncate(process.file(path), length)


@call("path", CALLS)
def fsync(process: Process, path: str) -> Step:
    """Of one open file."""
    yield from process.vfs.fsync(process.file(path))


@call("path kind [offset] [length]", CALLS)
def setlk(process: Process, path: str, kind: int, offset: int = 0, length: int = 0) -> Step:
    """Fcntl with F_SETLK: EAGAIN where it is locked by another."""
    yield from process.vfs.fcntl(process.file(path), F_SETLK, kind, offset, length)


@call("path kind [offset] [length]", CALLS)
def setlkw(process: Process, path: str, kind: int, offset: int = 0, length: int = 0) -> Step:
    """Fcntl with F_SETLKW: waits."""
    yield from process.vfs.fcntl(process.file(path), F_SETLKW, kind, offset, length)


@call("path kind [offset] [length]", CALLS)
def getlk(process: Process, path: str, kind: int, offset: int = 0, length: int = 0) -> Step:
    """Fcntl with F_GETLK: the lock in the way as its kind, start and length; F_UNLCK for none."""
    told = yield from process.vfs.fcntl(process.file(path), F_GETLK, kind, offset, length)
    name = KINDS[told.type]
    return name if name == "F_UNLCK" else f"{name} {told.start} {told.length}"


@call("path operation", CALLS)
def flock(process: Process, path: str, operation: int) -> Step:
    """A lock on the whole file, of the open file rather than of the process."""
    yield from process.vfs.flock(process.file(path), operation)


@call("path gid", CALLS)
def group_lock(process: Process, path: str, gid: int) -> Step:
    """Share a file with a group only (LL_IOC_GROUP_LOCK)."""
    yield from process.vfs.group_lock(process.file(path), gid)


@call("path kind start end [advice]", CALLS)
def lockahead(
    process: Process, path: str, kind: int, start: int, end: int, advice: int = 0
) -> Step:
    """Lock for I/O to come (LU_LADVISE_LOCKAHEAD); the value is LLA_RESULT_*."""
    file = process.file(path)
    return (yield from process.vfs.lock_ahead(file, kind, start, end, bool(advice)))


@call("path gid", CALLS)
def group_unlock(process: Process, path: str, gid: int) -> Step:
    """What was written under the group's lock goes to the OSTs."""
    process.vfs.group_unlock(process.file(path), gid)
    return
    yield

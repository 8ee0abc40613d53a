"""The verb `sys`: one system call, its value or its errno.

Does not know what a call does. Stands for a program of one line, or multiop in Lustre's own tests.
The answer is printed as strace shows it: `3`, or `-1 ENODATA (No data available)`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from labsim.base.errors import InputError, LustreError
from labsim.base.payload import tobytes
from labsim.base.units import parse_size
from labsim.scenario.steps.context import Context
from labsim.scenario.steps.registry import verb
from labsim.scenario.steps.xattrs import decode_value, xattr_names
from labsim.scenario.suggest import nearest

Step = Generator[Any, Any, Any]

_OPEN_FLAGS = (
    "O_RDONLY O_WRONLY O_RDWR O_CREAT O_EXCL O_TRUNC O_APPEND O_DIRECTORY O_NOFOLLOW O_NONBLOCK "
    "O_SYNC O_DSYNC O_DIRECT O_NOATIME"
)
FLAGS = {name: getattr(os, name) for name in _OPEN_FLAGS.split()}
FLAGS |= {"XATTR_CREATE": 1, "XATTR_REPLACE": 2}
FLAGS |= {"F_RDLCK": 0, "F_WRLCK": 1, "F_UNLCK": 2}
FLAGS |= {"LF_ASYNC": 1}
FLAGS |= {"LOCK_SH": 1, "LOCK_EX": 2, "LOCK_NB": 4, "LOCK_UN": 8}


class Call(NamedTuple):
    """One system call: the names of its arguments (? optional), how each is read, what runs it."""

    run: Callable[..., Any]
    arguments: tuple[tuple[str, Callable[[str], Any], bool], ...]

    @property
    def usage(self) -> str:
        """The arguments as a manual writes them."""
        return " ".join(f"[{n}]" if optional else n for n, _, optional in self.arguments)


CALLS: dict[str, Call] = {}


def number(text: str) -> int:
    """A number: decimal, octal with a leading 0, or hex, as in C."""
    try:
        return int(text, 8 if text[:1] == "0" and text.isdigit() else 0)
    except ValueError:
        raise InputError(f"'{text}' is no number") from None


def flags(text: str) -> int:
    """Flag names joined by |, or a number."""
    if text[:1].isdigit():
        return number(text)
    total = 0
    for name in text.split("|"):
        if name not in FLAGS:
            raise InputError(f"unknown flag '{name}'{nearest(name, FLAGS)}")
        total |= FLAGS[name]
    return total


_READERS: dict[str, Callable[[str], Any]] = {
    "flags": flags, "mode": number, "size": number, "length": parse_size, "offset": parse_size,
    "uid": number, "gid": number, "dev": number, "atime": number, "mtime": number,
    "data": decode_value, "value": decode_value, "kind": flags, "operation": flags,
    "start": parse_size, "end": parse_size, "advice": flags,
}  # fmt: skip


def call(
    usage: str, table: dict[str, Call] = CALLS
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a system call: `@call("path name [size]")`; arguments are read by their names."""
    words = [(word.strip("[]"), word.startswith("[")) for word in usage.split()]
    arguments = tuple((name, _READERS.get(name, str), optional) for name, optional in words)

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        table[run.__name__.strip("_")] = Call(run, arguments)
        return run

    return register


def read_call(words: Sequence[str], table: dict[str, Call] = CALLS) -> tuple[Call, list[Any]]:
    """A call's name and words as the call and its arguments."""
    name, *given = words
    found = table.get(name)
    if found is None:
        raise InputError(f"unknown system call '{name}'{nearest(name, table)}")
    least = sum(not optional for *_, optional in found.arguments)
    if not least <= len(given) <= len(found.arguments):
        raise InputError(f"write sys {name} {found.usage}")
    values = []
    for word, (_, read, _) in zip(given, found.arguments, strict=False):
        values.append(word if "$" in word else read(word))
    return found, values


@verb("sys", check=read_call)
def sys(ctx: Context, *call: str) -> Step:
    """Make one system call, print its value, or -1 and its errno.

    sys CALL ARGUMENT...
    sys setxattr PATH NAME VALUE [FLAGS], getxattr PATH NAME [SIZE], listxattr PATH [SIZE], ...
    """
    found, values = read_call(call)
    yield from perform(ctx, found.run(ctx, *values))


def perform(ctx: Context, steps: Step) -> Step:
    """Run a call, and print its value, or -1 and its errno."""
    try:
        value = yield from steps
    except LustreError as error:
        ctx.out(f"-1 {error.name} ({error.message})\n")
        ctx.note(error.errno)
        return
    ctx.value = value if isinstance(value, (int, str)) else 0
    ctx.out(f"{ctx.value}\n")


# ---- extended attributes


@call("path name value [flags]")
def setxattr(ctx: Context, path: str, name: str, value: bytes, flags: int = 0) -> Step:
    """XATTR_CREATE and XATTR_REPLACE are its flags."""
    yield from ctx.vfs.setxattr(path, name, value, flags)


@call("path name [size]")
def getxattr(ctx: Context, path: str, name: str, size: int = 65536) -> Step:
    """The value; with size 0 its length."""
    answer = yield from ctx.vfs.getxattr(path, name, size)
    return answer if isinstance(answer, int) else text_of(answer)


@call("path [size]")
def listxattr(ctx: Context, path: str, size: int = 65536) -> Step:
    """The length of the list, as the call returns it."""
    answer = yield from ctx.vfs.listxattr(path, size)
    if isinstance(answer, int):
        return answer
    return sum(len(name.encode("utf-8", "surrogateescape")) + 1 for name in xattr_names(answer))


# ---- calls that the vfs has under the same name

_DIRECT = """
removexattr path name
mkdir path [mode]
rmdir path
unlink path
rename old new
link old new
symlink text path
readlink path
mknod path mode [dev]
stat path
chmod path mode
chown path uid gid
truncate path length
statfs path
"""


def _direct(method: str, usage: str) -> None:
    """Declare a call that hands its arguments on."""

    def run(ctx: Context, *values: Any) -> Step:
        answer = yield from getattr(ctx.vfs, method)(*values)
        return answer if isinstance(answer, str) else 0

    run.__name__ = method
    call(usage)(run)


for _line in _DIRECT.strip().splitlines():
    _direct(*_line.split(" ", 1))


@call("path")
def lstat(ctx: Context, path: str) -> Step:
    """As stat, of a symbolic link itself."""
    yield from ctx.vfs.stat(path, follow=False)
    return 0


@call("path atime mtime")
def utime(ctx: Context, path: str, atime: int, mtime: int) -> Step:
    """Times in seconds since 1970."""
    yield from ctx.vfs.utimens(path, atime * 10**9, mtime * 10**9)


# ---- files


@call("path flags [mode]")
def _open(ctx: Context, path: str, flags: int, mode: int = 0o666) -> Step:
    """Opens and closes; the value is the descriptor a new process would get."""
    file = yield from ctx.vfs.open(path, flags, mode)
    yield from ctx.vfs.close(file)
    return 3


@call("path [mode]")
def creat(ctx: Context, path: str, mode: int = 0o666) -> Step:
    """As open with O_WRONLY, O_CREAT and O_TRUNC."""
    return (yield from _open(ctx, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode))


@call("path length [offset]")
def pread(ctx: Context, path: str, length: int, offset: int = 0) -> Step:
    """Opens, reads, closes; the value is the text that was read."""
    file = yield from ctx.vfs.open(path, os.O_RDONLY)
    try:
        return text_of((yield from ctx.vfs.read(file, length, offset)))
    finally:
        yield from ctx.vfs.close(file)


@call("path data [offset]")
def pwrite(ctx: Context, path: str, data: bytes, offset: int = 0) -> Step:
    """Opens, writes, closes; the value is the number of bytes."""
    file = yield from ctx.vfs.open(path, os.O_WRONLY)
    try:
        yield from ctx.vfs.write(file, data, offset)
    finally:
        yield from ctx.vfs.close(file)
    return len(data)


@call("path")
def fsync(ctx: Context, path: str) -> Step:
    """Opens, syncs, closes."""
    file = yield from ctx.vfs.open(path, os.O_RDONLY)
    try:
        yield from ctx.vfs.fsync(file)
    finally:
        yield from ctx.vfs.close(file)


def text_of(data: Any) -> str:
    """Bytes as a verb shows them."""
    return tobytes(data).decode("utf-8", "surrogateescape")

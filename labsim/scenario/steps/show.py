"""Verbs that look: stat, ls, cat, df, echo.

Does not know where attributes come from. Stands for coreutils, whose formats it keeps to the byte;
dates are in UTC, users other than root are numbers.
"""

from __future__ import annotations

import errno
import os
import stat as st
from collections.abc import Callable, Generator
from typing import Annotated, Any

from labsim.base.errors import LustreError
from labsim.base.units import MIB
from labsim.scenario.steps import dates, modes
from labsim.scenario.steps.context import MOUNT_POINT, Context, basename, join
from labsim.scenario.steps.names import in_order
from labsim.scenario.steps.registry import flag, verb
from labsim.scenario.words import quote, quote_if_needed

Step = Generator[Any, Any, Any]


def user(number: int) -> str:
    """A user or group by name, as far as every system knows it."""
    return "root" if number == 0 else str(number)


# ---- stat

_FIELDS: dict[str, Callable[[str, Any], object]] = {
    "a": lambda _, s: f"{s.mode & 0o7777:o}",
    "A": lambda _, s: st.filemode(s.mode),
    "b": lambda _, s: s.blocks,
    "B": lambda _, s: 512,
    "f": lambda _, s: f"{s.mode:x}",
    "F": lambda _, s: modes.kind(s.mode, s.size),
    "g": lambda _, s: s.gid,
    "G": lambda _, s: user(s.gid),
    "h": lambda _, s: s.nlink,
    "i": lambda _, s: s.ino,
    "n": lambda name, _: name,
    "N": lambda name, _: quote(name),
    "o": lambda _, s: s.blksize,
    "s": lambda _, s: s.size,
    "u": lambda _, s: s.uid,
    "U": lambda _, s: user(s.uid),
    "W": lambda _, s: 0,
    "w": lambda _, s: "-",
    "X": lambda _, s: s.atime,
    "Y": lambda _, s: s.mtime,
    "Z": lambda _, s: s.ctime,
    "x": lambda _, s: dates.full(s.atime),
    "y": lambda _, s: dates.full(s.mtime),
    "z": lambda _, s: dates.full(s.ctime),
    "%": lambda _, s: "%",
}

_DEFAULT = (
    "  File: %n\n  Size: %-10s\tBlocks: %-10b IO Block: %-6o %F\n"
    "Inode: %-11i  Links: %h\nAccess: (%04a/%10.10A)  Uid: (%5u/%8U)   Gid: (%5g/%8G)\n"
    "Access: %x\nModify: %y\nChange: %z\n Birth: -\n"
)


@verb()
def stat(
    ctx: Context,
    *files: str,
    format: Annotated[str, flag("-c", "--format")] = "",
    printf: Annotated[str, flag("--printf")] = "",
    dereference: Annotated[bool, flag("-L", "--dereference")] = False,
) -> Step:
    """Show attributes; FORMAT as in coreutils: %s %a %U %F %h %i %n.

    stat [-L] [-c FORMAT] FILE...
    """
    for name in files:
        try:
            found = yield from ctx.vfs.stat(name, follow=dereference)
        except LustreError as error:
            ctx.fail(f"stat: cannot statx {quote(name)}", error)
            continue
        if "%N" in format + printf and st.S_ISLNK(found.mode):
            link = f"{quote(name)} -> {quote((yield from ctx.vfs.readlink(name)))}"
            format, printf = (
                text.replace("%N", link.replace("%", "%%")) for text in (format, printf)
            )
        if format:
            ctx.out(formatted(format, name, found) + "\n")
        elif printf:
            ctx.out(formatted(printf.replace("\\n", "\n").replace("\\t", "\t"), name, found))
        else:
            ctx.out(formatted(_DEFAULT, name, found))


def formatted(text: str, name: str, found: Any) -> str:
    """Stat's FORMAT filled in; an unknown letter shows as ?."""
    parts, at = list[str](), 0
    while True:
        start = text.find("%", at)
        if start < 0:
            return "".join([*parts, text[at:]])
        end = start + 1
        while end < len(text) and text[end] in "-+ #0123456789.":
            end += 1
        letter = text[end : end + 1] or "%"
        field = _FIELDS.get(letter)
        value = "?" if field is None else str(field(name, found))
        spec = text[start + 1 : end]
        padded = value.zfill(int(spec)) if spec.startswith("0") else f"%{spec}s" % value
        parts += [text[at:start], padded]
        at = end + 1


# ---- ls


@verb("ls", least=0)
def ls(
    ctx: Context,
    *files: str,
    long: Annotated[bool, flag("-l")] = False,
    every: Annotated[bool, flag("-a", "--all")] = False,
    almost: Annotated[bool, flag("-A", "--almost-all")] = False,
    one: Annotated[bool, flag("-1")] = False,
    directory: Annotated[bool, flag("-d", "--directory")] = False,
    inode: Annotated[bool, flag("-i", "--inode")] = False,
    numeric: Annotated[bool, flag("-n", "--numeric-uid-gid")] = False,
    recursive: Annotated[bool, flag("-R", "--recursive")] = False,
) -> Step:
    """List names in byte order, one a line; in /tmp those of debug files.

    ls [-l] [-a] [-A] [-1] [-d] [-i] [-n] [-R] [FILE...]
    """
    files = tuple(name for name in files or (".",) if not _local(ctx, name))
    style = _Listing(ctx, long or numeric, inode, numeric)
    plain: list[tuple[str, Any]] = []
    folders: list[tuple[str, Any]] = []
    for name in sorted(files):
        try:
            found = yield from ctx.vfs.stat(name, follow=not style.long or directory)
        except LustreError as error:
            ctx.fail(f"ls: cannot access {quote(name)}", error, status=2)
            continue
        (folders if st.S_ISDIR(found.mode) and not directory else plain).append((name, found))
    yield from style.rows(plain, lambda name: name)
    first = not plain
    while folders:
        folder = folders.pop(0)[0]
        if not first:
            ctx.out("\n")
        first = False
        if len(files) > 1 or recursive:
            ctx.out(f"{folder}:\n")
        try:
            below = yield from style.folder(folder, every, almost)
        except LustreError as error:
            ctx.fail(f"ls: cannot open directory {quote(folder)}", error, status=2)
            continue
        if recursive:
            folders = [*((name, None) for name in below), *folders]


def _local(ctx: Context, name: str) -> bool:
    """Show what is not on the mount: the debug files of the client, in its /tmp."""
    kept = sorted(ctx.node.globals.files)
    if name.rstrip("/") == "/tmp":
        ctx.out("".join(f"{basename(path)}\n" for path in kept))
    elif name in kept:
        ctx.out(f"{name}\n")
    elif name.startswith("/tmp/"):
        ctx.fail(f"ls: cannot access {quote(name)}", errno.ENOENT, status=2)
    else:
        return False
    return True


UNKNOWN = "-?????????"
"""The mode of a file that ls has found and cannot look at."""


class _Listing:
    """How one ls prints its rows."""

    def __init__(self, ctx: Context, long: bool, inode: bool, numeric: bool) -> None:
        self.ctx = ctx
        self.long = long
        self.inode = inode
        self.name_of = str if numeric else user

    def folder(self, folder: str, every: bool, almost: bool) -> Step:
        """List a directory; the directories in it."""
        entries, found = yield from self._look(folder, every, every or almost)
        shown = set(found)
        rows = [(name, found[name]) for name in (".", "..") if name in shown]
        rows += [(name, found[name]) for name, *_ in entries if name in shown]
        if self.long:
            self.ctx.out(f"total {sum(row.blocks for _, row in rows if row) // 2}\n")
        yield from self.rows(rows, lambda name: name if folder == "." else join(folder, name))
        return [
            join(folder, name) for name, kind, *_ in entries if kind == st.S_IFDIR and name in shown
        ]

    def _look(self, folder: str, dots: bool, hidden: bool) -> Step:
        """The entries in byte order, and by name what is shown of them.

        As ls does it: each is looked at in the order of the directory, while that is open.
        """
        vfs = self.ctx.vfs
        file = yield from vfs.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            entries = yield from vfs.getdents(file)
            found: dict[str, Any] = {}
            for name, *_ in entries:
                if name.startswith(".") and not (dots if name in {".", ".."} else hidden):
                    continue
                path = join(folder, name) if folder != "." else name
                found[name] = yield from self._stat(path)
        finally:
            yield from vfs.close(file)
        return in_order(entries), found

    def _stat(self, path: str) -> Step:
        """What is shown of an entry; None where nothing is, or it cannot be looked at."""
        if not (self.long or self.inode):
            return None
        try:
            return (yield from self.ctx.vfs.stat(path, follow=False))
        except LustreError as error:
            self.ctx.fail(f"ls: cannot access {quote(path)}", error)
            return None

    def rows(self, rows: list[tuple[str, Any]], path_of: Callable[[str], str]) -> Step:
        cells = []
        for name, found in rows:
            cells.append((yield from self._cells(name, found, path_of)))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        left = {0 + self.inode, 2 + self.inode, 3 + self.inode} if self.long else set()
        for row in cells:
            padded = [
                cell.ljust(width) if n in left else cell.rjust(width)
                for n, (cell, width) in enumerate(zip(row[:-1], widths, strict=False))
            ]
            self.ctx.out(" ".join([*padded, row[-1]]) + "\n")

    def _cells(self, name: str, found: Any, path_of: Callable[[str], str]) -> Step:
        if found is None:
            ino, rest = ["?"] * self.inode, [UNKNOWN, *"????", "?".rjust(12)]
            return [*ino, *(rest if self.long else ()), name]
        cells = [str(found.ino)] if self.inode else []
        if self.long:
            now = self.ctx.now_ns() // 1_000_000_000
            cells += [st.filemode(found.mode), str(found.nlink), self.name_of(found.uid)]
            cells += [self.name_of(found.gid), _size(found), dates.short(found.mtime, now)]
        if self.long and st.S_ISLNK(found.mode):
            name += " -> " + (yield from self.ctx.vfs.readlink(path_of(name)))
        return [*cells, name]


def _size(found: Any) -> str:
    if st.S_ISCHR(found.mode) or st.S_ISBLK(found.mode):
        return f"{os.major(found.rdev)}, {os.minor(found.rdev)}"
    return str(found.size)


# ---- cat, echo


@verb()
def cat(ctx: Context, *files: str) -> Step:
    """Write whole files to standard output; debug files in /tmp, too.

    cat FILE...
    """
    kept = ctx.node.globals.files
    for name in files:
        if name in kept:
            ctx.out(kept[name])
            continue
        try:
            if name.startswith("/tmp/"):
                raise LustreError(errno.ENOENT, name)
            file = yield from ctx.vfs.open(name, os.O_RDONLY)
            try:
                while len(data := (yield from ctx.vfs.read(file, 4 * MIB))):
                    ctx.out(data)
            finally:
                yield from ctx.vfs.close(file)
        except LustreError as error:
            ctx.fail(f"cat: {quote_if_needed(name)}", error)


@verb(on=("client", "mds", "oss", "mgs"), least=0)
def echo(ctx: Context, *text: str, bare: Annotated[bool, flag("-n")] = False) -> Step:
    """Print words; with `> FILE` the way to write a small file.

    echo [-n] TEXT...
    """
    yield from ()
    ctx.out(" ".join(text) + ("" if bare else "\n"))


# ---- df


@verb(least=0)
def df(
    ctx: Context,
    *files: str,
    inodes: Annotated[bool, flag("-i", "--inodes")] = False,
    output: Annotated[str, flag("--output")] = "",
    kilobytes: Annotated[bool, flag("-k")] = False,
    portable: Annotated[bool, flag("-P", "--portability")] = False,
) -> Step:
    """Space (or inodes) of the file system.

    df [-i] [-k] [-P] [--output=FIELDS] [FILE...]
    """
    rows = []
    for name in files or (".",):
        try:
            found = yield from ctx.vfs.statfs(name)
        except LustreError as error:
            ctx.fail(f"df: {quote_if_needed(name)}", error)
            continue
        row = _df_row(ctx.source, found)
        if row not in rows:
            rows.append(row)
    if not rows:
        return
    if output:
        columns = output.split(",")
    elif inodes:
        columns = ["source", "itotal", "iused", "iavail", "ipcent", "target"]
    else:
        columns = ["source", "size", "used", "avail", "pcent", "target"]
    head = {**_DF_HEAD, "size": "1024-blocks", "pcent": "Capacity"} if portable else _DF_HEAD
    unknown = [column for column in columns if column not in head]
    if unknown:
        ctx.fail(f"df: option --output: field '{unknown[0]}' unknown")
        return
    table = [[head[column] for column in columns], *([row[c] for c in columns] for row in rows)]
    least = [_DF_LEAST.get(column, 5) for column in columns]
    ctx.out("".join(_df_line(line, columns, _df_widths(table, least)) for line in table))


_DF_HEAD = {
    "source": "Filesystem", "fstype": "Type", "size": "1K-blocks", "used": "Used",
    "avail": "Available", "pcent": "Use%", "itotal": "Inodes", "iused": "IUsed",
    "iavail": "IFree", "ipcent": "IUse%", "target": "Mounted on",
}  # fmt: skip
_DF_LEAST = {"source": 14, "fstype": 4, "pcent": 4, "ipcent": 4, "target": 0}
_DF_LEFT = {"source", "fstype", "target"}


def _df_row(source: str, found: Any) -> dict[str, str]:
    used, iused = found.blocks - found.bfree, found.files - found.ffree
    kib = found.bsize // 1024
    return {
        "source": source,
        "fstype": "lustre",
        "size": str(found.blocks * kib),
        "used": str(used * kib),
        "avail": str(found.bavail * kib),
        "pcent": percent(used, used + found.bavail),
        "itotal": str(found.files),
        "iused": str(iused),
        "iavail": str(found.ffree),
        "ipcent": percent(iused, found.files),
        "target": MOUNT_POINT,
    }


def percent(part: int, whole: int) -> str:
    """Rounded up, as df and lfs do; "-" of nothing."""
    return f"{-(-part * 100 // whole)}%" if whole > 0 else "-"


def _df_widths(table: list[list[str]], least: list[int]) -> list[int]:
    return [
        max(small, *map(len, column))
        for small, column in zip(least, zip(*table, strict=True), strict=True)
    ]


def _df_line(line: list[str], columns: list[str], widths: list[int]) -> str:
    cells = [
        cell.ljust(width) if column in _DF_LEFT else cell.rjust(width)
        for cell, column, width in zip(line, columns, widths, strict=True)
    ]
    return " ".join(cells).rstrip() + "\n"

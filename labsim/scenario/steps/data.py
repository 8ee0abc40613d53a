"""Verbs that move data: cp, dd, truncate.

Does not know pages or stripes. Stands for coreutils. `/dev/zero` and `/dev/urandom` are patterns
that cost no memory; `/dev/null` takes everything.
"""

from __future__ import annotations

import os
import stat as st
from collections.abc import Generator
from typing import Annotated, Any

from labsim.base.errors import InputError, LustreError
from labsim.base.payload import Fill, Payload
from labsim.base.units import MIB, NS_PER_S, parse_size
from labsim.scenario.steps.context import Context, join, write_all
from labsim.scenario.steps.names import children, exists, is_dir, pairs
from labsim.scenario.steps.registry import flag, verb
from labsim.scenario.words import quote

Step = Generator[Any, Any, Any]


class Device:
    """A character device outside Lustre: /dev/zero, /dev/urandom, /dev/null."""

    def __init__(self, seed: int | None) -> None:
        self.seed = seed
        self.offset = 0

    def read(self, count: int) -> Payload:
        """The next bytes; nothing from /dev/null."""
        if self.seed is None:
            return b""
        data = Fill(count, self.seed, self.offset)
        self.offset += count
        return data


DEVICES = {"/dev/zero": 0, "/dev/urandom": 1, "/dev/random": 1, "/dev/null": None}


# ---- cp


@verb(least=2)
def cp(
    ctx: Context,
    *files: str,
    recursive: Annotated[bool, flag("-r", "--recursive"), flag("-R")] = False,
    archive: Annotated[bool, flag("-a", "--archive")] = False,
    preserve: Annotated[bool, flag("-p")] = False,
    force: Annotated[bool, flag("-f", "--force")] = False,
    plain: Annotated[bool, flag("-T", "--no-target-directory")] = False,
) -> Step:
    """Copy files, or whole trees with -r.

    cp [-r] [-a] [-p] [-f] [-T] SOURCE... TARGET
    """
    work = _Copy(ctx, recursive or archive, preserve or archive)
    for source, target in (yield from pairs(ctx, "cp", files, plain)):
        yield from work.one(source, target)


class _Copy:
    """One cp: what it was asked to keep."""

    def __init__(self, ctx: Context, recursive: bool, preserve: bool) -> None:
        self.ctx = ctx
        self.recursive = recursive
        self.preserve = preserve

    def one(self, source: str, target: str) -> Step:
        ctx = self.ctx
        try:
            found = yield from ctx.vfs.stat(source, follow=not self.recursive)
        except LustreError as error:
            ctx.fail(f"cp: cannot stat {quote(source)}", error)
            return
        if st.S_ISDIR(found.mode):
            yield from self._folder(source, target)
        elif st.S_ISLNK(found.mode):
            text = yield from ctx.vfs.readlink(source)
            yield from ctx.vfs.symlink(text, target)
        else:
            yield from self._file(source, target, found)
        if self.preserve and not st.S_ISLNK(found.mode):
            path = target
            yield from ctx.vfs.chown(path, found.uid, found.gid)
            yield from ctx.vfs.chmod(path, found.mode & 0o7777)
            yield from ctx.vfs.utimens(path, found.atime * NS_PER_S, found.mtime * NS_PER_S)

    def _folder(self, source: str, target: str) -> Step:
        ctx = self.ctx
        if not self.recursive:
            ctx.fail(f"cp: -r not specified; omitting directory {quote(source)}")
            return
        if not (yield from exists(ctx, target)):
            try:
                yield from ctx.vfs.mkdir(target, 0o777)
            except LustreError as error:
                ctx.fail(f"cp: cannot create directory {quote(target)}", error)
                return
        elif not (yield from is_dir(ctx, target)):
            message = f"cannot overwrite non-directory {quote(target)} with directory"
            ctx.fail(f"cp: {message} {quote(source)}")
            return
        for name, *_ in (yield from children(ctx, source)):
            yield from self.one(join(source, name), join(target, name))

    def _file(self, source: str, target: str, found: Any) -> Step:
        ctx, vfs = self.ctx, self.ctx.vfs
        try:
            reader = yield from vfs.open(source, os.O_RDONLY)
        except LustreError as error:
            ctx.fail(f"cp: cannot open {quote(source)} for reading", error)
            return
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            writer = yield from vfs.open(target, flags, found.mode & 0o777)
        except LustreError as error:
            yield from vfs.close(reader)
            ctx.fail(f"cp: cannot create regular file {quote(target)}", error)
            return
        doing = f"error reading {quote(source)}"
        try:
            while len(data := (yield from vfs.read(reader, 4 * MIB))):
                doing = f"error writing {quote(target)}"
                yield from write_all(vfs, writer, data)
                doing = f"error reading {quote(source)}"
            doing = f"failed to close {quote(target)}"
            yield from vfs.close(writer)
        except LustreError as error:
            ctx.fail(f"cp: {doing}", error)
        finally:
            yield from vfs.close(reader)


# ---- dd

_CONV = {"notrunc", "fsync", "fdatasync", "excl", "nocreat", "sync", "noerror"}
_OFLAG = {"append": os.O_APPEND, "direct": os.O_DIRECT, "sync": os.O_SYNC, "dsync": os.O_DSYNC}
_NUMBERS = {"bs", "ibs", "obs", "count", "skip", "seek"}
_KEYS = _NUMBERS | {"if", "of", "conv", "oflag", "iflag", "status"}


def _dd_operands(operands: tuple[str, ...]) -> dict[str, str]:
    given = {}
    for operand in operands:
        key, equals, value = operand.partition("=")
        if not equals or key not in _KEYS:
            raise InputError(f"dd: unrecognized operand '{operand}'")
        if key in _NUMBERS and "$" not in value:
            parse_size(value)
        given[key] = value
    for key, known in (("conv", _CONV), ("oflag", _OFLAG), ("iflag", _OFLAG)):
        for word in filter(None, given.get(key, "").split(",")):
            if word not in known:
                raise InputError(f"dd: unknown {key} '{word}'; one of {', '.join(sorted(known))}")
    return given


@verb(check=_dd_operands)
def dd(ctx: Context, *operands: str) -> Step:
    """Copy blocks, from /dev/zero or a file, to a file or to standard output.

    dd if=FILE of=FILE [bs=N] [count=N] [skip=N] [seek=N] [status=none] [conv=notrunc,fsync]
       [oflag=append,direct,sync] [iflag=direct]
    """
    job = _Dd(ctx, _dd_operands(operands))
    started = ctx.host.clock.now_ns
    try:
        yield from job.run()
    except LustreError as error:
        ctx.fail(f"dd: {job.doing}", error)
        if job.failed_early:
            return
    if job.status != "none":
        ctx.err(job.summary(ctx.host.clock.now_ns - started))


class _Dd:
    """One dd: blocks from a reader to a writer, counted."""

    def __init__(self, ctx: Context, given: dict[str, str]) -> None:
        self.ctx = ctx
        self.block = parse_size(given.get("bs", given.get("ibs", "512")))
        self.count = parse_size(given["count"]) if "count" in given else None
        self.skip, self.seek = parse_size(given.get("skip", 0)), parse_size(given.get("seek", 0))
        self.source, self.target = given.get("if", ""), given.get("of", "")
        self.conv = set(filter(None, given.get("conv", "").split(",")))
        self.oflag = set(filter(None, given.get("oflag", "").split(",")))
        self.iflag = set(filter(None, given.get("iflag", "").split(",")))
        self.status = given.get("status", "")
        self.doing, self.failed_early = "", True
        self.full = self.part = self.moved = 0

    def run(self) -> Step:
        vfs = self.ctx.vfs
        reader = yield from self._open_source()
        writer = yield from self._open_target()
        self.failed_early = False
        try:
            yield from self._copy(reader, writer)
            if self.conv & {"fsync", "fdatasync"} and not isinstance(writer, Device):
                self.doing = f"fsync failed for {quote(self.target)}"
                yield from vfs.fsync(writer)
        finally:
            for file in (reader, writer):
                if file is not None and not isinstance(file, Device):
                    yield from vfs.close(file)

    def _open_source(self) -> Step:
        if self.source in DEVICES or not self.source:
            return Device(DEVICES.get(self.source))
        self.doing = f"failed to open {quote(self.source)}"
        flags = os.O_RDONLY
        for word in sorted(self.iflag):
            flags |= _OFLAG[word]
        return (yield from self.ctx.vfs.open(self.source, flags))

    def _open_target(self) -> Step:
        if not self.target or self.target == "/dev/null":
            return Device(None) if self.target else None
        flags = os.O_WRONLY | (0 if "nocreat" in self.conv else os.O_CREAT)
        flags |= os.O_EXCL if "excl" in self.conv else 0
        for word in sorted(self.oflag):
            flags |= _OFLAG[word]
        truncate = "notrunc" not in self.conv
        if truncate and not self.seek:
            flags |= os.O_TRUNC
        self.doing = f"failed to open {quote(self.target)}"
        writer = yield from self.ctx.vfs.open(self.target, flags, 0o666)
        if truncate and self.seek:
            size = self.seek * self.block
            self.doing = f"failed to truncate to {size} bytes in output file {quote(self.target)}"
            yield from self.ctx.vfs.ftruncate(writer, size)
        return writer

    def _copy(self, reader: Any, writer: Any) -> Step:
        vfs, at, to = self.ctx.vfs, self.skip * self.block, self.seek * self.block
        append, generated = "append" in self.oflag, isinstance(reader, Device)
        reading, writing = (
            f"error {what} {quote(name)}"
            for what, name in (("reading", self.source), ("writing", self.target))
        )
        while self.count is None or self.full + self.part < self.count:
            if generated:
                data = reader.read(self.block)
            else:
                self.doing = reading
                data = yield from vfs.read(reader, self.block, at)
            length = len(data)
            if not length:
                return
            self.doing = writing
            if writer is None:
                self.ctx.out(data)
            elif not isinstance(writer, Device):
                yield from write_all(vfs, writer, data, None if append else to)
            at, to = at + length, to + length
            self.moved += length
            if length == self.block:
                self.full += 1
            else:
                self.part += 1

    def summary(self, took_ns: int) -> str:
        """The three lines on standard error."""
        records = f"{self.full}+{self.part} records"
        lines = f"{records} in\n{records} out\n"
        if self.status == "noxfer":
            return lines
        rate = f"{_rate(self.moved * NS_PER_S // took_ns)}/s" if took_ns > 0 else "Infinity B/s"
        return f"{lines}{_amount(self.moved)} copied, {took_ns / NS_PER_S:g} s, {rate}\n"


def _rate(count: int) -> str:
    """Bytes in a second, in kB at least."""
    return si(count) if count >= 1000 else f"{count / 1000:.1f} kB"


def _amount(count: int) -> str:
    """Write bytes as dd does: 4194304 bytes (4.2 MB, 4.0 MiB)."""
    text = "1 byte" if count == 1 else f"{count} bytes"
    decimal, binary = si(count), si(count, 1024)
    if count < 1000:
        return text
    return f"{text} ({decimal})" if count < 1024 else f"{text} ({decimal}, {binary})"


def si(count: int, base: int = 1000) -> str:
    """A size in the largest unit, one decimal below ten of it: 4.2 MB, 16 MiB."""
    units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
    power, value = 0, float(count)
    while value >= base and power < len(units) - 1:
        power, value = power + 1, value / base
    unit = units[power] if base == 1000 else units[power].upper().replace("B", "iB", power > 0)
    return f"{value:.1f} {unit}" if power and value < 10 else f"{value:.0f} {unit}"


# ---- truncate


@verb()
def truncate(
    ctx: Context,
    *files: str,
    size: Annotated[str, flag("-s", "--size")],
    no_create: Annotated[bool, flag("-c", "--no-create")] = False,
) -> Step:
    """Set, extend (+) or reduce (-) the size of files.

    truncate [-c] -s [+-<>]SIZE FILE...
    """
    sign = size[0] if size[0] in "+-<>" else ""
    amount = parse_size(size[len(sign) :])
    for name in files:
        flags = os.O_WRONLY | os.O_NONBLOCK | (0 if no_create else os.O_CREAT)
        try:
            file = yield from ctx.vfs.open(name, flags, 0o666)
        except LustreError as error:
            if not (no_create and error.errno == 2):
                ctx.fail(f"truncate: cannot open {quote(name)} for writing", error)
            continue
        old = (yield from ctx.vfs.stat(name)).size if sign else 0
        wanted = {"": amount, "+": old + amount, "-": max(old - amount, 0),
                  "<": min(old, amount), ">": max(old, amount)}[sign]  # fmt: skip
        try:
            yield from ctx.vfs.ftruncate(file, wanted)
        except LustreError as error:
            ctx.fail(f"truncate: failed to truncate {quote(name)} at {wanted} bytes", error)
        finally:
            yield from ctx.vfs.close(file)

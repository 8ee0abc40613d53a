"""The verbs of lfs: setstripe, getstripe, df, path2fid.

Does not know layouts or FIDs beyond how they are shown. Stands for lustre/utils/lfs.c, whose output
of 2.12 it keeps.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Generator
from typing import Annotated, Any

from labsim.base.errors import LustreError
from labsim.scenario.steps.context import MOUNT_POINT, Context, join
from labsim.scenario.steps.names import children
from labsim.scenario.steps.registry import Size, flag, verb
from labsim.scenario.steps.show import percent

Step = Generator[Any, Any, Any]

_SETSTRIPE = {
    errno.EEXIST: "stripe already set",
    errno.EALREADY: "stripe already set",
    errno.EINVAL: "Invalid arguments",
    errno.ENOTTY: "not on a Lustre filesystem",
}


@verb("lfs setstripe")
def setstripe(
    ctx: Context,
    *files: str,
    count: Annotated[int, flag("-c", "--stripe-count")] = 0,
    size: Annotated[Size | None, flag("-S", "--stripe-size")] = None,
    index: Annotated[int, flag("-i", "--stripe-index"), flag("-o")] = -1,
) -> Step:
    """Make a file with this striping, or give it to a directory; -c -1: over all OSTs.

    lfs setstripe [-c COUNT] [-S SIZE] [-i INDEX] FILE...
    """
    for name in files:
        try:
            yield from ctx.vfs.setstripe(name, count, size or 0, index)
        except LustreError as error:
            words = _SETSTRIPE.get(error.errno, error.message)
            ctx.fail(f"lfs setstripe: setstripe error for '{name}': {words}")
            ctx.note(error.errno, error.errno)


@verb("lfs getstripe")
def getstripe(
    ctx: Context,
    *files: str,
    count: Annotated[bool, flag("-c", "--stripe-count")] = False,
    size: Annotated[bool, flag("-S", "--stripe-size")] = False,
    index: Annotated[bool, flag("-i", "--stripe-index")] = False,
    quiet: Annotated[bool, flag("-q", "--quiet")] = False,
    directory: Annotated[bool, flag("-d", "--directory")] = False,
) -> Step:
    """Show striping; -c, -S, -i only the count, the size, the first OST; -d a directory's own.

    lfs getstripe [-c] [-S] [-i] [-q] [-d] FILE...
    """
    tool = _Getstripe(ctx, [count, size, index], quiet)
    for name in files:
        try:
            yield from tool.show(name)
            if not directory and (yield from _is_dir(ctx, name)):
                for child, *_ in (yield from children(ctx, name)):
                    yield from tool.show(join(name, child))
        except LustreError as error:
            ctx.fail(f"lfs getstripe: cannot get striping of '{name}'", error, error.errno)


def _is_dir(ctx: Context, name: str) -> Step:
    """True when the name leads to a directory; no OST is asked (IOC_MDC_GETFILEINFO)."""
    try:
        found = yield from ctx.vfs.lookup(name)
    except LustreError:
        return False
    return stat.S_ISDIR(found.mode)


class _Getstripe:
    """One lfs getstripe: what it prints of each file."""

    def __init__(self, ctx: Context, only: list[bool], quiet: bool) -> None:
        self.ctx = ctx
        self.only = only
        self.quiet = quiet

    def show(self, name: str) -> Step:
        folder = yield from _is_dir(self.ctx, name)
        try:
            striping = yield from self.ctx.vfs.lov_getstripe(name)
        except LustreError as error:
            if error.errno != errno.ENODATA:
                raise
            self._nothing(name, folder)
            return
        if any(self.only):
            values = (striping.count, striping.size, striping.offset)
            shown = [value for value, wanted in zip(values, self.only, strict=True) if wanted]
            self.ctx.out("".join(f"{value}\n" for value in shown))
        elif folder:
            self.ctx.out(f"{name}\n{_default(striping)}\n")
        else:
            self.ctx.out(("" if self.quiet else f"{name}\n{_head(striping)}") + _objects(striping))

    def _nothing(self, name: str, folder: bool) -> None:
        if any(self.only):
            values = [value for value, wanted in zip((1, 1 << 20, -1), self.only, strict=True)
                      if wanted]  # fmt: skip
            self.ctx.out("".join(f"{value}\n" for value in values))
        elif folder:
            default = "stripe_count:  1 stripe_size:   1048576 pattern:       raid0"
            self.ctx.out(f"{name}\n{default} stripe_offset: -1\n\n")
        else:
            self.ctx.out(f"{name} has no stripe info\n")


def _default(striping: Any) -> str:
    """A directory's default striping on one line."""
    size = striping.size or 1 << 20
    pattern = "pattern:       raid0"
    return (
        f"stripe_count:  {striping.count or 1} stripe_size:   {size} {pattern} "
        f"stripe_offset: {striping.offset}\n"
    )


def _head(striping: Any) -> str:
    return (
        f"lmm_stripe_count:  {striping.count}\n"
        f"lmm_stripe_size:   {striping.size}\n"
        f"lmm_pattern:       raid0\n"
        f"lmm_layout_gen:    {striping.generation}\n"
        f"lmm_stripe_offset: {striping.offset}\n"
    )


def _objects(striping: Any) -> str:
    lines = ["\tobdidx\t\t objid\t\t objid\t\t group\n"]
    for one in striping.objects:
        group = f"{one.seq:#x}" if one.seq else "0"
        lines.append(f"\t{one.ost:6}\t{one.id:14}\t{one.id:#13x}\t{group:>14}\t\n")
    return "".join([*lines, "\n"])


@verb("lfs path2fid")
def path2fid(ctx: Context, *files: str) -> Step:
    """Show the FID of files.

    lfs path2fid FILE...
    """
    for name in files:
        try:
            fid = yield from ctx.vfs.path2fid(name)
        except LustreError as error:
            ctx.fail(f"lfs path2fid: can't get fid for {name}", error, error.errno)
            continue
        ctx.out(f"{name}: {fid}\n" if len(files) > 1 else f"{fid}\n")


LETTERS = ("", "K", "M", "G", "T", "P", "E")


@verb("lfs df", least=0)
def df(
    ctx: Context,
    *paths: str,
    inodes: Annotated[bool, flag("-i", "--inodes")] = False,
    human: Annotated[bool, flag("-h", "--human-readable")] = False,
) -> Step:
    """Show the space, or with -i the inodes, of every MDT and OST; -h in units people read.

    lfs df [-i] [-h] [PATH]
    """
    heads = ("Inodes", "IUsed", "IFree", "IUse%") if inodes else (
        "bytes" if human else "1K-blocks", "Used", "Available", "Use%")  # fmt: skip
    ctx.out(f"{'UUID':20} {heads[0]:>11} {heads[1]:>11} {heads[2]:>11} {heads[3]:>4} Mounted on\n")
    total = [0, 0, 0, 0]
    show = _human(0 if inodes else 1) if human else str
    for device in (*ctx.node.mdcs, *ctx.node.oscs.values()):
        info = device.info
        try:
            found = yield from device.statfs()
        except LustreError as error:
            ctx.out(f"{info.uuid}: {error.message}\n")
            ctx.note(error.errno, error.errno)
            continue
        row = _usage(found, inodes)
        if (info.kind == "mdt") == inodes:
            total = [a + b for a, b in zip(total, row, strict=True)]
        ctx.out(_df_row(info.uuid, row, f"{MOUNT_POINT}[{info.kind.upper()}:{info.index}]", show))
    ctx.out("\n" + _df_row("filesystem_summary:", total, MOUNT_POINT, show) + "\n")


def _usage(found: Any, inodes: bool) -> list[int]:
    """Total, used, available, and what the percentage is of."""
    if inodes:
        used = found.files - found.ffree
        return [found.files, used, found.ffree, found.files]
    kib = found.bsize // 1024
    used = (found.blocks - found.bfree) * kib
    return [found.blocks * kib, used, found.bavail * kib, used + found.bavail * kib]


def _human(power: int) -> Callable[[int], str]:
    """Numbers in units of 1024**power as lfs prints them with -h: one decimal and a letter."""

    def show(number: int) -> str:
        value, place = float(number), power
        while value >= 1024 and place < len(LETTERS) - 1:
            value /= 1024
            place += 1
        return f"{value:.1f}{LETTERS[place]}"

    return show


def _df_row(uuid: str, row: list[int], where: str, show: Callable[[int], str]) -> str:
    total, used, free = map(show, row[:3])
    return f"{uuid:20} {total:>11} {used:>11} {free:>11} {percent(row[1], row[3]):>4} {where}\n"

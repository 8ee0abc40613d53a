"""Verbs from Lustre's own test utilities: createmany, unlinkmany.

Does not know what they are used to measure. Stands for lustre/tests/createmany.c and unlinkmany.c:
many names from one pattern, and the rate at the end.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Annotated, Any

from labsim.base.errors import InputError, LustreError
from labsim.base.units import NS_PER_S
from labsim.scenario.steps.context import Context
from labsim.scenario.steps.registry import flag, verb

Step = Generator[Any, Any, Any]


def name_of(pattern: str, number: int) -> str:
    """The name for a number: at the %d of the pattern, or behind it."""
    return pattern % number if "%" in pattern else f"{pattern}{number}"


def check(values: tuple[Any, ...]) -> None:
    """The pattern has at most one %d, the count is a positive number."""
    pattern, count = values[0], values[1]
    if pattern.replace("%d", "").count("%") or pattern.count("%d") > 1:
        raise InputError(f"'{pattern}' is no pattern; write one %d, or none")
    if int(count) < 1:
        raise InputError(f"'{count}' is no count of files")


@verb(least=2)
def createmany(
    ctx: Context,
    pattern: str,
    count: int,
    opened: Annotated[bool, flag("-o")] = False,
    nodes: Annotated[bool, flag("-m")] = False,
    directories: Annotated[bool, flag("-d")] = False,
) -> Step:
    """Create many files (-o open and close, -m mknod, -d mkdir) and print the rate.

    createmany -o|-m|-d FORMAT COUNT
    """
    check((pattern, count))
    start_ns = ctx.node.host.env.now
    what = "mkdir" if directories else "mknod" if nodes else "open/close"
    for number in range(count):
        name = name_of(pattern, number)
        try:
            if directories:
                yield from ctx.vfs.mkdir(name)
            elif nodes:
                yield from ctx.vfs.mknod(name, 0o100444, 0)
            else:
                file = yield from ctx.vfs.open(name, os.O_CREAT | os.O_RDWR, 0o644)
                yield from ctx.vfs.close(file)
        except LustreError as error:
            ctx.fail(f"{what}({name}) error", error)
            return
    _report(ctx, count, what, start_ns)


@verb(least=2)
def unlinkmany(
    ctx: Context,
    pattern: str,
    count: int,
    directories: Annotated[bool, flag("-d")] = False,
) -> Step:
    """Unlink many files (or with -d remove directories) and print the rate.

    unlinkmany [-d] FORMAT COUNT
    """
    check((pattern, count))
    start_ns = ctx.node.host.env.now
    for number in range(count):
        name = name_of(pattern, number)
        try:
            yield from ctx.vfs.rmdir(name) if directories else ctx.vfs.unlink(name)
        except LustreError as error:
            ctx.fail(f"unlink({name}) error", error)
            return
    _report(ctx, count, "unlinks", start_ns)


def _report(ctx: Context, count: int, what: str, start_ns: int) -> None:
    seconds = (ctx.node.host.env.now - start_ns) / NS_PER_S
    rate = count / seconds if seconds else 0.0
    ctx.out(f"total: {count} {what} in {seconds:.2f} seconds: {rate:.2f} ops/second\n")

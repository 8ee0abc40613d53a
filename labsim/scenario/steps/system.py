"""Verbs of the machine around the file system: sleep, sync, sysctl, true, false.

Does not know a scenario's own steps (`wait`, `fault`, `net`), which are no commands.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from labsim.base.errors import InputError, LustreError
from labsim.base.units import parse_duration
from labsim.scenario.steps.context import Context
from labsim.scenario.steps.registry import ROLES, verb

Step = Generator[Any, Any, Any]

DROP_CACHES = "vm.drop_caches"


@verb(on=ROLES)
def sleep(ctx: Context, time: str) -> Step:
    """Wait; seconds, or a number with a unit (0.5s, 2m).

    sleep TIME
    """
    try:
        seconds = float(time)
    except ValueError:
        yield ctx.host.env.timeout(parse_duration(time))
    else:
        yield ctx.host.env.timeout(round(seconds * 1_000_000_000))


@verb()
def sync(ctx: Context) -> Step:
    """Write every dirty page back and wait until the servers have committed.

    sync
    """
    try:
        yield from ctx.vfs.sync()
    except LustreError as error:
        ctx.fail("sync: error syncing", error)


def _setting(words: tuple[str, ...]) -> tuple[str, str]:
    """KEY=VALUE with a key that is known."""
    key, equals, value = words[0].partition("=")
    if key != DROP_CACHES:
        raise InputError(f"sysctl: cannot stat /proc/sys/{key.replace('.', '/')}")
    if not equals or (value not in {"1", "2", "3"} and "$" not in value):
        raise InputError(f"write sysctl {DROP_CACHES}=N with 1 (pages), 2 (inodes) or 3 (both)")
    return key, value


@verb(check=_setting)
def sysctl(ctx: Context, *setting: str) -> Step:
    """Drop clean pages (1), unused inodes and dentries (2), or both (3).

    sysctl vm.drop_caches=N
    """
    key, value = _setting(setting)
    yield from drop_caches(ctx, int(value))
    ctx.out(f"{key} = {value}\n")


def drop_caches(ctx: Context, what: int) -> Step:
    """What the kernel does when /proc/sys/vm/drop_caches is written."""
    yield from ctx.node.drop_caches(what)


@verb(on=ROLES)
def true(ctx: Context) -> Step:
    """Do nothing, successfully.

    true
    """
    yield from ()


@verb(on=ROLES)
def false(ctx: Context) -> Step:
    """Do nothing, unsuccessfully.

    false
    """
    yield from ()
    ctx.status = 1

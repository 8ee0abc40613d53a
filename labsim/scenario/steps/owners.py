"""Verbs that change attributes: chmod, chown, chgrp.

Does not know who may do so; the vfs decides. Stands for coreutils.
"""

from __future__ import annotations

import stat as st
from collections.abc import Generator
from typing import Annotated, Any

from labsim.base.errors import InputError, LustreError
from labsim.scenario.steps.context import Context, join
from labsim.scenario.steps.names import children
from labsim.scenario.steps.registry import Mode, flag, verb
from labsim.scenario.words import quote

Step = Generator[Any, Any, Any]


@verb()
def chmod(
    ctx: Context,
    mode: Mode,
    *files: str,
    recursive: Annotated[bool, flag("-R", "--recursive")] = False,
) -> Step:
    """Set permission bits, octal or symbolic (u+x,go-w).

    chmod [-R] MODE FILE...
    """

    def change(name: str, found: Any) -> Step:
        bits = mode(found.mode, st.S_ISDIR(found.mode))
        try:
            yield from ctx.vfs.chmod(name, bits)
        except LustreError as error:
            ctx.fail(f"chmod: changing permissions of {quote(name)}", error)

    for name in files:
        yield from _walk(ctx, "chmod", name, change, recursive, follow=True)


@verb()
def chown(
    ctx: Context,
    owner: str,
    *files: str,
    recursive: Annotated[bool, flag("-R", "--recursive")] = False,
    no_dereference: Annotated[bool, flag("-h", "--no-dereference")] = False,
) -> Step:
    """Set the owner; users are numbers or root.

    chown [-R] [-h] USER[:GROUP] FILE...
    """
    uid, colon, gid = owner.partition(":")
    ids = (_number(uid, "user"), _number(gid, "group") if colon else -1)
    yield from _chown(ctx, "ownership", ids, files, recursive, not no_dereference)


@verb()
def chgrp(
    ctx: Context,
    group: str,
    *files: str,
    recursive: Annotated[bool, flag("-R", "--recursive")] = False,
    no_dereference: Annotated[bool, flag("-h", "--no-dereference")] = False,
) -> Step:
    """Set the group; groups are numbers or root.

    chgrp [-R] [-h] GROUP FILE...
    """
    ids = (-1, _number(group, "group"))
    yield from _chown(ctx, "group", ids, files, recursive, not no_dereference)


def _chown(
    ctx: Context,
    what: str,
    ids: tuple[int, int],
    files: tuple[str, ...],
    recursive: bool,
    follow: bool,
) -> Step:
    tool = "chown" if what == "ownership" else "chgrp"

    def change(name: str, _found: Any) -> Step:
        try:
            yield from ctx.vfs.chown(name, *ids, follow=follow)
        except LustreError as error:
            ctx.fail(f"{tool}: changing {what} of {quote(name)}", error)

    for name in files:
        yield from _walk(ctx, tool, name, change, recursive, follow)


def _walk(ctx: Context, tool: str, name: str, change: Any, recursive: bool, follow: bool) -> Step:
    """Change one name and, with -R, what is below it."""
    try:
        found = yield from ctx.vfs.stat(name, follow=follow)
    except LustreError as error:
        ctx.fail(f"{tool}: cannot access {quote(name)}", error)
        return
    yield from change(name, found)
    if recursive and st.S_ISDIR(found.mode):
        for child, *_ in (yield from children(ctx, name)):
            yield from _walk(ctx, tool, join(name, child), change, recursive, follow=False)


def _number(text: str, kind: str) -> int:
    """A uid or gid; -1 (unchanged) where nothing is written."""
    if text in {"", "root"}:
        return 0 if text else -1
    if not text.isdigit():
        raise InputError(f"invalid {kind}: '{text}'; write a number or root")
    return int(text)

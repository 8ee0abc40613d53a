"""Verbs that make, name and remove: touch, mkdir, rmdir, rm, mv, ln.

Does not know how a name is stored. Stands for coreutils, whose words and exit status it keeps.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from typing import Annotated, Any

from labsim.base.errors import InputError, LustreError
from labsim.scenario.steps.context import Context, basename, join
from labsim.scenario.steps.registry import Date, Mode, flag, verb
from labsim.scenario.words import quote, quote_if_needed

Step = Generator[Any, Any, Any]

UTIME_NOW = -1
"""To utimens(2): the time of the call."""


@verb()
def touch(
    ctx: Context,
    *files: str,
    date: Annotated[Date | None, flag("-d", "--date")] = None,
    no_create: Annotated[bool, flag("-c", "--no-create")] = False,
    access: Annotated[bool, flag("-a")] = False,
    modify: Annotated[bool, flag("-m")] = False,
) -> Step:
    """Set times to now or DATE, make what is missing.

    touch [-c] [-a] [-m] [-d DATE] FILE...
    """
    now = UTIME_NOW if date is None else date
    atime = now if access or not modify else None
    mtime = now if modify or not access else None
    for name in files:
        path, opened = name, None
        try:
            if not no_create:
                flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK
                file = yield from ctx.vfs.open(path, flags, 0o666)
                yield from ctx.vfs.close(file)
        except LustreError as error:
            opened = error
            if error.errno not in {errno.EISDIR, errno.EINVAL, errno.EPERM, errno.EACCES}:
                ctx.fail(f"touch: cannot touch {quote(name)}", error)
                continue
        try:
            yield from ctx.vfs.utimens(path, atime, mtime)
        except LustreError as error:
            if no_create and error.errno == errno.ENOENT:
                continue
            what = "cannot touch" if opened or error.errno == errno.ENOENT else "setting times of"
            ctx.fail(f"touch: {what} {quote(name)}", opened or error)


@verb()
def mkdir(
    ctx: Context,
    *directories: str,
    parents: Annotated[bool, flag("-p", "--parents")] = False,
    mode: Annotated[Mode | None, flag("-m", "--mode")] = None,
    verbose: Annotated[bool, flag("-v", "--verbose")] = False,
) -> Step:
    """Make directories; -p: with parents, no error if there.

    mkdir [-p] [-m MODE] [-v] DIRECTORY...
    """
    for name in directories:
        whole = [part for part in name.split("/") if part]
        head = "/" if name.startswith("/") else ""
        steps = (
            [head + "/".join(whole[:n]) for n in range(1, len(whole) + 1)] if parents else [name]
        )
        for path in steps:
            try:
                yield from ctx.vfs.mkdir(path, 0o777)
            except LustreError as error:
                if parents and error.errno == errno.EEXIST and (yield from is_dir(ctx, path)):
                    continue
                number = error.errno
                if number == errno.EEXIST and path != steps[-1]:
                    number = errno.ENOTDIR
                ctx.fail(f"mkdir: cannot create directory {quote(path)}", number)
                break
            if verbose:
                ctx.out(f"mkdir: created directory {quote(path)}\n")
            if mode and path == steps[-1]:
                yield from ctx.vfs.chmod(path, mode(0o777, True))


@verb()
def rmdir(
    ctx: Context,
    *directories: str,
    parents: Annotated[bool, flag("-p", "--parents")] = False,
    verbose: Annotated[bool, flag("-v", "--verbose")] = False,
) -> Step:
    """Remove empty directories; -p: and their parents.

    rmdir [-p] [-v] DIRECTORY...
    """
    for name in directories:
        path = name.rstrip("/") or name
        while path:
            if verbose:
                ctx.out(f"rmdir: removing directory, {quote(path)}\n")
            try:
                yield from ctx.vfs.rmdir(path)
            except LustreError as error:
                what = "remove" if path == name else "remove directory"
                ctx.fail(f"rmdir: failed to {what} {quote(path)}", error)
                break
            path = path.rpartition("/")[0] if parents else ""


@verb(least=0)
def rm(
    ctx: Context,
    *files: str,
    recursive: Annotated[bool, flag("-r", "--recursive"), flag("-R")] = False,
    force: Annotated[bool, flag("-f", "--force")] = False,
    directory: Annotated[bool, flag("-d", "--dir")] = False,
    verbose: Annotated[bool, flag("-v", "--verbose")] = False,
) -> Step:
    """Remove files; -r: and whole trees, -f: missing is no error.

    rm [-r] [-f] [-d] [-v] FILE...
    """
    if not files and not force:
        raise InputError("rm needs FILE")
    for name in files:
        try:
            found = yield from ctx.vfs.stat(name, follow=False)
        except LustreError as error:
            if not (force and error.errno in {errno.ENOENT, errno.ENOTDIR}):
                ctx.fail(f"rm: cannot remove {quote(name)}", error)
            continue
        if stat.S_ISDIR(found.mode) and not (recursive or directory):
            ctx.fail(f"rm: cannot remove {quote(name)}", errno.EISDIR)
            continue
        yield from _remove(ctx, name, found.mode, recursive, verbose)


def _remove(ctx: Context, name: str, mode: int, recursive: bool, verbose: bool) -> Step:
    """Remove one name, its content first."""
    path, is_directory = name, stat.S_ISDIR(mode)
    try:
        if is_directory and recursive:
            for child, *_ in (yield from children(ctx, path)):
                found = yield from ctx.vfs.stat(join(path, child), follow=False)
                yield from _remove(ctx, join(name, child), found.mode, recursive, verbose)
        yield from ctx.vfs.rmdir(path) if is_directory else ctx.vfs.unlink(path)
    except LustreError as error:
        ctx.fail(f"rm: cannot remove {quote(name)}", error)
        return
    if verbose:
        ctx.out(f"removed {'directory ' if is_directory else ''}{quote(name)}\n")


@verb(least=2)
def mv(
    ctx: Context,
    *files: str,
    force: Annotated[bool, flag("-f", "--force")] = False,
    no_clobber: Annotated[bool, flag("-n", "--no-clobber")] = False,
    plain: Annotated[bool, flag("-T", "--no-target-directory")] = False,
    verbose: Annotated[bool, flag("-v", "--verbose")] = False,
) -> Step:
    """Rename, or move into a directory.

    mv [-f] [-n] [-T] [-v] SOURCE... TARGET
    """
    for source, target in (yield from pairs(ctx, "mv", files, plain)):
        try:
            moved = yield from ctx.vfs.stat(source, follow=False)
        except LustreError as error:
            ctx.fail(f"mv: cannot stat {quote(source)}", error)
            continue
        if no_clobber and not force and (yield from exists(ctx, target)):
            continue
        if not (yield from _may_replace(ctx, source, moved.mode, target)):
            continue
        try:
            yield from ctx.vfs.rename(source, target)
        except LustreError as error:
            if error.errno == errno.EINVAL:
                where = f"a subdirectory of itself, {quote(target)}"
                ctx.fail(f"mv: cannot move {quote(source)} to {where}")
                ctx.note(error.errno)
            else:
                ctx.fail(f"mv: cannot move {quote(source)} to {quote(target)}", error)
            continue
        if verbose:
            ctx.out(f"renamed {quote(source)} -> {quote(target)}\n")


def _may_replace(ctx: Context, source: str, mode: int, target: str) -> Step:
    """False, and said so, where a directory would replace a file or a file a directory."""
    try:
        there = yield from ctx.vfs.stat(target, follow=False)
    except LustreError:
        return True
    moved_dir, there_dir = stat.S_ISDIR(mode), stat.S_ISDIR(there.mode)
    if there_dir and not moved_dir:
        ctx.fail(f"mv: cannot overwrite directory {quote(target)} with non-directory")
    elif moved_dir and not there_dir:
        ctx.fail(
            f"mv: cannot overwrite non-directory {quote(target)} with directory {quote(source)}"
        )
    return moved_dir == there_dir


_TERSE = {errno.EDQUOT, errno.EEXIST, errno.ENOSPC, errno.EROFS}


@verb()
def ln(
    ctx: Context,
    *files: str,
    symbolic: Annotated[bool, flag("-s", "--symbolic")] = False,
    force: Annotated[bool, flag("-f", "--force")] = False,
    plain: Annotated[bool, flag("-n", "--no-dereference"), flag("-T")] = False,
) -> Step:
    """Make hard links, or symbolic ones with -s.

    ln [-s] [-f] [-n] TARGET... LINK
    """
    names = (*files, ".") if len(files) == 1 else files
    for target, link in (yield from pairs(ctx, "ln", names, plain)):
        if not symbolic:
            try:
                found = yield from ctx.vfs.stat(target, follow=False)
            except LustreError as error:
                ctx.fail(f"ln: failed to access {quote(target)}", error)
                continue
            if stat.S_ISDIR(found.mode):
                ctx.fail(f"ln: {quote_if_needed(target)}: hard link not allowed for directory")
                continue
        try:
            if force and (yield from exists(ctx, link)):
                yield from ctx.vfs.unlink(link)
            if symbolic:
                yield from ctx.vfs.symlink(target, link)
            else:
                yield from ctx.vfs.link(target, link)
        except LustreError as error:
            ctx.fail(f"ln: {_ln_failed(target, link, symbolic, error.errno)}", error)


def _ln_failed(target: str, link: str, symbolic: bool, number: int) -> str:
    if symbolic:
        return f"failed to create symbolic link {quote(link)}"
    arrow = "" if number in _TERSE else f" => {quote(target)}"
    return f"failed to create hard link {quote(link)}{arrow}"


# ---- what several verbs share


def exists(ctx: Context, name: str) -> Step:
    """True when there is such a name, be it a dangling link."""
    try:
        yield from ctx.vfs.stat(name, follow=False)
    except LustreError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return False
        raise
    return True


def is_dir(ctx: Context, name: str) -> Step:
    """True when the name leads to a directory."""
    try:
        found = yield from ctx.vfs.stat(name)
    except LustreError:
        return False
    return stat.S_ISDIR(found.mode)


def children(ctx: Context, path: str) -> Step:
    """(name, type, inode) of a directory in byte order, without the two dots."""
    return in_order((yield from ctx.vfs.readdir(path)))


def in_order(entries: list[Any]) -> list[Any]:
    """Entries in byte order of their names, without the two dots."""
    return sorted((e for e in entries if e[0] not in {".", ".."}), key=lambda e: e[0].encode(
        "utf-8", "surrogateescape"))  # fmt: skip


def pairs(ctx: Context, tool: str, files: tuple[str, ...], plain: bool = False) -> Step:
    """(source, target) of cp, mv and ln: into the last name where that is a directory."""
    *sources, last = files
    if not plain and (yield from is_dir(ctx, last)):
        return [(source, join(last, basename(source))) for source in sources]
    if len(sources) > 1:
        there = yield from exists(ctx, last)
        ctx.fail(f"{tool}: target {quote(last)}", errno.ENOTDIR if there else errno.ENOENT)
        return []
    return [(sources[0], last)]

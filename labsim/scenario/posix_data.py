"""What the calls on attributes and data do to the reference model, and what they must answer.

As `posix_names`, for inodes and what they hold; also what a call that failed may have done.
"""

from __future__ import annotations

import errno
import os

from labsim.scenario import posix_content as content
from labsim.scenario.posix_answers import (
    CERTAIN,
    CHANGES,
    USER,
    World,
    inode_of,
    lost_inode,
    resolve,
    told,
)
from labsim.scenario.posix_state import NOTHING, UNSURE, Found, State
from labsim.scenario.record import NEVER, Call

# ---- attributes


def chmod(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call chmod."""
    missing = lost_inode(state, call, found[0])
    if missing is not None or call.errno:
        return missing or ""
    # Set-gid may be taken away from who is not in the group.
    mode = call.args[1] & 0o7777
    inode = inode_of(state, call, found[0])
    world.changes(call, inode)
    state.change(inode, mode=UNSURE if mode & 0o6000 else mode)
    return ""


def chown(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call chown."""
    missing = lost_inode(state, call, found[0])
    if missing is not None or call.errno:
        return missing or ""
    inode = inode_of(state, call, found[0])
    world.changes(call, inode)
    state.change(inode, uid=UNSURE, gid=UNSURE, mode=UNSURE)
    return ""


def setxattr(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call setxattr, of names in user."""
    missing = lost_inode(state, call, found[0])
    if missing is not None or call.errno in CERTAIN or len(call.args) < 3:
        return missing or ""
    inode = inode_of(state, call, found[0])
    world.changes(call, inode)
    one = state.inodes[inode]
    name, value = call.args[1:3]
    if call.errno or one.xattrs is None or not name.startswith(USER):
        return ""
    kept = dict(one.xattrs) | {name: bytes(value)}
    state.change(inode, xattrs=tuple(sorted(kept.items())))
    return ""


def removexattr(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call removexattr, of names in user."""
    missing = lost_inode(state, call, found[0])
    if missing is not None:
        return missing
    inode = inode_of(state, call, found[0])
    world.changes(call, inode)
    one, name = state.inodes[inode], call.args[1]
    if one.xattrs is None or not name.startswith(USER):
        return ""
    kept = dict(one.xattrs)
    if name not in kept:
        return told(call, errno.ENODATA)
    if call.errno:
        return "expected success" if call.errno in CERTAIN else ""
    del kept[name]
    state.change(inode, xattrs=tuple(sorted(kept.items())))
    return ""


def getxattr(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call getxattr, of names in user."""
    missing = lost_inode(state, call, found[0])
    if missing is not None or len(call.args) != 2:
        return missing or ""
    one, name = state.inodes[inode_of(state, call, found[0])], call.args[1]
    if one.xattrs is None or not name.startswith(USER):
        return ""
    kept = dict(one.xattrs)
    if name not in kept:
        return told(call, errno.ENODATA)
    if call.errno:
        return "expected success"
    return "" if kept[name] == call.value else f"expected {kept[name]!r}, got {call.value!r}"


def listxattr(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call listxattr, as to names in user."""
    missing = lost_inode(state, call, found[0])
    if missing is not None or call.errno or not isinstance(call.value, bytes):
        return missing or ""
    one = state.inodes[inode_of(state, call, found[0])]
    if one.xattrs is None:
        return ""
    names = call.value.decode("utf-8", "surrogateescape").split("\0")
    seen = sorted(name for name in names if name.startswith(USER))
    kept = [name for name, _ in one.xattrs]
    return "" if seen == kept else f"expected {kept}, listed {seen}"


# ---- data


def _data_inode(state: State, call: Call) -> int | None:
    inode = state.opened.get((call.client, call.file))
    return state.fids.get(call.fid) if inode is None else inode


def truncate(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call truncate."""
    missing = lost_inode(state, call, found[0])
    if missing is not None:
        return missing
    inode = inode_of(state, call, found[0])
    one = state.inodes[inode]
    if one.is_dir:
        return told(call, errno.EISDIR)
    if call.errno:
        return "expected success" if call.errno in CERTAIN else ""
    after = content.truncate(one.content, call.args[1], call.client, call.ended_ns)
    state.change(inode, content=after)
    return ""


def ftruncate(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call ftruncate."""
    inode = _data_inode(state, call)
    if inode is None or call.errno:
        return ""
    held = state.inodes[inode].content
    after = content.truncate(held, call.args[0], call.client, call.ended_ns)
    state.change(inode, content=after)
    return ""


def write(state: State, call: Call, found: list[Found], world: World) -> str:
    """System calls write and pwrite."""
    inode = _data_inode(state, call)
    if inode is None or call.errno:
        return ""
    held = state.inodes[inode].content
    start = where(call, held.sizes)
    if start is None:
        return f"expected to write at {' or '.join(map(str, held.sizes))}"
    number = call.number
    end = start + _taken(call)
    world.sources[number] = content.Source(start, call.data)
    changed = content.write(held, number, start, end, call.client)
    fields: dict[str, object] = {"content": changed}
    if call.uid:
        fields["mode"] = UNSURE
    state.change(inode, **fields)
    return ""


def _taken(call: Call) -> int:
    """How many bytes a write took: fewer than it was given where an OST is full."""
    return call.value if isinstance(call.value, int) else len(call.data)


def where(call: Call, sizes: tuple[int, ...]) -> int | None:
    """Where a write's data goes; None where its end says that it went elsewhere."""
    by_offset, flags = call.args[:2]
    if not flags & os.O_APPEND:
        return call.at
    if by_offset:
        return sizes[0] if len(sizes) == 1 else None
    start = call.end - _taken(call)
    return start if start in sizes or sizes == (content.ANYTHING,) else None


def read(state: State, call: Call, found: list[Found], world: World) -> str:
    """System calls read and pread."""
    inode = _data_inode(state, call)
    if inode is None or call.errno:
        return ""
    one = state.inodes[inode]
    length = call.args[2]
    seen = content.read(
        one.content, call.at, length, call.data, world.sources, call.client, call.ended_ns
    )
    if not seen.wrong:
        state.change(inode, content=seen.content)
    return seen.wrong


def fsync(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call fsync: what this client wrote to the file is on disk."""
    inode = _data_inode(state, call)
    if inode is not None and not call.errno:
        state.change(inode, content=content.keep(state.inodes[inode].content, call.client))
    return ""


def close(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call close."""
    state.opened.pop((call.client, call.file), None)
    return ""


# ---- what may have happened


def perhaps(state: State, call: Call, world: World) -> bool:
    """Have a call on data or attributes happened or not; False for one that changes names.

    An fsync or a close that fails tells that what was written before may be lost.
    """
    if call.name in ("fsync", "close"):
        inode = _data_inode(state, call)
        if inode is not None:
            lost = content.lose(state.inodes[inode].content, content.Loss(call.client))
            state.change(inode, content=lost)
        if call.name == "close":
            state.opened.pop((call.client, call.file), None)
        return True
    if call.name in ("write", "ftruncate"):
        inode = _data_inode(state, call)
        if inode is not None:
            _perhaps_data(state, call, inode, world)
        return True
    if call.name not in ("truncate", "chmod", "chown", "setxattr", "removexattr"):
        return call.name not in CHANGES
    (found,) = resolve(state, call)
    if found.inode > NOTHING:
        if call.name == "truncate":
            _perhaps_data(state, call, found.inode, world)
        elif call.name in ("chmod", "chown"):
            state.change(found.inode, mode=UNSURE, uid=UNSURE, gid=UNSURE)
        else:
            state.change(found.inode, xattrs=None)
    return True


def _perhaps_data(state: State, call: Call, inode: int, world: World) -> None:
    held = state.inodes[inode].content
    places = world.possible_places(state.inodes[inode].fid)
    if call.name == "write":
        if call.args[1] & os.O_APPEND:
            changed = content.UNKNOWN
        else:
            end = call.at + len(call.data)
            world.sources[call.number] = content.Source(call.at, call.data)
            changed = content.write(held, call.number, call.at, end, call.client, False, places)
    else:
        at_ns = call.ended_ns if call.ended_ns != NEVER else content.NOT_YET
        changed = content.truncate(held, call.args[-1], call.client, at_ns, False, places)
    state.change(inode, content=changed)

"""What the calls on names do to the reference model, and what they must have answered.

Does not know when calls overlap (`posix_model` does). Each function takes the state, the call and
what its paths led to; it returns an empty string where the answer is right, having changed the
state, else what was expected in a few words.
"""

from __future__ import annotations

import errno
import os
import stat as st

from labsim.scenario import posix_content as content
from labsim.scenario.posix_answers import (
    CERTAIN,
    World,
    inode_number,
    inode_of,
    is_kind,
    lost_inode,
    told,
    unsure,
)
from labsim.scenario.posix_state import NOTHING, UNSURE, Found, Inode, State
from labsim.scenario.record import Call

# ---- making


def _create(state: State, call: Call, found: Found, made: Inode) -> str:
    """A name that must not be there leads to a new inode."""
    if found.errno:
        return told(call, found.errno)
    if not found.name:
        return told(call, errno.EEXIST)
    found = state.now(found)
    if found.inode == UNSURE:
        if call.errno:
            return ""
        state.drop(found.parent, found.name)
    elif found.inode != NOTHING:
        return told(call, errno.EEXIST)
    if not is_kind(state, found.parent, st.S_IFDIR):
        return told(call, errno.ENOTDIR)
    if state.inodes[found.parent].nlink == 0:
        return told(call, errno.ENOENT)
    if call.errno:
        return f"expected success, '{found.name}' is not there"
    number = inode_number(call)
    state.inodes[number] = made._replace(parent=found.parent)
    state.put(found.parent, found.name, number)
    if made.is_dir:
        state.link(found.parent, 1)
    return ""


def mkdir(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call mkdir."""
    return _create(state, call, found[0], Inode(st.S_IFDIR, nlink=2))


def mknod(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call mknod."""
    kind = st.S_IFMT(call.args[1]) or st.S_IFREG
    return _create(state, call, found[0], Inode(kind))


def symlink(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call symlink."""
    return _create(state, call, found[0], Inode(st.S_IFLNK, target=call.args[1]))


def link(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call link."""
    source, new = found
    if source.inode == UNSURE and new.errno and call.errno == new.errno:
        return ""
    missing = lost_inode(state, call, source)
    if missing is not None:
        if missing and call.errno == errno.EEXIST and new.inode > NOTHING:
            return ""
        return missing
    if call.errno and call.errno not in (errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
        return ""
    if new.errno:
        return told(call, new.errno)
    new = state.now(new)
    if not new.name or new.inode > NOTHING:
        return told(call, errno.EEXIST)
    if new.inode == UNSURE:
        if call.errno:
            return ""
        state.drop(new.parent, new.name)
    inode = inode_of(state, call, source)
    if state.inodes[inode].is_dir:
        return told(call, errno.EPERM)
    if state.inodes[inode].nlink == 0 or state.inodes[new.parent].nlink == 0:
        return told(call, errno.ENOENT)
    if call.errno:
        return f"expected success, '{new.name}' is not there"
    world.changes(call, inode)
    state.put(new.parent, new.name, inode)
    state.link(inode, 1)
    return ""


def open_(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call open, also of what it makes."""
    flags = call.args[1] if len(call.args) > 1 else 0
    where = found[0] if found[0].inode else state.now(found[0])
    creates = flags & os.O_CREAT and not where.errno
    if creates and where.inode == NOTHING:
        said = _create(state, call, where, Inode(st.S_IFREG))
        if said or call.errno:
            return said
        return _opened(state, call, inode_number(call))
    if where.inode == UNSURE and not where.errno:
        if call.errno:
            return ""
        if not where.parent:
            return ""
    missing = lost_inode(state, call, where)
    if missing is not None:
        return missing
    if creates and flags & os.O_EXCL and where.inode > NOTHING:
        return told(call, errno.EEXIST)
    inode = inode_of(state, call, where)
    one = state.inodes[inode]
    if one.is_dir and (flags & (os.O_CREAT | os.O_TRUNC) or flags & os.O_ACCMODE != os.O_RDONLY):
        return told(call, errno.EISDIR)
    if flags & os.O_DIRECTORY and not is_kind(state, inode, st.S_IFDIR):
        return told(call, errno.ENOTDIR)
    if call.errno:
        return f"expected success, '{where.name or '/'}' is there"
    if flags & os.O_TRUNC and one.kind in (st.S_IFREG, UNSURE):
        after = content.truncate(one.content, 0, call.client, call.ended_ns)
        state.change(inode, content=after)
    return _opened(state, call, inode)


def _opened(state: State, call: Call, inode: int) -> str:
    if not state.is_fid(inode, call.fid):
        return f"expected {state.inodes[inode].fid or 'another inode'}, opened {call.fid}"
    state.opened[call.client, call.file] = state.fids.get(call.fid, inode)
    return ""


def setstripe(state: State, call: Call, found: list[Found], world: World) -> str:
    """What `lfs setstripe` makes: a file that may be there already, or a directory's default."""
    where = found[0]
    if where.errno or call.errno or where.inode != NOTHING:
        return ""
    return _create(state, call, where, Inode(st.S_IFREG))


# ---- removing and moving


def unlink(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call unlink."""
    return _remove(state, call, found[0], world, directory=False)


def rmdir(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call rmdir."""
    return _remove(state, call, found[0], world, directory=True)


def _remove(state: State, call: Call, found: Found, world: World, directory: bool) -> str:
    if not found.name and not found.errno:
        return "" if call.errno else "expected an error"
    inode = state.leads(found.parent, found.name)
    missing = lost_inode(state, call, found._replace(inode=inode))
    if missing is not None:
        return missing
    if inode != UNSURE and not unsure(state, inode):
        one = state.inodes[inode]
        if one.is_dir != directory:
            return told(call, errno.ENOTDIR if directory else errno.EISDIR)
        if directory and one.names > 0:
            return told(call, errno.ENOTEMPTY)
        if call.errno and not (directory and one.names == UNSURE):
            return f"expected success, '{found.name}' can go"
    if call.errno:
        return ""
    world.changes(call, inode)
    _unname(state, found.parent, found.name)
    return ""


def _unname(state: State, parent: int, name: str) -> None:
    """Take a name away, and a link from what it led to."""
    inode = state.names.get((parent, name), NOTHING)
    state.drop(parent, name)
    if inode > NOTHING:
        one = state.inodes[inode]
        if one.is_dir:
            state.change(inode, nlink=0)
            state.link(parent, -1)
        else:
            state.link(inode, -1)


def rename(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call rename."""
    old, new = found
    if not (old.name and new.name) and not (old.errno or new.errno):
        return "" if call.errno else "expected an error"
    moved = state.leads(old.parent, old.name)
    over = state.leads(new.parent, new.name)
    if new.errno and call.errno == new.errno:
        return ""
    world.changes(call, moved, over)
    missing = lost_inode(state, call, old._replace(inode=moved))
    if missing is not None:
        return missing
    if new.errno:
        return told(call, new.errno)
    if moved == over and moved != UNSURE:
        return told(call, 0)
    if not call.errno and old.inode > NOTHING and old.inode == over:
        return ""  # both names led to one inode when the client looked
    if UNSURE in {moved, over}:
        return _rename_unsure(state, call, old, new)
    wrong = _may_replace(state, call, moved, over)
    if wrong or call.errno:
        return wrong if wrong != "done" else ""
    _move(state, old, new, moved)
    return ""


def _may_replace(state: State, call: Call, moved: int, over: int) -> str:
    """Whether one inode may take the other's name; "done" where that was refused rightly."""
    one = state.inodes[moved]
    if over != NOTHING:
        other = state.inodes[over]
        refused = 0
        if one.is_dir and not is_kind(state, over, st.S_IFDIR):
            refused = errno.ENOTDIR
        elif other.is_dir and not is_kind(state, moved, st.S_IFDIR):
            refused = errno.EISDIR
        elif other.is_dir and other.names > 0:
            refused = errno.ENOTEMPTY
        if refused:
            return told(call, refused) or "done"
    if call.errno in CERTAIN and (over == NOTHING or state.inodes[over].names != UNSURE):
        return "expected success"
    return ""


def _move(state: State, old: Found, new: Found, moved: int) -> None:
    _unname_target(state, new)
    state.drop(old.parent, old.name)
    state.put(new.parent, new.name, moved)
    if state.inodes[moved].is_dir and old.parent != new.parent:
        state.link(old.parent, -1)
        state.link(new.parent, 1)
        state.change(moved, parent=new.parent)


def _unname_target(state: State, new: Found) -> None:
    if (new.parent, new.name) in state.names:
        _unname(state, new.parent, new.name)


def _rename_unsure(state: State, call: Call, old: Found, new: Found) -> str:
    """One of the two is not known: after a success the new name is what the old one was.

    Where both led to one inode, nothing was done: the old name may still be there.
    """
    if call.errno:
        return ""
    moved = state.leads(old.parent, old.name)
    over = state.leads(new.parent, new.name)
    _unname_target(state, new)
    state.drop(old.parent, old.name)
    if over != NOTHING:
        state.put(old.parent, old.name, UNSURE)
        known = over if moved == UNSURE else moved
        if known != UNSURE:
            state.change(known, nlink=UNSURE)
    state.put(new.parent, new.name, moved)
    state.change(new.parent, nlink=UNSURE)
    state.change(old.parent, nlink=UNSURE)
    return ""


# ---- looking


def readlink(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call readlink."""
    missing = lost_inode(state, call, found[0])
    if missing is not None or call.errno:
        return missing or ""
    one = state.inodes[inode_of(state, call, found[0])]
    if one.target is not None and call.value != one.target:
        return f"expected {one.target}, read {call.value}"
    return ""


def readdir(state: State, call: Call, found: list[Found], world: World) -> str:
    """Open, getdents until the end, close."""
    missing = lost_inode(state, call, found[0])
    if missing is not None:
        return missing
    inode = inode_of(state, call, found[0])
    if not is_kind(state, inode, st.S_IFDIR):
        return told(call, errno.ENOTDIR)
    return _listed(state, call, inode) if not call.errno else "expected success"


def getdents(state: State, call: Call, found: list[Found], world: World) -> str:
    """All entries of an open directory."""
    inode = state.opened.get((call.client, call.file))
    return "" if inode is None or call.errno else _listed(state, call, inode)


def _listed(state: State, call: Call, inode: int) -> str:
    seen = {name for name, _ in call.value if name not in (".", "..")}
    entries = state.entries(inode)
    sure = {name for name, child in entries.items() if child != UNSURE}
    missing, extra = sorted(sure - seen), sorted(seen - entries.keys())
    if state.inodes[inode].kind == UNSURE:
        return ""
    if missing:
        return f"expected '{missing[0]}' in it"
    if state.inodes[inode].strange:
        for name in extra:
            state.put(inode, name, UNSURE)
        state.change(inode, names=len(seen), strange=False)
    elif extra:
        return f"'{extra[0]}' is in it, expected not to be"
    for name, child in entries.items():
        if child == UNSURE and name not in seen:
            state.drop(inode, name)
    return ""


def stat(state: State, call: Call, found: list[Found], world: World) -> str:
    """System calls stat and lstat."""
    missing = lost_inode(state, call, found[0])
    if missing is not None:
        return missing
    if call.errno:
        return f"expected success, '{found[0].name or '/'}' is there"
    inode = inode_of(state, call, found[0])
    if not state.is_fid(inode, call.fid):
        return f"expected {state.inodes[inode].fid or 'another inode'}, is {call.fid}"
    return _named(state, call, inode) or sized(state, call, inode)


def fstat(state: State, call: Call, found: list[Found], world: World) -> str:
    """System call fstat."""
    inode = state.opened.get((call.client, call.file))
    if inode is None or call.errno:
        return ""
    return _named(state, call, inode) or sized(state, call, inode)


def look(state: State, call: Call, found: list[Found]) -> str:
    """Which inode a stat is about; it may ask for its attributes later (`attributes`, `sized`)."""
    if call.name != "stat" or call.errno or found[0].inode <= NOTHING:
        return ""
    return "" if state.is_fid(found[0].inode, call.fid) else "another inode"


def attributes(state: State, call: Call, found: list[Found]) -> str:
    """What a stat has from the MDT; the size it asks the OSTs for afterwards (`sized`)."""
    if call.name != "stat" or call.value is None or found[0].inode <= NOTHING:
        return ""
    return _named(state, call, found[0].inode)


def _named(state: State, call: Call, inode: int) -> str:
    """Compare what the MDT knows of an inode."""
    mode, nlink, uid, gid, _ = call.value
    one = state.inodes[inode]
    told = {"kind": st.S_IFMT(mode), "mode": st.S_IMODE(mode), "uid": uid, "gid": gid}
    for name, value in told.items():
        known = getattr(one, name)
        if known not in (UNSURE, value):
            return f"{name} {value:o}, expected {known:o}"
    if one.nlink not in (UNSURE, nlink):
        return f"nlink {nlink}, expected {one.nlink}"
    if one.kind == UNSURE and told["kind"] != st.S_IFREG:
        told["content"] = content.EMPTY
    state.change(inode, **told)
    return ""


def sized(state: State, call: Call, inode: int) -> str:
    """Compare the size that was told of an inode."""
    if st.S_IFMT(call.value[0]) != st.S_IFREG:
        return ""
    seen = content.stat(state.inodes[inode].content, call.value[4])
    if not seen.wrong:
        state.change(inode, content=seen.content)
    return seen.wrong

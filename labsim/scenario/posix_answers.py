"""What the answers of calls have in common: errors that must be so, inodes that are not there.

Does not know any call. What a call's paths lead to is looked up here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from labsim.scenario import posix_content as content
from labsim.scenario.posix_state import NOTHING, UNSURE, Found, State
from labsim.scenario.record import PATHS, Call

CERTAIN = frozenset({
    errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ENODATA,
})  # fmt: skip
"""Errors that say something of the namespace: they must be so."""
DOUBTFUL = frozenset({
    errno.EIO, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ESHUTDOWN,
    errno.ENODEV, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.EROFS, errno.ENOMEM, errno.EFAULT, errno.EPROTO, errno.EALREADY, errno.EINPROGRESS,
})  # fmt: skip
"""Errors after which the call may have happened, whole or in part."""

USER = "user."

CHANGES = frozenset({
    "mkdir", "mknod", "symlink", "link", "open", "setstripe", "unlink", "rmdir", "rename", "chmod",
    "chown", "setxattr", "removexattr", "truncate", "ftruncate", "write",
})  # fmt: skip
"""Calls that may have changed something though they failed."""


class World:
    """What calls need besides the state.

    The data of all writes and the inodes whose attributes or links were changed, by the number of
    the call, and where each file's data is, by its FID.
    """

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        self.sources: dict[int, content.Source] = {}
        self.changed: dict[int, dict[int, None]] = {}
        self.places = {
            call.fid: content.Place(call.place[0], tuple(call.place[1:]))
            for call in calls if call.place
        }  # fmt: skip

    def changes(self, call: Call, *inodes: int) -> None:
        """A call changes an inode's attributes or links: if it is undone, they are not known."""
        known = self.changed.setdefault(call.number, {})
        known.update((inode, None) for inode in inodes if inode > NOTHING)

    def place(self, fid: str) -> content.Place:
        """Where a file's data is."""
        return self.places.get(fid, content.ANYWHERE)

    def possible_places(self, fid: str) -> list[content.Place]:
        """The same; of a file whose FID nobody has seen yet, all that any file has."""
        return [self.place(fid)] if fid else list(dict.fromkeys(self.places.values()))


def inode_number(call: Call) -> int:
    """The number of the inode that a call makes: its own place in the history."""
    return call.number + 1


# ---- help


def _name(number: int) -> str:
    return errno.errorcode.get(number, str(number)) if number else "success"


def told(call: Call, expected: int) -> str:
    """Empty where the errno is the expected one."""
    return "" if call.errno == expected else f"expected {_name(expected)}"


def lost_inode(state: State, call: Call, found: Found) -> str | None:
    """What is to be said of a call on an inode that is not there, or not known; None: go on."""
    if found.errno:
        return told(call, found.errno)
    if found.inode == NOTHING:
        return told(call, errno.ENOENT)
    if found.inode == UNSURE:
        if call.errno or not found.parent:
            if call.errno == errno.ENOENT and found.name:
                state.drop(found.parent, found.name)
            return ""
        return None
    one = state.inodes[found.inode]
    if call.errno in (errno.ENOENT, errno.ESTALE) and one.nlink == 0:
        return ""
    return None


def inode_of(state: State, call: Call, found: Found) -> int:
    """The inode that a call is about; one that nothing was known of becomes known."""
    if found.inode == UNSURE:
        return state.found_again(found.parent, found.name, call.fid, inode_number(call))
    return found.inode


def is_kind(state: State, inode: int, kind: int) -> bool:
    """Whether an inode is of that kind, or may be."""
    return inode == UNSURE or state.inodes[inode].kind in (kind, UNSURE)


def unsure(state: State, inode: int) -> bool:
    """Whether it is not known what an inode is."""
    return inode == UNSURE or state.inodes[inode].kind == UNSURE


_NO_FOLLOW = frozenset({"mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename",
                        "readlink", "setstripe"})  # fmt: skip


def paths_of(call: Call) -> list[str]:
    """The paths among a call's arguments, those that it acts on."""
    if call.name == "symlink":
        return [call.args[0]]
    return list(call.args[: PATHS.get(call.name, 0)])


def resolve(state: State, call: Call) -> list[Found]:
    """Where a call's paths lead now."""
    follow = call.name not in _NO_FOLLOW and ["follow", False] not in call.args
    if call.name in ("stat", "chown") and len(call.args) > 1 and call.args[-1] is False:
        follow = False
    if call.name == "open":
        flags = call.args[1] if len(call.args) > 1 else 0
        exclusive = flags & os.O_CREAT and flags & os.O_EXCL
        follow = not (exclusive or flags & os.O_NOFOLLOW)
    return [state.walk(path, follow) for path in paths_of(call)]

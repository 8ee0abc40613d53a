"""Who makes a system call, and what they may do to an inode.

Does not know paths, locks or servers. Stands for struct cred, generic_permission() and
posix_acl_permission() of the kernel: the checks a client makes on the attributes it has cached.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from labsim.base.errors import LustreError

EPERM, EACCES = 1, 13

MAY_EXEC, MAY_WRITE, MAY_READ = 1, 2, 4

S_IFMT, S_IFSOCK, S_IFLNK, S_IFREG = 0o170000, 0o140000, 0o120000, 0o100000
S_IFBLK, S_IFDIR, S_IFCHR, S_IFIFO = 0o060000, 0o040000, 0o020000, 0o010000
S_ISUID, S_ISGID, S_ISVTX, S_IXGRP = 0o4000, 0o2000, 0o1000, 0o010

ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER = 1, 2, 4, 8, 16, 32
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_HEADER_SIZE = 4


class Cred(NamedTuple):
    """A process's identity: uid 0 has every capability, nobody else has any."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    umask: int = 0o022

    @property
    def capable(self) -> bool:
        """CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SYS_ADMIN and the others."""
        return self.uid == 0

    @property
    def capability(self) -> int:
        """The effective set as a request carries it (mbo_capability, cr_cap): all, or none."""
        return 0xFFFFFFFF if self.uid == 0 else 0

    def member(self, gid: int) -> bool:
        """True when the process is in that group."""
        return gid == self.gid or gid in self.groups


ROOT = Cred()


class Owned(Protocol):
    """What permission checks look at."""

    mode: int
    uid: int
    gid: int
    acl: bytes


def check(inode: Owned, cred: Cred, want: int) -> None:
    """Raise EACCES unless `cred` may do `want` (an OR of MAY_*) to the inode."""
    if not allowed(inode, cred, want):
        raise LustreError(EACCES)


def allowed(inode: Owned, cred: Cred, want: int) -> bool:
    """True when the mode, the ACL or root's capabilities allow it (generic_permission)."""
    if not cred.uid:
        mode = inode.mode
        return not want & MAY_EXEC or (mode & S_IFMT) == S_IFDIR or bool(mode & 0o111)
    if cred.uid == inode.uid:
        return not want & ~(inode.mode >> 6)
    if inode.acl and inode.mode & 0o070:
        return _acl_allows(inode, cred, want)
    shift = 3 if cred.member(inode.gid) else 0
    return not want & ~(inode.mode >> shift)


def _acl_allows(inode: Owned, cred: Cred, want: int) -> bool:
    """The access ACL decides (posix_acl_permission); the owner has been dealt with."""
    entries = list(acl_entries(inode.acl))
    mask = next((perm for tag, perm, _ in entries if tag == ACL_MASK), 7)
    in_group = False
    for tag, perm, who in entries:
        if tag == ACL_USER and who == cred.uid:
            return not want & ~(perm & mask)
        if tag in (ACL_GROUP_OBJ, ACL_GROUP):
            if cred.member(inode.gid if tag == ACL_GROUP_OBJ else who):
                in_group = True
                if not want & ~perm:
                    return not want & ~(perm & mask)
        elif tag == ACL_OTHER:
            return not in_group and not want & ~perm
    return False


def acl_entries(value: bytes) -> Iterator[tuple[int, int, int]]:
    """(tag, permission bits, id) of a posix_acl_xattr value."""
    usable = len(value) - (len(value) - _ACL_HEADER_SIZE) % _ACL_ENTRY.size
    yield from _ACL_ENTRY.iter_unpack(value[_ACL_HEADER_SIZE:usable])


def check_owner(inode: Owned, cred: Cred) -> None:
    """Raise EPERM unless the process owns the inode or is root (inode_owner_or_capable)."""
    if cred.uid not in (0, inode.uid):
        raise LustreError(EPERM)


def check_delete(directory: Owned, victim: Owned, cred: Cred) -> None:
    """Raise EACCES or EPERM unless the name may go: writable directory, no sticky bit between."""
    check(directory, cred, MAY_WRITE | MAY_EXEC)
    sticky = directory.mode & S_ISVTX
    if sticky and cred.uid not in (0, victim.uid, directory.uid):
        raise LustreError(EPERM)

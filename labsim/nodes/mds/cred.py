"""Who asks, and whether he may: owner, group, other, ACLs and capabilities.

Does not know where attributes are kept. Stands for lu_ucred and mdd/mdd_permission.c.
"""

from __future__ import annotations

import errno
import stat
from typing import Any, NamedTuple

from labsim.base.errors import LustreError
from labsim.nodes.mds import acl as acls

CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID = 0, 1, 2, 3, 4
CAP_LINUX_IMMUTABLE, CAP_SYS_ADMIN, CAP_SYS_RESOURCE, CAP_MKNOD = 9, 21, 24, 27

FS_CAPS = sum(
    1 << cap
    for cap in (
        CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID,
        CAP_LINUX_IMMUTABLE, CAP_SYS_ADMIN, CAP_SYS_RESOURCE, CAP_MKNOD,
    )
)  # fmt: skip
"""Capabilities over files: only root keeps those that a client claims for him."""

MAY_READ, MAY_WRITE, MAY_EXEC = 4, 2, 1

IMMUTABLE_FL, APPEND_FL = 0x10, 0x20
"""LUSTRE_IMMUTABLE_FL and LUSTRE_APPEND_FL in an inode's flags (chattr +i, +a)."""


class Cred(NamedTuple):
    """One caller: uid, gid, supplementary groups, effective capabilities (a mask)."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    caps: int = 0

    def can(self, capability: int) -> bool:
        """Does he hold the capability with that number?"""
        return bool(self.caps >> capability & 1)

    def in_group(self, gid: int) -> bool:
        """Is it his group, or one of his supplementary groups?"""
        return gid == self.gid or gid in self.groups

    def owns(self, attrs: Any) -> bool:
        """Is he the owner, or does he count as such (CAP_FOWNER)?"""
        return self.uid == attrs.uid or self.can(CAP_FOWNER)


ROOT = Cred(0, 0, (), FS_CAPS)


def from_wire(uid: int, gid: int, suppgids: tuple[int, ...], caps: int) -> Cred:
    """The caller that a request names; a group of 0xffffffff stands for none."""
    if uid:
        caps &= ~FS_CAPS
    return Cred(uid, gid, tuple(group for group in suppgids if group != acls.NO_ID), caps)


def permits(attrs: Any, acl: bytes | None, cred: Cred, want: int) -> bool:
    """May `cred` do `want` (MAY_* bits) to what has these attributes and this access ACL?

    An ACL without entries counts as none. Root (CAP_DAC_OVERRIDE) may do all but execute what
    nobody may execute.
    """
    if want & MAY_WRITE and attrs.flags & IMMUTABLE_FL:
        return False
    mode = attrs.mode
    if _granted(attrs, acl, cred, want):
        return True
    runnable = stat.S_ISDIR(mode) or mode & 0o111
    if cred.can(CAP_DAC_OVERRIDE) and (not want & MAY_EXEC or runnable):
        return True
    harmless = want == MAY_READ or (stat.S_ISDIR(mode) and not want & MAY_WRITE)
    return harmless and cred.can(CAP_DAC_READ_SEARCH)


def _granted(attrs: Any, acl: bytes | None, cred: Cred, want: int) -> bool:
    """The part of `permits` that does without capabilities."""
    mode = attrs.mode
    if cred.uid == attrs.uid:
        return mode >> 6 & want == want
    entries = acls.parse(acl) if acl and mode & 0o070 else ()
    if entries:
        return acls.permits(entries, attrs.uid, attrs.gid, cred, want)
    if cred.in_group(attrs.gid):
        return mode >> 3 & want == want
    return mode & want == want


def require(attrs: Any, acl: bytes | None, cred: Cred, want: int) -> None:
    """LustreError EACCES unless `permits`."""
    if not permits(attrs, acl, cred, want):
        raise LustreError(errno.EACCES, "permission denied")


def sticky(parent: Any, child: Any, cred: Cred) -> bool:
    """Does the directory's sticky bit keep `cred` from removing `child`?"""
    if not parent.mode & stat.S_ISVTX:
        return False
    return cred.uid not in (child.uid, parent.uid) and not cred.can(CAP_FOWNER)

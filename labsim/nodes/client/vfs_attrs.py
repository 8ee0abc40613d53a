"""System calls on attributes: stat, chmod, chown, utimens, access, statfs.

Knows which changes the kernel turns into which. Stands for fs/stat.c, fs/open.c, fs/attr.c and
fs/utimes.c.
"""

from __future__ import annotations

from typing import Any

from labsim.base.units import NS_PER_S
from labsim.nodes.client.cred import (
    MAY_WRITE,
    S_ISGID,
    S_ISUID,
    Cred,
    allowed,
    check,
    check_owner,
)
from labsim.nodes.client.inode import Inode, Stat
from labsim.nodes.client.mdc_reint import Changes
from labsim.nodes.client.walk import Walker
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    MDS_ATTR_ATIME,
    MDS_ATTR_ATIME_SET,
    MDS_ATTR_GID,
    MDS_ATTR_MODE,
    MDS_ATTR_MTIME,
    MDS_ATTR_MTIME_SET,
    MDS_ATTR_UID,
)
from labsim.wire.ost import ObdStatfs

UTIME_NOW = -1
"""In place of a time: the time of the call."""

KEEP = -1
"""In place of a uid or gid: leave it as it is."""


class AttrCalls:
    """The part of Vfs that reads and changes attributes."""

    llite: Any
    cred: Cred
    walker: Walker

    def lookup(self, path: str, follow: bool = True) -> Steps[Stat]:
        """What a path leads to, with the attributes as they happen to be cached."""
        dentry = yield from self.walker.lookup(path, follow)
        assert dentry.inode is not None
        return dentry.inode.stat()

    def stat(self, path: str, follow: bool = True) -> Steps[Stat]:
        """System calls stat, lstat."""
        dentry = yield from self.walker.lookup(path, follow)
        return (yield from self.llite.getattr(dentry.inode, self.cred))

    def fstat(self, file: Any) -> Steps[Stat]:
        """System call fstat."""
        return (yield from self.llite.getattr(file.inode, self.cred))

    def access(self, path: str, want: int) -> Steps[bool]:
        """System call access as a question: `want` is an OR of MAY_READ, MAY_WRITE, MAY_EXEC."""
        inode = yield from self._inode(path, True)
        return allowed(inode, self.cred, want)

    def chmod(self, path: str, mode: int) -> Steps[None]:
        """System call chmod."""
        inode = yield from self._inode(path, True)
        changes = Changes(MDS_ATTR_MODE, mode=mode & 0o7777 | inode.type)
        yield from self.llite.setattr(inode, changes, self.cred)

    def chown(
        self, path: str, uid: int = KEEP, gid: int = KEEP, follow: bool = True
    ) -> Steps[None]:
        """System calls chown, lchown; takes the set-id bits of what is no directory."""
        inode = yield from self._inode(path, follow)
        changes = Changes()
        if uid != KEEP:
            changes = changes._replace(valid=changes.valid | MDS_ATTR_UID, uid=uid)
        if gid != KEEP:
            changes = changes._replace(valid=changes.valid | MDS_ATTR_GID, gid=gid)
        kept = self._without_setid(inode)
        if kept != inode.mode:
            changes = changes._replace(valid=changes.valid | MDS_ATTR_MODE, mode=kept)
        yield from self.llite.setattr(inode, changes, self.cred)

    def _without_setid(self, inode: Inode) -> int:
        """The mode after a change of owner: set-gid stays where it means mandatory locking."""
        if inode.is_dir:
            return inode.mode
        mode = inode.mode & ~S_ISUID
        return mode & ~S_ISGID if mode & 0o010 else mode

    def utimens(
        self, path: str, atime: int | None, mtime: int | None, follow: bool = True
    ) -> Steps[None]:
        """System call utimensat: times in ns since 1970, UTIME_NOW, or None to leave one as it is.

        Lustre keeps whole seconds.
        """
        inode = yield from self._inode(path, follow)
        yield from self._utimens(inode, atime, mtime)

    def futimens(self, file: Any, atime: int | None, mtime: int | None) -> Steps[None]:
        """System call futimens."""
        yield from self._utimens(file.inode, atime, mtime)

    def _utimens(self, inode: Inode, atime: int | None, mtime: int | None) -> Steps[None]:
        if atime is None and mtime is None:
            return
        if atime == mtime == UTIME_NOW:
            if self.cred.uid not in (0, inode.uid):
                check(inode, self.cred, MAY_WRITE)
        else:
            check_owner(inode, self.cred)
        changes = Changes()
        if atime is not None:
            changes = _with_atime(changes, atime)
        if mtime is not None:
            changes = _with_mtime(changes, mtime)
        yield from self.llite.setattr(inode, changes, self.cred)

    def statfs(self, path: str = ".") -> Steps[ObdStatfs]:
        """System call statfs of the mounted file system: blocks of `bsize` bytes, inodes."""
        yield from self.walker.lookup(path)
        return (yield from self.llite.statfs())

    def _inode(self, path: str, follow: bool) -> Steps[Inode]:
        dentry = yield from self.walker.lookup(path, follow)
        assert dentry.inode is not None
        return dentry.inode


def _with_atime(changes: Changes, ns: int) -> Changes:
    if ns == UTIME_NOW:
        return changes._replace(valid=changes.valid | MDS_ATTR_ATIME)
    valid = changes.valid | MDS_ATTR_ATIME | MDS_ATTR_ATIME_SET
    return changes._replace(valid=valid, atime=ns // NS_PER_S)


def _with_mtime(changes: Changes, ns: int) -> Changes:
    if ns == UTIME_NOW:
        return changes._replace(valid=changes.valid | MDS_ATTR_MTIME)
    valid = changes.valid | MDS_ATTR_MTIME | MDS_ATTR_MTIME_SET
    return changes._replace(valid=valid, mtime=ns // NS_PER_S)

"""Attributes, striping and space, below the kernel's checks.

Knows what the MDT and what the OSTs say of a file, and puts it together. Stands for ll_getattr,
ll_setattr_raw, the striping ioctls of llite/dir.c and file.c, and ll_statfs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.payload import tobytes
from labsim.nodes.client.cred import S_ISGID, S_ISUID, S_IXGRP, Cred
from labsim.nodes.client.inode import Inode, Stat
from labsim.nodes.client.lov import parse
from labsim.nodes.client.mdc_reint import Changes
from labsim.nodes.client.statfs import CACHE_NS, merge
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    MDS_ATTR_ATIME,
    MDS_ATTR_ATIME_SET,
    MDS_ATTR_CTIME,
    MDS_ATTR_CTIME_SET,
    MDS_ATTR_FORCE,
    MDS_ATTR_FROM_OPEN,
    MDS_ATTR_KILL_SGID,
    MDS_ATTR_KILL_SUID,
    MDS_ATTR_MODE,
    MDS_ATTR_MTIME,
    MDS_ATTR_MTIME_SET,
    MDS_ATTR_SIZE,
    MDS_INODELOCK_LAYOUT,
    OBD_MD_FLDIREA,
    OBD_MD_FLEASIZE,
    OBD_MD_FLID,
    OBD_MD_LINKNAME,
)
from labsim.wire.ost import ObdStatfs

ENODATA, ENOENT, EFBIG = 61, 2, 27
STRIPE_MAXBYTES = 0x1FFFFFFF000
"""LUSTRE_EXT3_STRIPE_MAXBYTES: of files without objects, and of OSTs that did not say."""

TIMES = MDS_ATTR_ATIME | MDS_ATTR_MTIME


class Attributes:
    """The attribute operations of Llite."""

    env: Any
    clock: Any
    namei: Any
    data: Any
    statfs_md: Any
    statfs_dt: Any
    stat_blocksize: int
    space: ObdStatfs
    mdc: Callable[..., Any]
    tally: Callable[..., Any]
    still_covered: Callable[[Fid, int], bool]

    # ---- stat

    def getattr(self, inode: Inode, cred: Cred) -> Steps[Stat]:
        """The attributes as they are at this moment; the OSTs know a file's size."""
        started_ns = self.env.now
        yield from self.namei.revalidate(inode, cred)
        stat = inode.stat()
        if inode.is_reg and (yield from self.layout(inode, cred)):
            sizes = yield from self.data.glimpse(inode)
            inode.size, inode.blocks = sizes.size, sizes.blocks
            stat = inode.stat()._replace(
                atime=max(inode.atime, sizes.atime),
                mtime=max(inode.mtime, sizes.mtime),
                ctime=max(inode.ctime, sizes.ctime),
            )
        if self.stat_blocksize:
            stat = stat._replace(blksize=self.stat_blocksize)
        self.tally("getattr", started_ns)
        return stat

    def readlink(self, inode: Inode, cred: Cred) -> Steps[str]:
        """Where a symbolic link points; a link never changes, so it is asked for once."""
        if inode.target is None:
            room = inode.size + 1
            mdc = self.mdc(inode.fid)
            reply = yield from mdc.getattr(inode, OBD_MD_LINKNAME, cred, room)
            name = tobytes(reply.get("mdt_md") or b"")[: reply["mdt_body"].eadatasize]
            inode.target = name.rstrip(b"\0").decode("utf-8", "surrogateescape")
        return inode.target

    # ---- setattr

    def setattr(self, inode: Inode, changes: Changes, cred: Cred) -> Steps[None]:
        """Change mode, owner or times; OST objects must not know later times than the MDT."""
        started_ns = self.env.now
        yield from self._setattr(inode, changes, cred)
        times = changes.valid & TIMES and inode.is_reg
        if times and (yield from self.layout(inode, cred)):
            yield from self.data.set_times(inode, inode.atime, inode.mtime, inode.ctime)
        self.tally("setattr", started_ns)

    def _setattr(self, inode: Inode, changes: Changes, cred: Cred) -> Steps[None]:
        changes = self.dated(changes)
        reply = yield from self.mdc(inode.fid).setattr(inode, changes, cred)
        body = reply["mdt_body"]
        if body.valid & OBD_MD_FLID and body.fid1 == inode.fid:
            self.namei.take(reply)

    def dated(self, changes: Changes) -> Changes:
        """Every change moves ctime; times that nobody gave are this client's now."""
        now = self.clock.seconds()
        valid = changes.valid | MDS_ATTR_CTIME | MDS_ATTR_CTIME_SET
        atime, mtime = changes.atime, changes.mtime
        if valid & MDS_ATTR_ATIME and not valid & MDS_ATTR_ATIME_SET:
            valid, atime = valid | MDS_ATTR_ATIME_SET, now
        if valid & MDS_ATTR_MTIME and not valid & MDS_ATTR_MTIME_SET:
            valid, mtime = valid | MDS_ATTR_MTIME_SET, now
        return changes._replace(valid=valid, atime=atime, mtime=mtime, ctime=now)

    def truncate(
        self, inode: Inode, size: int, cred: Cred, opening: bool = False, opened: bool = False
    ) -> Steps[None]:
        """Set a regular file's size: times on the MDT, the cut on the OSTs.

        The MDT keeps the size of a file without objects; `opening` tells it of O_TRUNC, `opened`
        that the caller has it open for writing, whatever the mode says by now.
        """
        started_ns = self.env.now
        valid = MDS_ATTR_MTIME | (MDS_ATTR_FORCE if opened else 0)
        layout = yield from self.layout(inode, cred)
        if size > self.maxbytes(inode):
            raise LustreError(EFBIG)
        if opening:
            valid |= MDS_ATTR_SIZE | MDS_ATTR_FROM_OPEN
        elif not layout:
            valid |= MDS_ATTR_SIZE
        changes = without_privileges(inode, Changes(valid, size=size), cred)
        yield from self._setattr(inode, changes, cred)
        if layout:
            yield from self.data.truncate(inode, size)
        self.tally("truncate", started_ns)

    def drop_privileges(self, inode: Inode, cred: Cred) -> Steps[None]:
        """Before a write: the set-id bits go (file_remove_privs)."""
        changes = without_privileges(inode, Changes(), cred)
        if changes.valid:
            yield from self._setattr(inode, changes, cred)

    # ---- striping

    def maxbytes(self, inode: Inode) -> int:
        """How long a file may be, as far as its layout is known: what its OSTs say they can hold.

        lsm_maxbytes (lov_ea.c): the smallest of them, times the stripes (ll_file_maxbytes).
        """
        if not inode.layout:
            return STRIPE_MAXBYTES
        stripes = parse(inode.layout).stripes
        told = [self.data.oscs[one.index].imp.connect_data.maxbytes for one in stripes]
        return min(one or STRIPE_MAXBYTES for one in told) * len(stripes)

    def layout(self, inode: Inode, cred: Cred) -> Steps[bytes]:
        """A file's layout, or a directory's default for new files; empty where there is none.

        That a file has no objects is believed under a LAYOUT lock only: who writes makes them.
        """
        known = inode.layout if inode.is_reg else None
        if known or (known is not None and self.still_covered(inode.fid, MDS_INODELOCK_LAYOUT)):
            return known
        mdc = self.mdc(inode.fid)
        wanted = OBD_MD_FLEASIZE | OBD_MD_FLDIREA
        try:
            reply = yield from mdc.getattr(inode, wanted, cred, mdc.default_easize)
        except LustreError as error:
            if error.errno != ENODATA:
                raise
            return b""
        layout = self.layout_in(reply)
        if inode.is_reg:
            inode.layout = layout
        return layout

    def layout_by_name(self, parent: Inode, name: str, cred: Cred) -> Steps[bytes]:
        """The layout of a file as the MDT has it now, past all caches (lfs getstripe)."""
        wanted = OBD_MD_FLEASIZE | OBD_MD_FLDIREA
        reply = yield from self.mdc(parent.fid).getattr_name(parent, name, wanted, cred)
        return self.layout_in(reply)

    def layout_in(self, reply: Any) -> bytes:
        """The layout EA that a getattr reply carries, empty where it carries none."""
        body = reply["mdt_body"]
        if not body.valid & (OBD_MD_FLEASIZE | OBD_MD_FLDIREA):
            return b""
        return tobytes(reply.get("mdt_md") or b"")[: body.eadatasize]

    def set_layout(self, inode: Inode, striping: bytes, cred: Cred) -> Steps[None]:
        """Setxattr of lustre.lov: a directory takes it as default; a file's objects stay."""
        if inode.is_dir and striping:
            yield from self.set_default_layout(inode, striping, cred)

    def set_default_layout(self, directory: Inode, striping: bytes, cred: Cred) -> Steps[None]:
        """How new files in a directory are striped: a packed lov_user_md."""
        yield from self.mdc(directory.fid).setattr(directory, Changes(), cred, striping)

    # ---- space

    def statfs(self) -> Steps[ObdStatfs]:
        """Space and inodes of the whole file system, at most a second old."""
        started_ns = self.env.now
        oldest_ns = started_ns - CACHE_NS
        namespace = yield from self.statfs_md.get(oldest_ns)
        data = yield from self.statfs_dt.get(oldest_ns)
        self.tally("statfs", started_ns)
        self.space = merge(namespace, data)
        return self.space


def without_privileges(inode: Inode, changes: Changes, cred: Cred) -> Changes:
    """The changes, and off with set-id bits: whoever changes data, unless root, takes them away.

    Set-gid without group execution stays: it means mandatory locking.
    """
    kill, mode = 0, inode.mode
    if mode & S_ISUID:
        kill, mode = MDS_ATTR_KILL_SUID, mode & ~S_ISUID
    if mode & S_ISGID and mode & S_IXGRP:
        kill, mode = kill | MDS_ATTR_KILL_SGID, mode & ~S_ISGID
    if cred.capable or not kill:
        return changes
    valid = changes.valid | MDS_ATTR_MODE | MDS_ATTR_FORCE | kill
    return changes._replace(valid=valid, mode=mode)

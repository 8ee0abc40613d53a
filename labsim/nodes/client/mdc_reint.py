"""Requests that change the namespace: MDS_REINT records, and the close of an open file.

Knows formats and record fields, not caches. Stands for mdc/mdc_reint.c and the packing of
mdc/mdc_lib.c. Every method is one RPC; `inode` arguments are anything with a `fid` and a `gid`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from labsim.base.errors import LustreError
from labsim.base.ids import NO_FID, Fid
from labsim.net.ptlrpc import Request
from labsim.nodes.client import points
from labsim.nodes.client.cred import S_IFDIR, S_IFLNK, Cred
from labsim.nodes.client.mdc_open import OpenTable
from labsim.nodes.client.mdc_rooms import NO_ACL
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import (
    MDS_ATTR_ATIME,
    MDS_ATTR_ATIME_SET,
    MDS_ATTR_CTIME,
    MDS_ATTR_CTIME_SET,
    MDS_ATTR_GID,
    MDS_ATTR_LBLOCKS,
    MDS_ATTR_LSIZE,
    MDS_ATTR_MODE,
    MDS_ATTR_MTIME,
    MDS_ATTR_MTIME_SET,
    MDS_ATTR_UID,
    MDS_INODELOCK_ELC,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_UPDATE,
    MDS_INODELOCK_XATTR,
    OBD_MD_FLCTIME,
    REINT_CREATE,
    REINT_LINK,
    REINT_RENAME,
    REINT_SETATTR,
    REINT_SETXATTR,
    REINT_UNLINK,
)
from labsim.wire.mdt import (
    MdtIoepoch,
    MdtRecCreate,
    MdtRecLink,
    MdtRecRename,
    MdtRecSetattr,
    MdtRecSetxattr,
    MdtRecUnlink,
)
from labsim.wire.message import Message
from labsim.wire.opcodes import MDS_CLOSE, MDS_REINT

ESTALE = 116

NO_GID = 0xFFFFFFFF
"""No supplementary group goes with the request (suppgid -1)."""


class Changes(NamedTuple):
    """What a setattr changes: MDS_ATTR_* bits in `valid`, and the values they stand for."""

    valid: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    atime: int = 0
    mtime: int = 0
    ctime: int = 0


def suppgid(inode: Any, cred: Cred) -> int:
    """The inode's group where the caller belongs to it, so that the MDT may count it as his."""
    return inode.gid if inode is not None and inode.gid in cred.groups else NO_GID


class Reints:
    """The modifying requests of an Mdc; `modify` sends one, `cancels` packs early lock cancels."""

    host: Host
    clock: Any
    opens: OpenTable
    modify: Callable[..., Any]
    cancels: Callable[..., Any]

    def create(
        self, parent: Any, name: str, fid: Fid, mode: int, cred: Cred, rdev: int = 0,
        target: str | None = None, eadata: bytes = b"",
    ) -> Steps[Message]:  # fmt: skip
        """mkdir, mknod and symlink (`target`); `mode` with its type, `fid` from this client."""
        record = MdtRecCreate(
            opcode=REINT_CREATE, cap=cred.capability, fsuid=cred.uid, fsgid=cred.gid,
            suppgid1=suppgid(parent, cred), suppgid2=NO_GID, fid1=parent.fid, fid2=fid,
            time=self.clock.seconds(), rdev=rdev, mode=mode, umask=cred.umask,
        )  # fmt: skip
        fields: dict[str, Any] = {"rec_reint": record, "name": name}
        if mode & S_IFLNK == S_IFLNK and target is not None:
            fields["symtgt"] = target
        elif eadata:
            fields["eadata"] = eadata
        fields.update(self.cancels((parent.fid, MDS_INODELOCK_UPDATE)))
        return (yield from self.modify(Request(MDS_REINT, **fields)))

    def link(self, inode: Any, parent: Any, name: str, cred: Cred) -> Steps[Message]:
        """Give `inode` another name."""
        record = MdtRecLink(
            opcode=REINT_LINK, cap=cred.capability, fsuid=cred.uid, fsgid=cred.gid,
            suppgid1=suppgid(inode, cred), suppgid2=suppgid(parent, cred),
            fid1=inode.fid, fid2=parent.fid, time=self.clock.seconds(),
        )  # fmt: skip
        elc = self.cancels((parent.fid, MDS_INODELOCK_UPDATE), (inode.fid, MDS_INODELOCK_UPDATE))
        return (yield from self.modify(
            Request(MDS_REINT, rec_reint=record, name=name, **elc)
        ))  # fmt: skip

    def unlink(self, parent: Any, name: str, child: Any, rmdir: bool, cred: Cred) -> Steps[Message]:
        """Remove a name, or an empty directory."""
        mode = S_IFDIR if rmdir else 0
        record = MdtRecUnlink(
            opcode=REINT_UNLINK, cap=cred.capability, fsuid=cred.uid, fsgid=cred.gid,
            suppgid1=suppgid(parent, cred), suppgid2=NO_GID, fid1=parent.fid,
            fid2=child.fid, time=self.clock.seconds(), mode=mode,
        )  # fmt: skip
        elc = self.cancels((parent.fid, MDS_INODELOCK_UPDATE), (child.fid, MDS_INODELOCK_ELC))
        return (yield from self.modify(
            Request(MDS_REINT, rec_reint=record, name=name, **elc)
        ))  # fmt: skip

    def rename(
        self, source: Any, old: str, target: Any, new: str, child: Any, victim: Any, cred: Cred
    ) -> Steps[Message]:
        """Move `child` from directory `source` to `target`; `victim` is what it replaces."""
        record = MdtRecRename(
            opcode=REINT_RENAME, cap=cred.capability, fsuid=cred.uid, fsgid=cred.gid,
            suppgid1=suppgid(source, cred), suppgid2=suppgid(target, cred),
            fid1=source.fid, fid2=target.fid, time=self.clock.seconds(), mode=child.mode,
        )  # fmt: skip
        wanted = [(source.fid, MDS_INODELOCK_UPDATE), (target.fid, MDS_INODELOCK_UPDATE),
                  (child.fid, MDS_INODELOCK_LOOKUP)]  # fmt: skip
        if victim is not None:
            wanted.append((victim.fid, MDS_INODELOCK_ELC))
        elc = self.cancels(*wanted)
        return (yield from self.modify(
            Request(MDS_REINT, rec_reint=record, name=old, symtgt=new, **elc)
        ))  # fmt: skip

    def setattr(
        self, inode: Any, changes: Changes, cred: Cred, eadata: bytes = b""
    ) -> Steps[Message]:
        """Change attributes, or a directory's default striping (`eadata`)."""
        record = setattr_record(inode, changes, cred)
        bits = MDS_INODELOCK_UPDATE
        if changes.valid & (MDS_ATTR_MODE | MDS_ATTR_UID | MDS_ATTR_GID):
            bits |= MDS_INODELOCK_LOOKUP
        fields: dict[str, Any] = self.cancels((inode.fid, bits))
        if eadata:
            fields["eadata"] = eadata
        return (yield from self.modify(
            Request(MDS_REINT, rec_reint=record, reply_sizes=NO_ACL, **fields)
        ))  # fmt: skip

    def setxattr(
        self, inode: Any, valid: int, name: str, value: bytes, flags: int, cred: Cred
    ) -> Steps[Message]:
        """Set (OBD_MD_FLXATTR) or remove (OBD_MD_FLXATTRRM) an attribute; `flags` are XATTR_*."""
        record = MdtRecSetxattr(
            opcode=REINT_SETXATTR, cap=cred.capability, fsuid=cred.uid, fsgid=cred.gid,
            suppgid1=suppgid(inode, cred), suppgid2=NO_GID, fid=inode.fid,
            valid=valid | OBD_MD_FLCTIME, time=self.clock.seconds(), flags=flags,
        )  # fmt: skip
        fields: dict[str, Any] = self.cancels((inode.fid, MDS_INODELOCK_XATTR))
        if value:
            fields["eadata"] = value
        return (yield from self.modify(
            Request(MDS_REINT, rec_reint=record, name=name, **fields)
        ))  # fmt: skip

    def close(self, inode: Any, handle: int, wrote: bool, cred: Cred) -> Steps[Message]:
        """Give an open handle back, with the times, and the size where the file was written to.

        An MDT that restarted may not know the handle (ESTALE): then the file is closed as well.
        """
        valid = (
            MDS_ATTR_ATIME | MDS_ATTR_ATIME_SET | MDS_ATTR_MTIME | MDS_ATTR_MTIME_SET
            | MDS_ATTR_CTIME | MDS_ATTR_CTIME_SET
        )  # fmt: skip
        if wrote:
            valid |= MDS_ATTR_LSIZE | MDS_ATTR_LBLOCKS
        changes = Changes(
            valid, size=inode.size, atime=inode.atime, mtime=inode.mtime, ctime=inode.ctime
        )
        record = setattr_record(inode, changes, cred).replace(blocks=inode.blocks)
        epoch = MdtIoepoch(open_handle=self.opens.handle(handle))
        request = Request(MDS_CLOSE, mdt_epoch=epoch, rec_reint=record)
        data = self.opens.closing(handle, request)
        try:
            yield from self.host.faults.visit(points.MDC_CLOSE)
            return (yield from self.modify(request))
        except LustreError as error:
            if error.errno != ESTALE or data is None or error.reply is None:
                raise
            return error.reply
        finally:
            self.opens.closed(handle, request)


def setattr_record(inode: Any, changes: Changes, cred: Cred) -> MdtRecSetattr:
    """The record of a setattr or close (mdc_setattr_pack_rec).

    Who gives a file to another group of his names that group, so that the MDT may count it as his.
    """
    group = suppgid(inode, cred)
    if changes.valid & MDS_ATTR_GID and changes.gid in cred.groups:
        group = changes.gid
    return MdtRecSetattr(
        opcode=REINT_SETATTR, cap=cred.capability, fsuid=cred.uid, fsgid=cred.gid,
        suppgid=group, fid=inode.fid if inode is not None else NO_FID,
        valid=changes.valid, uid=changes.uid, gid=changes.gid, size=changes.size,
        mtime=changes.mtime, atime=changes.atime, ctime=changes.ctime, mode=changes.mode,
    )  # fmt: skip

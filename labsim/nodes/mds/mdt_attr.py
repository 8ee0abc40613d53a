"""mdt: telling attributes: what an mdt_body says about a file, with its layout and ACL.

Does not know who wants it: getattr, an intent or an open. Stands for mdt_pack_attr2body,
mdt_getattr_internal, mdt_getattr and mdt_getattr_name (mdt/mdt_handler.c).
"""

from __future__ import annotations

import errno
import stat
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import ROOT_FID, Fid
from labsim.base.payload import tobytes
from labsim.net.ptlrpc import Export, ServerRequest, handles
from labsim.nodes.mds import acl as acls
from labsim.nodes.mds import layout, objects
from labsim.nodes.mds.lod import Lod
from labsim.nodes.mds.mdd import Victim
from labsim.nodes.mds.mdt_locks import MdtLocks
from labsim.nodes.mds.points import MDS_GETATTR_NAME_NET, MDS_GETATTR_NET, MDS_GETATTR_PACK
from labsim.runtime.ports import Steps
from labsim.storage.osd import Attrs
from labsim.wire.constants import (
    LCK_PR,
    MDS_INODELOCK_LOOKUP,
    OBD_CONNECT_ACL,
    OBD_CONNECT_LARGE_ACL,
    OBD_MD_FLACL,
    OBD_MD_FLATIME,
    OBD_MD_FLBLOCKS,
    OBD_MD_FLCTIME,
    OBD_MD_FLDIREA,
    OBD_MD_FLEASIZE,
    OBD_MD_FLFLAGS,
    OBD_MD_FLGID,
    OBD_MD_FLID,
    OBD_MD_FLMODE,
    OBD_MD_FLMODEASIZE,
    OBD_MD_FLMTIME,
    OBD_MD_FLNLINK,
    OBD_MD_FLRDEV,
    OBD_MD_FLSIZE,
    OBD_MD_FLTYPE,
    OBD_MD_FLUID,
    OBD_MD_LINKNAME,
    OBD_MD_MEA,
)
from labsim.wire.mdt import MdtBody
from labsim.wire.message import Message
from labsim.wire.opcodes import MDS_GETATTR, MDS_GETATTR_NAME

INODE_VALID = (
    OBD_MD_FLID
    | OBD_MD_FLATIME
    | OBD_MD_FLMTIME
    | OBD_MD_FLCTIME
    | OBD_MD_FLTYPE
    | OBD_MD_FLMODE
    | OBD_MD_FLUID
    | OBD_MD_FLGID
    | OBD_MD_FLNLINK
    | OBD_MD_FLFLAGS
)
"""What every reply with attributes tells."""


MAX_MD_SIZE_OLD = 32 + 4 * 24
"""What clients always make room for: a layout of four stripes."""


def pack_attrs(fid: Fid, attrs: Attrs, has_objects: bool) -> dict[str, int | Fid]:
    """An inode's attributes as fields of an mdt_body.

    The MDT knows size and blocks of all but files with OST objects.
    """
    valid = INODE_VALID
    blocks = attrs.blocks
    if not stat.S_ISREG(attrs.mode):
        valid |= OBD_MD_FLSIZE | OBD_MD_FLBLOCKS | OBD_MD_FLRDEV
    elif not has_objects:
        valid |= OBD_MD_FLSIZE | OBD_MD_FLBLOCKS
        blocks = 0
    return {
        "fid1": fid, "valid": valid, "mode": attrs.mode, "uid": attrs.uid, "gid": attrs.gid,
        "nlink": attrs.nlink, "size": attrs.size, "blocks": blocks, "rdev": attrs.rdev,
        "atime": attrs.atime, "mtime": attrs.mtime, "ctime": attrs.ctime, "flags": attrs.flags,
    }  # fmt: skip


class MdtAttributes(MdtLocks):
    """The reading of attributes."""

    lod: Lod
    max_mdsize: int = MAX_MD_SIZE_OLD
    """The largest layout that was read since the MDT was started, in bytes; clients are told."""

    def ea(self, fid: Fid) -> bytes:
        """The layout EA of a file, b"" where it has none."""
        value = self.mdd.get(fid, layout.NAME) or b""
        self.max_mdsize = max(self.max_mdsize, len(value))
        return value

    def folder_ea(self, fid: Fid) -> bytes:
        """A directory's default layout as it is told; the root's is that of the file system."""
        value = self.ea(fid)
        if not value and fid == ROOT_FID:
            return layout.pack_user(ROOT_FID, self.lod.default())
        return value

    def describe(self, fid: Fid, attrs: Attrs | None = None) -> MdtBody:
        """The attributes of an object, without EAs."""
        attrs = attrs or self.osd.attrs(fid)
        return MdtBody(**pack_attrs(fid, attrs, bool(self.ea(fid))))

    def describe_gone(self, victim: Victim) -> MdtBody:
        """The last attributes of an object that is no more."""
        return MdtBody(**pack_attrs(victim.fid, victim.attrs, has_objects=True))

    def tell(
        self, export: Export, fid: Fid, valid: int, default_layout: bool = False
    ) -> dict[str, Any]:
        """The reply's buffers about an object: mdt_body, mdt_md and acl, as far as wanted.

        `default_layout` says that a directory is asked for its default layout.
        """
        attrs = self.osd.attrs(fid)
        ea = self.ea(fid) if stat.S_ISREG(attrs.mode) else b""
        body = pack_attrs(fid, attrs, bool(ea))
        told = int(body["valid"])
        if ea and valid & OBD_MD_FLEASIZE:
            told |= OBD_MD_FLEASIZE
        elif stat.S_ISDIR(attrs.mode) and default_layout:
            ea = self.folder_ea(fid)
            told |= OBD_MD_FLDIREA | OBD_MD_FLEASIZE if ea else 0
        else:
            ea = b""
        acl = b""
        if valid & OBD_MD_FLACL and export.granted(OBD_CONNECT_ACL):
            acl = self.acl_for(export, fid)
            told |= OBD_MD_FLACL
        if valid & OBD_MD_FLMODEASIZE:
            told |= OBD_MD_FLMODEASIZE
            body["max_mdsize"] = self.max_mdsize
        body |= {"valid": told, "eadatasize": len(ea), "aclsize": len(acl)}
        return {"mdt_body": MdtBody(**body), "mdt_md": ea, "acl": acl}

    def acl_for(self, export: Export, fid: Fid) -> bytes:
        """The access ACL; ERANGE for a client that has no room for a long one."""
        value = self.mdd.acl(fid) or b""
        if len(value) > acls.OLD_MAX_SIZE and not export.granted(OBD_CONNECT_LARGE_ACL):
            raise LustreError(errno.ERANGE, f"ACL of {len(value)} bytes")
        return value

    # ---- the requests

    @handles(MDS_GETATTR)
    def getattr(self, req: ServerRequest) -> Steps[Message]:
        """Attributes by FID, without a lock; a symlink's target with OBD_MD_LINKNAME."""
        yield from self.at(MDS_GETATTR_NET)
        yield from self.at(MDS_GETATTR_PACK)
        body = req["mdt_body"]
        self.check_exists(body.fid1)
        wants_default = bool(body.valid & OBD_MD_FLDIREA) and not body.valid & OBD_MD_MEA
        fields = self.tell(req.export, body.fid1, body.valid, wants_default)
        if body.valid & OBD_MD_LINKNAME:
            yield from self._add_target(body.fid1, body.eadatasize, fields)
        self.count(req, "getattr")
        return req.reply(**fields)

    def _add_target(self, fid: Fid, room: int, fields: dict[str, Any]) -> Steps[None]:
        """Where a symlink leads: its length counts the NUL behind it."""
        attrs = self.osd.attrs(fid)
        if not stat.S_ISLNK(attrs.mode):
            return
        target = tobytes((yield from self.osd.read(fid, 0, min(attrs.size, room)))) + b"\0"
        told = fields["mdt_body"]
        fields["mdt_md"] = target
        fields["mdt_body"] = told.replace(
            valid=told.valid | OBD_MD_LINKNAME, eadatasize=len(target)
        )

    @handles(MDS_GETATTR_NAME)
    def getattr_name(self, req: ServerRequest) -> Steps[Message]:
        """Attributes by name; without a name those of fid2."""
        yield from self.at(MDS_GETATTR_NAME_NET)
        body = req["mdt_body"]
        cred = self.cred_of_body(req, body)
        fid = body.fid2
        locks: list[Any] = []
        if req.has("name"):
            name = objects.encode_name(req["name"])
            locks = yield from self.lock_name(req, body.fid1, name, write=False)
        try:
            if locks:
                fid = self.mdd.lookup(body.fid1, name, cred)
            locks.append((yield from self.lock(req, fid, LCK_PR, MDS_INODELOCK_LOOKUP)))
            fields = self.tell(req.export, fid, body.valid)
        finally:
            self.unlock(req, locks)
        return req.reply(**fields)

"""mdt: extended attributes: get, list, all at once for the client's cache, and set.

Knows which names are whose, not how they are stored (mdd). Stands for mdt/mdt_xattr.c and
mdt_intent_getxattr.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.payload import tobytes
from labsim.net.ptlrpc import ServerRequest, handles
from labsim.nodes.mds import acl as acls
from labsim.nodes.mds import layout
from labsim.nodes.mds.cred import CAP_SYS_ADMIN, Cred
from labsim.nodes.mds.mdt_attr import MdtAttributes
from labsim.nodes.mds.points import (
    MDS_GETXATTR_NET,
    MDS_GETXATTR_PACK,
    MDS_SETXATTR,
    MDS_XATTR_REP,
)
from labsim.runtime.ports import Steps
from labsim.storage.osd import Tx
from labsim.wire.constants import (
    LCK_EX,
    LCK_PW,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_PERM,
    MDS_INODELOCK_UPDATE,
    MDS_INODELOCK_XATTR,
    OBD_CONNECT_LARGE_ACL,
    OBD_CONNECT_XATTR,
    OBD_MD_FLXATTR,
    OBD_MD_FLXATTRLS,
    OBD_MD_FLXATTRRM,
)
from labsim.wire.mdt import MdtBody
from labsim.wire.message import Message
from labsim.wire.opcodes import MDS_GETXATTR

INTERNAL = frozenset({
    "trusted.lov", "trusted.lma", "trusted.lmv", "trusted.link", "trusted.fid", "trusted.version",
    "trusted.som", "trusted.hsm", "trusted.lfsck_namespace",
})  # fmt: skip
"""Attributes that are Lustre's own: to set them succeeds and does nothing."""


class MdtXattrs(MdtAttributes):
    """The xattr operations of an MDT."""

    max_easize: ClassVar[int] = 65536
    """The longest value, and the longest list of names, in bytes (XATTR_SIZE_MAX)."""

    # ---- get

    @handles(MDS_GETXATTR)
    def getxattr(self, req: ServerRequest) -> Steps[Message]:
        """One attribute or the names; room 0 only asks for the size."""
        yield from self.at(MDS_GETXATTR_NET)
        body = req["mdt_body"]
        self.check_exists(body.fid1)
        value = self.xattr_wanted(req, body)
        yield from self.at(MDS_GETXATTR_PACK)
        self.count(req, "getxattr")
        told = MdtBody(valid=OBD_MD_FLXATTR, eadatasize=len(value))
        return req.reply(mdt_body=told, eadata=value if body.eadatasize else b"")

    def xattr_wanted(self, req: ServerRequest, body: Any) -> bytes:
        """What a getxattr or a listxattr asks for; ENODATA, EOPNOTSUPP, EINVAL."""
        wanted = body.valid & (OBD_MD_FLXATTR | OBD_MD_FLXATTRLS)
        if wanted == OBD_MD_FLXATTRLS:
            return self.xattr_names(body.fid1)
        if wanted != OBD_MD_FLXATTR or not req.has("name"):
            raise LustreError(errno.EINVAL, f"valid {body.valid:#x}")
        self.check_supported(req, req["name"])
        return self.xattr(req, body.fid1, req["name"])

    def xattr(self, req: ServerRequest, fid: Fid, name: str) -> bytes:
        """One value; a missing trusted.lov is empty, as some clients expect."""
        value = self.mdd.get(fid, name)
        if value is None:
            if name != layout.NAME:
                raise LustreError(errno.ENODATA, name)
            return b""
        self.check_acl_size(req, name, value)
        return value

    def xattr_names(self, fid: Fid) -> bytes:
        """The names, each with its NUL."""
        return b"".join(_encoded(name) + b"\0" for name in self.osd.xattrs(fid))

    def all_xattrs(self, req: ServerRequest, body: Any) -> dict[str, Any]:
        """The buffers with every name and value; ERANGE where the values exceed the room."""
        values = self.osd.xattrs(body.fid1)
        room = body.eadatasize
        if room <= 0 or room > self.max_easize or room % 4:
            raise LustreError(errno.EINVAL, f"room {room}")
        for name, value in values.items():
            self.check_acl_size(req, name, value)
        if sum(map(len, values.values())) > room:
            raise LustreError(errno.ERANGE, "the values do not fit")
        names = self.xattr_names(body.fid1)
        joined = b"".join(values.values())
        told = MdtBody(
            valid=OBD_MD_FLXATTR, eadatasize=len(names), aclsize=len(joined),
            max_mdsize=len(values),
        )  # fmt: skip
        lengths = [len(value) for value in values.values()]
        return {"mdt_body": told, "eadata": names, "eavals": joined, "eavals_lens": lengths}

    def getxattr_intent(self, req: ServerRequest) -> Steps[Message]:
        """Every attribute together with an XATTR lock.

        Where they do not fit the lock is granted all the same: the status tells, and the client
        gives the lock back.
        """
        body = req["mdt_body"]
        lock = yield from self.lock_for(req, body.fid1, _mode_of(req), MDS_INODELOCK_XATTR)
        try:
            try:
                fields, status = self.all_xattrs(req, body), 0
            except LustreError as error:
                fields, status = {"mdt_body": MdtBody()}, error.errno
            yield from self.at(MDS_XATTR_REP)
            self.count(req, "getxattr")
            return self.intent_reply(req, lock, 0, status, **fields)
        except BaseException:
            self.ldlm.release(lock)
            raise

    # ---- set

    def setxattr(self, req: ServerRequest, record: Any) -> Steps[Message]:
        """Set or remove one attribute (REINT_SETXATTR)."""
        yield from self.at(MDS_SETXATTR)
        name, value = req["name"], tobytes(req.get("eadata", b""))
        cred = self.cred_of_record(req, record)
        if len(value) > self.max_easize:
            raise LustreError(errno.ERANGE, f"a value of {len(value)} bytes")
        self.check_supported(req, name)
        if not self.may_set(req, name, value, cred):
            return req.reply(mdt_body=MdtBody())
        lock = yield from self.lock(req, record.fid, *self.xattr_lock(name))
        try:
            self.version(req, 0, record.fid)
            tx = self.begin(req, record.fid)
            self.change_xattr(tx, record, name, value, cred)
            yield from self.commit(req, tx)
        finally:
            self.unlock(req, [lock])
        self.count(req, "setxattr")
        return req.reply(mdt_body=MdtBody())

    def xattr_lock(self, name: str) -> tuple[int, int]:
        """(mode, bits) of the lock that calls back who may have the attribute cached.

        An access ACL is cached under LOOKUP and PERM, a layout default under XATTR only.
        """
        if name == layout.LUSTRE_LOV:
            return LCK_PW, MDS_INODELOCK_XATTR
        if name == acls.ACL_ACCESS:
            return LCK_EX, MDS_INODELOCK_UPDATE | MDS_INODELOCK_PERM | MDS_INODELOCK_LOOKUP
        return LCK_EX, MDS_INODELOCK_UPDATE | MDS_INODELOCK_XATTR

    def change_xattr(self, tx: Tx, record: Any, name: str, value: bytes, cred: Cred) -> None:
        """The change itself, under the lock."""
        time = self.now(record.time)
        if record.valid & OBD_MD_FLXATTRRM:
            self.mdd.del_xattr(tx, record.fid, name, cred, time)
        elif not record.valid & OBD_MD_FLXATTR:
            raise LustreError(errno.EINVAL, f"valid {record.valid:#x}")
        elif name == layout.LUSTRE_LOV:
            self.mdd.check_xattr(self.osd.attrs(record.fid), name, cred)
            self.lod.set_folder_default(tx, record.fid, value)
        else:
            self.mdd.set_xattr(tx, record.fid, name, value, record.flags, cred, time)

    def may_set(self, req: ServerRequest, name: str, value: bytes, cred: Cred) -> bool:
        """False for what is Lustre's own and stays as it is; EPERM for the trusted of others."""
        if name.startswith("trusted."):
            if not cred.can(CAP_SYS_ADMIN):
                raise LustreError(errno.EPERM, name)
            return name not in INTERNAL
        self.check_acl_size(req, name, value)
        return True

    # ---- what clients may

    def check_supported(self, req: ServerRequest, name: str) -> None:
        """EOPNOTSUPP for user attributes where the client did not negotiate them."""
        if name.startswith("user.") and not req.export.granted(OBD_CONNECT_XATTR):
            raise LustreError(errno.EOPNOTSUPP, name)

    def check_acl_size(self, req: ServerRequest, name: str, value: bytes) -> None:
        """ERANGE for an ACL that the client could not hold (mdt_nodemap_map_acl)."""
        large = req.export.granted(OBD_CONNECT_LARGE_ACL)
        if name in acls.ACL_NAMES and len(value) > acls.OLD_MAX_SIZE and not large:
            raise LustreError(errno.ERANGE, f"ACL of {len(value)} bytes")


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _mode_of(req: ServerRequest) -> int:
    mode: int = req["dlm_req"].lock_desc.req_mode
    return mode

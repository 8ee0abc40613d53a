"""mdt: setattr: attributes, a directory's default layout.

Knows locks and the record, not who may change what (mdd). Stands for mdt_reint_setattr and
mdt_attr_set (mdt/mdt_reint.c), and mdt_attr_valid_xlate (mdt/mdt_lib.c).
"""

from __future__ import annotations

import errno
import stat
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.payload import tobytes
from labsim.net.ptlrpc import ServerRequest
from labsim.nodes.mds.cred import Cred
from labsim.nodes.mds.mdd_attr import Change
from labsim.nodes.mds.mdt_reint import MdtReints
from labsim.runtime.ports import Steps
from labsim.storage.osd import Attrs
from labsim.wire.constants import (
    LCK_PW,
    MDS_ATTR_ATIME,
    MDS_ATTR_ATTR_FLAG,
    MDS_ATTR_CTIME,
    MDS_ATTR_FORCE,
    MDS_ATTR_GID,
    MDS_ATTR_KILL_SGID,
    MDS_ATTR_KILL_SUID,
    MDS_ATTR_MODE,
    MDS_ATTR_MTIME,
    MDS_ATTR_OVERRIDE,
    MDS_ATTR_SIZE,
    MDS_ATTR_UID,
    MDS_INODELOCK_PERM,
    MDS_INODELOCK_UPDATE,
    MDS_INODELOCK_XATTR,
)
from labsim.wire.message import Message

FIELDS = (
    (MDS_ATTR_MODE, "mode", "mode"),
    (MDS_ATTR_UID, "uid", "uid"),
    (MDS_ATTR_GID, "gid", "gid"),
    (MDS_ATTR_SIZE, "size", "size"),
    (MDS_ATTR_ATIME, "atime", "atime"),
    (MDS_ATTR_MTIME, "mtime", "mtime"),
    (MDS_ATTR_CTIME, "ctime", "ctime"),
    (MDS_ATTR_ATTR_FLAG, "attr_flags", "flags"),
)
"""Which bit of sa_valid makes which field of the record count, and the attribute that it is."""


def change_of(record: Any) -> Change:
    """What a setattr's record asks for."""
    valid = record.valid
    return Change(
        {attribute: getattr(record, field) for bit, field, attribute in FIELDS if valid & bit},
        kill_suid=bool(valid & MDS_ATTR_KILL_SUID),
        kill_sgid=bool(valid & MDS_ATTR_KILL_SGID),
        bypass=bool(valid & MDS_ATTR_FORCE),
        opened=bool(valid & MDS_ATTR_OVERRIDE),
    )


VERSIONED = frozenset({"mode", "uid", "gid", "flags"})
"""What others may depend on; times and sizes are set without a look at versions (mdt_attr_set)."""


class MdtSetattr(MdtReints):
    """REINT_SETATTR."""

    def setattr(self, req: ServerRequest, record: Any) -> Steps[Message]:
        """Change attributes, and a directory's default layout where one comes along."""
        cred = self.cred_of_record(req, record)
        if record.valid:
            yield from self.set_attrs(req, record.fid, change_of(record), cred)
        if req.has("eadata"):
            yield from self.set_default_layout(req, record.fid, tobytes(req["eadata"]), cred)
        self.count(req, "setattr")
        return req.reply(mdt_body=self.describe(record.fid))

    def set_attrs(self, req: ServerRequest, fid: Fid, change: Change, cred: Cred) -> Steps[None]:
        """Call back who has the attributes cached, then change them."""
        lock = yield from self.lock(req, fid, LCK_PW, self.setattr_bits(change))
        try:
            attrs = self.osd.attrs(fid)
            if "size" in change.fields and self._sized_elsewhere(fid, attrs):
                change = change._replace(fields=_without(change.fields, "size"))
            versioned = bool(change.fields.keys() & VERSIONED)
            if versioned:
                self.version(req, 0, fid)
            tx = self.begin(req, fid if versioned else None)
            stored = self.mdd.set_attrs(tx, fid, change, cred)
            sync = self.mdd.sync_permission and needs_sync(attrs, stored)
            yield from self.commit(req, tx, sync)
        finally:
            self.unlock(req, [lock])

    def setattr_bits(self, change: Change) -> int:
        """What clients may have cached of what changes."""
        if change.fields.keys() & {"mode", "uid", "gid"}:
            return MDS_INODELOCK_UPDATE | MDS_INODELOCK_PERM
        return MDS_INODELOCK_UPDATE

    def _sized_elsewhere(self, fid: Fid, attrs: Attrs) -> bool:
        """The size of a file with objects is theirs; only regular files are truncated."""
        if stat.S_ISDIR(attrs.mode):
            raise LustreError(errno.EISDIR, f"{fid}")
        return bool(self.ea(fid))

    def set_default_layout(
        self, req: ServerRequest, fid: Fid, asked: bytes, cred: Cred
    ) -> Steps[None]:
        """Do setstripe on a directory."""
        lock = yield from self.lock(req, fid, LCK_PW, MDS_INODELOCK_XATTR)
        try:
            attrs = self.osd.attrs(fid)
            if not stat.S_ISDIR(attrs.mode):
                raise LustreError(errno.EINVAL, f"{fid} is no directory")
            self.mdd.check_xattr(attrs, "trusted.lov", cred)
            self.version(req, 0, fid)
            tx = self.begin(req, fid)
            self.lod.set_folder_default(tx, fid, asked)
            yield from self.commit(req, tx)
        finally:
            self.unlock(req, [lock])


def needs_sync(attrs: Attrs, stored: dict[str, int]) -> bool:
    """Does the change take rights away, so that a crash must not give them back?"""
    if stored.keys() & {"uid", "gid"}:
        return True
    mode = stored.get("mode", attrs.mode)
    return bool(attrs.mode & ~mode & 0o7777 or mode & ~attrs.mode & stat.S_ISVTX)


def _without(fields: dict[str, int], name: str) -> dict[str, int]:
    return {key: value for key, value in fields.items() if key != name}

"""mdd: attributes and extended attributes, and who may change them.

Does not know requests or locks. Stands for mdd_attr_set with mdd_fix_attr, mdd_xattr_set with
mdd_acl_set (mdd/mdd_object.c), and ACL handling of mdd_acl.c.
"""

from __future__ import annotations

import errno
import stat
from typing import Any, NamedTuple

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.params import Param
from labsim.nodes.mds import acl as acls
from labsim.nodes.mds import cred as creds
from labsim.nodes.mds.cred import (
    APPEND_FL,
    CAP_CHOWN,
    CAP_FSETID,
    CAP_LINUX_IMMUTABLE,
    IMMUTABLE_FL,
    MAY_WRITE,
    Cred,
)
from labsim.storage.osd import Attrs, Tx

XATTR_CREATE, XATTR_REPLACE = 1, 2
"""setxattr(2)'s flags."""
ALL_PERMS = 0o7777
TIMES = frozenset({"atime", "mtime", "ctime"})
_FROZEN = IMMUTABLE_FL | APPEND_FL


class Change(NamedTuple):
    """What a setattr wants: fields by name, and the marks that came with them."""

    fields: dict[str, int]
    kill_suid: bool = False
    kill_sgid: bool = False
    bypass: bool = False
    """The checks have been made (MDS_PERM_BYPASS)."""
    opened: bool = False
    """The owner may change the size whatever the mode says: he has it open (OWNEROVERRIDE)."""


class MddAttributes:
    """The attribute half of `Mdd`."""

    atime_diff = Param.seconds(60, help="an access time is stored if it is this much newer")
    sync_permission = Param.flag(
        True, help="commit changes of owner, group and mode before they are answered"
    )

    def __init__(self, osd: Any, lod: Any) -> None:
        self.osd = osd
        self.lod = lod

    # ---- reading

    def get(self, fid: Fid, name: str) -> bytes | None:
        """An extended attribute, None where there is none."""
        try:
            value: bytes = self.osd.xattr(fid, name)
        except LustreError as error:
            if error.errno != errno.ENODATA:
                raise
            return None
        return value

    def acl(self, fid: Fid) -> bytes | None:
        """The access ACL's xattr."""
        return self.get(fid, acls.ACL_ACCESS)

    def require(self, fid: Fid, cred: Cred, want: int) -> None:
        """EACCES unless `cred` may do `want` (MAY_*) to `fid`."""
        creds.require(self.osd.attrs(fid), self.acl(fid), cred, want)

    # ---- attributes

    def set_attrs(self, tx: Tx, fid: Fid, change: Change, cred: Cred) -> dict[str, int]:
        """Change attributes as far as `cred` may; returns what is stored (may be nothing).

        EPERM, EACCES; see `_fix` for what a change of owner takes with it.
        """
        attrs = self.osd.attrs(fid)
        fields = self._fix(fid, attrs, change, cred)
        fields = self.worth_storing(attrs, fields)
        if "mode" in fields:
            self._acl_after_chmod(tx, fid, fields["mode"])
        if fields:
            tx.set_attrs(fid, **fields)
        return fields

    def worth_storing(self, attrs: Attrs, fields: dict[str, int]) -> dict[str, int]:
        """Drop a ctime that goes back, and an access time that is hardly newer."""
        alone = set(fields) == {"ctime"}
        if alone and fields["ctime"] <= attrs.ctime:
            return {}
        if set(fields) == {"atime"} and fields["atime"] <= attrs.atime + self.atime_diff:
            return {}
        return fields

    def _fix(self, fid: Fid, attrs: Attrs, change: Change, cred: Cred) -> dict[str, int]:
        """Check the change, and complete it: setuid and setgid bits go with their owner."""
        fields = dict(change.fields)
        self._check_frozen(attrs, fields, cred)
        dates = not change.bypass and TIMES.issuperset(fields) and set(fields) - {"ctime"}
        if dates and not cred.owns(attrs):
            self.require(fid, cred, MAY_WRITE)
        if change.kill_suid and attrs.mode & stat.S_ISUID:
            fields["mode"] = fields.get("mode", attrs.mode) & ~stat.S_ISUID
        if change.kill_sgid and _runs_as_group(attrs.mode):
            fields["mode"] = fields.get("mode", attrs.mode) & ~stat.S_ISGID
        if "mode" in fields:
            self._fix_mode(attrs, fields, change, cred)
        self._fix_owner(attrs, fields, cred)
        owner = change.opened and cred.uid == attrs.uid
        if "size" in fields and not change.bypass and not owner:
            self.require(fid, cred, MAY_WRITE)
        return fields

    @staticmethod
    def _check_frozen(attrs: Attrs, fields: dict[str, int], cred: Cred) -> None:
        """The immutable and append-only flags of chattr, and who may set them."""
        if "flags" in fields:
            if not cred.owns(attrs):
                raise LustreError(errno.EPERM, "not the owner")
            touched = (attrs.flags ^ fields["flags"]) & _FROZEN
            if touched and not cred.can(CAP_LINUX_IMMUTABLE):
                raise LustreError(errno.EPERM, "may not freeze files")
        elif attrs.flags & _FROZEN and set(fields) - TIMES:
            raise LustreError(errno.EPERM, "the file is immutable or append-only")

    @staticmethod
    def _fix_mode(attrs: Attrs, fields: dict[str, int], change: Change, cred: Cred) -> None:
        marked = change.kill_suid or change.kill_sgid or change.bypass
        if not marked and not cred.owns(attrs):
            raise LustreError(errno.EPERM, "not the owner")
        mode = fields["mode"] & ALL_PERMS | attrs.mode & ~ALL_PERMS
        if not cred.in_group(fields.get("gid", attrs.gid)) and not cred.can(CAP_FSETID):
            mode &= ~stat.S_ISGID
        fields["mode"] = mode

    @staticmethod
    def _fix_owner(attrs: Attrs, fields: dict[str, int], cred: Cred) -> None:
        """Check a chown or chgrp: who may, and that setuid and setgid do not survive them."""
        uid, gid = fields.get("uid"), fields.get("gid")
        if uid is None and gid is None:
            return
        mode = fields.get("mode", attrs.mode)
        if uid is not None:
            if (cred.uid != attrs.uid or uid != attrs.uid) and not cred.can(CAP_CHOWN):
                raise LustreError(errno.EPERM, "may not give files away")
            if not stat.S_ISDIR(attrs.mode) and attrs.mode & stat.S_ISUID:
                mode &= ~stat.S_ISUID
        if gid is not None:
            own = cred.uid == attrs.uid and (gid == attrs.gid or cred.in_group(gid))
            if not own and not cred.can(CAP_CHOWN):
                raise LustreError(errno.EPERM, "may not change the group")
            if not stat.S_ISDIR(attrs.mode) and _runs_as_group(attrs.mode):
                mode &= ~stat.S_ISGID
        if mode != fields.get("mode", attrs.mode):
            fields["mode"] = mode

    def _acl_after_chmod(self, tx: Tx, fid: Fid, mode: int) -> None:
        value = self.acl(fid)
        entries = acls.parse(value) if value else ()
        if entries:
            tx.set_xattr(fid, acls.ACL_ACCESS, acls.pack(acls.after_chmod(entries, mode)))

    # ---- extended attributes

    def set_xattr(
        self, tx: Tx, fid: Fid, name: str, value: bytes, flags: int, cred: Cred, time: int
    ) -> None:
        """Set one; EEXIST and ENODATA by the flags, EPERM, and for ACLs EINVAL or EACCES."""
        attrs = self.osd.attrs(fid)
        self.check_xattr(attrs, name, cred)
        if name in acls.ACL_NAMES:
            self._set_acl(tx, fid, name, value, attrs)
        else:
            self._check_flags(fid, name, flags)
            tx.set_xattr(fid, name, value)
        self._new_ctime(tx, fid, attrs, time)

    def del_xattr(self, tx: Tx, fid: Fid, name: str, cred: Cred, time: int) -> None:
        """Remove one; ENODATA where there is none, but for an ACL that is no failure."""
        attrs = self.osd.attrs(fid)
        self.check_xattr(attrs, name, cred)
        if self.get(fid, name) is None:
            if name in acls.ACL_NAMES:
                return
            raise LustreError(errno.ENODATA, name)
        tx.del_xattr(fid, name)
        self._new_ctime(tx, fid, attrs, time)

    def check_xattr(self, attrs: Attrs, name: str, cred: Cred) -> None:
        """EPERM unless `cred` may change this attribute of a file with those attributes."""
        if attrs.flags & _FROZEN:
            raise LustreError(errno.EPERM, "the file is immutable or append-only")
        if not name.startswith("user."):
            if not cred.owns(attrs):
                raise LustreError(errno.EPERM, "not the owner")
        elif stat.S_ISDIR(attrs.mode) and attrs.mode & stat.S_ISVTX and not cred.owns(attrs):
            raise LustreError(errno.EPERM, "not the owner of a sticky directory")

    def _check_flags(self, fid: Fid, name: str, flags: int) -> None:
        present = self.get(fid, name) is not None
        if flags & XATTR_CREATE and present:
            raise LustreError(errno.EEXIST, name)
        if flags & XATTR_REPLACE and not present:
            raise LustreError(errno.ENODATA, name)

    def _set_acl(self, tx: Tx, fid: Fid, name: str, value: bytes, attrs: Attrs) -> None:
        """Store an ACL; one without entries, or that the mode says as well, is removed instead."""
        entries = acls.parse(value) if value else ()
        if entries:
            acls.check(entries)
        if name == acls.ACL_DEFAULT:
            if not stat.S_ISDIR(attrs.mode):
                raise LustreError(errno.EACCES, "a default ACL is for directories")
            keep = bool(entries)
        else:
            mode, plain = acls.equivalent_mode(entries, attrs.mode) if entries else (0, True)
            keep = not plain
            if entries and mode != attrs.mode:
                tx.set_attrs(fid, mode=mode)
        if keep:
            tx.set_xattr(fid, name, value)
        elif self.get(fid, name) is not None:
            tx.del_xattr(fid, name)

    @staticmethod
    def _new_ctime(tx: Tx, fid: Fid, attrs: Attrs, time: int) -> None:
        if time > attrs.ctime:
            tx.set_attrs(fid, ctime=time)


def _runs_as_group(mode: int) -> bool:
    """Setgid with group execute; without, it marks mandatory locking and stays."""
    return mode & (stat.S_ISGID | stat.S_IXGRP) == stat.S_ISGID | stat.S_IXGRP

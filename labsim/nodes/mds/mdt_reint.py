"""mdt: operations that change the namespace: create, link, unlink; and which method does which.

Knows locks and transactions; the rules are mdd's. Stands for mdt/mdt_reint.c. Setting attributes is
in `mdt_setattr`, renaming in `mdt_rename`, attributes by name in `mdt_xattr`.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Mapping
from typing import Any, ClassVar

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.net.ptlrpc import ServerRequest, handles
from labsim.nodes.mds import objects
from labsim.nodes.mds.mdd import New, Victim
from labsim.nodes.mds.mdt_intent import MdtIntents
from labsim.nodes.mds.opens import OpenFiles
from labsim.nodes.mds.points import (
    MDS_REINT_CREATE,
    MDS_REINT_DELAY,
    MDS_REINT_LINK,
    MDS_REINT_NET,
    MDS_REINT_NET_REP,
    MDS_REINT_UNLINK,
    MDS_REINT_UNPACK,
)
from labsim.runtime.ports import Steps
from labsim.storage.osd import Tx
from labsim.wire.constants import (
    LCK_EX,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_UPDATE,
    MDS_INODELOCK_XATTR,
    REINT_CREATE,
    REINT_LINK,
    REINT_RENAME,
    REINT_SETATTR,
    REINT_SETXATTR,
    REINT_UNLINK,
)
from labsim.wire.mdt import MdtBody
from labsim.wire.message import Message
from labsim.wire.opcodes import MDS_REINT

LINK_BITS = MDS_INODELOCK_UPDATE | MDS_INODELOCK_XATTR
"""What a new name changes of a file: its link count and ctime, and trusted.link."""
UNLINK_BITS = MDS_INODELOCK_LOOKUP | MDS_INODELOCK_UPDATE
"""What losing a name changes: nobody may find it there any more, and the attributes."""

INODE_TYPES = frozenset(
    (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO,
     stat.S_IFSOCK)
)  # fmt: skip


SYMLINK_MAX = 4096
"""ddp_symlink_max: a target and its NUL fill a block at most."""


class MdtReints(MdtIntents):
    """The MDS_REINT operations."""

    opens: OpenFiles

    reints: ClassVar[Mapping[int, str]] = {
        REINT_SETATTR: "setattr",
        REINT_CREATE: "create",
        REINT_LINK: "link",
        REINT_UNLINK: "unlink",
        REINT_RENAME: "rename",
        REINT_SETXATTR: "setxattr",
    }
    """Which method does a reint; each takes the request and its record."""

    @handles(MDS_REINT)
    def reint(self, req: ServerRequest) -> Steps[Message]:
        """Change something; EOPNOTSUPP for what this MDT does not do."""
        yield from self.at(MDS_REINT_NET)
        yield from self.at(MDS_REINT_UNPACK)
        yield from self.at(MDS_REINT_DELAY)
        record = req["rec_reint"]
        method = self.reints.get(record.opcode)
        if method is None:
            raise LustreError(errno.EOPNOTSUPP, f"reint {record.opcode}")
        self.cancel_early(req)
        self.check_writable(req)
        if self.saved(req) is not None:
            reply = self.reconstructed(req, record)
        else:
            reply = yield from getattr(self, method)(req, record)
        return (yield from self.answer(reply, MDS_REINT_NET_REP))

    def reconstructed(self, req: ServerRequest, record: Any) -> Message:
        """The reply to what was done already (mdt_reconstruct): attributes as they are now.

        Only of what was made or changed; of other operations the status is all there is.
        """
        fid = {REINT_CREATE: "fid2", REINT_SETATTR: "fid"}.get(record.opcode)
        if fid is None or not self.osd.exists(getattr(record, fid)):
            return req.reply(mdt_body=MdtBody())
        return req.reply(mdt_body=self.describe(getattr(record, fid)))

    # ---- create

    def create(self, req: ServerRequest, record: Any) -> Steps[Message]:
        """Do mkdir, mknod, symlink (mdt_create)."""
        yield from self.at(MDS_REINT_CREATE)
        name = objects.encode_name(req["name"])
        cred = self.cred_of_record(req, record)
        new = self.new_object(req, record)
        locks = yield from self.lock_name(req, record.fid1, name, write=True)
        try:
            self.version(req, 0, record.fid1)
            self.name_version(req, 1, record.fid1, name)
            self.version(req, 2, new.fid)
            tx = self.begin(req, new.fid)
            self.mdd.create(tx, record.fid1, name, new, cred)
            self.add_security_context(tx, req, new.fid)
            if stat.S_ISDIR(new.mode):
                self.lod.inherit(tx, record.fid1, new.fid)
            yield from self.commit(req, tx)
        finally:
            self.unlock(req, locks)
        self.count(req, "mkdir" if stat.S_ISDIR(new.mode) else "mknod")
        return req.reply(mdt_body=self.describe(new.fid))

    def new_object(self, req: ServerRequest, record: Any) -> New:
        """What a create's record asks for; EINVAL for a type that no inode has, ENAMETOOLONG.

        A mode has the 16 bits of an inode's (mdd_create_sanity_check, i_mode).
        """
        target, mode = b"", record.mode & 0xFFFF
        if stat.S_IFMT(mode) not in INODE_TYPES:
            raise LustreError(errno.EINVAL, f"a mode of {record.mode:#o}")
        if stat.S_ISLNK(mode):
            target = objects.encode_name(req.get("symtgt", ""))
            if not target:
                raise LustreError(errno.EINVAL, "a symlink to nowhere")
            if len(target) >= SYMLINK_MAX:
                raise LustreError(errno.ENAMETOOLONG, f"a target of {len(target)} bytes")
        rdev = record.rdev & 0xFFFFFFFF  # lu_attr.la_rdev, where cr_rdev ends, has 32 bits
        return New(record.fid2, mode, self.now(record.time), record.umask, rdev, target)

    def add_security_context(self, tx: Tx, req: ServerRequest, fid: Fid) -> None:
        """A label that the client's security module wants on what it creates."""
        if req.has("file_secctx_name"):
            value = bytes(req.get("file_secctx", b""))
            tx.set_xattr(fid, req["file_secctx_name"], value)

    # ---- link

    def link(self, req: ServerRequest, record: Any) -> Steps[Message]:
        """Give fid1 a name in fid2."""
        yield from self.at(MDS_REINT_LINK)
        fid, parent = record.fid1, record.fid2
        if fid == parent or not (objects.is_client_fid(fid) and objects.is_client_fid(parent)):
            raise LustreError(errno.EPERM, f"link of {fid} in {parent}")
        self.version(req, 0, parent)
        self.check_exists(fid)
        if stat.S_ISDIR(self.osd.attrs(fid).mode):
            raise LustreError(errno.EPERM, f"a second name for directory {fid}")
        name = objects.encode_name(req["name"])
        locks = yield from self.lock_name(req, parent, name, write=True)
        try:
            locks.append((yield from self.lock(req, fid, LCK_EX, LINK_BITS)))
            self.version(req, 1, fid)
            self.name_version(req, 2, parent, name)
            tx = self.begin(req, fid)
            cred = self.cred_of_record(req, record)
            self.mdd.link(tx, parent, name, fid, cred, self.now(record.time))
            yield from self.commit(req, tx)
        finally:
            self.unlock(req, locks)
        self.count(req, "link")
        return req.reply(mdt_body=MdtBody())

    # ---- unlink

    def unlink(self, req: ServerRequest, record: Any) -> Steps[Message]:
        """Do unlink or rmdir, as the mode says; the reply tells what is left of the object.

        EINVAL for "." and "..", which no client's Linux lets through: the lock of the one would
        wait for the lock of its directory, which is the same; the other is above it.
        """
        yield from self.at(MDS_REINT_UNLINK)
        name = objects.encode_name(req["name"])
        if name in (b".", b".."):
            raise LustreError(errno.EINVAL, f"a directory's own {name!r}")
        self.version(req, 0, record.fid1)
        locks = yield from self.lock_name(req, record.fid1, name, write=True)
        try:
            self.name_version(req, 1, record.fid1, name)
            fid = self.mdd.lookup(record.fid1, name, self.cred_of_record(req, record))
            locks.append((yield from self.lock(req, fid, LCK_EX, UNLINK_BITS)))
            victim = yield from self._unlink(req, record, name, fid)
        finally:
            self.unlock(req, locks)
        self.count(req, "rmdir" if stat.S_ISDIR(record.mode) else "unlink")
        return req.reply(**self.tell_victim(victim))

    def _unlink(self, req: ServerRequest, record: Any, name: bytes, fid: Fid) -> Steps[Victim]:
        self.version(req, 1, fid)
        tx = self.begin(req, fid)
        victim = self.mdd.unlink(
            tx, record.fid1, name, fid, self.cred_of_record(req, record), self.now(record.time),
            folder=stat.S_ISDIR(record.mode), open_=self.maybe_open(fid),
        )  # fmt: skip
        yield from self.commit(req, tx)
        return victim

    def maybe_open(self, fid: Fid) -> bool:
        """Has anybody the file open, or may still say so while clients recover?"""
        return self.recovering or self.opens.is_open(fid)

    def tell_victim(self, victim: Victim | None) -> dict[str, Any]:
        """The reply's buffers about an object that has lost a name (mdt_handle_last_unlink)."""
        if victim is None:
            return {"mdt_body": MdtBody()}
        if victim.last:
            return {"mdt_body": self.describe_gone(victim)}
        return {"mdt_body": self.describe(victim.fid)}

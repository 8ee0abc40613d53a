"""mdt: open, with or without creating, as the intent of an enqueue.

Knows the stages of an open and what is told of each (the disposition). Stands for mdt_reint_open,
mdt_finish_open and mdt_object_open_lock (mdt/mdt_open.c).
"""

from __future__ import annotations

import errno
import stat
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import NO_FID, Fid
from labsim.base.payload import tobytes
from labsim.ldlm.server_lock import ServerLock
from labsim.net.ptlrpc import ServerRequest
from labsim.nodes.mds import layout, objects
from labsim.nodes.mds.cred import APPEND_FL, MAY_EXEC, MAY_READ, MAY_WRITE, Cred
from labsim.nodes.mds.lod import Allocation
from labsim.nodes.mds.mdt_rename import MdtRename
from labsim.nodes.mds.opens import OpenFile
from labsim.nodes.mds.points import MDS_LL_BLOCK, MDS_OPEN_PACK, MDS_PAUSE_OPEN
from labsim.runtime.ports import Steps
from labsim.storage.osd import Attrs
from labsim.wire.constants import (
    DISP_IT_EXECD,
    DISP_LOOKUP_EXECD,
    DISP_LOOKUP_NEG,
    DISP_LOOKUP_POS,
    DISP_OPEN_CREATE,
    DISP_OPEN_LOCK,
    DISP_OPEN_OPEN,
    DISP_OPEN_STRIPE,
    LCK_CR,
    LCK_CW,
    LCK_EX,
    LCK_PR,
    MDS_FMODE_EXEC,
    MDS_FMODE_READ,
    MDS_FMODE_WRITE,
    MDS_INODELOCK_LAYOUT,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_OPEN,
    MDS_INODELOCK_PERM,
    MDS_INODELOCK_UPDATE,
    MDS_OPEN_APPEND,
    MDS_OPEN_BY_FID,
    MDS_OPEN_CREAT,
    MDS_OPEN_DELAY_CREATE,
    MDS_OPEN_DIRECTORY,
    MDS_OPEN_EXCL,
    MDS_OPEN_HAS_EA,
    MDS_OPEN_LOCK,
    MDS_OPEN_OWNEROVERRIDE,
    MDS_OPEN_TRUNC,
    OBD_CONNECT_DISP_STRIPE,
    OBD_CONNECT_LAYOUTLOCK,
    OBD_CONNECT_NODEVOH,
    OBD_MD_FLACL,
    OBD_MD_FLEASIZE,
    OBD_MD_FLMODEASIZE,
)
from labsim.wire.mdt import MdtBody, MdtRecCreate
from labsim.wire.message import Message

TOLD = OBD_MD_FLEASIZE | OBD_MD_FLACL | OBD_MD_FLMODEASIZE
"""What the reply to an open tells besides attributes."""


class Opening:
    """One open on its way: what is asked for, how far it came, what to tell."""

    def __init__(self, req: ServerRequest, record: Any, cred: Cred) -> None:
        self.req = req
        self.record = record
        self.cred = cred
        self.flags: int = record.flags_l | record.flags_h << 32
        self.parent: Fid = record.fid1
        self.name = objects.encode_name(req.get("name", ""))
        self.fid: Fid = NO_FID
        self.created = False
        self.disposition = DISP_IT_EXECD | DISP_LOOKUP_EXECD
        self.lock: ServerLock | None = None
        self.fields: dict[str, Any] = {"mdt_body": MdtBody()}

    def has(self, flag: int) -> bool:
        """Was it opened with that flag (MDS_FMODE_*, MDS_OPEN_*)?"""
        return bool(self.flags & flag)

    @property
    def asked(self) -> bytes | None:
        """The layout that the opener wants, if he said so."""
        return tobytes(self.req["eadata"]) if self.has(MDS_OPEN_HAS_EA) else None

    @property
    def layout(self) -> bytes:
        """The layout that the file had, objects and all, where a replay brings it back."""
        if not self.req.replay or not self.req.has("eadata"):
            return b""
        value = tobytes(self.req["eadata"])
        return value if layout.has_objects(value) else b""

    @property
    def wants_objects(self) -> bool:
        """Must the file have OST objects from now on? (md_should_create)"""
        return self.has(MDS_FMODE_WRITE) and not self.has(MDS_OPEN_DELAY_CREATE)


class MdtOpen(MdtRename):
    """IT_OPEN."""

    def open_intent(self, req: ServerRequest) -> Steps[Message]:
        """Open; whatever fails is told in the reply with how far it came, and without a lock."""
        yield from self.at(MDS_PAUSE_OPEN)
        yield from self.at(MDS_OPEN_PACK)
        record = req["rec_reint"]
        if not isinstance(record, MdtRecCreate):
            raise LustreError(errno.EPROTO, f"an open with a record of reint {record.opcode}")
        opening = Opening(req, record, self.cred_of_record(req, record))
        try:
            if not (yield from self._open_again(opening)):
                yield from self._open(opening)
        except LustreError as error:
            return self._not_opened(opening, error.errno)
        except BaseException:
            self._drop_lock(opening)
            raise
        self.count(req, "open")
        lock, disposition = opening.lock, opening.disposition
        return self.intent_reply(req, lock, disposition, **opening.fields)

    def _not_opened(self, opening: Opening, status: int) -> Message:
        """An absent name is no failure of a lookup: the disposition says it all."""
        self._drop_lock(opening)
        disposition = opening.disposition & ~DISP_OPEN_LOCK
        absent = disposition & DISP_LOOKUP_NEG and not disposition & DISP_OPEN_CREATE
        if status == errno.ENOENT and absent:
            status = 0
        opening.req.transno = 0
        return self.intent_reply(opening.req, None, disposition, status, **opening.fields)

    def _drop_lock(self, opening: Opening) -> None:
        if opening.lock is not None:
            self.ldlm.release(opening.lock)
            opening.lock = None

    def _open(self, opening: Opening) -> Steps[None]:
        if opening.has(MDS_OPEN_HAS_EA) and not opening.req.has("eadata"):
            raise LustreError(errno.EINVAL, "a layout was announced and is not there")
        if opening.has(MDS_FMODE_WRITE):
            self.check_writable(opening.req)
        if opening.has(MDS_OPEN_BY_FID) or not opening.name:
            opening.fid = opening.record.fid2
            if not self.osd.exists(opening.fid):
                opening.disposition |= DISP_LOOKUP_NEG
                raise LustreError(errno.ENOENT, f"{opening.fid}")
            opening.disposition |= DISP_LOOKUP_POS
            yield from self._open_found(opening)
        else:
            yield from self._open_name(opening)

    # ---- again

    def _open_again(self, opening: Opening) -> Steps[bool]:
        """Open what this request has made before, or opened before a restart.

        False where it must be done as if for the first time (mdt_reconstruct_open,
        mdt_open_by_fid).
        """
        req, fid = opening.req, opening.record.fid2
        if req.replay:
            return (yield from self._replay_open(opening, fid))
        saved = self.saved(req)
        if saved is None:
            return False
        opening.disposition |= saved.data
        if not saved.data & DISP_OPEN_CREATE or not self.osd.exists(fid):
            return False
        opening.fid, opening.created = fid, True
        yield from self._open_found(opening)
        return True

    def _replay_open(self, opening: Opening, fid: Fid) -> Steps[bool]:
        """Open an object by its FID without asking again whether that is allowed; no lock."""
        if not self.osd.exists(fid):
            if not opening.has(MDS_OPEN_CREAT):
                raise LustreError(errno.EFAULT, f"{fid} is gone, and nobody says to make it")
            return False
        opening.fid = fid
        opening.disposition |= DISP_LOOKUP_POS
        if opening.layout and not self.ea(fid):
            yield from self._adopt_layout(opening)
        self._tell(opening)
        yield from self._hold(opening)
        return True

    def _adopt_layout(self, opening: Opening) -> Steps[None]:
        """The file has the objects that it had before the restart; its opener knows them."""
        tx = self.begin(opening.req, opening.fid)
        self.lod.adopt(tx, opening.fid, opening.layout)
        yield from self.commit(opening.req, tx)

    # ---- by name

    def _open_name(self, opening: Opening) -> Steps[None]:
        """Lock the name (to change it only where it must be made), then open or create."""
        locks: list[ServerLock] = []
        try:
            locks = yield from self._lock_to_open(opening)
            found = self._lookup(opening)
            if found is None:
                opening.disposition |= DISP_LOOKUP_NEG
                if not opening.has(MDS_OPEN_CREAT):
                    raise LustreError(errno.ENOENT, "no such name")
                yield from self._create(opening)
            else:
                opening.fid = found
                opening.disposition |= DISP_LOOKUP_POS
            yield from self._open_found(opening)
        finally:
            self.unlock(opening.req, locks)

    def _lock_to_open(self, opening: Opening) -> Steps[list[ServerLock]]:
        create = opening.has(MDS_OPEN_CREAT)
        if create:
            self.check_exists(opening.parent)
            create = self.mdd.find(opening.parent, opening.name) is None
        locks = yield from self.lock_name(opening.req, opening.parent, opening.name, write=create)
        gone = not create and self.mdd.find(opening.parent, opening.name) is None
        if gone and opening.has(MDS_OPEN_CREAT):
            self.unlock(opening.req, locks)
            locks = yield from self.lock_name(opening.req, opening.parent, opening.name, write=True)
        return locks

    def _lookup(self, opening: Opening) -> Fid | None:
        try:
            return self.mdd.lookup(opening.parent, opening.name, opening.cred)
        except LustreError as error:
            if error.errno != errno.ENOENT:
                raise
            return None

    def _create(self, opening: Opening) -> Steps[None]:
        """Make the file, with its objects if it is going to be written."""
        self.check_writable(opening.req)
        self.mdd.may_create(opening.parent, opening.name, opening.cred)
        new = self.new_object(opening.req, opening.record)
        allocation = None
        opening.disposition |= DISP_OPEN_CREATE
        opening.req.opdata = opening.disposition
        if opening.wants_objects and not opening.req.replay:
            wish = self.lod.wanted(opening.parent, opening.asked)
            allocation = yield from self.lod.allocate(new.fid, wish)
        self.version(opening.req, 0, opening.parent)
        self.version(opening.req, 1, new.fid)
        tx = self.begin(opening.req, new.fid)
        try:
            self.mdd.create(tx, opening.parent, opening.name, new, opening.cred)
            self.add_security_context(tx, opening.req, new.fid)
            if allocation is not None:
                self.lod.assign(tx, allocation)
            elif opening.layout:
                self.lod.adopt(tx, new.fid, opening.layout)
            yield from self.commit(opening.req, tx)
        except LustreError:
            if allocation is not None:
                self.lod.give_back(allocation.stripes)
            raise
        opening.fid = new.fid
        opening.created = True
        self.count(opening.req, "mknod")

    # ---- an object that is there

    def _open_found(self, opening: Opening) -> Steps[None]:
        """Lock it for the client as far as that goes, check, and open it."""
        attrs = self.osd.attrs(opening.fid)
        self._check_type(opening, attrs)
        yield from self._take_open_lock(opening, attrs)
        attrs = self.osd.attrs(opening.fid)
        self._tell(opening)
        if not self.opens_at_all(opening, attrs):
            opening.req.transno = 0
            return
        self.check_open(opening, attrs)
        bare = stat.S_ISREG(attrs.mode) and opening.wants_objects and not self.ea(opening.fid)
        if bare and not opening.req.replay:
            yield from self._make_layout(opening)
            self._tell(opening)
        yield from self._hold(opening)

    def _check_type(self, opening: Opening, attrs: Attrs) -> None:
        """What cannot be opened like that at all."""
        if opening.has(MDS_OPEN_HAS_EA) and not opening.created and self.ea(opening.fid):
            raise LustreError(errno.EEXIST, f"{opening.fid} has a layout")
        if opening.has(MDS_OPEN_DIRECTORY) and stat.S_ISREG(attrs.mode):
            raise LustreError(errno.ENOTDIR, f"{opening.fid}")

    def _tell(self, opening: Opening) -> None:
        opening.fields = self.tell(opening.req.export, opening.fid, TOLD)

    def opens_at_all(self, opening: Opening, attrs: Attrs) -> bool:
        """Not symlinks, nor devices if the client wants to open them itself."""
        if stat.S_ISLNK(attrs.mode):
            return False
        if stat.S_ISREG(attrs.mode) or stat.S_ISDIR(attrs.mode):
            return True
        return not opening.req.export.granted(OBD_CONNECT_NODEVOH)

    def check_open(self, opening: Opening, attrs: Attrs) -> None:
        """EEXIST, EISDIR, ENOTDIR, ENOENT, EACCES, EPERM: may it be opened like that?"""
        folder = stat.S_ISDIR(attrs.mode)
        exclusive = MDS_OPEN_EXCL | MDS_OPEN_CREAT
        if not opening.created and opening.flags & exclusive == exclusive:
            raise LustreError(errno.EEXIST, f"{opening.fid}")
        if folder and opening.has(MDS_OPEN_CREAT | MDS_FMODE_WRITE | MDS_OPEN_TRUNC):
            raise LustreError(errno.EISDIR, f"{opening.fid}")
        if not folder and opening.has(MDS_OPEN_DIRECTORY):
            raise LustreError(errno.ENOTDIR, f"{opening.fid}")
        if attrs.nlink == 0:
            raise LustreError(errno.ENOENT, f"{opening.fid} has been removed")
        self._check_access(opening, attrs)
        if attrs.flags & APPEND_FL and self._overwrites(opening):
            raise LustreError(errno.EPERM, f"{opening.fid} is append-only")

    @staticmethod
    def _overwrites(opening: Opening) -> bool:
        writes = opening.has(MDS_FMODE_WRITE) and not opening.has(MDS_OPEN_APPEND)
        return writes or opening.has(MDS_OPEN_TRUNC)

    def _check_access(self, opening: Opening, attrs: Attrs) -> None:
        """EACCES; whoever made the file may open it whatever its mode."""
        owner = opening.has(MDS_OPEN_OWNEROVERRIDE) and opening.cred.uid == attrs.uid
        if opening.created or owner:
            return
        want = MAY_READ if opening.has(MDS_FMODE_READ) else 0
        if opening.has(MDS_FMODE_WRITE | MDS_OPEN_TRUNC | MDS_OPEN_APPEND):
            want |= MAY_WRITE
        if opening.has(MDS_FMODE_EXEC):
            want = MAY_EXEC
        self.mdd.require(opening.fid, opening.cred, want)

    # ---- its lock

    def open_lock(self, opening: Opening, attrs: Attrs) -> tuple[int, int, int]:
        """(mode, bits, optional bits) of the lock that an open gets.

        An open lock if the client asks for one (it will keep the file open for itself); and if the
        file has a layout, that and what else the client may cache, where nobody minds.
        """
        mode, bits, optional = LCK_PR, 0, 0
        if opening.has(MDS_OPEN_LOCK):
            bits = MDS_INODELOCK_LOOKUP | MDS_INODELOCK_OPEN
            mode = LCK_PR if opening.has(MDS_FMODE_EXEC) else LCK_CR
            if opening.has(MDS_FMODE_WRITE):
                mode = LCK_CW
        layouts = opening.req.export.granted(OBD_CONNECT_LAYOUTLOCK)
        if layouts and stat.S_ISREG(attrs.mode) and self.ea(opening.fid):
            optional = MDS_INODELOCK_LAYOUT | MDS_INODELOCK_LOOKUP
            if mode != LCK_CR:
                optional |= MDS_INODELOCK_UPDATE | MDS_INODELOCK_PERM
        return mode, bits, optional & ~bits

    def _take_open_lock(self, opening: Opening, attrs: Attrs) -> Steps[None]:
        mode, bits, optional = self.open_lock(opening, attrs)
        if not bits | optional or opening.req.replay:
            return
        lock = yield from self.lock_for(opening.req, opening.fid, mode, bits, optional)
        opening.lock = lock
        if opening.has(MDS_OPEN_LOCK):
            opening.disposition |= DISP_OPEN_LOCK
        elif not getattr(lock.policy, "bits", 0) & MDS_INODELOCK_LAYOUT:
            self._drop_lock(opening)

    # ---- its layout

    def _make_layout(self, opening: Opening) -> Steps[None]:
        """A file that had no objects gets them now (mdt_create_data)."""
        self._drop_lock(opening)
        opening.disposition &= ~DISP_OPEN_LOCK
        lock = yield from self.lock(opening.req, opening.fid, LCK_EX, MDS_INODELOCK_LAYOUT)
        try:
            yield from self.at(MDS_LL_BLOCK)
            if self.ea(opening.fid):
                return
            parent = opening.parent if self.osd.exists(opening.parent) else None
            wish = self.lod.wanted(parent, opening.asked)
            allocation = yield from self.lod.allocate(opening.fid, wish)
            yield from self._store_layout(opening, allocation)
        finally:
            self.unlock(opening.req, [lock])
        if opening.req.export.granted(OBD_CONNECT_DISP_STRIPE):
            opening.disposition |= DISP_OPEN_STRIPE

    def _store_layout(self, opening: Opening, allocation: Allocation) -> Steps[None]:
        """Objects as long as the file, on their disks before it has them: then no crash is between.

        Those that are not used after all are given back, or destroyed if they have that length.
        """
        size = self.osd.attrs(opening.fid).size
        try:
            yield from self.lod.size_objects(allocation, size)
            tx = self.begin(opening.req, opening.fid)
            self.lod.assign(tx, allocation)
            yield from self.commit(opening.req, tx)
        except LustreError:
            if size:
                yield from self.lod.throw_away(allocation.stripes)
            else:
                self.lod.give_back(allocation.stripes)
            raise

    # ---- its handle

    def _hold(self, opening: Opening) -> Steps[None]:
        """The open itself: a handle, and a transno so that the client can replay it."""
        req = opening.req
        owner = req.export.cookie
        file = self.opens.made_by(owner, req.xid) if req.resent else None
        if file is None:
            self.opens.claim(opening.fid, opening.flags)
            opening.disposition |= DISP_OPEN_OPEN
            try:
                file = yield from self._hold_anew(opening)
            except BaseException:
                self.opens.release(opening.fid, opening.flags)
                raise
        opening.disposition |= DISP_OPEN_OPEN
        body = opening.fields["mdt_body"]
        opening.fields["mdt_body"] = body.replace(open_handle=file.handle)

    def _hold_anew(self, opening: Opening) -> Steps[OpenFile]:
        req, owner = opening.req, opening.req.export.cookie
        req.opdata = opening.disposition
        if not req.transno:
            if not opening.created:
                self.version(req, 0, opening.parent, check=False)
                self.version(req, 1, opening.fid, check=False)
            yield from self.commit(req, self.begin(req))
        if req.export.closed:
            raise LustreError(errno.ENOTCONN, "the client has gone")
        before = opening.record.open_handle_old if req.replay else 0
        known = self.opens.get(owner, before) if before else None
        file = self.opens.add(owner, opening.fid, opening.flags, req.xid, before)
        if known is not None:
            self.opens.remove(known)
        return file

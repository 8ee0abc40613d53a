"""mdt: the server's own locks around an operation, and who is asking.

Knows which locks an operation takes, not what it does under them. Stands for mdt_object_lock with
its parallel directory operations (mdt/mdt_handler.c) and mdt_init_ucred (mdt/mdt_lib.c).

A name is locked in two steps: the directory's UPDATE bit weakly (CR to look, CW to change, which
calls back the clients' cached pages), then the name's own resource strongly. So operations on
different names of one directory do not wait for one another.
"""

from __future__ import annotations

import errno
import stat
from typing import Any
from zlib import crc32

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.params import Param
from labsim.ldlm.desc import handles_of
from labsim.ldlm.handlers import LdlmHandlers
from labsim.ldlm.resource import entry_resource, fid_resource
from labsim.ldlm.server_lock import ServerLock
from labsim.net.ptlrpc import Export, ServerRequest
from labsim.nodes.config import TargetInfo
from labsim.nodes.export_files import ExportFiles
from labsim.nodes.mds import cred as creds
from labsim.nodes.mds import objects
from labsim.nodes.mds.cred import Cred
from labsim.nodes.mds.mdd import Mdd
from labsim.nodes.mds.points import MDS_PDO_LOCK
from labsim.nodes.mds.saved_locks import Saved, SavedLocks
from labsim.nodes.node import Node
from labsim.runtime.ports import Steps
from labsim.storage.osd import Tx
from labsim.wire.constants import (
    LCK_COS,
    LCK_CR,
    LCK_CW,
    LCK_EX,
    LCK_PR,
    LCK_PW,
    MDS_INODELOCK_UPDATE,
    OBD_CONNECT_RDONLY,
)

BIG_LOCK = Fid(0x200000004, 1)
"""LUSTRE_BFL_FID: held by whoever renames, so that no two renames make a loop."""


def entry_hash(name: bytes) -> int:
    """Which resource of its directory stands for a name; two names may share one."""
    return crc32(name) or 1


class MdtLocks(LdlmHandlers, ExportFiles):
    """What the operations of an MDT have in common."""

    mdd: Mdd
    commit_on_sharing = Param.flag(
        False, help="what one client changed is on disk before another one sees it"
    )

    def __init__(self, node: Node, info: TargetInfo) -> None:
        super().__init__(node, info)
        self.kept: SavedLocks = SavedLocks(self._release, self._downgrade)
        self._committing = False

    def _release(self, lock: ServerLock) -> None:
        self.ldlm.release(lock)

    def _downgrade(self, lock: ServerLock, mode: int) -> None:
        self.ldlm.downgrade(lock, mode)

    # ---- locks

    def lock_name(
        self, req: ServerRequest, parent: Fid, name: bytes, write: bool
    ) -> Steps[list[ServerLock]]:
        """Lock one name of a directory, to change it or only to look it up.

        EPERM to change what is not for clients. ENOTDIR for what has no names: a file locked as if
        it had some would break the order of locks, in which a directory comes before what is in it.
        """
        if write and not objects.is_client_fid(parent):
            raise LustreError(errno.EPERM, f"{parent} is not for clients")
        self.check_exists(parent)
        if not stat.S_ISDIR(self.osd.attrs(parent).mode):
            raise LustreError(errno.ENOTDIR, f"{parent} has no names")
        weak, strong = (LCK_CW, LCK_PW) if write else (LCK_CR, LCK_PR)
        locks = [(yield from self.lock(req, parent, weak, MDS_INODELOCK_UPDATE))]
        try:
            locks.append((yield from self.lock_entry(req, parent, name, strong)))
            yield from self.at(MDS_PDO_LOCK)
            self.check_exists(parent)
        except BaseException:
            self.unlock(req, locks)
            raise
        return locks

    def lock_entry(
        self, req: ServerRequest, parent: Fid, name: bytes, mode: int
    ) -> Steps[ServerLock]:
        """Lock the resource that stands for one name of a directory."""
        resource = entry_resource(parent, entry_hash(name))
        return (yield from self.ldlm.acquire(
            resource, mode, bits=MDS_INODELOCK_UPDATE, behalf=req.export.cookie
        ))  # fmt: skip

    def lock(self, req: ServerRequest, fid: Fid, mode: int, bits: int) -> Steps[ServerLock]:
        """Lock aspects of an object; clients that cached them give their locks back first."""
        self.check_exists(fid)
        return (yield from self.ldlm.acquire(
            fid_resource(fid), mode, bits=bits, behalf=req.export.cookie
        ))  # fmt: skip

    def lock_big(self) -> Steps[ServerLock]:
        """The lock of all renames."""
        resource = fid_resource(BIG_LOCK)
        return (yield from self.ldlm.acquire(resource, LCK_EX, bits=MDS_INODELOCK_UPDATE))

    def unlock(self, req: ServerRequest, locks: list[ServerLock]) -> None:
        """The request is done with its locks, the last one first.

        Those that guard what it changed stay until its client has the reply.
        """
        guards = req.transno > self.last_committed
        while locks:
            if guards:
                self.kept.unlock(req, locks.pop(), self.commit_on_sharing)
            else:
                self.ldlm.release(locks.pop())

    def awaits_ack(self, req: ServerRequest) -> Saved | None:
        """The locks that stay until the reply is acknowledged."""
        return self.kept.of(req)

    def _committed(self, transno: int, export: Export | None) -> None:
        super()._committed(transno, export)
        self.kept.committed(self.last_committed)

    def own_lock_wanted(self, lock: ServerLock) -> None:
        """Somebody waits for a lock of this MDT's own: what another client did comes to disk."""
        if lock.mode == LCK_COS and not self._committing:
            self._committing = True
            self.host.env.process(self._commit_now())

    def _commit_now(self) -> Steps[None]:
        try:
            yield from self.osd.sync()
        finally:
            self._committing = False

    def check_exists(self, fid: Fid) -> None:
        """ENOENT for an object that is not, or no longer, there."""
        if not self.osd.exists(fid):
            raise LustreError(errno.ENOENT, f"{fid} does not exist")

    def cancel_early(self, req: ServerRequest) -> None:
        """Drop the locks that the client gives back along with its request (ELC)."""
        dlm_req = req.get("dlm_req")
        if dlm_req is not None and dlm_req.lock_count:
            self.ldlm.cancel(req.export, handles_of(dlm_req))

    # ---- who asks

    def cred_of_body(self, req: ServerRequest, body: Any) -> Cred:
        """The caller that an mdt_body names."""
        cred = creds.from_wire(body.fsuid, body.fsgid, (body.suppgid,), body.capability)
        return self.squash(cred, req.peer)

    def cred_of_record(self, req: ServerRequest, record: Any) -> Cred:
        """The caller that a reint record names; a setattr's has one supplementary group."""
        if hasattr(record, "suppgid"):
            groups = (record.suppgid,)
        else:
            groups = (record.suppgid1, record.suppgid2)
        cred = creds.from_wire(record.fsuid, record.fsgid, groups, record.cap)
        return self.squash(cred, req.peer)

    def squash(self, cred: Cred, nid: int) -> Cred:
        """The caller as this MDT sees him, by where he is."""
        return cred

    def check_writable(self, req: ServerRequest) -> None:
        """EROFS for a client that connected read-only."""
        if req.export.granted(OBD_CONNECT_RDONLY):
            raise LustreError(errno.EROFS, "connected read-only")

    # ---- changing

    def name_version(self, req: ServerRequest, place: int, parent: Fid, name: bytes) -> None:
        """As `version`, of what a name stands for (mdt_lookup_version_check)."""
        found = self.mdd.find(parent, name)
        self.version(req, place, found[0] if found else None)

    def commit(self, req: ServerRequest, tx: Tx, sync: bool = False) -> Steps[None]:
        """Let the changes happen; a reply that reports a failure carries no transno.

        Nor is it kept: a request that changed nothing is executed again if it comes again.
        """
        try:
            yield from tx.stop(sync=sync)
        except LustreError:
            self.not_done(req)
            raise

    def now(self, asked: int) -> int:
        """The date of a change: the client's, or ours where it told none."""
        return asked or self.host.clock.seconds()

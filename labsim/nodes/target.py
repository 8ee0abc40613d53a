"""A target: what an MDT and an OST have in common.

Knows exports, transaction numbers and what is committed, not what is stored. Stands for struct
lu_target (target/tgt_main.c, tgt_lastrcvd.c).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from types import GeneratorType
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.faults import Point
from labsim.base.ids import Fid
from labsim.net.ptlrpc import Export, Exports, Handlers, Recovery, Reply, ServerRequest, handles
from labsim.net.ptlrpc import points as tgt
from labsim.nodes.config import TargetInfo
from labsim.nodes.last_rcvd import LastRcvd, Slot
from labsim.nodes.node import Node
from labsim.nodes.recovery_files import RecoveryFiles
from labsim.nodes.reply_data import ReplyData
from labsim.nodes.space_files import OsdFiles
from labsim.runtime.ports import Steps
from labsim.storage.osd import Osd, Tx
from labsim.wire.constants import (
    MSG_CONNECT_INITIAL,
    OBD_CONNECT_LIGHTWEIGHT,
    OBD_CONNECT_MULTIMODRPCS,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.message import Message
from labsim.wire.opcodes import (
    MDS_CLOSE,
    MDS_CONNECT,
    MDS_DISCONNECT,
    OBD_PING,
    OST_CONNECT,
    OST_DISCONNECT,
)

ABSENT = 1
"""ENOENT_VERSION: the version of an object that is not there (lustre_idl.h)."""


class Target(RecoveryFiles, Handlers):
    """Base of Mdt and Ofd: clients come and go, changes get numbers, numbers get committed.

    A subclass names what it can do in `supported` (OBD_CONNECT_*) and `supported2`, refines
    `negotiate`, and has `on_connect` / `on_disconnect` called for its clients, `on_recovered` when
    those that were here before a restart have had their chance. Without `replayable` a restart
    forgets all clients.
    """

    supported = 0
    supported2 = 0
    replayable = True
    all_net: tuple[Point, ...] = ()
    """What all of its requests meet, and all of its replies (lut_request_fail_id)."""
    ldlm: Any

    def __init__(self, node: Node, info: TargetInfo) -> None:
        self.node = node
        self.host = node.host
        self.rpc = node.rpc
        self.info = info
        self.name = info.name
        self.uuid = info.uuid
        self.osd: Osd = node.host.osd[info.name]
        self.exports = Exports(node.rpc, self, self._negotiate, self.replayable)
        self.last_rcvd = LastRcvd(self.osd, info.uuid, info.kind, info.index)
        self.reply_data = ReplyData(self.osd)
        self.last_transno = 0
        self.last_committed = 0
        self.stopping = False
        self._recovery: Recovery | None = None
        self._on_close = (self._gone,)
        self._connecting: dict[str, None] = {}
        self.osd_files = self.make_osd_files()
        self.host.params.mount(self.osd_files, name=self.name)
        self._forgetting: dict[Export, Any] = {}
        """Whose eviction is on its way to the disk, and what brings it there."""

    # ---- life

    def start(self) -> Steps[None]:
        """Open the storage and take requests; those that it knows may replay first."""
        yield from self.last_rcvd.open(self.replayable)
        yield from self._remember_clients()
        self.last_transno = self.last_committed = self.last_rcvd.last_transno
        self.host.trace.emit("target.start", self.name, self.last_transno)
        if len(self.exports):
            self._recovery = self.exports.recovery = Recovery(
                self.rpc, self, self.last_committed + 1, self.at, self._recovered
            )
            self.host.env.process(self._recovery.run())
        else:
            yield from self._new_epoch()
        self.rpc.targets[self.uuid] = self

    def _remember_clients(self) -> Steps[None]:
        """Make the exports of those that were connected, with what they may ask for again."""
        slots: dict[int, Export] = {}
        for slot in self.last_rcvd.clients:
            export = self.exports.remember(slot.uuid)
            export.slot = slot
            export.on_close += self._on_close
            export.last_committed = slot.transno
            slots[slot.generation] = export
        noted = self.last_rcvd.last_transno
        for generation, reply in (yield from self.reply_data.open()):
            self.last_rcvd.last_transno = max(self.last_rcvd.last_transno, reply.transno)
            known = slots.get(generation)
            if known is None:
                self.reply_data.give(reply.place)
                continue
            known.keep_reply(reply)
            known.slot.multi = True
            known.last_committed = max(known.last_committed, reply.transno)
        if self.last_rcvd.last_transno > noted:
            # a replay may be noted where the last one was
            tx = self.osd.transaction()
            self.last_rcvd.note_transno(tx, self.last_rcvd.last_transno)
            yield from tx.stop()

    def _new_epoch(self) -> Steps[None]:
        """From now on transnos are in a new epoch: none is ever given out twice."""
        tx = self.osd.transaction()
        self.last_transno = self.last_rcvd.new_epoch(tx, self.last_transno)
        yield from tx.stop(sync=True)

    def _recovered(self) -> Steps[None]:
        """Recovery ends: normal service may begin as soon as this returns.

        Who was evicted in it is so for good then: it has no locks that would be kept from others.
        On a disk that fails service begins too: then every change will be told so.
        """
        if self._forgetting:
            yield self.host.env.all_of(list(self._forgetting.values()))
        try:
            yield from self._new_epoch()
        except LustreError as error:
            self.host.trace.emit("target.sick", self.name, error.errno)
        self.host.env.process(self._after_recovery())

    def _after_recovery(self) -> Steps[None]:
        self.ldlm.reprocess()
        try:
            yield from self.on_recovered()
        except LustreError as error:
            self.host.trace.emit("target.sick", self.name, error.errno)

    def on_recovered(self) -> Steps[None]:
        """The clients that were here before a restart have replayed, or are gone."""
        return
        yield

    def stop(self, failover: bool = True) -> Steps[None]:
        """Take no more requests, forget the clients, write everything back.

        With `failover` (as umount does it) the clients may come back to where the target starts
        again and go on; without (umount -f) they have been evicted then.
        """
        self.stopping = True
        self.rpc.targets.pop(self.uuid, None)
        if self._recovery is not None:
            self._recovery.stop()
        if not failover and self.replayable:
            tx = self.osd.transaction()
            for export in self.exports:
                if not export.light:
                    self.last_rcvd.remove(tx, export.slot)
            yield from tx.stop()
        self.exports.close()
        yield from self.osd.sync()

    def make_osd_files(self) -> OsdFiles:
        """The files of its disk."""
        return self.node.make(OsdFiles, self.osd, self.name)

    def unmount(self) -> None:
        """Take the parameters away, when the target has stopped."""
        self.host.params.unmount(self.osd_files)
        self.host.params.unmount(self)

    @property
    def recovering(self) -> bool:
        """Are clients that were here before a restart still replaying? (obd_recovering)"""
        return self.exports.recovery is not None

    # ---- clients

    @handles(MDS_CONNECT, OST_CONNECT)
    def connect(self, req: ServerRequest) -> Steps[Message]:
        """A client comes, or comes back.

        One that does not say that it is new holds a connection which has been forgotten here, and
        may go on believing in it if this reply is lost. Lustre notes such a client at once; after a
        restart it could replay what it did, and the locks it had, before it was evicted. Here it
        is not noted before it has used the new connection.
        """
        uuid: str = req["cluuid"]
        if uuid in self._connecting:
            raise LustreError(errno.EALREADY, f"{uuid} is connecting")
        self._connecting[uuid] = None
        try:
            known = self.exports.find(uuid)
            yield from self.at(tgt.TGT_DELAY_RECONNECT if known else tgt.TGT_DELAY_CONNECT)
            reply = self.exports.connect(req)
            if self.replayable and req.export is not known and not req.export.light:
                if req.body.op_flags & MSG_CONNECT_INITIAL:
                    yield from self._add_slot(req.export)
                else:
                    req.export.unaware = True
        finally:
            del self._connecting[uuid]
        return reply

    def on_aware(self, export: Export) -> None:
        """A client that was evicted has heard of it: what it asks for from now on counts."""
        export.unaware = False
        export.unsafe = True
        self.host.env.process(self._add_slot_later(export))

    def _add_slot_later(self, export: Export) -> Steps[None]:
        try:
            yield from self._add_slot(export)
        except LustreError as error:
            self.host.trace.emit("target.sick", self.name, error.errno)

    def _add_slot(self, export: Export) -> Steps[None]:
        """Note a new client; until that is on disk, its changes do not wait (exp_need_sync)."""
        try:
            yield from self.at(tgt.TGT_CLIENT_ADD)
        except LustreError:
            export.evict("there is no slot for it")
            raise
        export.unsafe = True
        tx = self.osd.transaction()
        self.last_rcvd.write(tx, export.slot)
        if export.slot.multi:
            self.last_rcvd.multiple(tx)
        tx.on_commit(export.slot_kept)
        yield from tx.stop()

    def _negotiate(self, export: Export, want: ObdConnectData) -> ObdConnectData:
        """What this target grants: never more than was asked for."""
        if not export.connected:
            if export.slot is None:
                light = bool(want.connect_flags & self.supported & OBD_CONNECT_LIGHTWEIGHT)
                uuid = export.client_uuid
                export.slot = Slot(-1, uuid, 0) if light else self.last_rcvd.new_client(uuid)
                export.on_close += self._on_close
            self.on_connect(export, want)
        flags = want.connect_flags & self.supported & ~self.host.kit.traits.connect_unknown
        export.slot.multi = bool(flags & OBD_CONNECT_MULTIMODRPCS)
        granted = want.replace(
            connect_flags=flags,
            connect_flags2=want.connect_flags2
            & self.supported2
            & ~self.host.kit.traits.connect_unknown2,
        )
        return self.negotiate(export, want, granted)

    def negotiate(
        self, export: Export, want: ObdConnectData, granted: ObdConnectData
    ) -> ObdConnectData:
        """Fill in the fields behind the granted flags; sizes are the smaller of both sides."""
        return granted

    def on_connect(self, export: Export, want: ObdConnectData) -> None:
        """A client connects for the first time since the start; a reconnect does not call this."""

    def on_disconnect(self, export: Export) -> None:
        """A client has gone: it said so, was evicted, or the target stops."""

    def _gone(self, export: Export) -> None:
        """Unless the target stops, its slot and its replies are free now."""
        self.on_disconnect(export)
        if self.replayable and not self.stopping and not export.light:
            freeing = self.host.env.process(self._free_slot(export))
            if export.evicted:
                export.forgetting = self._forgetting[export] = freeing

    def _free_slot(self, export: Export) -> Steps[None]:
        """A client is not known any more; that it was evicted must not be forgotten by a restart.

        Else it would come back with locks that others have got since, and with what it did under
        them. Nobody gets them before (ServerNamespace); Lustre cancels them at once, in a thread of
        its own, and leaves the slot to the next commit (tgt_client_del).
        """
        try:
            yield from self.at(tgt.TGT_CLIENT_DEL)
            tx = self.osd.transaction()
            self.last_rcvd.note_transno(tx, self.last_transno)
            self.last_rcvd.remove(tx, export.slot)
            yield from tx.stop(sync=export.evicted)
        except LustreError as error:
            self.host.trace.emit("target.sick", self.name, error.errno)
        finally:
            for reply in (*export.replies.values(), *filter(None, [export.released])):
                self.free_reply(reply)
            self._forgetting.pop(export, None)

    @handles(MDS_DISCONNECT, OST_DISCONNECT)
    def disconnect(self, req: ServerRequest) -> Message:
        """A client leaves."""
        reply = req.reply()
        self.exports.remove(req.export)
        return reply

    @handles(OBD_PING)
    def ping(self, req: ServerRequest) -> Steps[Message]:
        """A sign of life; the reply tells what is committed."""
        yield from self.at(tgt.OBD_PING_NET)
        return req.reply()

    # ---- changing

    def begin(self, req: ServerRequest | None = None, changed: Fid | None = None) -> Tx:
        """A transaction on behalf of `req`, or of the target itself.

        When it is stopped it gets the next transno (that of a replay is its old one), which is also
        noted with the client and in the reply, and becomes the version of the object `changed`;
        once it is durable, last_committed has reached that transno. What light clients change is
        durable at once: nobody would replay it (tgt_last_rcvd_update).
        """
        tx = self.osd.transaction()
        if req is not None and (req.export.unsafe or req.export.light):
            tx.sync = True
        tx.before_join(self._number, tx, req, changed)
        return tx

    def _number(self, tx: Tx, req: ServerRequest | None, changed: Fid | None) -> None:
        transno = req.body.transno if req is not None else 0
        if req is None and self.recovering:
            return  # the next numbers are those that the replays have
        if transno:
            self.last_transno = max(self.last_transno, transno)
        else:
            transno = self.last_transno = self.last_transno + 1
        export: Export | None = None
        if req is not None and not req.export.closed:
            req.transno = transno
            export = req.export
        if export is not None and not export.light:
            self._note(tx, req, transno)
        else:
            self.last_rcvd.note_transno(tx, transno)
        if changed is not None:
            tx.stamp(changed, transno)
        tx.on_commit(self._committed, transno, export)

    def _committed(self, transno: int, export: Export | None) -> None:
        """A transaction is on disk; replays of what was on disk before have lower numbers."""
        self.last_committed = max(self.last_committed, transno)
        if export is not None and transno > export.last_committed:
            export.last_committed = transno

    # ---- what a client may ask for again

    def _note(self, tx: Tx, req: ServerRequest, transno: int) -> None:
        """Keep what `req` was answered, with the client's slot or in reply_data."""
        slot = req.export.slot
        if slot.multi:
            self._add_reply(tx, req, transno)
            return
        if transno < slot.transno:
            return
        if req.opcode == MDS_CLOSE:
            slot.close_transno, slot.close_xid = transno, req.xid
        else:
            slot.last_transno, slot.last_xid, slot.last_data = transno, req.xid, req.opdata
            slot.pre_versions = req.pre_versions
        self.last_rcvd.write(tx, slot)

    def _add_reply(self, tx: Tx, req: ServerRequest, transno: int) -> None:
        older = req.export.replies.get(req.xid)
        index = older.place if older is not None else self.reply_data.take()
        reply = Reply(index, req.body.tag, req.xid, transno, 0, req.opdata, req.pre_versions)
        req.export.keep_reply(reply)
        req.noted = older
        self.reply_data.write(tx, reply, req.export.slot.generation)

    def not_done(self, req: ServerRequest) -> None:
        """A transaction of `req` did not happen after all: it has no transno, nothing is kept."""
        req.transno = 0
        slot, replies = req.export.slot, req.export.replies
        if slot.last_xid == req.xid:
            slot.last_xid = 0
        if slot.close_xid == req.xid:
            slot.close_xid = 0
        if req.noted is not None:
            replies[req.xid] = req.noted
        elif req.xid in replies:
            self.free_reply(replies.pop(req.xid))

    def free_reply(self, reply: Reply) -> None:
        """Nobody will ask for it any more."""
        self.reply_data.give(reply.place)

    def saved(self, req: ServerRequest) -> Reply | None:
        """What a request that comes again was answered, if it was done (req_can_reconstruct).

        The reply to `req` gets its transno and versions from then.
        """
        if not req.resent:
            return None
        slot: Slot = req.export.slot
        found: Reply | None = None
        if slot.multi:
            found = req.export.replies.get(req.xid)
        elif req.xid == slot.close_xid:
            found = Reply(0, 0, req.xid, slot.close_transno)
        elif req.xid == slot.last_xid:
            found = Reply(0, 0, req.xid, slot.last_transno, 0, slot.last_data, slot.pre_versions)
        if found is not None:
            self.host.trace.emit("rpc.again", req.opcode, req.xid)
            req.transno = found.transno if not found.result else 0
            req.pre_versions = found.pre_versions
        return found

    # ---- versions

    def version(self, req: ServerRequest, place: int, fid: Fid | None, check: bool = True) -> None:
        """Tell in the reply which version an object had before the change (None: it is absent).

        With `check` a replay must find the version that its client was told: EOVERFLOW where
        somebody who is missing now has changed the object in between, and the client is evicted
        in the end (mdt_version_get_check_save, mdt_version_get_save).
        """
        found = ABSENT
        if fid is not None and self.osd.exists(fid):
            found = self.osd.attrs(fid).version
        if check:
            self.check_version(req, place, found)
        versions = list(req.pre_versions)
        versions[place] = found
        req.pre_versions = (versions[0], versions[1], versions[2], versions[3])

    def check_version(self, req: ServerRequest, place: int, found: int) -> None:
        """EOVERFLOW for a replay that was told another version than the object has now."""
        told = req.body.pre_versions[place] if req.replay else 0
        if told and told != found:
            if req.export.part is not None:
                req.export.part.vbr_failed = True
            self.host.trace.emit("recovery.version", self.name, req.xid, place, told, found)
            raise LustreError(errno.EOVERFLOW, f"version {found:#x}, not {told:#x}")

    # ---- faults

    def handler(self, opcode: int) -> Callable[[Any], Any] | None:
        """As for any target; where something is armed it may concern all requests or replies."""
        found = super().handler(opcode)
        if found is not None and self.all_net and self.host.faults.armed:
            return partial(self._through_faults, found)
        return found

    def _through_faults(self, handle: Callable[[Any], Any], req: ServerRequest) -> Steps[Message]:
        """A request that may get lost, or whose reply may (tgt_request_handle)."""
        requests, replies = self.all_net
        yield from self.at(requests)
        reply = handle(req)
        if isinstance(reply, GeneratorType):
            reply = yield from reply
        yield from self.at(replies)
        return reply

    def hit(self, point: Point) -> Steps[bool]:
        """Is a point hit that changes something on the way?"""
        try:
            yield from self.at(point)
        except LustreError:
            return True
        return False

    def at(self, point: Point) -> Steps[None]:
        """Visit a fault point: pass, wait or raise."""
        return self.host.faults.visit(point)

    def abort_recovery(self) -> None:
        """Evict who is not through with recovery now (OBD_IOC_ABORT_RECOVERY)."""
        if self.exports.recovery is not None:
            self.exports.recovery.abort()

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return {
            "name": self.name,
            "recovering": self.recovering,
            "last_transno": self.last_transno,
            "last_committed": self.last_committed,
            "exports": sorted(export.client_uuid for export in self.exports),
        }

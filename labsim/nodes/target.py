"""A target: what an MDT and an OST have in common.

Knows exports, transaction numbers and what is committed, not what is stored. Stands for struct
lu_target (target/tgt_main.c, tgt_lastrcvd.c).
"""

from __future__ import annotations

from typing import Any

from labsim.base.component import Component
from labsim.base.faults import Point
from labsim.net.ptlrpc import Export, Exports, Handlers, ServerRequest, handles
from labsim.nodes.config import TargetInfo
from labsim.nodes.last_rcvd import LastRcvd
from labsim.nodes.node import Node
from labsim.runtime.ports import Steps
from labsim.storage.osd import Osd, Tx
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.message import Message
from labsim.wire.opcodes import (
    MDS_CONNECT,
    MDS_DISCONNECT,
    OBD_PING,
    OST_CONNECT,
    OST_DISCONNECT,
)


class Target(Component, Handlers):
    """Base of Mdt and Ofd: clients come and go, changes get numbers, numbers get committed.

    A subclass names what it can do in `supported` (OBD_CONNECT_*) and `supported2`, refines
    `negotiate`, and has `on_connect` / `on_disconnect` called for its clients.
    """

    supported = 0
    supported2 = 0
    recovering = False
    """Clients that were here before a restart are still replaying (obd_recovering)."""

    def __init__(self, node: Node, info: TargetInfo) -> None:
        self.node = node
        self.host = node.host
        self.rpc = node.rpc
        self.info = info
        self.name = info.name
        self.uuid = info.uuid
        self.osd: Osd = node.host.osd[info.name]
        self.exports = Exports(node.rpc, self, self._negotiate)
        self.last_rcvd = LastRcvd(self.osd, info.uuid)
        self.last_transno = 0
        self.last_committed = 0
        self._slots: dict[int, int] = {}

    # ---- life

    def start(self) -> Steps[None]:
        """Open the storage and take requests."""
        yield from self.last_rcvd.open()
        self.last_transno = self.last_committed = self.last_rcvd.last_transno
        self.host.trace.emit("target.start", self.name, self.last_transno)
        self.rpc.targets[self.uuid] = self

    def stop(self) -> Steps[None]:
        """Take no more requests, forget the clients, write everything back."""
        self.rpc.targets.pop(self.uuid, None)
        self.exports.close()
        yield from self.osd.sync()

    # ---- clients

    @handles(MDS_CONNECT, OST_CONNECT)
    def connect(self, req: ServerRequest) -> Message:
        """A client comes, or comes back."""
        return self.exports.connect(req)

    def _negotiate(self, export: Export, want: ObdConnectData) -> ObdConnectData:
        """What this target grants: never more than was asked for."""
        if export.cookie not in self._slots:
            self._slots[export.cookie] = self.last_rcvd.take_slot()
            export.on_close.append(self._gone)
            self.on_connect(export, want)
        flags = want.connect_flags & self.supported & ~self.host.kit.traits.connect_unknown
        granted = want.replace(
            connect_flags=flags, connect_flags2=want.connect_flags2 & self.supported2
        )
        return self.negotiate(export, want, granted)

    def negotiate(
        self, export: Export, want: ObdConnectData, granted: ObdConnectData
    ) -> ObdConnectData:
        """Fill in the fields behind the granted flags; sizes are the smaller of both sides."""
        return granted

    def on_connect(self, export: Export, want: ObdConnectData) -> None:
        """A new client; a reconnect does not call this."""

    def on_disconnect(self, export: Export) -> None:
        """A client has gone: it said so, was evicted, or the target stops."""

    def _gone(self, export: Export) -> None:
        self.last_rcvd.give_slot(self._slots.pop(export.cookie))
        self.on_disconnect(export)

    @handles(MDS_DISCONNECT, OST_DISCONNECT)
    def disconnect(self, req: ServerRequest) -> Message:
        """A client leaves."""
        reply = req.reply()
        self.exports.remove(req.export)
        return reply

    @handles(OBD_PING)
    def ping(self, req: ServerRequest) -> Message:
        """A sign of life; the reply tells what is committed."""
        return req.reply()

    # ---- changing

    def begin(self, req: ServerRequest | None = None) -> Tx:
        """A transaction on behalf of `req`, or of the target itself.

        When it is stopped it gets the next transno, which is also noted in last_rcvd and in the
        reply; once it is durable, last_committed has reached that transno.
        """
        tx = self.osd.transaction()
        tx.before_join(lambda: self._number(tx, req))
        return tx

    def _number(self, tx: Tx, req: ServerRequest | None) -> None:
        self.last_transno += 1
        transno = self.last_transno
        if req is not None and not req.export.closed:
            req.transno = transno
            export = req.export
            slot = self._slots[export.cookie]
            self.last_rcvd.record(tx, slot, export.client_uuid, transno, req.xid, 0)
        else:
            self.last_rcvd.note_transno(tx, transno)
        tx.on_commit(lambda: self._committed(transno))

    def _committed(self, transno: int) -> None:
        assert transno > self.last_committed, "commits came out of order"
        self.last_committed = transno

    def at(self, point: Point) -> Steps[None]:
        """Visit a fault point: pass, wait or raise."""
        return self.host.faults.visit(point)

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return {
            "name": self.name,
            "last_transno": self.last_transno,
            "last_committed": self.last_committed,
            "exports": sorted(export.client_uuid for export in self.exports),
        }

"""Exports: a target's view of its clients.

Knows connections, not what clients do over them. Stands for struct obd_export with what a client
may ask for again (tg_export_data), target_handle_connect (ldlm/ldlm_lib.c) and the pinger's
evictor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from labsim.base.errors import LustreError
from labsim.net.ptlrpc.recovery import Part, Recovery
from labsim.net.ptlrpc.request import Request
from labsim.net.ptlrpc.rpc import NOTHING_GRANTED, PtlRpc
from labsim.net.ptlrpc.sender import Sender
from labsim.net.ptlrpc.server_request import ServerRequest
from labsim.net.ptlrpc.timeouts import Estimate
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    LDLM_CB_REPLY_PORTAL,
    LDLM_CB_REQUEST_PORTAL,
    MSG_CONNECT_INITIAL,
    MSG_CONNECT_RECONNECT,
    MSG_CONNECT_RECOVERING,
    MSG_CONNECT_REPLAYABLE,
    MSG_CONNECT_TRANSNO,
    OBD_CONNECT_AT,
    OBD_CONNECT_LIGHTWEIGHT,
    OBD_CONNECT_MDS,
    OBD_CONNECT_MDS_MDS,
)
from labsim.wire.eras import DECLARED, era_of
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.message import Message

EBUSY, EALREADY = 16, 114

EVICT_INTERVALS = 6
"""PING_EVICT_TIMEOUT: ping intervals without a word before a client is evicted."""


class Reverse(Sender):
    """The way back to a client, for its lock callbacks (exp_imp_reverse)."""

    __slots__ = ("_target",)

    def __init__(self, rpc: PtlRpc, target: Any, peer: int, handle: int) -> None:
        super().__init__(rpc, peer, (LDLM_CB_REQUEST_PORTAL, LDLM_CB_REPLY_PORTAL))
        self._target = target
        self.handle = handle

    def call(self, request: Request) -> Steps[Message]:
        """Send a callback; raises ETIMEDOUT where the client does not answer in time."""
        self._target.called_back(self.peer, request.opcode)
        self.launch(request)
        try:
            reply: Message = yield request.done
        finally:
            self.retire(request)
        if reply.status < 0:
            raise LustreError(-reply.status, f"callback {request.opcode}", reply)
        return reply


class Reply(NamedTuple):
    """What is kept of an answer to a modifying request (struct tg_reply_data).

    `place` is where a target keeps it on disk, `data` an open's disposition.
    """

    place: int
    tag: int
    xid: int
    transno: int
    result: int = 0
    data: int = 0
    pre_versions: tuple[int, ...] = (0, 0, 0, 0)


NONE_RUNNING: dict[int, ServerRequest] = {}
NO_REPLIES: dict[int, Reply] = {}
"""Of an export that never had any; never changed in place."""


class Export:
    """One client of one target."""

    __slots__ = (
        "_lock_times", "client_uuid", "closed", "conn_cnt", "connect_data", "cookie", "era",
        "evicted", "forgetting", "last_committed", "last_heard_ns", "last_xid", "nid", "on_close",
        "part", "released", "released_by_tag", "released_by_xid", "replies", "replies_max",
        "reverse", "rpc", "running", "slot", "target", "unaware", "unsafe",
    )  # fmt: skip
    ordered = True
    """Its requests come in the order of their xids."""

    def __init__(self, rpc: PtlRpc, target: Any, client_uuid: str, cookie: int, nid: int) -> None:
        self.rpc = rpc
        self.target = target
        self.client_uuid = client_uuid
        self.cookie = cookie
        self.nid = nid
        self.conn_cnt = 0
        self.connect_data = NOTHING_GRANTED
        self.era = DECLARED
        """The protocol that both sides know."""
        self.last_heard_ns = rpc.env.now
        self.last_xid = 0
        self.running = NONE_RUNNING
        """Requests being handled, by xid: a second copy of one is dropped."""
        self.replies = NO_REPLIES
        """What was done and may be asked for again, by xid, until the client says it knows."""
        self.released: Reply | None = None
        """The last that the client does not need any more; its transno is worth keeping."""
        self.replies_max = self.released_by_xid = self.released_by_tag = 0
        """How many answers were kept at most, and what let go of them (tg_export_data)."""
        self.slot: Any = None
        """Where its target keeps this client on disk."""
        self.unsafe = False
        """The slot is not on disk yet: what the client changes is committed at once."""
        self.unaware = False
        """It believes in a connection of before; nothing has come yet over this one."""
        self.last_committed = 0
        """The client's last transno that is on disk (exp_last_committed)."""
        self.part: Part | None = None
        """Its part in the recovery of its target, while that lasts."""
        self.closed = self.evicted = False
        self.forgetting: Any = None
        """The process that puts its eviction on disk; what it held is kept from others so long."""
        self.on_close: tuple[Callable[[Export], None], ...] = ()
        self.reverse: Reverse | None = None
        self._lock_times: Estimate | None = None

    @property
    def lock_times(self) -> Estimate:
        """How long the client takes to give back a lock that is called back (exp_bl_lock_at)."""
        if self._lock_times is None:
            self._lock_times = Estimate(self.rpc.timeouts.timeout, self.rpc.now_s)
        return self._lock_times

    def granted(self, flag: int) -> bool:
        """True when the connect flag was negotiated."""
        return bool(self.connect_data.connect_flags & flag)

    @property
    def light(self) -> bool:
        """Is nothing kept of it over a restart? (OBD_CONNECT_LIGHTWEIGHT)"""
        return self.granted(OBD_CONNECT_LIGHTWEIGHT)

    @property
    def connected(self) -> bool:
        """Has it connected since the target started? Else it is only known from before."""
        return self.reverse is not None

    def slot_kept(self) -> None:
        """Its slot is on disk."""
        self.unsafe = False

    def run(self, req: ServerRequest) -> None:
        """A request is being handled from now on."""
        if self.running is NONE_RUNNING:
            self.running = {}
        self.running[req.xid] = req

    def keep_reply(self, reply: Reply) -> None:
        """Something was done that the client may ask for again."""
        if self.replies is NO_REPLIES:
            self.replies = {}
        self.replies[reply.xid] = reply
        self.replies_max = max(self.replies_max, self.replies_kept)

    @property
    def replies_kept(self) -> int:
        """How many answers are kept (ted_reply_cnt)."""
        return len(self.replies) + (self.released is not None)

    def forget_replies(self, last_xid: int, tag: int = 0) -> None:
        """The client has every reply up to `last_xid`, and the one that had this tag before."""
        self.last_xid = max(self.last_xid, last_xid)
        if self.replies:
            for reply in [
                one for one in self.replies.values()
                if one.xid <= last_xid or (tag and one.tag == tag)
            ]:  # fmt: skip
                del self.replies[reply.xid]
                if reply.xid <= last_xid:
                    self.released_by_xid += 1
                else:
                    self.released_by_tag += 1
                if self.released is not None:
                    self.target.free_reply(self.released)
                self.released = reply

    def evict(self, why: str) -> None:
        """Throw the client out: its locks and open files go, its next request gets ENOTCONN."""
        if not self.closed:
            self.rpc.trace.emit("export.evict", self.target.name, self.client_uuid, why)
            self.evicted = True
            self.target.exports.remove(self)


class CallbackExport(Export):
    """A client's own end, where its server's callbacks come in: from wherever that is now.

    The server may come up on another node, whose xids are others: no order is asked of them (only
    tgt_request_handle looks at that, not ldlm_callback_handler).
    """

    __slots__ = ("_way",)
    ordered = False

    def __init__(self, rpc: PtlRpc, target: Any, way: Sender, cookie: int) -> None:
        self._way = way
        super().__init__(rpc, target, "", cookie, way.peer)

    @property
    def nid(self) -> int:
        """The node that the client is connected to."""
        return self._way.peer

    @nid.setter
    def nid(self, nid: int) -> None:
        """It follows the import."""


class Exports:
    """The clients of one target, and how they come and go.

    `replayable` says that clients may replay what a crash took (obd_replayable).
    """

    def __init__(
        self,
        rpc: PtlRpc,
        target: Any,
        negotiate: Callable[[Export, ObdConnectData], ObdConnectData],
        replayable: bool = False,
    ) -> None:
        self._rpc = rpc
        self._target = target
        self._negotiate = negotiate
        self._replayable = replayable
        self._granted = NOTHING_GRANTED
        self._by_uuid: dict[str, Export] = {}
        self._watch: Any = None
        self.recovery: Recovery | None = None
        """The recovery of the target, while it lasts."""

    def __iter__(self) -> Iterator[Export]:
        return iter(list(self._by_uuid.values()))

    def __len__(self) -> int:
        return len(self._by_uuid)

    def find(self, uuid: str) -> Export | None:
        """The client of that uuid."""
        return self._by_uuid.get(uuid)

    def remember(self, uuid: str) -> Export:
        """A client that was connected before the target went down; it may come back."""
        export = Export(self._rpc, self._target, uuid, self._rpc.cookie(), 0)
        self._by_uuid[uuid] = export
        return export

    # ---- connecting

    def connect(self, req: ServerRequest) -> Message:
        """Handle a connect request: a new client, or one that comes back."""
        uuid: str = req["cluuid"]
        export = self._by_uuid.get(uuid)
        if export is not None and export.connected and _supersedes(req, export):
            export.evict("its server has started anew")
            export = None
        light = bool(req["connect_data"].connect_flags & OBD_CONNECT_LIGHTWEIGHT)
        op_flags = MSG_CONNECT_REPLAYABLE if self._replayable else 0
        if export is not None:
            self._check_again(export, req)
        if self.recovery is not None and not light:
            if export is None or not export.connected:
                self.recovery.heard(req, new=export is None)
            if export is None and not _between_mdts(req):
                self.recovery.deny(uuid)
                raise LustreError(EBUSY, f"{self._target.name} waits for the clients it knows")
            op_flags |= MSG_CONNECT_RECOVERING
        if export is None:
            export = Export(self._rpc, self._target, uuid, self._rpc.cookie(), req.peer)
        elif export.connected:
            op_flags |= MSG_CONNECT_RECONNECT
        granted = self._negotiate(export, req["connect_data"])
        if granted == self._granted:
            granted = self._granted  # most clients are granted the same
        self._granted = granted
        self._install(export, req, granted)
        if self.recovery is not None and not light:
            told = req.body.op_flags & MSG_CONNECT_TRANSNO
            self.recovery.join(export, req["connect_data"].transno if told else 0)
        req.export = export
        reply = req.reply(connect_data=granted)
        reply.body.op_flags = op_flags
        return reply

    def _check_again(self, export: Export, req: ServerRequest) -> None:
        """Refuse a reconnect that is stale, or a namesake's while requests still run."""
        moved = export.connected and export.nid != req.peer
        if moved and req.body.op_flags & MSG_CONNECT_INITIAL:
            raise LustreError(EALREADY, f"{export.client_uuid} is connected from elsewhere")
        if export.running and req.body.handle != export.cookie:
            raise LustreError(EBUSY, f"{export.client_uuid} has requests under way")
        if req.body.conn_cnt == 1 or req.body.conn_cnt <= export.conn_cnt:
            raise LustreError(EALREADY, f"{export.client_uuid} is connected")

    def _install(self, export: Export, req: ServerRequest, granted: ObdConnectData) -> None:
        export.connect_data = granted
        export.era = era_of(min(req["connect_data"].version, granted.version))
        export.conn_cnt = req.body.conn_cnt
        export.nid = req.peer
        export.last_xid = 0
        export.last_heard_ns = self._rpc.env.now
        export.reverse = self._reverse(export, req)
        self._by_uuid[export.client_uuid] = export
        self._rpc.exports[export.cookie] = export
        if self._watch is None:
            self._schedule()

    def _reverse(self, export: Export, req: ServerRequest) -> Reverse:
        """The way back, anew with each connect; what was learned of the client's pace stays."""
        reverse = Reverse(self._rpc, self._target, req.peer, req["conn"])
        if export.reverse is not None:
            reverse.learn_from(export.reverse)
        reverse.era = export.era
        reverse.at_granted = export.granted(OBD_CONNECT_AT)
        return reverse

    # ---- leaving

    def remove(self, export: Export) -> None:
        """Drop a client; what it held is released by the hooks that were left on the export."""
        if export.closed:
            return
        export.closed = True
        self._by_uuid.pop(export.client_uuid, None)
        self._rpc.exports.pop(export.cookie, None)
        if self.recovery is not None:
            self.recovery.leave(export)
        for hook in export.on_close:
            hook(export)

    def close(self) -> None:
        """The target stops: forget everybody without a word."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for export in self:
            self.remove(export)

    def _schedule(self) -> None:
        at_ns = self._rpc.env.now + self._rpc.ping_interval_ns
        self._watch = self._rpc.deadlines.add(at_ns, self._evict_silent)

    def _evict_silent(self) -> None:
        """Evict who has said nothing for six ping intervals (ping_evictor_main)."""
        limit_ns = self._rpc.env.now - EVICT_INTERVALS * self._rpc.ping_interval_ns
        for export in self:
            if export.part is None and export.connected and export.last_heard_ns < limit_ns:
                export.evict("silent")
        self._watch = None
        if self._by_uuid:
            self._schedule()


def _supersedes(req: ServerRequest, export: Export) -> bool:
    """A server keeps its uuid: where it connects for the first time again, its last life is over.

    But exports between MDTs are kept, unless the other one has moved (target_handle_connect).
    """
    flags = req["connect_data"].connect_flags
    fresh = req.body.op_flags & MSG_CONNECT_INITIAL
    if flags & OBD_CONNECT_MDS_MDS:
        return export.nid != req.peer
    return bool(fresh and flags & (OBD_CONNECT_MDS | OBD_CONNECT_LIGHTWEIGHT))


def _between_mdts(req: ServerRequest) -> bool:
    """MDTs need one another to recover, so a new one may come meanwhile."""
    fresh = req.body.op_flags & MSG_CONNECT_INITIAL
    return bool(fresh and req["connect_data"].connect_flags & OBD_CONNECT_MDS_MDS)

"""Sending requests and matching replies: what imports and reverse imports have in common.

Does not know connection states; what an expired deadline means is up to the subclass. Stands for
ptl_send_rpc and reply_in_callback (ptlrpc/niobuf.c, events.c).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc import bulk, points
from labsim.net.ptlrpc.request import Request, as_message
from labsim.net.ptlrpc.rpc import PtlRpc
from labsim.net.ptlrpc.timeouts import PeerTimes
from labsim.wire.constants import (
    MSG_REPLAY,
    MSG_RESENT,
    MSGHDR_AT_SUPPORT,
    MSGHDR_CKSUM_INCOMPAT18,
    OBD_CONNECT_LIGHTWEIGHT,
    OBD_CONNECT_MDS_MDS,
    PTL_RPC_MSG_REQUEST,
)
from labsim.wire.eras import DECLARED
from labsim.wire.formats import format_in
from labsim.wire.lustre_msg import PtlrpcBody
from labsim.wire.message import Message, body_checksum
from labsim.wire.negotiate import in_era
from labsim.wire.opcodes import (
    MDS_CONNECT,
    MDS_DISCONNECT,
    MGS_CONNECT,
    MGS_DISCONNECT,
    OBD_PING,
    OST_CONNECT,
    OST_DISCONNECT,
    ROUTES,
    pb_version,
)
from labsim.wire.reply_room import announced, posted, reply_room

EOVERFLOW, ETIMEDOUT = 75, 110

CONNECTS = frozenset({MDS_CONNECT, OST_CONNECT, MGS_CONNECT})
SILENT = CONNECTS | {MDS_DISCONNECT, OST_DISCONNECT, MGS_DISCONNECT}
"""They tell nothing of what was replied to: replays, which have lower xids, may come after."""

AT_FLAGS = MSGHDR_AT_SUPPORT | MSGHDR_CKSUM_INCOMPAT18
"""lm_flags once adaptive timeouts were negotiated (imp_msghdr_flags)."""


class Pooled(Protocol):
    """Who keeps locks as the server's lock volume allows."""

    def told_volume(self, volume: int, limit: int) -> None:
        """It has changed."""


class Sender:
    """Requests under way to one peer, by xid."""

    __slots__ = (
        "_learned", "_times", "at_granted", "conn_cnt", "era", "handle", "jobs_granted",
        "last_reply_ns", "last_sent_ns", "life", "lock_volume", "outstanding",
        "peer", "pooled", "portals", "rpc",
    )  # fmt: skip

    def __init__(self, rpc: PtlRpc, peer: int, portals: tuple[int, int]) -> None:
        self.rpc = rpc
        self.peer = peer
        self.portals = portals
        self.handle = 0
        self.conn_cnt = 0
        self.outstanding: dict[int, Request] = {}
        self.life = 0
        """The conn_cnt with which the server's present life began; what it said before is void."""
        self.last_sent_ns = self.last_reply_ns = rpc.env.now
        """Of the last reply that was not to a ping."""
        self.lock_volume = (0, 0)
        """What the server last said of its lock pool: (pb_slv, pb_limit)."""
        self.pooled: Pooled | None = None
        self.era = DECLARED
        """The protocol that both sides know, once their versions are known."""
        self.at_granted = False
        """OBD_CONNECT_AT was negotiated; what is sent from then on says so."""
        self.jobs_granted = False
        """OBD_CONNECT_JOBSTATS was negotiated: requests say for which job they are."""
        self._times: PeerTimes | None = None
        self._learned: tuple[int, ...] = ()

    @property
    def times(self) -> PeerTimes:
        """What is known of the peer's pace."""
        if self._times is None:
            self._times = PeerTimes(self.rpc.timeouts, self.rpc.now_s)
        return self._times

    def learn_from(self, former: Sender) -> None:
        """It is the same peer: go on with what was known of its pace."""
        self._times = former.times

    @property
    def adaptive(self) -> bool:
        """True where timeouts follow what the peer takes; at_max = 0 turns that off."""
        return self.at_granted and self.rpc.timeouts.at_max > 0

    def launch(self, request: Request) -> None:
        """Give the request its xid and send it for the first time."""
        rpc = self.rpc
        request.xid = rpc.next_xid()
        if request.done is None:
            request.done = rpc.env.event()
        self.outstanding[request.xid] = request
        self.send(request)

    def send(self, request: Request, fresh_mbits: bool = False) -> None:
        """Post the reply and bulk buffers, then put the request on the wire."""
        rpc = self.rpc
        opcode = request.opcode
        route = ROUTES[opcode]
        request_portal = request.portal or route.request_portal or self.portals[0]
        reply_portal = route.reply_portal or self.portals[1]
        if request.bulk_in is not None or request.bulk_out is not None:
            bulk.withdraw(request)
            base = rpc.next_xid() if fresh_mbits else request.xid
            bulk.expose(rpc, request, route.bulk_portal, base)
        fmt = format_in(request.format, self.era)
        room = reply_room(fmt, request.fields, request.reply_sizes)
        if request.entry is None:
            request.entry = rpc.lnet.post(
                reply_portal, request.xid, self._receiver(request), truncate=True,
                room=posted(request.replen or room) if room else None,
            )  # fmt: skip
        request.sent_ns = self.last_sent_ns = rpc.env.now
        request.sent_s = rpc.now_s
        request.sent_to = request_portal
        timeout_ns = self.patience_ns(request)
        self._arm(request, timeout_ns)
        request.adaptive = self.at_granted and opcode not in CONNECTS
        flags = AT_FLAGS if request.adaptive else 0
        body = self._body(request, timeout_ns)
        message = Message(request.format, request.fields, body, flags, announced(fmt, room))
        message = in_era(message, self.era)
        if not rpc.faults or not self._waylaid(request, message, timeout_ns):
            self._put(self.peer, request, message)

    def _put(self, peer: int, request: Request, message: Message) -> None:
        """Put the request on the wire."""
        rpc = self.rpc
        rpc.trace.emit("rpc.send", request.opcode, request.xid, peer, message.wire_size)
        rpc.lnet.put(peer, request.sent_to, request.xid, message)

    def _waylaid(self, request: Request, message: Message, timeout_ns: int) -> bool:
        """Is the request lost, or on its way only after its time is over?"""
        rpc = self.rpc
        if rpc.faults.hit(points.PTLRPC_DROP_RPC):
            return True
        if of_osp(request) and rpc.faults.hit(points.PTLRPC_DELAY_RECOV):
            return True
        if not rpc.faults.hit(points.PTLRPC_DELAY_SEND):
            return False
        rpc.deadlines.add(
            rpc.env.now + timeout_ns + 5 * NS_PER_S,
            partial(self._put, self.peer, request, message),
        )
        return True

    def _body(self, request: Request, timeout_ns: int) -> PtlrpcBody:
        if self.jobs_granted and not request.jobid:
            request.jobid = self.rpc.jobid()
        body = PtlrpcBody(
            handle=self.handle,
            type=PTL_RPC_MSG_REQUEST,
            version=pb_version(request.opcode),
            opc=request.opcode,
            last_xid=0 if request.opcode in SILENT else self.known_replied(),
            tag=request.tag,
            flags=request.flags,
            op_flags=request.op_flags,
            conn_cnt=self.conn_cnt,
            timeout=timeout_ns // 1_000_000_000,
            mbits=request.mbits,
            jobid=request.jobid if self.jobs_granted else "",
        )
        if request.flags & MSG_REPLAY:
            body.transno = request.transno
            body.pre_versions = request.pre_versions
            body.service_time = self.times.latency_s()
        return body

    def known_replied(self) -> int:
        """The highest xid X such that every request up to X was replied to (pb_last_xid)."""
        return next(iter(self.outstanding), 1) - 1

    def patience_ns(self, request: Request) -> int:
        """How long the peer may take; the network's time comes on top (pb_timeout)."""
        if request.timeout_ns:
            return request.timeout_ns
        if self.adaptive:
            return self.times.timeout_s(request.sent_to, request.sent_s) * NS_PER_S
        return self.rpc.timeout_ns

    def _arm(self, request: Request, timeout_ns: int) -> None:
        """Have `expired` called when the peer has had its time."""
        if self.adaptive:
            timeout_ns += self.times.latency_s() * NS_PER_S
        if request.deadline is not None:
            request.deadline.cancel()

        def expired() -> None:
            request.deadline = None
            if not request.done.triggered:
                self.rpc.trace.emit("rpc.timeout", request.opcode, request.xid, self.peer)
                self.expired(request)

        request.deadline = self.rpc.deadlines.add(request.sent_ns + timeout_ns, expired)

    def _receiver(self, request: Request) -> Any:
        def receive(packet: Any) -> None:
            if packet.payload is None:
                self._truncated(request, packet)
                return
            try:
                reply = as_message(
                    packet.payload, request=False, format_=format_in(request.format, self.era)
                )
                reply = in_era(reply, self.era)
            except ProtocolError as error:
                self.rpc.refuse(packet.src, error)
                return
            if reply.body.conn_cnt < self.life:
                self.rpc.trace.emit("rpc.last_life", request.opcode, request.xid)
            elif request.adaptive and packet.offset == 0:
                self._early(request, reply)
            elif not request.done.triggered:
                if request.opcode != OBD_PING:
                    self.last_reply_ns = self.rpc.env.now
                if request.adaptive:
                    self._learn(request, reply.body)
                if reply.body.slv and self.lock_volume != (reply.body.slv, reply.body.limit):
                    self.lock_volume = reply.body.slv, reply.body.limit
                    if self.pooled is not None:
                        self.pooled.told_volume(*self.lock_volume)
                if request.bulk_in is not None:
                    request.collect()
                self.answered(request, reply)

        return receive

    def _truncated(self, request: Request, packet: Any) -> None:
        """The reply is longer than its buffer: ask again with one that has the room (after_reply).

        Nothing was read of it. EOVERFLOW for a request that must not be resent.
        """
        if request.done.triggered:
            return
        self.rpc.trace.emit("rpc.truncated", request.opcode, request.xid, packet.length)
        if request.no_resend:
            self.fail(request, LustreError(EOVERFLOW, f"a reply of {packet.length} bytes"))
            return
        request.replen = packet.offset + packet.length
        self._close(request)
        self.resend(request)

    def resend(self, request: Request) -> None:
        """Send a request a second time (MSG_RESENT)."""
        request.flags |= MSG_RESENT
        self.send(request, fresh_mbits=True)

    def _early(self, request: Request, reply: Message) -> None:
        """The server asks for more time (ptlrpc_at_recv_early_reply); ignored if it is damaged."""
        if request.done.triggered or reply.cksum != body_checksum(reply.body):
            return
        body = reply.body
        self.rpc.trace.emit("rpc.more_time", request.opcode, request.xid, body.timeout)
        self.times.learn_network(request.sent_s, body.service_time, self.rpc.now_s)
        self._arm(request, body.timeout * NS_PER_S)

    def _learn(self, request: Request, body: PtlrpcBody) -> None:
        """Take in what the reply says; the same within one second is said once."""
        now_s = self.rpc.now_s
        told = (request.sent_to, body.timeout, body.service_time, request.sent_s, now_s)
        if told == self._learned:
            return
        self._learned = told
        self.times.learn_service(request.sent_to, body.timeout, now_s)
        self.times.learn_network(request.sent_s, body.service_time, now_s)

    def answered(self, request: Request, reply: Message) -> None:
        """A reply is there; wake the caller."""
        request.done.succeed(reply)

    def expired(self, request: Request) -> None:
        """A deadline has passed; without more knowledge the request has failed (ETIMEDOUT)."""
        self.fail(request, LustreError(ETIMEDOUT, f"no reply from {self.peer}"))

    def fail(self, request: Request, error: LustreError) -> None:
        """Give up on a request; its caller gets `error`."""
        if not request.done.triggered:
            request.done.defused = True
            request.done.fail(error)

    def retire(self, request: Request) -> None:
        """Forget a request that is over, and close its buffers."""
        self.outstanding.pop(request.xid, None)
        if request.deadline is not None:
            request.deadline.cancel()
            request.deadline = None
        self._close(request)
        if request.exposed:
            bulk.withdraw(request)

    @staticmethod
    def _close(request: Request) -> None:
        """Take the reply buffer away."""
        if request.entry is not None:
            request.entry.unlink()
            request.entry = None


def of_osp(request: Request) -> bool:
    """Does an MDT connect to another one, for more than sequences (osp_connect_to_osd)?"""
    if request.opcode != MDS_CONNECT:
        return False
    kind = OBD_CONNECT_MDS_MDS | OBD_CONNECT_LIGHTWEIGHT
    flags: int = request.fields["connect_data"].connect_flags
    return flags & kind == OBD_CONNECT_MDS_MDS

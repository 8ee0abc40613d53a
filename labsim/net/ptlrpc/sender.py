"""Sending requests and matching replies: what imports and reverse imports have in common.

Does not know connection states; what an expired deadline means is up to the subclass. Stands for
ptl_send_rpc and reply_in_callback (ptlrpc/niobuf.c, events.c).
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError, ProtocolError
from labsim.net.ptlrpc import bulk
from labsim.net.ptlrpc.request import Request, as_message
from labsim.net.ptlrpc.rpc import PtlRpc
from labsim.wire.constants import PTL_RPC_MSG_REQUEST
from labsim.wire.lustre_msg import PtlrpcBody
from labsim.wire.message import Message
from labsim.wire.opcodes import ROUTES, pb_version


class Sender:
    """Requests under way to one peer, by xid."""

    def __init__(self, rpc: PtlRpc, peer: int, portals: tuple[int, int]) -> None:
        self.rpc = rpc
        self.peer = peer
        self.portals = portals
        self.handle = 0
        self.conn_cnt = 0
        self.outstanding: dict[int, Request] = {}
        self.last_reply_ns = rpc.env.now
        self.committed = 0

    def launch(self, request: Request, timeout_ns: int) -> None:
        """Give the request its xid and send it for the first time."""
        rpc = self.rpc
        request.xid = rpc.next_xid()
        if request.done is None:
            request.done = rpc.env.event()
        self.outstanding[request.xid] = request
        self.send(request, timeout_ns)

    def send(self, request: Request, timeout_ns: int, fresh_mbits: bool = False) -> None:
        """Post the reply and bulk buffers, then put the request on the wire."""
        rpc = self.rpc
        opcode = request.opcode
        route = ROUTES[opcode]
        request_portal = request.portal or route.request_portal or self.portals[0]
        reply_portal = route.reply_portal or self.portals[1]
        if request.bulk_in is not None or request.bulk_out is not None:
            bulk.withdraw(request)
            base = rpc.next_xid() if fresh_mbits else request.xid
            bulk.expose(rpc.lnet, request, route.bulk_portal, base)
        if request.entry is None:
            request.entry = rpc.lnet.post(reply_portal, request.xid, self._receiver(request))
        request.sent_ns = rpc.env.now
        self._arm(request, timeout_ns)
        message = Message(request.format, request.fields, self._body(request, timeout_ns))
        rpc.trace.emit("rpc.send", opcode, request.xid, self.peer, message.wire_size)
        rpc.lnet.put(self.peer, request_portal, request.xid, message)

    def _body(self, request: Request, timeout_ns: int) -> PtlrpcBody:
        return PtlrpcBody(
            handle=self.handle,
            type=PTL_RPC_MSG_REQUEST,
            version=pb_version(request.opcode),
            opc=request.opcode,
            last_xid=self._last_replied(),
            tag=request.tag,
            flags=request.flags,
            op_flags=request.op_flags,
            conn_cnt=self.conn_cnt,
            timeout=timeout_ns // 1_000_000_000,
            mbits=request.mbits,
        )

    def _last_replied(self) -> int:
        """The highest xid X such that every request up to X was replied to (pb_last_xid)."""
        first = next(iter(self.outstanding), None)
        return max(first - 1, 0) if first is not None else 0

    def _arm(self, request: Request, timeout_ns: int) -> None:
        if request.deadline is not None:
            request.deadline.cancel()

        def expired() -> None:
            request.deadline = None
            if not request.done.triggered:
                self.rpc.trace.emit("rpc.timeout", request.opcode, request.xid, self.peer)
                self.expired(request)

        request.deadline = self.rpc.deadlines.add(self.rpc.env.now + timeout_ns, expired)

    def _receiver(self, request: Request) -> Any:
        def receive(packet: Any) -> None:
            try:
                reply = as_message(packet.payload, request=False, format_=request.format)
            except ProtocolError as error:
                self.rpc.refuse(packet.src, error)
                return
            if not request.done.triggered:
                self.last_reply_ns = self.rpc.env.now
                self.committed = max(self.committed, reply.body.last_committed)
                request.collect()
                self.answered(request, reply)

        return receive

    def answered(self, request: Request, reply: Message) -> None:
        """A reply is there; wake the caller."""
        request.done.succeed(reply)

    def expired(self, request: Request) -> None:
        """A deadline has passed; without more knowledge the request has failed (ETIMEDOUT)."""
        self.fail(request, LustreError(110, f"no reply from {self.peer}"))

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
        if request.entry is not None:
            request.entry.unlink()
            request.entry = None
        if request.exposed:
            bulk.withdraw(request)

"""A service: takes requests off a portal and has them handled, so many at a time.

Knows threads, duplicates and how errors travel, not what the handlers do. Stands for struct
ptlrpc_service and tgt_request_handle (target/tgt_handler.c).
"""

from __future__ import annotations

from collections import deque
from types import GeneratorType
from typing import Any

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.faults import Crash, Dropped
from labsim.net.ptlrpc.early import ServiceTimes
from labsim.net.ptlrpc.request import as_message
from labsim.net.ptlrpc.rpc import PtlRpc
from labsim.net.ptlrpc.sender import CONNECTS
from labsim.net.ptlrpc.server_request import ServerRequest
from labsim.runtime.ports import Steps
from labsim.wire.constants import PTL_RPC_MSG_REQUEST
from labsim.wire.message import Message
from labsim.wire.negotiate import in_era
from labsim.wire.opcodes import pb_version

ENODEV, EPROTO, ENOTCONN, EINVAL, ENOTSUPP = 19, 71, 107, 22, 524


NOBODY: deque[ServerRequest] = deque(maxlen=0)
"""The queue of a service that never had one: most of a thousand clients' stay that way."""


class Service:
    """One request portal, a queue, and a number of threads.

    `observe`, where given, is called as observe(opcode, wait_ns, service_ns) after each request.
    `on_crash` is called when a fault point asks for the node's power to go.
    """

    def __init__(
        self,
        rpc: PtlRpc,
        name: str,
        portal: int,
        reply_portal: int,
        threads: int = 64,
        observe: Any = None,
        on_crash: Any = None,
    ) -> None:
        self._rpc = rpc
        self.name = name
        self.portal = portal
        self.threads = threads
        self.busy = 0
        self.handled = 0
        self.observe = observe
        self.times = ServiceTimes(rpc)
        self._on_crash = on_crash
        self._reply_portal = reply_portal
        self._queue: deque[ServerRequest] = NOBODY
        self._stopped = False
        rpc.lnet.serve(portal, self._arrived)

    @property
    def queued(self) -> int:
        """Requests that wait for a thread."""
        return len(self._queue)

    def stop(self) -> None:
        """Take nothing more; what runs is left to end by itself, unanswered."""
        self._stopped = True
        self._queue = NOBODY
        self.times.stop()

    def _arrived(self, packet: Any) -> None:
        """A request came in: check it, find its export, give it to a thread or queue it."""
        if self._stopped:
            return
        try:
            msg = as_message(packet.payload, request=True)
            if msg.body.type != PTL_RPC_MSG_REQUEST:
                raise ProtocolError(f"ptlrpc_body.pb_type at 8: {msg.body.type} is no request")
        except ProtocolError as error:
            self._rpc.refuse(packet.src, error)
            return
        req = ServerRequest(self._rpc, packet.src, packet.match, msg, self._reply_portal)
        if not self._admit(req):
            return
        if self.busy < self.threads:
            self.busy += 1
            self._rpc.env.process(self._thread(req))
        else:
            if self._queue is NOBODY:
                self._queue = deque()
            self._queue.append(req)

    def _admit(self, req: ServerRequest) -> bool:
        """Find the export; answer or drop what is stale, unknown, or here already."""
        body = req.body
        if req.opcode in CONNECTS:
            return True
        export = self._rpc.exports.get(body.handle)
        if export is None or export.nid != req.peer:
            self._send(req, req.fail_reply(ENOTCONN))
            return False
        if body.conn_cnt < export.conn_cnt:
            self._rpc.trace.emit("rpc.stale", req.opcode, req.xid)
            return False
        req.export = export
        req.msg = in_era(req.msg, export.era)
        export.last_heard_ns = self._rpc.env.now
        if req.xid in export.running:
            self._rpc.trace.emit("rpc.duplicate", req.opcode, req.xid)
            self.times.again(export.running[req.xid], req)
            return False
        if not export.last_xid < req.xid > body.last_xid:
            self._rpc.trace.emit("rpc.old_xid", req.opcode, req.xid, body.last_xid)
            self._send(req, req.fail_reply(EPROTO))
            return False
        export.forget_replies(body.last_xid)
        if req.resent and req.xid in export.replies:
            self._rpc.trace.emit("rpc.again", req.opcode, req.xid)
            self._send(req, export.replies[req.xid])
            return False
        export.running[req.xid] = req
        self.times.begin(req)
        return True

    def _thread(self, req: ServerRequest) -> Steps[None]:
        """Handle requests until none is waiting."""
        while True:
            start_ns = self._rpc.env.now
            if req.export is None or start_ns <= req.deadline_ns:
                yield from self._handle(req)
            else:
                self._drop(req)
            self.handled += 1
            if self.observe is not None:
                now = self._rpc.env.now
                self.observe(req.opcode, start_ns - req.arrival_ns, now - start_ns)
            if not self._queue:
                break
            req = self._queue.popleft()
        self.busy -= 1

    def _drop(self, req: ServerRequest) -> None:
        """The client has given up while the request was queued (ptlrpc_server_handle_request)."""
        self._rpc.trace.emit("rpc.late", req.opcode, req.xid, req.peer)
        self.times.end(req)
        req.export.running.pop(req.xid, None)

    def _handle(self, req: ServerRequest) -> Steps[None]:
        reply: Message | None
        try:
            reply = self._dispatch(req)
            if isinstance(reply, GeneratorType):
                reply = yield from reply
        except LustreError as error:
            reply = req.fail_reply(error.errno)
        except ProtocolError as error:
            self._rpc.refuse(req.peer, error)
            reply = req.fail_reply(EPROTO)
        except Dropped as dropped:
            self._rpc.trace.emit("rpc.dropped", req.opcode, req.xid, str(dropped))
            reply = None
        except Crash:
            reply = None
            if self._on_crash is not None:
                self._on_crash()
        self.times.end(req)
        export = req.export
        if export is not None:
            export.running.pop(req.xid, None)
            if req.body.jobid and reply is not None and reply.status >= 0:
                export.target.count_job(req, reply)
            if reply is not None and not req.pushed and req.opcode not in CONNECTS:
                export.replies[req.xid] = reply
        if reply is not None and not self._stopped:
            self._send(req, reply)

    def _dispatch(self, req: ServerRequest) -> Any:
        if req.opcode in CONNECTS:
            target = self._rpc.targets.get(req["tgtuuid"])
            if target is None:
                raise LustreError(ENODEV, f"no target {req['tgtuuid']}")
        else:
            target = req.export.target
        handler = target.handler(req.opcode)
        if handler is None:
            raise LustreError(ENOTSUPP, f"opcode {req.opcode}")
        if req.body.version != pb_version(req.opcode):
            raise LustreError(EINVAL, f"version {req.body.version:#x} of opcode {req.opcode}")
        return handler(req)

    def _send(self, req: ServerRequest, reply: Message) -> None:
        target = req.export.target if req.export is not None else None
        if target is not None:
            reply.body.last_committed = target.last_committed
            reply = in_era(reply, req.export.era)
        rpc = self._rpc
        offset = self.times.stamp(req, reply)
        rpc.trace.emit("rpc.reply", req.opcode, req.xid, req.peer, reply.status, reply.wire_size)
        rpc.lnet.put(req.peer, req.reply_portal, req.xid, reply, offset=offset)
        for hook in req.hooks:
            hook()

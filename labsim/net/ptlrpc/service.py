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
from labsim.net.ptlrpc import points
from labsim.net.ptlrpc.early import ServiceTimes
from labsim.net.ptlrpc.request import as_message
from labsim.net.ptlrpc.rpc import PtlRpc
from labsim.net.ptlrpc.sender import CONNECTS
from labsim.net.ptlrpc.server_request import ServerRequest
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    MSG_REPLAY,
    MSG_REQ_REPLAY_DONE,
    MSG_RESENT,
    PTL_RPC_MSG_REQUEST,
)
from labsim.wire.message import Message
from labsim.wire.negotiate import in_era
from labsim.wire.opcodes import pb_version

EAGAIN, ENODEV, EPROTO, ENOTCONN, EINVAL, ENOTSUPP = 11, 19, 71, 107, 22, 524


AGAIN = MSG_RESENT | MSG_REPLAY
RECOVERING = MSG_REPLAY | MSG_REQ_REPLAY_DONE
"""What makes sense only while the target recovers."""

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
        if self._rpc.faults.hit(points.PTLRPC_DROP_REQ_OPC, msg.body.opc):
            return
        req = ServerRequest(self._rpc, packet.src, packet.match, msg, self._reply_portal)
        if not self._admit(req):
            return
        export = req.export
        if export is not None and export.part is not None:
            recovery = export.target.exports.recovery
            self._rpc.env.process(recovery.take(self, req))
        else:
            self.run(req)

    def run(self, req: ServerRequest) -> None:
        """Give an admitted request to a thread, or queue it."""
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
        misplaced = body.transno or body.flags & RECOVERING
        if misplaced and export.part is None and export.connected:
            self._send(req, req.fail_reply(ENODEV))
            export.evict("replays, and nobody recovers")
            return False
        if export.unaware:
            export.target.on_aware(export)
        first = export.running.get(req.xid)
        if first is not None:
            self._rpc.trace.emit("rpc.duplicate", req.opcode, req.xid)
            first.renewed(req)
            self.times.again(first, req)
            return False
        if export.ordered and not self._in_order(req, export):
            return False
        export.run(req)
        self.times.begin(req)
        return True

    def _in_order(self, req: ServerRequest, export: Any) -> bool:
        """Does the xid fit to what the client said it has (process_req_last_xid)?

        What is known by its xid must say that it comes again (tgt_handle_recovery).
        """
        body = req.body
        again = body.flags & AGAIN
        if not export.last_xid < req.xid > body.last_xid and not again & MSG_REPLAY:
            self._rpc.trace.emit("rpc.old_xid", req.opcode, req.xid, body.last_xid)
            self._send(req, req.fail_reply(EPROTO))
            return False
        if body.last_xid > export.last_xid or (body.tag and not again):
            export.forget_replies(body.last_xid, 0 if again else body.tag)
        if not again and req.xid in export.replies:
            self._send(req, req.fail_reply(ENOTCONN))
            return False
        return True

    def _thread(self, req: ServerRequest) -> Steps[None]:
        """Handle requests until none is waiting."""
        while True:
            yield from self._rpc.faults.visit(points.PTLRPC_PAUSE_REQ)
            start_ns = self._rpc.env.now
            if req.export is None or start_ns <= req.deadline_ns:
                yield from self.execute(req)
            else:  # the client has given up while it was queued (ptlrpc_server_handle_request)
                self._rpc.trace.emit("rpc.late", req.opcode, req.xid, req.peer)
                self.drop(req)
            self.handled += 1
            if self.observe is not None:
                now = self._rpc.env.now
                self.observe(req.opcode, start_ns - req.arrival_ns, now - start_ns)
            if not self._queue:
                break
            req = self._queue.popleft()
        self.busy -= 1

    def refuse(self, req: ServerRequest, errno: int) -> None:
        """Answer an admitted request with an error, without doing it."""
        self.drop(req)
        if not self._stopped:
            self._send(req, req.fail_reply(errno))

    def drop(self, req: ServerRequest) -> None:
        """Forget an admitted request; its client may send it again."""
        self.times.end(req)
        req.export.running.pop(req.xid, None)

    def execute(self, req: ServerRequest) -> Steps[None]:
        """Do an admitted request and answer it."""
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
        if reply is not None and not self._stopped:
            self._send(req, reply)

    def _dispatch(self, req: ServerRequest) -> Any:
        if req.opcode in CONNECTS:
            target = self._rpc.targets.get(req["tgtuuid"])
            if target is None:
                raise LustreError(ENODEV, f"no target {req['tgtuuid']}")
        else:
            target = req.export.target
        if target.failing:
            raise LustreError(ENODEV, f"{target.name} is stopping")
        if target.starting:
            raise LustreError(EAGAIN, f"{target.name} is starting")
        handler = target.handler(req.opcode)
        if handler is None:
            raise LustreError(ENOTSUPP, f"opcode {req.opcode}")
        if req.body.version != pb_version(req.opcode):
            raise LustreError(EINVAL, f"version {req.body.version:#x} of opcode {req.opcode}")
        return handler(req)

    def _send(self, req: ServerRequest, reply: Message) -> None:
        target = req.export.target if req.export is not None else None
        if target is not None:
            reply.body.last_committed = req.export.last_committed
            target.stamp(reply, req.export)
            reply = in_era(reply, req.export.era)
        rpc = self._rpc
        offset = self.times.stamp(req, reply)
        rpc.trace.emit("rpc.reply", req.opcode, req.xid, req.peer, reply.status, reply.wire_size)
        saved = target.awaits_ack(req) if target is not None else None
        acked = saved.acked if saved is not None else None
        entry = rpc.lnet.put(req.peer, req.reply_portal, req.xid, reply, offset=offset, ack=acked)
        if saved is not None:
            saved.sent(entry)
        for hook in req.hooks:
            hook()

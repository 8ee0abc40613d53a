"""Early replies: a service that is slow asks its clients for more time before they give up.

Knows deadlines, not why a request takes long. Stands for the timed requests of a
ptlrpc_service_part: ptlrpc_at_add_timed, ptlrpc_at_check_timed, ptlrpc_at_send_early_reply.
"""

from __future__ import annotations

from typing import Any

from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc.rpc import PtlRpc
from labsim.net.ptlrpc.server_request import ServerRequest
from labsim.net.ptlrpc.timeouts import SERVICE_GUESS_S, Estimate
from labsim.wire.constants import (
    MSG_LOCK_REPLAY_DONE,
    MSG_REPLAY,
    MSG_REQ_REPLAY_DONE,
    MSG_RESENT,
    MSGHDR_AT_SUPPORT,
    PTL_RPC_MSG_ERR,
    PTL_RPC_MSG_REPLY,
    PTLRPC_MSG_VERSION,
)
from labsim.wire.lustre_msg import PtlrpcBody
from labsim.wire.message import Message, body_checksum
from labsim.wire.reply_room import EARLY_SIZE

RECOVERING = MSG_REPLAY | MSG_REQ_REPLAY_DONE | MSG_LOCK_REPLAY_DONE
"""What waits for other clients says nothing of how long the service takes."""


class ServiceTimes:
    """What one service takes, and which of its requests run out of time."""

    def __init__(self, rpc: PtlRpc) -> None:
        self._rpc = rpc
        self.estimate = Estimate(SERVICE_GUESS_S, rpc.now_s)
        self._timed: dict[ServerRequest, None] = {}
        self._alarm: Any = None
        self._alarm_ns = 0
        self._measured = (0, 0)

    # ---- requests come and go

    def begin(self, req: ServerRequest) -> None:
        """A request has been accepted; its client waits for pb_timeout, or for obd_timeout."""
        if not req.adaptive:
            req.deadline_ns = req.arrival_ns + self._rpc.timeout_ns
            return
        req.deadline_ns = req.arrival_ns + req.body.timeout * NS_PER_S
        if self._rpc.timeouts.at_max:
            self._timed[req] = None
            self._watch(req.deadline_ns)

    def again(self, req: ServerRequest, copy: ServerRequest) -> None:
        """A second copy of a running request came: its client waits longer than it said before."""
        req.deadline_ns = copy.arrival_ns + copy.body.timeout * NS_PER_S
        if copy.adaptive and self._rpc.timeouts.at_max:
            self._timed[req] = None
            self._watch(req.deadline_ns)

    def end(self, req: ServerRequest) -> None:
        """It will be answered now, or never."""
        self._timed.pop(req, None)

    def stop(self) -> None:
        """Nobody is told anything any more."""
        self._timed.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # ---- replies

    def stamp(self, req: ServerRequest, reply: Message) -> int:
        """Say in a reply how long this and any request takes (ptlrpc_at_set_reply).

        Returns the offset in the client's buffer that the reply goes to. Errors and repeated
        requests say nothing about the service.
        """
        now_s = self._rpc.now_s
        took_s = max(now_s - req.arrival_s, 1)
        body = reply.body
        again = req.body.flags & (MSG_RESENT | RECOVERING)
        telling = body.type != PTL_RPC_MSG_ERR and not again
        if telling and self._measured != (took_s, now_s):
            self._measured = (took_s, now_s)
            self.estimate.measured(took_s, now_s, self._rpc.timeouts)
        body.service_time = took_s
        body.timeout = self.estimate.get(self._rpc.timeouts)
        return EARLY_SIZE if req.adaptive else 0

    # ---- early replies

    def _watch(self, deadline_ns: int) -> None:
        due_ns = deadline_ns - self._rpc.timeouts.at_early_margin * NS_PER_S
        if self._alarm is None or due_ns < self._alarm_ns:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_ns = due_ns
            self._alarm = self._rpc.deadlines.add(due_ns, self._check)

    def _check(self) -> None:
        """Ask for time for everything that has no more than the margin left."""
        self._alarm = None
        limit_ns = self._rpc.env.now + self._rpc.timeouts.at_early_margin * NS_PER_S
        due = [req for req in self._timed if req.deadline_ns <= limit_ns]
        for req in due:
            if not self._ask(req):
                del self._timed[req]
        if self._timed:
            self._watch(min(req.deadline_ns for req in self._timed))

    def _ask(self, req: ServerRequest) -> bool:
        """Send one early reply; False where no more time can be had."""
        rpc = self._rpc
        if not rpc.timeouts.at_max or req.deadline_ns < rpc.env.now:
            return False
        took_s = (rpc.env.now - req.arrival_ns) // NS_PER_S
        deadline_ns, estimate_s = self._extension(req, took_s)
        if req.deadline_ns >= deadline_ns:
            return False
        req.deadline_ns = deadline_ns
        rpc.trace.emit("rpc.early", req.opcode, req.xid, req.peer, estimate_s)
        rpc.lnet.put(req.peer, req.reply_portal, req.xid, _early(req, estimate_s, max(took_s, 1)))
        return True

    def _extension(self, req: ServerRequest, took_s: int) -> tuple[int, int]:
        """(new deadline, what the client is told that it takes).

        While clients recover at least four early replies fit into the window.
        """
        limits = self._rpc.timeouts
        recovery = req.export.target.exports.recovery if req.body.flags & RECOVERING else None
        if recovery is not None:
            more_s = min(limits.at_extra, recovery.soft_s // 4)
            return self._rpc.env.now + more_s * NS_PER_S, took_s + more_s
        self.estimate.measured(limits.at_extra + took_s, self._rpc.now_s, limits)
        estimate_s = self.estimate.get(limits)
        return req.arrival_ns + estimate_s * NS_PER_S, estimate_s


def _early(req: ServerRequest, estimate_s: int, took_s: int) -> Message:
    """The body alone, with a checksum: the client may get it while the real reply is written."""
    body = PtlrpcBody(
        handle=req.body.handle,
        type=PTL_RPC_MSG_REPLY,
        version=PTLRPC_MSG_VERSION,
        opc=req.opcode,
        conn_cnt=req.body.conn_cnt,
        timeout=estimate_s,
        service_time=took_s,
    )
    reply = Message(req.format, {}, body, flags=MSGHDR_AT_SUPPORT, request=False)
    reply.bufcount = 1
    reply.cksum = body_checksum(body)
    return reply

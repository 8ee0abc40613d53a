"""A request as its receiver sees it.

Does not know the target that handles it. Stands for struct ptlrpc_request on the server.
"""

from __future__ import annotations

from typing import Any

from labsim.base.faults import Dropped
from labsim.base.payload import Payload
from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc.bulk import Transfer
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    MSG_REPLAY,
    MSG_RESENT,
    MSGHDR_AT_SUPPORT,
    PTL_RPC_MSG_ERR,
    PTL_RPC_MSG_REPLY,
    PTLRPC_MSG_VERSION,
)
from labsim.wire.lustre_msg import PtlrpcBody
from labsim.wire.message import Message
from labsim.wire.opcodes import ROUTES

PLAIN_FAILURES = frozenset({28, 13, 1, 2, 115, 122})
"""ENOSPC EACCES EPERM ENOENT EINPROGRESS EDQUOT go out as normal replies (target/tgt_handler.c)."""


class ServerRequest:
    """One request under way on a server: its message, who sent it, and what the reply will say."""

    __slots__ = (
        "adaptive",
        "arrival_ns",
        "arrival_s",
        "body",
        "deadline_ns",
        "export",
        "format",
        "hooks",
        "msg",
        "noted",
        "opcode",
        "opdata",
        "peer",
        "pre_versions",
        "pushed",
        "reply_portal",
        "rpc",
        "transno",
        "xid",
    )

    def __init__(self, rpc: Any, peer: int, xid: int, msg: Message, default_reply: int) -> None:
        self.rpc = rpc
        self.peer = peer
        self.xid = xid
        self.msg = msg
        self.body = msg.body
        self.format = msg.fmt
        self.opcode: int = msg.body.opc
        self.arrival_ns: int = rpc.env.now
        self.arrival_s: int = rpc.now_s
        self.deadline_ns = self.arrival_ns
        """How long the client waits; moves on with early replies."""
        self.adaptive = bool(msg.flags & MSGHDR_AT_SUPPORT)
        """The client may be asked for more time."""
        self.export: Any = None
        self.transno = 0
        self.noted: Any = None
        """What was kept of an earlier part of it, until that is replaced (a Reply)."""
        self.opdata = 0
        """What is kept besides the status for one who asks again (an open's disposition)."""
        self.pre_versions = (0, 0, 0, 0)
        self.pushed = False
        self.hooks: list[Any] = []
        route = ROUTES.get(self.opcode)
        self.reply_portal = route.reply_portal if route and route.reply_portal else default_reply

    def __getitem__(self, field: str) -> Any:
        return self.msg[field]

    def get(self, field: str, default: Any = None) -> Any:
        """The buffer `field`, or `default` where the sender left it out."""
        return self.msg.get(field, default)

    def has(self, field: str) -> bool:
        """True when the sender filled the buffer `field`."""
        return self.msg.has(field)

    @property
    def resent(self) -> bool:
        """True when the client sends this for a second time (MSG_RESENT)."""
        return bool(self.body.flags & MSG_RESENT)

    @property
    def replay(self) -> bool:
        """True when the client repeats what a restart may have lost (MSG_REPLAY)."""
        return bool(self.body.flags & MSG_REPLAY)

    def renewed(self, copy: ServerRequest) -> None:
        """The client has sent it again: its bulk is under other match bits now."""
        self.body.mbits = copy.body.mbits

    # ---- bulk

    def _transfer(self) -> Transfer:
        mbits = self.body.mbits or self.xid
        portal = ROUTES[self.opcode].bulk_portal
        end_ns: int = self.rpc.env.now + self.rpc.timeouts.bulk_timeout * NS_PER_S

        def patience_ns() -> int:
            export = self.export
            if export.closed or export.conn_cnt > self.body.conn_cnt:
                return 0
            due_ns: int = self.deadline_ns
            return min(end_ns, due_ns)

        return Transfer(self.rpc, self.peer, portal, mbits, patience_ns)

    def pull(self, nbytes: int) -> Steps[Payload]:
        """Fetch the `nbytes` that the client wants to write.

        A bulk that fails gets no reply, so that the client sends the RPC again.
        """
        data = yield from self._transfer().pull(nbytes)
        if data is None:
            raise Dropped("bulk GET")
        return data

    def push(self, data: Payload) -> Steps[None]:
        """Put `data` into the client's buffers."""
        self.pushed = True
        if not (yield from self._transfer().push(data)):
            raise Dropped("bulk PUT")

    # ---- answering

    def reply(self, status: int = 0, **fields: Any) -> Message:
        """The reply, with its buffers by name; `status` may be positive (bytes, ELDLM codes)."""
        body = PtlrpcBody(
            handle=self.export.cookie if self.export is not None else self.body.handle,
            type=PTL_RPC_MSG_REPLY,
            version=PTLRPC_MSG_VERSION,
            opc=self.opcode,
            status=status,
            transno=self.transno,
            conn_cnt=self.body.conn_cnt,
            pre_versions=self.pre_versions,
        )
        return Message(self.format, fields, body, request=False)

    def fail_reply(self, errno: int, **fields: Any) -> Message:
        """A reply that says -errno; without buffers most errnos make it an error message."""
        reply = self.reply(-errno, **fields)
        if not fields and errno not in PLAIN_FAILURES:
            reply.body.type = PTL_RPC_MSG_ERR
        return reply

"""A request as its sender sees it.

Does not know imports. Stands for struct ptlrpc_request on the client.
"""

from __future__ import annotations

from typing import Any

from labsim.base.payload import Payload, join
from labsim.wire.formats import format_of
from labsim.wire.message import Message


class Request:
    """One RPC: opcode, the buffers of its format by name, and how it may be sent.

    `bulk_out` is data that the server will fetch, `bulk_in` how many bytes the server may put;
    they arrive in `data`. `no_resend` fails with ETIMEDOUT instead of waiting for a reconnect,
    `no_delay` with EAGAIN where the import is not connected. `modifying` takes one of the import's
    tags (pb_tag) while it is under way.
    """

    __slots__ = (
        "_chunks",
        "adaptive",
        "bulk_in",
        "bulk_out",
        "conn_cnt",
        "data",
        "deadline",
        "done",
        "entry",
        "exposed",
        "fields",
        "flags",
        "format",
        "generation",
        "mbits",
        "modifying",
        "no_delay",
        "no_resend",
        "op_flags",
        "opcode",
        "portal",
        "sent_ns",
        "sent_s",
        "sent_to",
        "tag",
        "timeout_ns",
        "xid",
    )

    def __init__(
        self,
        opcode: int,
        *,
        bulk_out: Payload | None = None,
        bulk_in: int | None = None,
        portal: int | None = None,
        no_resend: bool = False,
        no_delay: bool = False,
        modifying: bool = False,
        timeout_ns: int | None = None,
        op_flags: int = 0,
        **fields: Any,
    ) -> None:
        self.opcode = opcode
        self.fields = fields
        self.format = format_of(opcode, fields)
        self.bulk_out = bulk_out
        self.bulk_in = bulk_in
        self.portal = portal
        self.no_resend = no_resend
        self.no_delay = no_delay
        self.modifying = modifying
        self.timeout_ns = timeout_ns
        self.op_flags = op_flags
        self.flags = 0
        self.xid = 0
        self.mbits = 0
        self.tag = 0
        self.conn_cnt = 0
        self.generation = 0
        self.sent_ns = 0
        self.sent_s = 0
        self.sent_to = 0
        """The portal that it went to last."""
        self.adaptive = False
        """It went out with MSGHDR_AT_SUPPORT: the server may ask for more time."""
        self.data: Payload = b""
        self.done: Any = None
        self.deadline: Any = None
        self.entry: Any = None
        self.exposed: list[Any] = []
        self._chunks: dict[int, Payload] = {}

    def take_chunk(self, number: int, payload: Payload) -> None:
        """One MD of a bulk read has been filled."""
        self._chunks[number] = payload

    def collect(self) -> None:
        """Put the chunks of a bulk read together in `data`."""
        chunks = self._chunks
        self.data = join([chunks[number] for number in sorted(chunks)])

    def drop_chunks(self) -> None:
        """Forget what came in, before the request is sent again."""
        self._chunks.clear()


def as_message(payload: Any, *, request: bool, format_: Any = None) -> Message:
    """The lustre_msg of a packet: the object itself in simulation, else decoded from its bytes.

    Raises ProtocolError where the bytes are no such message.
    """
    if isinstance(payload, Message):
        return payload
    return Message.decode(payload, request, format_)

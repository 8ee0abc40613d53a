"""A request as its sender sees it.

Does not know imports. Stands for struct ptlrpc_request on the client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labsim.base.payload import Payload, join
from labsim.wire.formats import format_of
from labsim.wire.message import Message
from labsim.wire.reply_room import NOTHING_SET

NO_VERSIONS = (0, 0, 0, 0)


class Request:
    """One RPC: opcode, the buffers of its format by name, and how it may be sent.

    `bulk_out` is data that the server will fetch, `bulk_in` how many bytes the server may put;
    they arrive in `data`. `no_resend` fails with ETIMEDOUT instead of waiting for a reconnect,
    `no_delay` with EAGAIN where the import is not connected. With `no_retry`, who is told
    EINPROGRESS asks again himself (rq_no_retry_einprogress). `tag` is the slot of reply_data that
    a modifying request has (pb_tag). `reply_sizes` are the bytes that its caller makes room for, by
    buffer of the reply, where neither the format nor the request tells.

    What the server may lose with its power is kept by the import and replayed: a request whose
    reply brought a transno that is not committed yet, and while `keep` is set a committed one too
    (an open, until its close is committed). Around that, plain functions:
    `on_answer(request, reply)` when the first good reply is there, before anything is kept;
    `on_commit` each when the change is durable, or at once where nothing was changed;
    `on_replay(reply)` after each replay; `on_lost(request)` when the client was evicted first.
    A call that fails runs none of them.
    """

    __slots__ = (
        "_chunks",
        "adaptive",
        "bulk_in",
        "bulk_out",
        "closing",
        "data",
        "deadline",
        "done",
        "entry",
        "exposed",
        "fields",
        "flags",
        "format",
        "jobid",
        "keep",
        "mbits",
        "no_delay",
        "no_resend",
        "no_retry",
        "on_answer",
        "on_commit",
        "on_lost",
        "on_replay",
        "op_flags",
        "opcode",
        "portal",
        "pre_versions",
        "recovers",
        "replen",
        "reply_sizes",
        "sent_ns",
        "sent_s",
        "sent_to",
        "status",
        "tag",
        "timeout_ns",
        "transno",
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
        tag: int = 0,
        timeout_ns: int | None = None,
        op_flags: int = 0,
        on_answer: Callable[[Request, Message], None] | None = None,
        reply_sizes: Mapping[str, int] = NOTHING_SET,
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
        self.timeout_ns = timeout_ns
        self.op_flags = op_flags
        self.reply_sizes = reply_sizes
        self.replen = 0
        """What its reply is known to take since one did not fit; 0: as its format tells."""
        self.flags = 0
        self.xid = 0
        self.mbits = 0
        self.tag = tag
        self.jobid = ""
        """Whose work it is, where that is not who sends it; empty: taken when it is sent first."""
        self.transno = 0
        self.pre_versions: tuple[int, ...] = NO_VERSIONS
        self.status = 0
        """What the first reply said; a replay should say the same."""
        self.keep = self.no_retry = False
        self.closing = False
        """Its close is on the way: once committed it is not replayed, so that none is left open."""
        self.recovers = False
        """It is part of a recovery: it goes out in any state, and its failures are the import's."""
        self.on_answer = on_answer
        self.on_commit: list[Callable[[], None]] = []
        self.on_replay: Callable[[Message], None] | None = None
        self.on_lost: Callable[[Request], None] | None = None
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

    @property
    def nbytes(self) -> int:
        """Bytes of data that it keeps in memory until it is committed."""
        data = self.bulk_out if self.bulk_out is not None else self.fields.get("short_io")
        return len(data) if data is not None else 0

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

"""A lustre_msg: header, RPC body and the buffers of its format.

Does not know connections, xids or who answers. Stands for struct lustre_msg_v2 and its packing
(ptlrpc/pack_generic.c). In simulation messages travel as they are; bytes are made for a socket, a
capture, or to prove that both are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from zlib import crc32

from labsim.base.errors import ProtocolError
from labsim.fast import Messages
from labsim.wire.buffers import Buffer, is_nothing
from labsim.wire.eras import V2_15
from labsim.wire.formats import PLAIN, Format, format_in, format_of, recognise
from labsim.wire.lustre_msg import LustreMsgV2, PtlrpcBody, PtlrpcBodyV2
from labsim.wire.msg_flags import (
    LUSTRE_MSG_MAGIC_V2,
    LUSTRE_MSG_MAGIC_V2_SWABBED,
    LUSTRE_VERSION_MASK,
    PTL_RPC_MSG_ERR,
    PTL_RPC_MSG_REPLY,
    PTL_RPC_MSG_REQUEST,
    PTLRPC_MSG_VERSION,
)

HEADER_SIZE = 32
REQUEST_BODY_SIZE = 184
REPLY_BODY_SIZE = 152
"""Replies carry the body without job id (ptlrpc_body_v2)."""
MAX_BUFFERS = 31
"""A message with more buffers is refused (MSG_PTLRPC_HEADER_OFF)."""

_NO_JOB = bytes(REQUEST_BODY_SIZE - REPLY_BODY_SIZE)
_ALIGN = 7

T = TypeVar("T")


def body_checksum(body: PtlrpcBody) -> int:
    """lm_cksum of an early reply: CRC32 of buffer 0 as sent, without the final inversion."""
    return crc32(body.pack()[:REPLY_BODY_SIZE]) ^ 0xFFFFFFFF


class MissingBuffer(ProtocolError, KeyError):
    """A peer left a buffer out that who asks for it cannot do without."""


class Message:
    """One request or reply.

    `fmt` is the request's format, also for replies. `fields` holds the buffers by key; what is
    None or empty is left out, and travels as a buffer of no bytes. A reply whose status is negative
    and that has no fields is its body alone.
    """

    __slots__ = (
        "_size",
        "body",
        "bufcount",
        "cksum",
        "fields",
        "flags",
        "fmt",
        "repsize",
        "request",
    )

    def __init__(
        self,
        fmt: Format,
        fields: Mapping[str, Any],
        body: PtlrpcBody,
        flags: int = 0,
        repsize: int = 0,
        request: bool = True,
    ) -> None:
        self.fmt = fmt
        self.request = request
        """False for replies, error replies too."""
        self.fields = {key: value for key, value in fields.items() if not is_nothing(value)}
        self.body = body
        self.flags = flags
        self.repsize = repsize
        self.cksum = 0
        """lm_cksum; zero but in early replies."""
        self.bufcount = 0
        """How many buffers travel; zero: as many as the format has."""
        self._size = 0

    @property
    def status(self) -> int:
        """pb_status: zero or a negative errno; positive from LDLM and bulk reads."""
        return int(self.body.status)

    @property
    def opcode(self) -> int:
        """pb_opc."""
        return int(self.body.opc)

    @property
    def layout(self) -> tuple[Buffer, ...]:
        """The buffers that may follow the body."""
        return self.fmt.request if self.request else self.fmt.reply

    def __getitem__(self, key: str) -> Any:
        """The buffer; MissingBuffer where it is empty."""
        try:
            return self.fields[key]
        except KeyError:
            raise MissingBuffer(f"{self.fmt.name}: {key} is empty") from None

    def get(self, key: str, default: T | None = None) -> Any | T | None:
        """The buffer, or a default where it is empty."""
        return self.fields.get(key, default)

    def has(self, key: str) -> bool:
        """True where the buffer is not empty."""
        return key in self.fields

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return self.fmt is other.fmt and all(
            getattr(self, name) == getattr(other, name)
            for name in ("request", "body", "fields", "flags", "repsize", "cksum")
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        kind = "request" if self.request else f"reply {self.status}"
        fields = "".join(f", {key}={value!r}" for key, value in self.fields.items())
        return f"Message({self.fmt.name} {kind}{fields})"

    def _buffers(self) -> tuple[Buffer, ...]:
        """The buffers that travel after the body, empty ones too."""
        if self.bufcount:
            return self.layout[: self.bufcount - 1]
        if not self.fields and self.body.status < 0 and not self.request:
            return ()
        return self.layout

    @property
    def wire_size(self) -> int:
        """Exact bytes on the wire, without making them; computed once.

        TypeError where a field is of the wrong kind, ValueError where the format has no such field.
        """
        if not self._size:
            self._size = _CODEC.measure(self)
        return self._size

    def _measure(self) -> int:
        fields = self.fields
        buffers = self._buffers()
        total = HEADER_SIZE + (4 * (len(buffers) + 1) + _ALIGN & ~_ALIGN)
        total += REQUEST_BODY_SIZE if self.request else REPLY_BODY_SIZE
        found = 0
        for buffer in buffers:
            if buffer.key in fields:
                total += buffer.measure(fields[buffer.key]) + _ALIGN & ~_ALIGN
                found += 1
        if found != len(fields):
            known = {buffer.key for buffer in buffers}
            stray = sorted(set(fields) - known)
            raise ValueError(f"{self.fmt.name} has no buffer {', '.join(stray)}")
        return total

    def encode(self) -> bytes:
        """The bytes. Raises what `wire_size` raises, and ValueError for a value too large."""
        return _CODEC.encode(self)

    def _encode(self) -> bytes:
        fields = self.fields
        body = self.body.pack()
        parts = [body if self.request else body[:REPLY_BODY_SIZE]]
        parts += [
            buffer.encode(fields[buffer.key]) if buffer.key in fields else b""
            for buffer in self._buffers()
        ]
        header = LustreMsgV2(
            bufcount=len(parts),
            magic=LUSTRE_MSG_MAGIC_V2,
            repsize=self.repsize,
            cksum=self.cksum,
            flags=self.flags,
            buflens=[len(part) for part in parts],
        ).pack()
        whole = b"".join([_pad(part) for part in (header, *parts)])
        assert len(whole) == self.wire_size, f"{self!r} announces {self.wire_size} bytes"
        return whole

    @classmethod
    def decode_request(cls, buffer: bytes | bytearray | memoryview) -> Message:
        """Read a request: `decode`."""
        message: Message = _CODEC.decode(buffer, True, None)
        return message

    @classmethod
    def decode_reply(
        cls, buffer: bytes | bytearray | memoryview, fmt: Format | None = None
    ) -> Message:
        """Read the reply to a request of that format: `decode`."""
        message: Message = _CODEC.decode(buffer, False, fmt)
        return message

    @classmethod
    def decode(
        cls, buffer: bytes | bytearray | memoryview, request: bool, fmt: Format | None = None
    ) -> Message:
        """Read a message; ProtocolError names message, buffer, struct and field that do not fit.

        A request's format follows from what it carries. For a reply give its request's format;
        without, it is taken for the reply to the plainest request of its opcode.
        """
        message: Message = _CODEC.decode(buffer, request, fmt)
        return message


def _decode(buffer: bytes | bytearray | memoryview, request: bool, fmt: Format | None) -> Message:
    view = memoryview(buffer)
    header, raws = _split(view)
    body = _body(raws[0], request)
    if fmt is None:
        fmt = recognise(body.opc, raws) if request else format_of(body.opc, {})
        if len(raws) - 1 > len(fmt.request if request else fmt.reply):
            fmt = format_in(fmt, V2_15)  # the only era that has more buffers
    message = Message(fmt, {}, body, header.flags, header.repsize, request)
    message.cksum = header.cksum
    layout = message.layout
    if len(raws) - 1 > len(layout):
        raise ProtocolError(
            f"{_called(message)}: {len(raws)} buffers, the format has {len(layout) + 1}"
        )
    for index, (one, raw) in enumerate(zip(layout, raws[1:], strict=False), start=1):
        if len(raw):
            try:
                message.fields[one.key] = one.decode(raw)
            except ProtocolError as error:
                where = f"{_called(message)}, buffer {index} ({one.key})"
                raise ProtocolError(f"{where}: {error}") from None
    if len(raws) - 1 != len(message._buffers()):
        message.bufcount = len(raws)
    message._size = len(view)
    return message


def _pad(part: bytes) -> bytes:
    odd = len(part) & _ALIGN
    return part + bytes(8 - odd) if odd else part


def _called(message: Message) -> str:
    return f"{message.fmt.name} {'request' if message.request else 'reply'}"


def _split(view: memoryview) -> tuple[LustreMsgV2, list[memoryview]]:
    """The header and the buffers; every length is checked before it is used."""
    header = LustreMsgV2.unpack(view)
    if header.magic == LUSTRE_MSG_MAGIC_V2_SWABBED:
        raise ProtocolError("lustre_msg_v2.lm_magic at byte 8: a big-endian sender")
    if header.magic != LUSTRE_MSG_MAGIC_V2:
        raise ProtocolError(f"lustre_msg_v2.lm_magic at byte 8: {header.magic:#010x}")
    if header.secflvr:
        raise ProtocolError(f"lustre_msg_v2.lm_secflvr at byte 4: {header.secflvr:#x} is not null")
    if not 1 <= header.bufcount <= MAX_BUFFERS:
        raise ProtocolError(f"lustre_msg_v2.lm_bufcount at byte 0: {header.bufcount}")
    start = HEADER_SIZE + 4 * header.bufcount
    raws = []
    for index, length in enumerate(header.buflens):
        start = start + _ALIGN & ~_ALIGN
        if start + length > len(view):
            raise ProtocolError(
                f"lustre_msg_v2.lm_buflens[{index}]: {length} bytes at {start},"
                f" the message has {len(view)}"
            )
        raws.append(view[start : start + length])
        start += length
    if start + _ALIGN & ~_ALIGN != len(view):
        raise ProtocolError(f"lustre_msg_v2: {len(view)} bytes, the buffers end at {start}")
    return header, raws


def _body(raw: memoryview, request: bool) -> PtlrpcBody:
    """Buffer 0."""
    size = REQUEST_BODY_SIZE if request else REPLY_BODY_SIZE
    table = PtlrpcBody.table if request else PtlrpcBodyV2.table
    if len(raw) != size:
        raise ProtocolError(f"{table.name}: {len(raw)} bytes instead of {size}")
    body = PtlrpcBody.unpack(raw if request else bytes(raw) + _NO_JOB)
    kinds = (PTL_RPC_MSG_REQUEST,) if request else (PTL_RPC_MSG_REPLY, PTL_RPC_MSG_ERR)
    if body.type not in kinds:
        raise ProtocolError(f"{table.name}.pb_type at byte 8: {body.type}")
    if body.version & ~LUSTRE_VERSION_MASK != PTLRPC_MSG_VERSION:
        raise ProtocolError(f"{table.name}.pb_version at byte 12: {body.version:#x}")
    return body


TWINS = (Message._measure, Message._encode, _decode)
"""Measure, encode and decode in Python; a native codec does the same, and asks them otherwise."""

_CODEC = Messages(
    message=Message,
    body=PtlrpcBody.table,
    twins=TWINS,
    plain=PLAIN,
    recognise=recognise,
)

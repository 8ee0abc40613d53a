"""Reading captures: frames, TCP put together again, LNet messages, what is in them.

Does not know files other than pcap with Ethernet frames: our own captures, and those that tcpdump
makes of a real server's port 988. Stands for the first layers of a dissector. What does not fit is
a ProtocolError that says in which frame; a capture that ends in the middle of something just ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import IO, NamedTuple, TypeAlias

from labsim.base.errors import InputError, ProtocolError
from labsim.base.ids import Nid
from labsim.base.units import NS_PER_S
from labsim.net import frame
from labsim.net.conversations import BULK_PORTALS
from labsim.net.lnet import HEADER_SIZE, PUT, Packet
from labsim.net.pcap import ETHERNET, FILE_HEADER, MAGIC_NS, PORT, SYN
from labsim.wire.formats import Format
from labsim.wire.lnet import KsockHelloMsg, LnetAcceptorConnreq
from labsim.wire.lnet_flags import (
    KSOCK_MSG_LNET,
    KSOCK_MSG_NOOP,
    LNET_PROTO_ACCEPTOR_MAGIC,
    LNET_PROTO_MAGIC,
)
from labsim.wire.message import Message
from labsim.wire.msg_flags import PTL_RPC_MSG_REQUEST

MAGIC_US = 0xA1B2C3D4
NOOP_SIZE = 24
LARGEST_FRAME = 1 << 18
IPV4, TCP = 0x0800, 6
Address: TypeAlias = tuple[int, int]
"""IPv4 address and port."""


class Segment(NamedTuple):
    """One TCP segment as captured."""

    number: int
    """Of the frame in the file, from 1, as Wireshark counts."""
    time_ns: int
    """Since 1970."""
    source: Address
    target: Address
    seq: int
    flags: int
    data: bytes


class Seen(NamedTuple):
    """One LNet message of a capture, when its first byte was seen."""

    number: int
    time_ns: int
    packet: Packet
    message: Message | None
    """The lustre_msg in it; None for bulk data, for what carries nothing, and with an error."""
    error: str = ""
    """Why the lustre_msg in it could not be read."""

    @property
    def src(self) -> Nid:
        """Who sent it."""
        return self.packet.src

    @property
    def dst(self) -> Nid:
        """Who it was for."""
        return self.packet.dst


def segments(file: IO[bytes], name: str = "") -> Iterator[Segment]:
    """The TCP segments of a capture, in the order of the file; InputError when it is none."""
    header = file.read(FILE_HEADER.size)
    for order in "<>":
        layout = Struct(order + FILE_HEADER.format[1:])
        magic = int.from_bytes(header[:4], "little" if order == "<" else "big")
        if magic in (MAGIC_NS, MAGIC_US) and len(header) == layout.size:
            break
    else:
        raise InputError("no pcap capture (pcapng: convert it with editcap -F nsecpcap)", name)
    link = layout.unpack(header)[6]
    if link != ETHERNET:
        raise InputError(f"link type {link}; only Ethernet ({ETHERNET}) can be read", name)
    unit = 1 if magic == MAGIC_NS else 1000
    record = Struct(order + "IIII")
    number = 0
    while len(head := file.read(record.size)) == record.size:
        seconds, fraction, size, _ = record.unpack(head)
        number += 1
        if size > LARGEST_FRAME:
            raise ProtocolError(f"frame {number}: {size} bytes")
        segment = _segment(number, seconds * NS_PER_S + fraction * unit, file.read(size))
        if segment is not None:
            yield segment


def _segment(number: int, time_ns: int, data: bytes) -> Segment | None:
    """The TCP segment in an Ethernet frame; None where there is none, whole."""
    if len(data) < 34 or int.from_bytes(data[12:14], "big") != IPV4:
        return None
    ip = data[14:]
    words, size = (ip[0] & 15) * 4, int.from_bytes(ip[2:4], "big")
    tcp = ip[words:size]
    fragment = int.from_bytes(ip[6:8], "big") & 0x3FFF
    if ip[9] != TCP or fragment or len(ip) < size or len(tcp) < 20 or words < 20:
        return None
    ports = int.from_bytes(tcp[:2], "big"), int.from_bytes(tcp[2:4], "big")
    return Segment(
        number,
        time_ns,
        (int.from_bytes(ip[12:16], "big"), ports[0]),
        (int.from_bytes(ip[16:20], "big"), ports[1]),
        int.from_bytes(tcp[4:8], "big"),
        tcp[13],
        tcp[(tcp[12] >> 4) * 4 :],
    )


class _Way:
    """One direction of a connection, put in order."""

    def __init__(self, first: int | None = None) -> None:
        self._next = first
        self._early: dict[int, Segment] = {}
        self._data = bytearray()
        self._starts: list[tuple[int, Segment]] = []
        self._taken = 0

    def add(self, segment: Segment) -> None:
        """Take a segment; what was there before counts once, what comes too early waits."""
        if not segment.data:
            return
        if self._next is None:
            self._next = segment.seq
        self._early[segment.seq] = segment
        while ready := [seq for seq in self._early if self._known(seq) >= 0]:
            for seq in ready:
                self._append(self._early.pop(seq))

    def _known(self, seq: int) -> int:
        """How many bytes from `seq` on are here already; negative: some before it are missing."""
        assert self._next is not None
        distance = (self._next - seq) & 0xFFFFFFFF
        return distance if distance < 1 << 31 else distance - (1 << 32)

    def _append(self, segment: Segment) -> None:
        fresh = segment.data[self._known(segment.seq) :]
        if fresh:
            self._starts.append((self._taken + len(self._data), segment))
            self._data += fresh
            self._next = segment.seq + len(segment.data) & 0xFFFFFFFF

    def frames(self) -> Iterator[tuple[Segment, Packet]]:
        """The LNet messages that are complete, with the segments in which they begin."""
        while True:
            size = self._size()
            if not size or len(self._data) < size:
                return
            data = bytes(self._data[:size])
            segment = self._began()
            del self._data[:size]
            self._taken += size
            if data[:4] == _LNET:
                try:
                    yield segment, frame.decode(data[:HEADER_SIZE], data[HEADER_SIZE:])
                except ProtocolError as error:
                    raise ProtocolError(f"frame {segment.number}: {error}") from None

    def _began(self) -> Segment:
        """The segment that holds the first byte of what is next."""
        starts = self._starts
        while len(starts) > 1 and starts[1][0] <= self._taken:
            starts.pop(0)
        return starts[0][1]

    def _size(self) -> int:
        """How long what is next will be; 0: more has to come before that can be told."""
        data = self._data
        if len(data) < 4:
            return 0
        magic = int.from_bytes(data[:4], "little")
        if magic == KSOCK_MSG_LNET:
            if len(data) < HEADER_SIZE:
                return 0
            try:
                return HEADER_SIZE + frame.payload_length(data)
            except ProtocolError as error:
                raise ProtocolError(f"frame {self._began().number}: {error}") from None
        if magic == KSOCK_MSG_NOOP:
            return NOOP_SIZE
        if magic == LNET_PROTO_ACCEPTOR_MAGIC:
            return LnetAcceptorConnreq.size
        if magic == LNET_PROTO_MAGIC:
            if len(data) < KsockHelloMsg.size:
                return 0
            return KsockHelloMsg.size + 4 * int.from_bytes(data[52:56], "little")
        raise ProtocolError(f"frame {self._began().number}: {magic:#010x} begins no socklnd frame")


_LNET = KSOCK_MSG_LNET.to_bytes(4, "little")


def packets(file: IO[bytes], path: str = "") -> Iterator[tuple[Segment, Packet]]:
    """The LNet messages of a capture as each becomes complete, and where each begins."""
    ways: dict[tuple[Address, Address], _Way] = {}
    for segment in segments(file, path):
        if PORT not in (segment.source[1], segment.target[1]):
            continue
        name = segment.source, segment.target
        if segment.flags & SYN:
            ways[name] = _Way(segment.seq + 1 & 0xFFFFFFFF)
        way = ways.setdefault(name, _Way())
        way.add(segment)
        yield from way.frames()


def read(path: str) -> Iterator[Seen]:
    """Everything that LNet carried in a capture, as it became complete; InputError for no file.

    A reply is read by the format of its request, which must stand before it in the capture.
    """
    formats: dict[tuple[Nid, Nid, int], Format] = {}
    with _opened(path) as file:
        for segment, packet in packets(file, path):
            message, error_text = None, ""
            try:
                message = _message(packet, formats)
            except ProtocolError as error:
                error_text = str(error)
            yield Seen(segment.number, segment.time_ns, packet, message, error_text)


def _opened(path: str) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path) from None


def _message(packet: Packet, formats: dict[tuple[Nid, Nid, int], Format]) -> Message | None:
    """The lustre_msg of a packet, if it is one."""
    if packet.kind != PUT or packet.portal in BULK_PORTALS:
        return None
    if _type(packet.payload) == PTL_RPC_MSG_REQUEST:
        message = Message.decode_request(packet.payload)
        formats[packet.src, packet.dst, packet.match] = message.fmt
        return message
    return Message.decode_reply(packet.payload, formats.get((packet.dst, packet.src, packet.match)))


def _type(payload: bytes) -> int:
    """pb_type, behind the header and the buffer lengths."""
    start = 32 + (4 * int.from_bytes(payload[:4], "little") + 7 & ~7)
    return int.from_bytes(payload[start + 8 : start + 12], "little")

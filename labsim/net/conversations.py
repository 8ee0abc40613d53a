"""The TCP conversations that carry LNet messages between peers, written to a capture.

Does not know where the messages come from. Stands for socklnd's connections: whoever has something
to say first connects to port 988 from a privileged port, once for each type of connection, asks the
acceptor for the NID and says HELLO; large messages then travel on the sender's BULK_OUT. Every
message starts a segment of its own. Its receiver's ACK follows when the message has arrived.

Bulk data of some size leaves without being copied: a cookie in its frame asks the receiver to say
when it is there, so that the pages may be used again (ksm_zc_cookies).

Everything below LNet is made up here: the simulated network has no connections, the live one has
ZeroMQ's. Connections open, in no time, when the first message needs them, and so travel what tells
of pages.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import NamedTuple, TypeAlias

from labsim.base.ids import Nid
from labsim.base.payload import Payload, tobytes
from labsim.net.lnet import ACK, HEADER_SIZE, PUT, REPLY, Packet
from labsim.net.pcap import ACK as ACKED
from labsim.net.pcap import FIN, PORT, PSH, RST, SYN, End, PcapFile, segments
from labsim.wire.lnet import KsockHelloMsg, LnetAcceptorConnreq
from labsim.wire.lnet_flags import (
    KSOCK_MSG_LNET,
    KSOCK_MSG_NOOP,
    LNET_PID_LUSTRE,
    LNET_PROTO_ACCEPTOR_MAGIC,
    LNET_PROTO_ACCEPTOR_VERSION,
    LNET_PROTO_MAGIC,
    SOCKLND_CONN_BULK_IN,
    SOCKLND_CONN_BULK_OUT,
    SOCKLND_CONN_CONTROL,
)
from labsim.wire.opcodes import MDS_BULK_PORTAL, MGS_BULK_PORTAL, OST_BULK_PORTAL

FIRST_SOURCE, LAST_SOURCE = 1023, 512
"""Privileged ports that an active side tries, downward (lnet/lib-socket.c)."""
HELLO_VERSION = 3
LARGE = 1024
"""Messages of this size, header included, take a bulk connection (socklnd's min_bulk)."""
ZERO_COPY = 16 << 10
"""Bulk data of this size is not copied (socklnd's zc_min_payload); its NIC can do that, as most."""
FIRST_COOKIE = 2
"""SOCKNAL_KEEPALIVE_PING + 1."""
KSOCK = Struct("<IIQQ")
"""ksock_msg up to its union: ksm_type, ksm_csum, ksm_zc_cookies."""
UNHEARD = 4096
"""How many messages without an arrival are remembered on one connection."""

INVERTED = {
    SOCKLND_CONN_CONTROL: SOCKLND_CONN_CONTROL,
    SOCKLND_CONN_BULK_IN: SOCKLND_CONN_BULK_OUT,
    SOCKLND_CONN_BULK_OUT: SOCKLND_CONN_BULK_IN,
}

Key: TypeAlias = tuple[int, int, int]


def key(packet: Packet) -> Key:
    """What tells a message from others under way, on both of its ends."""
    named = packet.handle if packet.kind in (ACK, REPLY) else packet.match
    return packet.kind, named, packet.length


def is_large(kind: int, length: int) -> bool:
    """True for a message that takes a bulk connection; `length` as in Packet."""
    return kind in (PUT, REPLY) and HEADER_SIZE + length >= LARGE


BULK_PORTALS = frozenset({OST_BULK_PORTAL, MDS_BULK_PORTAL, MGS_BULK_PORTAL})
"""PUTs here are pages, not messages."""


def is_zero_copy(packet: Packet) -> bool:
    """True for what is sent from pages, and is large."""
    pages = packet.kind == REPLY or (packet.kind == PUT and packet.portal in BULK_PORTALS)
    return pages and packet.length >= ZERO_COPY


class _Way(NamedTuple):
    """One direction of a connection."""

    source: End
    target: End
    unheard: deque[tuple[Key, int, int, int]]
    """Messages that have not arrived: key, sequence number after it, time stamp, cookie or 0."""


class Conversations:
    """All connections of a cluster, as one capture shows them; times in ns since 1970."""

    def __init__(self, out: PcapFile) -> None:
        self._out = out
        self._ways: dict[tuple[int, int, bool], _Way] = {}
        self._ports: dict[tuple[int, int], int] = {}
        self._born: dict[int, int] = {}
        self._cookies: dict[tuple[int, int], int] = {}
        """The next one of each node for each peer."""
        self._stale: dict[tuple[int, int], list[tuple[End, End]]] = {}
        """By who still has them and who has forgotten them: connections, with both ends."""

    def powered_on(self, nid: int, time_ns: int) -> None:
        """A node begins from nothing: what it was connected to has ended without a word.

        Who was at the other end closes when the two connect anew, and HELLO says who has begun.
        """
        self._born[nid] = time_ns
        self._cookies = {pair: last for pair, last in self._cookies.items() if pair[0] != nid}
        self._stale = {pair: ends for pair, ends in self._stale.items() if pair[0] != nid}
        for pair in [pair for pair in self._ways if nid in pair[:2]]:
            source, target, _ = self._ways.pop(pair)
            if pair[0] != nid:
                self._stale.setdefault(pair[:2], []).append((source, target))
            elif pair[2]:
                self._stale.setdefault((pair[1], nid), []).append((target, source))

    def _close_stale(self, closer: int, reborn: int, time_ns: int) -> None:
        """What is left of the reborn's earlier life is closed; it knows nothing, and resets."""
        for here, there in self._stale.pop((closer, reborn), ()):
            self._out.write(time_ns, *here.packet(there, time_ns, FIN | ACKED))
            there.seq = here.ack
            self._out.write(time_ns, *there.packet(here, time_ns, RST))

    def sent(self, time_ns: int, packet: Packet, header: bytes, payload: Payload) -> None:
        """A message leaves its sender: 96 bytes of header, then the payload."""
        large = is_large(packet.kind, packet.length)
        way = self._ways.get((packet.src, packet.dst, large))
        if way is None:
            self._connect(packet.src, packet.dst, time_ns)
            way = self._ways[packet.src, packet.dst, large]
        source, target, unheard = way
        cookie = 0
        if is_zero_copy(packet):
            cookie = self._cookies.get((packet.src, packet.dst), FIRST_COOKIE)
            self._cookies[packet.src, packet.dst] = cookie + 1
            header = KSOCK.pack(KSOCK_MSG_LNET, 0, cookie, 0) + header[KSOCK.size :]
        self._say(time_ns, source, target, header + tobytes(payload))
        unheard.append((key(packet), source.seq, time_ns, cookie))
        if len(unheard) > UNHEARD:
            unheard.popleft()

    def arrived(self, time_ns: int, packet: Packet) -> None:
        """A message has reached its receiver, which says so with a bare ACK."""
        way = self._ways.get((packet.src, packet.dst, is_large(packet.kind, packet.length)))
        if way is None:
            return
        source, target, unheard = way
        name = key(packet)
        if all(name != waiting[0] for waiting in unheard):
            return
        other = None
        while other != name:
            other, seq, stamp, cookie = unheard.popleft()
        self._hear(target, seq, stamp)
        self._out.write(time_ns, *target.packet(source, time_ns, ACKED))
        if cookie:
            self._let_go(packet, cookie, time_ns)

    def _let_go(self, packet: Packet, cookie: int, time_ns: int) -> None:
        """The pages of a message are not needed any more: a NOOP, on CONTROL."""
        source, target, _ = self._ways[packet.dst, packet.src, False]
        self._say(time_ns, source, target, KSOCK.pack(KSOCK_MSG_NOOP, 0, 0, cookie))
        self._hear(target, source.seq, time_ns)

    # ---- connections

    def _connect(self, active: int, passive: int, time_ns: int) -> None:
        """All three connections of a pair, in socklnd's order."""
        types = (SOCKLND_CONN_CONTROL, SOCKLND_CONN_BULK_IN, SOCKLND_CONN_BULK_OUT)
        for kind in types:
            here, there = self._open(active, passive, time_ns)
            self._greet(active, passive, here, there, kind, time_ns)
            if kind != SOCKLND_CONN_BULK_IN:
                large = kind == SOCKLND_CONN_BULK_OUT
                self._ways[active, passive, large] = _Way(here, there, deque())
            if kind != SOCKLND_CONN_BULK_OUT:
                large = kind == SOCKLND_CONN_BULK_IN
                self._ways[passive, active, large] = _Way(there, here, deque())
        self._close_stale(active, passive, time_ns)
        self._close_stale(passive, active, time_ns)

    def _open(self, active: int, passive: int, time_ns: int) -> tuple[End, End]:
        """TCP's three packets."""
        port = self._ports.get((active, passive), FIRST_SOURCE)
        self._ports[active, passive] = port - 1 if port > LAST_SOURCE else FIRST_SOURCE
        first = (active * 31 + passive + port * 0x01000193) * 0x9E3779B1 & 0xFFFFFFFF
        here = End(active & 0xFFFFFFFF, port, first)
        there = End(passive & 0xFFFFFFFF, PORT, first * 0x85EBCA6B & 0xFFFFFFFF)
        here.face(there)
        there.face(here)
        for source, target, flags in ((here, there, SYN), (there, here, SYN | ACKED)):
            self._out.write(time_ns, *source.packet(target, time_ns, flags))
            self._hear(target, source.seq, time_ns)
        self._out.write(time_ns, *here.packet(there, time_ns, ACKED))
        return here, there

    def _greet(
        self, active: int, passive: int, here: End, there: End, kind: int, time_ns: int
    ) -> None:
        """The acceptor request, and HELLO both ways."""
        wanted = LnetAcceptorConnreq(
            magic=LNET_PROTO_ACCEPTOR_MAGIC, version=LNET_PROTO_ACCEPTOR_VERSION, nid=passive
        )
        for source, target, data in (
            (here, there, wanted.pack()),
            (here, there, self._hello(active, passive, kind)),
            (there, here, self._hello(passive, active, INVERTED[kind])),
        ):
            self._say(time_ns, source, target, data)
            self._hear(target, source.seq, time_ns)
        self._out.write(time_ns, *here.packet(there, time_ns, ACKED))

    def _hello(self, source: int, target: int, kind: int) -> bytes:
        return KsockHelloMsg(
            magic=LNET_PROTO_MAGIC,
            version=HELLO_VERSION,
            src_nid=Nid(source),
            dst_nid=Nid(target),
            src_pid=LNET_PID_LUSTRE,
            dst_pid=LNET_PID_LUSTRE,
            src_incarnation=self._born.get(source, 0),
            ctype=kind,
        ).pack()

    # ---- packets

    def _say(self, time_ns: int, source: End, target: End, data: bytes) -> None:
        write, last = self._out.write, 0
        for segment in segments(data):
            last += len(segment)
            flags = ACKED | PSH if last == len(data) else ACKED
            write(time_ns, *source.packet(target, time_ns, flags, segment))

    @staticmethod
    def _hear(end: End, seq: int, time_ns: int) -> None:
        """Everything up to `seq` has come in; late news of less changes nothing."""
        if (seq - end.ack) & 0xFFFFFFFF < 1 << 31 or not end.ack:
            end.ack = seq
            end.echo = time_ns // 1_000_000 & 0xFFFFFFFF

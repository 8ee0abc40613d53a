"""LNet: one-sided messages between NIDs, matched by portal and match bits.

Does not know what the payloads mean, nor what carries them: an `Lnd` does. Stands for lnet/lnet
(LNetPut, LNetGet, match entries). A PUT hands a payload to whoever serves its portal or posted its
match bits; a GET fetches from a buffer that its owner exposed, and comes back as a REPLY; an ACK
tells the sender of a PUT that it was delivered. What nobody waits for is counted and dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

from labsim.base.ids import Nid
from labsim.base.payload import piece
from labsim.base.trace import NodeTrace
from labsim.net.rules import DROP, PASS, Rules
from labsim.wire.lnet_flags import LNET_MSG_ACK, LNET_MSG_GET, LNET_MSG_PUT, LNET_MSG_REPLY

ACK, PUT, GET, REPLY = LNET_MSG_ACK, LNET_MSG_PUT, LNET_MSG_GET, LNET_MSG_REPLY
KIND_NAMES = ("ACK", "PUT", "GET", "REPLY")

HEADER_SIZE = 96
"""Bytes in front of each payload: socklnd's prefix (24) and lnet_hdr (72)."""
LNET_MTU = 1 << 20
"""The largest payload of one message (lnet-types.h)."""
NO_HANDLE = (1 << 128) - 1
"""Both cookies LNET_WIRE_HANDLE_COOKIE_NONE: the sender of a PUT wants no ACK."""


class Packet(NamedTuple):
    """One LNet message.

    `length` counts payload bytes; of a GET those wanted, of an ACK those taken.
    `payload` of a PUT is a ptlrpc Message or bulk data; in a simulation the very object that was
    sent, from a live peer the bytes of it. `handle` names who waits for the ACK or the REPLY: the
    interface cookie in the upper 64 bits, the object cookie in the lower.
    """

    kind: int
    src: Nid
    dst: Nid
    portal: int
    match: int
    offset: int
    payload: Any
    length: int
    hdr_data: int = 0
    handle: int = NO_HANDLE

    @property
    def wire_size(self) -> int:
        """Bytes on the wire: header and payload."""
        return HEADER_SIZE + (self.length if self.kind in (PUT, REPLY) else 0)

    def __str__(self) -> str:
        kind = KIND_NAMES[self.kind]
        where = f"portal {self.portal} match {self.match:#x}"
        return f"{kind} {self.src} -> {self.dst} {where} {self.length} B"


Handler: TypeAlias = Callable[[Packet], None]


def payload_size(payload: Any) -> int:
    """Bytes that a payload takes on the wire, without making them."""
    size: int | None = getattr(payload, "wire_size", None)
    return len(payload) if size is None else size


class Lnd(Protocol):
    """What carries packets: one attachment of one node to one network."""

    def send(self, packet: Packet, delay_ns: int = 0) -> None:
        """Take a packet, after `delay_ns` more; never fails, may lose it."""

    def close(self) -> None:
        """Leave the network."""


class MatchEntry:
    """Someone waits here for a message; `unlink()` stops that and may be called twice."""

    __slots__ = ("_key", "_table", "handler", "once", "payload", "peer", "room", "truncate")

    def __init__(
        self,
        table: dict[Any, MatchEntry],
        key: Any,
        handler: Handler | None,
        payload: Any = None,
        once: bool = False,
        peer: int | None = None,
        room: int | None = None,
        truncate: bool = False,
    ) -> None:
        self._table = table
        self._key = key
        self.handler = handler
        self.payload = payload
        self.once = once
        self.peer = peer
        self.room = room
        self.truncate = truncate
        table[key] = self

    @property
    def linked(self) -> bool:
        """True while a message can still find it."""
        return self._table.get(self._key) is self

    def unlink(self) -> None:
        """Take it away; messages that come later find nothing."""
        if self._table.get(self._key) is self:
            del self._table[self._key]


class Counters:
    """What `lctl get_param stats` of LNet counts: messages and payload bytes."""

    __slots__ = (
        "drop_count",
        "drop_length",
        "recv_count",
        "recv_length",
        "send_count",
        "send_length",
    )

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin to count anew."""
        self.send_count = 0
        self.send_length = 0
        self.recv_count = 0
        self.recv_length = 0
        self.drop_count = 0
        self.drop_length = 0

    def snapshot(self) -> dict[str, int]:
        """All of them by name."""
        return {name: getattr(self, name) for name in sorted(self.__slots__)}


class Lnet:
    """One node's LNet interface.

    The runtime builds it, gives it its `lnd`, and calls `receive` for each packet that arrives.
    `incarnation` keeps an ACK or REPLY meant for a node that died from its successor.
    """

    def __init__(
        self,
        nid: Nid,
        rules: Rules | None = None,
        trace: NodeTrace | None = None,
        incarnation: int = 1,
    ) -> None:
        self.nid = nid
        self.lnd: Lnd | None = None
        self.rules = rules if rules is not None else Rules()
        self.counters = Counters()
        self.taps: list[Handler] = []
        """Called with each packet that is sent or arrives, for captures."""
        self._trace = trace
        self._next_handle = incarnation << 64
        self._services: dict[int, Handler] = {}
        self._posted: dict[Any, MatchEntry] = {}
        self._exposed: dict[Any, MatchEntry] = {}
        self._pending: dict[Any, MatchEntry] = {}
        self._receivers = (self._got_ack, self._got_put, self._got_get, self._got_reply)

    def serve(self, portal: int, handler: Handler) -> None:
        """Give `handler` every PUT on `portal` that no match entry waits for."""
        self._services[portal] = handler

    def post(
        self,
        portal: int,
        match: int,
        handler: Handler,
        *,
        once: bool = False,
        peer: int | None = None,
        room: int | None = None,
        truncate: bool = False,
    ) -> MatchEntry:
        """Wait for PUTs with these match bits, until unlinked, or for one only with `once`.

        With `peer`, a PUT from another NID does not match. A second post of the same bits
        takes the place of the first. What does not fit into `room` bytes is dropped, or with
        `truncate` (LNET_MD_TRUNCATE) announced: the handler gets the packet without its payload.
        """
        return MatchEntry(self._posted, (portal, match), handler, None, once, peer, room, truncate)

    def expose(
        self,
        portal: int,
        match: int,
        payload: Any,
        on_done: Handler | None = None,
        *,
        once: bool = False,
        peer: int | None = None,
    ) -> MatchEntry:
        """Let peers GET `payload`; `on_done(packet)` is called as each GET has been answered."""
        return MatchEntry(self._exposed, (portal, match), on_done, payload, once, peer)

    def put(
        self,
        peer: Nid,
        portal: int,
        match: int,
        payload: Any,
        *,
        hdr_data: int = 0,
        offset: int = 0,
        ack: Handler | None = None,
    ) -> MatchEntry | None:
        """Send `payload` to `peer`; `ack(packet)` is called once, when it says it was delivered.

        Returns the entry that waits for the ACK, so that it can be unlinked; None without `ack`.
        """
        entry = None
        handle = NO_HANDLE
        if ack is not None:
            handle = self._handle()
            entry = MatchEntry(self._pending, handle, ack, (portal, match), True, peer)
        length = payload_size(payload)
        self._send(
            Packet(PUT, self.nid, peer, portal, match, offset, payload, length, hdr_data, handle)
        )
        return entry

    def get(
        self, peer: Nid, portal: int, match: int, length: int, on_reply: Handler, *, offset: int = 0
    ) -> MatchEntry:
        """Fetch up to `length` bytes that `peer` exposes; `on_reply(packet)` gets them.

        Nothing is called when the peer exposes nothing: the caller keeps a deadline and unlinks.
        """
        handle = self._handle()
        entry = MatchEntry(self._pending, handle, on_reply, (portal, match), True, peer)
        self._send(Packet(GET, self.nid, peer, portal, match, offset, b"", length, 0, handle))
        return entry

    def reset(self) -> None:
        """Forget every service and everybody who waits: the node above has stopped."""
        for table in (self._services, self._posted, self._exposed, self._pending):
            table.clear()

    def close(self) -> None:
        """Leave the network: nothing is sent or received any more."""
        lnd, self.lnd = self.lnd, None
        if lnd is not None:
            lnd.close()

    def receive(self, packet: Packet) -> None:
        """Take one packet from the network."""
        counters = self.counters
        counters.recv_count += 1
        counters.recv_length += packet.length
        if self.taps:
            self._tap(packet)
        self._receivers[packet.kind](packet)

    def _handle(self) -> int:
        self._next_handle += 1
        return self._next_handle

    def _send(self, packet: Packet) -> None:
        if self.lnd is None:
            return
        counters = self.counters
        counters.send_count += 1
        counters.send_length += packet.length
        if self.taps:
            self._tap(packet)
        if self.rules.active:
            self._send_by_rules(packet)
        else:
            self.lnd.send(packet)

    def _send_by_rules(self, packet: Packet) -> None:
        verdict = self.rules.verdict(packet)
        if verdict is PASS:
            self.lnd.send(packet)  # type: ignore[union-attr]
        elif verdict is DROP:
            self._note("lnet.drop", packet)
            self._lose(packet)
        else:
            if verdict.ns:
                self._note("lnet.delay", packet)
            self.lnd.send(packet, verdict.ns)  # type: ignore[union-attr]
            if verdict.copy_ns is not None:
                self._note("lnet.duplicate", packet)
                self.lnd.send(packet, verdict.ns + verdict.copy_ns)  # type: ignore[union-attr]

    def _note(self, what: str, packet: Packet) -> None:
        if self._trace is not None:
            kind = KIND_NAMES[packet.kind]
            self._trace.emit(what, kind, packet.dst, packet.portal, packet.match, packet.length)

    def _tap(self, packet: Packet) -> None:
        for tap in self.taps:
            tap(packet)

    def _lose(self, packet: Packet) -> None:
        self.counters.drop_count += 1
        self.counters.drop_length += packet.length

    def _got_put(self, packet: Packet) -> None:
        entry = self._posted.get((packet.portal, packet.match))
        handler = None
        length = packet.length
        if entry is not None and (entry.peer is None or entry.peer == packet.src):
            room = entry.room
            if room is None or packet.offset + length <= room:
                handler = entry.handler
            elif entry.truncate:
                handler = entry.handler
                length = max(room - packet.offset, 0)
                packet = packet._replace(payload=None)
            if entry.once and handler is not None:
                entry.unlink()
        else:
            handler = self._services.get(packet.portal)
        if handler is None:
            self._lose(packet)
            return
        if packet.handle != NO_HANDLE:
            self._answer(ACK, packet, b"", length)
        handler(packet)

    def _got_get(self, packet: Packet) -> None:
        entry = self._exposed.get((packet.portal, packet.match))
        if entry is None or (entry.peer is not None and entry.peer != packet.src):
            self._lose(packet)
            return
        if entry.once:
            entry.unlink()
        payload = entry.payload
        if packet.offset or packet.length < len(payload):
            payload = piece(payload, packet.offset, packet.offset + packet.length)
        self._answer(REPLY, packet, payload, len(payload))
        if entry.handler is not None:
            entry.handler(packet)

    def _answer(self, kind: int, to: Packet, payload: Any, length: int) -> None:
        self._send(
            Packet(kind, self.nid, to.src, to.portal, to.match, 0, payload, length, 0, to.handle)
        )

    def _got_ack(self, packet: Packet) -> None:
        entry = self._pending.get(packet.handle)
        if entry is None or entry.peer != packet.src:
            self._lose(packet)
            return
        entry.unlink()
        portal, match = entry.payload
        assert entry.handler is not None
        if packet.portal != portal or packet.match != match:
            packet = packet._replace(portal=portal, match=match)
        entry.handler(packet)

    _got_reply = _got_ack
    """The wire's REPLY and ACK name their waiter by handle only; portal and bits are filled in."""

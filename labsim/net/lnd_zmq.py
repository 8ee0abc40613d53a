"""The live network: LNet frames over ZeroMQ, between processes of one machine.

Does not know what packets carry. Stands for socklnd; a ZeroMQ message is one or more of its frames,
to one peer, each header followed by its payload. Each node binds one ROUTER and connects one DEALER
per peer, over `ipc://` (mode 0600) or TCP on loopback.

Nothing that arrives is trusted: a frame that does not fit is refused, counted and noted, and the
node goes on. A peer that is not there for a second loses what was meant for it, as in LNet.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from labsim.base.errors import InputError, ProtocolError
from labsim.base.ids import Nid
from labsim.base.payload import Chain, Fill, Payload, join
from labsim.base.units import NS_PER_MS, NS_PER_S
from labsim.net.frame import decode, encode, payload_length
from labsim.net.lnet import HEADER_SIZE, Lnet, Packet

INLINE = 8192
"""Payloads up to here are copied behind their header; larger ones travel as parts of their own."""
LARGEST_PART = 64 << 20
"""ZeroMQ hangs up on a peer that sends a larger part, without a word; up to here the frame's own
checks refuse it, so that it is counted and logged."""
BATCH_BYTES = 1 << 20
"""What is queued for one peer is sent at once when it is this much."""
PATIENCE_NS = NS_PER_S
"""How long packets wait for a peer to be there."""
RETRY_NS = 2 * NS_PER_MS
NOBLOCK, SEND_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
EVENTS, POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
"""As plain numbers: pyzmq's enums cost as much as the calls."""
LOCAL = ("ipc://", "tcp://127.0.0.1:", "tcp://[::1]:", "tcp://localhost:")


def check_endpoint(endpoint: str) -> str:
    """Refuse what another machine could reach."""
    if not endpoint.startswith(LOCAL):
        raise InputError(f"'{endpoint}' is not ipc:// or loopback; there is no other transport yet")
    return endpoint


class ZmqLnd:
    """One node's attachment to the live network.

    `env` is a LiveEnvironment; `endpoints` says where each NID listens. `lnet.receive` gets what
    arrives; `on_refused(what)` is told of each frame that is refused.
    `encode(packet)` makes header and payload.
    """

    def __init__(
        self,
        env: Any,
        lnet: Lnet,
        endpoints: Mapping[int, str],
        on_refused: Callable[[str], None] | None = None,
        encode: Callable[[Packet], tuple[bytes, Payload]] = encode,
    ) -> None:
        self._env = env
        self._encode = encode
        self._lnet = lnet
        self._endpoints = endpoints
        self._on_refused = on_refused
        self._peers: dict[int, _Peer] = {}
        self._dirty: dict[int, _Peer] = {}
        self._sources: dict[bytes, int] = {}
        self.refused = 0
        """Frames that did not fit, from anybody."""
        self._router = self._listen(check_endpoint(endpoints[lnet.nid]))
        lnet.lnd = self
        env.watch(self._router, self._readable)
        env.before_sleep(self._flush)

    def _listen(self, endpoint: str) -> zmq.Socket[bytes]:
        router: zmq.Socket[bytes] = self._env.context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.ROUTER_HANDOVER, 1)
        router.setsockopt(zmq.MAXMSGSIZE, LARGEST_PART)
        router.setsockopt(zmq.RCVHWM, 0)
        if not endpoint.startswith("ipc://"):
            router.bind(endpoint)
            return router
        mask = os.umask(0o177)
        try:
            router.bind(endpoint)
        finally:
            os.umask(mask)
        os.chmod(endpoint.removeprefix("ipc://"), 0o600)
        return router

    def send(self, packet: Packet, delay_ns: int = 0) -> None:
        """Queue a packet for its peer; it leaves when nothing more is due, or a batch is full."""
        if delay_ns or packet.dst == self._lnet.nid:
            timer = self._env.timeout(delay_ns, packet)
            timer.callbacks.append(self._send_late)
            return
        peer = self._peers.get(packet.dst)
        if peer is None:
            peer = self._connect(packet.dst)
            if peer is None:
                self._lose(1)
                return
        peer.queue(*self._encode(packet))
        self._dirty[packet.dst] = peer
        if peer.queued_bytes > BATCH_BYTES:
            peer.flush()

    def _send_late(self, timer: Any) -> None:
        packet: Packet = timer.value
        if self._lnet.lnd is not self:
            return
        if packet.dst == self._lnet.nid:
            self._lnet.receive(packet)
        else:
            self.send(packet)

    def _connect(self, nid: int) -> _Peer | None:
        endpoint = self._endpoints.get(nid)
        if endpoint is None:
            return None
        dealer = self._env.context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.IMMEDIATE, 1)
        dealer.setsockopt(zmq.RECONNECT_IVL, 10)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, 100)
        dealer.setsockopt(zmq.ROUTING_ID, str(self._lnet.nid).encode())
        dealer.connect(check_endpoint(endpoint))
        peer = self._peers[nid] = _Peer(self._env, dealer, self._lose)
        return peer

    def _lose(self, packets: int) -> None:
        self._lnet.counters.drop_count += packets

    def _flush(self) -> None:
        if self._dirty:
            dirty, self._dirty = self._dirty, {}
            for peer in dirty.values():
                peer.flush()

    def _readable(self) -> None:
        """Take every message that has arrived."""
        router = self._router
        while not router.closed and int(router.get(EVENTS)) & POLLIN:
            frame = router.recv(NOBLOCK, copy=False)
            identity, parts = frame.bytes, []
            while frame.more:
                frame = router.recv(NOBLOCK, copy=False)
                parts.append(frame)
            try:
                self._take(self._source(identity), parts)
            except ProtocolError as error:
                self._refuse(str(error))

    def _source(self, identity: bytes) -> int:
        """The NID that a connection claimed when it was made."""
        nid = self._sources.get(identity)
        if nid is None:
            try:
                nid = Nid.parse(identity.decode("ascii", "replace"))
            except InputError:
                raise ProtocolError(f"a message from {identity[:40]!r}, which is no NID") from None
            if nid in self._endpoints:
                self._sources[identity] = nid
        return nid

    def _take(self, source: int, parts: list[Any]) -> None:
        """Take one message apart into packets; the first that does not fit ends it."""
        if not parts:
            raise ProtocolError("a message without a frame")
        at = 0
        while at < len(parts):
            head = parts[at].buffer
            at += 1
            length = payload_length(head)
            payload: Payload = bytes(head[HEADER_SIZE:])
            if len(payload) < length:
                pieces: list[Payload] = [payload] if payload else []
                got = len(payload)
                while got < length and at < len(parts):
                    pieces.append(parts[at].buffer)
                    got += len(pieces[-1])
                    at += 1
                payload = join(pieces)
            self._deliver(source, decode(head, payload))

    def _deliver(self, source: int, packet: Packet) -> None:
        if packet.src != source:
            raise ProtocolError(f"lnet_hdr.src_nid at 32: {packet.src} from {Nid(source)}")
        if packet.dst != self._lnet.nid:
            raise ProtocolError(f"lnet_hdr.dest_nid at 24: {packet.dst} is not this node")
        if self._lnet.lnd is self:
            self._lnet.receive(packet)

    def _refuse(self, what: str) -> None:
        self.refused += 1
        if self._on_refused is not None:
            self._on_refused(what)

    def close(self) -> None:
        """Close all sockets; queued packets are lost."""
        self._env.unwatch(self._router)
        self._router.close()
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()
        self._dirty.clear()


class _Peer:
    """What is on its way to one peer: queued, or waiting for the peer to be there."""

    def __init__(self, env: Any, dealer: Any, lose: Callable[[int], None]) -> None:
        self._env = env
        self._dealer = dealer
        self._lose = lose
        self._parts: list[Any] = []
        self._packets = 0
        self.queued_bytes = 0
        self._late: deque[tuple[int, int, list[Any]]] = deque()

    def queue(self, header: bytes, data: Payload) -> None:
        """Put an encoded packet behind those that wait."""
        self._packets += 1
        self.queued_bytes += HEADER_SIZE + len(data)
        if not len(data):
            self._parts.append(header)
        elif len(data) <= INLINE:
            self._parts.append(header + b"".join(_buffers(data)))
        else:
            self._parts.append(header)
            self._parts.extend(_buffers(data))

    def flush(self) -> None:
        """Send what is queued as one message."""
        if not self._parts:
            return
        parts, packets = self._parts, self._packets
        self._parts, self._packets, self.queued_bytes = [], 0, 0
        if self._late or not self._try(parts):
            if not self._late:
                self._env.timeout(RETRY_NS).callbacks.append(self._retry)
            self._late.append((self._env.now + PATIENCE_NS, packets, parts))

    def _try(self, parts: list[Any]) -> bool:
        try:
            for part in parts[:-1]:
                self._dealer.send(part, SEND_MORE)
            self._dealer.send(parts[-1], NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _retry(self, _timer: Any) -> None:
        """Send what waited for the peer; give up on what has waited too long."""
        if self._dealer.closed:
            return
        while self._late:
            expires_ns, packets, parts = self._late[0]
            if not self._try(parts):
                if self._env.now < expires_ns:
                    self._env.timeout(RETRY_NS).callbacks.append(self._retry)
                    return
                self._lose(packets)
            self._late.popleft()

    def close(self) -> None:
        """Forget everything."""
        self._dealer.close()
        self._late.clear()


def _buffers(payload: Payload) -> list[bytes | bytearray | memoryview]:
    """A payload's bytes in place, piece by piece; only a pattern has to be made."""
    if isinstance(payload, Chain):
        return [part.tobytes() if isinstance(part, Fill) else part for part in payload.pieces]
    return [payload.tobytes() if isinstance(payload, Fill) else payload]

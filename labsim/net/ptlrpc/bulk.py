"""Bulk data: which match bits, which pieces, and who moves them.

The server always moves the data: it GETs what a client writes and PUTs what a client reads, one
match entry for each MiB. Stands for ptlrpc_bulk_desc and ptlrpc/niobuf.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.payload import Payload, join, piece
from labsim.base.units import NS_PER_S
from labsim.net.lnet import LNET_MTU
from labsim.net.ptlrpc import points
from labsim.net.ptlrpc.request import Request
from labsim.runtime.ports import Steps

BULK_OPS_COUNT = 16
"""PTLRPC_BULK_OPS_COUNT: match bits reserved for one bulk, hence the steps of xids."""


def pieces_of(nbytes: int) -> int:
    """How many LNet messages `nbytes` take; an empty bulk still takes one."""
    return max(1, -(-nbytes // LNET_MTU))


def first_bits(mbits: int) -> int:
    """The first match bits of a bulk whose last are `mbits`."""
    return mbits & ~(BULK_OPS_COUNT - 1)


def expose(rpc: Any, request: Request, portal: int, base: int) -> None:
    """Open the client's side of a bulk before its request goes out; sets `request.mbits`."""
    lnet = rpc.lnet
    nbytes = len(request.bulk_out) if request.bulk_out is not None else request.bulk_in or 0
    count = pieces_of(nbytes)
    request.mbits = base + count - 1
    request.drop_chunks()
    if rpc.faults.hit(points.PTLRPC_BULK_GET_NET):
        return
    for number in range(count):
        low, high = number * LNET_MTU, min((number + 1) * LNET_MTU, nbytes)
        if request.bulk_out is not None:
            data = piece(request.bulk_out, low, high)
            request.exposed.append(lnet.expose(portal, base + number, data))
            continue

        def landed(packet: Any, number: int = number) -> None:
            request.take_chunk(number, packet.payload)

        room = high - low
        request.exposed.append(lnet.post(portal, base + number, landed, room=room))


def withdraw(request: Request) -> None:
    """Close what `expose` opened."""
    for entry in request.exposed:
        entry.unlink()
    request.exposed.clear()


class Transfer:
    """The server's side of one bulk: all pieces at once, done when the last is.

    `patience_ns()` tells until when it may take: that moves when the client is asked for more time,
    and lies in the past when the client is gone (target_bulk_io looks each second).
    """

    def __init__(
        self, rpc: Any, peer: int, portal: int, mbits: int, patience_ns: Callable[[], int]
    ) -> None:
        self._rpc = rpc
        self._peer = peer
        self._portal = portal
        self._first = first_bits(mbits)
        self._patience_ns = patience_ns
        self._left = 0
        self._got: dict[int, Payload] = {}
        self._done: Any = None
        self._deadline: Any = None
        self._entries: list[Any] = []

    def pull(self, nbytes: int) -> Steps[Payload | None]:
        """GET `nbytes` from the client; None where it did not answer in time or sent too little."""
        count = self._begin(nbytes)
        for number in range(count):
            length = min(LNET_MTU, nbytes - number * LNET_MTU)
            self._entries.append(
                self._rpc.lnet.get(
                    self._peer, self._portal, self._first + number, length, self._taker(number)
                )
            )
        complete = yield from self._finish()
        data = join([self._got[number] for number in range(count)]) if complete else b""
        return data if len(data) == nbytes else None

    def push(self, data: Payload) -> Steps[bool]:
        """PUT `data` to the client; False where it was not acknowledged in time."""
        count = self._begin(len(data))
        for number in range(count):
            part = piece(data, number * LNET_MTU, min((number + 1) * LNET_MTU, len(data)))
            self._entries.append(
                self._rpc.lnet.put(
                    self._peer, self._portal, self._first + number, part, ack=self._taker(number)
                )
            )
        return (yield from self._finish())

    def _begin(self, nbytes: int) -> int:
        """How many pieces to move; a fault has it wait for what never moves."""
        self._left = pieces_of(nbytes)
        self._done = self._rpc.env.event()
        faults = self._rpc.faults
        lost = faults.hit(points.PTLRPC_BULK_PUT_NET) or faults.hit(points.PTLRPC_DROP_BULK)
        return 0 if lost else self._left

    def _taker(self, number: int) -> Any:
        def take(packet: Any) -> None:
            if number not in self._got:
                self._got[number] = packet.payload
                self._left -= 1
                if self._left == 0 and not self._done.triggered:
                    self._done.succeed(True)

        return take

    def _look(self) -> None:
        """Has it taken too long? Else look again in a second at the latest."""
        self._deadline = None
        now, due_ns = self._rpc.env.now, self._patience_ns()
        if due_ns > now:
            at_ns = min(due_ns, now + NS_PER_S)
            self._deadline = self._rpc.deadlines.add(at_ns, self._look)
        elif not self._done.triggered:
            self._done.succeed(False)

    def _finish(self) -> Steps[bool]:
        self._look()
        complete: bool = yield self._done
        if self._deadline is not None:
            self._deadline.cancel()
        entries, self._entries = self._entries, []  # whose handlers hold this transfer
        for entry in entries:
            if entry is not None:
                entry.unlink()
        return complete

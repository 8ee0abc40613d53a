"""What a live node writes of its traffic while it runs, and the capture made of it afterwards.

Does not know what the messages mean. Stands for tcpdump on every node, and mergecap. A node appends
to its log what it sends and when something arrives, as cheaply as it can: patterns stay patterns,
data that was sent lately is not written again, and what the network has to encode is encoded once
for both. `merge` makes the capture.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from heapq import merge as by_time
from struct import Struct
from typing import IO, Any, Final, NamedTuple

from labsim.base.ids import Nid
from labsim.base.payload import Chain, Fill, Payload, join
from labsim.net import frame
from labsim.net.conversations import Conversations, key
from labsim.net.lnet import ACK, HEADER_SIZE, REPLY, Lnet, Packet
from labsim.net.pcap import PcapFile

STARTED, SENT, ARRIVED = 0, 1, 2
_RECORD = Struct("<BqI")
"""What, when (ns of the run), and how many pieces a payload has."""
_PIECE = Struct("<BIqI")
"""What it is; its length; a Fill's seed and offset, or where in the log the same bytes stand."""
_REAL, _FILL, _AGAIN = 0, 1, 2
_RECENT = 8
_LARGE = 1 << 14
"""Data of this size and more is looked for among the last few, which are kept for that."""
_ARRIVAL = Struct("<QQIIQQ")
"""Source, destination, kind, length, what names the message (upper and lower half)."""
_START = Struct("<Q")
FLUSH_BYTES: Final = 1 << 20
_VECTOR = 512
_LOW = (1 << 64) - 1


class Log:
    """What one live node sent, and when something arrived; `now()` is the run's time in ns."""

    def __init__(self, path: str, now: Callable[[], int]) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._now = now
        self._parts: list[Any] = []
        self._bytes = 0
        self._end = 0
        self._recent: dict[bytes, tuple[int, bytes]] = {}
        self._last: Packet | None = None
        self._encoded: tuple[bytes, Payload] = (b"", b"")

    def watch(self, lnet: Lnet) -> None:
        """Tap a node's LNet."""
        here = lnet.nid
        self._add(_RECORD.pack(STARTED, self._now(), 0) + _START.pack(here))

        def tap(packet: Packet) -> None:
            if packet.src == packet.dst:
                return
            if packet.src == here:
                self._sent(packet)
            else:
                self._arrived(packet)

        lnet.taps.append(tap)

    def encode(self, packet: Packet) -> tuple[bytes, Payload]:
        """As `frame.encode`, but what has just been logged is not made again."""
        return self._encoded if packet is self._last else frame.encode(packet)

    def _sent(self, packet: Packet) -> None:
        header, payload = frame.encode(packet)
        self._last, self._encoded = packet, (header, payload)
        pieces = payload.pieces if isinstance(payload, Chain) else (payload,)
        self._add(_RECORD.pack(SENT, self._now(), len(pieces)) + header)
        for piece in pieces:
            if isinstance(piece, Fill):
                self._add(_PIECE.pack(_FILL, piece.length, piece.seed, piece.offset))
            elif isinstance(piece, bytes) and len(piece) >= _LARGE:
                self._add_large(piece)
            else:
                self._add(_PIECE.pack(_REAL, len(piece), 0, 0))
                self._add(piece)
        if self._bytes > FLUSH_BYTES:
            self.flush()

    def _add(self, part: Any) -> None:
        self._parts.append(part)
        self._bytes += len(part)
        self._end += len(part)

    def _add_large(self, data: bytes) -> None:
        """Add bulk data; where the same was sent lately, only say where it stands."""
        middle = len(data) // 2
        name = data[:32] + data[middle : middle + 32] + data[-32:]
        where, known = self._recent.get(name, (0, b""))
        if data == known:
            self._add(_PIECE.pack(_AGAIN, len(data), where, 0))
            return
        self._add(_PIECE.pack(_REAL, len(data), 0, 0))
        self._recent.pop(name, None)
        self._recent[name] = self._end, data
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        self._add(data)

    def _arrived(self, packet: Packet) -> None:
        kind, named, length = key(packet)
        numbers = packet.src, packet.dst, kind, length, named >> 64, named & _LOW
        self._add(_RECORD.pack(ARRIVED, self._now(), 0) + _ARRIVAL.pack(*numbers))

    def flush(self) -> None:
        """Write what has gathered; a process that is killed after this loses none of it."""
        parts = self._parts
        if not parts:
            return
        if self._bytes < _LARGE:
            _write(self._fd, [b"".join(parts)])
        else:
            for start in range(0, len(parts), _VECTOR):
                _write(self._fd, parts[start : start + _VECTOR])
        self._parts.clear()
        self._bytes = 0
        self._last = None

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        os.close(self._fd)


def _write(fd: int, parts: list[Any]) -> None:
    """All of it; OSError where the disk is full."""
    wanted = sum(map(len, parts))
    done = os.writev(fd, parts)
    while done < wanted:
        done += os.write(fd, b"".join(parts)[done:])


# ---- reading


class _Record(NamedTuple):
    """One line of a log."""

    time_ns: int
    what: int
    packet: Packet
    """Of an arrival only what names the message; of a start only the source."""
    header: bytes = b""
    payload: Payload = b""


def read(path: str) -> Iterator[_Record]:
    """The records of a log; one that was cut off by the end of its process is left out."""
    with open(path, "rb") as file:
        while True:
            try:
                yield _record(file)
            except EOFError:
                return


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _record(file: IO[bytes]) -> _Record:
    what, time_ns, pieces = _RECORD.unpack(_exactly(file, _RECORD.size))
    if what == SENT:
        header = _exactly(file, HEADER_SIZE)
        payload = join([_piece(file) for _ in range(pieces)])
        return _Record(time_ns, what, frame.decode(header, payload), header, payload)
    if what == STARTED:
        (nid,) = _START.unpack(_exactly(file, _START.size))
        return _Record(time_ns, what, Packet(0, Nid(nid), Nid(nid), 0, 0, 0, b"", 0))
    src, dst, kind, length, upper, lower = _ARRIVAL.unpack(_exactly(file, _ARRIVAL.size))
    named = upper << 64 | lower
    match, handle = (0, named) if kind in (ACK, REPLY) else (named, 0)
    packet = Packet(kind, Nid(src), Nid(dst), 0, match, 0, b"", length, 0, handle)
    return _Record(time_ns, what, packet)


def _piece(file: IO[bytes]) -> Payload:
    what, length, seed, offset = _PIECE.unpack(_exactly(file, _PIECE.size))
    if what == _FILL:
        return Fill(length, seed, offset)
    if what == _REAL:
        return _exactly(file, length)
    here = file.tell()
    file.seek(seed)
    data = _exactly(file, length)
    file.seek(here)
    return data


def merge(paths: Iterable[str], out: PcapFile, epoch_ns: int) -> None:
    """Write the capture of a run that began at `epoch_ns` from the logs of all its nodes."""
    conversations = Conversations(out)
    for record in by_time(*map(read, paths), key=lambda record: record.time_ns):
        time_ns = epoch_ns + record.time_ns
        if record.what == SENT:
            conversations.sent(time_ns, record.packet, record.header, record.payload)
        elif record.what == ARRIVED:
            conversations.arrived(time_ns, record.packet)
        else:
            conversations.powered_on(record.packet.src, time_ns)

"""What a live node writes of its traffic while it runs, and the capture made of it afterwards.

Does not know what the messages mean. Stands for tcpdump on every node, and mergecap. A node notes
what it sends and when something arrives, and writes that when it has nothing else to do: a record
is a copy into mapped memory, which outlives the process; patterns stay patterns; data that was sent
lately is not written again; what the network has to encode is encoded once for both. `merge` makes
the capture.

A log is two files: NAME has the records, NAME.data the bulk data that they refer to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from heapq import merge as by_time
from mmap import mmap
from struct import Struct
from typing import IO, Any, Final, NamedTuple

from labsim.base.ids import Nid
from labsim.base.payload import Chain, Fill, Payload, join
from labsim.net import frame
from labsim.net.conversations import Conversations, key
from labsim.net.lnet import ACK, HEADER_SIZE, REPLY, Lnet, Packet
from labsim.net.pcap import PcapFile

STARTED, SENT, ARRIVED = 1, 2, 3
_RECORD = Struct("<BqI")
"""What (0: nothing more in this window), when (ns of the run), how many pieces a payload has."""
_PIECE = Struct("<BIqI")
"""What it is; its length; a Fill's seed and offset, or where it stands in the data."""
_HERE, _FILL, _DATA = 0, 1, 2
_ARRIVAL = Struct("<QQIIQQ")
"""Source, destination, kind, length, what names the message (upper and lower half)."""
_START = Struct("<Q")
WINDOW: Final = 1 << 20
"""How much of the records is mapped at a time; no record crosses from one window to the next."""
_LARGE = 1 << 14
"""Payloads of this size and more go to the data."""
NOTED: Final = 64
"""So many messages that were sent may wait to be written."""
_RECENT = 8
"""So many pieces of data are kept, to know them again."""
_LOW = (1 << 64) - 1


class Log:
    """What one live node sent, and when something arrived; `now()` is the run's time in ns."""

    def __init__(self, path: str, now: Callable[[], int]) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
        self._fd = os.open(path, flags, 0o600)
        self._data_fd = os.open(f"{path}.data", flags, 0o600)
        self._now = now
        self._base = 0
        self._at = 0
        self._window = self._open_window()
        self._noted: list[tuple[int, Packet, tuple[bytes, Payload] | None]] = []
        self._data: list[Any] = []
        self._data_end = 0
        self._recent: dict[bytes, tuple[int, bytes]] = {}
        self._last: Packet | None = None
        self._encoded: tuple[bytes, Payload] = (b"", b"")

    def watch(self, lnet: Lnet) -> None:
        """Tap a node's LNet."""
        here = lnet.nid
        self._write(_RECORD.pack(STARTED, self._now(), 0) + _START.pack(here))

        def tap(packet: Packet) -> None:
            if packet.src == packet.dst:
                return
            if packet.src == here:
                self._sent(packet)
            else:
                self._arrived(packet)

        lnet.taps.append(tap)

    def encode(self, packet: Packet) -> tuple[bytes, Payload]:
        """As `frame.encode`, but what has just been noted is not made again."""
        return self._encoded if packet is self._last else frame.encode(packet)

    def _sent(self, packet: Packet) -> None:
        self._last, self._encoded = packet, frame.encode(packet)
        self._noted.append((self._now(), packet, self._encoded))
        if len(self._noted) > NOTED:
            self.flush()

    def _arrived(self, packet: Packet) -> None:
        self._noted.append((self._now(), packet, None))

    def _record(self, time_ns: int, packet: Packet, encoded: tuple[bytes, Payload] | None) -> bytes:
        if encoded is None:
            kind, named, length = key(packet)
            numbers = packet.src, packet.dst, kind, length, named >> 64, named & _LOW
            return _RECORD.pack(ARRIVED, time_ns, 0) + _ARRIVAL.pack(*numbers)
        header, payload = encoded
        pieces = payload.pieces if isinstance(payload, Chain) else (payload,)
        large = packet.length >= _LARGE
        parts: list[Any] = [_RECORD.pack(SENT, time_ns, len(pieces)), header]
        for piece in pieces:
            if isinstance(piece, Fill):
                parts.append(_PIECE.pack(_FILL, piece.length, piece.seed, piece.offset))
            elif large:
                parts.append(_PIECE.pack(_DATA, len(piece), self._place(piece), 0))
            else:
                parts += _PIECE.pack(_HERE, len(piece), 0, 0), piece
        return b"".join(parts)

    def _place(self, data: Any) -> int:
        """Where data stands in the data: at its end now, unless the same was sent lately."""
        end, name = self._data_end, b""
        if isinstance(data, bytes):
            middle = len(data) // 2
            name = data[:32] + data[middle : middle + 32] + data[-32:]
            where, known = self._recent.get(name, (0, b""))
            if data == known:
                return where
            self._recent.pop(name, None)
            self._recent[name] = end, data
            if len(self._recent) > _RECENT:
                del self._recent[next(iter(self._recent))]
        self._data.append(data)
        self._data_end += len(data)
        return end

    # ---- the files

    def _write(self, record: bytes) -> None:
        """Add a record; its first byte last, so that nobody can find half of one."""
        at, stop = self._at, self._at + len(record)
        if stop > WINDOW:
            self._window.close()
            self._base += WINDOW
            self._window = self._open_window()
            at, stop = 0, len(record)
        self._window[at + 1 : stop] = record[1:]
        self._window[at] = record[0]
        self._at = stop

    def _open_window(self) -> mmap:
        os.posix_fallocate(self._fd, self._base, WINDOW)
        return mmap(self._fd, WINDOW, offset=self._base)

    def flush(self) -> None:
        """Write what has been noted; a process that is killed after this loses nothing."""
        if not self._noted:
            return
        noted, self._noted = self._noted, []
        for one in noted:
            self._write(self._record(*one))
        data = self._data
        while data:
            part = data.pop(0)
            done = os.write(self._data_fd, part)
            if done < len(part):
                data.insert(0, part[done:])
        self._last = None

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        self._window.close()
        os.close(self._fd)
        os.close(self._data_fd)


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
    """The records of a log; what the end of its process has cut off is left out."""
    with open(path, "rb") as file, open(f"{path}.data", "rb") as data:
        while True:
            try:
                record = _record(file, data)
            except EOFError:
                return
            if record is not None:
                yield record


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _record(file: IO[bytes], data: IO[bytes]) -> _Record | None:
    """The next record; None where the window has no more."""
    what, time_ns, pieces = _RECORD.unpack(_exactly(file, _RECORD.size))
    if what == SENT:
        header = _exactly(file, HEADER_SIZE)
        payload = join([_piece(file, data) for _ in range(pieces)])
        return _Record(time_ns, what, frame.decode(header, payload), header, payload)
    if what == ARRIVED:
        src, dst, kind, length, upper, lower = _ARRIVAL.unpack(_exactly(file, _ARRIVAL.size))
        named = upper << 64 | lower
        match, handle = (0, named) if kind in (ACK, REPLY) else (named, 0)
        packet = Packet(kind, Nid(src), Nid(dst), 0, match, 0, b"", length, 0, handle)
        return _Record(time_ns, what, packet)
    if what == STARTED:
        (nid,) = _START.unpack(_exactly(file, _START.size))
        return _Record(time_ns, what, Packet(0, Nid(nid), Nid(nid), 0, 0, 0, b"", 0))
    start = file.tell() - _RECORD.size
    file.seek((start // WINDOW + 1) * WINDOW)
    return None


def _piece(file: IO[bytes], data: IO[bytes]) -> Payload:
    what, length, seed, offset = _PIECE.unpack(_exactly(file, _PIECE.size))
    if what == _FILL:
        return Fill(length, seed, offset)
    if what == _DATA:
        data.seek(seed)
        return _exactly(data, length)
    return _exactly(file, length)


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

"""What a live node writes of its traffic while it runs, and the capture made of it afterwards.

Does not know what the messages mean. Stands for tcpdump on every node, and mergecap. A node notes
what it sends and when something arrives: a record is a copy into mapped memory, which outlives the
process. Bulk data is written when the node has nothing else to do; patterns stay patterns, and what
was sent lately is not written again. What the network has to encode is encoded once for both.
`merge` makes the capture.

A log is two files: NAME has the records, NAME.data the bulk data that they refer to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
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
"""What it is; its length; a Fill's seed and offset. Pieces of data stand in it in this order."""
_ITEM = Struct("<q")
"""Before each piece of data: where in the data the same stands, or -1: it follows."""
_HERE, _FILL, _DATA = 0, 1, 2
_ARRIVAL = Struct("<QQIIQQ")
"""Source, destination, kind, length, what names the message (upper and lower half)."""
_START = Struct("<Q")
WINDOW: Final = 1 << 20
"""How much of the records is mapped at a time; no record crosses from one window to the next."""
_LARGE = 1 << 14
"""Payloads of this size and more go to the data."""
WAITING: Final = 16
"""So many pieces of data may wait to be written."""
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
        header, payload = encoded = frame.encode(packet)
        self._last, self._encoded = packet, encoded
        pieces = payload.pieces if isinstance(payload, Chain) else (payload,)
        large = packet.length >= _LARGE
        parts: list[Any] = [_RECORD.pack(SENT, self._now(), len(pieces)), header]
        for piece in pieces:
            if isinstance(piece, Fill):
                parts.append(_PIECE.pack(_FILL, piece.length, piece.seed, piece.offset))
            elif large:
                parts.append(_PIECE.pack(_DATA, len(piece), 0, 0))
                self._data.append(piece)
            else:
                parts += _PIECE.pack(_HERE, len(piece), 0, 0), piece
        self._write(b"".join(parts))
        if len(self._data) > WAITING:
            self.flush()

    def _arrived(self, packet: Packet) -> None:
        kind, named, length = key(packet)
        numbers = packet.src, packet.dst, kind, length, named >> 64, named & _LOW
        self._write(_RECORD.pack(ARRIVED, self._now(), 0) + _ARRIVAL.pack(*numbers))

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
        """Write the data that waits; a process that is killed before this loses nothing else."""
        data, self._data = self._data, []
        for piece in data:
            where = self._seen(piece)
            self._append(_ITEM.pack(where))
            if where < 0:
                self._append(piece)
        self._last = None

    def _seen(self, data: Any) -> int:
        """Where the same data stands, if it was sent lately; -1, and remember it, if not."""
        if not isinstance(data, bytes):
            return -1
        middle = len(data) // 2
        name = data[:32] + data[middle : middle + 32] + data[-32:]
        where, known = self._recent.get(name, (0, b""))
        if data == known:
            return where
        self._recent.pop(name, None)
        self._recent[name] = self._data_end + _ITEM.size, data
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        return -1

    def _append(self, data: Any) -> None:
        self._data_end += len(data)
        while (done := os.write(self._data_fd, data)) < len(data):
            data = data[done:]

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
    """The records of a log; without messages whose data was lost with the process."""
    with open(path, "rb") as file, open(f"{path}.data", "rb") as data:
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            what, time_ns, pieces = _RECORD.unpack(head)
            if not what:
                start = file.tell() - _RECORD.size
                file.seek((start // WINDOW + 1) * WINDOW)
                continue
            with suppress(EOFError):
                yield _record(file, data, what, time_ns, pieces)


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _record(file: IO[bytes], data: IO[bytes], what: int, time_ns: int, pieces: int) -> _Record:
    if what == SENT:
        header = _exactly(file, HEADER_SIZE)
        parts = [_piece(file) for _ in range(pieces)]
        payload = join([_item(data, part) if isinstance(part, int) else part for part in parts])
        return _Record(time_ns, what, frame.decode(header, payload), header, payload)
    if what == STARTED:
        (nid,) = _START.unpack(_exactly(file, _START.size))
        return _Record(time_ns, what, Packet(0, Nid(nid), Nid(nid), 0, 0, 0, b"", 0))
    src, dst, kind, length, upper, lower = _ARRIVAL.unpack(_exactly(file, _ARRIVAL.size))
    named = upper << 64 | lower
    match, handle = (0, named) if kind in (ACK, REPLY) else (named, 0)
    packet = Packet(kind, Nid(src), Nid(dst), 0, match, 0, b"", length, 0, handle)
    return _Record(time_ns, what, packet)


def _piece(file: IO[bytes]) -> Payload | int:
    """A piece of a payload; the length of one that stands in the data."""
    what, length, seed, offset = _PIECE.unpack(_exactly(file, _PIECE.size))
    if what == _FILL:
        return Fill(length, seed, offset)
    return int(length) if what == _DATA else _exactly(file, length)


def _item(data: IO[bytes], length: int) -> bytes:
    """The next piece of data."""
    (where,) = _ITEM.unpack(_exactly(data, _ITEM.size))
    if where < 0:
        return _exactly(data, length)
    here = data.tell()
    data.seek(where)
    found = _exactly(data, length)
    data.seek(here)
    return found


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

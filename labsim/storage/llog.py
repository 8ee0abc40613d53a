"""A plain llog: an append-only file of records, some of which have been cancelled.

Knows chunks, bitmaps and transactions, not what the records mean. Stands for llog.c and llog_osd.c
(struct llog_handle, lop_write_rec, lop_next_block, llog_cancel_rec).

The file is byte for byte Lustre's: a header of 8192 bytes (llog_log_hdr) whose bitmap has a bit for
every live record, then chunks of 8192 bytes. A record is a llog_rec_hdr, its body, a llog_rec_tail;
its length is a multiple of 8 and it never crosses a chunk: what is left of a chunk is filled with a
padding record, which takes an index but no bit.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.ids import Fid
from labsim.base.payload import tobytes
from labsim.runtime.ports import Steps
from labsim.storage.osd import Attrs, Osd, Tx
from labsim.wire.constants import LLOG_F_IS_PLAIN, LLOG_HDR_MAGIC, LLOG_PAD_MAGIC
from labsim.wire.llog import LlogLogHdr, LlogRecHdr, LlogRecTail

CHUNK = 8192
"""LLOG_MIN_CHUNK_SIZE: size of the header and of every chunk."""
BITMAP_OFFSET = 88
BITMAP_BYTES = 8096
MAX_INDEX = BITMAP_BYTES * 8 - 1
"""The highest index that the bitmap has a bit for."""
MIN_RECORD = 24
"""LLOG_MIN_REC_SIZE: head and tail with no body."""
MAX_BODY = CHUNK - 2 * MIN_RECORD
"""What leaves room in a chunk for a padding record."""

_HEAD = struct.Struct("<IIII")
_TAIL = struct.Struct("<II")


class Record(NamedTuple):
    """One record as it stands in a chunk."""

    idx: int
    type: int
    body: bytes
    """Without head and tail; at its end it may have zeros to a multiple of 8."""
    offset: int
    """Where it begins, in bytes from the start of what was read."""

    @property
    def length(self) -> int:
        """Bytes on disk."""
        return len(self.body) + MIN_RECORD


def pack_record(index: int, kind: int, body: bytes) -> bytes:
    """A record's bytes; EFBIG for a body that no chunk can hold."""
    padded = body + bytes(-len(body) % 8)
    length = len(padded) + MIN_RECORD
    if length > CHUNK - MIN_RECORD and kind != LLOG_PAD_MAGIC:
        raise LustreError(errno.EFBIG, f"a record of {length} bytes")
    return _HEAD.pack(length, index, kind, 0) + padded + _TAIL.pack(length, index)


@lru_cache(maxsize=64)
def records_of(block: bytes) -> tuple[Record, ...]:
    """The records in a block that begins with one, padding left out; a zero length ends it.

    ProtocolError where a record's head and tail do not agree, or it leaves the block.
    """
    found: list[Record] = []
    at = 0
    while at + MIN_RECORD <= len(block):
        length, index, kind, _ = _HEAD.unpack_from(block, at)
        if not length:
            break
        if length < MIN_RECORD or length % 8 or at + length > len(block):
            raise ProtocolError(f"llog_rec_hdr.lrh_len at {at}: {length}")
        if _TAIL.unpack_from(block, at + length - _TAIL.size) != (length, index):
            raise ProtocolError(f"llog_rec_tail at {at + length - _TAIL.size}: not its head's")
        if kind != LLOG_PAD_MAGIC:
            body = block[at + _HEAD.size : at + length - _TAIL.size]
            found.append(Record(index, kind, body, at))
        at += length
    return tuple(found)


class Llog:
    """One log in one object of an OSD. `open` reads what is there; `create` makes it."""

    def __init__(self, osd: Osd, fid: Fid) -> None:
        self.osd = osd
        self.fid = fid
        self.count = 0
        """Live records, and one for the header (llh_count)."""
        self.last = 0
        """The highest index given out, to padding too."""
        self.size = 0
        """Bytes of the file."""
        self.created = 0
        self.flags = 0
        self.uuid = ""
        self._bitmap = bytearray()

    # ---- the header

    def open(self) -> Steps[bool]:
        """Read the header; False where there is no such log. ProtocolError for what is none."""
        if not self.osd.exists(self.fid):
            return False
        data = tobytes((yield from self.osd.read(self.fid, 0, CHUNK)))
        if len(data) < CHUNK:
            raise ProtocolError(f"llog {self.fid}: a header of {len(data)} bytes")
        head = LlogLogHdr.unpack(data)
        if head.hdr.type != LLOG_HDR_MAGIC or head.bitmap_offset != BITMAP_OFFSET:
            raise ProtocolError(f"llog_log_hdr.lrh_type at 8: {head.hdr.type:#x}")
        self.count, self.last = head.count, head.tail.index
        self.created, self.flags, self.uuid = head.timestamp, head.flags, head.tgtuuid
        self._bitmap = bytearray(head.bitmap)
        self.size = self.osd.attrs(self.fid).size
        return True

    def create(self, tx: Tx, seconds: int, uuid: str = "") -> None:
        """Make the log, empty, within `tx` (llog_init_handle)."""
        self.count, self.last, self.size = 1, 0, CHUNK
        self.created, self.flags, self.uuid = seconds, LLOG_F_IS_PLAIN, uuid
        self._bitmap = bytearray(BITMAP_BYTES)
        self._bitmap[0] = 1
        tx.create(self.fid, Attrs(mode=0o100644))
        tx.write(self.fid, 0, self.header().pack())

    def header(self) -> LlogLogHdr:
        """The header as it stands."""
        return LlogLogHdr(
            hdr=LlogRecHdr(len=CHUNK, type=LLOG_HDR_MAGIC),
            timestamp=self.created,
            count=self.count,
            bitmap_offset=BITMAP_OFFSET,
            flags=self.flags,
            tgtuuid=self.uuid,
            bitmap=bytes(self._bitmap),
            tail=LlogRecTail(len=CHUNK, index=self.last),
        )

    def live(self, index: int) -> bool:
        """Whether the record has not been cancelled."""
        return 0 < index <= self.last and bool(self._bitmap[index >> 3] >> (index & 7) & 1)

    # ---- changing

    def append(self, tx: Tx, records: Sequence[tuple[int, bytes]]) -> list[int]:
        """Add (type, body) pairs at the end, within `tx`; their indices.

        ENOSPC where the bitmap is full; nothing has happened then. The log in memory is ahead of
        the disk until `tx` has stopped: if that fails, `open` it again.
        """
        pieces: list[bytes] = []
        indices: list[int] = []
        at, last = self.size, self.last
        for kind, body in records:
            left = CHUNK - at % CHUNK
            length = len(body) + -len(body) % 8 + MIN_RECORD
            if left not in (CHUNK, length) and left < length + MIN_RECORD:
                last += 1
                pieces.append(pack_record(last, LLOG_PAD_MAGIC, bytes(left - MIN_RECORD)))
                at += left
            last += 1
            pieces.append(pack_record(last, kind, body))
            indices.append(last)
            at += length
        if last > MAX_INDEX:
            raise LustreError(errno.ENOSPC, f"llog {self.fid} is full")
        for index in indices:
            self._bitmap[index >> 3] |= 1 << (index & 7)
        tx.write(self.fid, self.size, b"".join(pieces))
        self.size, self.last = at, last
        self.count += len(indices)
        self._write_header(tx)
        return indices

    def cancel(self, tx: Tx, index: int) -> None:
        """Take a record's bit away, within `tx`; ENOENT where it has none."""
        if not self.live(index):
            raise LustreError(errno.ENOENT, f"llog {self.fid}: no record {index}")
        self._bitmap[index >> 3] &= ~(1 << (index & 7))
        self.count -= 1
        self._write_header(tx)

    def replace(self, tx: Tx, record: Record, body: bytes) -> None:
        """Write another body of the same length over a record that `records` gave."""
        packed = pack_record(record.idx, record.type, body)
        if len(packed) != record.length:
            raise LustreError(errno.EINVAL, "a record cannot change its length")
        tx.write(self.fid, record.offset, packed)

    def _write_header(self, tx: Tx) -> None:
        tx.write(self.fid, 0, self.header().pack())

    # ---- reading

    def records(self) -> Steps[list[Record]]:
        """The live records in order; their offsets count from the start of the file."""
        found: list[Record] = []
        for start in range(CHUNK, self.size, CHUNK):
            block = tobytes((yield from self.osd.read(self.fid, start, CHUNK)))
            found += [
                record._replace(offset=start + record.offset)
                for record in records_of(block)
                if self.live(record.idx)
            ]
        return found

    def next_block(self, index: int, offset: int) -> Steps[tuple[bytes, int, int]]:
        """(bytes, last index in them, offset behind them) of the chunk that has record `index`.

        Looks from `offset` on, at a chunk's start or a record in it; EIO behind the end.
        """
        for start, stop in self._spans(offset):
            block = tobytes((yield from self.osd.read(self.fid, start, stop - start)))
            last = _last_index(block)
            if last >= index:
                return block, last, stop
        raise LustreError(errno.EIO, f"llog {self.fid}: no record {index}")

    def prev_block(self, index: int) -> Steps[tuple[bytes, int, int]]:
        """(bytes, last index, offset of them) of the chunk before which `index` cannot be."""
        for start in range(CHUNK, self.size, CHUNK):
            block = tobytes((yield from self.osd.read(self.fid, start, CHUNK)))
            last = _last_index(block)
            if last >= index:
                return block, last, start
        raise LustreError(errno.EIO, f"llog {self.fid}: no record {index}")

    def _spans(self, offset: int) -> Iterator[tuple[int, int]]:
        """Where a reader that stands at `offset` finds records: to the end of each chunk."""
        start = max(offset, CHUNK)
        while start < self.size:
            stop = min(start - start % CHUNK + CHUNK, self.size)
            yield start, stop
            start = stop


def _last_index(block: bytes) -> int:
    """The index of the last record of a block, from its tail."""
    if len(block) < MIN_RECORD:
        return 0
    index: int = _TAIL.unpack_from(block, len(block) - _TAIL.size)[1]
    return index

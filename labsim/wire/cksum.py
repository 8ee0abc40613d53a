"""Checksums of bulk data: which kinds there are, how they are named on the wire, how to compute.

Does not know who sends the data. Stands for obd_cksum.h; Lustre's crc32 leaves out the final
inversion, its crc32c and its adler are the ordinary ones, those of T10-PI are in `t10`. A fill is
never made whole: its checksum is computed block by block, and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from zlib import adler32, crc32

import google_crc32c

from labsim.base.payload import Chain, Fill, Payload
from labsim.wire import t10
from labsim.wire.obd_md import (
    OBD_CKSUM_ADLER,
    OBD_CKSUM_CRC32,
    OBD_CKSUM_CRC32C,
    OBD_CKSUM_T10CRC4K,
    OBD_CKSUM_T10CRC512,
    OBD_CKSUM_T10IP4K,
    OBD_CKSUM_T10IP512,
    OBD_FL_CKSUM_ADLER,
    OBD_FL_CKSUM_ALL,
    OBD_FL_CKSUM_CRC32,
    OBD_FL_CKSUM_CRC32C,
    OBD_FL_CKSUM_T10CRC4K,
    OBD_FL_CKSUM_T10CRC512,
    OBD_FL_CKSUM_T10IP4K,
    OBD_FL_CKSUM_T10IP512,
)

NAMES = {
    "crc32": OBD_CKSUM_CRC32,
    "adler": OBD_CKSUM_ADLER,
    "crc32c": OBD_CKSUM_CRC32C,
    "t10ip512": OBD_CKSUM_T10IP512,
    "t10ip4K": OBD_CKSUM_T10IP4K,
    "t10crc512": OBD_CKSUM_T10CRC512,
    "t10crc4K": OBD_CKSUM_T10CRC4K,
}
"""What checksum_type calls them (DECLARE_CKSUM_NAME), in Lustre's order."""

FASTEST = (OBD_CKSUM_CRC32C, OBD_CKSUM_ADLER, OBD_CKSUM_CRC32)
"""Where the processor has an instruction for crc32c, as all have since 2008."""

_FLAGS = {
    OBD_CKSUM_CRC32: OBD_FL_CKSUM_CRC32,
    OBD_CKSUM_ADLER: OBD_FL_CKSUM_ADLER,
    OBD_CKSUM_CRC32C: OBD_FL_CKSUM_CRC32C,
    OBD_CKSUM_T10IP512: OBD_FL_CKSUM_T10IP512,
    OBD_CKSUM_T10IP4K: OBD_FL_CKSUM_T10IP4K,
    OBD_CKSUM_T10CRC512: OBD_FL_CKSUM_T10CRC512,
    OBD_CKSUM_T10CRC4K: OBD_FL_CKSUM_T10CRC4K,
}
_KINDS = {flags: kind for kind, flags in _FLAGS.items()}

_BLOCK = 1 << 16
_ALL_ONES = 0xFFFFFFFF


def choose(kinds: int) -> int:
    """The best of a set of OBD_CKSUM_* (cksum_type_select); adler where there is no other."""
    return next((kind for kind in FASTEST if kinds & kind), OBD_CKSUM_ADLER)


def to_flags(kind: int) -> int:
    """The OBD_FL_CKSUM_* that names a kind in o_flags."""
    return _FLAGS[kind]


def from_flags(flags: int) -> int:
    """The kind that o_flags name; adler where they name none that is known."""
    return _KINDS.get(flags & OBD_FL_CKSUM_ALL, OBD_CKSUM_ADLER)


def _extend(kind: int) -> tuple[int, Callable[[int, bytes | bytearray | memoryview], int]]:
    """The value of no data, and how more data changes a value."""
    if kind == OBD_CKSUM_CRC32C:
        return 0, _crc32c
    if kind == OBD_CKSUM_CRC32:
        return 0, lambda value, data: crc32(data, value)
    return 1, lambda value, data: adler32(data, value)


def _crc32c(value: int, data: bytes | bytearray | memoryview) -> int:
    """The library takes nothing but bytes: others are copied, in blocks that stay in a cache."""
    blocks = (data,) if isinstance(data, bytes) else _blocks(data)
    for block in blocks:
        value = google_crc32c.extend(value, block)
    return value


def _blocks(data: bytearray | memoryview) -> Iterator[bytes]:
    view = memoryview(data)
    for at in range(0, len(view), _BLOCK):
        yield bytes(view[at : at + _BLOCK])


def _finish(kind: int, value: int) -> int:
    return value ^ _ALL_ONES if kind == OBD_CKSUM_CRC32 else value


def checksum(kind: int, data: Payload, ranges: Iterable[tuple[int, int]] = ()) -> int:
    """The checksum of that kind (OBD_CKSUM_*) over all bytes: 32 bits.

    `ranges` (offset, length) are where in their object the bytes lie; T10-PI goes by its pages.
    """
    if kind in t10.GUARDS:
        return t10.checksum(kind, data, ranges)
    if isinstance(data, Fill):
        return _of_fill(kind, data.length, data.seed, data.offset)
    value, extend = _extend(kind)
    for part in data.pieces if isinstance(data, Chain) else (data,):
        value = _over_fill(extend, value, part) if isinstance(part, Fill) else extend(value, part)
    return _finish(kind, value)


@lru_cache(maxsize=4096)
def _of_fill(kind: int, length: int, seed: int, offset: int) -> int:
    value, extend = _extend(kind)
    return _finish(kind, _over_fill(extend, value, Fill(length, seed, offset)))


def _over_fill(
    extend: Callable[[int, bytes | bytearray | memoryview], int], value: int, fill: Fill
) -> int:
    """Block by block; whole blocks of a pattern are all alike."""
    block = b""
    for at in range(0, len(fill), _BLOCK):
        part = fill[at : at + _BLOCK]
        if len(block) != len(part):
            block = part.tobytes()
        value = extend(value, block)
    return value

"""T10-PI checksums of bulk data: a guard of two bytes for each sector, and adler32 over the guards.

Does not know RPCs. Stands for obdclass/integrity.c (LU-10472): sectors are counted from where a
page's data begins, so the same bytes at other places have another checksum.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from zlib import adler32

from labsim.base.payload import Payload, piece, tobytes
from labsim.wire.obd_md import (
    OBD_CKSUM_T10CRC4K,
    OBD_CKSUM_T10CRC512,
    OBD_CKSUM_T10IP4K,
    OBD_CKSUM_T10IP512,
)

PAGE = 4096
T10DIF = 0x8BB7
"""The polynomial of crc_t10dif, from the highest bit; it starts with nothing."""


def crc(data: bytes) -> int:
    """The CRC of T10-DIF (crc_t10dif)."""
    table, value = _crc_table(), 0
    even = len(data) & ~1
    words = array("H", data[:even])
    if _LITTLE:
        words.byteswap()
    for word in words:
        value = table[value ^ word]
    if even != len(data):
        value = value << 8 & 0xFFFF ^ _crc_byte(value >> 8 ^ data[-1])
    return value


def ip(data: bytes) -> int:
    """The checksum of IP headers (ip_compute_csum): the complement of a sum of 16-bit words."""
    number = int.from_bytes(data, "big") << 8 * (len(data) % 2)
    return 0xFFFF - (number % 0xFFFF or (0xFFFF if number else 0))


_LITTLE = array("H", b"\1\0")[0] == 1


def _crc_byte(value: int) -> int:
    value <<= 8
    for _ in range(8):
        value = value << 1 ^ T10DIF if value & 0x8000 else value << 1
        value &= 0xFFFF
    return value


@cache
def _crc_table() -> array[int]:
    """What two bytes more make of a value that they are added to."""
    one = [_crc_byte(byte) for byte in range(256)]
    first = ((one[word >> 8] ^ word << 8 & 0xFFFF) for word in range(1 << 16))
    return array("H", (one[value >> 8] ^ value << 8 & 0xFFFF for value in first))


GUARDS: dict[int, tuple[Callable[[bytes], int], int]] = {
    OBD_CKSUM_T10IP512: (ip, 512),
    OBD_CKSUM_T10IP4K: (ip, 4096),
    OBD_CKSUM_T10CRC512: (crc, 512),
    OBD_CKSUM_T10CRC4K: (crc, 4096),
}
"""Kind -> how a guard is made, and of how many bytes (obd_t10_cksum2dif)."""


def checksum(kind: int, data: Payload, ranges: Iterable[tuple[int, int]]) -> int:
    """Of `data` that lies at those places (offset, length) of an object, as far as there is any."""
    value = 1
    for part in _pages(data, ranges):
        value = adler32(_guards(kind, tobytes(part)), value)
    return value


def _pages(data: Payload, ranges: Iterable[tuple[int, int]]) -> Iterator[Payload]:
    at, size = 0, len(data)
    for offset, length in ranges:
        end = offset + length
        while offset < end and at < size:
            count = min(PAGE - offset % PAGE, end - offset, size - at)
            yield piece(data, at, at + count)
            at += count
            offset += count


@lru_cache(maxsize=64)
def _guards(kind: int, page: bytes) -> bytes:
    """The guards of what one page has; pages of a pattern are alike."""
    guard, sector = GUARDS[kind]
    parts = (page[at : at + sector] for at in range(0, len(page), sector))
    return b"".join(guard(part).to_bytes(2, "big") for part in parts)

"""Checksums of bulk data against known values, and of fills against their bytes."""

from __future__ import annotations

from random import Random
from zlib import adler32, crc32

import pytest

from labsim.base.payload import Fill, join, tobytes
from labsim.wire import cksum, t10
from labsim.wire.constants import (
    OBD_CKSUM_ADLER,
    OBD_CKSUM_CRC32,
    OBD_CKSUM_CRC32C,
    OBD_CKSUM_T10_ALL,
    OBD_CKSUM_T10CRC512,
    OBD_CKSUM_T10IP4K,
    OBD_FL_CKSUM_T10IP4K,
)

KINDS = (OBD_CKSUM_CRC32, OBD_CKSUM_ADLER, OBD_CKSUM_CRC32C)
CHECK = b"123456789"


def test_known_values() -> None:
    assert cksum.checksum(OBD_CKSUM_CRC32C, CHECK) == 0xE3069283
    assert cksum.checksum(OBD_CKSUM_CRC32, CHECK) == 0xCBF43926 ^ 0xFFFFFFFF
    assert cksum.checksum(OBD_CKSUM_ADLER, CHECK) == 0x091E01DE
    assert [cksum.checksum(kind, b"") for kind in KINDS] == [0xFFFFFFFF, 1, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_payload_has_the_checksum_of_its_bytes(kind: int) -> None:
    rng = Random(7)
    for _ in range(60):
        parts = [
            Fill(rng.choice((1, 4095, 65536, 200_000)), rng.randrange(3), rng.randrange(9000))
            if rng.random() < 0.6
            else memoryview(rng.randbytes(rng.randrange(1, 3000)))
            for _ in range(rng.randrange(1, 4))
        ]
        data = join(parts)
        raw = tobytes(data)
        assert cksum.checksum(kind, data) == cksum.checksum(kind, raw)
        if kind == OBD_CKSUM_CRC32:
            assert cksum.checksum(kind, data) == crc32(raw) ^ 0xFFFFFFFF
        if kind == OBD_CKSUM_ADLER:
            assert cksum.checksum(kind, data) == adler32(raw)


def test_kinds_and_flags() -> None:
    for kind in cksum.NAMES.values():
        assert cksum.from_flags(cksum.to_flags(kind) | 0x400000) == kind
    assert cksum.from_flags(0) == OBD_CKSUM_ADLER
    assert cksum.from_flags(OBD_FL_CKSUM_T10IP4K) == OBD_CKSUM_T10IP4K
    assert cksum.from_flags(0x9000) == OBD_CKSUM_ADLER
    assert cksum.choose(7) == OBD_CKSUM_CRC32C
    assert cksum.choose(3) == OBD_CKSUM_ADLER
    assert cksum.choose(OBD_CKSUM_T10_ALL) == OBD_CKSUM_ADLER


def test_a_large_fill_is_not_made_whole() -> None:
    assert cksum.checksum(OBD_CKSUM_CRC32C, Fill(1 << 32, 3)) == cksum.checksum(
        OBD_CKSUM_CRC32C, Fill(1 << 32, 3, 4096)
    )


def test_guards_of_t10_have_their_known_values() -> None:
    """Those of SBC (32 bytes each), the check value of CRC-16/T10-DIF, and of RFC 1071."""
    patterns = (bytes(32), b"\xff" * 32, bytes(range(32)), b"\xff\xff" + bytes(30),
                bytes(range(0xFF, 0xDF, -1)))  # fmt: skip
    assert [t10.crc(data) for data in patterns] == [0x0000, 0xA293, 0x0224, 0x21B8, 0xA0B7]
    assert t10.crc(b"123456789") == 0xD0DB
    assert t10.ip(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    assert t10.ip(bytes.fromhex("450000730000400040110000c0a80001c0a800c7")) == 0xB861
    assert t10.ip(bytes(512)) == 0xFFFF
    assert t10.ip(b"\xff" * 4) == 0
    assert t10.ip(b"abc") == t10.ip(b"abc\0")


def test_t10_takes_sectors_from_where_the_data_of_a_page_begins() -> None:
    data = bytes(range(256)) * 24
    crcs = [t10.crc(data[at:end]) for at, end in ((0, 512), (512, 996), (996, 1508))]
    first = b"".join(one.to_bytes(2, "big") for one in crcs[:2])
    whole = first + b"".join(
        t10.crc(data[at : min(at + 512, 996 + 4096)]).to_bytes(2, "big")
        for at in range(996, 996 + 4096, 512)
    )
    assert cksum.checksum(OBD_CKSUM_T10CRC512, data[:996], [(3100, 996)]) == adler32(first)
    ranges = [(3100, 996 + 4096)]
    assert cksum.checksum(OBD_CKSUM_T10CRC512, data[: 996 + 4096], ranges) == adler32(whole)
    apart = [(3100, 996), (40960, 4096)]
    assert cksum.checksum(OBD_CKSUM_T10CRC512, data[: 996 + 4096], apart) == adler32(whole)
    four = b"".join(t10.ip(one).to_bytes(2, "big") for one in (data[:996], data[996:2000]))
    assert cksum.checksum(OBD_CKSUM_T10IP4K, data[:2000], ranges) == adler32(four), "a short read"

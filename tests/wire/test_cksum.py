"""Checksums of bulk data against known values, and of fills against their bytes."""

from __future__ import annotations

from random import Random
from zlib import adler32, crc32

import pytest

from labsim.base.payload import Fill, join, tobytes
from labsim.wire import cksum
from labsim.wire.constants import (
    OBD_CKSUM_ADLER,
    OBD_CKSUM_CRC32,
    OBD_CKSUM_CRC32C,
    OBD_CKSUM_T10_ALL,
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
    for kind in KINDS:
        assert cksum.from_flags(cksum.to_flags(kind) | 0x400000) == kind
    assert cksum.from_flags(0) == OBD_CKSUM_ADLER
    assert cksum.from_flags(OBD_FL_CKSUM_T10IP4K) == OBD_CKSUM_ADLER
    assert cksum.choose(7) == OBD_CKSUM_CRC32C
    assert cksum.choose(3) == OBD_CKSUM_ADLER
    assert cksum.choose(OBD_CKSUM_T10_ALL) == OBD_CKSUM_ADLER


def test_a_large_fill_is_not_made_whole() -> None:
    assert cksum.checksum(OBD_CKSUM_CRC32C, Fill(1 << 32, 3)) == cksum.checksum(
        OBD_CKSUM_CRC32C, Fill(1 << 32, 3, 4096)
    )

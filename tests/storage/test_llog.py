"""Llogs on both OSDs: bytes, indices, padding, cancelling, reading on."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.ids import Fid
from labsim.base.payload import tobytes
from labsim.storage.llog import CHUNK, MAX_BODY, MAX_INDEX, Llog, pack_record, records_of
from labsim.wire.constants import LLOG_HDR_MAGIC, LLOG_PAD_MAGIC, OBD_CFG_REC
from tests.storage.bench import Bench

FID = Fid(10, 1)


def made(b: Any) -> Llog:
    log = Llog(b.osd, FID)
    tx = b.osd.transaction()
    log.create(tx, 1_577_836_800, "MGS")
    b.run(tx.stop())
    return log


def append(b: Any, log: Llog, *bodies: bytes) -> list[int]:
    tx = b.osd.transaction()
    indices = log.append(tx, [(OBD_CFG_REC, body) for body in bodies])
    b.run(tx.stop())
    return indices


def image(b: Any, log: Llog) -> bytes:
    return tobytes(b.run(log.osd.read(FID, 0, log.size)))


def reopened(b: Any) -> Llog:
    log = Llog(b.osd, FID)
    assert b.run(log.open())
    return log


def test_an_empty_log_is_its_header(bench) -> None:
    b = bench()
    log = made(b)
    data = image(b, log)
    assert len(data) == CHUNK
    assert struct.unpack_from("<IIII", data) == (CHUNK, 0, LLOG_HDR_MAGIC, 0)
    assert struct.unpack_from("<qIIIII", data, 16) == (1_577_836_800, 1, 88, 0, 4, 0)
    assert data[44:84] == b"MGS".ljust(40, b"\0")
    assert data[88] == 1
    assert not any(data[89:-8])
    assert struct.unpack_from("<II", data, CHUNK - 8) == (CHUNK, 0)


def test_a_record_byte_for_byte(bench) -> None:
    b = bench()
    log = made(b)
    assert append(b, log, b"hello") == [1]
    data = image(b, log)
    head = bytes.fromhex("20000000 01000000 00006210 00000000")
    assert data[CHUNK:] == head + b"hello\0\0\0" + bytes.fromhex("20000000 01000000")
    assert data[88] == 3
    assert struct.unpack_from("<I", data, 24) == (2,)
    assert struct.unpack_from("<II", data, CHUNK - 8) == (CHUNK, 1)


def test_what_does_not_fit_a_chunk_is_padded(bench) -> None:
    b = bench()
    log = made(b)
    assert append(b, log, bytes(MAX_BODY - 1000)) == [1]
    assert append(b, log, bytes(2000)) == [3], "the padding has taken an index"
    pad = records_of.__wrapped__(image(b, log)[CHUNK : 2 * CHUNK])
    assert [record.idx for record in pad] == [1]
    at = 2 * CHUNK - 1024
    assert struct.unpack_from("<IIII", image(b, log), at) == (1024, 2, LLOG_PAD_MAGIC, 0)
    assert log.count == 3
    assert not log.live(2)
    assert [record.idx for record in b.run(log.records())] == [1, 3]


def test_a_record_that_fills_the_chunk_exactly_needs_no_padding(bench) -> None:
    b = bench()
    log = made(b)
    assert append(b, log, bytes(4000), bytes(CHUNK - 4024 - 24), bytes(8)) == [1, 2, 3]
    assert log.size == 2 * CHUNK + 32


def test_too_long_a_record_is_refused(bench) -> None:
    b = bench()
    log = made(b)
    with pytest.raises(LustreError) as raised:
        append(b, log, bytes(MAX_BODY + 1))
    assert raised.value.errno == errno.EFBIG
    assert reopened(b).last == 0


def test_a_full_bitmap_is_enospc_and_changes_nothing(bench) -> None:
    b = bench()
    log = made(b)
    log.last = MAX_INDEX
    before = log.header()
    with pytest.raises(LustreError) as raised:
        append(b, log, b"x")
    assert raised.value.errno == errno.ENOSPC
    assert log.header() == before


def test_cancel_takes_the_bit_and_not_the_bytes(bench) -> None:
    b = bench()
    log = made(b)
    append(b, log, b"one", b"two", b"three")
    tx = b.osd.transaction()
    log.cancel(tx, 2)
    b.run(tx.stop())
    again = reopened(b)
    assert again.count == 3
    assert [record.body.rstrip(b"\0") for record in b.run(again.records())] == [b"one", b"three"]
    with pytest.raises(LustreError):
        again.cancel(b.osd.transaction(), 2)


def test_replace_keeps_length_and_index(bench) -> None:
    b = bench()
    log = made(b)
    append(b, log, b"one", b"two")
    record = b.run(log.records())[0]
    tx = b.osd.transaction()
    log.replace(tx, record, b"ONE")
    b.run(tx.stop())
    assert [r.body.rstrip(b"\0") for r in b.run(log.records())] == [b"ONE", b"two"]
    with pytest.raises(LustreError):
        log.replace(b.osd.transaction(), record, bytes(9))


def test_reading_on_from_where_one_stopped(bench) -> None:
    b = bench()
    log = made(b)
    append(b, log, *(bytes([n]) * 1000 for n in range(20)))
    index, offset, seen = 1, CHUNK, []
    while index <= log.last:
        block, last, offset = b.run(log.next_block(index, offset))
        seen += [record.idx for record in records_of(block) if record.idx >= index]
        index = last + 1
    assert seen == [record.idx for record in b.run(log.records())]
    append(b, log, b"later")
    block, last, _ = b.run(log.next_block(index, offset))
    assert [record.idx for record in records_of(block)] == [last] == [log.last]
    with pytest.raises(LustreError) as raised:
        b.run(log.next_block(log.last + 1, offset))
    assert raised.value.errno == errno.EIO
    assert b.run(log.prev_block(1))[2] == CHUNK


def test_hostile_blocks_are_refused() -> None:
    good = pack_record(1, OBD_CFG_REC, b"12345678")
    assert len(records_of(good)) == 1
    for at, value in ((0, 8), (0, 33), (0, 4096), (4, 7), (len(good) - 8, 0)):
        bad = bytearray(good)
        bad[at : at + 4] = struct.pack("<I", value)
        with pytest.raises(ProtocolError):
            records_of(bytes(bad))
    assert records_of(b"") == records_of(bytes(100)) == ()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(0, MAX_BODY).map(lambda n: ("add", n)),
            st.integers(0, 60).map(lambda n: ("cancel", n)),
        ),
        max_size=40,
    )
)
def test_a_log_is_what_was_done_to_it(actions: list[tuple[str, int]]) -> None:
    b = Bench("mem", Path())
    log = made(b)
    model: dict[int, bytes] = {}
    for number, (action, size) in enumerate(actions):
        if action == "add":
            body = bytes([number]) * (size - size % 8)
            model[append(b, log, body)[0]] = body
        elif size in model:
            tx = b.osd.transaction()
            log.cancel(tx, size)
            b.run(tx.stop())
            del model[size]
    again = reopened(b)
    assert {r.idx: r.body for r in b.run(again.records())} == model
    assert again.count == len(model) + 1
    assert again.size % 8 == 0
    assert again.header() == log.header()
    b.close()

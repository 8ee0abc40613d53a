"""One suite for both OSDs: what a target may rely on."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.payload import Fill, join, tobytes
from labsim.base.units import NS_PER_S
from labsim.storage.osd import MAX_BYTES, Attrs
from tests.storage.bench import Bench

A, B = Fid(0x200000401, 1), Fid(0x200000401, 2)
FILE = Attrs(mode=0o100644)
CHUNK = 65520
MIB = 1 << 20


def fails(number: int) -> Any:
    return pytest.raises(LustreError, match=errno.errorcode[number])


# -- objects, attributes


def test_an_object_has_the_attributes_it_was_made_with(bench) -> None:
    b = bench()
    attrs = Attrs(0o040755, 1, 2, 3, 4096, 8, 5, 6, 7, 8, 9, 10, 11)
    b.tx(("create", A, attrs))
    assert b.osd.attrs(A) == attrs
    assert b.osd.exists(A)
    assert not b.osd.exists(B)


def test_set_attrs_replaces_only_what_it_names(bench) -> None:
    b = bench()
    b.tx(("create", A, FILE))
    tx = b.osd.transaction()
    tx.set_attrs(A, uid=500, mtime=-1, version=2**63)
    b.run(tx.stop())
    assert b.osd.attrs(A) == Attrs(mode=0o100644, uid=500, mtime=-1, version=2**63)


def test_objects_come_in_the_order_of_their_fids(bench) -> None:
    b = bench()
    fids = [Fid(2, 1), Fid(1, 2**32 - 1), Fid(1, 256, 7), Fid(1, 255), Fid(2**64 - 1, 0)]
    b.tx(*(("create", fid, FILE) for fid in fids))
    b.tx(*(("insert", fid, b"\xff" * 40, b"") for fid in fids))
    assert list(b.osd.objects()) == sorted(fids)
    b.tx(("destroy", Fid(1, 256, 7)))
    assert len(list(b.osd.objects())) == 4


def test_a_destroyed_object_leaves_nothing_behind(bench) -> None:
    b = bench()
    b.tx(("create", A, FILE), ("write", A, 0, b"x" * 100_000), ("insert", A, b"k", b"v"))
    b.tx(("set_xattr", A, "user.a", b"1"), ("create", B, FILE), ("insert", B, b"k", b"w"))
    b.tx(("destroy", A))
    with fails(errno.ENOENT):
        b.osd.attrs(A)
    b.tx(("create", A, FILE), ("truncate", A, 10))
    assert tobytes(b.read(A)) == bytes(10)
    assert b.osd.xattrs(A) == {}
    assert b.osd.lookup(A, b"k") is None
    assert b.osd.lookup(B, b"k") == b"w"


@pytest.mark.parametrize(
    "ask",
    [
        lambda osd: osd.attrs(A),
        lambda osd: osd.xattr(A, "user.a"),
        lambda osd: osd.xattrs(A),
        lambda osd: osd.lookup(A, b"k"),
        lambda osd: list(osd.iterate(A)),
        lambda osd: list(osd.read(A, 0, 1)),
    ],
)
def test_asking_for_no_object_is_enoent(bench, ask) -> None:
    with fails(errno.ENOENT):
        ask(bench().osd)


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (("create", A, FILE), errno.EEXIST),
        (("destroy", B), errno.ENOENT),
        (("set_attrs", B), errno.ENOENT),
        (("set_xattr", B, "user.a", b""), errno.ENOENT),
        (("set_xattr", A, "user." + "n" * 500, b""), errno.ERANGE),
        (("del_xattr", B, "user.a"), errno.ENOENT),
        (("del_xattr", A, "user.a"), errno.ENODATA),
        (("insert", B, b"k", b""), errno.ENOENT),
        (("insert", A, b"there", b""), errno.EEXIST),
        (("insert", A, b"", b""), errno.ERANGE),
        (("insert", A, b"k" * 481, b""), errno.ERANGE),
        (("delete", B, b"k"), errno.ENOENT),
        (("delete", A, b"k"), errno.ENOENT),
        (("write", B, 0, b"x"), errno.ENOENT),
        (("write", A, MAX_BYTES - 1, b"xy"), errno.EFBIG),
        (("write", A, -1, b"x"), errno.EINVAL),
        (("truncate", B, 0), errno.ENOENT),
        (("truncate", A, MAX_BYTES + 1), errno.EFBIG),
    ],
)
def test_what_cannot_be_done_leaves_nothing_of_its_transaction(bench, change, number) -> None:
    b = bench()
    b.tx(("create", A, FILE), ("write", A, 0, b"old"), ("insert", A, b"there", b"v"))
    before = b.osd.attrs(A), b.osd.statfs()
    with fails(number):
        b.tx(
            ("write", A, 1, b"new" * 50_000), ("truncate", A, 2), ("set_xattr", A, "user.b", b"1"),
            ("insert", A, b"new", b"v"), ("create", Fid(9, 9), FILE), ("delete", A, b"there"),
            ("insert", A, b"there", b"again"), change,
        )  # fmt: skip
    assert (b.osd.attrs(A), b.osd.statfs()) == before
    assert tobytes(b.read(A)) == b"old"
    assert b.osd.xattrs(A) == {}
    assert list(b.osd.iterate(A)) == [(b"there", b"v")]
    assert list(b.osd.objects()) == [A]


# -- extended attributes and indices


def test_xattrs(bench) -> None:
    b = bench()
    b.tx(("create", A, FILE), ("set_xattr", A, "user.b", b"1"), ("set_xattr", A, "user.a", b""))
    b.tx(("set_xattr", A, "user.b", b"2" * 65536), ("set_xattr", A, "user.\udcff", b"raw"))
    assert b.osd.xattr(A, "user.a") == b""
    assert b.osd.xattrs(A) == {"user.a": b"", "user.b": b"2" * 65536, "user.\udcff": b"raw"}
    assert list(b.osd.xattrs(A)) == ["user.a", "user.b", "user.\udcff"]
    b.tx(("del_xattr", A, "user.b"))
    for name in ("user.b", "user.", "user." + "n" * 600):
        with fails(errno.ENODATA):
            b.osd.xattr(A, name)


def test_an_index_is_in_the_order_of_its_keys(bench) -> None:
    b = bench()
    keys = [bytes([number * 37 % 251]) * (number % 5 + 1) for number in range(200)]
    b.tx(("create", A, FILE), ("create", B, FILE), ("insert", B, b"\0", b"other"))
    b.tx(*(("insert", A, key, key[::-1], True) for key in keys))
    expected = [(key, key[::-1]) for key in sorted(set(keys))]
    assert list(b.osd.iterate(A)) == expected
    assert list(b.osd.iterate(A, b"\x80")) == [row for row in expected if row[0] >= b"\x80"]
    assert list(b.osd.iterate(A, b"\xff")) == []
    assert b.osd.lookup(A, b"k" * 600) is None


def test_replace_overwrites_an_entry(bench) -> None:
    b = bench()
    b.tx(("create", A, FILE), ("insert", A, b"k", b"1"), ("insert", A, b"k", b"22", True))
    assert b.osd.lookup(A, b"k") == b"22"


def test_an_iteration_bears_changes(bench) -> None:
    b = bench()
    b.tx(("create", A, FILE), *(("insert", A, bytes([at]), b"") for at in range(10)))
    seen = []
    for key, _ in b.osd.iterate(A):
        seen.append(key[0])
        if key == b"\x03":
            b.tx(("delete", A, b"\x03"), ("delete", A, b"\x05"), ("insert", A, b"\x06\x01", b""))
            b.run(b.osd.sync())
    assert seen == [0, 1, 2, 3, 4, 6, 6, 7, 8, 9]


# -- data


def test_what_was_not_written_reads_as_zeros(bench) -> None:
    b = bench()
    b.tx(("create", A, FILE), ("write", A, 200_000, b"end"))
    assert tobytes(b.read(A, 199_998, 100)) == b"\0\0end"
    assert tobytes(b.read(A, 0, 200_000)) == bytes(200_000)
    assert tobytes(b.read(A, 200_003, 5)) == b""
    assert tobytes(b.read(A, 1 << 50, 5)) == b""
    assert b.osd.attrs(A).size == 200_003


def test_a_fill_is_its_bytes_and_parts_of_it(bench) -> None:
    b = bench()
    fill = Fill(3 * MIB, 7)
    b.tx(("create", A, FILE), ("write", A, 1000, fill), ("write", A, 1000 + 3 * MIB, fill))
    b.tx(("write", A, 5000, b"real"))
    expected = bytearray(1000) + fill.tobytes() * 2
    expected[5000:5004] = b"real"
    assert tobytes(b.read(A)) == expected
    assert tobytes(b.read(A, CHUNK - 3, 7)) == expected[CHUNK - 3 : CHUNK + 4]


def test_a_chain_is_its_pieces(bench) -> None:
    b = bench()
    parts = [b"a" * 70_000, Fill(70_000, 3), bytearray(b"b" * 10), memoryview(b"c" * 10)]
    chain = join(parts)
    b.tx(("create", A, FILE), ("write", A, 77, chain), ("write", A, 200_000, join([chain] * 40)))
    data = b"".join(map(tobytes, parts))
    assert tobytes(b.read(A, 77, len(data))) == data
    assert tobytes(b.read(A, 200_000, 40 * len(data))) == data * 40


def test_blocks_are_counted_as_a_disk_allocates_them(bench) -> None:
    b = bench(nbytes=1 << 30)
    b.tx(("create", A, FILE), ("write", A, 0, b"x"))
    assert b.osd.attrs(A).blocks == 8
    b.tx(("write", A, 4000, b"x" * 200), ("write", A, 100, b"x" * 100))
    assert b.osd.attrs(A).blocks == 16
    b.tx(("write", A, 100 * MIB, Fill(MIB)))
    assert b.osd.attrs(A).blocks == 16 + 2048
    b.tx(("write", A, 100 * MIB + 4096, b"x" * 8192))
    assert b.osd.attrs(A).blocks == 16 + 2048
    assert b.osd.statfs().bfree == (1 << 30) // 4096 - 2 - 256
    b.tx(("truncate", A, 100 * MIB + 5000))
    assert b.osd.attrs(A).blocks == 16 + 16
    b.tx(("truncate", A, 4096))
    assert b.osd.attrs(A).blocks == 8
    b.tx(("truncate", A, 0), ("truncate", A, 50))
    assert (b.osd.attrs(A).blocks, b.osd.attrs(A).size) == (0, 50)
    assert b.osd.statfs().bfree == b.osd.statfs().blocks


def test_what_a_truncate_took_does_not_come_back(bench) -> None:
    b = bench()
    b.tx(("create", A, FILE), ("write", A, 0, b"x" * 200_000), ("truncate", A, 70_000))
    b.tx(("truncate", A, 140_000), ("write", A, 150_000, b"y"))
    assert tobytes(b.read(A)) == b"x" * 70_000 + bytes(80_000) + b"y"


offsets = st.sampled_from([0, 1, 4095, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 200_000])
lengths = st.sampled_from([1, 10, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 140_000])
data_steps = st.one_of(
    st.tuples(st.just("write"), offsets, lengths, st.integers(0, 3)),
    st.tuples(st.just("truncate"), offsets),
    st.tuples(st.sampled_from(["reopen", "crash", "sync"])),
)


@pytest.mark.parametrize("kind", ["mem", "lmdb"])
@settings(max_examples=40, deadline=None)
@given(st.lists(data_steps, max_size=12))
def test_data_is_what_a_plain_file_would_hold(kind: str, steps: list[tuple]) -> None:
    with tempfile.TemporaryDirectory() as path:
        b = Bench(kind, Path(path))
        b.tx(("create", A, FILE), sync=True)
        now, durable = bytearray(), bytearray()
        for name, *arguments in steps:
            if name == "write":
                offset, length, seed = arguments
                data = Fill(length, seed) if seed else b"z" * length
                now.extend(bytes(max(offset - len(now), 0)))
                now[offset : offset + length] = tobytes(data)
                b.tx(("write", A, offset, data))
            elif name == "truncate":
                size = arguments[0]
                now = now[:size] + bytes(max(size - len(now), 0))
                b.tx(("truncate", A, size))
            elif name == "crash":
                b.osd.crash()
                now = bytearray(durable)
            else:
                b.reopen() if name == "reopen" else b.run(b.osd.sync())
                durable = bytearray(now)
            assert tobytes(b.read(A)) == now
            assert b.osd.attrs(A).size == len(now)
        b.close()


# -- transactions and commits


def test_nothing_happens_before_stop(bench) -> None:
    b = bench()
    tx = b.osd.transaction()
    tx.create(A, FILE)
    assert not b.osd.exists(A)
    b.run(tx.stop())
    assert b.osd.exists(A)


def test_a_commit_comes_after_the_interval_and_calls_back_in_order(bench) -> None:
    b = bench(commit_interval_ns=3 * NS_PER_S)
    calls: list[tuple[str, int]] = []
    for delay, name in ((0, "one"), (NS_PER_S, "two"), (3 * NS_PER_S, "three")):
        b.wait(delay) if delay else None
        tx = b.osd.transaction()
        tx.create(Fid(1, len(calls) + delay // NS_PER_S), FILE)
        tx.on_commit(lambda name=name: calls.append((name, b.env.now)))
        b.run(tx.stop())
    b.wait(10 * NS_PER_S)
    assert calls == [("one", 3 * NS_PER_S), ("two", 3 * NS_PER_S), ("three", 7 * NS_PER_S)]


def test_sync_waits_until_all_is_durable(bench) -> None:
    b = bench()
    calls: list[str] = []
    tx = b.osd.transaction()
    tx.create(A, FILE)
    tx.on_commit(lambda: calls.append("durable"))
    b.run(tx.stop())
    assert calls == []
    b.run(b.osd.sync())
    assert calls == ["durable"]
    assert b.env.now == 0
    b.run(b.osd.sync())


def test_a_synchronous_stop_is_durable(bench) -> None:
    b = bench()
    b.tx(("create", A, FILE), sync=True)
    b.tx(("create", B, FILE))
    b.osd.crash()
    assert list(b.osd.objects()) == [A]


def test_a_failed_transaction_is_never_reported_durable(bench) -> None:
    b = bench()
    calls: list[str] = []
    tx = b.osd.transaction()
    tx.destroy(A)
    tx.on_commit(lambda: calls.append("durable"))
    with fails(errno.ENOENT):
        b.run(tx.stop())
    b.run(b.osd.sync())
    assert calls == []


def test_before_join_runs_right_before_the_changes(bench) -> None:
    b = bench()
    tx = b.osd.transaction()
    tx.create(A, FILE)
    seen = []

    def number() -> None:
        seen.append(b.osd.exists(A))
        tx.insert(A, b"transno", b"1")

    tx.before_join(number)
    b.run(tx.stop())
    assert seen == [False]
    assert b.osd.lookup(A, b"transno") == b"1"


def test_a_crash_takes_back_exactly_what_was_not_durable(bench) -> None:
    b = bench(nbytes=1 << 30)
    calls: list[str] = []
    b.tx(("create", A, FILE), ("write", A, 0, b"x" * 100_000), ("insert", A, b"k", b"1"))
    b.tx(("set_xattr", A, "user.a", b"1"), sync=True)
    before = b.osd.attrs(A), b.osd.statfs()
    b.tx(("write", A, 50_000, b"y" * 100_000), ("set_xattr", A, "user.a", b"2"))
    b.tx(("truncate", A, 10), ("delete", A, b"k"), ("insert", A, b"j", b""), ("create", B, FILE))
    b.tx(("destroy", A), ("create", A, Attrs(uid=7)))
    tx = b.osd.transaction()
    tx.set_attrs(A, uid=8)
    tx.on_commit(lambda: calls.append("durable"))
    b.run(tx.stop())
    b.osd.crash()
    b.wait(60 * NS_PER_S)
    assert (b.osd.attrs(A), b.osd.statfs()) == before
    assert tobytes(b.read(A)) == b"x" * 100_000
    assert b.osd.xattrs(A) == {"user.a": b"1"}
    assert list(b.osd.iterate(A)) == [(b"k", b"1")]
    assert list(b.osd.objects()) == [A]
    assert calls == []
    b.tx(("create", B, FILE), sync=True)
    assert b.osd.exists(B)


def test_everything_is_there_after_opening_again(bench) -> None:
    b = bench(nbytes=1 << 30)
    b.tx(("create", A, FILE), ("write", A, 5, Fill(MIB, 3)), ("insert", A, b"k", b"v"))
    b.tx(("set_xattr", A, "user.a", b"1"), ("create", B, Attrs(blocks=8)))
    before = b.osd.attrs(A), b.osd.statfs()
    b.reopen()
    assert (b.osd.attrs(A), b.osd.statfs()) == before
    assert tobytes(b.read(A)) == bytes(5) + Fill(MIB, 3).tobytes()
    assert b.osd.xattrs(A) == {"user.a": b"1"}
    assert list(b.osd.iterate(A)) == [(b"k", b"v")]


def slow(bench) -> Bench:
    """A bench whose disk waits for `release`."""
    b = bench()
    if b.kind == "mem":
        b.osd.device = b
    b.hold = True
    return b


def test_others_go_on_while_one_transaction_is_committed(bench) -> None:
    b = slow(bench)
    calls: list[str] = []
    for name, fid in (("one", A), ("two", B)):
        tx = b.osd.transaction()
        tx.create(fid, FILE)
        tx.on_commit(lambda name=name: calls.append(name))
        b.run(tx.stop())
        b.env.process(b.osd.sync())
        b.wait(1)
    assert b.osd.exists(A)
    assert b.osd.exists(B)
    assert calls == []
    assert len(b.held) == 1
    b.release()
    b.wait(1)
    assert calls == ["one", "two"]


def test_small_writes_over_small_writes(bench) -> None:
    """Records side by side, written anew, cut, read meanwhile; a crash knows which were durable."""
    b = bench()
    b.tx(("create", A, FILE), *(("write", A, 32 * n, b"%c" % (97 + n) * 32) for n in range(8)))
    b.tx(("write", A, 32, b"X" * 32), sync=True)
    durable = tobytes(b.read(A))
    assert durable == b"a" * 32 + b"X" * 32 + b"".join(b"%c" % (97 + n) * 32 for n in range(2, 8))
    b.tx(("write", A, 64, b"Y" * 32), ("write", A, 80, b"Z" * 8))
    early = b.read(A)
    content = tobytes(early)
    b.tx(("write", A, 0, b"W" * 40), ("truncate", A, 100), ("write", A, 96, b"V" * 100))
    b.tx(("write", A, 90, b"U" * 20), ("write", A, 60, Fill(50)), ("write", A, 64, b"T" * 8))
    assert tobytes(early) == content
    wanted = b"W" * 40 + b"X" * 20 + bytes(4) + b"T" * 8 + bytes(38) + b"V" * 86
    assert tobytes(b.read(A)) == wanted
    with fails(errno.ENOENT):
        b.tx(("write", A, 0, b"S" * 40), ("write", A, 150, b"R" * 8), ("destroy", B))
    assert tobytes(b.read(A)) == wanted
    b.osd.crash()
    assert tobytes(b.read(A)) == durable


def test_a_crash_while_committing(bench) -> None:
    b = slow(bench)
    calls: list[str] = []
    tx = b.osd.transaction()
    tx.create(A, FILE)
    tx.on_commit(lambda: calls.append("durable"))
    b.run(tx.stop())
    waiting = b.env.process(b.osd.sync())
    b.wait(1)
    b.tx(("create", B, FILE))
    b.osd.crash()
    b.release()
    b.wait(60 * NS_PER_S)
    assert calls == []
    assert waiting.is_alive
    assert not b.osd.exists(B)
    assert b.osd.exists(A) == (b.kind == "lmdb")  # committed there, only not reported
    tx = b.osd.transaction()
    tx.create(B, FILE)
    tx.on_commit(lambda: calls.append("after"))
    b.run(tx.stop(sync=True))
    assert calls == ["after"]


def test_writers_wait_while_too_much_is_not_durable(bench) -> None:
    b = bench()
    b.tx(("create", A, FILE), sync=True)
    b.hold = True
    b.osd.journal.full_bytes = MIB
    if b.kind == "mem":
        b.osd.journal.full_bytes = 4096  # one change; its data is no part of the journal
        b.osd.flush = lambda sealed: b.io(1, True)

    def writer():
        for at in range(4):
            tx = b.osd.transaction()
            tx.write(A, at * MIB, Fill(MIB, 1))
            yield from tx.stop()

    process = b.env.process(writer())
    b.wait(NS_PER_S)
    assert b.osd.attrs(A).size == 2 * MIB
    assert process.is_alive
    b.release()
    b.wait(NS_PER_S)
    assert b.osd.attrs(A).size == 4 * MIB


# -- space


def test_no_space_fails_one_transaction_and_room_comes_back(bench) -> None:
    b = bench(nbytes=8 * MIB)
    b.tx(("create", A, FILE), ("create", B, FILE), ("write", A, 0, Fill(5 * MIB, 1)))
    before = b.osd.attrs(B), b.osd.statfs()
    with fails(errno.ENOSPC):
        b.tx(("set_xattr", B, "user.a", b"1"), ("write", B, 0, Fill(4 * MIB, 2)))
    assert (b.osd.attrs(B), b.osd.statfs()) == before
    assert b.osd.xattrs(B) == {}
    b.tx(("write", B, 0, Fill(3 * MIB, 2)))
    assert b.osd.statfs().bfree == 0
    b.tx(("write", A, MIB, b"over" * 1000), ("set_attrs", A))
    b.reopen()
    with fails(errno.ENOSPC):
        b.tx(("write", B, 3 * MIB, b"x"))
    b.tx(("destroy", A))
    b.tx(("write", B, 3 * MIB, Fill(5 * MIB, 2)))
    assert tobytes(b.read(B)) == Fill(8 * MIB, 2)


def test_no_inode_is_no_space(bench) -> None:
    b = bench(max_files=3)
    for number in range(3):
        b.tx(("create", Fid(1, number), FILE))
    assert b.osd.statfs().ffree == 0
    with fails(errno.ENOSPC):
        b.tx(("create", A, FILE))
    b.tx(("destroy", Fid(1, 1)), ("create", A, FILE))


# -- both at once

fids = st.sampled_from([A, B])
keys = st.sampled_from([b"a", b"b", b"\0", b"k" * 481])
names = st.sampled_from(["user.a", "user.b"])
changes = st.one_of(
    st.tuples(st.just("create"), fids, st.builds(Attrs, blocks=st.sampled_from([0, 8]))),
    st.tuples(st.just("destroy"), fids),
    st.tuples(st.just("set_xattr"), fids, names, st.binary(max_size=3)),
    st.tuples(st.just("del_xattr"), fids, names),
    st.tuples(st.just("insert"), fids, keys, st.binary(max_size=3), st.booleans()),
    st.tuples(st.just("delete"), fids, keys),
    st.tuples(st.just("write"), fids, offsets, lengths.map(lambda n: Fill(n, 5))),
    st.tuples(st.just("truncate"), fids, offsets),
)
program = st.lists(st.lists(changes, min_size=1, max_size=4) | st.just("crash"), max_size=15)


def state(osd: Any) -> list[Any]:
    """All that an OSD shows but the data."""
    return [osd.statfs()] + [
        (fid, osd.attrs(fid), osd.xattrs(fid), list(osd.iterate(fid))) for fid in osd.objects()
    ]


@settings(max_examples=60, deadline=None)
@given(program)
def test_both_kinds_agree_on_every_program(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as path:
        both = [Bench(kind, Path(path), nbytes=300_000, max_files=2) for kind in ("mem", "lmdb")]
        for step in steps:
            outcomes = []
            for b in both:
                if step == "crash":
                    b.osd.crash()
                    continue
                try:
                    b.tx(*step)
                    outcomes.append(0)
                except LustreError as error:
                    outcomes.append(error.errno)
            assert len(set(outcomes)) <= 1
            assert state(both[0].osd) == state(both[1].osd)
        for fid in both[0].osd.objects():
            assert tobytes(both[0].read(fid)) == tobytes(both[1].read(fid))
        for b in both:
            b.close()

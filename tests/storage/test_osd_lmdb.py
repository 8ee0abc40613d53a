"""What only the LMDB store has: a map that fills, a file that others find, a process that dies."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from labsim.base.errors import InputError, LustreError
from labsim.base.ids import Fid
from labsim.base.payload import Fill, tobytes
from labsim.storage import osd_lmdb
from labsim.storage.osd import Attrs
from tests.storage.bench import Bench

A = Fid(0x200000401, 1)
FILE = Attrs(mode=0o100644)
MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make(tmp_path: Path):
    """`make(**options)` opens a store in the test's own directory."""
    made: list[Bench] = []

    def one(**options) -> Bench:
        made.append(Bench("lmdb", tmp_path / "osd", **options))
        return made[-1]

    yield one
    for b in made:
        b.close()


def fill_up(b: Bench, change, limit: int = 100_000) -> int:
    """Make changes until one fails with ENOSPC; how many were made."""
    for number in range(limit):
        try:
            b.tx(*change(number))
        except LustreError as error:
            assert error.errno == errno.ENOSPC
            return number
    raise AssertionError("it never got full")


def write_object(number: int) -> list[tuple]:
    """One transaction of each kind of change, with data that depends on the number."""
    fid = Fid(7, number)
    return [
        ("create", fid, FILE), ("write", fid, 0, Fill(100_000, number + 1)),
        ("set_xattr", fid, "user.number", b"%d" % number), ("insert", A, b"%06d" % number, b"x"),
        ("set_attrs", A),
    ]  # fmt: skip


def check_objects(b: Bench, numbers: list[int]) -> None:
    assert [int(key) for key, _ in b.osd.iterate(A)] == sorted(numbers)
    assert list(b.osd.objects()) == sorted([A, *(Fid(7, number) for number in numbers)])
    for number in numbers:
        assert tobytes(b.read(Fid(7, number))) == Fill(100_000, number + 1).tobytes()
        assert b.osd.xattr(Fid(7, number), "user.number") == b"%d" % number


def remove_object(number: int) -> list[tuple]:
    return [("delete", A, b"%06d" % number), ("destroy", Fid(7, number)), ("set_attrs", A)]


def test_a_full_map_fails_one_transaction_and_loses_nothing(make) -> None:
    b = make(map_bytes=8 * MIB)
    b.tx(("create", A, FILE))
    made = fill_up(b, write_object)
    assert made > 60
    check_objects(b, list(range(made)))
    with pytest.raises(LustreError, match="ENOSPC"):
        b.tx(*write_object(made))
    b.reopen()
    check_objects(b, list(range(made)))


def test_a_full_map_can_be_emptied_and_filled_again(make) -> None:
    b = make(map_bytes=8 * MIB)
    b.tx(("create", A, FILE))
    first = held = fill_up(b, write_object)
    for _ in range(3):
        for number in range(held):
            b.tx(*remove_object(number))
        check_objects(b, [])
        held = fill_up(b, write_object)
        assert held > first * 0.9
        check_objects(b, list(range(held)))
    assert (b.path / "data.mdb").stat().st_size <= 8 * MIB + 2 * osd_lmdb.RESERVE_BYTES


@pytest.mark.parametrize("seed", range(3))
def test_a_nearly_full_map_stays_whole_under_random_changes(make, seed: int) -> None:
    """Creates, removals, commits and crashes around the point where the map is full."""
    chance = random.Random(seed)
    b = make(map_bytes=4 * MIB)
    b.tx(("create", A, FILE), sync=True)
    there: set[int] = set()
    durable: set[int] = set()
    refused = 0
    for number in range(600):
        if there and chance.random() < 0.45:
            gone = chance.choice(sorted(there))
            b.tx(*remove_object(gone))
            there.discard(gone)
        else:
            try:
                b.tx(*write_object(number))
                there.add(number)
            except LustreError as error:
                assert error.errno == errno.ENOSPC
                refused += 1
        if chance.random() < 0.05:
            b.run(b.osd.sync())
            durable = set(there)
        if chance.random() < 0.01:
            b.osd.crash()
            there = {int(key) for key, _ in b.osd.iterate(A)}
        if number % 50 == 0:
            check_objects(b, sorted(there))
    assert refused > 5
    assert durable
    b.reopen()
    check_objects(b, sorted(there))


def test_a_map_full_of_names_can_be_emptied(make) -> None:
    b = make(map_bytes=2 * MIB)
    b.tx(("create", A, FILE))
    made = fill_up(b, lambda number: [("insert", A, b"%0200d" % (number * 7919 % 10007), b"fid")])
    assert made > 3000
    for key, _ in list(b.osd.iterate(A)):
        b.tx(("delete", A, key))
    assert list(b.osd.iterate(A)) == []
    b.tx(*write_object(1))


def test_a_large_write_that_cannot_fit_is_refused_whole(make) -> None:
    b = make(map_bytes=8 * MIB)
    b.tx(("create", A, FILE), ("write", A, 0, b"kept"))
    with pytest.raises(LustreError, match="ENOSPC"):
        b.tx(("write", A, 2, Fill(50 * MIB, 1)))
    assert tobytes(b.read(A)) == b"kept"
    b.reopen()
    assert tobytes(b.read(A)) == b"kept"


def test_a_full_host_is_no_space(make, monkeypatch: pytest.MonkeyPatch) -> None:
    b = make()
    b.tx(("create", A, FILE), ("write", A, 0, b"x" * 100_000), sync=True)
    stats = os.statvfs(b.path)
    full = os.statvfs_result((*stats[:3], 0, 0, *stats[5:]))
    monkeypatch.setattr(os, "fstatvfs", lambda fd: full)
    b.tx(("set_attrs", A), sync=True)
    with pytest.raises(LustreError, match="ENOSPC"):
        b.tx(("write", A, 0, Fill(MIB, 1)))
    b.tx(("truncate", A, 5))
    assert tobytes(b.read(A)) == b"xxxxx"


def test_data_takes_hardly_more_than_itself(make) -> None:
    b = make()
    b.tx(("create", A, FILE))
    for at in range(40):
        b.tx(("write", A, at * MIB, Fill(MIB, at + 1)))
    b.run(b.osd.sync())
    assert (b.path / "data.mdb").stat().st_size < 40 * MIB * 1.05


def test_much_data_is_committed_in_between(make) -> None:
    """So that it is not held in memory; it is not durable for that."""
    b = make()
    calls: list[int] = []
    b.hold = True
    tx = b.osd.transaction()
    tx.create(A, FILE)
    tx.write(A, 0, Fill(osd_lmdb.SPILL_BYTES, 1))
    tx.on_commit(lambda: calls.append(1))
    b.run(tx.stop())
    assert (b.path / "data.mdb").stat().st_size > osd_lmdb.SPILL_BYTES
    assert calls == []


def test_only_the_owner_may_read_the_files(make) -> None:
    b = make()
    assert b.path.stat().st_mode & 0o77 == 0
    assert (b.path / "data.mdb").stat().st_mode & 0o77 == 0


def test_a_store_in_use_is_refused(make) -> None:
    b = make()
    with pytest.raises(InputError, match="in use"):
        Bench("lmdb", b.path)
    b.tx(("create", A, FILE))


def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data.mdb"
    data.write_bytes(b"precious" * 1000)
    with pytest.raises(InputError, match="cannot be opened"):
        Bench("lmdb", tmp_path)
    assert data.read_bytes() == b"precious" * 1000


@pytest.mark.parametrize(("key", "value"), [(b"key", b"value"), (b"\0", b"odd")])
def test_another_programs_lmdb_file_is_refused(tmp_path: Path, key: bytes, value: bytes) -> None:
    with lmdb.open(str(tmp_path), lock=False) as db, db.begin(write=True) as txn:
        txn.put(key, value)
    with pytest.raises(InputError, match="no object store"):
        Bench("lmdb", tmp_path)
    with lmdb.open(str(tmp_path), lock=False) as db, db.begin() as txn:
        assert txn.get(key) == value


WRITER = """
import sys
from labsim.base.ids import Fid
from labsim.base.payload import Fill
from labsim.storage.osd import Attrs
from pathlib import Path
from tests.storage.bench import Bench

b = Bench("lmdb", Path(sys.argv[1]), commit_interval_ns=int(sys.argv[2]))
log = Fid(1, 1)
first = 0
if b.osd.exists(log):
    first = len(list(b.osd.iterate(log)))
else:
    b.tx(("create", log, Attrs()), sync=True)

def acknowledge(number):
    print(number, flush=True)

for number in range(first, 1 << 30):
    tx = b.osd.transaction()
    tx.create(Fid(7, number), Attrs())
    tx.write(Fid(7, number), 0, Fill(150_000, number + 1))
    tx.insert(log, number.to_bytes(4, "big"), b"")
    tx.on_commit(lambda number=number: acknowledge(number))
    b.run(tx.stop())
    b.wait(1000)
"""


def test_a_killed_process_loses_nothing_that_was_reported_durable(tmp_path: Path) -> None:
    chance = random.Random(1)
    reported = -1
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "osd"), "50000"]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert writer.stdout is not None
        for _ in range(chance.randrange(20, 400)):
            reported = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split(b"\n")[:-1]
        writer.stdout.close()
        writer.wait()
        reported = max([reported, *map(int, rest)])

        b = Bench("lmdb", tmp_path / "osd")
        numbers = [int.from_bytes(key, "big") for key, _ in b.osd.iterate(Fid(1, 1))]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > reported
        assert list(b.osd.objects())[1:] == [Fid(7, number) for number in numbers]
        for number in numbers[-60:]:
            assert tobytes(b.read(Fid(7, number))) == Fill(150_000, number + 1).tobytes()
        b.close()

"""Sick disks: both OSDs are slow, full, read-only or failing in the same way."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from labsim.base.errors import InputError, LustreError
from labsim.base.ids import Fid
from labsim.base.units import NS_PER_MS, NS_PER_S
from labsim.runtime.sim import environment
from labsim.storage.journal import Journal
from labsim.storage.osd import Attrs
from tests.storage.bench import Bench

A, B = Fid(0x200000401, 1), Fid(0x200000401, 2)
FILE = Attrs(mode=0o100644)


def fails(number: int) -> Any:
    return pytest.raises(LustreError, match=errno.errorcode[number])


def held(bench: Any) -> Bench:
    """An OSD with an object that is durable."""
    b: Bench = bench()
    b.tx(("create", A, FILE), ("write", A, 0, b"durable"), sync=True)
    return b


def test_a_slow_disk_takes_its_time(bench: Any) -> None:
    """Reads, writes of data and commits; changes without data go to memory."""
    b = held(bench)
    b.osd.trouble("slow", 50 * NS_PER_MS)
    for call in (
        lambda: b.read(A),
        lambda: b.tx(("write", A, 0, b"later")),
        lambda: b.run(b.osd.sync()),
    ):
        start = b.env.now
        call()
        assert b.env.now - start == 50 * NS_PER_MS
    start = b.env.now
    b.tx(("set_xattr", A, "user.a", b"1"))
    assert b.env.now == start
    b.osd.trouble("ok")
    b.read(A)
    assert b.env.now == start


def test_others_go_on_while_a_slow_disk_reads(bench: Any) -> None:
    """What is read is what was there when the read began or later, never torn."""
    b = held(bench)
    b.osd.trouble("slow", NS_PER_S)
    reading = b.env.process(b.osd.read(A, 0, 100))
    b.osd.trouble("ok")
    b.tx(("write", A, 0, b"CHANGED"))
    assert bytes(b.env.run(reading)) in (b"durable", b"CHANGED")


def test_a_full_disk_makes_no_object_and_says_that_nothing_is_free(bench: Any) -> None:
    """Who was promised space before finds it."""
    b = held(bench)
    b.osd.trouble("full")
    assert b.osd.statfs().bavail == b.osd.statfs().bfree == 0
    with fails(errno.ENOSPC):
        b.tx(("create", B, FILE))
    b.tx(("write", A, 4096, b"promised"))
    assert bytes(b.read(A, 4096, 100)) == b"promised"
    b.osd.trouble("ok")
    assert b.osd.statfs().bavail > 0
    b.tx(("create", B, FILE))


def test_a_read_only_disk_takes_no_change(bench: Any) -> None:
    b = held(bench)
    b.osd.trouble("readonly")
    assert b.osd.readonly
    for change in (("write", A, 0, b"x"), ("create", B, FILE), ("set_xattr", A, "user.a", b"1")):
        with fails(errno.EROFS):
            b.tx(change)
    b.run(b.osd.sync())
    assert bytes(b.read(A)) == b"durable"


def test_a_failing_disk_fails_reads_and_writes(bench: Any) -> None:
    b = held(bench)
    b.osd.trouble("eio")
    with fails(errno.EIO):
        b.read(A)
    with fails(errno.EIO):
        b.tx(("write", A, 0, b"x"))
    b.osd.trouble("ok")
    assert bytes(b.read(A)) == b"durable"
    b.tx(("write", A, 0, b"x"), sync=True)


def test_a_failed_commit_ends_the_journal(bench: Any) -> None:
    """As jbd2 does: EIO to who waits, EROFS to who comes later, until power is cycled."""
    b = held(bench)
    told: list[str] = []
    tx = b.osd.transaction()
    tx.write(A, 0, b"joined")
    tx.on_commit(lambda: told.append("never"))
    b.run(tx.stop())
    b.osd.trouble("eio")
    with fails(errno.EIO):
        b.run(b.osd.sync())
    b.osd.trouble("ok")
    assert b.osd.readonly
    with fails(errno.EIO):
        b.run(b.osd.sync())
    with fails(errno.EROFS):
        b.tx(("create", B, FILE))
    b.wait(20 * NS_PER_S)
    assert told == []
    b.osd.crash()
    assert not b.osd.readonly
    assert bytes(b.read(A)) in (b"durable", b"joinede")
    b.tx(("create", B, FILE), sync=True)
    assert told == []


def test_a_commit_in_the_background_may_fail_too(bench: Any) -> None:
    b = held(bench)
    b.tx(("set_xattr", A, "user.a", b"1"))
    b.osd.trouble("eio")
    b.wait(6 * NS_PER_S)
    assert b.osd.readonly
    b.osd.trouble("ok")


class Failing:
    """A medium whose commits take a second, and fail."""

    def __init__(self, env: Any) -> None:
        self.env = env

    def seal(self) -> None:
        """Nothing to keep."""

    def flush(self, _sealed: None) -> Any:
        yield self.env.timeout(NS_PER_S)
        raise LustreError(errno.EIO)


def test_writers_that_wait_for_room_hear_of_the_end() -> None:
    env = environment()
    journal = Journal(env, Failing(env), 5 * NS_PER_S, 1)
    journal.join([], 1)
    journal.join([], 1)
    env.run(NS_PER_S // 2)
    journal.join([], 1)
    waiting = env.process(journal.room())
    with fails(errno.EROFS):
        env.run(waiting)
    assert env.now == NS_PER_S


@pytest.mark.parametrize("seconds", [1, 4, 6, 11])
def test_power_cut_loses_exactly_what_the_interval_had_not_reached(
    bench: Any, seconds: int
) -> None:
    """A write a second; commit=5: what was reported durable is there, the rest is gone.

    (LMDB has a transaction when it begins to commit, before it says so.)
    """
    b: Bench = bench()
    b.tx(("create", A, FILE), sync=True)
    start = b.env.now
    durable: list[int] = []
    for number in range(seconds + 1):
        tx = b.osd.transaction()
        tx.write(A, 4096 * number, b"x")
        tx.on_commit(lambda number=number: durable.append(number))  # type: ignore[misc]
        b.run(tx.stop())
        b.env.run(start + (number + 1) * NS_PER_S)
    b.osd.crash()
    assert durable == list(range(len(durable)))
    assert len(durable) == (seconds + 1) // 6 * 6 or len(durable) == (seconds + 1) // 5 * 5
    assert b.osd.attrs(A).size == (4096 * durable[-1] + 1 if durable else 0)
    assert b.osd.mapped(A, 0, 4096 * len(durable))
    assert not b.osd.mapped(A, 4096 * len(durable), 4096)


def test_mapped_counts_blocks(bench: Any) -> None:
    b = held(bench)
    b.tx(("write", A, 4096 * 3, b"x" * 4097))
    for offset, length, whole in (
        (0, 1, True), (0, 4096, True), (0, 4097, False), (4096, 1, False),
        (3 * 4096, 8192, True), (3 * 4096 + 4095, 2, True), (5 * 4096, 1, False),
        (9 << 40, 0, True),
    ):  # fmt: skip
        assert b.osd.mapped(A, offset, length) is whole, (offset, length)
    with fails(errno.ENOENT):
        b.osd.mapped(B, 0, 1)


def test_no_disk_is_ever_otherwise(bench: Any) -> None:
    with pytest.raises(InputError, match="never 'sad'"):
        bench().osd.trouble("sad")

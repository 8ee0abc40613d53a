"""Read-ahead against sequences of reads whose outcome is known, and against itself page by page."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.base.stats import Stats
from labsim.base.units import MIB, PAGE_SIZE
from labsim.nodes.client.readahead import (
    AT_EOF,
    COUNTERS,
    DISCARDED,
    DISTANT,
    EMPTY,
    HIT,
    IN_WINDOW,
    MISS,
    NO_LOCK,
    NO_WINDOW,
    TOO_MUCH,
    ReadAhead,
)
from labsim.nodes.client.readahead_file import FileAhead, Range

RPC = 1024
HUGE = 1 << 20
"""Pages of a file that has no end here."""
PER_MIB = MIB // PAGE_SIZE


class Tunables:
    """Limits with Lustre's defaults."""

    def __init__(self, total: int = 64, per_file: int = 64, whole: int = 2) -> None:
        self.max_read_ahead_bytes = total * MIB
        self.max_read_ahead_per_file_bytes = per_file * MIB
        self.max_read_ahead_whole_bytes = whole * MIB


class Opened:
    """An open file."""

    ahead: FileAhead | None = None


class Reader:
    """One open file, its cache, and what its reads had to fetch."""

    def __init__(self, pages: int = HUGE, kind: type[ReadAhead] = ReadAhead, **limits: int) -> None:
        self.pages = pages
        self.stats = Stats(COUNTERS)
        self.ahead = kind(Tunables(**limits), self.stats, lambda: RPC)
        self.reader = Opened()
        self.file = self.reader.ahead = FileAhead()
        self.cache: set[int] = set()
        self.rpcs: list[Range] = []
        """What the reads themselves fetched."""
        self.covered: Any = lambda page: HUGE

    def read(self, first: int, count: int) -> list[Range]:
        """Read pages; the ranges that were fetched beyond."""
        last = min(first + count, self.pages) - 1
        missing = self.lacking(first, last + 1)
        wanted = self.ahead.pages(self.file, first, last, missing, self.pages, RPC, self.covered)
        self.rpcs += missing
        for start, end in (*missing, *wanted):
            assert 0 <= start < end <= max(self.pages, last + 1)
            self.cache.update(range(start, end))
        return wanted

    def lacking(self, start: int, end: int) -> list[Range]:
        """The ranges that are not cached."""
        found: list[Range] = []
        for page in range(start, end):
            if page in self.cache:
                continue
            if found and found[-1][1] == page:
                found[-1] = found[-1][0], page + 1
            else:
                found.append((page, page + 1))
        return found

    def count(self, name: str) -> int:
        return self.stats.count(name)


def test_random_pages_fetch_nothing_beyond() -> None:
    reader = Reader()
    rng = Random(7)
    for _ in range(50):
        assert reader.read(rng.randrange(1000, HUGE), 1) == []
    assert reader.count(MISS) == 50
    assert reader.count(DISTANT) == 50
    assert reader.count(HIT) == 0


def test_random_large_reads_fetch_themselves_only() -> None:
    reader = Reader()
    rng = Random(7)
    for _ in range(50):
        first = rng.randrange(1, HUGE // PER_MIB) * PER_MIB
        for start, end in reader.read(first, PER_MIB):
            assert first <= start < end <= first + PER_MIB


def test_the_second_small_read_opens_the_window() -> None:
    """16 MiB, the largest RPC there may be; from then on one RPC for each read, up to the limit."""
    reader = Reader()
    assert reader.read(0, 1) == []
    assert reader.read(1, 1) == [(2, 4096)]
    assert reader.read(2, 1) == [(4096, 5120)]
    assert reader.read(3, 1) == [(5120, 6144)]
    for page in range(4, 400):
        reader.read(page, 1)
    assert reader.rpcs == [(0, 1), (1, 2)]
    assert max(reader.cache) < 64 * PER_MIB
    assert reader.count(HIT) == 398
    assert reader.count(MISS) == 2


def test_a_long_sequential_read_waits_twice_only() -> None:
    reader = Reader()
    fetched = []
    for page in range(0, 40 * RPC, PER_MIB):
        fetched += reader.read(page, PER_MIB)
    assert reader.rpcs == [(0, 256), (256, 257)] or len(reader.rpcs) == 2
    assert all(end % RPC == 0 for _, end in fetched[1:])
    assert sum(end - start for start, end in fetched) <= 40 * RPC + 64 * PER_MIB
    assert max(reader.cache) - 40 * RPC < 64 * PER_MIB


def test_a_small_file_is_read_whole_at_the_second_read() -> None:
    reader = Reader(pages=2 * PER_MIB)
    assert reader.read(100, 1) == []
    assert reader.read(300, 1) == [(301, 512)]
    assert reader.count(AT_EOF) == 1
    larger = Reader(pages=2 * PER_MIB + 1)
    larger.read(100, 1)
    assert larger.read(300, 1) == []


def test_the_window_ends_with_the_file() -> None:
    reader = Reader(pages=1500)
    reader.read(0, 1)
    assert reader.read(1, 1) == [(2, 1500)]


def test_a_stride_is_found_and_followed() -> None:
    """4 pages of every 100: after three of them the next ones come, and not what is between."""
    reader = Reader()
    for number in range(30):
        reader.read(number * 100, 4)
    assert all(page % 100 < 4 for page in reader.cache)
    assert len(reader.rpcs) < 10
    assert reader.count(HIT) > 60


def test_a_stride_that_ends_is_forgotten() -> None:
    reader = Reader()
    for number in range(6):
        reader.read(number * 100, 4)
    assert reader.file.striding
    for number in range(20):
        reader.read(70000 + number * 8119 % 50000, 1)
    assert not reader.file.striding


def test_reading_backwards_fetches_nothing_beyond() -> None:
    reader = Reader()
    for number in range(40, 0, -1):
        assert reader.read(number * 50, 1) == []


def test_not_beyond_the_lock() -> None:
    reader = Reader()
    reader.covered = lambda page: 99 if page < 100 else -1
    reader.read(0, 1)
    assert reader.read(1, 1) == [(2, 100)]
    assert reader.read(2, 1) == []
    assert reader.count(NO_LOCK) > 0


def test_all_files_share_a_budget() -> None:
    reader = Reader(total=16)
    other = FileAhead()
    reader.read(0, 1)
    reader.read(1, 1)
    assert reader.ahead.current == 4094
    reader.ahead.pages(other, 0, 0, [(0, 1)], HUGE, RPC, reader.covered)
    assert reader.ahead.pages(other, 1, 1, [(1, 2)], HUGE, RPC, reader.covered) == []
    assert reader.count(TOO_MUCH) == 1
    reader.ahead.close(reader.reader)
    assert reader.ahead.current == 0
    later = [
        reader.ahead.pages(other, page, page, [(page, page + 1)], HUGE, RPC, reader.covered)
        for page in range(2, 6)
    ]
    assert any(later)


def test_a_read_itself_is_fetched_whatever_the_budget() -> None:
    reader = Reader(total=1)
    assert reader.read(0, 3 * PER_MIB) == [(1, 3 * PER_MIB)]
    assert reader.read(3 * PER_MIB, 1) == [(769, 1024)]
    assert reader.read(3 * PER_MIB + 1, 1) == []
    assert reader.count(TOO_MUCH) == 1


@pytest.mark.parametrize("off", ["total", "per_file"])
def test_switched_off(off: str) -> None:
    reader = Reader(**{off: 0})
    assert [reader.read(page, 256) for page in range(0, 2560, 256)] == [[]] * 10
    assert reader.stats.items() == []


def test_pages_that_went_before_they_were_read() -> None:
    """The window begins anew: what was fetched was too much to keep."""
    reader = Reader()
    for page in range(4):
        reader.read(page, 1)
    reader.cache = {page for page in reader.cache if page < 4}
    reader.read(4, 1)
    assert reader.count(IN_WINDOW) == 1
    assert reader.count(DISCARDED) == 1
    assert reader.file.window_len == 0


def test_an_empty_file() -> None:
    reader = Reader()
    reader.pages = 0
    assert reader.ahead.pages(reader.file, 0, 0, [(0, 1)], 0, RPC, reader.covered) == []
    assert reader.count(EMPTY) == 1


def test_cached_pages_are_no_business_of_read_ahead() -> None:
    reader = Reader()
    reader.cache = set(range(1000))
    for page in range(0, 900, 10):
        assert reader.read(page, 10) == []
    assert reader.count(HIT) == reader.count(MISS) == reader.count(NO_WINDOW) == 0


class ByPage(ReadAhead):
    """Goes through every page as Lustre does."""

    def _read(
        self, file: FileAhead, at: int, until: int, last: int, wanted: Any, *more: Any
    ) -> int:
        self._update(file, at, until > at, more[0])
        self.current -= file.take(at, at + 1)
        wanted += self._issue(file, until > at, last, *more)
        return at + 1


READS = st.lists(
    st.tuples(st.sampled_from(["next", "jump", "stride", "near"]), st.integers(1, 700)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(READS, st.sampled_from([HUGE, 3000, 500]), st.sampled_from([64, 20]))
def test_runs_of_pages_are_as_good_as_pages(steps: list[Any], pages: int, total: int) -> None:
    """What is skipped over in one step leaves the same windows, ranges and counters."""
    one, other = Reader(pages, total=total), Reader(pages, ByPage, total=total)
    at, base = 0, 0
    for kind, amount in steps:
        if kind == "jump":
            at = amount * 37
        elif kind == "near":
            at = max(at - amount % 9, 0)
        elif kind == "stride":
            base += 1000
            at = base
            amount = amount % 5 + 1
        if at >= pages:
            continue
        assert one.read(at, amount) == other.read(at, amount)
        at += amount
        assert one.cache == other.cache
        for slot in FileAhead.__slots__:
            assert getattr(one.file, slot) == getattr(other.file, slot), slot
        assert one.ahead.current == other.ahead.current
    assert [(n, c.samples) for n, c in one.stats.items()] == [
        (n, c.samples) for n, c in other.stats.items()
    ]
    one.ahead.close(one.reader)
    assert one.ahead.current == 0


# ---- in bytes


def test_bytes_are_pages_and_only_what_lies_behind_is_asked_for() -> None:
    reader = Reader()
    file, everywhere = Opened(), 1 << 62
    plan = reader.ahead.plan
    assert plan(None, 0, 10, [(0, 10)], 1 << 30, lambda at: everywhere) == []
    assert plan(file, 0, 10, [(0, 10)], 1 << 30, lambda at: everywhere) == []
    wanted = plan(file, 4000, 5000, [(4096, 9000)], 1 << 30, lambda at: everywhere)
    assert wanted == [(12288, 16 * MIB)]
    assert plan(file, 9000, 10, [], 1 << 30, lambda at: 0) == []


def test_cached_bytes_are_passed_over_quickly_while_nothing_is_to_be_fetched() -> None:
    reader, file = Reader(), Opened()
    ahead = reader.ahead
    fetched = 0
    slow = 0
    for page in range(20000):
        if page * PAGE_SIZE < fetched and ahead.hit(file, page * PAGE_SIZE, PAGE_SIZE):
            continue
        slow += 1
        gap = [] if page * PAGE_SIZE < fetched else [(page * PAGE_SIZE, (page + 1) * PAGE_SIZE)]
        for start, end in ahead.plan(file, page * PAGE_SIZE, PAGE_SIZE, gap, 1 << 40, far):
            assert start <= max(fetched, (page + 1) * PAGE_SIZE)
            fetched = max(fetched, end)
    assert slow < 50
    assert reader.count(HIT) + reader.count(MISS) == 20000
    assert reader.count(MISS) == 2


def far(at: int) -> int:
    """One lock covers everything."""
    return 1 << 62


def test_to_the_end_of_a_file_it_is_quick() -> None:
    reader, file = Reader(), Opened()
    ahead = reader.ahead
    size = 100 * PAGE_SIZE
    ahead.plan(file, 0, PAGE_SIZE, [(0, PAGE_SIZE)], size, far)
    assert ahead.plan(file, PAGE_SIZE, PAGE_SIZE, [(PAGE_SIZE, 2 * PAGE_SIZE)], size, far)
    assert all(ahead.hit(file, page * PAGE_SIZE, PAGE_SIZE) for page in range(2, 100))
    assert reader.count(HIT) == 98
    assert ahead.current == 0


def test_what_others_have_cached_is_no_business_of_it() -> None:
    reader, file = Reader(), Opened()
    assert all(reader.ahead.hit(file, page * PAGE_SIZE, PAGE_SIZE) for page in range(100))
    assert reader.ahead.hit(None, 0, 1)
    assert reader.stats.items() == []

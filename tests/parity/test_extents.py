"""The native extent map against its twin, on random programs and where it pays."""

from __future__ import annotations

import gc
import weakref
from random import Random
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.pure.extents import ExtentMap as PureMap

native = pytest.importorskip("labsim._extents", reason="the native modules are not built")
NativeMap = native.ExtentMap

EDGES = [0, 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 2, 2**64 - 1, 2**64, -1]
numbers = st.integers(0, 300) | st.sampled_from(EDGES)
near = st.integers(0, 300)
VALUES = ["a", "bb", b"ccc", (4, 5), 6]
values = st.sampled_from(VALUES) | st.none()

operations = st.one_of(
    st.tuples(st.just("insert"), near, near, st.sampled_from(VALUES)),
    st.tuples(st.just("insert"), near, near, st.sampled_from(VALUES), near),
    st.tuples(st.just("insert"), numbers, numbers, values, numbers),
    st.tuples(st.just("punch"), numbers, numbers),
    st.tuples(st.just("truncate"), numbers),
    st.tuples(st.just("walk"), numbers, numbers),
    st.tuples(st.just("pieces"), numbers, numbers),
    st.tuples(st.just("pieces"), numbers),
    st.tuples(st.just("covered"), numbers, numbers),
    st.tuples(st.just("next_data"), numbers),
    st.tuples(st.just("next_hole"), numbers),
)


def odd_merge(left: tuple, right: tuple):
    """Joins some neighbours, refuses others, and sometimes fails."""
    if (right[1] - left[0]) % 7 == 0:
        raise ZeroDivisionError("merge failed")
    if (right[1] - left[0]) % 5 == 0:
        return (left[2], 2**64 - 1)
    return (right[2], left[3]) if (left[0] + right[1]) % 3 == 0 else None


def outcome(call, *arguments: object) -> object:
    """What a call gives, or the kind of error it raises."""
    try:
        return call(*arguments)
    except (OverflowError, TypeError, ValueError, ZeroDivisionError) as error:
        return type(error)


@settings(max_examples=400, deadline=None)
@given(st.lists(operations, max_size=60), st.sampled_from([None, odd_merge]))
def test_random_programs_agree(program: list[tuple], merge) -> None:
    pure, fast = PureMap(merge), NativeMap(merge)
    for name, *arguments in program:
        expected = outcome(getattr(pure, name), *arguments)
        assert outcome(getattr(fast, name), *arguments) == expected, (name, arguments)
        assert (len(fast), fast.total, fast.end) == (len(pure), pure.total, pure.end)
    assert list(fast) == list(pure)


@pytest.mark.parametrize("seed", range(8))
def test_maps_of_many_pieces_agree(seed: int) -> None:
    """Enough pieces that runs split, empty and join."""
    random = Random(seed)
    pure, fast = PureMap(), NativeMap()
    for _ in range(1500):
        start = random.randrange(20_000)
        end = start + random.choice([1, 3, 10, 10, 2000])
        if end - start == 2000 and random.random() < 0.8:
            end = start + 5
        if random.random() < 0.8:
            value = random.choice(VALUES)
            pure.insert(start, end, value, start % 3)
            fast.insert(start, end, value, start % 3)
        else:
            assert fast.punch(start, end) == pure.punch(start, end)
    assert list(fast) == list(pure)
    assert fast.total == pure.total
    for at in range(0, 20_000, 37):
        assert fast.next_data(at) == pure.next_data(at)
        assert fast.next_hole(at) == pure.next_hole(at)
        assert fast.walk(at, at + 90) == pure.walk(at, at + 90)
    assert fast.truncate(7_000) == pure.truncate(7_000)
    fast.clear()
    assert (list(fast), fast.total) == ([], 0)


class Value:
    """Something that can be watched."""


def test_no_reference_is_lost_or_kept() -> None:
    extents = NativeMap()
    value = Value()
    watch = weakref.ref(value)
    extents.insert(0, 100, value)
    extents.insert(10, 20, "x")
    extents.insert(30, 40, "y")
    extents.punch(0, 95)
    del value
    assert extents.pieces() == [(95, 100, watch(), 95)]
    gc.collect()
    assert watch() is not None
    extents.truncate(0)
    assert watch() is None


def test_the_collector_sees_through_a_map() -> None:
    value = Value()
    value.extents = NativeMap()  # type: ignore[attr-defined]
    value.extents.insert(0, 1, value)  # type: ignore[attr-defined]
    watch = weakref.ref(value)
    del value
    gc.collect()
    assert watch() is None


def test_a_finalizer_may_use_the_map_that_lets_go_of_it() -> None:
    extents = NativeMap()

    class Meddler:
        def __del__(self) -> None:
            extents.insert(0, 5, "meddled")
            seen.append(extents.total)

    seen: list[int] = []
    extents.insert(0, 10, Meddler())
    extents.insert(0, 10, "new")
    assert seen == [10]
    assert list(extents) == [(0, 5, "meddled", 0), (5, 10, "new", 5)]


def test_the_map_can_be_named_with_its_value_type() -> None:
    assert NativeMap[int] is not None
    assert PureMap[int] is not None


def test_it_pays_where_a_file_is_written_at_random() -> None:
    """64 Ki pages of one file in random order, as a page cache sees IOR's random writes."""
    order = [page * 48271 % 65537 for page in range(1, 65537)]
    took = {}
    for kind in (PureMap, NativeMap):
        extents = kind()
        began = perf_counter()
        for page in order:
            extents.insert(page * 4096, page * 4096 + 4096, page)
        took[kind] = perf_counter() - began
        assert len(extents) == 65536
    assert took[NativeMap] < took[PureMap]

"""The native interval tree against its twin, on random programs, and where it pays."""

from __future__ import annotations

import gc
import weakref
from random import Random
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.pure.intervals import IntervalTree as PureTree

native = pytest.importorskip("labsim._intervals", reason="the native modules are not built")
NativeTree = native.IntervalTree

EDGES = [0, 1, 2**31, 2**32, 2**63, 2**64 - 2, 2**64 - 1, 2**64, -1, 1.5]
near = st.integers(0, 60)
numbers = near | st.sampled_from(EDGES)
keys = st.integers(0, 3) | st.sampled_from(EDGES)

operations = st.one_of(
    st.tuples(st.just("insert"), near, near, st.integers(0, 3), st.integers()),
    st.tuples(st.just("insert"), numbers, numbers, keys, st.text(max_size=2)),
    st.tuples(st.just("insert"), numbers),
    st.tuples(st.just("remove"), near, near, st.integers(0, 3)),
    st.tuples(st.just("remove"), numbers, numbers, keys),
    st.tuples(st.just("overlaps"), numbers, numbers),
    st.tuples(st.just("search"), numbers, numbers),
    st.tuples(st.just("next_start"), numbers),
)


def outcome(call, *arguments: object) -> object:
    """What a call gives, or the kind of error it raises."""
    try:
        return call(*arguments)
    except (OverflowError, TypeError, ValueError) as error:
        return type(error)
    except KeyError as error:
        return KeyError, error.args


@settings(max_examples=400, deadline=None)
@given(st.lists(operations, max_size=60))
def test_random_programs_agree(program: list[tuple]) -> None:
    pure, fast = PureTree(), NativeTree()
    for name, *arguments in program:
        expected = outcome(getattr(pure, name), *arguments)
        assert outcome(getattr(fast, name), *arguments) == expected, (name, arguments)
        assert len(fast) == len(pure)
    assert list(fast) == list(pure)


@pytest.mark.parametrize("seed", range(4))
def test_large_trees_agree(seed: int) -> None:
    random = Random(seed)
    pure, fast = PureTree(), NativeTree()
    there: list[tuple[int, int, int]] = []
    for key in range(1500):
        start = random.randrange(50_000)
        at = (start, start + random.choice([0, 10, 10, 4000]), key)
        there.append(at)
        for tree in (pure, fast):
            tree.insert(*at, str(at))
        if random.random() < 0.4:
            gone = there.pop(random.randrange(len(there)))
            assert fast.remove(*gone) == pure.remove(*gone) == str(gone)
        low = random.randrange(50_000)
        assert fast.search(low, low + 300) == pure.search(low, low + 300)
        assert fast.overlaps(low, low) == pure.overlaps(low, low)
        assert fast.next_start(low) == pure.next_start(low)
    assert list(fast) == list(pure)


class Thing:
    """Something that the collector can watch."""


def test_it_holds_its_values_and_lets_them_go() -> None:
    tree = NativeTree()
    thing = Thing()
    thing.tree = tree  # type: ignore[attr-defined]
    gone = weakref.ref(thing)
    tree.insert(0, 9, 1, thing)
    tree.insert(0, 9, 2, thing)
    assert tree.remove(0, 9, 1) is thing
    del thing
    gc.collect()
    assert gone() is not None
    del tree
    gc.collect()
    assert gone() is None


def test_it_pays_among_many() -> None:
    """Ten thousand locks side by side: a question costs the same as among ten, nearly."""
    tree = NativeTree()
    for at in range(10_000):
        tree.insert(at * 100, at * 100 + 99, at, at)
    start = perf_counter()
    for at in range(10_000):
        assert tree.search(at * 100 + 5, at * 100 + 6) == [at]
    assert perf_counter() - start < 1.0

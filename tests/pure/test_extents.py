"""The reference extent map against a dictionary of single bytes, and by example."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsim.pure.extents import EOF, ExtentMap

SPACE = 40
positions = st.integers(0, SPACE)
ranges = st.tuples(positions, positions).map(sorted)


class Bytes:
    """The slow truth: each byte that holds data, by position."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[str, int]] = {}

    def insert(self, start: int, end: int, value: str, offset: int) -> None:
        self.held.update({at: (value, offset + at - start) for at in range(start, end)})

    def punch(self, start: int, end: int) -> int:
        gone = [at for at in self.held if start <= at < end]
        for at in gone:
            del self.held[at]
        return len(gone)

    def runs(self) -> list[tuple[int, int, str, int]]:
        """Pieces as long as they can be."""
        found: list[tuple[int, int, str, int]] = []
        for at in sorted(self.held):
            value, offset = self.held[at]
            if found:
                start, end, last, first = found[-1]
                if (end, last, first + end - start) == (at, value, offset):
                    found[-1] = (start, at + 1, last, first)
                    continue
            found.append((at, at + 1, value, offset))
        return found


inserts = st.tuples(st.just("insert"), ranges, st.sampled_from("abc"), st.integers(0, 20))
punches = st.tuples(st.just("punch"), ranges)


@given(st.lists(inserts | punches, max_size=30), ranges)
def test_it_is_what_single_bytes_say(program: list[tuple], asked: list[int]) -> None:
    extents: ExtentMap[str] = ExtentMap()
    truth = Bytes()
    for name, (start, end), *rest in program:
        result = getattr(extents, name)(start, end, *rest)
        assert result == getattr(truth, name)(start, end, *rest)
    start, end = asked
    flat = [(at, value, offset + at - low) for low, high, value, offset in extents
            for at in range(low, high)]  # fmt: skip
    assert flat == [(at, *truth.held[at]) for at in sorted(truth.held)]
    assert extents.total == len(truth.held)
    assert extents.end == max(truth.held, default=-1) + 1
    assert extents.covered(start, end) == all(at in truth.held for at in range(start, end))
    data = [at for at in truth.held if at >= start]
    assert extents.next_data(start) == min(data, default=None)
    assert extents.next_hole(start) == next(at for at in range(start, 99) if at not in truth.held)


@given(st.lists(inserts, max_size=20))
def test_inserts_alone_leave_no_two_pieces_that_are_one(program: list[tuple]) -> None:
    extents: ExtentMap[str] = ExtentMap()
    truth = Bytes()
    for _, (start, end), value, offset in program:
        extents.insert(start, end, value, offset)
        truth.insert(start, end, value, offset)
    assert list(extents) == truth.runs()


@given(st.lists(inserts | punches, max_size=20), ranges)
def test_a_walk_is_the_pieces_and_the_holes(program: list[tuple], asked: list[int]) -> None:
    extents: ExtentMap[str] = ExtentMap()
    for name, (start, end), *rest in program:
        getattr(extents, name)(start, end, *rest)
    start, end = asked
    walk = extents.walk(start, end)
    assert [part for part in walk if part[2] is not None] == extents.pieces(start, end)
    at = start
    for part in walk:
        assert part[0] == at < part[1]
        at = part[1]
    assert end in (at, start)
    kinds = [part[2] is None for part in walk]
    assert not any(a and b for a, b in itertools.pairwise(kinds))


def test_an_insert_splits_what_it_covers() -> None:
    extents: ExtentMap[str] = ExtentMap()
    extents.insert(0, 100, "old", 1000)
    extents.insert(40, 60, "new")
    assert list(extents) == [(0, 40, "old", 1000), (40, 60, "new", 0), (60, 100, "old", 1060)]
    assert (len(extents), extents.total) == (3, 100)


def test_a_state_map_uses_its_position_as_offset() -> None:
    """A value without content, such as "dirty": the neighbours go on and become one."""
    dirty: ExtentMap[bool] = ExtentMap()
    for start in (8192, 0, 4096):
        dirty.insert(start, start + 4096, True, start)
    assert list(dirty) == [(0, 12288, True, 0)]


def test_merge_may_join_what_is_not_the_same_object() -> None:
    extents: ExtentMap[bytes] = ExtentMap(
        lambda left, right: (left[2] + right[2], 0) if len(left[2] + right[2]) <= 4 else None
    )
    extents.insert(0, 2, b"ab")
    extents.insert(4, 6, b"ef")
    extents.insert(2, 4, b"cd")
    assert list(extents) == [(0, 4, b"abcd", 0), (4, 6, b"ef", 0)]


def test_merge_may_not_change_the_map() -> None:
    extents: ExtentMap[str] = ExtentMap(lambda left, right: extents.clear())
    extents.insert(0, 1, "a")
    with pytest.raises(RuntimeError, match="own merge"):
        extents.insert(1, 2, "b")
    assert list(extents) == [(0, 1, "a", 0), (1, 2, "b", 0)]
    extents.clear()


@pytest.mark.parametrize("answer", ["xy", ("x",), (None, 0), [1, 2]])
def test_what_merge_gives_is_checked(answer: object) -> None:
    extents: ExtentMap[str] = ExtentMap(lambda left, right: answer)  # type: ignore[arg-type]
    extents.insert(0, 1, "a")
    with pytest.raises(TypeError, match="merge gives"):
        extents.insert(1, 2, "b")


def test_the_whole_64_bits_can_be_used() -> None:
    extents: ExtentMap[str] = ExtentMap()
    extents.insert(0, EOF, "all")
    assert extents.total == extents.end == EOF
    assert extents.next_hole(0) == EOF
    assert extents.truncate(EOF - 1) == 1
    assert extents.punch(10, EOF) == EOF - 11
    assert list(extents) == [(0, 10, "all", 0)]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m: m.insert(5, 4, "x"), ValueError),
        (lambda m: m.insert(-1, 4, "x"), OverflowError),
        (lambda m: m.insert(0, EOF + 1, "x"), OverflowError),
        (lambda m: m.insert(0, 10, "x", EOF - 9), OverflowError),
        (lambda m: m.insert(0, 10, "x", -1), OverflowError),
        (lambda m: m.insert(0, 10, None), TypeError),
        (lambda m: m.insert(0.0, 10, "x"), TypeError),
        (lambda m: m.insert(0, 10), TypeError),
        (lambda m: m.punch(3, 2), ValueError),
        (lambda m: m.truncate(-1), OverflowError),
        (lambda m: m.walk(3, 2), ValueError),
        (lambda m: m.pieces(0, 1 << 64), OverflowError),
        (lambda m: m.covered("0", 1), TypeError),
        (lambda m: m.next_data(-1), OverflowError),
        (lambda m: m.next_hole(1 << 64), OverflowError),
    ],
)
def test_sizes_from_outside_are_checked(call, error: type[Exception]) -> None:
    extents: ExtentMap[str] = ExtentMap()
    extents.insert(0, 8, "a")
    with pytest.raises(error):
        call(extents)
    assert list(extents) == [(0, 8, "a", 0)]


def test_an_empty_range_changes_nothing() -> None:
    extents: ExtentMap[str] = ExtentMap()
    extents.insert(7, 7, "x")
    assert (extents.punch(3, 3), len(extents), extents.end) == (0, 0, 0)
    assert extents.covered(3, 3)
    assert extents.walk(3, 3) == []
    assert extents.next_data(0) is None

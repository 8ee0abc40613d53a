"""A set of intervals that may overlap: the reference twin of the native `labsim._intervals`.

Does not know what the intervals are of: granted extent locks, in the lock manager. Stands for
ldlm's interval_tree.c.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import index
from typing import Generic, TypeVar

V = TypeVar("V")

MOST = 2**64 - 1


def _u64(number: int) -> int:
    number = index(number)
    if not 0 <= number <= MOST:
        raise OverflowError("an edge of an interval is an unsigned 64-bit number")
    return number


def _range(start: int, end: int) -> tuple[int, int]:
    start, end = _u64(start), _u64(end)
    if start > end:
        raise ValueError("an interval ends before it starts")
    return start, end


class IntervalTree(Generic[V]):
    """Intervals [start, end], both ends included, each with a key and a value.

    All answers are in the order of (start, end, key). Numbers are u64: OverflowError for others,
    ValueError for an end before its start, KeyError (with the key) for a second interval that is
    alike in all three, and for one to remove that is not there.
    """

    __slots__ = ("_order", "_values")

    def __init__(self) -> None:
        self._order: list[tuple[int, int, int]] = []
        self._values: dict[tuple[int, int, int], V] = {}

    def __len__(self) -> int:
        """How many intervals there are."""
        return len(self._order)

    def __iter__(self) -> Iterator[V]:
        """The values, in order."""
        return iter([self._values[at] for at in self._order])

    def insert(self, start: int, end: int, key: int, value: V, /) -> None:
        """One more interval."""
        start, end = _range(start, end)
        at = (start, end, _u64(key))
        if at in self._values:
            raise KeyError(key)
        self._order.insert(bisect_left(self._order, at), at)
        self._values[at] = value

    def remove(self, start: int, end: int, key: int, /) -> V:
        """Take an interval out; its value."""
        start, end = _range(start, end)
        at = (start, end, _u64(key))
        if at not in self._values:
            raise KeyError(key)
        del self._order[bisect_left(self._order, at)]
        return self._values.pop(at)

    def overlaps(self, start: int, end: int, /) -> bool:
        """Does any interval have a number in common with [start, end]?"""
        return bool(self._met(start, end))

    def search(self, start: int, end: int, /) -> list[V]:
        """The values of those that have."""
        return [self._values[at] for at in self._met(start, end)]

    def next_start(self, position: int, /) -> int | None:
        """The lowest start above `position`; None: there is none."""
        place = bisect_right(self._order, (_u64(position), MOST, MOST))
        return self._order[place][0] if place < len(self._order) else None

    def _met(self, start: int, end: int) -> list[tuple[int, int, int]]:
        start, end = _range(start, end)
        last = bisect_right(self._order, (end, MOST, MOST))
        return [at for at in self._order[:last] if at[1] >= start]

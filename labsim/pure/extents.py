"""A map from byte ranges to values: the reference twin of the native module `labsim._extents`.

Does not know what the values are: bulk data, page states, locks. Stands for the trees in which
Lustre and its disk file system keep extents (osc_cache.c; ldiskfs's extent tree).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from operator import index
from typing import Generic, TypeAlias, TypeVar

V = TypeVar("V")
Piece: TypeAlias = tuple[int, int, V, int]
"""(start, end, value, offset): bytes [start, end) are what `value` holds from `offset` on."""
Gap: TypeAlias = tuple[int, int, None, int]
Merge: TypeAlias = Callable[[Piece[V], Piece[V]], "tuple[V, int] | None"]

EOF = 2**64 - 1
"""The highest end of a range (OBD_OBJECT_EOF)."""


def _u64(number: int) -> int:
    number = index(number)
    if not 0 <= number <= EOF:
        raise OverflowError("a position in an extent map is an unsigned 64-bit number")
    return number


def _range(start: int, end: int) -> tuple[int, int]:
    start, end = _u64(start), _u64(end)
    if start > end:
        raise ValueError("an extent ends before it starts")
    return start, end


class ExtentMap(Generic[V]):
    """Sorted pieces that never overlap, each (start, end, value, offset into the value).

    What an insert covers is replaced, what it cuts keeps its ends: the right end gets a higher
    offset. Two pieces that touch become one when they show the same object and its offset goes on;
    else `merge(left, right)` may give the (value, offset) that both together are, or None. It is
    asked about the left neighbour of what was inserted, then the right one, and must not change
    the map. Positions are u64: OverflowError for others, ValueError for an end before a start. An
    empty range changes nothing. A value is any object but None, which stands for a hole.
    """

    __slots__ = ("_busy", "_ends", "_merge", "_offsets", "_starts", "_total", "_values")

    def __init__(self, merge: Merge[V] | None = None) -> None:
        self._merge = merge
        self._busy = False
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._values: list[V] = []
        self._offsets: list[int] = []
        self._total = 0

    @property
    def total(self) -> int:
        """Bytes that hold data."""
        return self._total

    @property
    def end(self) -> int:
        """One past the last byte that holds data; 0 for an empty map."""
        return self._ends[-1] if self._ends else 0

    def __len__(self) -> int:
        """How many pieces there are."""
        return len(self._starts)

    def __iter__(self) -> Iterator[Piece[V]]:
        return iter(self.pieces())

    def insert(self, start: int, end: int, value: V, offset: int = 0, /) -> None:
        """Let [start, end) be `value` from `offset` on."""
        self._free_to_change()
        start, end = _range(start, end)
        offset = _u64(offset)
        if value is None:
            raise TypeError("None stands for a hole; use punch")
        if offset > EOF - (end - start):
            raise OverflowError("the offset runs past 64 bits within the extent")
        if start == end:
            return
        at = self._clear(start, end)
        self._place(at, start, end, value, offset)
        if at:
            at -= self._join(at - 1)
        if at + 1 < len(self._starts):
            self._join(at)

    def punch(self, start: int, end: int, /) -> int:
        """Make [start, end) a hole; how many bytes of data went."""
        self._free_to_change()
        start, end = _range(start, end)
        before = self._total
        if start < end:
            self._clear(start, end)
        return before - self._total

    def truncate(self, size: int, /) -> int:
        """Make all from `size` on a hole; how many bytes of data went."""
        return self.punch(size, EOF)

    def clear(self) -> None:
        """Make all a hole."""
        self.punch(0, EOF)

    def pieces(self, start: int = 0, end: int = EOF, /) -> list[Piece[V]]:
        """The data in [start, end), cut to it, in order."""
        start, end = _range(start, end)
        found: list[Piece[V]] = []
        last = bisect_left(self._starts, end) if start < end else 0
        for at in range(bisect_right(self._ends, start), last):
            low, high, value, offset = self._piece(at)
            cut = max(start - low, 0)
            found.append((low + cut, min(high, end), value, offset + cut))
        return found

    def walk(self, start: int, end: int, /) -> list[Piece[V] | Gap]:
        """All of [start, end) in order: pieces, and holes as (start, end, None, 0)."""
        start, end = _range(start, end)
        found: list[Piece[V] | Gap] = []
        at = bisect_right(self._ends, start)
        while start < end:
            if at == len(self._starts) or self._starts[at] >= end:
                found.append((start, end, None, 0))
                break
            low, high = self._starts[at], min(self._ends[at], end)
            if start < low:
                found.append((start, low, None, 0))
                start = low
            found.append((start, high, self._values[at], self._offsets[at] + start - low))
            start = high
            at += 1
        return found

    def covered(self, start: int, end: int, /) -> bool:
        """Whether [start, end) has no hole; true for an empty range."""
        start, end = _range(start, end)
        return start == end or self.next_hole(start) >= end

    def next_data(self, position: int, /) -> int | None:
        """The first byte at or after `position` that holds data, as SEEK_DATA; None: no more."""
        at = bisect_right(self._ends, _u64(position))
        return max(self._starts[at], position) if at < len(self._starts) else None

    def next_hole(self, position: int, /) -> int:
        """The first byte at or after `position` that holds none, as SEEK_HOLE; at most EOF."""
        position = _u64(position)
        at = bisect_right(self._ends, position)
        while at < len(self._starts) and self._starts[at] <= position:
            position = self._ends[at]
            at += 1
        return position

    def _free_to_change(self) -> None:
        if self._busy:
            raise RuntimeError("the extent map is changed by its own merge")

    def _place(self, at: int, start: int, end: int, value: V, offset: int) -> None:
        self._starts.insert(at, start)
        self._ends.insert(at, end)
        self._values.insert(at, value)
        self._offsets.insert(at, offset)
        self._total += end - start

    def _remove(self, first: int, last: int) -> None:
        self._total -= sum(self._ends[first:last]) - sum(self._starts[first:last])
        for column in (self._starts, self._ends, self._values, self._offsets):
            del column[first:last]

    def _clear(self, start: int, end: int) -> int:
        """Cut [start, end) out; the index at which a piece there would stand."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        if first >= last:
            return first
        head = (self._starts[first], start, self._values[first], self._offsets[first])
        low, high = self._starts[last - 1], self._ends[last - 1]
        tail = (end, high, self._values[last - 1], self._offsets[last - 1] + end - low)
        self._remove(first, last)
        if tail[0] < tail[1]:
            self._place(first, *tail)
        if head[0] < head[1]:
            self._place(first, *head)
            first += 1
        return first

    def _join(self, at: int) -> bool:
        """Make pieces `at` and `at + 1` one if they touch and go on; whether it did."""
        start, middle, value, offset = self._piece(at)
        right = self._piece(at + 1)
        if right[0] != middle:
            return False
        joined: tuple[V, int] | None = None
        if right[2] is value and right[3] == offset + (middle - start):
            joined = (value, offset)
        elif self._merge is not None:
            joined = self._ask(self._merge, (start, middle, value, offset), right)
        if joined is None:
            return False
        if not isinstance(joined, tuple) or len(joined) != 2 or joined[0] is None:
            raise TypeError("merge gives (value, offset) or None")
        value, offset = joined[0], _u64(joined[1])
        if offset > EOF - (right[1] - start):
            raise OverflowError("the offset runs past 64 bits within the extent")
        self._remove(at, at + 2)
        self._place(at, start, right[1], value, offset)
        return True

    def _ask(self, merge: Merge[V], left: Piece[V], right: Piece[V]) -> tuple[V, int] | None:
        self._busy = True
        try:
            return merge(left, right)
        finally:
            self._busy = False

    def _piece(self, at: int) -> Piece[V]:
        return self._starts[at], self._ends[at], self._values[at], self._offsets[at]

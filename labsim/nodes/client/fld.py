"""Which MDT has the objects of a sequence: what this client has learned so far.

Does not know inodes or paths. Stands for fld/fld_cache.c and the client's half of fld_request.c.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable

from labsim.runtime.ports import Steps
from labsim.wire.fid_seq import FID_SEQ_NORMAL
from labsim.wire.lu import LuSeqRange


class FldCache:
    """Ranges of sequences. `query` is a generator function that asks an MDT for one."""

    __slots__ = ("_query", "_ranges")

    def __init__(self, query: Callable[[int], Steps[LuSeqRange]]) -> None:
        self._query = query
        self._ranges: list[tuple[int, int, int]] = []
        """(start, end, index of the MDT), in order."""

    def known(self, seq: int) -> int | None:
        """The index of the MDT that has it; None where nobody was asked yet.

        What comes before the sequences of clients, the root's too, is on MDT0000.
        """
        if seq < FID_SEQ_NORMAL:
            return 0
        place = bisect_right(self._ranges, (seq, 1 << 64, 0)) - 1
        if place >= 0:
            _, end, index = self._ranges[place]
            if seq < end:
                return index
        return None

    def lookup(self, seq: int) -> Steps[int]:
        """The same, and asks where it is not known (FLD_QUERY)."""
        index = self.known(seq)
        if index is None:
            found = yield from self._query(seq)
            index = found.index
            if self.known(seq) is None:
                insort(self._ranges, (found.start, found.end, index))
        return index

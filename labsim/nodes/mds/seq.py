"""FID sequences: who may name objects with which numbers.

Does not know who asks. Stands for the sequence server of MDT0000 (fid/fid_handler.c): a client gets
one sequence at a time, never one that was given out before, whatever crashes.
"""

from __future__ import annotations

import struct
from typing import Any

from labsim.nodes.mds import objects
from labsim.runtime.ports import Steps

BATCH = 1000
"""LUSTRE_SEQ_BATCH_WIDTH: sequences for which one durable mark is enough."""
FIRST = objects.FIRST_NORMAL_SEQ + 1
"""The first sequence of all is the MDT's own."""

_KEY = b"next"
_MARK = struct.Struct("<Q")


class Sequences:
    """Gives out sequences; those up to a durable mark may have been given out already."""

    def __init__(self, osd: Any) -> None:
        self.osd = osd
        self._next = FIRST
        self._mark = FIRST

    def load(self) -> None:
        """Begin behind everything that an earlier life may have given out."""
        value = self.osd.lookup(objects.SEQ_SERVER, _KEY)
        if value:
            self._next = self._mark = _MARK.unpack(value)[0]

    def take(self) -> Steps[int]:
        """A sequence that nobody has had."""
        while self._next >= self._mark:
            yield from self._advance()
        taken = self._next
        self._next += 1
        return taken

    def _advance(self) -> Steps[None]:
        """Put the mark further on, durably."""
        mark = self._next + BATCH
        tx = self.osd.transaction()
        tx.insert(objects.SEQ_SERVER, _KEY, _MARK.pack(mark), replace=True)
        yield from tx.stop(sync=True)
        self._mark = max(self._mark, mark)

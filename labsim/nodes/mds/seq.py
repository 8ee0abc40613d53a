"""FID sequences: who may name objects with which numbers.

Does not know who asks. Stands for fid/fid_handler.c: a controller on MDT0000 gives every server a
super-sequence (2^30 sequences), a server gives a client one sequence at a time; never one that was
given out before, whatever crashes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from labsim.nodes.mds import objects
from labsim.nodes.mds.fld import FldServer
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Mutex
from labsim.wire.constants import LUSTRE_SEQ_BATCH_WIDTH, LUSTRE_SEQ_SUPER_WIDTH
from labsim.wire.lu import LuSeqRange

_NEXT, _RANGE = b"next", b"range"
_MARK = struct.Struct("<Q")


class Controller:
    """Gives out super-sequences, one behind the other; on MDT0000 only.

    Each is on disk, and in the FLD, before anybody hears of it.
    """

    def __init__(self, env: Any, osd: Any, fld: FldServer) -> None:
        self.osd = osd
        self.fld = fld
        self._mutex = Mutex(env)

    def allocate(self, index: int, flags: int = 0) -> Steps[LuSeqRange]:
        """The next super-sequence, for target `index`; `flags` say of which kind it is."""
        yield from self._mutex.take()
        try:
            value = self.osd.lookup(objects.SEQ_CONTROLLER, _NEXT)
            start = _MARK.unpack(value)[0] if value else objects.FIRST_NORMAL_SEQ
            end = start + LUSTRE_SEQ_SUPER_WIDTH
            given = LuSeqRange(start=start, end=end, index=index, flags=flags)
            tx = self.osd.transaction()
            tx.insert(objects.SEQ_CONTROLLER, _NEXT, _MARK.pack(end), replace=True)
            self.fld.insert(tx, given)
            yield from tx.stop(sync=True)
            return given
        finally:
            self._mutex.give()


class Sequences:
    """Gives out sequences of one MDT; those up to a durable mark may have been given out already.

    `more` is a generator function that brings a super-sequence.
    """

    def __init__(self, env: Any, osd: Any, more: Callable[[], Steps[LuSeqRange]]) -> None:
        self.osd = osd
        self._more = more
        self._mutex = Mutex(env)
        self._next = self._mark = self._end = 0

    def load(self) -> None:
        """Begin behind everything that an earlier life may have given out."""
        mark = self.osd.lookup(objects.SEQ_SERVER, _NEXT)
        end = self.osd.lookup(objects.SEQ_SERVER, _RANGE)
        if mark and end:
            self._next = self._mark = _MARK.unpack(mark)[0]
            self._end = _MARK.unpack(end)[0]

    def take(self) -> Steps[int]:
        """A sequence that nobody has had."""
        while self._next >= self._mark:
            yield from self._advance()
        taken = self._next
        self._next += 1
        return taken

    def _advance(self) -> Steps[None]:
        """Put the mark further on, durably; into another super-sequence where this one is used."""
        yield from self._mutex.take()
        try:
            if self._next < self._mark:
                return
            start, end = self._next, self._end
            if start >= end:
                given = yield from self._more()
                start, end = given.start + 1, given.end  # the first is the MDT's own
            mark = min(start + LUSTRE_SEQ_BATCH_WIDTH, end)
            tx = self.osd.transaction()
            tx.insert(objects.SEQ_SERVER, _NEXT, _MARK.pack(mark), replace=True)
            tx.insert(objects.SEQ_SERVER, _RANGE, _MARK.pack(end), replace=True)
            yield from tx.stop(sync=True)
            self._next, self._mark, self._end = start, mark, end
        finally:
            self._mutex.give()

"""FIDs for new files, out of the sequences this client was given.

Does not know what the FIDs are for. Stands for fid/fid_request.c: a client names a file before it
asks the MDT to create it, so that the request can be sent again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.ids import Fid
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Mutex
from labsim.wire.constants import LUSTRE_METADATA_SEQ_MAX_WIDTH


class FidAllocator:
    """One MDT's allocator. `query` is a generator function that returns the next lu_seq_range."""

    def __init__(self, env: Any, query: Callable[[], Steps[Any]]) -> None:
        self._env = env
        self._query = query
        self._seq = 0
        self._oid = LUSTRE_METADATA_SEQ_MAX_WIDTH
        self._end = 0
        self._mutex: Mutex | None = None

    @property
    def last(self) -> Fid:
        """The FID given out last; sequence 0 where there was none."""
        return Fid(self._seq, self._oid if self._seq else 0)

    def next(self) -> Steps[Fid]:
        """A FID that nobody has had before."""
        if self._oid >= LUSTRE_METADATA_SEQ_MAX_WIDTH:
            yield from self._new_sequence()
        self._oid += 1
        return Fid(self._seq, self._oid)

    def _new_sequence(self) -> Steps[None]:
        """Go on to the next sequence of the range, or ask for another range."""
        if self._mutex is None:
            self._mutex = Mutex(self._env)
        yield from self._mutex.take()
        try:
            if self._oid < LUSTRE_METADATA_SEQ_MAX_WIDTH:
                return
            if self._seq + 1 >= self._end:
                granted = yield from self._query()
                self._seq, self._end = granted.start, granted.end
            else:
                self._seq += 1
            self._oid = 0
        finally:
            self._mutex.give()

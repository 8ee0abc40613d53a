"""The FID location database: which target has the objects of a sequence.

Does not know requests. Stands for fld/fld_index.c: an index of sequence ranges, whole on MDT0000.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from labsim.base.errors import LustreError
from labsim.nodes.mds import objects
from labsim.storage.osd import Tx
from labsim.wire.fid_seq import FID_SEQ_LOCAL_FILE, LU_SEQ_RANGE_MASK
from labsim.wire.lu import LuSeqRange

_KEY = struct.Struct(">Q")


class FldServer:
    """The ranges by their start."""

    def __init__(self, osd: Any) -> None:
        self.osd = osd

    def insert(self, tx: Tx, given: LuSeqRange) -> None:
        """Add a range within `tx` (fld_index_create); EEXIST."""
        tx.insert(objects.FLD, _KEY.pack(given.start), given.pack())

    def lookup(self, seq: int) -> LuSeqRange:
        """The range that a sequence is in; ENOENT. What comes before clients' is MDT0000's."""
        if FID_SEQ_LOCAL_FILE <= seq < objects.FIRST_NORMAL_SEQ:
            return LuSeqRange(start=seq, end=seq + 1)
        for _, value in self.osd.iterate(objects.FLD):
            found = LuSeqRange.unpack(value)
            if found.start <= seq < found.end:
                return found
        raise LustreError(errno.ENOENT, f"sequence {seq:#x}")

    def answer(self, asked: LuSeqRange) -> LuSeqRange:
        """As `lookup`, for a request that may say which kind of target it means."""
        found = self.lookup(asked.start)
        kind = asked.flags & LU_SEQ_RANGE_MASK
        if kind not in (LU_SEQ_RANGE_MASK, found.flags & LU_SEQ_RANGE_MASK):
            raise LustreError(errno.ENOENT, f"sequence {asked.start:#x} of another kind")
        return found

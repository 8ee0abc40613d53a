"""reply_data: what clients with several modifying requests under way may ask for again.

Does not know requests. Stands for the file of that name, a header and one record for each reply
that a client may not have yet, and for tgt_reply_data_init, tgt_add_reply_data and
tgt_release_reply_data (target/tgt_lastrcvd.c).
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any

from labsim.base.ids import Fid
from labsim.base.payload import tobytes
from labsim.net.ptlrpc import Reply
from labsim.runtime.ports import Steps
from labsim.storage.osd import Attrs, Tx
from labsim.wire.constants import LRH_MAGIC
from labsim.wire.fid_seq import FID_SEQ_LOCAL_FILE
from labsim.wire.last_rcvd import LsdReplyData, LsdReplyHeader

REPLY_DATA = Fid(FID_SEQ_LOCAL_FILE, 21)
"""REPLY_DATA_OID in the sequence of local files (lustre_fid.h)."""

HEADER_SIZE = RECORD_SIZE = 32


class ReplyData:
    """The file, and which of its records are free. A freed record stays until it is used again."""

    def __init__(self, osd: Any) -> None:
        self._osd = osd
        self._free: list[int] = []
        self._count = 0

    def open(self) -> Steps[list[tuple[int, Reply]]]:
        """Read the file, or make it; (client generation, reply) of what it holds."""
        if not self._osd.exists(REPLY_DATA):
            tx = self._osd.transaction()
            tx.create(REPLY_DATA, Attrs(mode=0o100644))
            head = LsdReplyHeader(magic=LRH_MAGIC, header_size=HEADER_SIZE, reply_size=RECORD_SIZE)
            tx.write(REPLY_DATA, 0, head.pack())
            yield from tx.stop()
        size = self._osd.attrs(REPLY_DATA).size - HEADER_SIZE
        data = tobytes((yield from self._osd.read(REPLY_DATA, HEADER_SIZE, max(size, 0))))
        self._count = len(data) // RECORD_SIZE
        return list(self._records(data))

    def _records(self, data: bytes) -> Iterator[tuple[int, Reply]]:
        for index in range(self._count):
            start = index * RECORD_SIZE
            one = LsdReplyData.unpack(data[start : start + RECORD_SIZE])
            if not one.transno:
                self.give(index)
                continue
            yield one.client_gen, Reply(index, 0, one.xid, one.transno, one.result, one.data)

    def take(self) -> int:
        """The lowest free record."""
        if self._free:
            return heappop(self._free)
        self._count += 1
        return self._count - 1

    def give(self, index: int) -> None:
        """The record may be used again."""
        heappush(self._free, index)

    def write(self, tx: Tx, reply: Reply, generation: int) -> None:
        """Note within `tx` what a request of the client of that generation was answered."""
        record = LsdReplyData(
            transno=reply.transno, xid=reply.xid, data=reply.data, result=reply.result,
            client_gen=generation,
        )  # fmt: skip
        tx.write(REPLY_DATA, HEADER_SIZE + reply.place * RECORD_SIZE, record.pack())

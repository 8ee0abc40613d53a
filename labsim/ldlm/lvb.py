"""Lock value blocks: size, times and blocks of an object, as they travel with extent locks.

Pure functions on bytes. Does not know objects or clients. Stands for struct ost_lvb and
ofd_lvbo_update's rule for what a glimpse brings in.
"""

from __future__ import annotations

from labsim.base.payload import Payload, tobytes
from labsim.wire.ost import OstLvb, OstLvbV1


def read(payload: Payload) -> OstLvb:
    """The block in a message; the short old form has no nanoseconds. ProtocolError if neither."""
    data = tobytes(payload)
    if len(data) == OstLvbV1.size:
        old = OstLvbV1.unpack(data)
        return OstLvb(
            size=old.size, mtime=old.mtime, atime=old.atime, ctime=old.ctime, blocks=old.blocks
        )
    return OstLvb.unpack(data)


def newer(known: OstLvb, seen: OstLvb) -> OstLvb:
    """What is known after a client told what it has cached: nothing ever gets smaller."""
    mtime = max((known.mtime, known.mtime_ns), (seen.mtime, seen.mtime_ns))
    atime = max((known.atime, known.atime_ns), (seen.atime, seen.atime_ns))
    ctime = max((known.ctime, known.ctime_ns), (seen.ctime, seen.ctime_ns))
    return OstLvb(
        size=max(known.size, seen.size),
        blocks=max(known.blocks, seen.blocks),
        mtime=mtime[0],
        mtime_ns=mtime[1],
        atime=atime[0],
        atime_ns=atime[1],
        ctime=ctime[0],
        ctime_ns=ctime[1],
    )


def packed(block: OstLvb, long_form: bool) -> bytes:
    """The bytes to send; the short form to a client that did not negotiate LVB_TYPE."""
    data = block.pack()
    return data if long_form else data[: OstLvbV1.size]

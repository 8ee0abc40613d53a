"""A target's own copies of the logs it was made from: what it starts by when the MGS is away.

Does not know the MGS, nor what a log says. Stands for the CONFIGS directory on a target's disk and
mgc_llog_local_copy: the file is the MGS's, byte for byte.
"""

from __future__ import annotations

import struct

from labsim.base.ids import Fid
from labsim.runtime.ports import Steps
from labsim.storage.llog import Llog, Record
from labsim.storage.osd import Attrs, Osd
from labsim.wire.fid_seq import FID_SEQ_LOCAL_NAME

DIRECTORY = Fid(FID_SEQ_LOCAL_NAME, 2)
"""CONFIGS; Lustre has its OID given out by local_oid_storage, here it is always this one."""
FIRST = 3
_OID = struct.Struct("<I")


class ConfigCopies:
    """The copies on one target's disk, by the names of the logs."""

    def __init__(self, osd: Osd) -> None:
        self.osd = osd

    def read(self, name: str) -> Steps[list[Record] | None]:
        """The live records of a copy; None where there is none."""
        fid = self._find(name)
        if fid is None:
            return None
        log = Llog(self.osd, fid)
        if not (yield from log.open()):
            return None
        return (yield from log.records())

    def write(self, name: str, data: bytes) -> Steps[None]:
        """Put a whole log in the place of what was there, header and all; durable on return."""
        tx = self.osd.transaction()
        fid = self._find(name)
        if fid is None:
            fid = Fid(FID_SEQ_LOCAL_NAME, FIRST)
            if self.osd.exists(DIRECTORY):
                fid = Fid(FID_SEQ_LOCAL_NAME, FIRST + sum(1 for _ in self.osd.iterate(DIRECTORY)))
            else:
                tx.create(DIRECTORY, Attrs(mode=0o040755))
            tx.create(fid, Attrs(mode=0o100644))
            tx.insert(DIRECTORY, name.encode(), _OID.pack(fid.oid))
        else:
            tx.truncate(fid, 0)
        tx.write(fid, 0, data)
        yield from tx.stop(sync=True)

    def _find(self, name: str) -> Fid | None:
        if not self.osd.exists(DIRECTORY):
            return None
        found = self.osd.lookup(DIRECTORY, name.encode())
        return Fid(FID_SEQ_LOCAL_NAME, _OID.unpack(found)[0]) if found else None

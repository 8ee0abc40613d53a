"""mdt: close, and what becomes of files without a name.

Knows handles and orphans. Stands for mdt_close and mdt_mfd_close (mdt/mdt_open.c), and
mdd/mdd_orphans.c.
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.net.ptlrpc import Export, ServerRequest, handles
from labsim.nodes.mds.cred import ROOT
from labsim.nodes.mds.mdd_attr import Change
from labsim.nodes.mds.mdt_open import MdtOpen
from labsim.nodes.mds.opens import OpenFile
from labsim.nodes.mds.points import MDS_CLOSE_NET, MDS_CLOSE_NET_REP, MDS_CLOSE_PACK
from labsim.runtime.ports import Steps
from labsim.storage.osd import Tx
from labsim.wire.constants import MDS_ATTR_ATIME
from labsim.wire.mdt import MdtBody, MdtRecSetattr
from labsim.wire.message import Message
from labsim.wire.opcodes import MDS_CLOSE


class MdtClose(MdtOpen):
    """MDS_CLOSE, and the end of orphans."""

    stopping = False

    @handles(MDS_CLOSE)
    def close(self, req: ServerRequest) -> Steps[Message]:
        """Give an open handle back; ESTALE for one that is not the client's."""
        yield from self.at(MDS_CLOSE_NET)
        yield from self.at(MDS_CLOSE_PACK)
        handle = req["mdt_epoch"].open_handle
        file = self.opens.get(req.export.cookie, handle)
        if file is None:
            raise LustreError(errno.ESTALE, f"handle {handle:#x}")
        reply_body = self._last_look(file)
        yield from self._close(file, req)
        self.md_stats.tally("close")
        reply = req.reply(mdt_body=reply_body)
        return (yield from self.answer(req, reply, MDS_CLOSE_NET_REP))

    def _last_look(self, file: OpenFile) -> MdtBody:
        if not self.osd.exists(file.fid):
            return MdtBody()
        return self.describe(file.fid)

    def _close(self, file: OpenFile, req: ServerRequest | None = None) -> Steps[None]:
        """The open is over: its access time is stored, and an orphan goes with its last opener."""
        last = self.opens.remove(file)
        if not self.osd.exists(file.fid):
            return
        tx = self.begin(req)
        if last and self.osd.attrs(file.fid).nlink == 0:
            self.mdd.destroy_orphan(tx, file.fid)
        elif req is None or not self.store_times(tx, file.fid, req.get("rec_reint")):
            return
        yield from tx.stop()

    def store_times(self, tx: Tx, fid: Fid, record: Any) -> bool:
        """The access time that a close brings; the others are the OST objects' business."""
        if not isinstance(record, MdtRecSetattr) or not record.valid & MDS_ATTR_ATIME:
            return False
        if record.atime <= self.osd.attrs(fid).atime:
            return False
        change = Change({"atime": record.atime}, bypass=True)
        return bool(self.mdd.set_attrs(tx, fid, change, ROOT))

    # ---- without a close

    def on_disconnect(self, export: Export) -> None:
        """A client has gone: what it had open is closed, unless we are going ourselves."""
        if not self.stopping:
            for file in self.opens.of(export.cookie):
                self.host.env.process(self._close(file))

    def destroy_orphans(self) -> Steps[None]:
        """At start: nobody has a file without a name open any more (orph_index_iterate)."""
        for fid in self.mdd.orphans():
            if not self.opens.is_open(fid):
                tx = self.begin()
                self.mdd.destroy_orphan(tx, fid)
                yield from tx.stop()

"""mdt: close, and what becomes of files without a name.

Knows handles and orphans. Stands for mdt_close and mdt_mfd_close (mdt/mdt_open.c), and
mdd/mdd_orphans.c.
"""

from __future__ import annotations

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

    @handles(MDS_CLOSE)
    def close(self, req: ServerRequest) -> Steps[Message]:
        """Give an open handle back; one that is not the client's is passed over.

        The error is overwritten before the reply goes out, which has no transno then (mdt_close).
        """
        yield from self.at(MDS_CLOSE_NET)
        yield from self.at(MDS_CLOSE_PACK)
        if self.saved(req) is not None:
            reply_body = MdtBody()
        else:
            reply_body = yield from self._close_handle(req, req["mdt_epoch"].open_handle)
        return (yield from self.answer(req.reply(mdt_body=reply_body), MDS_CLOSE_NET_REP))

    def _close_handle(self, req: ServerRequest, handle: int) -> Steps[MdtBody]:
        """Close what is open; its client may know it by its handle of before a restart."""
        self.count(req, "close")
        file = self.opens.get(req.export.cookie, handle)
        if file is None:
            return MdtBody()
        reply_body = self._last_look(file)
        yield from self._close(file, req)
        return reply_body

    def _last_look(self, file: OpenFile) -> MdtBody:
        if not self.osd.exists(file.fid):
            return MdtBody()
        return self.describe(file.fid)

    def _close(self, file: OpenFile, req: ServerRequest | None = None) -> Steps[None]:
        """The open is over: its access time is stored, and an orphan goes with its last opener.

        A client's close has a transno also where nothing changes: an empty transaction is made for
        it (mdt_empty_transno). As long as that is not on disk the client may replay the open, and
        then the close with it.
        """
        last = self.opens.remove(file)
        there = self.osd.exists(file.fid)
        orphan = there and last and self.osd.attrs(file.fid).nlink == 0
        if req is None and not orphan:
            return
        tx = self.begin(req)
        if orphan and not self.recovering:
            self.mdd.destroy_orphan(tx, file.fid)
        elif there and req is not None:
            self.store_times(tx, file.fid, req.get("rec_reint"))
        if req is not None:
            yield from self.commit(req, tx)
        else:
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
                self.host.env.process(self._close_alone(file))

    def _close_alone(self, file: OpenFile) -> Steps[None]:
        """Close without anybody to tell: on a disk that fails, an orphan stays until a restart."""
        try:
            yield from self._close(file)
        except LustreError as error:
            self.host.trace.emit("target.sick", self.name, error.errno)

    def destroy_orphans(self) -> Steps[None]:
        """After recovery: who still had a file without a name open has said so by now.

        Stands for orph_index_iterate. A close that was replayed has left its orphan to this.
        """
        for fid in self.mdd.orphans():
            if not self.opens.is_open(fid):
                tx = self.begin()
                self.mdd.destroy_orphan(tx, fid)
                yield from tx.stop()

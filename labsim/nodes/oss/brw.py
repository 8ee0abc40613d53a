"""Bulk reads and writes of an OST.

Knows ranges of one object, not pages of a file. Stands for tgt_brw_read and tgt_brw_write
(target/tgt_handler.c) and ofd_io.c.
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.payload import Payload, join, piece
from labsim.ldlm.policy import Extent
from labsim.ldlm.resource import ost_resource
from labsim.net.ptlrpc import ServerRequest, handles
from labsim.nodes.oss import points
from labsim.nodes.oss.objects import changes_of, describe
from labsim.nodes.oss.ofd import MAX_BRW, ObjectHandlers
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    LCK_PR,
    LCK_PW,
    OBD_BRW_ASYNC,
    OBD_BRW_FROM_GRANT,
    OBD_BRW_SRVLOCK,
    OBD_BRW_SYNC,
    OBD_MD_FLBLOCKS,
    OBD_MD_FLGRANT,
)
from labsim.wire.message import Message
from labsim.wire.opcodes import OST_READ, OST_WRITE
from labsim.wire.ost import NiobufRemote, Obdo, OstBody

MAX_NIOBUFS = 256
"""More ranges than this in one BRW have no sense with 4 MiB and 4 KiB pages merged."""


class Ofd(ObjectHandlers):
    """The OST, whole."""

    @handles(OST_WRITE)
    def write(self, req: ServerRequest) -> Steps[Message]:
        """Pull the client's pages, put them in one transaction, answer with its transno."""
        oa, niobufs = self._check(req)
        yield from self.at(points.OST_BRW_NET)
        yield from self.at(points.OST_ENOSPC)
        yield from self.at(points.OST_EROFS)
        yield from self.at(points.OST_BRW_WRITE_BULK)
        yield from self.at(points.OST_BRW_WRITE_BULK2)
        yield from self.at(points.OST_BRW_PAUSE_BULK)
        fid = self.fid(oa)
        lock = yield from self._server_lock(oa, niobufs, LCK_PW)
        try:
            account = self.grants.account(req.export.cookie)
            if oa.valid & (OBD_MD_FLBLOCKS | OBD_MD_FLGRANT) and not req.resent:
                self.grants.report(account, oa.blocks, oa.misc)
            nbytes = sum(niobuf.len for niobuf in niobufs)
            covered = sum(one.len for one in niobufs if one.flags & OBD_BRW_FROM_GRANT)
            pending = self.grants.consume(account, covered)
            self._check_space(account, nbytes - pending)
            try:
                data = yield from req.pull(nbytes)
                yield from self._store(req, oa, niobufs, data)
            finally:
                self.grants.settle(account, pending)
        finally:
            if lock is not None:
                self.ldlm.release(lock)
        added = 0 if req.resent else self._regrant(account, oa)
        reply = describe(oa, self.osd.attrs(fid)).replace(grant=added)
        return req.reply(ost_body=OstBody(oa=reply), rcs=[0] * len(niobufs))

    def _check_space(self, account: Any, nbytes: int) -> None:
        """Without grant a write needs space that nobody was promised (ENOSPC)."""
        if nbytes > self.grants.left(self.available()) + account.granted:
            raise LustreError(errno.ENOSPC, f"{self.name}: {nbytes} bytes")

    def _store(
        self, req: ServerRequest, oa: Obdo, niobufs: list[NiobufRemote], data: Payload
    ) -> Steps[None]:
        """Write all ranges in one transaction; on disk before the answer if the client asks."""
        fid = self.fid(oa)
        tx = self.begin(req)
        start = 0
        for niobuf in niobufs:
            tx.write(fid, niobuf.offset, piece(data, start, start + niobuf.len))
            start += niobuf.len
        if changes := changes_of(oa):
            tx.set_attrs(fid, **changes)
        flags = niobufs[0].flags
        yield from tx.stop(sync=bool(flags & OBD_BRW_SYNC and not flags & OBD_BRW_ASYNC))

    def _regrant(self, account: Any, oa: Obdo) -> int:
        """Grant to add, going by what the client holds (o_grant) and would like (o_undirty)."""
        if not oa.valid & OBD_MD_FLGRANT:
            return 0
        return self.grants.grant(account, oa.grant, oa.mode, self.available())

    @handles(OST_READ)
    def read(self, req: ServerRequest) -> Steps[Message]:
        """Read the ranges up to the object's end, put them to the client; status is the count."""
        oa, niobufs = self._check(req)
        yield from self.at(points.OST_BRW_NET)
        yield from self.at(points.OST_BRW_READ_BULK)
        fid = self.fid(oa)
        lock = yield from self._server_lock(oa, niobufs, LCK_PR)
        try:
            parts = []
            for niobuf in niobufs:
                part = yield from self.osd.read(fid, niobuf.offset, niobuf.len)
                parts.append(part)
                if len(part) < niobuf.len:
                    break
            data = join(parts)
            yield from req.push(data)
        finally:
            if lock is not None:
                self.ldlm.release(lock)
        reply = describe(oa, self.osd.attrs(fid))
        return req.reply(status=len(data), ost_body=OstBody(oa=reply))

    def _check(self, req: ServerRequest) -> tuple[Obdo, list[NiobufRemote]]:
        """The object and its ranges, or ProtocolError where they do not fit one another."""
        objects, niobufs = req["obd_ioobj"], req["niobuf_remote"]
        if len(objects) != 1 or not 0 < len(niobufs) <= MAX_NIOBUFS:
            raise ProtocolError("obd_ioobj: a BRW names one object and at least one range")
        if objects[0].bufcnt != len(niobufs):
            raise ProtocolError(f"obd_ioobj.ioo_bufcnt at 20: not {len(niobufs)} ranges")
        total = 0
        for niobuf in niobufs:
            total += niobuf.len
            if not niobuf.len or niobuf.offset + niobuf.len > 1 << 63:
                raise ProtocolError("niobuf_remote.rnb_len at 8: an empty or endless range")
        if total > MAX_BRW:
            raise ProtocolError(f"niobuf_remote.rnb_len at 8: {total} bytes in one BRW")
        return req["ost_body"].oa, niobufs

    def _server_lock(self, oa: Obdo, niobufs: list[NiobufRemote], mode: int) -> Steps[Any]:
        """The server's own lock over all ranges, where the client holds none (SRVLOCK)."""
        if not niobufs[0].flags & OBD_BRW_SRVLOCK:
            return None
        low = min(one.offset for one in niobufs)
        high = max(one.offset + one.len for one in niobufs) - 1
        resource = ost_resource(oa.oi.id, oa.oi.seq)
        return (yield from self.ldlm.acquire(resource, mode, extent=Extent(low, high)))

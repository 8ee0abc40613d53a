"""Bulk reads and writes of an OST.

Knows ranges of one object, not pages of a file. Stands for tgt_brw_read and tgt_brw_write
(target/tgt_handler.c) and ofd_io.c.
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.faults import Point
from labsim.base.payload import Payload, join, piece
from labsim.ldlm.policy import Extent
from labsim.ldlm.resource import ost_resource
from labsim.net.ptlrpc import ServerRequest, handles
from labsim.nodes.jobs import JobStats
from labsim.nodes.oss import points
from labsim.nodes.oss.objects import changes_of, describe
from labsim.nodes.oss.ofd import MAX_BRW, ObjectHandlers
from labsim.runtime.ports import Steps
from labsim.wire import cksum
from labsim.wire.constants import (
    LCK_PR,
    LCK_PW,
    OBD_BRW_ASYNC,
    OBD_BRW_FROM_GRANT,
    OBD_BRW_SRVLOCK,
    OBD_BRW_SYNC,
    OBD_CONNECT_SHORTIO,
    OBD_FL_CKSUM_ALL,
    OBD_FL_SHORT_IO,
    OBD_MD_FLBLOCKS,
    OBD_MD_FLCKSUM,
    OBD_MD_FLFLAGS,
    OBD_MD_FLGRANT,
)
from labsim.wire.message import Message
from labsim.wire.opcodes import (
    OST_CREATE,
    OST_DESTROY,
    OST_GETATTR,
    OST_PUNCH,
    OST_READ,
    OST_SETATTR,
    OST_STATFS,
    OST_SYNC,
    OST_WRITE,
)
from labsim.wire.ost import NiobufRemote, Obdo, OstBody

MAX_SHORT_IO = 64 << 10
"""OBD_MAX_SHORT_IO_BYTES."""

MAX_NIOBUFS = 256
"""The most ranges in one BRW that this OST takes."""


JOB_NAMES = {
    OST_READ: "read_bytes",
    OST_WRITE: "write_bytes",
    OST_GETATTR: "getattr",
    OST_SETATTR: "setattr",
    OST_PUNCH: "punch",
    OST_SYNC: "sync",
    OST_DESTROY: "destroy",
    OST_CREATE: "create",
    OST_STATFS: "statfs",
}


class Ofd(ObjectHandlers, JobStats):
    """The OST, whole."""

    JOB_COUNTERS = (*JOB_NAMES.values(), "get_info", "set_info", "quotactl")

    def job_counters(self, req: ServerRequest, reply: Message) -> dict[str, int]:
        """One counter, of reads and writes with their bytes (ofd_stats_counter_init)."""
        name = JOB_NAMES.get(req.opcode)
        if name is None:
            return {}
        if req.opcode == OST_READ:
            return {name: reply.status}
        if req.opcode == OST_WRITE:
            return {name: sum(niobuf.len for niobuf in req["niobuf_remote"])}
        return {name: 0}

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
            account = self._incoming(req, oa)
            nbytes = sum(niobuf.len for niobuf in niobufs)
            covered = sum(one.len for one in niobufs if one.flags & OBD_BRW_FROM_GRANT)
            pending = self.grants.consume(account, covered)
            self._check_space(account, nbytes - pending)
            try:
                data = yield from self._pull(req, oa, nbytes)
                oa, data = yield from self._seal_written(oa, data)
                yield from self._store(req, oa, niobufs, data)
            finally:
                self.grants.settle(account, pending)
        finally:
            if lock is not None:
                self.ldlm.release(lock)
        added = 0 if req.resent else self._regrant(account, oa)
        reply = describe(oa, self.osd.attrs(fid)).replace(grant=added)
        return req.reply(ost_body=OstBody(oa=reply), rcs=[0] * len(niobufs))

    def _incoming(self, req: ServerRequest, oa: Obdo) -> Any:
        """The client's account, after what it says of its grant in any BRW (tgt_grant_incoming)."""
        account = self.grants.account(req.export.cookie)
        if oa.valid & (OBD_MD_FLBLOCKS | OBD_MD_FLGRANT) and not req.resent:
            self.grants.report(account, oa.blocks, oa.misc)
        return account

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
        self._incoming(req, oa)
        lock = yield from self._server_lock(oa, niobufs, LCK_PR)
        try:
            parts = []
            for niobuf in niobufs:
                part = yield from self.osd.read(fid, niobuf.offset, niobuf.len)
                parts.append(part)
                if len(part) < niobuf.len:
                    break
            data = join(parts)
            oa, sent = yield from self._seal_read(oa, data)
            short = self._is_short(req, oa)
            if not short:
                yield from req.push(sent)
        finally:
            if lock is not None:
                self.ldlm.release(lock)
        body = OstBody(oa=describe(oa, self.osd.attrs(fid)))
        if short:
            return req.reply(status=len(data), ost_body=body, short_io=sent)
        return req.reply(status=len(data), ost_body=body)

    # ---- what guards the data, and data inside the RPC

    @staticmethod
    def _is_short(req: ServerRequest, oa: Obdo) -> bool:
        """Does the data travel in the RPC itself (OBD_FL_SHORT_IO)?"""
        told = oa.valid & OBD_MD_FLFLAGS and oa.flags & OBD_FL_SHORT_IO
        return bool(told and req.export.granted(OBD_CONNECT_SHORTIO))

    def _pull(self, req: ServerRequest, oa: Obdo, nbytes: int) -> Steps[Payload]:
        """The data of a write."""
        if not self._is_short(req, oa):
            return (yield from req.pull(nbytes))
        data: Payload = req.get("short_io") or b""
        if len(data) != nbytes:
            raise ProtocolError(f"short_io: {len(data)} bytes, the ranges have {nbytes}")
        return data

    def _seal_written(self, oa: Obdo, data: Payload) -> Steps[tuple[Obdo, Payload]]:
        """The obdo with this side's checksum: the client compares, and writes again if it must."""
        if not oa.valid & OBD_MD_FLCKSUM:
            return oa, data
        if (yield from self._hit(points.OST_CHECKSUM_RECEIVE)):
            data = join([b"bad3"[: len(data)], piece(data, 4, len(data))])
        sealed = _sealed(oa, data)
        if sealed.nlink != oa.nlink:
            self.host.trace.emit("ost.damaged", self.name, oa.oi.id, oa.nlink, sealed.nlink)
        return sealed, data

    def _seal_read(self, oa: Obdo, data: Payload) -> Steps[tuple[Obdo, Payload]]:
        """The obdo with the checksum of what is sent."""
        if not oa.valid & OBD_MD_FLCKSUM:
            return oa, data
        sealed = _sealed(oa, data)
        if data and (yield from self._hit(points.OST_CHECKSUM_SEND)):
            data = join([b"bad4"[: len(data)], piece(data, 4, len(data))])
        return sealed, data

    def _hit(self, point: Point) -> Steps[bool]:
        """Is a point hit that damages something?"""
        try:
            yield from self.at(point)
        except LustreError:
            return True
        return False

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
        if total > (MAX_SHORT_IO if self._is_short(req, req["ost_body"].oa) else MAX_BRW):
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


def _sealed(oa: Obdo, data: Payload) -> Obdo:
    """`oa` with the checksum of `data`, of the kind that the client named."""
    flags = oa.flags if oa.valid & OBD_MD_FLFLAGS else 0
    kind = cksum.from_flags(flags)
    return oa.replace(
        valid=oa.valid | OBD_MD_FLCKSUM | OBD_MD_FLFLAGS,
        flags=flags & ~OBD_FL_CKSUM_ALL | cksum.to_flags(kind),
        nlink=cksum.checksum(kind, data),
    )

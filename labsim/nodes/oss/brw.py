"""Bulk reads and writes of an OST.

Knows ranges of one object, not pages of a file. Stands for tgt_brw_read and tgt_brw_write
(target/tgt_handler.c) and ofd_io.c.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.ids import Fid
from labsim.base.params import Param
from labsim.base.payload import Payload, join, piece
from labsim.ldlm.policy import Extent
from labsim.ldlm.resource import ResName, ost_resource
from labsim.net.ptlrpc import ServerRequest, handles
from labsim.nodes.config import TargetInfo
from labsim.nodes.debug_files import checksum_dump
from labsim.nodes.jobs import JobStats
from labsim.nodes.node import Node
from labsim.nodes.oss import points
from labsim.nodes.oss.brw_stats import DiskFiles
from labsim.nodes.oss.grants import Account, Range, Told, Verdict
from labsim.nodes.oss.objects import changes_of, describe
from labsim.nodes.oss.ofd import MAX_BRW, ObjectHandlers
from labsim.nodes.space_files import OsdFiles
from labsim.runtime.ports import Steps
from labsim.storage.osd import Tx
from labsim.wire import cksum
from labsim.wire.constants import (
    KEY_GRANT_SHRINK,
    LCK_PR,
    LCK_PW,
    MSG_REPLAY,
    MSG_RESENT,
    OBD_BRW_ASYNC,
    OBD_BRW_FROM_GRANT,
    OBD_BRW_SOFT_SYNC,
    OBD_BRW_SRVLOCK,
    OBD_CONNECT_SHORTIO,
    OBD_FL_CKSUM_ALL,
    OBD_FL_RECOV_RESEND,
    OBD_FL_SHORT_IO,
    OBD_FL_SHRINK_GRANT,
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
    OST_SET_INFO,
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

BEFORE_WRITES = (
    points.OST_ENOSPC, points.OST_EROFS, points.SRV_ENOENT, points.OST_NOMEM,
    points.OST_BRW_WRITE_BULK2, points.OST_BRW_WRITE_BULK, points.OST_DQACQ_NET,
)  # fmt: skip
"""Where a write may fail before its pages are pulled."""

ENOSPC_RETRIES = 3
GRANT_VALID = OBD_MD_FLBLOCKS | OBD_MD_FLGRANT

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
    OST_SET_INFO: "set_info",
}


class Ofd(ObjectHandlers, JobStats):
    """The OST, whole."""

    JOB_COUNTERS = (
        "read_bytes", "write_bytes", "getattr", "setattr", "punch", "sync", "destroy", "create",
        "statfs", "get_info", "set_info", "quotactl",
    )  # fmt: skip
    checksum_dump = Param.flag(False, help="keep a file of data whose checksum is wrong")
    soft_sync_limit = Param.count(
        16, unit="RPCs", help="BRWs that ask for a commit soon, before one is begun"
    )

    def __init__(self, node: Node, info: TargetInfo) -> None:
        super().__init__(node, info)
        self._soft_syncs: dict[int, int] = {}

    def make_osd_files(self) -> OsdFiles:
        """The files of its disk, with what bulk transfers make of it."""
        files: DiskFiles = self.node.make(DiskFiles, self.osd, self.name)
        self.disk_io = files.disk_io
        return files

    @Param.computed(access="rw", help="bulk transfers by size, and what the disk makes of them")
    def brw_stats(self) -> str:
        """Those of its disk."""
        return str(self.osd_files.brw_stats)

    def store_brw_stats(self, text: str) -> None:
        """Any write clears them."""
        self.osd_files.store_brw_stats(text)

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
        """Pull the client's pages, put them in one transaction, answer with its transno.

        Sent again it is done again, as the client still has the lock; its grant was counted when
        the client came back. A bulk that fails gets no answer.
        """
        req.pushed = True
        oa, niobufs = self._check(req)
        self._prolong(req, oa, niobufs)
        yield from self.at(points.OST_BRW_NET)
        yield from self.at(points.OST_BRW_PAUSE_BULK)
        lock = yield from self._server_lock(oa, niobufs, LCK_PW)
        try:
            verdict, settle = yield from self._reserve(req, oa, niobufs)
            try:
                fid = yield from self._writable(req, oa)
                data = yield from self._pull(req, oa, sum(one.len for one in niobufs))
                yield from self.at(points.OST_BRW_PAUSE_BULK2)
                oa, data = yield from self._seal_written(oa, niobufs, data)
                fitting = self._fitting(fid, niobufs, verdict.room)
                yield from self._store(req, oa, niobufs, data, fitting, settle)
            except BaseException:
                settle()
                self.grants.withdraw(self.grants.account(req.export.cookie), verdict)
                raise
        finally:
            if lock is not None:
                self.ldlm.release(lock)
        self._prolong(req, oa, niobufs)
        reply = describe(oa, self.osd.attrs(fid)).replace(grant=verdict.grant)
        rcs = [-errno.ENOSPC if one is None else 0 for one in fitting]
        self.count(req, "write_bytes", sum(one.len for one in niobufs))
        return req.reply(ost_body=OstBody(oa=reply), rcs=rcs)

    def _prolong(self, req: ServerRequest, oa: Obdo, niobufs: list[NiobufRemote]) -> None:
        """Who does I/O under a lock that was called back is alive (ofd_prolong_extent_locks)."""
        self.ldlm.prolong(req.export, *_range(oa, niobufs))

    def touches(self, req: ServerRequest) -> tuple[ResName, Extent] | None:
        """What a read or write, also one that waits for a thread, is about."""
        if req.opcode in (OST_READ, OST_WRITE) and req.has("ost_body") and req.get("niobuf_remote"):
            return _range(req["ost_body"].oa, req["niobuf_remote"])
        return None

    def _writable(self, req: ServerRequest, oa: Obdo) -> Steps[Fid]:
        """The object of a write, unless something stands in its way.

        Grant has been taken by then, whatever comes of it: the client counts it as used.
        """
        for point in BEFORE_WRITES:
            yield from self.at(point)
        return (yield from self.changing(req, oa))

    # ---- grant and space

    def _told(self, req: ServerRequest, oa: Obdo) -> Told:
        """What a BRW says of its client's grant; of one sent again that counts no more."""
        fresh = not req.body.flags & (MSG_RESENT | MSG_REPLAY)
        flags = oa.flags if oa.valid & OBD_MD_FLFLAGS else 0
        return Told(
            known=fresh and oa.valid & GRANT_VALID == GRANT_VALID,
            held=oa.grant,
            dirty=oa.dirty if oa.dirty < 1 << 63 else 0,
            wanted=oa.undirty,
            dropped=oa.dropped,
            used=oa.grant_used,
            shrink=bool(flags & OBD_FL_SHRINK_GRANT),
            again=fresh and bool(flags & OBD_FL_RECOV_RESEND),
        )

    def _reserve(
        self, req: ServerRequest, oa: Obdo, niobufs: list[NiobufRemote]
    ) -> Steps[tuple[Verdict, Callable[[], None]]]:
        """Room for a write (tgt_grant_prepare_write): what the client has, and how to settle it.

        Close to the end, what is pending is committed first if the client has no grant for it.
        """
        account = self.grants.account(req.export.cookie)
        ranges = [Range(n.offset, n.len, bool(n.flags & OBD_BRW_FROM_GRANT)) for n in niobufs]
        scarce = self.grants.left(self.available()) < self.grants.chunk(account)
        if scarce and not self.recovering and not all(one.paid for one in ranges):
            yield from self.osd.sync()
        verdict = self.grants.write(
            account, self._told(req, oa), ranges, self.available(), self.recovering
        )
        return verdict, self._settling(account, verdict.pending)

    def _settling(self, account: Account, pending: int) -> Callable[[], None]:
        """What takes the pending bytes back, once: at the commit, or when the write fails."""
        rest = [pending]

        def settle() -> None:
            nbytes, rest[0] = rest[0], 0
            self.grants.commit(account, nbytes)

        return settle

    def _fitting(
        self, fid: Fid, niobufs: list[NiobufRemote], room: list[bool]
    ) -> list[NiobufRemote | None]:
        """The ranges that may be written: those with room, and those that are allocated already.

        (Lustre goes by the page, and so may write some of a range that it says has failed.)
        """
        return [
            one if fits or self.osd.mapped(fid, one.offset, one.len) else None
            for one, fits in zip(niobufs, room, strict=True)
        ]

    def _store(
        self, req: ServerRequest, oa: Obdo, niobufs: list[NiobufRemote], data: Payload,
        fitting: list[NiobufRemote | None], settle: Callable[[], None],
    ) -> Steps[None]:  # fmt: skip
        """Write all that has room in one transaction; on disk before the answer if need be.

        Where the disk has no block although there should be one, what is pending is committed
        first, three times at most.
        """
        started_ns = self.host.env.now
        bios = self.disk_io.begin(True, [(one.offset, one.len) for one in niobufs])
        try:
            for retries in range(ENOSPC_RETRIES + 1):
                try:
                    yield from self.at(points.OST_MAPBLK_ENOSPC)
                    yield from self._written(req, oa, niobufs, data, fitting, settle).stop()
                    break
                except LustreError as error:
                    if error.errno != errno.ENOSPC or retries == ENOSPC_RETRIES:
                        raise
                yield from self.osd.sync()
        finally:
            self.disk_io.end(True, bios, self.host.env.now - started_ns)
        flags = niobufs[0].flags
        if self.sync_journal or not all(one.flags & OBD_BRW_ASYNC for one in niobufs):
            yield from self.osd.sync()
        elif flags & OBD_BRW_SOFT_SYNC:
            self._soft_sync(req)
        if not flags & OBD_BRW_SOFT_SYNC:
            self._soft_syncs.pop(req.export.cookie, None)

    def _written(
        self, req: ServerRequest, oa: Obdo, niobufs: list[NiobufRemote], data: Payload,
        fitting: list[NiobufRemote | None], settle: Callable[[], None],
    ) -> Tx:  # fmt: skip
        """The transaction of a write, which is a new version of the object."""
        fid = self.fid(oa)
        tx = self.begin(req, fid)
        start = 0
        for niobuf, one in zip(niobufs, fitting, strict=True):
            if one is not None:
                tx.write(fid, one.offset, piece(data, start, start + one.len))
            start += niobuf.len
        if changes := changes_of(oa):
            tx.set_attrs(fid, **changes)
        tx.on_commit(settle)
        return tx

    def _soft_sync(self, req: ServerRequest) -> None:
        """A client would like its pages on disk soon: begin a commit at every so many such BRWs."""
        cookie = req.export.cookie
        count = self._soft_syncs[cookie] = self._soft_syncs.get(cookie, 0) + 1
        if count == self.soft_sync_limit:
            self.osd.commit()

    @handles(OST_SET_INFO)
    def set_info(self, req: ServerRequest) -> Steps[Message]:
        """grant_shrink: a client gives grant back, taken in as a read's obdo is; EOPNOTSUPP."""
        yield from self.at(points.OST_SET_INFO_NET)
        if bytes(req["setinfo_key"]).rstrip(b"\0") != KEY_GRANT_SHRINK.encode():
            raise LustreError(errno.EOPNOTSUPP, "set_info")
        oa: Obdo = req["ost_body"].oa
        kept = self._incoming(req, oa)
        self.count(req, "set_info_async")
        return req.reply(ost_body=OstBody(oa=oa.replace(grant=kept)))

    def _incoming(self, req: ServerRequest, oa: Obdo) -> int:
        """Take in what a read says of grant; o_grant for its reply (tgt_grant_prepare_read)."""
        account = self.grants.account(req.export.cookie)
        return self.grants.read(account, self._told(req, oa), self.available())

    @handles(OST_READ)
    def read(self, req: ServerRequest) -> Steps[Message]:
        """Read the ranges up to the object's end, put them to the client; status is the count."""
        oa, niobufs = self._check(req)
        self._prolong(req, oa, niobufs)
        yield from self.at(points.OST_BRW_NET)
        yield from self.at(points.OST_BRW_READ_BULK)
        fid = self.fid(oa)
        lock = yield from self._server_lock(oa, niobufs, LCK_PR)
        kept = self._incoming(req, oa)
        try:
            data = yield from self._fetch(fid, niobufs)
            oa, sent = yield from self._seal_read(oa, niobufs, data)
            short = self._is_short(req, oa)
            if not short:
                yield from req.push(sent)
        finally:
            if lock is not None:
                self.ldlm.release(lock)
        body = OstBody(oa=describe(oa, self.osd.attrs(fid)).replace(grant=kept))
        self.count(req, "read_bytes", len(data))
        if short:
            return req.reply(status=len(data), ost_body=body, short_io=sent)
        return req.reply(status=len(data), ost_body=body)

    def _fetch(self, fid: Fid, niobufs: list[NiobufRemote]) -> Steps[Payload]:
        """The ranges, up to the object's end."""
        parts = []
        started_ns = self.host.env.now
        bios = self.disk_io.begin(False, [(one.offset, one.len) for one in niobufs])
        try:
            for niobuf in niobufs:
                part = yield from self.osd.read(fid, niobuf.offset, niobuf.len)
                parts.append(part)
                if len(part) < niobuf.len:
                    break
        finally:
            self.disk_io.end(False, bios, self.host.env.now - started_ns)
        return join(parts)

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

    def _seal_written(
        self, oa: Obdo, niobufs: list[NiobufRemote], data: Payload
    ) -> Steps[tuple[Obdo, Payload]]:
        """The obdo with this side's checksum: the client compares, and writes again if it must."""
        if not oa.valid & OBD_MD_FLCKSUM:
            return oa, data
        if (yield from self.hit(points.OST_CHECKSUM_RECEIVE)):
            data = join([b"bad3"[: len(data)], piece(data, 4, len(data))])
        sealed = _sealed(oa, niobufs, data)
        if sealed.nlink != oa.nlink:
            self.host.trace.emit("ost.damaged", self.name, oa.oi.id, oa.nlink, sealed.nlink)
            self._dump(oa, niobufs, data, sealed.nlink)
        return sealed, data

    def _dump(
        self, oa: Obdo, niobufs: list[NiobufRemote], data: Payload, server_cksum: int
    ) -> None:
        """Keep what is damaged, where this is asked for; what the client has of it, it says."""
        if self.checksum_dump:
            extent = niobufs[0].offset, niobufs[-1].offset + niobufs[-1].len
            self.node.globals.dump(checksum_dump("ost", oa, extent, oa.nlink, server_cksum), data)

    def _seal_read(
        self, oa: Obdo, niobufs: list[NiobufRemote], data: Payload
    ) -> Steps[tuple[Obdo, Payload]]:
        """The obdo with the checksum of what is sent.

        A client that reads again says what its checksum was (check_read_checksum).
        """
        if not oa.valid & OBD_MD_FLCKSUM:
            return oa, data
        sealed = _sealed(oa, niobufs, data)
        again = oa.valid & OBD_MD_FLFLAGS and oa.flags & OBD_FL_RECOV_RESEND
        if again and oa.nlink != sealed.nlink:
            self._dump(oa, niobufs, data, sealed.nlink)
        if data and (yield from self.hit(points.OST_CHECKSUM_SEND)):
            data = join([b"bad4"[: len(data)], piece(data, 4, len(data))])
        return sealed, data

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


def _range(oa: Obdo, niobufs: list[NiobufRemote]) -> tuple[ResName, Extent]:
    """The object that a bulk transfer is about, and from where to where it reaches there."""
    low = min(one.offset for one in niobufs)
    high = max(one.offset + one.len for one in niobufs) - 1
    return ost_resource(oa.oi.id, oa.oi.seq), Extent(low, high)


def _sealed(oa: Obdo, niobufs: list[NiobufRemote], data: Payload) -> Obdo:
    """`oa` with the checksum of `data`, of the kind that the client named."""
    flags = oa.flags if oa.valid & OBD_MD_FLFLAGS else 0
    kind = cksum.from_flags(flags)
    return oa.replace(
        valid=oa.valid | OBD_MD_FLCKSUM | OBD_MD_FLFLAGS,
        flags=flags & ~OBD_FL_CKSUM_ALL | cksum.to_flags(kind),
        nlink=cksum.checksum(kind, data, [(one.offset, one.len) for one in niobufs]),
    )

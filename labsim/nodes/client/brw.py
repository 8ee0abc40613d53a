"""A client's bulk RPCs: how one is built, and what guards its data.

Knows one range of one object at a time. Stands for osc_brw_prep_request, osc_brw_fini_request and
osc_brw_redo_request (osc_request.c): checksums, short I/O, and sending again what was damaged.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.base.faults import Point
from labsim.base.params import Param
from labsim.base.payload import Payload, join, piece
from labsim.base.units import MIB, NS_PER_S
from labsim.net.ptlrpc import Import, Request
from labsim.nodes.client import points
from labsim.nodes.client.grant import GrantAccount
from labsim.nodes.debug_files import checksum_dump
from labsim.runtime.ports import Host, Steps
from labsim.wire import cksum
from labsim.wire.constants import (
    OBD_CKSUM_ADLER,
    OBD_CONNECT_CKSUM,
    OBD_CONNECT_SHORTIO,
    OBD_FL_CKSUM_ALL,
    OBD_FL_RECOV_RESEND,
    OBD_FL_SHORT_IO,
    OBD_MD_FLCKSUM,
    OBD_MD_FLFLAGS,
)
from labsim.wire.message import Message
from labsim.wire.opcodes import OST_READ, OST_WRITE, opcode_name
from labsim.wire.ost import NiobufRemote, ObdIoobj, Obdo, OstBody

RECOVERABLE = (errno.EIO, errno.EROFS, errno.ENOMEM, errno.EAGAIN, errno.EINPROGRESS)
"""osc_recoverable_error; the last is asked for again without end."""
MAX_SHORT_IO = 64 << 10
"""OBD_MAX_SHORT_IO_BYTES."""


class BulkIo(Component):
    """Base of Osc: bulk RPCs that come through undamaged."""

    host: Host
    imp: Import
    name: str
    grant: GrantAccount
    node: Any
    stats: Any
    resend_count: int

    checksums = Param.flag(True, help="guard bulk data with a checksum")
    checksum_dump = Param.flag(False, help="keep a file of data whose checksum is wrong")
    short_io_bytes = Param.count(
        16384, high=MAX_SHORT_IO, unit="bytes", help="data up to here travels inside the RPC"
    )
    _cksum_type = 0
    """The kind that was chosen by hand; 0: the best that the OST knows."""

    def announced(self, oa: Obdo) -> Obdo:
        """`oa` with what the OST should know of this client's grant, at the moment of sending."""
        raise NotImplementedError

    def call(self, request: Request, counter: str) -> Steps[Any]:
        """Send a request and count it."""
        raise NotImplementedError

    # ---- which checksum

    def cksum_types(self) -> int:
        """The kinds (OBD_CKSUM_*) that both sides know; an OST that negotiates none takes adler."""
        if self.imp.granted(OBD_CONNECT_CKSUM):
            return self.imp.connect_data.cksum_types & self.host.kit.traits.cksum_types
        return OBD_CKSUM_ADLER

    def cksum_type(self) -> int:
        """The kind in use."""
        kinds = self.cksum_types()
        return self._cksum_type if self._cksum_type & kinds else cksum.choose(kinds)

    @Param.computed(access="rw", help="the kind of checksum, among those that the OST knows")
    def checksum_type(self) -> str:
        """The kinds in Lustre's order, a blank after each, the one in use in brackets."""
        kinds, used = self.cksum_types(), self.cksum_type()
        shown = [f"[{name}]" if kind == used else name
                 for name, kind in cksum.NAMES.items() if kinds & kind]  # fmt: skip
        return "".join(f"{name} " for name in shown) + "\n"

    def store_checksum_type(self, text: str) -> None:
        """Take a name; EINVAL for one that is not known to both sides."""
        kind = cksum.NAMES.get(text.strip(), 0)
        if not kind & self.cksum_types():
            raise LustreError(errno.EINVAL, f"checksum_type {text.strip()}")
        self._cksum_type = kind

    # ---- one bulk RPC

    def bulk(
        self,
        opcode: int,
        oa: Obdo,
        ranges: list[tuple[int, int]],
        data: Payload | None,
        flags: int = 0,
        on_lost: Callable[[Request], None] | None = None,
        jobid: str = "",
    ) -> Steps[tuple[Request, Message, Payload]]:
        """Write `data` to ranges (offset, length), or read one; request, reply, what was read.

        `flags` are of the niobufs, `jobid` names the job it is for (empty: that of the caller).
        Sent again, a second later each time, while its checksum says that it was damaged, or the
        OST says what may pass (`RECOVERABLE`): up to `resend_count` times, and not to an OST that
        has forgotten this client since (osc_brw_redo_request). RECOV_RESEND tells that the grant
        was counted; a connection made since has counted anew.
        """
        tries, life = 0, self.grant.epoch
        while True:
            yield from self.host.faults.visit(points.OSC_DELAY_IO)
            request = yield from self._request(opcode, oa, ranges, data, flags)
            request.on_lost, request.jobid, request.no_retry = on_lost, jobid, True
            try:
                reply = yield from self.call(request, opcode_name(opcode).lower())
            except LustreError as error:
                if error.reply is None or error.errno not in RECOVERABLE:
                    raise
                failed = error
                self.host.trace.emit("osc.redo", self.name, opcode, error.errno)
            else:
                self._carried(request, reply)
                got = self._got(request, reply)
                intact, got = yield from self._check(request, reply, got)
                if intact:
                    return request, reply, got
                self.host.trace.emit("osc.damaged", self.name, opcode, ranges[0][0])
                self.grant.avail += reply["ost_body"].oa.grant
                failed = LustreError(errno.EIO, f"{self.name}: damaged {tries + 1} times")
                if data is None:
                    oa = oa.replace(nlink=self._cksum_of(request, reply, got))
            tries += 1
            endless = failed.errno == errno.EINPROGRESS or not self.resend_count
            if not endless and tries > self.resend_count:
                number = errno.EIO if failed.errno == errno.EAGAIN else failed.errno
                raise LustreError(number, str(failed))
            connection = self.imp.conn_cnt
            yield self.host.env.timeout(min(tries * NS_PER_S, self.imp.patience_ns(request)))
            yield from self.imp.wait_usable(request)
            if life != self.grant.epoch:
                raise LustreError(errno.EIO, f"{self.name}: evicted")
            again = oa.flags & ~OBD_FL_RECOV_RESEND
            if connection == self.imp.conn_cnt:
                again |= OBD_FL_RECOV_RESEND
            oa = oa.replace(valid=oa.valid | OBD_MD_FLFLAGS, flags=again)

    def _request(
        self,
        opcode: int,
        oa: Obdo,
        ranges: list[tuple[int, int]],
        data: Payload | None,
        niobuf_flags: int,
    ) -> Steps[Request]:
        yield from self.host.faults.visit(points.OSC_BRW_PREP_REQ)
        yield from self.host.faults.visit(points.OSC_BRW_PREP_REQ2)
        length = sum(one for _, one in ranges)
        flags = valid = 0
        value = oa.nlink
        short = self._may_be_short(ranges, length)
        if short:
            flags |= OBD_FL_SHORT_IO
        if self.checksums:
            kind = self.cksum_type()
            flags |= cksum.to_flags(kind)
            valid |= OBD_MD_FLCKSUM
            if data is not None:
                value = cksum.checksum(kind, data, ranges)
                if (yield from self._hit(points.OSC_CHECKSUM_SEND)):
                    value = value + 1 & 0xFFFFFFFF
        if flags:
            valid |= OBD_MD_FLFLAGS
            oa = oa.replace(valid=oa.valid | valid, flags=oa.flags | flags, nlink=value)
        oa = self.announced(oa)
        bulk: dict[str, Any] = {}
        if short and data is not None:
            bulk["short_io"] = data
        elif not short:
            bulk |= {"bulk_in": length} if data is None else {"bulk_out": data}
        last = 0 if short else max(1, -(-length // MIB)) - 1
        return Request(
            opcode,
            ost_body=OstBody(oa=oa),
            obd_ioobj=[ObdIoobj(oid=oa.oi, max_brw=last << 16, bufcnt=len(ranges))],
            niobuf_remote=[
                NiobufRemote(offset=at, len=size, flags=niobuf_flags) for at, size in ranges
            ],
            **bulk,
        )

    def _may_be_short(self, ranges: list[tuple[int, int]], length: int) -> bool:
        """May the data travel inside the RPC? Only one range of it, and little."""
        short = length <= self.short_io_bytes and len(ranges) == 1
        return short and self.imp.granted(OBD_CONNECT_SHORTIO)

    def _carried(self, request: Request, reply: Message) -> None:
        """Count what a BRW moved (ptlrpc_lprocfs_brw)."""
        if request.opcode == OST_READ:
            self.stats.add("read_bytes", reply.status, "bytes", squares=True)
        else:
            nbytes = sum(one.len for one in request.fields["niobuf_remote"])
            self.stats.add("write_bytes", nbytes, "bytes", squares=True)

    def _got(self, request: Request, reply: Message) -> Payload:
        """What a read brought: its status says how much."""
        if request.opcode != OST_READ:
            return b""
        data = request.data if request.bulk_in is not None else reply.get("short_io") or b""
        return piece(data, 0, reply.status)

    def _check(self, request: Request, reply: Message, got: Payload) -> Steps[tuple[bool, Payload]]:
        """Does the OST's checksum fit ours? A reply without one is believed."""
        theirs: Obdo = reply["ost_body"].oa
        if not theirs.valid & OBD_MD_FLCKSUM:
            return True, got
        if request.opcode == OST_WRITE:
            ours: Obdo = request.fields["ost_body"].oa
            value, data = ours.nlink, request.fields.get("short_io") or request.bulk_out or b""
            intact = not ours.valid & OBD_MD_FLCKSUM or theirs.nlink == value
        else:
            if got and (yield from self._hit(points.OSC_CHECKSUM_RECEIVE)):
                got = join([b"bad1"[: len(got)], piece(got, 4, len(got))])
            value, data = self._cksum_of(request, reply, got), got
            intact = theirs.nlink == value
        if not intact and self.checksum_dump:
            self._dump(request, data, value, theirs.nlink)
        return intact, got

    def _cksum_of(self, request: Request, reply: Message, got: Payload) -> int:
        """Our checksum of what a read brought, of the kind that the OST's is."""
        kind = cksum.from_flags(reply["ost_body"].oa.flags & OBD_FL_CKSUM_ALL)
        ranges = [(one.offset, one.len) for one in request.fields["niobuf_remote"]]
        return cksum.checksum(kind, got, ranges)

    def _dump(self, request: Request, data: Payload, ours: int, theirs: int) -> None:
        """Keep all pages of what is damaged, once for each range and pair of checksums."""
        niobufs = request.fields["niobuf_remote"]
        data = join([data, bytes(sum(one.len for one in niobufs) - len(data))])
        extent = niobufs[0].offset, niobufs[-1].offset + niobufs[-1].len
        name = checksum_dump("osc", request.fields["ost_body"].oa, extent, ours, theirs)
        self.node.globals.dump(name, data)

    def _hit(self, point: Point) -> Steps[bool]:
        """Is a point hit that damages something?"""
        try:
            yield from self.host.faults.visit(point)
        except LustreError:
            return True
        return False

"""Moving the bytes of objects: the bulk reads and writes of one OSC.

Knows cached objects and BRWs, not files; what is dirty and when it goes is `writeback`'s. Stands
for osc_build_rpc, brw_interpret and osc_announce_cached (osc_request.c).
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.payload import Payload, join, piece
from labsim.base.units import PAGE_SIZE
from labsim.ldlm.client import ClientNamespace
from labsim.ldlm.client_lock import ClientLock
from labsim.net.ptlrpc import State
from labsim.nodes.client.brw import BulkIo
from labsim.nodes.client.dirty import DirtyExtent, page_bytes
from labsim.nodes.client.osc_object import OscObject
from labsim.nodes.client.page_lru import PageLru
from labsim.nodes.client.rpc_stats import RpcStats
from labsim.nodes.client.writeback import Writeback
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Permits, gather
from labsim.wire.constants import (
    OBD_BRW_ASYNC,
    OBD_BRW_FROM_GRANT,
    OBD_BRW_SOFT_SYNC,
    OBD_BRW_SRVLOCK,
    OBD_BRW_SYNC,
    OBD_MD_FLBLOCKS,
    OBD_MD_FLCTIME,
    OBD_MD_FLFID,
    OBD_MD_FLGRANT,
    OBD_MD_FLGROUP,
    OBD_MD_FLHANDLE,
    OBD_MD_FLID,
    OBD_MD_FLMTIME,
)
from labsim.wire.message import Message
from labsim.wire.opcodes import OST_READ, OST_WRITE
from labsim.wire.ost import Obdo
from labsim.wire.schema import OstId

BRW_VALID = (
    OBD_MD_FLID | OBD_MD_FLGROUP | OBD_MD_FLFID | OBD_MD_FLGRANT | OBD_MD_FLBLOCKS | OBD_MD_FLHANDLE
)


NO_OBJECTS: dict[Any, OscObject] = {}
"""Of an OSC that never had any; never changed in place."""


class OscIo(Writeback, RpcStats, BulkIo):
    """The part of an Osc that reads and writes."""

    ldlm: ClientNamespace
    max_rpcs_in_flight: int
    max_pages_per_rpc: int

    objects: dict[Any, OscObject] = NO_OBJECTS
    """What is cached, by resource; an object is here as long as it has locks or is in use."""
    _slots: Permits | None = None
    lockless_written = lockless_read = 0
    """Bytes that went to and from a contended object without a lock of this client's."""

    # ---- objects

    def watch_grant(self) -> None:
        """Give grant back when it is not used for long."""
        raise NotImplementedError

    def object(self, lru: PageLru, oi: OstId, fid: Fid) -> OscObject:
        """The object `oi`, of file `fid`, as this client has it."""
        if self.objects is NO_OBJECTS:
            self.objects = {}
            self._start_writeback()
            self.watch_grant()
        new = OscObject(self, lru, oi, fid)
        known = self.objects.get(new.resource)
        if known is None:
            known = self.objects[new.resource] = new
        return known

    def forget(self, obj: OscObject) -> None:
        """No lock is left on an object: nothing is cached, so it need not be remembered."""
        if obj.users or obj.dirty or obj.error or obj.async_rc or obj.bytes.total:
            return
        obj.gone = True
        obj.lru.remove(obj)
        self.objects.pop(obj.resource, None)

    def pending_pages(self) -> int:
        """Dirty pages that are in no RPC yet."""
        waiting = [one for obj in self.objects.values() for one in obj.dirty.waiting]
        return sum(one.bytes for one in waiting) // PAGE_SIZE

    # ---- limits

    def slots(self) -> Permits:
        """One for each bulk RPC that may be on the wire."""
        if self._slots is None:
            self._slots = Permits(self.host.env, self.max_rpcs_in_flight)
        elif self._slots.size != self.max_rpcs_in_flight:
            self._slots.resize(self.max_rpcs_in_flight)
        return self._slots

    def chunks(self, start: int, end: int) -> list[tuple[int, int]]:
        """(start, end) of the BRWs for a range; their bounds are multiples of a full BRW."""
        full = self.rpc_bytes()
        chunks = []
        while start < end:
            stop = min(start - start % full + full, end)
            chunks.append((start, stop))
            start = stop
        return chunks

    def _brw_obdo(self, obj: OscObject, lock: ClientLock | None, **fields: Any) -> Obdo:
        """The obdo of a BRW: whose object it is, and which lock covers it (None: no client's)."""
        return Obdo(
            valid=BRW_VALID | fields.pop("valid", 0),
            oi=obj.oi,
            parent_seq=obj.fid.seq,
            parent_oid=obj.fid.oid,
            parent_ver=obj.fid.ver,
            handle=lock.server_handle if lock is not None else 0,
            **fields,
        )

    def announced(self, oa: Obdo) -> Obdo:
        """What is lost is said only if the RPC goes out now: a connection made anew has said it."""
        grant = self.grant
        return oa.replace(
            blocks=grant.dirty_grant,
            mode=grant.wanted(self.max_dirty_bytes, self.rpc_bytes(), self.max_rpcs_in_flight),
            grant=grant.avail + grant.reserved,
            misc=grant.announce() if self.imp.state is State.FULL else 0,
        )

    # ---- writing

    def send_write(
        self, obj: OscObject, extents: list[DirtyExtent], parts: list[Payload]
    ) -> Steps[list[tuple[DirtyExtent, int]]]:
        """Write dirty ranges in one BRW; those that failed, with their errnos."""
        used = sum(one.grant for one in extents)
        oa = self._dated_obdo(obj, extents[-1].lock).replace(data_version=used)
        ranges = [(one.start, one.end - one.start) for one in extents]
        self.bulk_sent(True, extents[0].start, sum(one.bytes for one in extents))
        try:
            xid, reply = yield from self._write(
                obj, oa, ranges, join(parts), OBD_BRW_FROM_GRANT | OBD_BRW_ASYNC | self._soft(obj)
            )
        except LustreError as error:
            return [(one, error.errno) for one in extents]
        finally:
            self.bulk_done(True)
        self._settle(obj, xid, reply)
        return [(one, abs(rc)) for one, rc in zip(extents, reply["rcs"], strict=True) if rc]

    def write_through(
        self, obj: OscObject, lock: ClientLock | None, at: int, payload: Payload
    ) -> Steps[None]:
        """Write at once and without grant; on disk when this returns (OBD_BRW_SYNC).

        Without a lock the OST takes one for each BRW (OBD_BRW_SRVLOCK).
        """
        yield from self.flush(obj, at, at + len(payload))
        yield from gather(
            self.host.env,
            [
                self._write_one(obj, lock, start, piece(payload, start - at, end - at))
                for start, end in self.chunks(at, at + len(payload))
            ],
        )

    def _write_one(
        self, obj: OscObject, lock: ClientLock | None, start: int, data: Payload
    ) -> Steps[None]:
        slots = self.slots()
        yield from slots.take()
        now = self.host.clock.seconds()
        obj.mtime, obj.ctime = now, now
        self.bulk_sent(True, start, page_bytes(start, start + len(data)))
        try:
            oa = self._dated_obdo(obj, lock)
            ranges = [(start, len(data))]
            flags = OBD_BRW_SYNC
            if lock is None:
                flags |= OBD_BRW_SRVLOCK
                self.lockless_written += len(data)
            xid, reply = yield from self._write(obj, oa, ranges, data, flags)
        except LustreError:
            obj.force_sync = True
            raise
        finally:
            self.bulk_done(True)
            slots.give()
        self._settle(obj, xid, reply)
        failed = next((code for code in reply["rcs"] if code), 0)
        if failed:
            obj.force_sync = True
            raise LustreError(abs(failed), f"{self.name}: write at {start}")

    def _dated_obdo(self, obj: OscObject, lock: ClientLock | None) -> Obdo:
        return self._brw_obdo(
            obj, lock, valid=OBD_MD_FLMTIME | OBD_MD_FLCTIME, mtime=obj.mtime, ctime=obj.ctime
        )

    def _soft(self, obj: OscObject) -> int:
        """OBD_BRW_SOFT_SYNC where much is kept for a replay that the OST could have on disk."""
        busy = self.imp.uncommitted_bytes > self.rpc_bytes() * self.max_rpcs_in_flight
        return OBD_BRW_SOFT_SYNC if busy and obj.lru.over_unstable() else 0

    def _write(
        self,
        obj: OscObject,
        oa: Obdo,
        ranges: list[tuple[int, int]],
        data: Payload,
        flags: int,
    ) -> Steps[tuple[int, Message]]:
        request, reply, _ = yield from self.bulk(
            OST_WRITE, oa, ranges, data, flags, obj.lost, obj.job
        )
        self.grant.avail += reply["ost_body"].oa.grant
        return request.xid, reply

    def _settle(self, obj: OscObject, xid: int, reply: Message) -> None:
        """What a good answer says: the object's blocks, and that writes may be cached again."""
        oa = reply["ost_body"].oa
        if oa.valid & OBD_MD_FLBLOCKS:
            obj.blocks = oa.blocks
        if obj.force_sync and xid >= obj.min_xid:
            obj.force_sync = False

    # ---- reading

    def fetch(
        self, obj: OscObject, lock: ClientLock | None, start: int, end: int
    ) -> Steps[Payload]:
        """Read [start, end) of one BRW from the OST; short where the object ends."""
        slots = self.slots()
        yield from slots.take()
        oa = self._brw_obdo(obj, lock)
        self.bulk_sent(False, start, page_bytes(start, end))
        try:
            flags = OBD_BRW_SRVLOCK if lock is None else 0
            _, reply, got = yield from self.bulk(OST_READ, oa, [(start, end - start)], None, flags)
            if lock is None:
                self.lockless_read += len(got)
        finally:
            self.bulk_done(False)
            slots.give()
        self.grant.avail += reply["ost_body"].oa.grant
        return got

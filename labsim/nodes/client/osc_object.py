"""One object of an OST as a client has it: cached bytes, dirty bytes, size and times, and the locks
that make them true.

Sends nothing. Stands for struct osc_object with its pages (osc_object.c, osc_page.c), the extent
merging of osc_cache.c, and the callbacks of osc_lock.c. Everything cached lies under an extent lock
of this client; when the last lock over a range goes, so does what is cached there.

Bytes are cached, not pages: a write of part of a page makes only that part known and dirty, where
Lustre would read the rest of the page first. The rest is read when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.payload import Chain, Fill, Payload, join, pattern, piece, tobytes
from labsim.base.units import MIB
from labsim.fast import ExtentMap
from labsim.ldlm.client_lock import ClientLock, LockState
from labsim.ldlm.resource import ResName, ost_resource
from labsim.nodes.client.dirty import PAGE_LAST, PAGE_SHIFT, Dirty, DirtyExtent
from labsim.nodes.client.page_lru import WINDOW_SHIFT, PageLru
from labsim.nodes.client.tail import Tail
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    LCK_GROUP,
    LCK_PW,
    OBD_OBJECT_EOF,
    OST_LVB_ERR_INIT,
    OST_LVB_ERR_MASK,
)
from labsim.wire.ost import Obdo, OstLvb
from labsim.wire.schema import OstId

EIO, ENOSPC = 5, 28

SMALL, FEW = 1 << 16, 4
"""Bytes in more pieces than that, all smaller than this, are put together before they are sent."""


class OscObject:
    """Cached bytes of one object. `size` is the known minimum size (kms) while a lock is held.

    `users` counts operations in progress: as long as there are any, the object is not forgotten.
    `readers` are those that need what is cached to stay: nothing is thrown out to make room.
    """

    __slots__ = (
        "_active", "_lock", "_tail", "async_rc", "atime", "blocks", "bytes", "ctime", "dirty",
        "doomed", "error", "fetches", "fid", "force_sync", "gone", "job", "lru", "min_xid", "mtime",
        "number", "oi", "osc", "readers", "resource", "size", "users", "windows",
    )  # fmt: skip

    def __init__(self, osc: Any, lru: PageLru, oi: OstId, fid: Fid) -> None:
        self.osc = osc
        self.lru = lru
        self.oi = oi
        self.fid = fid
        self.resource: ResName = ost_resource(oi.id, oi.seq)
        self.number = lru.new_number()
        self.windows: dict[int, None] = {}
        """Those of its windows that the LRU has."""
        self.bytes: ExtentMap[Payload] = ExtentMap()
        self.dirty = Dirty()
        self.fetches: list[tuple[int, int, Any]] = []
        """What is being read: start, end, and an event for its arrival."""
        self.size = self.blocks = self.mtime = self.atime = self.ctime = 0
        self.error = 0
        """AS_EIO or AS_ENOSPC of the mapping: the errno of a failed write-back, not yet told."""
        self.async_rc = 0
        """ar_rc: the same for close."""
        self.job = ""
        """Whose work its dirty pages are: the last writer's (lli_jobid)."""
        self.force_sync = False
        self.min_xid = 0
        self.users = self.readers = 0
        self.doomed = False
        """Its file has no name any more; nobody will want to know of errors."""
        self.gone = False
        self._lock: ClientLock | None = None
        self._active: DirtyExtent | None = None
        self._tail = Tail()

    # ---- size and times

    def locks(self, but: ClientLock | None = None) -> Iterable[ClientLock]:
        """The granted locks that cover parts of the object."""
        granted = LockState.GRANTED
        return [
            one
            for one in self.osc.ldlm.of(self.resource)
            if one is not but and one.state is granted and not one.failed
        ]

    def size_is_known(self) -> bool:
        """Does a lock of ours keep everybody from making the object longer or shorter?"""
        return any(
            one.policy.end == OBD_OBJECT_EOF
            and one.policy.start <= self.size
            and one.usable
            and one.mode != LCK_GROUP
            for one in self.locks()
        )

    def learn(self, lock: ClientLock) -> None:
        """A lock came with a value block; it says no more than what lies under the lock."""
        if not len(lock.lvb):
            return
        lvb = unpack_lvb(lock.lvb)
        lock.lvb = b""
        self.size = max(self.size, min(lvb.size, lock.policy.end + 1))
        self.blocks = lvb.blocks
        self.take_times(lvb)

    def take_times(self, source: Any) -> None:
        """Later times than those known, from an OstLvb or an Obdo (cl_lvb2attr)."""
        self.mtime = max(self.mtime, source.mtime)
        self.atime = max(self.atime, source.atime)
        self.ctime = max(self.ctime, source.ctime)

    def punched(self, oa: Obdo, size: int) -> None:
        """The OST has cut or grown the object to `size`."""
        self.size = size
        self.blocks = oa.blocks
        self.mtime, self.atime, self.ctime = oa.mtime, oa.atime, oa.ctime

    def lvb(self) -> OstLvb:
        """Size and times as this client has them; a block where only dirty pages would show."""
        blocks = self.blocks
        if self.size and not blocks and self.dirty:
            blocks = 1
        return OstLvb(
            size=self.size, mtime=self.mtime, atime=self.atime, ctime=self.ctime, blocks=blocks
        )

    def merged(self, told: OstLvb) -> OstLvb:
        """What the OST says, and what this client knows better: its own dirty pages."""
        mine = self.lvb()
        return told.replace(
            size=max(told.size, mine.size),
            blocks=max(told.blocks, mine.blocks),
            mtime=max(told.mtime, mine.mtime),
            atime=max(told.atime, mine.atime),
            ctime=max(told.ctime, mine.ctime),
        )

    def glimpsed(self, lock: ClientLock) -> bytes:
        """The answer to a glimpse callback."""
        return self.lvb().pack()

    # ---- writing

    def use(self, lock: ClientLock) -> None:
        """Writes that this lock covers may go the short way from now on."""
        if lock.mode in (LCK_PW, LCK_GROUP):
            self._lock = lock

    def put(self, at: int, end: int, payload: Payload) -> bool:
        """Make [at, end) dirty under a lock that is here already, if nothing has to be waited for.

        The short way for who writes on and on; False: take the long way.
        """
        lock = self._lock
        if lock is None or lock.state is not LockState.GRANTED or lock.cancel_pending:
            return False
        extent = self._active
        if extent is None or at != extent.end or end > extent.limit or extent.taken:
            return self._put_anew(lock, at, end, payload)
        pages = (end + PAGE_LAST >> PAGE_SHIFT) - (at + PAGE_LAST >> PAGE_SHIFT)
        if pages and not self.osc.may_dirty(self, pages << PAGE_SHIFT, pages << PAGE_SHIFT):
            return False
        extent.end = end
        self._keep(at, end, payload)
        if end == extent.limit:
            self._active = None
            self.osc.grown(self, extent)
        if self.lru.used > self.lru.next_try:
            self.lru.trim()
        return True

    def _put_anew(self, lock: ClientLock, at: int, end: int, payload: Payload) -> bool:
        limit = self.limit(at)
        first, last = span(lock)
        if end > limit or at < first or end > last:
            return False
        need = self.dirty.cost(at, end, limit, self.osc.grant.tax)
        if need.pages > 0 or need.grant > 0:
            if not self.osc.may_dirty(self, *need):
                return False
        else:
            self.osc.grant.unreserve(-need.pages, -need.grant)
        self.dirtied(lock, at, end, payload)
        return True

    def limit(self, at: int) -> int:
        """Where the BRW that byte `at` belongs to ends."""
        full: int = self.osc.rpc_bytes()
        return at - at % full + full

    def dirtied(self, lock: ClientLock, at: int, end: int, payload: Payload) -> None:
        """[at, end) of one BRW is dirty; its grant is taken."""
        self.job = self.osc.imp.rpc.jobid()
        limit = self.limit(at)
        now_ns, tax = self.osc.host.env.now, self.osc.grant.tax
        extent = self.dirty.add(at, end, limit, lock, now_ns, tax)
        following = self.dirty.next_start(extent.end)
        last = min(extent.limit, span(lock)[1])
        free = last == extent.limit and (following is None or following >= last)
        self._active = extent if free else None
        self._keep(at, end, payload)
        self.osc.grown(self, extent)
        self.lru.trim()

    def written(self, at: int, end: int, payload: Payload) -> None:
        """[at, end) went straight to the OST, and is cached as well."""
        self._active = None
        self._keep(at, end, payload)

    def _keep(self, at: int, end: int, payload: Payload) -> None:
        """Cache what was written, and what that says of the object."""
        if isinstance(payload, (Fill, Chain)) or (end - at >= SMALL and type(payload) is bytes):
            self.store(at, end, payload)
        else:
            tail = self._tail
            offset = tail.put(at, payload)
            self.store(at, end, tail.buffer, offset)
        self.size = end if end > self.size else self.size
        now = self.osc.host.clock.seconds()
        if now != self.mtime:
            self.mtime = now
            self._touch_lock()
        self.ctime = now

    def _touch_lock(self) -> None:
        """The lock that the short way relies on is in use; said once a second."""
        lock = self._lock
        if lock is not None and lock.usable:
            self.osc.ldlm.put(self.osc.ldlm.use(lock))

    # ---- cached bytes

    def store(self, at: int, end: int, payload: Payload, offset: int = 0) -> None:
        """[at, end) are these bytes."""
        if isinstance(payload, Chain):
            low, whole = at, payload[offset : offset + end - at]
            for part in whole.pieces if isinstance(whole, Chain) else (whole,):
                self.store(low, low + len(part), part)
                low += len(part)
            return
        if isinstance(payload, Fill):
            payload, offset = pattern(payload, at - offset), at
        kept, lru = self.bytes, self.lru
        before = kept.total
        kept.insert(at, end, payload, offset)
        lru.used += kept.total - before
        window, last = at >> WINDOW_SHIFT, end - 1 >> WINDOW_SHIFT
        lru.touch(self, window)
        while window < last:
            window += 1
            lru.touch(self, window)

    def fill(self, at: int, end: int, payload: Payload) -> None:
        """What was read of [at, end): where newer bytes were written meanwhile, those stay."""
        for low, high, value, _ in self.bytes.walk(at, end):
            if value is None:
                self.store(low, high, payload, low - at)

    def cached(self, at: int, end: int) -> Payload | None:
        """[at, end), if all of it is here."""
        found = self.bytes.pieces(at, end)
        if len(found) == 1:
            low, high, value, offset = found[0]
            if low != at or high != end:
                return None
            return piece(value, offset, offset + end - at)
        parts = []
        for low, high, value, offset in found:
            if low != at:
                return None
            at = high
            parts.append(piece(value, offset, offset + high - low))
        return join(parts) if at == end else None

    def missing(self, at: int, end: int) -> list[tuple[int, int]]:
        """The ranges of [at, end) that are not here."""
        return [(low, high) for low, high, value, _ in self.bytes.walk(at, end) if value is None]

    def absent(self, at: int, end: int) -> list[tuple[int, int]]:
        """The ranges of [at, end) that are neither here nor on their way."""
        found = self.missing(at, end)
        for low, high, _ in self.fetches if found else ():
            found = [
                part
                for start, stop in found
                for part in ((start, min(stop, low)), (max(start, high), stop))
                if part[0] < part[1]
            ]
        return found

    def drop(self, at: int, end: int) -> None:
        """Cache nothing of [at, end) any more; what is dirty there is the caller's business."""
        self.lru.used -= self.bytes.punch(at, end)

    def drop_clean(self, at: int, end: int) -> int:
        """Forget what is in [at, end) but not dirty; how many bytes."""
        gone = 0
        for one in sorted(self.dirty.meeting(at, end), key=lambda one: one.start):
            if at < one.start:
                gone += self.bytes.punch(at, one.start)
            at = max(at, one.end)
        if at < end:
            gone += self.bytes.punch(at, end)
        self.lru.used -= gone
        return gone

    def payload(self, extent: DirtyExtent) -> Payload:
        """The bytes of a dirty range; many small pieces of them are put together first."""
        start, end = extent.start, extent.end
        found = self.bytes.pieces(start, end)
        if len(found) > FEW and all(high - low < SMALL for low, high, _, _ in found):
            for at in range(start - start % MIB, end, MIB):
                self._pack(max(at, start), min(at + MIB, end))
            found = self.bytes.pieces(start, end)
        parts = [piece(value, offset, offset + high - low) for low, high, value, offset in found]
        data = join(parts)
        assert len(data) == end - start
        return data

    def _pack(self, start: int, end: int) -> None:
        """The same bytes in one piece from now on, unless that is patterns."""
        found = self.bytes.pieces(start, end)
        parts = [piece(value, offset, offset + high - low) for low, high, value, offset in found]
        data = join(parts)
        if not isinstance(data, Chain) or not any(isinstance(one, Fill) for one in data.pieces):
            data = tobytes(data) if isinstance(data, Chain) else data
        self.bytes.insert(start, end, data)

    # ---- dirty bytes that will not be written

    def truncate(self, size: int) -> None:
        """Nothing from `size` on is cached or dirty any more; what is being sent was waited for."""
        self.discard(size, OBD_OBJECT_EOF)

    def discard(self, start: int, end: int) -> None:
        """Throw [start, end) away, dirty or not (LDLM_FL_DISCARD_DATA)."""
        lost = self.dirty.cut(start, end)
        self._active = None
        if lost.grant:
            self.osc.grant.dropped(*lost)
        self.drop(start, end)
        self.osc.cleaned(self)

    def lose_dirty(self) -> None:
        """What waits to be written never will be: the OST has forgotten this client."""
        lost = [(one.start, one.end) for one in self.dirty.waiting]
        self._active = None
        for start, end in lost:
            self.dirty.cut(start, end)
            self.drop(start, end)

    def lost(self, request: Any) -> None:
        """What the OST had in memory only is perhaps gone, and cannot be replayed: say so."""
        self.failed(EIO)

    def failed(self, errno: int) -> None:
        """A write-back failed: fsync and close will say so (mapping_set_error, osc_process_ar)."""
        if self.doomed:
            return
        self.error = ENOSPC if errno == ENOSPC else EIO
        self.async_rc = self.async_rc or errno

    # ---- locks that go

    def blocking(self, lock: ClientLock) -> Steps[None] | None:
        """A lock is given back: first write what is dirty under it, then forget what it covered."""
        if lock is self._lock:
            self._lock = None
        start, end = span(lock)
        if not lock.discard and self.dirty.meeting(start, end):
            return self._flush(lock, start, end)
        self.uncover(lock)
        return None

    def _flush(self, lock: ClientLock, start: int, end: int) -> Steps[None]:
        self.users += 1
        try:
            yield from self.osc.flush(self, start, end, 2)
        finally:
            self.users -= 1
        self.uncover(lock)

    def uncover(self, lock: ClientLock) -> None:
        """What only this lock covered is forgotten, and the size that it guaranteed."""
        low, end = span(lock)
        others = sorted(map(span, self.locks(but=lock)))
        highest = 0
        for start, stop in others:
            highest = max(highest, stop)
            if stop <= low or start >= end:
                continue
            if low < start:
                self.discard(low, start)
            low = max(low, stop)
        if low < end:
            self.discard(low, end)
        self.size = min(self.size, highest)
        if not others:
            self.blocks = self.mtime = self.atime = self.ctime = 0
            self.osc.forget(self)

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants: ranges [start, end) that are cached and that are dirty,
        and the locks over them: cookie, start, end.
        """
        return {
            "fid": str(self.fid),
            "resource": list(self.resource),
            "size": self.size,
            "cached": merged((low, high) for low, high, _, _ in self.bytes.pieces()),
            "dirty": merged(
                sorted((one.start, one.end) for one in (*self.dirty.waiting, *self.dirty.sent))
            ),
            "locks": [
                [lock.cookie, *span(lock)]
                for lock in self.osc.ldlm.of(self.resource)
                if lock.state in (LockState.GRANTED, LockState.CANCELING)
            ],
        }


def span(lock: ClientLock) -> tuple[int, int]:
    """The bytes [start, end) that an extent lock covers."""
    policy: Any = lock.policy
    return policy.start, min(policy.end + 1, OBD_OBJECT_EOF)


def guards_nothing(lock: ClientLock) -> bool:
    """Are there no bytes in the cache under a lock (osc_ldlm_weigh_ast)?"""
    obj: OscObject = lock.data
    return not obj.bytes.pieces(*span(lock))


def merged(ranges: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Sorted ranges with those put together that meet or touch."""
    found: list[list[int]] = []
    for start, end in ranges:
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([start, end])
    return found


def unpack_lvb(lvb: Any) -> OstLvb:
    """A value block; the errno in it where the OST could not look (OST_LVB_IS_ERR)."""
    value = OstLvb.unpack(bytes(lvb))
    if value.blocks & OST_LVB_ERR_MASK == OST_LVB_ERR_INIT & OST_LVB_ERR_MASK:
        raise LustreError(value.blocks & 0xFFFF or EIO, "value block")
    return value

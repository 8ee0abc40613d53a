"""When dirty pages of an OSC go out, in which RPCs, and who waits for room meanwhile.

Knows dirty ranges, grant and the limits of one OSC, not files or locks. Stands for the engine of
osc_cache.c: osc_enter_cache, osc_check_rpcs, osc_makes_rpc, osc_send_write_rpc, and the part of the
kernel's flusher that writes pages which have been dirty for long.
"""

from __future__ import annotations

from typing import Any

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.base.payload import Payload
from labsim.base.units import NS_PER_S, PAGE_SIZE
from labsim.net.ptlrpc import Import
from labsim.nodes.client import points
from labsim.nodes.client.dirty import DirtyExtent
from labsim.nodes.client.grant import GrantAccount, Need
from labsim.nodes.client.osc_object import OscObject
from labsim.runtime.ports import Host, Steps
from labsim.runtime.sync import Permits

DIRTY_EXPIRE_NS = 30 * NS_PER_S
"""vm.dirty_expire_centisecs: pages that were dirty for longer are written."""
FLUSHER_NS = 5 * NS_PER_S
"""vm.dirty_writeback_centisecs: how often the kernel looks for such pages."""


class Writeback(Component):
    """The part of an Osc that turns dirty ranges into writes."""

    host: Host
    imp: Import
    grant: GrantAccount
    objects: dict[Any, OscObject]
    max_dirty_bytes: int
    wrote_ns = 0
    """When grant was used last."""
    _asked = False
    """A process waits for a slot, to send then."""
    _flusher: Any = None

    def _start_writeback(self) -> None:
        """Called when the OSC has its first object."""
        self._ready: dict[OscObject, None] = {}
        """Objects with ranges that shall go out now."""
        self._dirty: dict[OscObject, None] = {}
        """All objects with ranges that wait."""
        self._waiters: list[tuple[Need, Any]] = []
        """Writers that wait for room: how much, and their event."""

    def slots(self) -> Permits:
        """max_rpcs_in_flight."""
        raise NotImplementedError

    def forget(self, obj: OscObject) -> None:
        """An object may not be needed any more."""
        raise NotImplementedError

    def rpc_bytes(self) -> int:
        """Bytes of one full BRW."""
        raise NotImplementedError

    def send_write(
        self, obj: OscObject, extents: list[DirtyExtent], parts: list[Payload]
    ) -> Steps[list[tuple[DirtyExtent, int]]]:
        """One BRW, from its bytes to its answer; the ranges that failed, with their errnos."""
        raise NotImplementedError

    # ---- room for dirty pages

    def may_dirty(self, obj: OscObject, pages: int, grant: int) -> bool:
        """Take grant for so many bytes of pages, if there is room (osc_enter_cache_try)."""
        return (
            not self._waiters
            and not obj.force_sync
            and not self.host.faults.is_armed(points.OSC_NO_GRANT)
            and self.grant.reserve(pages, grant, self.max_dirty_bytes)
        )

    def enter_cache(self, obj: OscObject, need: Need) -> Steps[bool]:
        """As `may_dirty`, but wait for room; False where there will be none (osc_enter_cache).

        That is so when nothing is dirty any more and there is still too little grant: the OST is
        full, or nearly so. The caller then writes without grant, and waits for what the OST says.
        """
        if self.max_dirty_bytes < PAGE_SIZE or obj.force_sync:
            return False
        try:
            yield from self.host.faults.visit(points.OSC_NO_GRANT)
        except LustreError:
            return False
        if not self._waiters and self.grant.reserve(*need, self.max_dirty_bytes):
            return True
        while self.grant.dirty:
            event = self.host.env.event()
            self._waiters.append((need, event))
            self.unplug()
            if (yield event):
                return True
        return False

    def _wake(self) -> None:
        """Let waiting writers have what became free, in their order (osc_wake_cache_waiters)."""
        waiters, grant = self._waiters, self.grant
        while waiters:
            need, event = waiters[0]
            room = grant.reserve(*need, self.max_dirty_bytes)
            if not room and grant.dirty:
                return
            del waiters[0]
            event.succeed(room)

    # ---- what changes

    def grown(self, obj: OscObject, extent: DirtyExtent) -> None:
        """A range is dirty, or longer; a full one goes out at once."""
        self.wrote_ns = self.host.env.now
        if obj not in self._dirty:
            self._dirty[obj] = None
            if self._flusher is None:
                self._arm_flusher(self.host.env.now)
        if extent.end == extent.limit and extent.bytes >= self.rpc_bytes():
            obj.dirty.ready[extent] = None
            self._ready[obj] = None
            self.unplug()
        elif self._waiters:
            self.unplug()

    def cleaned(self, obj: OscObject) -> None:
        """Dirty pages went without being written."""
        if not len(obj.dirty):
            self._dirty.pop(obj, None)
            self._ready.pop(obj, None)
        self._wake()

    def hurry(self, obj: OscObject, start: int, end: int, urgent: int = 1) -> list[DirtyExtent]:
        """Have what is dirty in [start, end) written soon; those ranges."""
        found = obj.dirty.hurry(start, end, urgent)
        if obj.dirty.ready:
            self._ready[obj] = None
            self.unplug()
        return found

    def flush(self, obj: OscObject, start: int, end: int, urgent: int = 1) -> Steps[None]:
        """Write what is dirty in [start, end) at this moment, and wait until that is done."""
        for extent in self.hurry(obj, start, end, urgent):
            event = extent.wait(self.host.env)
            if event is not None:
                yield event

    # ---- forming RPCs

    def unplug(self) -> None:
        """Send whatever shall go out, as far as max_rpcs_in_flight allows (osc_check_rpcs)."""
        while self._ready or (self._waiters and self._dirty):
            slots = self.slots()
            if not slots.try_take():
                self._ask_for_slot()
                return
            if not self._send_next():
                slots.give()
                return

    def _ask_for_slot(self) -> None:
        if not self._asked:
            self._asked = True
            self.host.env.process(self._send_when_possible())

    def _send_when_possible(self) -> Steps[None]:
        """Queue up with the readers for a slot, then send what is the most urgent by then."""
        slots = self.slots()
        yield from slots.take()
        self._asked = False
        if not self._send_next():
            slots.give()
        self.unplug()

    def _send_next(self) -> bool:
        """Form the next RPC; the caller has a slot for it. False where nothing can go."""
        urgent = sorted(self._ready, key=_urgency)
        pressed = bool(self._waiters)
        for obj in (*urgent, *(self._dirty if pressed else ())):
            extents = obj.dirty.take(self.rpc_bytes(), pressed)
            if not obj.dirty.ready:
                self._ready.pop(obj, None)
            if not extents:
                continue
            self._dirty.pop(obj, None)
            if len(obj.dirty):
                self._dirty[obj] = None
            parts = [obj.payload(one) for one in extents]
            self.host.env.process(self._write_out(obj, extents, parts))
            return True
        return False

    def _write_out(
        self, obj: OscObject, extents: list[DirtyExtent], parts: list[Payload]
    ) -> Steps[None]:
        """One RPC: then its pages are clean, or lost with an error that is kept for fsync."""
        epoch = self.grant.epoch
        pages, grant = sum(one.bytes for one in extents), sum(one.grant for one in extents)
        obj.users += 1
        failed = yield from self.send_write(obj, extents, parts)
        obj.users -= 1
        self.slots().give()
        if epoch == self.grant.epoch:
            self.grant.sent(pages, grant)
        for _, errno in failed:
            self.write_failed(obj, errno)
        obj.dirty.done(extents)
        for one, _ in failed:
            obj.drop_clean(one.start, one.end)
        if obj.dirty.ready:
            self._ready[obj] = None
        self._wake()
        self.unplug()
        obj.lru.trim()
        self.forget(obj)

    def write_failed(self, obj: OscObject, errno: int) -> None:
        """Pages are lost; the next writes wait for the OST's answer, until one goes well."""
        obj.failed(errno)
        obj.force_sync = True
        obj.min_xid = self.imp.rpc.next_xid()

    # ---- what is dirty for long

    def _arm_flusher(self, since_ns: int) -> None:
        """At the first turn of the kernel's flusher at which what is dirty since then is old."""
        due_ns = -(-(since_ns + DIRTY_EXPIRE_NS) // FLUSHER_NS) * FLUSHER_NS
        self._flusher = self.imp.rpc.deadlines.add(due_ns, self._expire)

    def _expire(self) -> None:
        """Write what was dirty for too long; look again when more will be."""
        self._flusher = None
        limit_ns = self.host.env.now - DIRTY_EXPIRE_NS
        oldest_ns = None
        for obj in list(self._dirty):
            since_ns = obj.dirty.oldest_ns()
            if since_ns is None:
                continue
            if since_ns <= limit_ns:
                self.hurry(obj, 0, 1 << 64)
            elif oldest_ns is None or since_ns < oldest_ns:
                oldest_ns = since_ns
        if oldest_ns is not None:
            self._arm_flusher(oldest_ns)

    def stop_flusher(self) -> None:
        """The OSC goes."""
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None

    # ---- what is lost

    def lose(self, errno: int) -> None:
        """The OST has forgotten this client: nothing dirty can be written any more."""
        self.grant.evicted()
        if not self.objects:
            return
        for obj in list(self.objects.values()):
            if len(obj.dirty):
                obj.failed(errno)
                obj.lose_dirty()
        self._dirty.clear()
        self._ready.clear()
        self._wake()


def _urgency(obj: OscObject) -> int:
    """Objects with the most urgent ranges first."""
    return -max((one.urgent for one in obj.dirty.ready), default=0)

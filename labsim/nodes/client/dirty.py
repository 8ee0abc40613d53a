"""What is dirty of one object: ranges of bytes that wait to be written, and those on their way.

A pure structure: no bytes, no I/O, no time. Stands for struct osc_extent and the trees and lists
of struct osc_object (osc_cache.c). Where Lustre reads a page before part of it is written, here a
range begins and ends at any byte; each range counts the pages that it touches, as its niobuf will.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

from labsim.nodes.client.grant import Need

PAGE_SHIFT = 12
PAGE_LAST = (1 << PAGE_SHIFT) - 1

MAX_RANGES = 256
"""The most ranges that go into one BRW (OSC_MAX_BRW_CHUNKS, PTLRPC_MAX_BRW_PAGES / 16)."""


def page_bytes(start: int, end: int) -> int:
    """Bytes of the pages that [start, end) touches."""
    return ((end + PAGE_LAST >> PAGE_SHIFT) - (start >> PAGE_SHIFT)) << PAGE_SHIFT


class DirtyExtent:
    """Bytes [start, end) of an object, all dirty; never beyond `limit`, where the next BRW begins.

    `lock` covers them. `urgent`: 0 may wait, 1 shall go out, 2 before everything else (a lock is
    wanted back). Once `taken` it is part of an RPC and does not change any more. `tax` is what it
    costs the OST to insert it (cl_grant_extent_tax).
    """

    __slots__ = (
        "end", "events", "finished", "into", "limit", "lock", "since_ns", "start", "taken", "tax",
        "urgent",
    )  # fmt: skip

    def __init__(
        self, start: int, end: int, limit: int, lock: Any, now_ns: int, tax: int = 0
    ) -> None:
        self.start = start
        self.end = end
        self.limit = limit
        self.lock = lock
        self.since_ns = now_ns
        self.tax = tax
        self.urgent = 0
        self.taken = False
        self.finished = False
        self.into: DirtyExtent | None = None
        """The extent that this one became part of."""
        self.events: list[Any] = []
        """Succeed when it is clean, or gone."""

    @property
    def bytes(self) -> int:
        """Bytes of its pages."""
        return page_bytes(self.start, self.end)

    @property
    def grant(self) -> int:
        """The grant it holds (oe_grants)."""
        return page_bytes(self.start, self.end) + self.tax

    def finish(self) -> None:
        """It is written or gone: wake who waits for that."""
        self.finished = True
        events, self.events = self.events, []
        for event in events:
            event.succeed()

    def wait(self, env: Any) -> Any:
        """An event for its end; None where that has come."""
        last = self
        while last.into is not None:
            last = last.into
        if last.finished:
            return None
        event = env.event()
        last.events.append(event)
        return event

    def __repr__(self) -> str:
        return f"DirtyExtent({self.start}-{self.end})"


class Dirty:
    """The dirty ranges of one object, in order; `sent` are those in RPCs.

    Waiting ranges never overlap one another. They may overlap one that is being sent: that is how
    a page is written again while it is on its way. Such a range waits until the older one is done.
    """

    __slots__ = ("_extents", "_starts", "ready", "sent")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._extents: list[DirtyExtent] = []
        self.ready: dict[DirtyExtent, None] = {}
        """Those that shall go out now: urgent, or as large as a BRW may be."""
        self.sent: list[DirtyExtent] = []

    def __len__(self) -> int:
        return len(self._extents)

    def __bool__(self) -> bool:
        return bool(self._extents or self.sent)

    @property
    def waiting(self) -> list[DirtyExtent]:
        """What is dirty and in no RPC."""
        return self._extents

    @property
    def bytes(self) -> int:
        """Bytes of pages, waiting and being sent."""
        return sum(one.bytes for one in (*self._extents, *self.sent))

    @property
    def grant(self) -> int:
        """The grant of all of them."""
        return sum(one.grant for one in (*self._extents, *self.sent))

    def oldest_ns(self) -> int | None:
        """Since when the oldest waiting range is dirty."""
        return min((one.since_ns for one in self._extents), default=None)

    # ---- what there is in a range

    def _span(self, start: int, end: int, touching: int = 0) -> tuple[int, int]:
        """The indices of the waiting ranges that meet [start, end), or only touch it."""
        first = bisect_right(self._starts, start)
        if first and self._extents[first - 1].end + touching > start:
            first -= 1
        last = bisect_left(self._starts, end + touching)
        return first, max(first, last)

    def meeting(self, start: int, end: int) -> list[DirtyExtent]:
        """Everything dirty in [start, end), being sent or waiting."""
        first, last = self._span(start, end)
        sent = [one for one in self.sent if one.start < end and one.end > start]
        return sent + self._extents[first:last]

    def next_start(self, position: int) -> int | None:
        """Where the first waiting range at or after `position` begins."""
        at = bisect_left(self._starts, position)
        return self._starts[at] if at < len(self._starts) else None

    # ---- more

    def cost(self, start: int, end: int, limit: int, tax: int) -> Need:
        """What there will be more with [start, end): one extent in place of those it joins."""
        first, last = self._joining(start, end, limit)
        old = self._extents[first:last]
        if not old:
            pages = page_bytes(start, end)
            return Need(pages, pages + tax)
        start, end = min(start, old[0].start), max(end, old[-1].end)
        pages = page_bytes(start, end) - sum(one.bytes for one in old)
        return Need(pages, pages - sum(one.tax for one in old[1:]))

    def _joining(self, start: int, end: int, limit: int) -> tuple[int, int]:
        """Those that [start, end) becomes one with: what it meets, and what it touches in a BRW."""
        first, last = self._span(start, end, 1)
        if first < last and self._extents[first].end == start and self._extents[first].limit < end:
            first += 1
        if first < last and self._extents[last - 1].start == end and end >= limit:
            last -= 1
        return first, last

    def add(
        self, start: int, end: int, limit: int, lock: Any, now_ns: int, tax: int = 0
    ) -> DirtyExtent:
        """[start, end) is dirty; the range that it is part of now."""
        first, last = self._joining(start, end, limit)
        old = self._extents[first:last]
        if not old:
            extent = DirtyExtent(start, end, limit, lock, now_ns, tax)
            self._starts.insert(first, start)
            self._extents.insert(first, extent)
            return extent
        extent = old[0]
        extent.start = min(start, extent.start)
        extent.end = max(end, old[-1].end)
        extent.limit = max(extent.limit, old[-1].limit, limit)
        extent.lock = lock
        for other in old[1:]:
            self._absorb(extent, other)
        self._starts[first:last] = [extent.start]
        self._extents[first:last] = [extent]
        return extent

    def _absorb(self, extent: DirtyExtent, other: DirtyExtent) -> None:
        extent.since_ns = min(extent.since_ns, other.since_ns)
        extent.urgent = max(extent.urgent, other.urgent)
        extent.events += other.events
        other.events = []
        other.into = extent
        if self.ready.pop(other, self) is None:
            self.ready[extent] = None

    def hurry(self, start: int, end: int, urgent: int) -> list[DirtyExtent]:
        """Have what waits in [start, end) sent; all that is dirty there."""
        found = self.meeting(start, end)
        for one in found:
            if not one.taken:
                one.urgent = max(one.urgent, urgent)
                self.ready[one] = None
        return found

    # ---- less

    def cut(self, start: int, end: int) -> Need:
        """Nothing that waits in [start, end) is dirty any more; the pages and grant that went."""
        first, last = self._span(start, end)
        pages = tax = 0
        for one in self._extents[first:last]:
            pages += self._cut_one(one, start, end)
            if one.finished:
                tax += one.tax
        return Need(pages, pages + tax)

    def _cut_one(self, one: DirtyExtent, start: int, end: int) -> int:
        before, low, high = one.bytes, one.start, one.end
        at = bisect_left(self._starts, low)
        if low < start:
            one.end = start
            if high > end:
                rest = DirtyExtent(end, high, one.limit, one.lock, one.since_ns)
                rest.urgent = one.urgent
                if one in self.ready:
                    self.ready[rest] = None
                self._starts.insert(at + 1, end)
                self._extents.insert(at + 1, rest)
                return before - one.bytes - rest.bytes
            return before - one.bytes
        if high > end:
            one.start = self._starts[at] = end
            return before - one.bytes
        self._forget(at)
        one.finish()
        return before

    def _forget(self, at: int) -> None:
        self.ready.pop(self._extents[at], None)
        del self._starts[at], self._extents[at]

    # ---- an RPC's worth

    def take(self, most: int, anything: bool) -> list[DirtyExtent]:
        """Ranges for one BRW of at most `most` bytes of pages, in order; they are `sent` then.

        The urgent first, then what is ready, then what else there is (get_write_extents). Nothing
        where nothing is ready, unless `anything` will do.
        """
        if not self.ready and not anything:
            return []
        wanted = sorted(self.ready, key=lambda one: (-one.urgent, one.start))
        chosen: dict[DirtyExtent, None] = {}
        room = most
        for one in (*wanted, *self._extents):
            size = one.bytes
            fits = size <= room or not chosen
            if one in chosen or not fits or self._on_its_way(one):
                continue
            chosen[one] = None
            room -= size
            if room <= 0 or len(chosen) == MAX_RANGES:
                break
        if not anything and not any(one in self.ready for one in chosen):
            return []
        return self._send(list(chosen))

    def _on_its_way(self, one: DirtyExtent) -> bool:
        """Is an older state of one of its pages in an RPC?"""
        low, high = one.start & ~PAGE_LAST, one.end + PAGE_LAST & ~PAGE_LAST
        return any(old.start < high and old.end > low for old in self.sent)

    def _send(self, chosen: list[DirtyExtent]) -> list[DirtyExtent]:
        chosen.sort(key=lambda one: one.start)
        for one in chosen:
            self._forget(bisect_left(self._starts, one.start))
            one.taken = True
        self.sent += chosen
        return chosen

    def done(self, extents: list[DirtyExtent]) -> None:
        """An RPC is over."""
        over = dict.fromkeys(extents)
        self.sent = [one for one in self.sent if one not in over]
        for one in extents:
            one.finish()

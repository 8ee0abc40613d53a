"""Extent locks on one object: which conflict, how far a lock grows, in what order groups wait.

Knows trees and queues, not clients or time. Stands for ldlm_extent.c. A client alone on an object
gets all of it. Among others it gets what is free above its request: downward a lock grows only
where nobody has a lock in its way at all. A writer in a crowd gets no more than 32 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from labsim.fast import IntervalTree
from labsim.ldlm.policy import Extent, Policy, compatible, group_of
from labsim.ldlm.resource import Lock, ResName, Resource
from labsim.wire.constants import LCK_CW, LCK_GROUP, LCK_PR, LCK_PW, OBD_OBJECT_EOF

MAX_GROWN_BYTES = 32 * 1024 * 1024 - 1
"""LDLM_MAX_GROWN_EXTENT: how far a writer's lock grows upward on a contended object."""

BUSY = 4
"""With more conflicting locks than this, locks do not grow downward."""

CONTENDED = 32
"""With more conflicting locks than this, a writer's growth is bounded."""

PAGE_BYTES = 4096
"""A page of the server must not be covered by the write locks of two clients."""

WHOLE = Extent()

Trees: TypeAlias = dict[int, IntervalTree[Lock]]
"""Locks by their mode."""


class ExtentResource(Resource):
    """The extent locks on one object; those of each mode in interval trees, granted and waiting."""

    __slots__ = ("_queued", "_queued_by", "_trees", "contended_ns")

    def __init__(self, name: ResName, kind: int) -> None:
        super().__init__(name, kind)
        self._trees: Trees = {}
        self._queued: Trees = {}
        self._queued_by: dict[int, dict[int, Lock]] = {}
        """The waiting locks of each client."""
        self.contended_ns = 0
        """When so many locks were last in the way of one that the object counts as contended."""

    # ---- what is granted

    def admit(self, lock: Lock) -> None:
        """Put `lock` among the granted ones as it is."""
        super().admit(lock)
        _insert(self._trees, lock)

    def remove(self, lock: Lock) -> None:
        """Take `lock` away, granted or waiting."""
        if lock.cookie in self._granted.get(lock.mode, ()):
            start, end, _ = _extent(lock)
            self._trees[lock.mode].remove(start, end, lock.cookie)
        super().remove(lock)

    def conflicting(self, lock: Lock) -> Iterator[Lock]:
        """The granted locks that stand in the way of `lock`; a group's do with all they cover."""
        start, end, gid = _extent(lock)
        for mode, tree in self._trees.items():
            if mode == LCK_GROUP == lock.mode:
                yield from (other for other in tree if group_of(other.policy) != gid)
            elif not compatible(mode, lock.mode):
                yield from tree if mode == LCK_GROUP else tree.search(start, end)

    def may_grant(self, lock: Lock) -> bool:
        """Is nothing granted, and nobody before it, in the way? A group's next is never in it."""
        start, end, gid = _extent(lock)
        for mode, tree in self._trees.items():
            if not len(tree):
                continue
            if mode == LCK_GROUP == lock.mode:
                return all(group_of(other.policy) == gid for other in tree)
            if compatible(mode, lock.mode):
                continue
            if mode == LCK_GROUP or tree.overlaps(start, end):
                return False
        return self.may_pass(lock)

    def contenders(self, lock: Lock) -> int:
        """How many granted locks want the very bytes that `lock` wants; glimpses do not count."""
        start, end, _ = _extent(lock)
        count = 0
        for other in self.conflicting(lock):
            wanted = other.wanted
            glimpse = other.mode == LCK_PR and other.policy == WHOLE
            if isinstance(wanted, Extent) and not glimpse:
                count += wanted.start <= end and wanted.end >= start
        return count

    def highest(self, size: int) -> Iterator[list[Lock]]:
        """For each mode but PR the granted locks that reach beyond `size`, the highest first."""
        for mode, tree in self._trees.items():
            if mode != LCK_PR:
                yield tree.search(size, OBD_OBJECT_EOF)[::-1]

    @property
    def has_groups(self) -> bool:
        """Is there a group's lock, granted or waiting?"""
        return LCK_GROUP in self._trees or LCK_GROUP in self._queued

    # ---- who waits

    def wait(self, lock: Lock) -> None:
        """To the end of the queue; a group's lock behind its own group, before all that is none."""
        if lock.mode == LCK_GROUP:
            queue = list(self.waiting.values())
            groups = [other for other in queue if other.mode == LCK_GROUP]
            own = [at for at, other in enumerate(groups) if _gid(other) == _gid(lock)]
            queue.insert(own[-1] + 1 if own else len(groups), lock)
            self.waiting = {other.cookie: other for other in queue}
        else:
            super().wait(lock)
        _insert(self._queued, lock)
        self._queued_by.setdefault(lock.client, {})[lock.cookie] = lock

    def leave_queue(self, lock: Lock) -> None:
        """`lock` waits no longer."""
        if lock.cookie not in self.waiting:
            return
        super().leave_queue(lock)
        start, end, _ = _extent(lock)
        self._queued[lock.mode].remove(start, end, lock.cookie)
        own = self._queued_by[lock.client]
        del own[lock.cookie]
        if not own:
            del self._queued_by[lock.client]

    def room(self, lock: Lock) -> Policy:
        """The extent to grant: as far as the others leave room."""
        policy = _extent(lock)
        if not lock.growable:
            return policy
        own = [
            _extent(other)
            for other in self._queued_by.get(lock.client, {}).values()
            if compatible(other.mode, lock.mode)
        ]
        return expand(lock.mode, policy, self._trees, self._queued, own)


def _insert(trees: Trees, lock: Lock) -> None:
    start, end, _ = _extent(lock)
    tree = trees.get(lock.mode)
    if tree is None:
        tree = trees[lock.mode] = IntervalTree()
    tree.insert(start, end, lock.cookie, lock)


def _extent(lock: Lock) -> Extent:
    policy = lock.policy
    assert isinstance(policy, Extent), "a lock of another type on an object"
    return policy


def _gid(lock: Lock) -> int:
    return group_of(lock.policy)


def expand(
    mode: int, wanted: Extent, granted: Trees, queued: Trees, own: Sequence[Extent] = ()
) -> Extent:
    """The extent to grant to a lock that conflicts with none of the granted ones.

    `queued` are those that wait; `own` what the same client waits for in modes that do not
    conflict: these would overlap for no use.
    """
    if wanted.start == 0 and wanted.end == OBD_OBJECT_EOF:
        return wanted
    grown = _among_granted(mode, wanted, granted)
    return _among_waiting(mode, wanted, grown, queued, own)


def _among_granted(mode: int, wanted: Extent, granted: Trees) -> Extent:
    """Up to the next conflicting lock above; down only where there is none (interval_expand)."""
    low, high, conflicting = 0, OBD_OBJECT_EOF, 0
    for other_mode, tree in granted.items():
        if compatible(mode, other_mode) or not len(tree):
            continue
        conflicting += len(tree)
        low = wanted.start
        above = tree.next_start(wanted.end)
        if above is not None:
            high = min(high, above - 1)
        if high == wanted.end:
            break
    return _fix(mode, wanted, Extent(low, high, wanted.gid), conflicting)


def _among_waiting(
    mode: int, wanted: Extent, grown: Extent, queued: Trees, own: Sequence[Extent]
) -> Extent:
    """Leave room for those who wait; one that wants the same bytes will call this lock back anyway.

    Only few can bound it below: where there are more, it does not grow downward at all.
    """
    start, end = grown.start, grown.end
    trees = [tree for other, tree in queued.items() if not compatible(other, mode)]
    conflicting = sum(map(len, trees)) + len(own)
    for tree in trees:
        above = tree.next_start(wanted.end)
        if above is not None:
            end = min(end, above - 1)
    end = min([end, *(other.start - 1 for other in own if other.start > wanted.end)])
    if conflicting > BUSY:
        start = wanted.start
    else:
        extents = [*own, *(_extent(lock) for tree in trees for lock in tree)]
        below = [other.end + 1 for other in extents if other.end < wanted.start]
        start = max([start, *below])
    return _fix(mode, wanted, Extent(start, end, wanted.gid), conflicting)


def _fix(mode: int, wanted: Extent, grown: Extent, conflicting: int) -> Extent:
    """Bound the growth in a crowd, and round inward to the alignment of the request."""
    start, end = grown.start, grown.end
    if conflicting > CONTENDED and mode & (LCK_PW | LCK_CW):
        limit = wanted.start + MAX_GROWN_BYTES
        if wanted.end < limit:
            end = min(end, limit)
    if start == 0 and end == OBD_OBJECT_EOF:
        return Extent(start, end, wanted.gid)
    unit = alignment(wanted)
    start = -(-start // unit) * unit
    end = ((end + 1) & OBD_OBJECT_EOF) // unit * unit - 1 & OBD_OBJECT_EOF
    return Extent(min(start, wanted.start), max(end, wanted.end), wanted.gid)


def alignment(wanted: Extent) -> int:
    """The largest power of two that both edges of the request lie on; at least a page."""
    edges = (wanted.end + 1 | wanted.start) & OBD_OBJECT_EOF
    return max(edges & -edges, PAGE_BYTES) if edges else PAGE_BYTES

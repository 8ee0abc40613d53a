"""Extent locks on one object: which conflict, how far a lock grows, in what order groups wait.

Knows trees and queues, not clients or time. Stands for ldlm_extent.c. A client alone on an object
gets all of it. Among others it gets what is free above its request: downward a lock grows only
where nobody has a lock in its way at all. A writer in a crowd gets no more than 32 MiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

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


class ExtentResource(Resource):
    """The extent locks on one object; the granted ones of each mode in an interval tree."""

    __slots__ = ("_trees", "contended_ns")

    def __init__(self, name: ResName, kind: int) -> None:
        super().__init__(name, kind)
        self._trees: dict[int, IntervalTree[Lock]] = {}
        self.contended_ns = 0
        """When so many locks were last in the way of one that the object counts as contended."""

    # ---- what is granted

    def admit(self, lock: Lock) -> None:
        """Put `lock` among the granted ones as it is."""
        super().admit(lock)
        start, end, _ = _extent(lock)
        tree = self._trees.get(lock.mode)
        if tree is None:
            tree = self._trees[lock.mode] = IntervalTree()
        tree.insert(start, end, lock.cookie, lock)

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

    # ---- who waits

    def wait(self, lock: Lock) -> None:
        """To the end of the queue; a group's lock behind its own group, before all that is none."""
        if lock.mode != LCK_GROUP:
            super().wait(lock)
            return
        queue = list(self.waiting.values())
        groups = [other for other in queue if other.mode == LCK_GROUP]
        own = [at for at, other in enumerate(groups) if _gid(other) == _gid(lock)]
        queue.insert(own[-1] + 1 if own else len(groups), lock)
        self.waiting = {other.cookie: other for other in queue}

    def room(self, lock: Lock) -> Policy:
        """The extent to grant: as far as the others leave room."""
        policy = _extent(lock)
        if not lock.growable:
            return policy
        waiting = (
            Waiter(other.mode, other.policy, lock.same_client(other))
            for other in self.waiting.values()
            if isinstance(other.policy, Extent)
        )
        return expand(lock.mode, policy, self._trees.items(), waiting)


def _extent(lock: Lock) -> Extent:
    policy = lock.policy
    assert isinstance(policy, Extent), "a lock of another type on an object"
    return policy


def _gid(lock: Lock) -> int:
    return group_of(lock.policy)


class Waiter(NamedTuple):
    """What the rule must know of a waiting lock."""

    mode: int
    extent: Extent
    same_client: bool


def expand(
    mode: int,
    wanted: Extent,
    granted: Iterable[tuple[int, IntervalTree[Lock]]],
    waiting: Iterable[Waiter],
) -> Extent:
    """The extent to grant to a lock that conflicts with none of the granted ones."""
    if wanted.start == 0 and wanted.end == OBD_OBJECT_EOF:
        return wanted
    grown = _among_granted(mode, wanted, granted)
    return _among_waiting(mode, wanted, grown, waiting)


def _among_granted(
    mode: int, wanted: Extent, granted: Iterable[tuple[int, IntervalTree[Lock]]]
) -> Extent:
    """Up to the next conflicting lock above; down only where there is none (interval_expand)."""
    low, high, conflicting = 0, OBD_OBJECT_EOF, 0
    for other_mode, tree in granted:
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


def _among_waiting(mode: int, wanted: Extent, grown: Extent, waiting: Iterable[Waiter]) -> Extent:
    """Leave room for those who wait; one that wants the same bytes will call this lock back anyway.

    Also keeps clear of compatible locks of the same client, which would overlap for no use.
    """
    start, end, conflicting = grown.start, grown.end, 0
    for waiter in waiting:
        if start == wanted.start and end == wanted.end:
            break
        if compatible(waiter.mode, mode) and not waiter.same_client:
            continue
        conflicting += 1
        if conflicting > BUSY:
            start = wanted.start
        other = waiter.extent
        if other.start > end or other.end < start or other.meets(wanted):
            continue
        if other.end < wanted.start:
            start = other.end + 1
        else:
            end = other.start - 1
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

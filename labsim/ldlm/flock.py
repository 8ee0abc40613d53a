"""File locks of processes: which ranges an owner has, and what one more request makes of them.

Values in, values out: no messages, no clients, no time. Stands for the merging and splitting of
ldlm_process_flock_lock (ldlm_flock.c), which server and client both do, so that both have the same
locks; and for fs/locks.c where a mount keeps its locks to itself.

Modes are LCK_PR (F_RDLCK), LCK_PW (F_WRLCK) and LCK_NL (F_UNLCK).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from labsim.ldlm.policy import Flock, compatible
from labsim.ldlm.resource import Lock, Resource
from labsim.wire.constants import LCK_NL, OBD_OBJECT_EOF


def range_of(lock: Lock) -> Flock:
    """The range of a file lock."""
    policy = lock.policy
    assert isinstance(policy, Flock), "a lock of another type among file locks"
    return policy


def same_owner(one: Lock, other: Lock) -> bool:
    """Are both of one process (or open file) of one client?"""
    return range_of(one).owner == range_of(other).owner and one.same_client(other)


def in_the_way(lock: Lock, others: Iterable[Lock]) -> Iterator[Lock]:
    """The locks of other owners that exclude `lock`."""
    wanted = range_of(lock)
    for other in others:
        if (
            not compatible(other.mode, lock.mode)
            and range_of(other).meets(wanted)
            and not same_owner(other, lock)
        ):
            yield other


def _start(lock: Lock) -> int:
    return range_of(lock).start


def told(lock: Lock, found: Lock) -> Flock:
    """What F_GETLK tells the owner of `lock` of one that is in its way."""
    start, end, _, pid = range_of(found)
    return range_of(lock)._replace(start=start, end=end, pid=pid)


class Outcome(NamedTuple):
    """What became of a request: is it a lock of its own now, and which others are none any more."""

    kept: bool
    gone: list[Lock]
    split: Lock | None
    """A lock that lies below what was cut out of another one's middle."""
    overlapped: bool
    """Locks of another mode were cut: somebody may have waited for them."""


def take_in(req: Lock, own: list[Lock], copy: Callable[[Lock, Flock], Lock]) -> Outcome:
    """Grant `req` beside its owner's other locks, sorted by start: merge, cut, split.

    `copy(lock, range)` makes a lock like `lock` on another range.
    """
    new, added = req, req.mode == LCK_NL
    gone: list[Lock] = []
    split: Lock | None = None
    overlapped = False
    for lock in own:
        have, want = range_of(lock), range_of(new)
        if lock.mode == req.mode:
            if have.end != OBD_OBJECT_EOF and want.start > have.end + 1:
                continue
            if have.start and want.end < have.start - 1:
                break
            both = have._replace(start=min(have.start, want.start), end=max(have.end, want.end))
            lock.policy = new.policy = both
            if added:
                gone.append(lock)
            else:
                new, added = lock, True
            continue
        if want.start > have.end:
            continue
        if want.end < have.start:
            break
        overlapped = True
        if want.start <= have.start:
            if want.end < have.end:
                lock.policy = have._replace(start=want.end + 1)
                break
            gone.append(lock)
        elif want.end >= have.end:
            lock.policy = have._replace(end=want.start - 1)
        else:
            split = copy(lock, have._replace(end=want.start - 1))
            lock.policy = have._replace(start=want.end + 1)
            break
    return Outcome(not added, gone, split, overlapped)


class FlockResource(Resource):
    """The file locks on one file. Granting one may make others go, or cut them in two."""

    __slots__ = ()

    def conflicting(self, lock: Lock) -> Iterator[Lock]:
        """The granted locks that stand in the way of `lock`, the lowest first."""
        return in_the_way(lock, sorted(self.granted, key=_start))

    def may_grant(self, lock: Lock) -> bool:
        """Is nothing granted in the way of `lock`? Who waits is not asked."""
        return lock.mode == LCK_NL or not any(True for _ in self.conflicting(lock))

    def owned(self, lock: Lock) -> list[Lock]:
        """The granted locks of the owner of `lock`, by their start."""
        return sorted((other for other in self.granted if same_owner(other, lock)), key=_start)

    def take_in(self, lock: Lock, copy: Callable[[Lock, Flock], Lock]) -> Outcome:
        """Grant `lock`, which nothing is in the way of."""
        self.leave_queue(lock)
        outcome = take_in(lock, self.owned(lock), copy)
        for other in outcome.gone:
            self.remove(other)
        if outcome.split is not None:
            self.admit(outcome.split)
        if outcome.kept:
            self.admit(lock)
        return outcome

"""The unused locks of a client, oldest first.

A pure structure. Does not know locks beyond their cookie, nor time beyond the numbers it is given.
Stands for ns_unused_list and ns_last_pos.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar


class Unused(Protocol):
    """What the LRU must know of a lock."""

    cookie: int
    last_used_ns: int


L = TypeVar("L", bound=Unused)


NO_LOCKS: dict[int, Any] = {}
"""Of a client that never had an unused one; never changed in place."""


class Lru(Generic[L]):
    """Locks in the order in which they were last used."""

    __slots__ = ("_fresh", "_locks")

    def __init__(self) -> None:
        self._locks: dict[int, L] = NO_LOCKS
        self._fresh: dict[int, L] = NO_LOCKS

    def __len__(self) -> int:
        return len(self._locks)

    def __iter__(self) -> Iterator[L]:
        return iter(self._locks.values())

    def __contains__(self, lock: L) -> bool:
        return lock.cookie in self._locks

    def add(self, lock: L, now_ns: int) -> None:
        """The last user of `lock` has gone."""
        lock.last_used_ns = now_ns
        if self._locks is NO_LOCKS:
            self._locks, self._fresh = {}, {}
        self.remove(lock)
        self._locks[lock.cookie] = self._fresh[lock.cookie] = lock

    def remove(self, lock: L) -> None:
        """`lock` is in use again, or on its way out."""
        if self._locks.pop(lock.cookie, None) is not None:
            self._fresh.pop(lock.cookie, None)

    def pass_over(self, lock: L) -> None:
        """`lock` is not `fresh` any more, until it was used again."""
        self._fresh.pop(lock.cookie, None)

    @property
    def fresh(self) -> Iterator[L]:
        """Those that nobody passed over."""
        return iter(self._fresh.values())

    @property
    def candidate(self) -> L | None:
        """The oldest of those that nobody passed over."""
        return next(iter(self._fresh.values()), None)

    @property
    def oldest(self) -> L | None:
        """The lock that was not used for the longest time."""
        return next(iter(self._locks.values()), None)

    def first(self, count: int) -> list[L]:
        """The `count` oldest locks."""
        return [lock for lock, _ in zip(self._locks.values(), range(count), strict=False)]

    def over(self, limit: int) -> list[L]:
        """The oldest locks, as many as there are above `limit`."""
        return self.first(max(len(self._locks) - limit, 0))


def next_tick(after_ns: int, start_ns: int, period_ns: int) -> int:
    """The first multiple of the period, counted from `start_ns`, that comes after `after_ns`."""
    return start_ns + ((after_ns - start_ns) // period_ns + 1) * period_ns

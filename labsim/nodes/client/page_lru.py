"""How much a mount may cache, and what goes first.

Counts bytes and remembers in which order parts of objects were used; does not know locks or RPCs.
Stands for struct cl_client_cache and the LRU of osc_page.c (osc_lru_reclaim). Lustre keeps pages in
order, labsim windows of 1 MiB.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from labsim.base.units import MIB

WINDOW_SHIFT = 20
"""Bytes of an object that are thrown out together: 1 MiB."""

DEFAULT_LIMIT = 4096 * MIB

SHRINK_BYTES = 2 * MIB
"""How much goes at least when room is made (lru_shrink_min)."""


class PageLru:
    """The windows of all objects of one mount, least recently used first."""

    __slots__ = (
        "_newest", "_numbers", "_windows", "limit", "next_try", "over_unstable",
        "reclaimed", "used",
    )  # fmt: skip

    def __init__(self, over_unstable: Callable[[], bool]) -> None:
        self.over_unstable = over_unstable
        """Tells whether OSTs had better commit what they have (OBD_BRW_SOFT_SYNC)."""
        self.limit = DEFAULT_LIMIT
        """Bytes (ccc_lru_max)."""
        self.used = 0
        self.reclaimed = 0
        """How often room had to be made (ccc_lru_shrinkers)."""
        self._windows: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._newest: tuple[Any, int] = (None, 0)
        self._numbers = 0
        self.next_try = DEFAULT_LIMIT

    def new_number(self) -> int:
        """A number for an object that nobody else has."""
        self._numbers += 1
        return self._numbers

    def touch(self, owner: Any, window: int) -> None:
        """Somebody uses a window of an object."""
        last_owner, last_window = self._newest
        if last_window != window or last_owner is not owner:
            self._newest = (owner, window)
            key = (owner.number, window)
            self._windows[key] = owner
            self._windows.move_to_end(key)
            owner.windows[window] = None

    def trim(self) -> None:
        """Make room where too much is cached, a little more than need be.

        Where nothing can go, a MiB more is let in before the next attempt.
        """
        if self.used > self.next_try:
            self.reclaim(self.limit - min(SHRINK_BYTES, self.limit // 8))

    def set_limit(self, limit: int) -> None:
        """Another limit, from now on."""
        self.limit = self.next_try = limit
        self.reclaim(limit)

    def reclaim(self, limit: int) -> int:
        """Throw out what was not used for long until `limit` bytes are left; how many bytes went.

        What is dirty stays, but is written soon; what is in use stays.
        """
        if self.used <= limit:
            return 0
        self.reclaimed += 1
        gone = 0
        for _ in range(len(self._windows)):
            if self.used <= limit or not self._windows:
                break
            key = next(iter(self._windows))
            gone += self._throw_out(key, self._windows[key])
            if key in self._windows:
                self._windows.move_to_end(key)
        self.next_try = max(self.limit, self.used + MIB if self.used > self.limit else 0)
        return gone

    def shrink(self, osc: Any, limit: int) -> None:
        """Throw out what is clean of one OSC's objects until they have `limit` bytes."""
        used = sum(owner.bytes.total for owner in osc.objects.values())
        for key, owner in list(self._windows.items()):
            if used <= limit:
                return
            if owner.osc is osc:
                used -= self._throw_out(key, owner)

    def _throw_out(self, key: tuple[int, int], owner: Any) -> int:
        if owner.readers or owner.fetches:
            return 0
        start = key[1] << WINDOW_SHIFT
        end = start + (1 << WINDOW_SHIFT)
        gone: int = owner.drop_clean(start, end)
        if owner.dirty and owner.dirty.meeting(start, end):
            owner.osc.hurry(owner, start, end)
        else:
            del self._windows[key], owner.windows[key[1]]
            if self._newest[0] is owner:
                self._newest = (None, 0)
        return gone

    def remove(self, owner: Any) -> None:
        """Nothing of an object is cached any more."""
        for window in owner.windows:
            del self._windows[owner.number, window]
        owner.windows.clear()
        if self._newest[0] is owner:
            self._newest = (None, 0)

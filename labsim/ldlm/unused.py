"""The locks that a client does not use: how many it keeps, for how long, and which go first.

Knows the LRU and its limits, not how a lock goes. Stands for ldlm_prepare_lru_list with its
policies (ldlm_request.c) and for the client side of ldlm_pool.c.

Without a limit (LRU_RESIZE) unused locks go at the pool's turns: by age, and by the volume that the
server allows. With a limit what is above it goes along with the next request (CANCELSET).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labsim.base.grammar import kstrto
from labsim.base.params import Param
from labsim.base.units import NS_PER_S
from labsim.ldlm.client_lock import ClientLock
from labsim.ldlm.lru import Lru, next_tick
from labsim.ldlm.namespace import DEFAULT_LRU_SIZE, Namespace
from labsim.ldlm.policy import Ibits
from labsim.net.ptlrpc import Import
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import (
    MDS_INODELOCK_OPEN,
    OBD_CONNECT_CANCELSET,
    OBD_CONNECT_LRU_RESIZE,
)


class UnusedLocks(Namespace):
    """Base of Holdings: the LRU of a ClientNamespace."""

    early_lock_cancel = Param.flag(
        True, help="the server may be told of cancelled locks along with other requests"
    )
    guards_nothing: Any = None
    """Set by who caches under extent locks: is nothing there? None: there always is something."""

    def __init__(self, host: Host, imp: Import, name: str) -> None:
        super().__init__(host, name)
        self.imp = imp
        self.lru: Lru[ClientLock] = Lru()
        self._start_ns = self.env.now
        self._scan: Any = None
        self._scan_ns = 0
        imp.pooled = self

    def start_cancel(self, lock: ClientLock) -> None:
        """Begin to give an unused lock back."""
        raise NotImplementedError

    def wait_gone(self, locks: Iterable[ClientLock]) -> Steps[None]:
        """Wait until locks that are on their way out are gone."""
        raise NotImplementedError

    # ---- how many

    @property
    def cancels_sets(self) -> bool:
        """May a request carry the handles of several locks (CANCELSET)?"""
        return self.imp.granted(OBD_CONNECT_CANCELSET)

    def limit(self) -> int | None:
        """How many unused locks are kept; None: only their age counts (LRU_RESIZE)."""
        if self.lru_size:
            return self.lru_size
        return None if self.imp.granted(OBD_CONNECT_LRU_RESIZE) else DEFAULT_LRU_SIZE

    def shrink(self) -> None:
        """A lock has become unused: see to it that too many, and too old ones, go.

        What is above a limit goes with the next request, where requests carry cancels; else now.
        """
        limit = self.limit()
        if limit is None:
            self._schedule_scan()
        elif not self.cancels_sets:
            for lock in self.lru.over(limit):
                self.start_cancel(lock)

    # ---- which

    def cheap(self, lock: ClientLock) -> bool:
        """May it go, or not be replayed, at no cost (ns_cancel)?

        Open locks stay (mdc_cancel_weight), and extent locks with pages (osc_cancel_weight).
        """
        if isinstance(lock.policy, Ibits):
            return not lock.policy.bits & MDS_INODELOCK_OPEN
        return self.guards_nothing is not None and bool(self.guards_nothing(lock))

    def has_surplus(self, new: int = 0) -> bool:
        """Is there an unused lock that ought to go (and is not known to take time)?"""
        first = self.lru.candidate
        return first is not None and not self._keeps(first, 0, new)

    def surplus(self, most: int, new: int = 0) -> list[ClientLock]:
        """Unused locks to give up with a request: above the limit, too old, or of too much weight.

        Only those that go without writing or waiting (LDLM_LRU_FLAG_NO_WAIT); one that would not is
        passed over until it was used again. `new` says how many the request will add.
        """
        found: list[ClientLock] = []
        passed: list[ClientLock] = []
        for lock in self.lru.fresh:
            if len(found) >= most or self._keeps(lock, len(found), new):
                break
            (found if self.cheap(lock) else passed).append(lock)
        for lock in passed:
            self.lru.pass_over(lock)
        return found

    def excess(self, most: int) -> list[ClientLock]:
        """As `surplus`, also those that take time: they go with a cancel that is sent anyway."""
        found: list[ClientLock] = []
        for lock in self.lru:
            if len(found) >= most or self._keeps(lock, len(found)):
                break
            found.append(lock)
        return found

    def _keeps(self, lock: ClientLock, gone: int, new: int = 0) -> bool:
        """May an unused lock stay when `gone` older ones go and `new` ones come?

        The policies aged (where there is a limit) and lrur (where there is none).
        """
        if lock.last_used_ns + self.max_age_ns() < self.env.now:
            return False
        limit, unused = self.limit(), len(self.lru) - gone
        if limit is not None:
            return unused + new <= limit
        return self.pool.keeps(unused, (self.env.now - lock.last_used_ns) // NS_PER_S)

    # ---- the pool's turns

    def told_volume(self, volume: int, limit: int) -> None:
        """The server's lock volume has changed."""
        self.pool.told(volume, limit)
        if self.limit() is None:
            self._schedule_scan()

    def _schedule_scan(self) -> None:
        """Arm for the first turn of the pool at which the oldest lock will be too old."""
        oldest = self.lru.oldest
        if oldest is None:
            return
        age_ns = self.max_age_ns()
        by_volume_s = self.pool.age_s(len(self.lru))
        if by_volume_s is not None:
            age_ns = min(age_ns, by_volume_s * NS_PER_S)
        ripe_ns = max(oldest.last_used_ns + age_ns, self.env.now)
        period_ns = self.pool_recalc_period * NS_PER_S
        at_ns = next_tick(ripe_ns, self._start_ns, period_ns)
        if self._scan is None or at_ns < self._scan_ns:
            self.stop_scan()
            self._scan_ns = at_ns
            self._scan = self.imp.rpc.deadlines.add(at_ns, self._scanned)

    def _scanned(self) -> None:
        """A turn of the pool (ldlm_cli_pool_recalc): cancel what is too old, or too much."""
        self._scan = None
        if self.limit() is None:
            for lock in self.excess(len(self.lru)):
                self.start_cancel(lock)
            self._schedule_scan()

    def age_changed(self) -> None:
        """Look at the LRU anew, at the pool's next turn."""
        self.stop_scan()
        self.shrink()

    def stop_scan(self) -> None:
        """Disarm the pool's next turn."""
        if self._scan is not None:
            self._scan.cancel()
            self._scan = None

    # ---- parameters

    def show_lru_size(self) -> str:
        """The limit; without one, how many unused locks there are."""
        return f"{len(self.lru) if self.limit() is None else self.limit()}\n"

    def store_lru_size(self, text: str) -> Steps[None] | None:
        """A number of locks to keep from now on; 0: as many as age allows; "clear": none now."""
        if text.startswith("clear"):
            return self.clear()
        size = kstrto(text, 10, 0, 2**64 - 1)
        if self.limit() is None or size:
            for lock in self.lru.over(size):
                self.start_cancel(lock)
        self.lru_size = size
        self.age_changed()
        return None

    def clear(self) -> Steps[None]:
        """Give back all locks that nobody uses."""
        locks = list(self.lru)
        for lock in locks:
            self.start_cancel(lock)
        yield from self.wait_gone(locks)

    @Param.computed(unit="locks", help="locks that nobody uses at present")
    def lock_unused_count(self) -> int:
        """How many of them are in the LRU."""
        return len(self.lru)

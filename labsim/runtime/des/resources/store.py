"""Stores of objects, as in `simpy.resources.store`: plain, by priority, and with a filter.

Does not know what it stores. The plain one is native.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, NamedTuple

from labsim import _des
from labsim._des import BoundClass, StoreGet, StorePut
from labsim.runtime.des.resources.base import BaseResource

__all__ = [
    "FilterStore",
    "FilterStoreGet",
    "PriorityItem",
    "PriorityStore",
    "Store",
    "StoreGet",
    "StorePut",
]


class Store(_des.Store, BaseResource):
    """Objects, first in, first out, up to a capacity."""


class FilterStoreGet(StoreGet):
    """Asks for an item of which `filter(item)` is true."""

    def __init__(
        self, resource: FilterStore, filter: Callable[[Any], bool] = lambda item: True
    ) -> None:
        self.filter = filter
        super().__init__(resource)


class PriorityItem(NamedTuple):
    """An item with its priority; only the priority is compared."""

    priority: Any
    item: Any

    def __lt__(self, other: PriorityItem) -> bool:  # type: ignore[override]
        return bool(self.priority < other.priority)


class PriorityStore(Store):
    """Gives the smallest item first."""

    def _do_put(self, event: StorePut) -> bool | None:
        if len(self.items) < self._capacity:
            heappush(self.items, event.item)
            event.succeed()
        return None

    def _do_get(self, event: StoreGet) -> bool | None:
        if self.items:
            event.succeed(heappop(self.items))
        return None


class FilterStore(Store):
    """Gives the first item that the request's filter takes; who cannot be served is passed."""

    get = BoundClass(FilterStoreGet)

    def _do_get(self, event: FilterStoreGet) -> bool | None:
        for item in self.items:
            if event.filter(item):
                self.items.remove(item)
                event.succeed(item)
                break
        return True

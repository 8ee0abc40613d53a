"""Slots that processes use in turn, as in `simpy.resources.resource`.

Does not know what for. The plain resource is native; those with priorities build on it.
"""

from __future__ import annotations

from typing import Any

from labsim import _des
from labsim._des import BoundClass, Process, Release, Request
from labsim.runtime.des.resources.base import BaseResource

__all__ = [
    "Preempted",
    "PreemptiveResource",
    "PriorityRequest",
    "PriorityResource",
    "Release",
    "Request",
    "Resource",
    "SortedQueue",
]


class Resource(_des.Resource, BaseResource):
    """Slots that processes request and release, first come, first served."""


class Preempted:
    """Why a process was interrupted: it lost a resource to another request."""

    def __init__(self, by: Process | None, usage_since: Any, resource: Resource) -> None:
        self.by = by
        self.usage_since = usage_since
        self.resource = resource


class PriorityRequest(Request):
    """A request with a priority (smaller goes first); `preempt`: it may take a slot away."""

    def __init__(self, resource: Resource, priority: int = 0, preempt: bool = True) -> None:
        self.priority = priority
        self.preempt = preempt
        self.time = resource._env.now
        self.key = (priority, self.time, not preempt)
        super().__init__(resource)


def _key(request: Any) -> Any:
    return request.key


class SortedQueue(list):
    """A queue in the order of the requests' `key`; `maxlen` bounds it."""

    def __init__(self, maxlen: int | None = None) -> None:
        super().__init__()
        self.maxlen = maxlen

    def append(self, item: Any) -> None:
        """Sort an item in; RuntimeError when the queue is full."""
        if self.maxlen is not None and len(self) >= self.maxlen:
            raise RuntimeError("Cannot append event. Queue is full.")
        super().append(item)
        super().sort(key=_key)


class PriorityResource(Resource):
    """A resource whose requests wait in the order of their priority."""

    PutQueue = SortedQueue
    GetQueue = list
    request = BoundClass(PriorityRequest)
    release = BoundClass(Release)

    def __init__(self, env: Any, capacity: int = 1) -> None:
        super().__init__(env, capacity)


class PreemptiveResource(PriorityResource):
    """A priority resource where a request may take the slot of a less important user."""

    def _do_put(self, event: PriorityRequest) -> bool | None:
        if len(self.users) >= self.capacity and event.preempt:
            last = max(self.users, key=_key)
            if last.key > event.key:
                self.users.remove(last)
                last.proc.interrupt(
                    Preempted(by=event.proc, usage_since=last.usage_since, resource=self)
                )
        return super()._do_put(event)

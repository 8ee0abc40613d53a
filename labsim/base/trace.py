"""The record of a run: typed events, and a hash that two equal runs share.

Does not know what the events mean. An event is (time, node, kind, fields); fields are ints,
strings, bytes, FIDs or None, so that nothing of one process (addresses, hash seeds) can leak into
the hash.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing that happened: when (ns), on which node, what kind, with which fields."""

    time_ns: int
    node: str
    kind: str
    fields: tuple[Any, ...]


PLAIN = frozenset({int, str, bytes, type(None)})
"""What goes into the hash as it is."""

BATCH = 256
"""So many events go into the hash at once."""


class Trace:
    """All events of a run in the order they happened.

    `keep` bounds how many events stay readable (None: all); the hash covers every one.
    """

    def __init__(self, now: Callable[[], int], keep: int | None = None) -> None:
        self._now = now
        self._keep = keep
        self._hash = blake2b(digest_size=16)
        self._pending: list[tuple[int, str, str, tuple[Any, ...]]] = []
        self.count = 0
        self.events: list[Event] = []
        self.listeners: list[Callable[[Event], None]] = []

    def emit(self, node: str, kind: str, fields: tuple[Any, ...]) -> None:
        """Take one event."""
        now = self._now()
        self.count += 1
        plain = tuple([one if type(one) in PLAIN else _plain(one) for one in fields])
        self._pending.append((now, node, kind, plain))
        if len(self._pending) > BATCH:
            self._absorb()
        kept = self._keep is None or len(self.events) < self._keep
        if kept or self.listeners:
            event = Event(now, node, kind, fields)
            if kept:
                self.events.append(event)
            for listener in self.listeners:
                listener(event)

    def of(self, node: str) -> NodeTrace:
        """The view that one node writes to."""
        return NodeTrace(self, node)

    def _absorb(self) -> None:
        self._hash.update(f"{repr(self._pending)[1:-1]}, ".encode())
        self._pending.clear()

    def hexdigest(self) -> str:
        """The run's hash: 32 hex digits."""
        if self._pending:
            self._absorb()
        return self._hash.hexdigest()


def _plain(value: Any) -> Any:
    """Reduce subclasses (Fid, Nid) to what they hold, refuse what has no stable form."""
    if value is None or isinstance(value, (str, bytes)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    raise TypeError(f"a trace takes ints, strings, bytes and tuples, not {type(value).__name__}")


class NodeTrace:
    """One node's end of the trace."""

    __slots__ = ("_trace", "node")

    def __init__(self, trace: Trace, node: str) -> None:
        self._trace = trace
        self.node = node

    def emit(self, kind: str, *fields: Any) -> None:
        """Record `kind` with its fields at the present time."""
        self._trace.emit(self.node, kind, fields)

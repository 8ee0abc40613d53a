"""How far a server grows an extent lock beyond what was asked for.

A pure function. Does not know locks that were never asked for, clients or time. Stands for
ldlm_extent_policy and its helpers in ldlm_extent.c: a client alone on an object gets all of it, a
client among others what is free around its request, a writer in a crowd no more than 32 MiB.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from labsim.ldlm.policy import Extent, compatible
from labsim.wire.constants import LCK_CW, LCK_PW, OBD_OBJECT_EOF

MAX_GROWN_BYTES = 32 * 1024 * 1024 - 1
"""LDLM_MAX_GROWN_EXTENT: how far a writer's lock grows upward on a contended object."""

BUSY = 4
"""With more conflicting locks than this, locks do not grow downward."""

CONTENDED = 32
"""With more conflicting locks than this, a writer's growth is bounded."""

PAGE_BYTES = 4096
"""A page of the server must not be covered by the write locks of two clients."""


class Waiter(NamedTuple):
    """What the rule must know of a waiting lock."""

    mode: int
    extent: Extent
    same_client: bool


def expand(
    mode: int, wanted: Extent, granted: Iterable[tuple[int, Extent]], waiting: Iterable[Waiter]
) -> Extent:
    """The extent to grant to a lock that conflicts with none of the granted ones."""
    if wanted.start == 0 and wanted.end == OBD_OBJECT_EOF:
        return wanted
    grown = _among_granted(mode, wanted, granted)
    return _among_waiting(mode, wanted, grown, waiting)


def _among_granted(mode: int, wanted: Extent, granted: Iterable[tuple[int, Extent]]) -> Extent:
    """Up to the nearest conflicting neighbours."""
    low, high, conflicting = 0, OBD_OBJECT_EOF, 0
    for other_mode, other in granted:
        if compatible(mode, other_mode):
            continue
        conflicting += 1
        if other.end < wanted.start:
            low = max(low, other.end + 1)
        elif other.start > wanted.end:
            high = min(high, other.start - 1)
    if conflicting > BUSY:
        low = wanted.start
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

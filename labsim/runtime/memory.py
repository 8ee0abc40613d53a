"""How a process treats memory it has freed.

Does not know who frees it. Stands for nothing in Lustre: a kernel has its own allocator.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

GC_INTERVAL = 50_000
"""Allocations between two runs of the cycle collector."""
KEEP_BYTES = 31 << 20
"""Below DEFAULT_MMAP_THRESHOLD_MAX: a larger block would not move the thresholds (mallopt(3))."""


def keep_freed_memory() -> None:
    """Let malloc keep what is freed, for the next message or transaction of the same size.

    glibc moves its thresholds with the largest mapped block that is freed. Without this, page
    faults take three quarters of the time of a large write: each buffer is mapped anew.
    """
    block = bytes(KEEP_BYTES)
    del block


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Run with the cycle collector set to a long interval, then as before.

    A run makes millions of small objects and few cycles; at Python's default interval the
    collector took more than half of a long simulation's time.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], GC_INTERVAL) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)

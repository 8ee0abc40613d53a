"""How a live process treats memory it has freed.

Does not know who frees it. Stands for nothing in Lustre: a kernel has its own allocator.
"""

from __future__ import annotations

KEEP_BYTES = 31 << 20
"""Below DEFAULT_MMAP_THRESHOLD_MAX: a larger block would not move the thresholds (mallopt(3))."""


def keep_freed_memory() -> None:
    """Let malloc keep what is freed, for the next message or transaction of the same size.

    glibc moves its thresholds with the largest mapped block that is freed. Without this, page
    faults take three quarters of the time of a large write: each buffer is mapped anew.
    """
    block = bytes(KEEP_BYTES)
    del block

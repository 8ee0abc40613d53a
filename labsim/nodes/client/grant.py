"""A client's side of the grants of one OST.

Sums only. Stands for cl_avail_grant, cl_dirty and cl_lost_grant of client_obd (osc_cache.c,
osc_announce_cached). All numbers are bytes.
"""

from __future__ import annotations

from labsim.base.units import PAGE_SIZE

GRANT_MAX = (1 << 31) - PAGE_SIZE
"""o_undirty travels in 32 bits; Lustre keeps it below 2 GiB."""


class GrantAccount:
    """What the OST promised, and how much of it is free, reserved, or was lost."""

    __slots__ = ("announced", "avail", "lost", "reserved")

    def __init__(self) -> None:
        self.announced = 0
        self.avail = 0
        self.lost = 0
        self.reserved = 0

    def connected(self, total: int) -> None:
        """A connect reply says what this client holds in all (osc_init_grant).

        Requests under way will be sent again; what they announce as lost goes off that then.
        """
        self.lost = 0
        self.avail = max(total - self.reserved - self.announced, 0)

    def reserve(self, nbytes: int) -> bool:
        """Set aside grant for a write, in whole pages; False where there is too little."""
        need = pages(nbytes)
        if need > self.avail:
            return False
        self.avail -= need
        self.reserved += need
        return True

    def used(self, nbytes: int) -> None:
        """A write that had grant is over: the OST has taken its blocks, a page each."""
        self.reserved -= pages(nbytes)

    def announce(self) -> int:
        """What to tell the OST is lost, once (o_dropped)."""
        lost, self.lost = self.lost, 0
        self.announced += lost
        return lost

    def answered(self, lost: int) -> None:
        """The request that announced so much is over."""
        self.announced -= lost

    def wanted(self, max_dirty: int, rpc_bytes: int, rpcs: int) -> int:
        """How much this client would like to hold (o_undirty)."""
        return min(max(max_dirty, rpc_bytes * (rpcs + 1)), GRANT_MAX)


def pages(nbytes: int) -> int:
    """Bytes of the pages that `nbytes` take."""
    return -(-nbytes // PAGE_SIZE) * PAGE_SIZE

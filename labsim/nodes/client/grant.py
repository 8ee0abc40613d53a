"""A client's side of the grants of one OST.

Sums only. Stands for cl_avail_grant, cl_dirty_pages, cl_reserved_grant and cl_lost_grant of
client_obd (osc_cache.c, osc_announce_cached). All numbers are bytes.
"""

from __future__ import annotations

from labsim.base.units import MIB, PAGE_SIZE

GRANT_MAX = (1 << 31) - 1 - (64 * MIB - 1)
"""o_undirty travels in 32 bits; Lustre leaves room below 2 GiB for four BRWs of 16 MiB."""


class GrantAccount:
    """What the OST promised: free, under dirty pages (sent ones too), or lost."""

    __slots__ = ("avail", "dirty", "epoch", "lost", "reserved")

    def __init__(self) -> None:
        self.avail = 0
        self.dirty = 0
        self.reserved = 0
        """Taken for a writer that is about to go on."""
        self.lost = 0
        self.epoch = 0
        """Grows when the OST forgets this client; what was taken before is not given back."""

    @property
    def held(self) -> int:
        """All that the OST still counts as this client's."""
        return self.avail + self.reserved + self.dirty + self.lost

    def connected(self, total: int) -> None:
        """A connect reply says what this client holds in all (osc_init_grant)."""
        self.lost = 0
        self.avail = max(total - self.reserved - self.dirty, 0)

    def evicted(self) -> None:
        """The OST has forgotten this client, and what is being sent will fail."""
        self.avail = self.dirty = self.lost = 0
        self.epoch += 1

    def reserve(self, nbytes: int) -> bool:
        """Have pages become dirty; False where there is too little grant for them."""
        if nbytes > self.avail:
            return False
        self.avail -= nbytes
        self.dirty += nbytes
        return True

    def unreserve(self, nbytes: int) -> None:
        """Fewer pages are dirty than was thought."""
        self.dirty -= nbytes
        self.avail += nbytes

    def sent(self, nbytes: int) -> None:
        """Dirty pages are written, the grant under them is used up."""
        self.dirty -= nbytes

    def dropped(self, nbytes: int) -> None:
        """Dirty pages went without being written: their grant is lost until the OST knows.

        Enough for one page is taken back where nothing else is left (osc_free_grant).
        """
        self.dirty -= nbytes
        self.lost += nbytes
        if self.avail < PAGE_SIZE <= self.lost:
            self.lost -= PAGE_SIZE
            self.avail += PAGE_SIZE

    def announce(self) -> int:
        """What to tell the OST is lost, once (o_dropped)."""
        lost, self.lost = self.lost, 0
        return lost

    def wanted(self, max_dirty: int, rpc_bytes: int, rpcs: int) -> int:
        """How much this client would like to hold (o_undirty)."""
        return min(max(max_dirty, rpc_bytes * (rpcs + 1)), GRANT_MAX)

    def snapshot(self) -> dict[str, int]:
        """Plain data for the invariants."""
        return {
            "avail": self.avail,
            "reserved": self.reserved,
            "dirty": self.dirty,
            "lost": self.lost,
        }

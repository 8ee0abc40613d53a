"""A client's side of the grants of one OST.

Sums only. Stands for cl_avail_grant, cl_dirty_pages, cl_dirty_grant, cl_reserved_grant,
cl_lost_grant and cl_grant_extent_tax of client_obd (osc_cache.c, osc_init_grant,
osc_announce_cached). All numbers are bytes.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from labsim.base.units import MIB, PAGE_SIZE
from labsim.wire.constants import OBD_CONNECT_GRANT_PARAM
from labsim.wire.lustre_msg import ObdConnectData

MAX_EXTENT = 64 * MIB
"""DT_MAX_BRW_PAGES: the largest extent of an OST that does not say."""

GRANT_MAX = (1 << 31) - 1 - (64 * MIB - 1)
"""o_undirty travels in 32 bits; Lustre leaves room below 2 GiB for four BRWs of 16 MiB."""


class NodeDirty(Protocol):
    """What all OSCs of a node may have dirty together (obd_dirty_pages, obd_max_dirty_pages)."""

    dirty_bytes: int
    max_dirty_bytes: int


class Need(NamedTuple):
    """What more will be dirty: bytes of pages, and grant with the tax of their extents.

    Either may be negative, as where a page closes the gap between two extents.
    """

    pages: int
    grant: int


class GrantAccount:
    """What the OST promised: free, under dirty pages (sent ones too), or lost."""

    __slots__ = (
        "avail", "dirty", "dirty_grant", "epoch", "extent_bytes", "lost", "node", "reserved", "tax",
    )  # fmt: skip

    def __init__(self, node: NodeDirty) -> None:
        self.node = node
        self.avail = 0
        self.dirty = 0
        """Bytes of dirty pages."""
        self.dirty_grant = 0
        """The grant under them, and under their extents."""
        self.tax = 0
        """What each extent costs beside its pages."""
        self.extent_bytes = MAX_EXTENT
        """The most that one extent on the OST holds."""
        self.reserved = 0
        """Taken for a writer that is about to go on."""
        self.lost = 0
        self.epoch = 0
        """Grows when the OST forgets this client; what was taken before is not given back."""

    @property
    def held(self) -> int:
        """All that the OST still counts as this client's."""
        return self.avail + self.reserved + self.dirty_grant + self.lost

    def connected(self, granted: ObdConnectData) -> None:
        """A connect reply says what this client holds in all, and the OST's terms."""
        self.lost = 0
        self.avail = max(granted.grant - self.reserved - self.dirty_grant, 0)
        self.tax, self.extent_bytes = 0, MAX_EXTENT
        if granted.connect_flags & OBD_CONNECT_GRANT_PARAM:
            self.tax = granted.grant_tax_kb << 10
            largest = granted.grant_max_blks << granted.grant_blkbits
            self.extent_bytes = max(largest & -PAGE_SIZE, PAGE_SIZE)

    def evicted(self) -> None:
        """The OST has forgotten this client, and what is being sent will fail."""
        self.node.dirty_bytes -= self.dirty
        self.avail = self.dirty = self.dirty_grant = self.lost = 0
        self.epoch += 1

    def room(self, most: int) -> int:
        """Bytes of pages that may become dirty now, where the OSC may have `most`."""
        node = self.node
        return min(most - self.dirty, node.max_dirty_bytes - node.dirty_bytes)

    def reserve(self, pages: int, grant: int, most: int) -> bool:
        """Have pages become dirty; False where there is too little grant or room for them."""
        if grant > self.avail or pages > self.room(most):
            return False
        self.avail -= grant
        self.node.dirty_bytes += pages
        self.dirty += pages
        self.dirty_grant += grant
        return True

    def unreserve(self, pages: int, grant: int) -> None:
        """Fewer pages are dirty than was thought, or in fewer extents."""
        self.sent(pages, grant)
        self.avail += grant

    def sent(self, pages: int, grant: int) -> None:
        """Dirty pages are written, the grant under them is used up."""
        self.node.dirty_bytes -= pages
        self.dirty -= pages
        self.dirty_grant -= grant

    def dropped(self, pages: int, grant: int) -> None:
        """Dirty pages went without being written: their grant is lost until the OST knows.

        Enough for an extent of one page is taken back where less is left (osc_free_grant).
        """
        self.sent(pages, grant)
        self.lost += grant
        least = PAGE_SIZE + self.tax
        if self.avail < least <= self.lost:
            self.lost -= least
            self.avail += least

    def announce(self) -> int:
        """What to tell the OST is lost, once (o_dropped)."""
        lost, self.lost = self.lost, 0
        return lost

    def wanted(self, max_dirty: int, rpc_bytes: int, rpcs: int) -> int:
        """How much this client would like to hold, with the tax of its extents (o_undirty).

        Nothing while more is dirty than may be.
        """
        if self.dirty > max_dirty or self.node.dirty_bytes > self.node.max_dirty_bytes + PAGE_SIZE:
            return 0
        nbytes = max(max_dirty, rpc_bytes * (rpcs + 1))
        return min(nbytes + -(-nbytes // self.extent_bytes) * self.tax, GRANT_MAX)

    def snapshot(self) -> dict[str, int]:
        """Plain data for the invariants."""
        return {
            "avail": self.avail,
            "reserved": self.reserved,
            "dirty": self.dirty_grant,
            "lost": self.lost,
        }

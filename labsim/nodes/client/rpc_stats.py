"""The file rpc_stats of an OSC: how large its bulk RPCs are, how many at once, where they begin.

Does not know what is in them. Stands for osc_rpc_stats_seq_show (osc/lproc_osc.c) and the tallies
of osc_build_rpc.
"""

from __future__ import annotations

from labsim.base.component import Component
from labsim.base.histogram import Histogram, header, offset, power, rpc_table
from labsim.base.params import Param
from labsim.base.units import PAGE_SIZE


class Direction:
    """Reads or writes of one OSC."""

    __slots__ = ("in_flight", "offsets", "pages", "rpcs")

    def __init__(self) -> None:
        self.in_flight = 0
        self.pages = Histogram()
        self.rpcs = Histogram()
        self.offsets = Histogram()


class RpcStats(Component):
    """Counts bulk RPCs as they leave and come back."""

    _directions: tuple[Direction, Direction] | None = None
    _counted_since_ns = 0

    def pending_pages(self) -> int:
        """Dirty pages that are in no RPC yet."""
        return 0

    def bulk_sent(self, write: bool, at: int, nbytes: int) -> None:
        """A bulk RPC of `nbytes` at byte `at` of an object goes out."""
        if self._directions is None:
            self._directions = Direction(), Direction()
        way = self._directions[write]
        way.in_flight += 1
        way.pages.tally_log2(-(-nbytes // PAGE_SIZE))
        way.rpcs.tally(way.in_flight)
        way.offsets.tally_log2(at // PAGE_SIZE + 1)

    def bulk_done(self, write: bool) -> None:
        """Its answer came, or it failed."""
        if self._directions is not None:
            self._directions[write].in_flight -= 1

    @Param.computed(access="rw", help="bulk RPCs by size, by number in flight and by offset")
    def rpc_stats(self) -> str:
        """The file's text; reads never wait as pending pages, they are sent at once."""
        read, write = self._directions or (Direction(), Direction())
        return "".join(
            [
                self._rpc_header(),
                f"read RPCs in flight:  {read.in_flight}\n",
                f"write RPCs in flight: {write.in_flight}\n",
                f"pending write pages:  {self.pending_pages()}\n",
                "pending read pages:   0\n",
                rpc_table("pages per rpc", power, read.pages, write.pages),
                rpc_table("rpcs in flight", str, read.rpcs, write.rpcs),
                rpc_table("offset", offset, read.offsets, write.offsets),
            ]
        )

    def _rpc_header(self) -> str:
        if self.mounted is None:
            return ""
        tree = self.mounted.tree
        return header(tree.wall_ns(), self._counted_since_ns, tree.dialect.stats)

    def store_rpc_stats(self, text: str) -> None:
        """Any write clears the histograms, not what is in flight."""
        for way in self._directions or ():
            for histogram in (way.pages, way.rpcs, way.offsets):
                histogram.clear()
        if self.mounted is not None:
            self._counted_since_ns = self.mounted.tree.wall_ns()

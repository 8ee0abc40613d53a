"""The files of an OST's disk: brw_stats says how large bulk transfers are, and its I/Os.

Does not know objects. Stands for osd_brw_stats_update and record_start_io of osd-ldiskfs
(osd_io.c, osd_lproc.c). Neighbouring pages are taken to be neighbours on disk; a bio carries 1 MiB.
"""

from __future__ import annotations

from collections.abc import Sequence

from labsim.base.histogram import Histogram, Label, brw_table, header, scaled
from labsim.base.params import Param
from labsim.base.units import MIB, NS_PER_S, PAGE_SIZE
from labsim.nodes.space_files import OsdFiles
from labsim.storage.osd import Osd

BIO_BYTES = MIB
"""BIO_MAX_PAGES of 4 KiB."""
HZ = 1000
"""The jiffies of the servers' kernels."""

TABLES: tuple[tuple[str, str, str, Label], ...] = (
    ("pages", "pages per bulk r/w", "rpcs", scaled),
    ("gaps", "discontiguous pages", "rpcs", str),
    ("block_gaps", "discontiguous blocks", "rpcs", str),
    ("bios", "disk fragmented I/Os", "ios", str),
    ("in_flight", "disk I/Os in flight", "ios", str),
    ("time", f"I/O time (1/{HZ}s)", "ios", scaled),
    ("size", "disk I/O size", "ios", scaled),
)
"""Histogram, title, unit and labels of each block, in order."""


class Way:
    """Reads or writes."""

    def __init__(self) -> None:
        self.running = 0
        self.histograms = {name: Histogram() for name, *_ in TABLES}

    def __getitem__(self, name: str) -> Histogram:
        return self.histograms[name]


class BrwStats:
    """Counts the bulk transfers of one OST."""

    __slots__ = ("_ways", "since_ns")

    def __init__(self) -> None:
        self._ways = Way(), Way()
        self.since_ns = 0

    def begin(self, write: bool, ranges: Sequence[tuple[int, int]]) -> int:
        """A transfer of (offset, length) ranges goes to the disk; how many I/Os it makes."""
        way = self._ways[write]
        runs = contiguous(ranges)
        way["pages"].tally_log2(sum(map(pages, ranges)))
        way["gaps"].tally(len(runs) - 1)
        way["block_gaps"].tally(len(runs) - 1)
        bios = [
            min(BIO_BYTES, end - at) for start, end in runs for at in range(start, end, BIO_BYTES)
        ]
        way["bios"].tally(len(bios))
        for nbytes in bios:
            way.running += 1
            way["in_flight"].tally(way.running)
            way["size"].tally_log2(nbytes)
        return len(bios)

    def end(self, write: bool, bios: int, took_ns: int) -> None:
        """So many I/Os are done, after so long."""
        way = self._ways[write]
        way.running -= bios
        for _ in range(bios):
            way["time"].tally_log2(took_ns * HZ // NS_PER_S)

    def clear(self, now_ns: int) -> None:
        """Forget all but what is in flight, as a write to the file does."""
        self.since_ns = now_ns
        for way in self._ways:
            for histogram in way.histograms.values():
                histogram.clear()

    def text(self) -> str:
        """The tables, without what stands above them."""
        read, write = self._ways
        return "".join(
            brw_table(title, unit, label, read[name], write[name])
            for name, title, unit, label in TABLES
        )


def pages(one: tuple[int, int]) -> int:
    """The pages that a range touches."""
    offset, length = one
    return (offset + length - 1) // PAGE_SIZE - offset // PAGE_SIZE + 1 if length else 0


def contiguous(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, end) of whole pages, neighbours joined."""
    runs: list[tuple[int, int]] = []
    for offset, length in ranges:
        start = offset - offset % PAGE_SIZE
        end = -(-(offset + length) // PAGE_SIZE) * PAGE_SIZE
        if runs and runs[-1][1] >= start > runs[-1][0]:
            runs[-1] = runs[-1][0], max(end, runs[-1][1])
        else:
            runs.append((start, end))
    return runs


class DiskFiles(OsdFiles):
    """The files of an OST's disk."""

    def __init__(self, osd: Osd, name: str) -> None:
        super().__init__(osd, name)
        self.disk_io = BrwStats()

    @Param.computed(access="rw", help="bulk transfers by size, and what the disk makes of them")
    def brw_stats(self) -> str:
        """The file's text."""
        if self.mounted is None:
            return self.disk_io.text()
        tree = self.mounted.tree
        return header(tree.wall_ns(), self.disk_io.since_ns, tree.dialect.stats) + (
            self.disk_io.text()
        )

    def store_brw_stats(self, text: str) -> None:
        """Any write clears it."""
        self.disk_io.clear(self.mounted.tree.wall_ns() if self.mounted is not None else 0)

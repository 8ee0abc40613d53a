"""Reads and writes of a mount by size, by process, and by how far they jump.

Does not know files or pages. Stands for ll_rw_stats_tally and the files extents_stats,
extents_stats_per_process and offset_stats (llite/lproc_llite.c of 2.12). Rows of offset_stats have
no line end there, and so here.
"""

from __future__ import annotations

from typing import Any

from labsim.base.histogram import EXTENT_HEAD, Histogram, extent_rows

PROCESSES = 32
"""LL_PROCESS_HIST_MAX: of so many processes is kept what they do."""
JUMPS = 100
"""LL_OFFSET_HIST_MAX."""
FIRST_BITS = 12
"""LL_HIST_START: the first bucket ends below 4 KiB."""

OFFSET_HEAD = (
    f"{'R/W':>3} {'PID':>10} {'RANGE START':>14} {'RANGE END':>14} "
    f"{'SMALLEST EXTENT':>17} {'LARGEST EXTENT':>17} {'OFFSET':>14}\n"
)


class Stretch:
    """What a process read or wrote in one go (struct ll_rw_process_info); bytes."""

    __slots__ = ("end", "file", "largest", "offset", "pid", "smallest", "start", "write")

    def __init__(
        self, pid: int, file: Any, at: int, count: int, write: bool, offset: int = 0
    ) -> None:
        self.pid = pid
        self.file = file
        self.start = at
        self.end = at + count
        self.smallest = self.largest = count
        self.write = write
        self.offset = offset
        """How far it began from where the one before ended."""

    def row(self) -> str:
        """A row of offset_stats."""
        return (
            f"{'W' if self.write else 'R':>3} {self.pid:10} {self.start:14} {self.end:14} "
            f"{self.smallest:17} {self.largest:17} {self.offset:14}"
        )


class RwStats:
    """Counts while it is switched on; made anew when it is switched on again."""

    __slots__ = ("_jumps", "_stretches", "by_process", "since_ns", "sizes")

    def __init__(self, since_ns: int) -> None:
        self.since_ns = since_ns
        self.sizes = Histogram(), Histogram()
        """Reads and writes of all processes."""
        self.by_process: dict[int, tuple[Histogram, Histogram]] = {}
        self._stretches: dict[int, Stretch] = {}
        self._jumps: list[Stretch] = []

    def tally(self, pid: int, file: Any, at: int, count: int, write: bool) -> None:
        """A process read or wrote so many bytes of an open file."""
        bucket = max(count.bit_length() - FIRST_BITS, 0)
        self.sizes[write].tally(bucket)
        own = self.by_process.get(pid)
        if own is None:
            own = self.by_process[pid] = Histogram(), Histogram()
            _limit(self.by_process, PROCESSES)
        own[write].tally(bucket)
        self._move(pid, file, at, count, write)

    def _move(self, pid: int, file: Any, at: int, count: int, write: bool) -> None:
        known = self._stretches.get(pid)
        if known is None or known.file is not file:
            self._stretches[pid] = Stretch(pid, file, at, count, write)
            _limit(self._stretches, PROCESSES)
        elif known.end != at:
            self._jumps = [*self._jumps[-JUMPS + 1 :], known]
            self._stretches[pid] = Stretch(pid, file, at, count, write, at - known.end)
        else:
            known.smallest = min(known.smallest, count)
            known.largest = max(known.largest, count)
            known.end = at + count

    def extents(self) -> str:
        """What is below the head of extents_stats."""
        return EXTENT_HEAD + extent_rows(*self.sizes)

    def extents_by_process(self) -> str:
        """What is below the head of extents_stats_per_process."""
        return EXTENT_HEAD + "".join(
            f"\nPID: {pid}\n{extent_rows(*sizes)}" for pid, sizes in self.by_process.items()
        )

    def offsets(self) -> str:
        """What is below the head of offset_stats: the stretches that ended, those that go on."""
        rows = [one.row() for one in (*self._jumps, *self._stretches.values())]
        return OFFSET_HEAD + "".join(rows)


def _limit(table: dict[int, Any], most: int) -> None:
    """The oldest goes where there are too many."""
    if len(table) > most:
        del table[next(iter(table))]

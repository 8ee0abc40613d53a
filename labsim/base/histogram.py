"""Histograms, and the tables that show them.

Does not know what is counted. Stands for struct obd_histogram with its lprocfs_oh_* functions, and
for the table layouts of rpc_stats, extents_stats and brw_stats.
"""

from __future__ import annotations

from collections.abc import Callable

from labsim.base.dialect import StatsStyle
from labsim.base.stats import timestamp

BUCKETS = 32
"""OBD_HIST_MAX."""

Label = Callable[[int], str]


class Histogram:
    """Counts in 32 buckets: of a number itself, or of its power of two."""

    __slots__ = ("buckets",)

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS

    @property
    def total(self) -> int:
        """All counts."""
        return sum(self.buckets)

    def tally(self, value: int) -> None:
        """Count in the bucket of that number; what is beyond the last goes there."""
        self.buckets[min(value, BUCKETS - 1)] += 1

    def tally_log2(self, value: int) -> None:
        """Count in the bucket of the next power of two: 1 in 0, 2 in 1, 3 and 4 in 2."""
        self.tally((value - 1).bit_length() if value > 0 else 0)

    def clear(self) -> None:
        """Forget everything."""
        self.buckets = [0] * BUCKETS


def percent(part: int, whole: int) -> int:
    """How many of a hundred, cut to an integer; 0 of nothing."""
    return part * 100 // whole if whole else 0


def power(bucket: int) -> str:
    """The label of a power of two: 1, 2, 4 ..."""
    return str(1 << bucket)


def offset(bucket: int) -> str:
    """The label of an offset's power of two, where the first bucket is 0 itself: 0, 1, 2, 4 ..."""
    return str(1 << bucket - 1 if bucket else 0)


def scaled(bucket: int) -> str:
    """The label of a power of two with K and M: 512, 1K, 1M."""
    for shift, letter in ((20, "M"), (10, "K"), (0, "")):
        if bucket >= shift:
            return f"{1 << bucket - shift}{letter}"
    raise AssertionError(bucket)


def rows(
    label: Label, read: Histogram, write: Histogram, layout: str = "{}:\t\t{}   | {}\n",
    write_width: int = 10, buckets: int = BUCKETS,
) -> str:  # fmt: skip
    """A row for each bucket up to the last that counts: calls, percent, running percent, twice."""
    reads, writes = read.total, write.total
    read_sum = write_sum = 0
    lines = []
    for bucket in range(buckets):
        r, w = read.buckets[bucket], write.buckets[bucket]
        read_sum += r
        write_sum += w
        left = f"{r:10} {percent(r, reads):3} {percent(read_sum, reads):3}"
        right = f"{w:{write_width}} {percent(w, writes):3} {percent(write_sum, writes):3}"
        lines.append(layout.format(label(bucket), left, right))
        if read_sum == reads and write_sum == writes:
            break
    return "".join(lines)


def single_rows(label: Label, histogram: Histogram) -> str:
    """As `rows`, with one column: mdc's rpc_stats."""
    total, running = histogram.total, 0
    lines = []
    for bucket in range(BUCKETS):
        count = histogram.buckets[bucket]
        running += count
        share = f"{percent(count, total):3} {percent(running, total):3}"
        lines.append(f"{label(bucket)}:\t\t{count:10} {share}\n")
        if running == total:
            break
    return "".join(lines)


def rpc_table(title: str, label: Label, read: Histogram, write: Histogram) -> str:
    """One block of osc's rpc_stats."""
    head = f"\n\t\t\tread\t\t\twrite\n{title:<22}rpcs   % cum % |       rpcs   % cum %\n"
    return head + rows(label, read, write)


def brw_table(title: str, unit: str, label: Label, read: Histogram, write: Histogram) -> str:
    """One block of an OSD's brw_stats."""
    head = f"\n{'':26} read      |     write\n{title:<22} {unit:<5} % cum % |  {unit:<11} % cum %\n"
    return head + rows(label, read, write, write_width=4)


def extent_rows(read: Histogram, write: Histogram, start: int = 12) -> str:
    """The rows of llite's extents_stats; bucket 0 is what ends below 1 << start bytes."""
    reads, writes = read.total, write.total
    read_sum = write_sum = low = 0
    shift, letters = 10, iter("KMGTPEZY")
    letter, lines = next(letters), []
    for bucket in range(BUCKETS - 4):
        r, w = read.buckets[bucket], write.buckets[bucket]
        read_sum += r
        write_sum += w
        high = 1 << bucket + start - shift
        left = f"{r:14} {percent(r, reads):4} {percent(read_sum, reads):4}"
        right = f"{w:14} {percent(w, writes):4} {percent(write_sum, writes):4}"
        lines.append(f"{low:4}{letter} - {high:4}{letter} : {left}  | {right}\n")
        if read_sum == reads and write_sum == writes:
            break
        low = high
        if low == 1 << 10:
            low, shift, letter = 1, shift + 10, next(letters)
    return "".join(lines)


EXTENT_HEAD = (
    f"{' ':>15} {'read':>19}       | {'write':>20}\n"
    f"{'extents':>13}   {'calls':>14} {'%':>4} {'cum%':>4}  | {'calls':>14} {'%':>4} {'cum%':>4}\n"
)
EXTENTS_DISABLED = (
    "disabled\n write anything to this file to activate, then '0' or 'disable' to deactivate\n"
)


def header(now_ns: int, started_ns: int, style: StatsStyle, blanks: bool = False) -> str:
    """The snapshot_time line above a histogram, and what later trees put below it."""
    if not style.elapsed:
        return f"snapshot_time:         {timestamp(now_ns, style, blanks)} (secs.{style.digits})\n"
    times = [("snapshot", now_ns), ("start", started_ns), ("elapsed", now_ns - started_ns)]
    return "".join(
        f"{name + '_time:':<25} {timestamp(ns, style)} secs.{style.digits}\n" for name, ns in times
    )

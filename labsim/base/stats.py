"""Counters with samples, as every stats file shows them.

Does not know who counts nor when: the snapshot time is given. Stands for lprocfs_counter and
lprocfs_stats_seq_show.
"""

from __future__ import annotations

from labsim.base.dialect import StatsStyle
from labsim.base.units import NS_PER_S, NS_PER_US

EVENT, OPERATION, VALUE, BYTES = range(4)
"""What a counter keeps: samples only; times, shown by some trees only; all; all but squares."""


class Counter:
    """One named counter: samples, and min, max, sum, sum of squares where it was told values."""

    __slots__ = ("high", "keeps", "low", "samples", "squares", "total", "unit")

    def __init__(self, unit: str, keeps: int) -> None:
        self.unit = unit
        self.keeps = keeps
        self.samples = 0
        self.low = 0
        self.high = 0
        self.total = 0
        self.squares = 0

    def add(self, value: int) -> None:
        """Count one sample of that value."""
        self.high = value if value > self.high else self.high
        if value < self.low or not self.samples:
            self.low = value
        self.samples += 1
        self.total += value
        self.squares += value * value


class Stats:
    """The counters of one stats file, in the order they are to be shown.

    `op("open", usecs)` counts an operation (trees differ in whether its time shows), `tally(name)`
    an event, `add("read_bytes", 4096, "bytes")` a value. A counter that never counted is not shown;
    any write to the file clears all.
    """

    __slots__ = ("_counters", "order", "started_ns", "word")

    def __init__(self, order: tuple[str, ...] = (), word: str = "reqs") -> None:
        self.order = order
        self.word = word
        self.started_ns = 0
        self._counters: dict[str, Counter] = {}

    def op(self, name: str, usecs: int = 0) -> None:
        """Count one operation that took so many microseconds."""
        self._counter(name, "", OPERATION).add(usecs)

    def tally(self, name: str, unit: str = "reqs", times: int = 1) -> None:
        """Count an event, or several."""
        self._counter(name, unit, EVENT).samples += times

    def add(self, name: str, value: int, unit: str = "usec", squares: bool = False) -> None:
        """Count one sample with a value: bytes, microseconds, queue lengths.

        Of bytes only some files show the squares: those of RPCs (svc_counter_config).
        """
        counter = self._counters.get(name)
        if counter is None:
            plain = unit == "bytes" and not squares
            counter = self._counter(name, unit, BYTES if plain else VALUE)
        counter.add(value)

    def _counter(self, name: str, unit: str, keeps: int) -> Counter:
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = Counter(unit, keeps)
        return counter

    def count(self, name: str) -> int:
        """How many samples `name` has."""
        counter = self._counters.get(name)
        return counter.samples if counter is not None else 0

    def clear(self, now_ns: int = 0) -> None:
        """Forget everything, as a write to the file does."""
        self.started_ns = now_ns
        self._counters.clear()

    def items(self) -> list[tuple[str, Counter]]:
        """(name, counter) of those that counted, in display order."""
        rank = {name: place for place, name in enumerate(self.order)}
        return sorted(self._counters.items(), key=lambda item: rank.get(item[0], len(rank)))

    def render(self, now_ns: int, style: StatsStyle, blanks: bool = False) -> str:
        """The text of the file at that date (nanoseconds since 1970)."""
        lines = [header(now_ns, self.started_ns, style, blanks)]
        for name, counter in self.items():
            operation = counter.keeps == OPERATION
            unit = counter.unit
            if operation:
                unit = style.usecs if style.op_times else self.word
            elif unit == "usec":
                unit = style.usecs
            text = f"{name:<25} {counter.samples} samples [{unit}]"
            if counter.keeps != EVENT and (style.op_times or not operation):
                text += f" {counter.low} {counter.high} {counter.total}"
                if counter.keeps != BYTES or style.byte_squares:
                    text += f" {counter.squares}"
            lines.append(text + "\n")
        return "".join(lines)


def header(now_ns: int, started_ns: int, style: StatsStyle, blanks: bool = False) -> str:
    """The snapshot_time line of a stats file, and what later trees put below it."""
    rows = [("snapshot_time", now_ns)]
    if style.elapsed:
        rows += [("start_time", started_ns), ("elapsed_time", now_ns - started_ns)]
    return "".join(
        f"{name:<25} {timestamp(ns, style, blanks)} secs.{style.digits}\n" for name, ns in rows
    )


def timestamp(ns: int, style: StatsStyle, blanks: bool = False) -> str:
    """Seconds and their fraction: SEC.NNNNNNNNN; SEC.USEC without zero padding in old trees."""
    seconds, rest = divmod(ns, NS_PER_S)
    if style.digits == "usecs":
        return f"{seconds}.{rest // NS_PER_US}"
    return f"{seconds}.{rest:>9}" if blanks else f"{seconds}.{rest:09}"

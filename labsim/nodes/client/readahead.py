"""Read-ahead: which pages to fetch before anybody asks for them.

Pure: ranges in, ranges out; does not know objects, locks or the cache. Stands for the read-ahead of
llite/rw.c in 2.12: ll_ras_enter, ras_update, ll_readahead, ll_ra_count_get, with its stride
detection and its counters (ra_stat_string). Pages that are mapped are not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from labsim.base.stats import Stats
from labsim.base.units import PAGE_SIZE
from labsim.nodes.client.readahead_file import MAX_BRW_PAGES, FileAhead, Range

NEAR = 8
"""A page so near the last one is no jump."""

HIT, MISS, DISTANT, IN_WINDOW = "hits", "misses", "readpage not consecutive", "miss inside window"
NO_LOCK, DISCARDED, EMPTY = "failed lock match", "read but discarded", "zero length file"
NO_WINDOW, AT_EOF, TOO_MUCH = "zero size window", "read-ahead to EOF", "hit max r-a issue"
CUT_SHORT = "failed to reach end"
COUNTERS = (
    HIT, MISS, DISTANT, IN_WINDOW, "failed grab_cache_page", NO_LOCK, DISCARDED, EMPTY, NO_WINDOW,
    AT_EOF, TOO_MUCH, "wrong page from grab_cache_page", CUT_SHORT,
)  # fmt: skip
"""The lines of llite.*.read_ahead_stats in their order."""

Covered = Callable[[int], int]
"""The last page from this one on that may be fetched under one lock, -1: none."""


class Limits(Protocol):
    """The tunables of a mount, in bytes."""

    @property
    def max_read_ahead_bytes(self) -> int:
        """Of all files together."""
        ...

    @property
    def max_read_ahead_per_file_bytes(self) -> int:
        """Of one file."""
        ...

    @property
    def max_read_ahead_whole_bytes(self) -> int:
        """Files up to here are read whole at their second read."""
        ...


class ReadAhead:
    """The read-ahead of one mount: its budget and its counters.

    `rpc` says how many pages go into one RPC. A `reader` is an open file, whose `ahead` belongs to
    this here.
    """

    __slots__ = ("current", "limits", "rpc", "stats")

    def __init__(self, limits: Limits, stats: Stats, rpc: Callable[[], int]) -> None:
        self.limits = limits
        self.stats = stats
        self.rpc = rpc
        self.current = 0
        """Pages fetched ahead and not yet read (ra_cur_pages)."""

    # ---- in bytes, for the data path

    def hit(self, reader: Any, offset: int, length: int) -> bool:
        """A read of cached bytes; False where `plan` should see it: there may be more to fetch."""
        if reader is None:
            return True
        file: FileAhead | None = reader.ahead
        if file is None or not file.ahead:
            file = self._file(reader)
            file.requests += 1
            file.consecutive_requests += 1
            return True
        first, last = offset // PAGE_SIZE, (offset + length - 1) // PAGE_SIZE
        until = file.holds(first)
        if until <= last:
            return not until and not any(start <= last for start in self._next_ahead(file, first))
        if file.striding or (file.next < file.pages and self._end(file, last) >= file.next):
            return False
        self.pages(file, first, last, (), file.pages, file.rpc, _nothing)
        return True

    def _end(self, file: FileAhead, last: int) -> int:
        """The last page that a read up to `last` could have fetched, if it goes on as it did."""
        most = self.limits.max_read_ahead_per_file_bytes // PAGE_SIZE
        window = file.align(min(file.window_len + file.rpc, most))
        return min(file.align(last) + max(window, file.window_len) - 1, file.pages - 1)

    def plan(
        self, reader: Any, offset: int, length: int, missing: Sequence[Range], size: int,
        covered: Callable[[int], int],
    ) -> list[Range]:  # fmt: skip
        """Byte ranges (start, end) to fetch behind this read.

        `missing` of it is not cached; the file has `size` bytes; `covered(at)` says where the lock
        ends that covers byte `at`, 0: none does.
        """
        if reader is None:
            return []
        first, last = offset // PAGE_SIZE, (offset + length - 1) // PAGE_SIZE
        gaps: list[Range] = []
        for low, high in missing:
            start, end = low // PAGE_SIZE, -(-high // PAGE_SIZE)
            if gaps and start <= gaps[-1][1]:
                gaps[-1] = gaps[-1][0], max(end, gaps[-1][1])
            else:
                gaps.append((start, end))
        ranges = self.pages(
            self._file(reader), first, last, gaps, -(-size // PAGE_SIZE), self.rpc(),
            lambda page: covered(page * PAGE_SIZE) // PAGE_SIZE - 1,
        )  # fmt: skip
        return [
            (max(start, last + 1) * PAGE_SIZE, end * PAGE_SIZE)
            for start, end in ranges
            if end > last + 1
        ]

    def close(self, reader: Any) -> None:
        """The file is closed: what was fetched for it counts no more."""
        file: FileAhead | None = reader.ahead
        if file is not None:
            self.current -= file.take(0, 1 << 62)

    @staticmethod
    def _file(reader: Any) -> FileAhead:
        if reader.ahead is None:
            reader.ahead = FileAhead()
        file: FileAhead = reader.ahead
        return file

    # ---- in pages

    def pages(
        self, file: FileAhead, first: int, last: int, missing: Sequence[Range], pages: int,
        rpc: int, covered: Covered,
    ) -> list[Range]:  # fmt: skip
        """A read of pages `first` to `last`: the ranges to fetch ahead, its own among them.

        `missing` are its pages that are not cached, in order; `pages` is how many the file has,
        `rpc` how many go into one RPC.
        """
        if not (self.limits.max_read_ahead_bytes and self.limits.max_read_ahead_per_file_bytes):
            return []
        file.pages = pages
        file.requests += 1
        file.request_index = 0
        file.consecutive_requests += 1
        wanted: list[Range] = []
        lost = iter(missing)
        gap = next(lost, None)
        at = first
        while at <= last:
            while gap is not None and gap[1] <= at:
                gap = next(lost, None)
            gone = gap is not None and gap[0] <= at
            until = file.holds(at)
            if gone and until and not _met(wanted, at):
                assert gap is not None
                self.discard(file, at, min(gap[1], until))
                until = 0
            if not until and not gone:
                at = min([last + 1, *([gap[0]] if gap else []), *self._next_ahead(file, at)])
                continue
            at = self._read(file, at, min(until, last + 1), last, wanted, pages, rpc, covered)
        return wanted

    @staticmethod
    def _next_ahead(file: FileAhead, at: int) -> list[int]:
        return [start for start, _ in file.ahead if start > at][:1]

    def _read(
        self, file: FileAhead, at: int, until: int, last: int, wanted: list[Range], pages: int,
        rpc: int, covered: Covered,
    ) -> int:  # fmt: skip
        """One page, and those after it that were fetched ahead; the page after them."""
        hit = until > at
        self._update(file, at, hit, pages)
        self.current -= file.take(at, at + 1)
        wanted += self._issue(file, hit, last, pages, rpc, covered)
        at += 1
        if not hit:
            until = min(file.holds(at), last + 1)
        while at < until and not file.striding and file.last == at - 1:
            stop = min(until, file.align(at) + file.rpc)
            while at < stop:
                self._pass(file, at, at + 1)
                at += 1
                before = file.next
                more = self._issue(file, True, last, pages, rpc, covered)
                wanted += more
                if not more and file.next == before and at < stop:
                    self._pass(file, at, stop)
                    self._count(NO_WINDOW, stop - at)
                    at = stop
        return at

    def discard(self, file: FileAhead, start: int, end: int) -> None:
        """Pages that were fetched ahead are gone before anybody read them."""
        count = file.take(start, end)
        self.current -= count
        self._count(DISCARDED, count)

    def _count(self, name: str, times: int = 1) -> None:
        if times:
            self.stats.tally(name, "pages", times)

    # ---- ras_update

    def _pass(self, file: FileAhead, start: int, end: int) -> None:
        """Pages [start, end) of one RPC are hits that come one after the other."""
        self._count(HIT, end - start)
        self.current -= file.take(start, end)
        file.consecutive_pages += end - start
        file.request_index += end - start
        file.last = end - 1
        file.window_start = file.align(start)
        file.next = max(file.next, file.window_start)

    def _update(self, file: FileAhead, index: int, hit: bool, pages: int) -> None:
        """A page is wanted that nobody read since it was fetched, or that was not fetched."""
        self._count(HIT if hit else MISS)
        far = abs(index - file.last) > NEAR
        missed = False
        if far:
            self._count(DISTANT)
        elif not hit and file.window_len and index < file.next:
            missed = file.window_start <= index <= file.window_start + file.window_len
            self._count(IN_WINDOW, missed)
        if self._whole(file, index, pages):
            file.request_index += 1
            return
        detected = self._moved(file, index, far, missed)
        if detected is not None:
            self._advance(file, index, hit, detected)
        file.request_index += 1

    def _whole(self, file: FileAhead, index: int, pages: int) -> bool:
        """A small file is read whole at its second read."""
        most = self.limits.max_read_ahead_whole_bytes // PAGE_SIZE
        if file.requests < 2 or file.request_index or not 0 < pages <= most:
            return False
        file.window_start = 0
        file.next = index + 1
        file.window_len = min(self.limits.max_read_ahead_per_file_bytes // PAGE_SIZE, most)
        return True

    def _moved(self, file: FileAhead, index: int, far: bool, missed: bool) -> bool | None:
        """Whether a stride shows now; None where all begins anew."""
        in_stride = file.in_stride(index)
        if far and not in_stride:
            if file.strides == 0 and file.request_index == 0:
                file.detect_stride(index)
                file.strides += 1
            else:
                file.reset_stride()
            file.reset(index)
            file.consecutive_pages += 1
            return None
        if far:
            file.consecutive_pages = file.consecutive_requests = 0
            file.strides += 1
            return file.strides > 1
        if missed and in_stride and file.striding:
            file.reset(index)
            if file.window_start < file.stride_offset:
                file.reset_stride()
        elif missed:
            file.reset(index)
            file.consecutive_pages += 1
            file.reset_stride()
            return None
        elif file.striding and not in_stride:
            file.reset_stride()
            file.window_len = 0
            file.next = index
        return False

    def _advance(self, file: FileAhead, index: int, hit: bool, detected: bool) -> None:
        """Move the window on, and make it longer once for each request that goes on."""
        file.consecutive_pages += 1
        file.last = index
        file.window_start = file.align(index)
        if file.striding:
            file.next = max(index, file.next)
            file.window_start = max(file.stride_offset, file.window_start)
        else:
            file.next = max(file.next, file.window_start) if hit else index + 1
        if file.strides == 2 and detected:
            file.next = max(index, file.next)
            file.stride_offset = index
            file.window_start = max(index, file.window_start)
        if (file.consecutive_requests > 1 or detected) and not file.request_index:
            most = self.limits.max_read_ahead_per_file_bytes // PAGE_SIZE
            if file.striding:
                file.grow_stride(most)
            else:
                file.window_len = file.align(min(file.window_len + file.rpc, most))

    # ---- ll_readahead

    def _issue(
        self, file: FileAhead, hit: bool, last: int, pages: int, rpc: int, covered: Covered
    ) -> list[Range]:
        """The ranges to fetch now that one more page of a request up to `last` was reached."""
        if not pages:
            self._count(EMPTY)
            return []
        start = max(file.next, file.stride_offset) if file.striding else file.next
        end = file.window_start + file.window_len - 1 if file.window_len else 0
        end = max(end, last)
        eof = False
        if end:
            eof = pages - 1 <= end
            end = min(end, pages - 1)
            file.next = end + 1
        count = file.counted(start, end + 1) if start <= end else 0
        if not end or not count:
            self._count(NO_WINDOW)
            return []
        least = 0
        if not hit and last + 1 > start:
            least = min(last + 1 - start, file.rpc - start % file.rpc)
        room = self._reserve(count, least)
        if room < count:
            self._count(TOO_MUCH)
        ranges, reached = self._fetch(file, start, end, start + least, eof, room, rpc, covered)
        if reached == end == pages - 1:
            self._count(AT_EOF)
        if reached >= 0 and reached != end:
            self._count(CUT_SHORT)
            if reached <= file.next and 0 <= reached - file.window_start <= file.window_len:
                file.next = reached + 1
        return ranges

    def _reserve(self, count: int, least: int) -> int:
        """Pages that the budget allows: all or, below an RPC, none but those being read."""
        room = min(self.limits.max_read_ahead_bytes // PAGE_SIZE - self.current, count)
        if room < min(MAX_BRW_PAGES, count):
            room = 0
        return max(room, least)

    def _fetch(
        self, file: FileAhead, start: int, end: int, least: int, eof: bool, room: int, rpc: int,
        covered: Covered,
    ) -> tuple[list[Range], int]:  # fmt: skip
        """What of [start, end] is fetched, and the last page of that, -1: none.

        Not past the lock that covers the beginning; up to where an RPC ends.
        """
        limit = covered(start)
        if limit < start:
            self._count(NO_LOCK)
            return [], -1
        file.rpc = min(file.rpc, rpc) or 1
        aligned = file.align(end + 1)
        if aligned and not eof:
            end = aligned - 1
        end = min(max(end, least), limit)
        ranges: list[Range] = []
        reached = -1
        for part in file.parts(start, end + 1):
            for low, high in file.lacking(*part):
                stop = min(high, low + room)
                if stop > low:
                    ranges.append((low, stop))
                    file.add(low, stop)
                    self.current += stop - low
                    room -= stop - low
                if stop < high:
                    return ranges, stop - 1 if stop > start else -1
            reached = part[1] - 1
        return ranges, reached


def _nothing(page: int) -> int:
    """No lock covers this page."""
    return -1


def _met(ranges: Sequence[Range], page: int) -> bool:
    """Is a page in one of the ranges?"""
    return any(start <= page < end for start, end in ranges)

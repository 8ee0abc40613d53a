"""How one open file is read: its read-ahead window, its stride, and what was fetched for it.

Pure: page numbers only; what to make of them is `readahead`'s. Stands for struct ll_readahead_state
(llite_internal.h) and its ras_* and stride_* functions (llite/rw.c of 2.12).
"""

from __future__ import annotations

from labsim.base.units import PAGE_SIZE

MAX_BRW_PAGES = (16 << 20) // PAGE_SIZE
"""PTLRPC_MAX_BRW_PAGES: how large an RPC is taken to be before anybody has said."""

Range = tuple[int, int]
"""Pages [start, end)."""


class FileAhead:
    """What is known of how one open file is read (struct ll_readahead_state); pages."""

    __slots__ = (
        "ahead", "consecutive_pages", "consecutive_requests", "last", "next", "pages",
        "request_index", "requests", "rpc", "stride_length", "stride_offset", "stride_pages",
        "strides", "window_len", "window_start",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rpc = MAX_BRW_PAGES
        self.pages = 0
        """How long the file was when it was last looked at."""
        self.ahead: list[Range] = []
        """What was fetched and nobody has read yet: disjoint, in order."""
        self.requests = self.request_index = 0
        self.strides = self.stride_offset = self.stride_length = self.stride_pages = 0
        self.reset(0)

    def reset(self, index: int) -> None:
        """Begin anew at a page."""
        self.last = index
        self.consecutive_requests = self.consecutive_pages = self.window_len = 0
        self.window_start = self.align(index)
        self.next = max(self.window_start, index + 1)

    def reset_stride(self) -> None:
        """It is no stride."""
        self.strides = self.stride_length = self.stride_pages = 0

    def align(self, index: int) -> int:
        """The start of the RPC that a page falls into."""
        return index - index % self.rpc

    @property
    def striding(self) -> bool:
        """Reads come in a stride."""
        return self.strides > 1

    def in_stride(self, index: int) -> bool:
        """Is this page where the stride has its next?"""
        if not self.stride_length or not self.stride_pages:
            return False
        if self.stride_pages == self.stride_length:
            return False
        gap = index - self.last - 1
        if gap == 0:
            return self.consecutive_pages + 1 <= self.stride_pages
        return (
            self.stride_length - self.stride_pages == gap
            and self.consecutive_pages == self.stride_pages
        )

    def detect_stride(self, index: int) -> None:
        """A first jump: how long what was read is, and how far apart."""
        if index <= self.last:
            self.reset_stride()
            return
        self.stride_pages = self.consecutive_pages
        self.stride_length = index - self.last - 1 + self.consecutive_pages

    def counted(self, start: int, end: int) -> int:
        """Pages of [start, end) that reads will want: all, or those in the stride."""
        if not self.striding:
            return end - start
        return sum(stop - low for low, stop in self.parts(start, end))

    def parts(self, start: int, end: int) -> list[Range]:
        """[start, end), or of it what is in the stride."""
        if not self.striding or self.stride_length <= self.stride_pages:
            return [(start, end)] if end > start else []
        found = []
        begin = max(start, self.stride_offset)
        block = self.stride_offset + (begin - self.stride_offset) // self.stride_length * (
            self.stride_length
        )
        while block < end:
            low, high = max(block, start), min(block + self.stride_pages, end)
            if low < high:
                found.append((low, high))
            block += self.stride_length
        return found

    def grow_stride(self, limit: int) -> None:
        """Make the window an RPC's worth of pages longer, gaps not counted."""
        length, pages = self.stride_length, self.stride_pages
        left = (self.window_start + self.window_len - self.stride_offset) % length
        window = self.window_len - left
        left = left + self.rpc if left < pages else pages + self.rpc
        window += left // pages * length + left % pages
        if self.counted(self.stride_offset, self.stride_offset + window) <= limit:
            self.window_len = window

    # ---- what was fetched

    def holds(self, index: int) -> int:
        """Where the fetched pages that begin at or before `index` end; 0 where it is none."""
        for start, end in self.ahead:
            if start <= index < end:
                return end
        return 0

    def lacking(self, start: int, end: int) -> list[Range]:
        """Of [start, end), what is not being fetched yet."""
        found = []
        for low, high in self.ahead:
            if high <= start:
                continue
            if low >= end:
                break
            if low > start:
                found.append((start, low))
            start = high
        if start < end:
            found.append((start, end))
        return found

    def add(self, start: int, end: int) -> None:
        """Pages are being fetched."""
        merged: list[Range] = []
        for low, high in sorted([*self.ahead, (start, end)]):
            if merged and low <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(high, merged[-1][1])
            else:
                merged.append((low, high))
        self.ahead = merged

    def take(self, start: int, end: int) -> int:
        """Pages are read, or gone; how many of them were fetched ahead."""
        kept: list[Range] = []
        taken = 0
        for low, high in self.ahead:
            if low < start:
                kept.append((low, min(high, start)))
            if high > end:
                kept.append((max(low, end), high))
            taken += max(min(high, end) - max(low, start), 0)
        self.ahead = kept
        return taken

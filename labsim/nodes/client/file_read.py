"""Reading files: from the cache, and from the OSTs what is not there.

Knows locks that are held and objects, not what is dirty. Stands for the reading half of vvp_io.c
and rw.c; what to read ahead somebody else says.
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.base.payload import Fill, Payload, join, piece
from labsim.base.units import PAGE_SIZE
from labsim.ldlm.client_lock import ClientLock
from labsim.nodes.client.data import NoReadAhead, Sizes
from labsim.nodes.client.file_locks import FileLocks, FileState, Grip
from labsim.nodes.client.inode import Inode
from labsim.nodes.client.lov import Run, file_size, object_size, pieces, runs
from labsim.nodes.client.osc import Osc
from labsim.nodes.client.osc_object import OscObject, merged, span
from labsim.runtime.ports import Steps
from labsim.runtime.sync import gather
from labsim.wire.constants import LCK_PR

EINVAL = 22


class FileReads(FileLocks):
    """The part of FileData that reads."""

    def __init__(self, node: Any, oscs: dict[int, Osc]) -> None:
        super().__init__(node, oscs)
        self.readahead: Any = node.make(NoReadAhead)

    def read(
        self, inode: Inode, offset: int, length: int, reader: Any = None, direct: bool = False
    ) -> Steps[Payload]:
        """Up to `length` bytes at `offset`; short at the end of the file, holes read as zeros."""
        if not inode.layout:
            length = min(length, max(inode.size - offset, 0))
            return Fill(length) if length else b""
        state = self.state(inode)
        held = yield from state.ranges.take(self.env, offset, offset + length, False)
        grips: list[Grip] = []
        try:
            yield from self.hold(inode, state, offset, length, LCK_PR, grips)
            size = self.known_size(state)
            if offset + length > size:
                size = max(size, (yield from self.sizes(inode, state)).size)
            if offset >= size or not length:
                return b""
            if direct and (offset | length) % PAGE_SIZE:
                raise LustreError(EINVAL, "direct I/O of parts of pages")
            length = min(length, size - offset)
            return (yield from self._read(state, grips, offset, length, size, reader, direct))
        finally:
            self.release(grips)
            state.ranges.give(held)

    def _read(
        self, state: FileState, grips: list[Grip], offset: int, length: int, size: int,
        reader: Any, direct: bool,
    ) -> Steps[Payload]:  # fmt: skip
        """Bytes that are there, under locks that are held."""
        by_stripe = {grip.stripe: grip for grip in grips}
        wanted = [(by_stripe[run.stripe], run) for run in runs(state.layout, offset, length)]
        if direct or any(grip.lock is None for grip in grips):
            parts: list[list[tuple[int, Payload]]] = yield from gather(
                self.env, [self._read_past(grip, run) for grip, run in wanted]
            )
        else:
            self._read_ahead(state, reader, offset, length, size)
            parts = yield from self._read_cached(state, wanted, size)
        found = sorted((part for run in parts for part in run), key=lambda part: part[0])
        return join([data for _, data in found])

    def _read_cached(
        self, state: FileState, wanted: list[tuple[Grip, Run]], size: int
    ) -> Steps[list[list[tuple[int, Payload]]]]:
        """Have what is missing fetched, and stay until it is taken."""
        for grip, _ in wanted:
            grip.obj.readers += 1
        try:
            yield from gather(
                self.env,
                [
                    self._fill(
                        grip.obj, grip.lock, run.offset, run.offset + run.length,
                        object_size(state.layout, run.stripe, size),
                    )
                    for grip, run in wanted
                ],
            )  # fmt: skip
            parts = []
            for grip, run in wanted:
                data = grip.obj.cached(run.offset, run.offset + run.length)
                assert data is not None, "what was fetched under a lock is gone"
                parts.append(_cut(run, data))
            return parts
        finally:
            for grip, _ in wanted:
                grip.obj.readers -= 1

    def _read_past(self, grip: Grip, run: Run) -> Steps[list[tuple[int, Payload]]]:
        """O_DIRECT, or without a lock: what is dirty is written, then the OST is asked.

        Nothing stays cached.
        """
        osc, obj, end = grip.obj.osc, grip.obj, run.offset + run.length
        yield from osc.flush(obj, run.offset, end)
        got: list[Payload] = yield from gather(
            self.env,
            [osc.fetch(obj, grip.lock, low, high) for low, high in osc.chunks(run.offset, end)],
        )
        data = join(got)
        if len(data) < run.length:
            data = join([data, Fill(run.length - len(data))])
        return _cut(run, data)

    def _fill(
        self, obj: OscObject, lock: ClientLock, start: int, end: int, limit: int
    ) -> Steps[None]:
        """Have all of [start, end) cached; the object ends at `limit` in a file without holes."""
        while True:
            missing = obj.missing(start, end)
            if not missing:
                return
            coming = [
                event
                for low, high, event in obj.fetches
                if any(low < last and high > first for first, last in missing)
            ]
            if coming:
                yield coming[0]
                continue
            yield from gather(self.env, self._fetches(obj, lock, missing, max(limit, end)))

    def _fetches(
        self, obj: OscObject, lock: ClientLock, missing: list[tuple[int, int]], limit: int
    ) -> list[Steps[None]]:
        """BRWs for the pages of these ranges."""
        ranges = merged(
            (low - low % PAGE_SIZE, -(-high // PAGE_SIZE) * PAGE_SIZE) for low, high in missing
        )
        return [
            self._fetch(obj, lock, low, high, limit)
            for first, last in ranges
            for low, high in obj.osc.chunks(first, last)
        ]

    def _fetch(
        self, obj: OscObject, lock: ClientLock, start: int, end: int, limit: int
    ) -> Steps[None]:
        """One BRW into the cache; from this moment on others know that it is coming."""
        record = (start, end, self.env.event())
        obj.fetches.append(record)
        return self._arrive(obj, lock, record, limit)

    def _arrive(
        self, obj: OscObject, lock: ClientLock, record: tuple[int, int, Any], limit: int
    ) -> Steps[None]:
        """What lies behind the object's end are zeros."""
        start, end, arrived = record
        try:
            got = yield from obj.osc.fetch(obj, lock, start, end)
            known = start + len(got)
            if len(got):
                obj.fill(start, known, got)
                obj.size = max(obj.size, known)
            end = min(end, limit)
            if known < end:
                obj.fill(known, end, Fill(end - known))
        finally:
            obj.fetches.remove(record)
            arrived.succeed()

    # ---- reading ahead

    def _read_ahead(
        self, state: FileState, reader: Any, offset: int, length: int, size: int
    ) -> None:
        """Have what will be wanted next on its way, as far as locks reach that are here."""
        lacking: list[tuple[int, int]] = []
        for stripe, at, start, count in pieces(state.layout, offset, length):
            obj = state.objects[stripe]
            assert obj is not None
            shift = offset + start - at
            lacking += [(low + shift, high + shift) for low, high in obj.absent(at, at + count)]

        def covered(at: int) -> int:
            return self._covered(state, at)

        for start, end in self.readahead.plan(reader, offset, length, lacking, size, covered):
            end = min(end, size)
            for run in runs(state.layout, start, end - start) if start < end else ():
                grip = self.match(state, run, LCK_PR)
                if grip is not None:
                    stop = min(run.offset + run.length, span(grip.lock)[1])
                    limit = object_size(state.layout, run.stripe, size)
                    missing = grip.obj.absent(run.offset, stop)
                    works = self._fetches(grip.obj, grip.lock, missing, limit)
                    self.env.process(self._ahead(grip, works))

    def _covered(self, state: FileState, at: int) -> int:
        """Where the lock ends that covers byte `at` of the file, in bytes of the file; 0: none."""
        layout = state.layout
        ((stripe, on_object, _, _),) = pieces(layout, at, 1)
        obj = state.objects[stripe]
        spans = [span(lock) for lock in (obj.locks() if obj is not None else ()) if lock.usable]
        ends = [end for start, end in spans if start <= on_object < end]
        room = max(ends, default=on_object) - on_object
        if state.count > 1:
            room = min(room, layout.stripe_size - at % layout.stripe_size)
        return at + room if room else 0

    def _ahead(self, grip: Grip, works: list[Steps[None]]) -> Steps[None]:
        """Fetch in the background; what fails is left to who really wants it."""
        try:
            yield from gather(self.env, works)
        except LustreError as error:
            self.node.host.trace.emit("readahead.failed", grip.obj.osc.name, error.errno)
        finally:
            self.release([grip])

    # ---- sizes

    def sizes(self, inode: Inode, state: FileState) -> Steps[Sizes]:
        """Of the whole file, as they are at this moment."""
        known = yield from gather(
            self.env,
            [self.glimpse_object(inode, state, number) for number in range(state.count)],
        )
        return Sizes(
            max(file_size(state.layout, number, one.size) for number, one in enumerate(known)),
            sum(one.blocks for one in known),
            max(one.mtime for one in known),
            max(one.atime for one in known),
            max(one.ctime for one in known),
        )


def _cut(run: Run, data: Payload) -> list[tuple[int, Payload]]:
    """A run's bytes in pieces of the file's range, each with its place there."""
    parts, at = [], 0
    for start, length in run.parts:
        parts.append((start, piece(data, at, at + length)))
        at += length
    return parts

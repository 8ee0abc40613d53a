"""Writing files: into the cache as there is room for dirty pages, else straight to the OSTs.

Knows locks that are held and objects, not RPCs. Stands for the writing half of vvp_io.c
(vvp_io_write_commit) and for osc_queue_async_io's way of making room.
"""

from __future__ import annotations

from labsim.base.errors import LustreError
from labsim.base.payload import Payload, piece
from labsim.base.units import PAGE_SIZE
from labsim.nodes.client.file_locks import EOF, FileState, Grip
from labsim.nodes.client.file_ranges import END
from labsim.nodes.client.file_read import FileReads
from labsim.nodes.client.grant import Need
from labsim.nodes.client.inode import Inode
from labsim.nodes.client.lov import pieces
from labsim.nodes.client.osc_object import OscObject
from labsim.runtime.ports import Steps
from labsim.wire.constants import LCK_PW

EIO = 5

NOTHING = Need(0, 0)

STEP = 64 * PAGE_SIZE
"""A writer that has to wait for room waits for so much at a time."""


class FileWrites(FileReads):
    """The part of FileData that writes."""

    def write(
        self, inode: Inode, offset: int | None, payload: Payload, direct: bool = False
    ) -> Steps[tuple[int, int]]:
        """Put `payload` at `offset`, None: at the end; (start, end) of what was written.

        It is in the cache then, unless `direct`, or the OST promised too little space: then it is
        on disk. What could not be written is left out at the end; an error if that is all.
        """
        state = self.state(inode)
        append = offset is None
        low, high = (0, END) if append else (offset, offset + len(payload))
        held = yield from state.ranges.take(self.env, low, high, True)
        grips: list[Grip] = []
        try:
            if append:
                yield from self.hold(inode, state, 0, EOF, LCK_PW, grips)
                offset = (yield from self.sizes(inode, state)).size
            else:
                yield from self.hold(inode, state, offset, len(payload), LCK_PW, grips)
            assert offset is not None
            end = yield from self._write(inode, state, grips, offset, payload, direct)
            return offset, end
        finally:
            self.release(grips)
            state.ranges.give(held)

    def _write(
        self, inode: Inode, state: FileState, grips: list[Grip], offset: int, payload: Payload,
        direct: bool,
    ) -> Steps[int]:  # fmt: skip
        """Piece by piece in the file's order, under locks that are held."""
        by_stripe = {grip.stripe: grip for grip in grips}
        done = 0
        for stripe, at, start, length in pieces(state.layout, offset, len(payload)):
            grip = by_stripe[stripe]
            part = piece(payload, start, start + length)
            stop = at
            try:
                if direct or grip.lock is None:
                    yield from self._write_past(grip, at, part)
                    stop += length
                else:
                    stop = yield from self._write_piece(grip, at, part)
            except LustreError:
                if not done:
                    raise
            done = max(done, start + stop - at)
            if stop - at < length:
                break
        inode.size = max(inode.size, offset + done)
        inode.mtime = inode.ctime = self.clock.seconds()
        return offset + done

    def _write_past(self, grip: Grip, at: int, part: Payload) -> Steps[None]:
        """O_DIRECT, or without a lock: nothing of it is cached before or after."""
        obj, end = grip.obj, at + len(part)
        yield from obj.osc.write_through(obj, grip.lock, at, part)
        yield from self.settled(obj, at, end)
        obj.drop(at, end)
        obj.size = max(obj.size, end)

    def _write_piece(self, grip: Grip, at: int, part: Payload) -> Steps[int]:
        """Make bytes dirty as there is room; without grant they go straight to the OST.

        Where that ends, as soon as the OST takes no more; an error where it takes nothing.
        """
        obj, lock, osc = grip.obj, grip.lock, grip.obj.osc
        end, start = at + len(part), at
        while at < end:
            limit = obj.limit(at)
            room = self._room(obj, at)
            stop = min(end, limit, room if room > at else at - at % PAGE_SIZE + STEP)
            cached = yield from self._make_room(obj, at, stop, limit)
            if lock.failed:
                raise LustreError(EIO, f"{osc.name}: evicted")
            data = piece(part, at - start, stop - start)
            if cached:
                obj.dirtied(lock, at, stop, data)
            else:
                try:
                    yield from osc.write_through(obj, lock, at, data)
                except LustreError:
                    if at == start:
                        raise
                    return at
                obj.written(at, stop, data)
            at = stop
        return at

    def _room(self, obj: OscObject, at: int) -> int:
        """How far a write at `at` gets without waiting; nowhere where it must ask the OST first.

        What is left of the grant says nothing then: a piece cut to fit it would be taken where
        the OST has just refused more, and a full OST answer a short write each time.
        """
        osc = obj.osc
        if obj.force_sync:
            return at
        room = min(osc.grant.avail - osc.grant.tax, osc.grant.room(osc.max_dirty_bytes))
        return at - at % PAGE_SIZE + room // PAGE_SIZE * PAGE_SIZE

    def _make_room(self, obj: OscObject, at: int, stop: int, limit: int) -> Steps[bool]:
        """Take the grant for [at, stop); what is dirty around it may go while this waits."""
        osc, epoch, taken = obj.osc, obj.osc.grant.epoch, NOTHING
        while True:
            need = obj.dirty.cost(at, stop, limit, osc.grant.tax)
            if need.pages <= taken.pages and need.grant <= taken.grant:
                osc.grant.unreserve(taken.pages - need.pages, taken.grant - need.grant)
                return True
            osc.grant.unreserve(*taken)
            room = yield from osc.enter_cache(obj, need)
            if epoch != osc.grant.epoch:
                raise LustreError(EIO, f"{osc.name}: evicted")
            if not room:
                return False
            taken = need

    def settled(self, obj: OscObject, start: int, end: int) -> Steps[None]:
        """Wait until nothing of a range is being read or written."""
        for extent in list(obj.dirty.sent):
            if extent.end > start and extent.start < end:
                event = extent.wait(self.env)
                if event is not None:
                    yield event
        for low, high, event in list(obj.fetches):
            if high > start and low < end:
                yield event

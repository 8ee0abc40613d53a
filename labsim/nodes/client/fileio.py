"""The bytes of files: reads, writes, truncates and sizes, striped over OSTs, cached under locks.

Knows inodes and layouts, not names. Here are the short ways through the cache, truncates and
flushes; the long ways are in `file_read` and `file_write`, locks and sizes in `file_locks`. Stands
for vvp_io.c, lov_io.c and the glimpse of llite (glimpse.c).
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.base.payload import Payload
from labsim.base.units import PAGE_SIZE
from labsim.nodes.client.data import Sizes
from labsim.nodes.client.file_locks import EOF, FileState
from labsim.nodes.client.file_ranges import END
from labsim.nodes.client.file_write import FileWrites
from labsim.nodes.client.inode import Inode
from labsim.nodes.client.lov import object_size
from labsim.nodes.client.osc import Osc
from labsim.nodes.client.page_lru import WINDOW_SHIFT
from labsim.runtime.ports import Steps
from labsim.runtime.sync import gather
from labsim.wire.constants import LCK_PW
from labsim.wire.ost import ObdStatfs

EIO = 5


class FileData(FileWrites):
    """What llite asks of the data path; one for each mount."""

    # ---- the short ways: what needs no waiting is done in a few calls

    def put(self, inode: Inode, offset: int, payload: Payload) -> bool:
        """Write into the cache under a lock that is here; False: nothing done, use `write`."""
        state = inode.data
        if state is None or state.ea != inode.layout or state.ranges.held:
            return False
        end = offset + len(payload)
        count = state.count
        if count == 1:
            obj = state.objects[0]
            if obj is None or obj.gone or not obj.put(offset, end, payload):
                return False
        else:
            size = state.layout.stripe_size
            block = offset // size
            obj = state.objects[block % count]
            if obj is None or obj.gone or (end - 1) // size != block:
                return False
            at = block // count * size + offset % size
            if not obj.put(at, at + end - offset, payload):
                return False
        inode.size = end if end > inode.size else inode.size
        inode.mtime = inode.ctime = obj.mtime
        return True

    def get(self, inode: Inode, offset: int, length: int, reader: Any) -> Payload | None:
        """Read from the cache if all of it is there (fast_read); None: use `read`."""
        state = inode.data
        if state is None or state.ea != inode.layout or state.ranges.held:
            return None
        at, count = offset, state.count
        if count == 1:
            obj = state.objects[0]
        else:
            size = state.layout.stripe_size
            block = offset // size
            obj = state.objects[block % count]
            if (offset + length - 1) // size != block:
                return None
            at = block // count * size + offset % size
        if obj is None or obj.gone:
            return None
        data: Payload | None = obj.cached(at, at + length)
        if data is None or not self.readahead.hit(reader, offset, length):
            return None
        self.lru.touch(obj, at >> WINDOW_SHIFT)
        return data

    # ---- size and times

    def truncate(self, inode: Inode, size: int) -> Steps[None]:
        """Make the file `size` bytes long: every object gets its share of that."""
        if inode.layout:
            state = self.state(inode)
            held = yield from state.ranges.take(self.env, 0, END, True)
            try:
                stripes = range(state.count)
                yield from gather(
                    self.env, [self._punch(inode, state, number, size) for number in stripes]
                )
            finally:
                state.ranges.give(held)
        inode.size = size
        inode.mtime = inode.ctime = self.clock.seconds()

    def _punch(self, inode: Inode, state: FileState, number: int, size: int) -> Steps[None]:
        """Dirty pages beyond the cut go unwritten; what is on its way arrives first."""
        length = object_size(state.layout, number, size)
        start = length - length % PAGE_SIZE
        grip = yield from self.lock(inode, state, number, LCK_PW, start, EOF)
        obj = grip.obj
        try:
            yield from self.settled(obj, length, EOF)
            obj.discard(length, EOF)
            now = self.clock.seconds()
            oa = yield from obj.osc.punch(
                obj.oi, grip.lock.server_handle, length, mtime=now, ctime=now
            )
            obj.punched(oa, length)
        finally:
            self.release([grip])

    def set_times(self, inode: Inode, atime: int, mtime: int, ctime: int) -> Steps[None]:
        """Set the objects' dates, so that a later glimpse does not undo a utimes(2).

        Dates of the past go under a lock on the whole object, or other clients would keep theirs.
        """
        times = {"atime": atime, "mtime": mtime, "ctime": ctime}
        if not inode.layout:
            return
        state = self.state(inode)
        past = min(atime, mtime) < ctime
        yield from gather(
            self.env,
            [self._set_times(inode, state, number, past, times) for number in range(state.count)],
        )

    def _set_times(
        self, inode: Inode, state: FileState, number: int, past: bool, times: dict[str, int]
    ) -> Steps[None]:
        obj = self.object(inode, state, number)
        grips = []
        if past:
            grips.append((yield from self.lock(inode, state, number, LCK_PW, 0, EOF)))
        try:
            yield from obj.osc.setattr(obj.oi, **times)
            if obj.locks():
                obj.mtime, obj.atime, obj.ctime = times["mtime"], times["atime"], times["ctime"]
        finally:
            self.release(grips)

    def glimpse(self, inode: Inode) -> Steps[Sizes]:
        """How long the file is and when it changed, without taking the writer's lock away."""
        if not inode.layout:
            return Sizes(inode.size, inode.blocks, inode.mtime, inode.atime, inode.ctime)
        state = self.state(inode)
        state.glimpsing += 1
        try:
            return (yield from self.sizes(inode, state))
        finally:
            state.glimpsing -= 1
            state.glimpsed_ns = self.env.now

    # ---- writing back, forgetting

    def flush(self, inode: Inode) -> Steps[None]:
        """Have everything that was written on disk (fsync); what failed before is told now."""
        if not inode.layout:
            return
        state = self.state(inode)
        here = [one for one in state.objects if one is not None]
        yield from gather(self.env, [one.osc.flush(one, 0, EOF) for one in here])
        error = 0
        for one in here:
            error, one.error = error or one.error, 0
            one.async_rc = 0
        try:
            yield from gather(
                self.env,
                [self.osc(stripe).sync(stripe.oi) for stripe in state.layout.stripes],
            )
        except LustreError:
            if not error:
                raise
        if error:
            raise LustreError(error, f"{inode.fid}: a write before this one failed")

    def closed(self, inode: Inode) -> int:
        """The errno of a write that failed after it was taken, for close; told once (ll_flush)."""
        state, code = inode.data, 0
        for one in state.objects if state is not None else ():
            if one is not None:
                code, one.async_rc = code or one.async_rc, 0
        return code

    def write_back(self) -> Steps[None]:
        """Write everything dirty of this mount, as umount does; where the OST is reachable."""
        yield from gather(
            self.env,
            [
                obj.osc.flush(obj, 0, EOF)
                for osc in self.oscs.values()
                if osc.usable
                for obj in list(osc.objects.values())
                if obj.dirty
            ],
        )

    def drop(self, inode: Inode) -> Steps[bool]:
        """Forget clean pages; True where nothing of the inode is left that must be kept."""
        state = inode.data
        clean = state is None or not state.ranges.held
        for one in state.objects if state is not None else ():
            if one is None:
                continue
            if one.readers or one.fetches:
                clean = False
                continue
            one.drop_clean(0, EOF)
            clean = clean and not one.users and not one.dirty and not one.error
        if clean:
            inode.data = None
        return clean
        yield

    def discard(self, inode: Inode) -> None:
        """Nobody here will ask for the file again: it has no name, and is not open.

        Another client may still have it open, so dirty pages stay; when the OST destroys the
        objects it calls the locks back and says that the data may go.
        """
        for one in inode.data.objects if inode.data is not None else ():
            if one is not None:
                one.doomed = True
        inode.data = None

    def cached(self) -> tuple[int, int, int]:
        """The limit of the cache, what it holds (bytes), and how often room had to be made."""
        return self.lru.limit, self.lru.used, self.lru.reclaimed

    def limit_cache(self, limit: int) -> None:
        """So many bytes may be cached from now on."""
        self.lru.set_limit(limit)

    # ---- all OSTs

    def guard(self, checksums: bool) -> None:
        """Bulk data goes with or without checksums from now on."""
        for osc in self.oscs.values():
            osc.checksums = checksums

    def statfs(self) -> Steps[ObdStatfs]:
        """All OSTs together; one that does not answer is left out (lazystatfs)."""
        answers: list[ObdStatfs | None] = yield from gather(
            self.env, [self._statfs_one(osc) for osc in self.oscs.values()]
        )
        heard = [one for one in answers if one is not None and one.bsize]
        if not heard:
            raise LustreError(EIO, "no OST answers")
        bsize = heard[0].bsize
        return heard[0].replace(
            blocks=sum(one.blocks * one.bsize // bsize for one in heard),
            bfree=sum(one.bfree * one.bsize // bsize for one in heard),
            bavail=sum(one.bavail * one.bsize // bsize for one in heard),
            files=sum(one.files for one in heard),
            ffree=sum(one.ffree for one in heard),
        )

    def _statfs_one(self, osc: Osc) -> Steps[ObdStatfs | None]:
        try:
            return (yield from osc.statfs())
        except LustreError:
            return None

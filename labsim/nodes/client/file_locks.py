"""A file's objects, and the extent locks that an operation holds on them.

Knows layouts and locks, not bytes. Stands for cl_lock and lov_lock (lov_lock.c, osc_lock.c) and for
the glimpse: how an operation comes to hold the locks of all stripes that it touches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from labsim.base.errors import LustreError
from labsim.base.units import NS_PER_S, PAGE_SIZE
from labsim.ldlm.client_lock import ClientLock
from labsim.ldlm.policy import Extent
from labsim.nodes.client import points
from labsim.nodes.client.file_ranges import FileRanges
from labsim.nodes.client.inode import Inode
from labsim.nodes.client.lov import Run, Stripe, file_size, parse, runs
from labsim.nodes.client.osc import Osc
from labsim.nodes.client.osc_object import OscObject, unpack_lvb
from labsim.nodes.client.page_lru import PageLru
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import (
    LCK_GROUP,
    LCK_PR,
    LDLM_FL_BLOCK_NOWAIT,
    LDLM_FL_DENY_ON_CONTENTION,
    LDLM_FL_HAS_INTENT,
    LDLM_FL_NO_EXPANSION,
    LDLM_FL_SPECULATIVE,
    OBD_CONNECT2_LOCKAHEAD,
    OBD_CONNECT_SRVLOCK,
    OBD_OBJECT_EOF,
)
from labsim.wire.ost import OstLvb

EIO, ENODATA, EUSERS, EOPNOTSUPP = 5, 61, 87, 95

LLA_RESULT_SENT, LLA_RESULT_DIFFERENT, LLA_RESULT_SAME = 0, 1, 2
"""How a lock ahead went: asked for, or one is here that covers it, or just it."""

GLIMPSED_NS = NS_PER_S
"""Whoever was asked for its size so recently is not asked ahead (ll_agl_trigger)."""
AHEAD = LDLM_FL_HAS_INTENT | LDLM_FL_BLOCK_NOWAIT | LDLM_FL_SPECULATIVE
"""A glimpse that nobody waits for: the OST grants a lock, or does nothing at all."""

EOF = OBD_OBJECT_EOF
WHOLE = Extent(0, EOF)


class FileState:
    """The data path's part of an inode: its layout read, its objects as this client has them."""

    __slots__ = (
        "count", "ea", "glimpsed_ns", "glimpsing", "group", "group_grips", "layout", "objects",
        "ranges",
    )  # fmt: skip

    def __init__(self, ea: bytes) -> None:
        self.ea = ea
        self.layout = parse(ea)
        self.count = len(self.layout.stripes)
        self.objects: list[OscObject | None] = [None] * self.count
        self.ranges = FileRanges()
        self.group = 0
        """The group that I/O on the file goes on in (LL_IOC_GROUP_LOCK); 0: none."""
        self.group_grips: list[Grip] = []
        self.glimpsing = 0
        """How many are asking for the size now (lli_glimpse_sem)."""
        self.glimpsed_ns = -GLIMPSED_NS
        """When somebody last did (lli_glimpse_time)."""


class Grip(NamedTuple):
    """A lock that an operation holds on one object, which is pinned as long.

    None: the OST would rather lock for each BRW itself, for many fight for the object.
    """

    stripe: int
    obj: OscObject
    lock: ClientLock | None


class FileLocks:
    """The part of FileData that finds objects and takes locks."""

    def __init__(self, node: Any, oscs: dict[int, Osc]) -> None:
        self.node = node
        self.host: Host = node.host
        self.env = node.host.env
        self.clock = node.host.clock
        self.oscs = oscs
        self.lru = PageLru(self._soft_limit)
        self.unstable_check = False

    # ---- what is kept until the OSTs have it on disk

    def unstable(self) -> int:
        """Bytes that OSTs have in memory only: they are kept here for a replay."""
        return sum(osc.imp.uncommitted_bytes for osc in self.oscs.values())

    def _soft_limit(self) -> bool:
        """So much is unstable that OSTs are asked to commit soon (osc_over_unstable_soft_limit)."""
        return self.unstable() > self.lru.limit >> (2 if self.unstable_check else 1)

    # ---- objects

    def state(self, inode: Inode) -> FileState:
        """The file's objects; ENODATA where it has none."""
        if not inode.layout:
            raise LustreError(ENODATA, f"{inode.fid} has no objects")
        state: FileState | None = inode.data
        if state is None or state.ea != inode.layout:
            state = inode.data = FileState(inode.layout)
        return state

    def osc(self, stripe: Stripe) -> Osc:
        """The device of a stripe's OST; EIO where there is none."""
        osc = self.oscs.get(stripe.index)
        if osc is None:
            raise LustreError(EIO, f"no OST{stripe.index:04x}")
        return osc

    def object(self, inode: Inode, state: FileState, number: int) -> OscObject:
        """One of the file's objects."""
        obj = state.objects[number]
        if obj is None or obj.gone:
            stripe = state.layout.stripes[number]
            obj = self.osc(stripe).object(self.lru, stripe.oi, inode.fid)
            state.objects[number] = obj
        return obj

    # ---- locks

    def lock(
        self, inode: Inode, state: FileState, number: int, mode: int, start: int, end: int,
        flags: int = 0,
    ) -> Steps[Grip]:  # fmt: skip
        """An extent lock over the pages of [start, end), one that is here already or a new one."""
        last = min(-(-end // PAGE_SIZE) * PAGE_SIZE - 1, EOF)
        extent = Extent(start - start % PAGE_SIZE, last, state.group)
        if state.group:
            mode, flags = LCK_GROUP, 0
        return (yield from self._lock(inode, state, number, mode, extent, flags))

    def _lock(
        self, inode: Inode, state: FileState, number: int, mode: int, extent: Extent, flags: int = 0
    ) -> Steps[Grip]:
        obj = self.object(inode, state, number)
        osc = obj.osc
        obj.users += 1
        try:
            yield from self.host.faults.visit(points.OSC_MATCH)
            lock: ClientLock | None = osc.ldlm.match(obj.resource, mode, extent=extent)
            if lock is None:
                lock, _ = yield from osc.ldlm.enqueue(
                    obj.resource, mode, extent=extent, flags=flags,
                    blocking=obj.blocking, glimpse=obj.glimpsed, data=obj,
                )  # fmt: skip
            if lock is None:
                raise LustreError(EIO, f"{osc.name}: no lock")
        except LustreError as error:
            if error.errno == EUSERS and flags & LDLM_FL_DENY_ON_CONTENTION:
                return Grip(number, obj, None)
            self._unpin(obj)
            raise
        except BaseException:
            self._unpin(obj)
            raise
        grip = Grip(number, obj, lock)
        try:
            obj.learn(lock)
        except LustreError:
            self.release([grip])
            raise
        obj.use(lock)
        return grip

    def match(self, state: FileState, run: Run, mode: int) -> Grip | None:
        """A lock that is here already and covers the start of a run."""
        obj = state.objects[run.stripe]
        if obj is None or obj.gone:
            return None
        page = run.offset - run.offset % PAGE_SIZE
        extent = Extent(page, page + PAGE_SIZE - 1, state.group)
        lock = obj.osc.ldlm.match(obj.resource, LCK_GROUP if state.group else mode, extent=extent)
        if lock is None:
            return None
        obj.users += 1
        return Grip(run.stripe, obj, lock)

    def hold(
        self, inode: Inode, state: FileState, offset: int, length: int, mode: int, grips: list[Grip]
    ) -> Steps[None]:
        """Lock all that bytes of the file lie on, in the order of the stripes, into `grips`."""
        if length == EOF:
            for number in range(state.count):
                grips.append((yield from self.lock(inode, state, number, mode, 0, EOF)))
            return
        for run in runs(state.layout, offset, length):
            end = run.offset + run.length
            osc = self.osc(state.layout.stripes[run.stripe])
            lockless = osc.imp.granted(OBD_CONNECT_SRVLOCK)
            flags = LDLM_FL_DENY_ON_CONTENTION if lockless else 0
            grips.append(
                (yield from self.lock(inode, state, run.stripe, mode, run.offset, end, flags))
            )

    def join_group(self, inode: Inode, gid: int, wait: bool) -> Steps[None]:
        """Lock all objects for a group (cl_get_grouplock); EAGAIN where that may not wait.

        All of this client's I/O on the file goes on within the group then; in Lustre only that of
        the descriptor which joined.
        """
        state = self.state(inode)
        grips: list[Grip] = []
        flags = 0 if wait else LDLM_FL_BLOCK_NOWAIT
        try:
            for number in range(state.count):
                extent = Extent(0, EOF, gid)
                grips.append(
                    (yield from self._lock(inode, state, number, LCK_GROUP, extent, flags))
                )
        except BaseException:
            self._leave(grips)
            raise
        state.group = gid
        state.group_grips += grips

    def leave_group(self, inode: Inode, gid: int) -> None:
        """Give the group's locks back: what was written goes to the OSTs (cl_put_grouplock)."""
        state: FileState | None = inode.data
        if state is not None and state.group == gid:
            grips, state.group_grips = state.group_grips, []
            state.group = 0
            self._leave(grips)

    def _leave(self, grips: list[Grip]) -> None:
        for grip in grips:
            if grip.lock is not None:
                grip.obj.osc.ldlm.put(grip.lock, cancel=True)
            self._unpin(grip.obj)

    def release(self, grips: Iterable[Grip]) -> None:
        """Let go of locks and objects."""
        for grip in grips:
            if grip.lock is not None:
                grip.obj.osc.ldlm.put(grip.lock)
            self._unpin(grip.obj)
        self.lru.trim()

    def _unpin(self, obj: OscObject) -> None:
        obj.users -= 1
        if not obj.users and not obj.bytes.total and not obj.locks():
            obj.osc.forget(obj)

    # ---- locks before there is I/O

    def lock_ahead(
        self, inode: Inode, mode: int, start: int, end: int, background: bool
    ) -> Steps[int]:
        """Locks over just the pages from `start` to `end`, for I/O to come (ll_file_lock_ahead).

        In the background nothing is waited for, nobody called back, and told what is here already.
        EOPNOTSUPP where an OST does not know such locks.
        """
        state = self.state(inode)
        result = LLA_RESULT_SENT
        flags = LDLM_FL_NO_EXPANSION | LDLM_FL_BLOCK_NOWAIT
        first, last = start // PAGE_SIZE, end // PAGE_SIZE
        for run in runs(state.layout, first * PAGE_SIZE, (last + 1 - first) * PAGE_SIZE):
            obj = self.object(inode, state, run.stripe)
            if not obj.osc.imp.connect_data.connect_flags2 & OBD_CONNECT2_LOCKAHEAD:
                raise LustreError(EOPNOTSUPP, f"{obj.osc.name}: no lockahead")
            extent = Extent(run.offset, run.offset + run.length - 1)
            if not background:
                grip = yield from self._lock(inode, state, run.stripe, mode, extent, flags)
                self.release([grip])
                continue
            lock = obj.osc.ldlm.match(obj.resource, mode, extent=extent)
            if lock is not None:
                result = LLA_RESULT_SAME if lock.policy == extent else LLA_RESULT_DIFFERENT
                obj.osc.ldlm.put(lock)
                break
            obj.users += 1
            ahead = self._ask_ahead(obj, mode, extent, flags | LDLM_FL_SPECULATIVE)
            self.env.process(ahead)
        return result

    # ---- sizes

    def known_size(self, state: FileState) -> int:
        """How long the file is at least, by what this client's locks guarantee."""
        return max(
            file_size(state.layout, number, obj.size) if obj is not None else 0
            for number, obj in enumerate(state.objects)
        )

    def glimpse_object(self, inode: Inode, state: FileState, number: int) -> Steps[OstLvb]:
        """An object's size and times: what a lock of ours guarantees, else what the OST answers."""
        obj = self.object(inode, state, number)
        if obj.size_is_known():
            return obj.lvb()
        yield from self.host.faults.visit(points.GLIMPSE_DELAY)
        obj.users += 1
        lock: ClientLock | None = None
        try:
            lock, reply = yield from obj.osc.ldlm.enqueue(
                obj.resource, LCK_PR, extent=WHOLE, flags=LDLM_FL_HAS_INTENT,
                blocking=obj.blocking, glimpse=obj.glimpsed, data=obj,
            )  # fmt: skip
            if lock is None:
                return obj.merged(unpack_lvb(reply["dlm_lvb"]))
            obj.learn(lock)
            return obj.lvb()
        finally:
            if lock is not None:
                obj.osc.ldlm.put(lock)
            self._unpin(obj)

    def glimpse_ahead(self, inode: Inode) -> None:
        """Ask the OSTs for locks that tell the size, where they are free (cl_agl)."""
        state = self.state(inode)
        now = self.env.now
        if state.glimpsing or now - state.glimpsed_ns < GLIMPSED_NS:
            return
        state.glimpsed_ns = now
        for number in range(state.count):
            obj = self.object(inode, state, number)
            if not obj.size_is_known():
                obj.users += 1
                self.env.process(self._ask_ahead(obj, LCK_PR, WHOLE, AHEAD))

    def _ask_ahead(self, obj: OscObject, mode: int, extent: Extent, flags: int) -> Steps[None]:
        """One object's lock; what an OST says of it without one is not used: nobody was asked."""
        ldlm = obj.osc.ldlm
        try:
            lock, _ = yield from ldlm.enqueue(
                obj.resource, mode, extent=extent, flags=flags,
                blocking=obj.blocking, glimpse=obj.glimpsed, data=obj,
            )  # fmt: skip
            if lock is not None:
                try:
                    obj.learn(lock)
                finally:
                    ldlm.put(lock)
        except LustreError as error:
            self.host.trace.emit("ahead.failed", obj.osc.name, error.errno)
        finally:
            self._unpin(obj)

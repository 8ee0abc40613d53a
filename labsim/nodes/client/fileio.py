"""The bytes of files: reads, writes, truncates and sizes, striped over OSTs under extent locks.

Knows inodes and layouts, not names. Stands for vvp_io.c, lov_io.c and the glimpse of llite
(glimpse.c). There is no page cache yet: a write is on its OSTs when it returns, a read asks them;
what is cached under a lock is how long an object is and when it changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from labsim.base.errors import LustreError
from labsim.base.payload import Fill, Payload, join, piece
from labsim.base.units import PAGE_SIZE
from labsim.ldlm.client_lock import ClientLock
from labsim.ldlm.policy import Extent
from labsim.ldlm.resource import ost_resource
from labsim.nodes.client.data import Sizes
from labsim.nodes.client.inode import Inode
from labsim.nodes.client.lov import Run, Stripe, file_size, object_size, parse, runs
from labsim.nodes.client.osc import Osc
from labsim.runtime.ports import Steps
from labsim.runtime.sync import gather
from labsim.wire.constants import (
    LCK_PR,
    LCK_PW,
    LDLM_FL_HAS_INTENT,
    OBD_OBJECT_EOF,
    OST_LVB_ERR_INIT,
    OST_LVB_ERR_MASK,
)
from labsim.wire.ost import ObdStatfs, OstLvb

EIO, ENODATA = 5, 61

WHOLE = Extent(0, OBD_OBJECT_EOF)

Held: TypeAlias = dict[int, ClientLock]
"""Locks that an operation holds, by stripe."""


class ObjectState:
    """What this client knows of one object; true while it holds a lock up to the object's end."""

    __slots__ = ("atime", "blocks", "ctime", "mtime", "size")

    def __init__(self, source: Any) -> None:
        self.take(source)

    def take(self, source: Any) -> None:
        """Copy from an OstLvb or an Obdo."""
        self.size = source.size
        self.blocks = source.blocks
        self.mtime = source.mtime
        self.atime = source.atime
        self.ctime = source.ctime

    def wrote(self, end: int, now: int) -> None:
        """This client has written up to `end`."""
        self.size = max(self.size, end)
        self.blocks = max(self.blocks, -(-self.size // PAGE_SIZE) * (PAGE_SIZE // 512))
        self.mtime = self.ctime = now


class FileState:
    """The data path's part of an inode: its layout read, its objects as this client knows them."""

    __slots__ = ("ea", "layout", "objects")

    def __init__(self, ea: bytes) -> None:
        self.ea = ea
        self.layout = parse(ea)
        self.objects: dict[int, ObjectState] = {}


class FileData:
    """What llite asks of the data path; one for each mount."""

    def __init__(self, node: Any, oscs: dict[int, Osc]) -> None:
        self.node = node
        self.env = node.host.env
        self.clock = node.host.clock
        self.oscs = oscs

    # ---- what llite calls

    def read(self, inode: Inode, offset: int, length: int) -> Steps[Payload]:
        """Up to `length` bytes at `offset`; short at the end of the file, holes read as zeros."""
        glimpse = yield from self.glimpse(inode)
        length = min(length, max(glimpse.size - offset, 0))
        if length <= 0:
            return b""
        if not inode.layout:
            return Fill(length)
        state = self._state(inode)
        parts: list[list[tuple[int, Payload]]] = yield from gather(
            self.env,
            [self._read_run(inode, state, run) for run in runs(state.layout, offset, length)],
        )
        pieces = sorted((part for run in parts for part in run), key=lambda part: part[0])
        return join([data for _, data in pieces])

    def write(self, inode: Inode, offset: int | None, payload: Payload) -> Steps[int]:
        """Put `payload` at `offset`, None: at the end; returns the offset after it.

        What was written is on the OSTs then.
        """
        if offset is None:
            return (yield from self._append(inode, payload))
        if len(payload):
            yield from self._write(inode, self._state(inode), offset, payload, {})
        return offset + len(payload)

    def _write(
        self, inode: Inode, state: FileState, offset: int, payload: Payload, held: Held
    ) -> Steps[None]:
        """Write all objects at once; `held` are locks that the caller has, by stripe."""
        yield from gather(
            self.env,
            [
                self._write_run(inode, state, run, payload, held)
                for run in runs(state.layout, offset, len(payload))
            ],
        )
        inode.size = max(inode.size, offset + len(payload))
        inode.mtime = inode.ctime = self.clock.seconds()

    def _append(self, inode: Inode, payload: Payload) -> Steps[int]:
        """O_APPEND: lock every object whole, in stripe order, then see how long the file is."""
        state = self._state(inode)
        held: Held = {}
        try:
            for number in range(len(state.layout.stripes)):
                held[number] = yield from self._lock(state, number, LCK_PW, 0, OBD_OBJECT_EOF)
            offset = 0
            for number in held:
                known = state.objects.get(number)
                if known is None:
                    known = yield from self._glimpse_object(state, number)
                offset = max(offset, file_size(state.layout, number, known.size))
            yield from self._write(inode, state, offset, payload, held)
            return offset + len(payload)
        finally:
            for number, lock in held.items():
                self._osc(state.layout.stripes[number]).ldlm.put(lock)

    def truncate(self, inode: Inode, size: int) -> Steps[None]:
        """Make the file `size` bytes long: every object gets its share of that."""
        if inode.layout:
            state = self._state(inode)
            stripes = range(len(state.layout.stripes))
            yield from gather(self.env, [self._punch(state, number, size) for number in stripes])
        inode.size = size
        inode.mtime = inode.ctime = self.clock.seconds()

    def set_times(self, inode: Inode, atime: int, mtime: int, ctime: int) -> Steps[None]:
        """Set the objects' dates, so that a later glimpse does not undo a utimes(2).

        Dates of the past go under a lock on the whole object, or other clients would keep theirs.
        """
        times = {"atime": atime, "mtime": mtime, "ctime": ctime}
        if not inode.layout:
            return
        state = self._state(inode)
        past = min(atime, mtime) < ctime
        stripes = range(len(state.layout.stripes))
        yield from gather(
            self.env, [self._set_times(state, number, past, times) for number in stripes]
        )

    def _set_times(
        self, state: FileState, number: int, past: bool, times: dict[str, int]
    ) -> Steps[None]:
        stripe = state.layout.stripes[number]
        osc = self._osc(stripe)
        lock = None
        if past:
            lock = yield from self._lock(state, number, LCK_PW, 0, OBD_OBJECT_EOF)
        try:
            yield from osc.setattr(stripe.oi, **times)
            known = state.objects.get(number)
            for name, value in times.items() if known is not None else ():
                setattr(known, name, value)
        finally:
            if lock is not None:
                osc.ldlm.put(lock)

    def flush(self, inode: Inode) -> Steps[None]:
        """Have everything that was written on disk (fsync)."""
        if not inode.layout:
            return
        state = self._state(inode)
        yield from gather(
            self.env, [self._osc(stripe).sync(stripe.oi) for stripe in state.layout.stripes]
        )

    def glimpse(self, inode: Inode) -> Steps[Sizes]:
        """How long the file is and when it changed, without taking the writer's lock away."""
        if not inode.layout:
            return Sizes(inode.size, inode.blocks, inode.mtime, inode.atime, inode.ctime)
        state = self._state(inode)
        known: list[ObjectState] = yield from gather(
            self.env,
            [self._glimpse_object(state, number) for number in range(len(state.layout.stripes))],
        )
        size = max(file_size(state.layout, number, one.size) for number, one in enumerate(known))
        return Sizes(
            size,
            sum(one.blocks for one in known),
            max(one.mtime for one in known),
            max(one.atime for one in known),
            max(one.ctime for one in known),
        )

    def drop(self, inode: Inode) -> Steps[bool]:
        """Forget what is known of the file's objects; nothing is ever dirty here."""
        inode.data = None
        return True
        yield

    def discard(self, inode: Inode) -> None:
        """The file is gone, and its objects with it."""
        inode.data = None

    def guard(self, checksums: bool) -> None:
        """Bulk data goes with or without checksums from now on."""
        for osc in self.oscs.values():
            osc.checksums = checksums

    def statfs(self) -> Steps[ObdStatfs]:
        """All OSTs together; one that does not answer is left out (lazystatfs)."""
        answers: list[ObdStatfs | None] = yield from gather(
            self.env, [self._statfs_one(osc) for osc in self.oscs.values()]
        )
        heard = [one for one in answers if one is not None]
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

    # ---- one object

    def _state(self, inode: Inode) -> FileState:
        """The file's objects; ENODATA where it has none."""
        if not inode.layout:
            raise LustreError(ENODATA, f"{inode.fid} has no objects")
        state = inode.data
        if state is None or state.ea != inode.layout:
            state = inode.data = FileState(inode.layout)
        return state

    def _osc(self, stripe: Stripe) -> Osc:
        osc = self.oscs.get(stripe.index)
        if osc is None:
            raise LustreError(EIO, f"no OST{stripe.index:04x}")
        return osc

    def _write_run(
        self, inode: Inode, state: FileState, run: Run, payload: Payload, held: Held
    ) -> Steps[None]:
        stripe = state.layout.stripes[run.stripe]
        osc = self._osc(stripe)
        part = join([piece(payload, start, start + length) for start, length in run.parts])
        lock = held.get(run.stripe)
        if lock is None:
            lock = yield from self._lock(state, run.stripe, LCK_PW, run.offset, run.length)
        try:
            yield from osc.write(stripe.oi, inode.fid, lock.server_handle, run.offset, part)
            known = state.objects.get(run.stripe)
            if known is not None:
                known.wrote(run.offset + run.length, self.clock.seconds())
        finally:
            if run.stripe not in held:
                osc.ldlm.put(lock)

    def _read_run(
        self, inode: Inode, state: FileState, run: Run
    ) -> Steps[list[tuple[int, Payload]]]:
        """The pieces of one object, each with its place in the file's range; holes filled."""
        stripe = state.layout.stripes[run.stripe]
        osc = self._osc(stripe)
        lock = yield from self._lock(state, run.stripe, LCK_PR, run.offset, run.length)
        try:
            data = yield from osc.read(
                stripe.oi, inode.fid, lock.server_handle, run.offset, run.length
            )
        finally:
            osc.ldlm.put(lock)
        if len(data) < run.length:
            data = join([data, Fill(run.length - len(data))])
        parts, at = [], 0
        for start, length in run.parts:
            parts.append((start, piece(data, at, at + length)))
            at += length
        return parts

    def _punch(self, state: FileState, number: int, size: int) -> Steps[None]:
        stripe = state.layout.stripes[number]
        osc = self._osc(stripe)
        length = object_size(state.layout, number, size)
        start = length - length % PAGE_SIZE
        lock = yield from self._lock(state, number, LCK_PW, start, OBD_OBJECT_EOF - start)
        now = self.clock.seconds()
        try:
            oa = yield from osc.punch(stripe.oi, lock.server_handle, length, mtime=now, ctime=now)
            known = state.objects.get(number)
            if known is not None:
                known.take(oa)
        finally:
            osc.ldlm.put(lock)

    # ---- locks

    def _lock(
        self, state: FileState, number: int, mode: int, offset: int, length: int
    ) -> Steps[ClientLock]:
        """An extent lock over whole pages, one that is here already or a new one."""
        stripe = state.layout.stripes[number]
        osc = self._osc(stripe)
        resource = ost_resource(stripe.oi.id, stripe.oi.seq)
        last = min(-(-(offset + length) // PAGE_SIZE) * PAGE_SIZE - 1, OBD_OBJECT_EOF)
        extent = Extent(offset - offset % PAGE_SIZE, last)
        lock = osc.ldlm.match(resource, mode, extent=extent)
        if lock is not None:
            return lock
        lock, _ = yield from osc.ldlm.enqueue(
            resource,
            mode,
            extent=extent,
            blocking=self._blocking(state, number),
            glimpse=self._answer(state, number),
            data=state,
        )
        if lock is None:
            raise LustreError(EIO, f"{osc.name}: no lock")
        self._learn(state, number, lock)
        return lock

    def _learn(self, state: FileState, number: int, lock: ClientLock) -> None:
        """A lock up to the object's end came with a value block: that is how long it is."""
        if len(lock.lvb) and lock.policy.end == OBD_OBJECT_EOF:
            known = state.objects.get(number)
            lvb = _unpack_lvb(lock.lvb)
            if known is None:
                state.objects[number] = ObjectState(lvb)
            else:
                known.take(lvb)

    def _blocking(self, state: FileState, number: int) -> Callable[[ClientLock], None]:
        def forget(lock: ClientLock) -> None:
            stripe = state.layout.stripes[number]
            ldlm = self._osc(stripe).ldlm
            other = ldlm.match(ost_resource(stripe.oi.id, stripe.oi.seq), LCK_PR, extent=WHOLE)
            if other is None:
                state.objects.pop(number, None)
            else:
                ldlm.put(other)

        return forget

    def _answer(self, state: FileState, number: int) -> Callable[[ClientLock], bytes | None]:
        """What this client says when the OST asks it for the size (glimpse callback)."""

        def answer(lock: ClientLock) -> bytes | None:
            known = state.objects.get(number)
            if known is None:
                return None
            return OstLvb(
                size=known.size,
                mtime=known.mtime,
                atime=known.atime,
                ctime=known.ctime,
                blocks=known.blocks,
            ).pack()

        return answer

    def _glimpse_object(self, state: FileState, number: int) -> Steps[ObjectState]:
        """An object's size: what a lock of ours guarantees, else what the OST answers."""
        stripe = state.layout.stripes[number]
        osc = self._osc(stripe)
        resource = ost_resource(stripe.oi.id, stripe.oi.seq)
        known = state.objects.get(number)
        if known is not None:
            lock = osc.ldlm.match(resource, LCK_PR, extent=WHOLE)
            if lock is not None:
                osc.ldlm.put(lock)
                return known
        lock, reply = yield from osc.ldlm.enqueue(
            resource,
            LCK_PR,
            extent=WHOLE,
            flags=LDLM_FL_HAS_INTENT,
            blocking=self._blocking(state, number),
            glimpse=self._answer(state, number),
            data=state,
        )
        if lock is None:
            return ObjectState(_unpack_lvb(reply["dlm_lvb"]))
        self._learn(state, number, lock)
        osc.ldlm.put(lock)
        return state.objects[number]


def _unpack_lvb(lvb: Any) -> OstLvb:
    """A value block; the errno in it where the OST could not look (OST_LVB_IS_ERR)."""
    value = OstLvb.unpack(bytes(lvb))
    if value.blocks & OST_LVB_ERR_MASK == OST_LVB_ERR_INIT & OST_LVB_ERR_MASK:
        raise LustreError(value.blocks & 0xFFFF or EIO, "value block")
    return value

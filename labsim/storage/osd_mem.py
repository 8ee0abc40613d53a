"""Object storage in memory, for simulation: what is durable survives `crash`, the rest does not.

Does not know devices: a `Device` may say how long its reads and writes take. Stands for osd-ldiskfs
and its disk. Data is kept as the payloads that were written, so a simulated TiB of `Fill` costs one
extent. Every change leaves behind how to take it back; a commit drops those, a crash runs them.
"""

from __future__ import annotations

import errno
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, Protocol, TypeAlias

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.payload import Chain, Fill, Payload, join, piece
from labsim.fast import ExtentMap
from labsim.runtime.ports import Env, Steps
from labsim.storage.journal import COMMIT_INTERVAL_NS, Call, Journal
from labsim.storage.osd import (
    BLOCK,
    CAPACITY,
    SECTOR,
    Attrs,
    Space,
    Statfs,
    Tx,
    changed,
    check_extent,
    check_key,
    name_bytes,
)
from labsim.storage.trouble import Trouble

DataPiece: TypeAlias = tuple[int, int, Payload, int]

FULL_BYTES = 1 << 28
"""The running transaction is committed early past this: a quarter of a journal of 1 GiB, as in
jbd2. Each change counts as a block; data is no part of the journal."""
EXTENDED = (Fill, Chain)
"""Payloads that are no plain bytes."""
SMALL = BLOCK
"""Neighbours of real bytes up to this size together become one."""


class Device(Protocol):
    """How long a disk takes."""

    def io(self, nbytes: int, write: bool) -> Steps[None]:
        """Wait as long as moving that many bytes takes."""
        ...


class _Block(bytearray):
    """Bytes of one place in an object, never handed out: what is written over them goes into them.

    What an undo holds of a block is not in the map meanwhile, so nothing overwrites that.
    """

    __slots__ = ()


def _continue(left: DataPiece, right: DataPiece) -> tuple[Payload, int] | None:
    """Neighbours as one payload: a pattern that goes on, or few bytes."""
    first, second = left[2], right[2]
    length, more = left[1] - left[0], right[1] - right[0]
    if isinstance(first, Fill) and isinstance(second, Fill):
        head = Fill(length, first.seed, first.offset + left[3])
        if head.continues(Fill(more, second.seed, second.offset + right[3])):
            return Fill(length + more, head.seed, head.offset), 0
        return None
    if length + more > SMALL or isinstance(first, EXTENDED) or isinstance(second, EXTENDED):
        return None
    parts = first[left[3] : left[3] + length], second[right[3] : right[3] + more]
    return _Block(b"".join(parts)), 0


class _Index:
    """Keys to values; the order is made when somebody first wants it, and kept from then on."""

    __slots__ = ("entries", "order")

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.order: list[bytes] | None = None

    def put(self, key: bytes, value: bytes | None) -> None:
        """Set, or with None remove."""
        if self.order is not None and (key in self.entries) != (value is not None):
            if value is None:
                del self.order[bisect_left(self.order, key)]
            else:
                insort(self.order, key)
        if value is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = value

    def iterate(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        if self.order is None:
            self.order = sorted(self.entries)
        at = bisect_left(self.order, start)
        while at < len(self.order):
            key = self.order[at]
            yield key, self.entries[key]
            at = bisect_right(self.order, key)


class _Object:
    """One object; the parts that few objects have are made on first use."""

    __slots__ = ("allocated", "attrs", "data", "index", "xattrs")

    def __init__(self, attrs: Attrs) -> None:
        self.attrs = attrs
        self.xattrs: dict[str, bytes] = {}
        self.index: _Index | None = None
        self.data: ExtentMap[Payload] | None = None
        self.allocated: ExtentMap[bool] | None = None


class OsdMem:
    """An `Osd` in memory."""

    def __init__(
        self,
        env: Env,
        *,
        nbytes: int = CAPACITY,
        max_files: int | None = None,
        commit_interval_ns: int = COMMIT_INTERVAL_NS,
        full_bytes: int = FULL_BYTES,
        device: Device | None = None,
    ) -> None:
        self.space = Space(nbytes, nbytes // BLOCK if max_files is None else max_files)
        self.journal = Journal(env, self, commit_interval_ns, full_bytes)
        self.device = device
        self._trouble = Trouble(env)
        self._objects: dict[Fid, _Object] = {}
        self._undo: list[Call] = []
        self._undo_sealed: list[Call] = []

    # -- reading

    def attrs(self, fid: Fid) -> Attrs:
        return self._object(fid).attrs

    def exists(self, fid: Fid) -> bool:
        return fid in self._objects

    def xattr(self, fid: Fid, name: str) -> bytes:
        try:
            return self._object(fid).xattrs[name]
        except KeyError:
            raise LustreError(errno.ENODATA, f"{fid} {name}") from None

    def xattrs(self, fid: Fid) -> dict[str, bytes]:
        xattrs = self._object(fid).xattrs
        return {name: xattrs[name] for name in sorted(xattrs, key=name_bytes)}

    def lookup(self, fid: Fid, key: bytes) -> bytes | None:
        index = self._object(fid).index
        return index.entries.get(key) if index else None

    def iterate(self, fid: Fid, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        index = self._object(fid).index
        return index.iterate(start) if index else iter(())

    def read(self, fid: Fid, offset: int, length: int) -> Steps[Payload]:
        found = self._object(fid)
        end = min(offset + length, found.attrs.size)
        if offset >= end:
            return b""
        if self.device is not None:
            yield from self.device.io(end - offset, write=False)
        if self._trouble.active:
            yield from self._trouble.io()
        if found.data is None:
            return Fill(end - offset)
        return join(
            Fill(stop - start) if value is None else _part(value, at, at + stop - start)
            for start, stop, value, at in found.data.walk(offset, end)
        )

    def mapped(self, fid: Fid, offset: int, length: int) -> bool:
        allocated = self._object(fid).allocated
        if allocated is None:
            return not length
        first, last = offset // BLOCK * BLOCK, -(-(offset + length) // BLOCK) * BLOCK
        return sum(end - start for start, end, *_ in allocated.pieces(first, last)) == last - first

    def objects(self) -> Iterator[Fid]:
        return iter(sorted(self._objects))

    def statfs(self) -> Statfs:
        return self.space.statfs()

    # -- transactions

    def transaction(self) -> Tx:
        return Tx(self)

    def join(self, tx: Tx) -> Steps[None]:
        """As ldiskfs: data goes to disk first, then the changes join the running transaction."""
        life = self.journal.crashes
        self._trouble.change()
        if self.device is not None and tx.nbytes:
            yield from self.device.io(tx.nbytes, write=True)
        if self._trouble.active and tx.nbytes:
            yield from self._trouble.io()
        yield from self.journal.room()
        if life != self.journal.crashes:
            raise LustreError(errno.EIO, "the device lost power")
        tx.join()
        mark = len(self._undo)
        try:
            for name, *arguments in tx.ops:
                _APPLY[name](self, *arguments)
        except BaseException:
            self._take_back(self._undo, mark)
            raise
        self.journal.join(tx.callbacks, BLOCK * len(tx.ops))

    def commit(self) -> None:
        self.journal.commit()

    def sync(self) -> Steps[None]:
        yield from self.journal.sync()

    def close(self) -> Steps[None]:
        if not self.journal.aborted:
            yield from self.journal.sync()

    def handed_over(self) -> OsdMem:
        """The medium in another machine, after `close` or `crash`; this face of it is blank."""
        other = copy(self)
        other.journal = self.journal.anew(other)
        self._objects, self._undo, self._undo_sealed = {}, [], []
        self.space = Space(0, 0)
        return other

    def crash(self) -> None:
        self._take_back(self._undo, 0)
        self._take_back(self._undo_sealed, 0)
        self.journal.crash()

    def trouble(self, state: str, delay_ns: int = 0) -> None:
        self._trouble.set(state, delay_ns)
        self.space.full = self._trouble.full

    @property
    def readonly(self) -> bool:
        return self._trouble.readonly or self.journal.aborted

    def seal(self) -> None:
        """For the journal: from now on there is a new running transaction."""
        self._undo_sealed, self._undo = self._undo, []

    def flush(self, _sealed: None) -> Steps[None]:
        """For the journal: write its blocks, one for each change at most."""
        if self.device is not None:
            yield from self.device.io(BLOCK * len(self._undo_sealed), write=True)
        if self._trouble.active:
            yield from self._trouble.io()
        self._undo_sealed = []

    @staticmethod
    def _take_back(undo: list[Call], mark: int) -> None:
        while len(undo) > mark:
            call, *arguments = undo.pop()
            call(*arguments)

    # -- the changes; each notes how to take it back

    def _object(self, fid: Fid) -> _Object:
        try:
            return self._objects[fid]
        except KeyError:
            raise LustreError(errno.ENOENT, str(fid)) from None

    def _create(self, fid: Fid, attrs: Attrs) -> None:
        if fid in self._objects:
            raise LustreError(errno.EEXIST, str(fid))
        self.space.charge(attrs.blocks, files=1)
        self._undo.append((OsdMem._drop, self, fid))
        self._objects[fid] = _Object(attrs)

    def _destroy(self, fid: Fid) -> None:
        self._undo.append((OsdMem._bring_back, self, fid, self._object(fid)))
        self._drop(fid)

    def _drop(self, fid: Fid) -> None:
        gone = self._objects.pop(fid)
        self.space.charge(-gone.attrs.blocks, files=-1)

    def _bring_back(self, fid: Fid, gone: _Object) -> None:
        self._objects[fid] = gone
        self.space.used += gone.attrs.blocks
        self.space.files += 1

    def _set_attrs(self, fid: Fid, changes: dict[str, int]) -> None:
        found = self._object(fid)
        self._change(found, changed(found.attrs, changes))

    def _change(self, found: _Object, attrs: Attrs) -> None:
        if attrs is found.attrs:
            return
        self.space.charge(attrs.blocks - found.attrs.blocks)
        self._undo.append((OsdMem._unchange, self, found, found.attrs))
        found.attrs = attrs

    def _unchange(self, found: _Object, attrs: Attrs) -> None:
        self.space.used += attrs.blocks - found.attrs.blocks
        found.attrs = attrs

    def _set_xattr(self, fid: Fid, name: str, value: bytes) -> None:
        check_key(name_bytes(name))
        xattrs = self._object(fid).xattrs
        if name in xattrs:
            self._undo.append((dict.__setitem__, xattrs, name, xattrs[name]))
        else:
            self._undo.append((dict.__delitem__, xattrs, name))
        xattrs[name] = value

    def _del_xattr(self, fid: Fid, name: str) -> None:
        value = self.xattr(fid, name)
        xattrs = self._objects[fid].xattrs
        self._undo.append((dict.__setitem__, xattrs, name, value))
        del xattrs[name]

    def _insert(self, fid: Fid, key: bytes, value: bytes, replace: bool) -> None:
        check_key(key)
        found = self._object(fid)
        index = found.index = found.index or _Index()
        old = index.entries.get(key)
        if old is not None and not replace:
            raise LustreError(errno.EEXIST, f"{fid} {key!r}")
        self._undo.append((_Index.put, index, key, old))
        index.put(key, value)

    def _delete(self, fid: Fid, key: bytes) -> None:
        index = self._object(fid).index
        old = index.entries.get(key) if index else None
        if index is None or old is None:
            raise LustreError(errno.ENOENT, f"{fid} {key!r}")
        self._undo.append((_Index.put, index, key, old))
        index.put(key, None)

    def _write(self, fid: Fid, offset: int, payload: Payload) -> None:
        found = self._object(fid)
        end = check_extent(offset, len(payload))
        if offset == end:
            return
        data, allocated = self._maps(found)
        old = data.pieces(offset, end)
        if end <= found.attrs.size and self._overwrite(data, offset, payload, old):
            return
        first, last = offset // BLOCK * BLOCK, -(-end // BLOCK) * BLOCK
        sectors = 0
        if not allocated.covered(first, last):
            before = allocated.total
            self._undo.append((_restore, allocated, first, last, allocated.pieces(first, last)))
            allocated.insert(first, last, True, first)
            sectors = (allocated.total - before) // SECTOR
        self._change(found, _grown(found.attrs, end, sectors))
        self._undo.append((_restore, data, offset, end, old))
        for part in getattr(payload, "pieces", (payload,)):
            data.insert(offset, offset + len(part), part)
            offset += len(part)

    def _overwrite(
        self, data: ExtentMap[Payload], offset: int, payload: Payload, old: list[DataPiece]
    ) -> bool:
        """Where all of it falls within one block, that is all there is to do."""
        if len(old) != 1 or isinstance(payload, EXTENDED):
            return False
        start, end, block, at = old[0]
        if end - start != len(payload) or not isinstance(block, _Block):
            return False
        stop = at + end - start
        self._undo.append((ExtentMap.insert, data, start, end, bytes(block[at:stop])))
        block[at:stop] = payload
        return True

    def _truncate(self, fid: Fid, size: int) -> None:
        found = self._object(fid)
        check_extent(size, 0)
        sectors = 0
        if found.data is not None and size < found.attrs.size:
            data, allocated = self._maps(found)
            keep = -(-size // BLOCK) * BLOCK
            for extents, start in ((data, size), (allocated, keep)):
                end = max(extents.end, start)
                self._undo.append((_restore, extents, start, end, extents.pieces(start)))
            data.truncate(size)
            sectors = allocated.truncate(keep) // SECTOR
        blocks = found.attrs.blocks - sectors
        self._change(found, changed(found.attrs, {"size": size, "blocks": blocks}))

    @staticmethod
    def _maps(found: _Object) -> tuple[ExtentMap[Payload], ExtentMap[bool]]:
        if found.data is None or found.allocated is None:
            found.data, found.allocated = ExtentMap(_continue), ExtentMap()
        return found.data, found.allocated


def _part(payload: Payload, start: int, stop: int) -> Payload:
    if isinstance(payload, _Block):
        return bytes(payload[start:stop])
    return piece(payload, start, stop)


def _restore(extents: ExtentMap[Any], start: int, end: int, old: list[Any]) -> None:
    extents.punch(start, end)
    for piece_start, piece_end, value, offset in old:
        extents.insert(piece_start, piece_end, value, offset)


def _grown(attrs: Attrs, end: int, sectors: int) -> Attrs:
    if end <= attrs.size and not sectors:
        return attrs
    return changed(attrs, {"size": max(attrs.size, end), "blocks": attrs.blocks + sectors})


_APPLY: dict[str, Callable[..., None]] = {
    "create": OsdMem._create,
    "destroy": OsdMem._destroy,
    "set_attrs": OsdMem._set_attrs,
    "set_xattr": OsdMem._set_xattr,
    "del_xattr": OsdMem._del_xattr,
    "insert": OsdMem._insert,
    "delete": OsdMem._delete,
    "write": OsdMem._write,
    "truncate": OsdMem._truncate,
}

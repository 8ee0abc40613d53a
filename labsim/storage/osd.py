"""Object storage: what a target keeps, and the one way to change it.

Does not know targets, clients or media. Stands for Lustre's OSD API (dt_object.h, lu_object.h):
objects named by FID with attributes, extended attributes, an index and data, changed only within
transactions. As under ldiskfs there is one *running* transaction that every stopped `Tx` joins; it
is committed every commit interval, when it is full, or on sync. Reads see it; a crash takes back
what was not committed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.payload import Payload
from labsim.runtime.ports import Steps
from labsim.storage.journal import Call

BLOCK = 4096
"""Bytes of a disk block: data is allocated in these, as ldiskfs does."""
SECTOR = 512
"""Bytes per unit of `Attrs.blocks`, as st_blocks."""
CAPACITY = 1 << 40
"""Bytes that a target holds if nobody says otherwise."""
MAX_BYTES = 2**63 - 1
"""No object reaches past this byte (loff_t)."""
MAX_KEY = 480
"""Longest key of an index and name of an extended attribute, in bytes."""


class Attrs(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An object's attributes (struct lu_attr): `mode` with its type bits, sizes in bytes.

    `blocks` counts sectors of 512 bytes and moves with `write` and `truncate`; the dates are
    seconds since 1970; `flags` are FS_*_FL bits; `version` is the last transno that changed it.
    """

    mode: int = 0
    uid: int = 0
    gid: int = 0
    nlink: int = 1
    size: int = 0
    blocks: int = 0
    atime: int = 0
    mtime: int = 0
    ctime: int = 0
    rdev: int = 0
    flags: int = 0
    version: int = 0
    generation: int = 0


class Statfs(msgspec.Struct, frozen=True, gc=False):
    """How full a target is (struct obd_statfs): blocks of `bsize` bytes, and objects."""

    bsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int


class Space:
    """What a target may hold, and holds: `used` sectors are the sum of all objects' `blocks`.

    Both OSDs count alike, so a simulated and a live target are full at the same byte.
    """

    __slots__ = ("capacity", "files", "full", "max_files", "used")

    def __init__(self, nbytes: int, max_files: int) -> None:
        self.full = False
        """Nothing is free, whatever the numbers say: no object is made.

        What was promised to somebody is there; it is those that promise who go by `statfs`.
        """
        self.capacity = nbytes // BLOCK * (BLOCK // SECTOR)
        self.max_files = max_files
        self.used = 0
        self.files = 0

    def charge(self, sectors: int, files: int = 0) -> None:
        """Take (or with negative numbers give back); ENOSPC takes nothing."""
        if sectors > 0 and self.used + sectors > self.capacity:
            raise LustreError(errno.ENOSPC, "no block is free")
        if files > 0 and (self.full or self.files + files > self.max_files):
            raise LustreError(errno.ENOSPC, "no inode is free")
        self.used += sectors
        self.files += files

    def statfs(self) -> Statfs:
        """As `Statfs`."""
        per_block = BLOCK // SECTOR
        free = 0 if self.full else max(self.capacity - self.used, 0) // per_block
        inodes = max(self.max_files - self.files, 0)
        return Statfs(BLOCK, self.capacity // per_block, free, free, self.max_files, inodes)


Op: TypeAlias = (
    tuple[Literal["create"], Fid, Attrs]
    | tuple[Literal["destroy"], Fid]
    | tuple[Literal["set_attrs"], Fid, dict[str, int]]
    | tuple[Literal["set_xattr"], Fid, str, bytes]
    | tuple[Literal["del_xattr"], Fid, str]
    | tuple[Literal["insert"], Fid, bytes, bytes, bool]
    | tuple[Literal["delete"], Fid, bytes]
    | tuple[Literal["write"], Fid, int, Payload]
    | tuple[Literal["truncate"], Fid, int]
)
"""One change, as an OSD applies it: the method's name, the object, the arguments."""


class Tx:
    """Changes that happen together or not at all, in the order of the calls (struct thandle).

    Nothing happens before `stop`, which raises what the first change that cannot be done raises:
    ENOENT (no such object or key), ENODATA (no such xattr), EEXIST, ENOSPC, EFBIG, ERANGE (a key
    or name too long). Then nothing of it has happened. Payloads are kept, not copied: a buffer
    that was handed over must not change any more.
    """

    __slots__ = ("_before", "_osd", "callbacks", "nbytes", "ops", "sync")

    def __init__(self, osd: Joinable) -> None:
        self._osd = osd
        self._before: tuple[Call, ...] = ()
        self.ops: list[Op] = []
        self.callbacks: tuple[Call, ...] = ()
        self.nbytes = 0
        """Bytes of object data written."""
        self.sync = False
        """Whoever stops it, it waits until it is durable (th_sync)."""

    def create(self, fid: Fid, attrs: Attrs) -> None:
        """Make an object; EEXIST."""
        self.ops.append(("create", fid, attrs))

    def destroy(self, fid: Fid) -> None:
        """Remove an object with its data, attributes and index; ENOENT."""
        self.ops.append(("destroy", fid))

    def set_attrs(self, fid: Fid, **changes: int) -> None:
        """Replace fields of `Attrs`; `size` does not touch the data, see `truncate`."""
        self.ops.append(("set_attrs", fid, changes))

    def set_xattr(self, fid: Fid, name: str, value: bytes) -> None:
        """Set or replace an extended attribute."""
        self.ops.append(("set_xattr", fid, name, value))

    def del_xattr(self, fid: Fid, name: str) -> None:
        """Remove an extended attribute; ENODATA."""
        self.ops.append(("del_xattr", fid, name))

    def insert(self, fid: Fid, key: bytes, value: bytes, replace: bool = False) -> None:
        """Add to the object's index; EEXIST unless `replace`."""
        self.ops.append(("insert", fid, key, value, replace))

    def delete(self, fid: Fid, key: bytes) -> None:
        """Take out of the object's index; ENOENT."""
        self.ops.append(("delete", fid, key))

    def write(self, fid: Fid, offset: int, payload: Payload) -> None:
        """Put data at a byte offset; `size` and `blocks` grow with it; EFBIG."""
        self.ops.append(("write", fid, offset, payload))
        self.nbytes += len(payload)

    def truncate(self, fid: Fid, size: int) -> None:
        """Set the size: data behind it goes, a longer object reads as zeros there."""
        self.ops.append(("truncate", fid, size))

    def stamp(self, fid: Fid, version: int) -> None:
        """Give the object this `Attrs.version`, unless it is destroyed here (dt_version_set)."""
        for at, op in enumerate(self.ops):
            if op[1] != fid:
                continue
            if op[0] == "destroy":
                return
            if op[0] == "create":
                self.ops[at] = ("create", fid, changed(op[2], {"version": version}))
                return
        self.ops.append(("set_attrs", fid, {"version": version}))

    def before_join(self, call: Callable[..., object], *args: Any) -> None:
        """Call this right before the changes happen, with no wait in between; it may add some.

        For numbers whose order must be the order of the changes (dt_txn_callback's dtc_txn_stop).
        """
        self._before += ((call, *args),)

    def on_commit(self, call: Callable[..., object], *args: Any) -> None:
        """Call this once the changes are durable; calls come in the order of the joins."""
        self.callbacks += ((call, *args),)

    def join(self) -> None:
        """For an OSD: run what `before_join` was given, which may hold this transaction."""
        before, self._before = self._before, ()
        for call, *args in before:
            call(*args)

    def stop(self, sync: bool = False) -> Steps[None]:
        """Apply the changes to the running transaction; with `sync` wait until it is durable."""
        yield from self._osd.join(self)
        if sync or self.sync:
            yield from self._osd.sync()


class Joinable(Protocol):
    """The half of an OSD that a `Tx` needs."""

    def join(self, tx: Tx) -> Steps[None]:
        """Apply what a `Tx` holds; called by `Tx.stop`."""
        ...

    def sync(self) -> Steps[None]:
        """Wait until all that has joined is durable."""
        ...


class Osd(Joinable, Protocol):
    """One target's storage. Everything named by a FID that does not exist raises ENOENT."""

    def attrs(self, fid: Fid) -> Attrs:
        """The attributes."""
        ...

    def exists(self, fid: Fid) -> bool:
        """Whether there is such an object."""
        ...

    def xattr(self, fid: Fid, name: str) -> bytes:
        """One extended attribute; ENODATA."""
        ...

    def xattrs(self, fid: Fid) -> dict[str, bytes]:
        """All of them, by name in order."""
        ...

    def lookup(self, fid: Fid, key: bytes) -> bytes | None:
        """What the object's index holds under a key."""
        ...

    def iterate(self, fid: Fid, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """The index from `start` on in the order of the keys; bears changes meanwhile."""
        ...

    def read(self, fid: Fid, offset: int, length: int) -> Steps[Payload]:
        """Data: short at the end of the object, zeros in holes."""
        ...

    def mapped(self, fid: Fid, offset: int, length: int) -> bool:
        """Whether every block of a range is allocated: writing over it takes no space."""
        ...

    def objects(self) -> Iterator[Fid]:
        """All objects, in order of their FIDs."""
        ...

    def statfs(self) -> Statfs:
        """How full it is."""
        ...

    def transaction(self) -> Tx:
        """A new, empty transaction."""
        ...

    def commit(self) -> None:
        """Begin to commit what has joined, without waiting (dt_commit_async)."""
        ...

    def close(self) -> Steps[None]:
        """Sync, and let go of the medium."""
        ...

    def crash(self) -> None:
        """Lose power: back to what was durable. Waiting calls never return."""
        ...

    def trouble(self, state: str, delay_ns: int = 0) -> None:
        """Let the disk be slow, full, eio, readonly, or ok again; see `Trouble`."""
        ...

    @property
    def readonly(self) -> bool:
        """Whether changes are refused (EROFS): the disk is read-only, or its journal has ended."""
        ...


def changed(attrs: Attrs, changes: dict[str, Any]) -> Attrs:
    """The attributes with these fields replaced; TypeError for a field that is none."""
    return msgspec.structs.replace(attrs, **changes)


def name_bytes(name: str) -> bytes:
    """An extended attribute's name as it is stored; any bytes pass through."""
    return name.encode("utf-8", "surrogateescape")


def check_key(key: bytes) -> None:
    """ERANGE for a key or an xattr's name that no OSD could store."""
    if not 0 < len(key) <= MAX_KEY:
        raise LustreError(errno.ERANGE, f"a key of {len(key)} bytes")


def check_extent(offset: int, length: int) -> int:
    """The end of a write; EFBIG past the largest file, EINVAL for a negative offset."""
    if offset < 0:
        raise LustreError(errno.EINVAL, f"offset {offset}")
    if offset + length > MAX_BYTES:
        raise LustreError(errno.EFBIG, f"offset {offset}")
    return offset + length

"""Object storage in LMDB, for live nodes.

Does not know targets or threads: what must wait for a disk goes to an injected `Offload`. Stands
for osd-ldiskfs. One LMDB write transaction is open all the time and all reads go through it; every
`Tx` is a nested transaction in it, so what fails leaves nothing. It is committed when it is large
(`SPILL_BYTES`) and when the journal seals; the journal's commit then is one fdatasync on a helper
thread, while others go on. A killed process loses what was not yet committed and no more. A host
that loses power may tear the file: LMDB runs without its own syncs.

A full map fails the `Tx` that meets it with ENOSPC and nothing else. Where the map may not have
room for all that is open, a `Tx` runs in an LMDB transaction of its own. What frees space may use
`RESERVE_BYTES` past the end, so that a full store can be emptied.

Measured on two virtual CPUs, py-lmdb 3.0 over LMDB 0.9.36, 256 MiB written in 1 MiB transactions
and written over four times, and transactions of six small puts; three runs each. Nested, committed
every 4 MiB: 3.0 GB/s fresh, then 4.7 to 6.5; every 64 MiB 1.1 to 2.7, then 1.0 to 4.1; small ones
170 to 200 k/s. Not nested: the same, small ones 260 to 310 k/s. MDB_WRITEMAP: 0.3 to 2.7 GB/s fresh
(page faults in the map), then 0.5 to 15.7; small ones 220 to 310 k/s; but it knows no nesting, so a
full map would take the whole open transaction along. Hence nested, no WRITEMAP, small spills.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import lmdb
import msgspec

from labsim.base.errors import InputError, LustreError
from labsim.base.ids import Fid
from labsim.base.payload import Fill, Payload
from labsim.runtime.memory import keep_freed_memory
from labsim.runtime.ports import Env, Steps
from labsim.storage import changes, records
from labsim.storage.changes import attrs_of
from labsim.storage.journal import COMMIT_INTERVAL_NS, Journal
from labsim.storage.osd import (
    BLOCK,
    CAPACITY,
    MAX_KEY,
    SECTOR,
    Attrs,
    Space,
    Statfs,
    Tx,
    name_bytes,
)
from labsim.storage.records import CHUNK, Superblock
from labsim.storage.trouble import Trouble

Offload: TypeAlias = Callable[[Callable[[], Any], Callable[[Any], None]], None]
"""`offload(work, done)`: run `work()` on a helper thread, then `done(result)` in the env."""

PAGE = 4096
SPILL_BYTES = 4 << 20
"""The open LMDB transaction is committed past this much data; it is held in memory till then."""
FULL_BYTES = 256 << 20
"""Data that may wait for the disk before writers must wait too."""
RESERVE_BYTES = 1 << 20
MARGIN_PAGES = 64
"""What a commit itself may take, for its list of free pages and the superblock."""
HOST_MARGIN_BYTES = 64 << 20
"""Free bytes that a host's file system keeps."""

_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


class _Gone:
    """What is left of a store that was closed: EIO for who still wants something of it."""

    def __getattr__(self, name: str) -> Any:
        raise LustreError(errno.EIO, "the store is closed")


class OsdLmdb:
    """An `Osd` in the directory `path`.

    `nbytes` and `max_files` are what statfs promises; `map_bytes` is how far the file may grow:
    by default twice that, as small objects take more pages than blocks. InputError when `path` is
    in use or holds something else.
    """

    def __init__(
        self,
        env: Env,
        path: str | os.PathLike[str],
        offload: Offload,
        *,
        nbytes: int = CAPACITY,
        max_files: int | None = None,
        map_bytes: int | None = None,
        commit_interval_ns: int = COMMIT_INTERVAL_NS,
    ) -> None:
        self.space = Space(nbytes, nbytes // BLOCK if max_files is None else max_files)
        self.journal = Journal(env, self, commit_interval_ns, FULL_BYTES)
        self._env = env
        self._offload = offload
        self._path = Path(path)
        self._limit = max(map_bytes or 2 * nbytes + (64 << 20), 1 << 20) // PAGE * PAGE
        self._changes = 0
        self._trouble = Trouble(env)
        keep_freed_memory()
        self._open()

    # -- the medium

    def _open(self) -> None:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self._path / "data.mdb", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._db = lmdb.open(
                str(self._path), self._limit, mode=0o600, sync=False, metasync=False, lock=False,
                meminit=False,
            )  # fmt: skip
        except (OSError, lmdb.Error) as error:
            os.close(self._fd)
            in_use = isinstance(error, BlockingIOError)
            what = "in use by another process" if in_use else f"cannot be opened: {error}"
            raise InputError(what, str(self._path)) from error
        self._begin()
        self._load_superblock()
        self._measure()

    def _load_superblock(self) -> None:
        raw = self._txn.get(records.SUPERBLOCK)
        try:
            found = Superblock() if raw is None else records.decode_superblock(raw)
        except msgspec.DecodeError:
            found = Superblock(magic="")
        empty = raw is None and not self._db.stat()["entries"]
        if (found.magic, found.version) != (Superblock().magic, 1) or (raw is None and not empty):
            self._shut()
            raise InputError("this is no object store, or one of another format", str(self._path))
        self.space.used, self.space.files = found.used, found.files

    def _begin(self) -> None:
        self._txn = self._db.begin(write=True, buffers=True)
        self._changes += 1
        self._joined = False
        self._dirty_bytes = 0

    def _measure(self) -> None:
        """How many pages the open transaction may take before it must be looked at again."""
        info = self._db.info()
        host = os.fstatvfs(self._fd)
        self._host_pages = (host.f_bavail * host.f_frsize - HOST_MARGIN_BYTES) // PAGE
        self._used_pages = info["last_pgno"] + 1
        room = min(self._limit // PAGE - self._used_pages, self._host_pages)
        self._room = room - MARGIN_PAGES
        self._depth = self._db.stat()["depth"]

    def _commit(self) -> None:
        """Commit the open LMDB transaction; another is open afterwards. Raises what LMDB raises."""
        block = Superblock(used=self.space.used, files=self.space.files)
        self._txn.put(records.SUPERBLOCK, records.encode(block))
        self._txn.commit()
        self._begin()
        self._measure()

    def _shut(self) -> None:
        self._txn.abort()
        self._db.close()
        os.close(self._fd)
        gone: Any = _Gone()
        self._txn = self._db = gone

    # -- reading

    def attrs(self, fid: Fid) -> Attrs:
        return attrs_of(self._txn, fid)

    def exists(self, fid: Fid) -> bool:
        return self._txn.get(records.attrs_key(fid)) is not None

    def xattr(self, fid: Fid, name: str) -> bytes:
        value = self._get(fid, records.XATTR, name_bytes(name))
        if value is None:
            attrs_of(self._txn, fid)
            raise LustreError(errno.ENODATA, f"{fid} {name}")
        return bytes(value)

    def xattrs(self, fid: Fid) -> dict[str, bytes]:
        attrs_of(self._txn, fid)
        prefix = records.fid_key(fid) + records.XATTR
        return {records.name_text(key): value for key, value in self._scan(prefix, b"")}

    def lookup(self, fid: Fid, key: bytes) -> bytes | None:
        value = self._get(fid, records.INDEX, key)
        if value is None:
            attrs_of(self._txn, fid)
            return None
        return bytes(value)

    def _get(self, fid: Fid, kind: bytes, key: bytes) -> Any:
        """A record of an object; None also for a key longer than any."""
        return self._txn.get(records.fid_key(fid) + kind + key) if len(key) <= MAX_KEY else None

    def iterate(self, fid: Fid, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        attrs_of(self._txn, fid)
        return self._scan(records.fid_key(fid) + records.INDEX, start)

    def _scan(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys below a prefix, without it; finds its place again after changes."""
        seen, cursor, found = -1, None, False
        key = prefix + start
        while True:
            if cursor is None or seen != self._changes:
                seen, cursor = self._changes, self._txn.cursor()
                found = cursor.set_range(key)
            else:
                found = cursor.next()
            full = bytes(cursor.key()) if found else b""
            if not full.startswith(prefix):
                return
            key = full + b"\0"
            yield full[len(prefix) :], bytes(cursor.value())

    def read(self, fid: Fid, offset: int, length: int) -> Steps[Payload]:
        end = min(offset + length, attrs_of(self._txn, fid).size)
        if offset >= end:
            return b""
        prefix = records.fid_key(fid) + records.DATA
        parts: list[Any] = []
        data = 0
        at = offset
        while at < end:
            number, inside = divmod(at, CHUNK)
            want = min(CHUNK - inside, end - at)
            value = (self._txn.get(records.numbered(prefix, number)) or b"")[inside : inside + want]
            parts += value, bytes(want - len(value))
            data += len(value)
            at += want
        if self._trouble.active:
            parts = [bytes(part) for part in parts]
            yield from self._trouble.io()
        return b"".join(parts) if data else Fill(end - offset)

    def mapped(self, fid: Fid, offset: int, length: int) -> bool:
        attrs_of(self._txn, fid)
        prefix = records.fid_key(fid) + records.BLOCKS
        return all(
            int.from_bytes(self._txn.get(records.numbered(prefix, group)) or b"", "little") & mask
            == mask
            for group, mask in records.groups(*records.block_range(offset, offset + length))
        )

    def objects(self) -> Iterator[Fid]:
        following = bytes(records.FID_BYTES)
        while True:
            cursor = self._txn.cursor()
            if not cursor.set_range(following):
                return
            fid = records.key_fid(bytes(cursor.key()))
            yield fid
            following = records.fid_key(fid) + b"\xff"

    def statfs(self) -> Statfs:
        return self.space.statfs()

    # -- transactions

    def transaction(self) -> Tx:
        return Tx(self)

    def join(self, tx: Tx) -> Steps[None]:
        """Apply to the open LMDB transaction, or alone where the map may not hold both."""
        self._trouble.change()
        if self._trouble.active and tx.nbytes:
            yield from self._trouble.io()
        yield from self.journal.room()
        tx.join()
        pages = records.page_bound(tx, self._depth, self._removed_chunks(tx))
        if pages > self._room and self._joined:
            self._commit()
        if pages > self._room:
            self._join_alone(tx, pages)
        else:
            self._apply(tx)
            self._room -= pages
            self._joined = True
            self._dirty_bytes += tx.nbytes
        self.journal.join(tx.callbacks, tx.nbytes)
        if self._dirty_bytes >= SPILL_BYTES:
            self._commit()

    def _removed_chunks(self, tx: Tx) -> int:
        sectors = 0
        for op in tx.ops:
            if op[0] in ("destroy", "truncate") and self.exists(op[1]):
                sectors += self.attrs(op[1]).blocks
        return sectors * SECTOR // CHUNK

    def _apply(self, tx: Tx) -> None:
        """All changes or none, in a nested transaction."""
        before = self.space.used, self.space.files
        nested = self._db.begin(write=True, parent=self._txn, buffers=True)
        self._changes += 1
        try:
            for op in tx.ops:
                changes.apply(nested, self.space, op)
            nested.commit()
        except BaseException:
            nested.abort()
            self.space.used, self.space.files = before
            raise

    def _join_alone(self, tx: Tx, pages: int) -> None:
        """Apply and commit at once, while nothing else is open that a full map could take along.

        What a commit has freed can be used by the next but one: so one more try after another
        commit. ENOSPC when that fails too, or the host's file system is nearly full.
        """
        frees = records.frees(tx)
        if self._host_pages < pages and not frees:
            raise LustreError(errno.ENOSPC, "the host's file system is full")
        before = self.space.used, self.space.files
        for _ in range(1 if frees else 2):
            self._fit(frees)
            try:
                self._apply(tx)
                self._commit()
            except lmdb.MapFullError:
                self._txn.abort()
                self.space.used, self.space.files = before
                self._begin()
            else:
                return
            self._fit(True)
            self._commit()
        raise LustreError(errno.ENOSPC, "the map is full")

    def _fit(self, reserve: bool) -> None:
        """Let the map end at its limit, or with the reserve behind it or behind what is used."""
        used = self._used_pages * PAGE
        size = max(self._limit, used) + RESERVE_BYTES if reserve else max(self._limit, used)
        if size != self._db.info()["map_size"]:
            self._txn.abort()
            self._db.set_mapsize(size)
            self._begin()

    def commit(self) -> None:
        self.journal.commit()

    def sync(self) -> Steps[None]:
        yield from self.journal.sync()

    def close(self) -> Steps[None]:
        if not self.journal.aborted:
            yield from self.journal.sync()
        self._shut()

    def crash(self) -> None:
        """As if the process were killed: what LMDB has not committed is gone."""
        self._shut()
        self.journal.crash()
        self._open()

    def trouble(self, state: str, delay_ns: int = 0) -> None:
        self._trouble.set(state, delay_ns)
        self.space.full = self._trouble.full

    @property
    def readonly(self) -> bool:
        return self._trouble.readonly or self.journal.aborted

    # -- for the journal

    def seal(self) -> None:
        """Commit to LMDB; another process could read it from now on."""
        self._commit()

    def flush(self, _sealed: None) -> Steps[None]:
        """Sync the file on a helper thread."""
        life = self.journal.crashes
        if self._trouble.active:
            yield from self._trouble.io()
        synced = self._env.event()
        self._offload(self._sync_file, synced.succeed)
        error = yield synced
        if error is not None and life == self.journal.crashes:
            raise LustreError(error.errno or errno.EIO, f"fdatasync: {error.strerror}")

    def _sync_file(self) -> OSError | None:
        """On the helper thread; touches nothing but the file."""
        try:
            _sync_data(self._fd)
        except OSError as error:
            return error
        return None

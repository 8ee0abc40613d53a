"""System calls on open files: read, write, seek, cut, sync, close.

Knows file positions and open modes, not pages. Stands for the calls of fs/read_write.c and
fs/sync.c.
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.base.payload import Payload
from labsim.base.units import PAGE_SIZE
from labsim.nodes.client.cred import MAY_WRITE, S_ISGID, S_ISUID, Cred, check
from labsim.nodes.client.llite_attrs import STRIPE_MAXBYTES
from labsim.nodes.client.llite_files import O_APPEND, O_DIRECT, O_DSYNC
from labsim.nodes.client.walk import Walker
from labsim.runtime.ports import Steps

EIO, EBADF, EISDIR, EINVAL, EFBIG = 5, 9, 21, 22, 27

NOT_SIMPLE = O_APPEND | O_DIRECT | O_DSYNC
SET_ID = S_ISUID | S_ISGID

TURN = 31
"""After so many reads or writes from the cache others have their turn; a mask."""

SEEK_SET, SEEK_CUR, SEEK_END = 0, 1, 2

MAX_BYTES = 2**63 - 1
"""MAX_LFS_FILESIZE."""

MAX_RW_COUNT = 0x7FFFF000
"""The most that one call reads."""

DIR_END = 2**63 - 1
"""Where a directory ends for lseek: behind the highest hash (LL_DIR_END_OFF)."""


class IoCalls:
    """The part of Vfs that works on open files."""

    llite: Any
    cred: Cred
    walker: Walker
    files: dict[Any, None]
    pid: int

    def close(self, file: Any) -> Steps[None]:
        """System call close: EIO where a write went wrong after it had been taken.

        The MDT's answer does not reach the caller.
        """
        self._check_open(file)
        file.closed = True
        self.files.pop(file, None)
        if file.inode.is_dir:
            self.llite.statahead.closes(file)
        elif file.ahead is not None:
            self.llite.data.readahead.close(file)
        failed = file.inode.is_reg and self.llite.data.closed(file.inode)
        yield from self.llite.close(file.inode, file.handle, file.wrote, self.cred)
        if failed and not file.failed:
            raise LustreError(EIO, "a write before this failed")

    def read(self, file: Any, length: int, offset: int | None = None) -> Steps[Payload]:
        """System call read, or pread(2) where `offset` is given; empty at the end of the file."""
        if file.closed or not file.readable:
            raise LustreError(EBADF)
        inode, llite, length = file.inode, self.llite, min(length, MAX_RW_COUNT)
        at = file.pos if offset is None else offset
        if at < 0 or at + length > MAX_BYTES:
            raise LustreError(EINVAL)
        if inode.is_dir:
            raise LustreError(EISDIR)
        payload: Payload | None = None
        if length and not file.flags & O_DIRECT and llite.fast_read:
            payload = llite.data.get(inode, at, length, file)
        if payload is None:
            payload = yield from self._read(file, at, length)
        else:
            llite.was_read(inode, length)
            llite.turns += 1
            if not llite.turns & TURN:
                yield llite.env.timeout(0)
        if llite.rw_stats is not None and len(payload):
            llite.rw_stats.tally(self.pid, file, at, len(payload), False)
        if offset is None:
            file.pos = at + len(payload)
        return payload

    def _read(self, file: Any, at: int, length: int) -> Steps[Payload]:
        """What has to wait for locks or servers."""
        direct = bool(file.flags & O_DIRECT)
        return (yield from self.llite.read(file.inode, at, length, file, direct))

    def write(self, file: Any, payload: Payload, offset: int | None = None) -> Steps[int]:
        """System call write, or pwrite(2) where `offset` is given; how many bytes were taken.

        With O_APPEND data goes to the end, wherever the position or `offset` is.
        """
        if file.closed or not file.writable:
            raise LustreError(EBADF)
        at, length = file.pos if offset is None else offset, len(payload)
        if at < 0 or at + length > STRIPE_MAXBYTES:
            yield from self._check_end(file, at, length)
        if not length:
            return 0
        file.wrote = True
        inode, llite = file.inode, self.llite
        simple = not file.flags & NOT_SIMPLE and not inode.mode & SET_ID
        if simple and llite.data.put(inode, at, payload):
            llite.turns += 1
            if not llite.turns & TURN:
                yield llite.env.timeout(0)
            end = at + length
        else:
            start, end = yield from self._write(file, at, payload)
            length = end - start
        llite.stats.add("write_bytes", length, "bytes")
        if llite.rw_stats is not None:
            llite.rw_stats.tally(self.pid, file, end - length, length, True)
        if offset is None:
            file.pos = end
        return length

    def _write(self, file: Any, at: int, payload: Payload) -> Steps[tuple[int, int]]:
        """What has to wait for locks, room, servers or the disk; start and end of what it took."""
        flags, inode = file.flags, file.inode
        direct = bool(flags & O_DIRECT)
        if direct and (at | len(payload)) % PAGE_SIZE:
            raise LustreError(EINVAL)
        yield from self.llite.drop_privileges(inode, self.cred)
        file.failed = True
        where = None if flags & O_APPEND else at
        wrote: tuple[int, int] = yield from self.llite.write(inode, where, payload, direct)
        if flags & O_DSYNC:
            yield from self.llite.fsync(inode)
        file.failed = False
        return wrote

    def _check_end(self, file: Any, at: int, length: int) -> Steps[None]:
        """EFBIG for a write behind what a file may hold, however little (vvp_io_write_start)."""
        if at < 0 or at + length > MAX_BYTES:
            raise LustreError(EINVAL)
        inode = file.inode
        if inode.is_reg and not file.flags & O_APPEND:
            yield from self.llite.layout(inode, self.cred)
            if at + length > self.llite.maxbytes(inode):
                raise LustreError(EFBIG)

    def lseek(self, file: Any, offset: int, whence: int = SEEK_SET) -> Steps[int]:
        """System call lseek; the new position."""
        self._check_open(file)
        base = 0
        if whence == SEEK_CUR:
            base = file.pos
        elif whence == SEEK_END and file.inode.is_dir:
            base = DIR_END
        elif whence == SEEK_END:
            stat = yield from self.llite.getattr(file.inode, self.cred)
            base = stat.size
        elif whence != SEEK_SET:
            raise LustreError(EINVAL)
        if not 0 <= base + offset <= MAX_BYTES:
            raise LustreError(EINVAL)
        if base + offset > STRIPE_MAXBYTES and file.inode.is_reg:
            yield from self.llite.layout(file.inode, self.cred)
            if base + offset > self.llite.maxbytes(file.inode):
                raise LustreError(EINVAL)
        file.pos = base + offset
        self.llite.stats.op("seek")
        return file.pos

    def fsync(self, file: Any) -> Steps[None]:
        """System call fsync: data and metadata are on disk when it returns."""
        self._check_open(file)
        file.failed = True
        yield from self.llite.fsync(file.inode)
        file.failed = False

    def ftruncate(self, file: Any, size: int) -> Steps[None]:
        """System call ftruncate."""
        self._check_open(file)
        if size < 0 or not file.writable or not file.inode.is_reg:
            raise LustreError(EINVAL)
        file.wrote = True
        yield from self.llite.truncate(file.inode, size, self.cred, opened=True)

    def truncate(self, path: str, size: int) -> Steps[None]:
        """System call truncate."""
        if size < 0:
            raise LustreError(EINVAL)
        dentry = yield from self.walker.lookup(path)
        inode = dentry.inode
        assert inode is not None
        if inode.is_dir:
            raise LustreError(EISDIR)
        if not inode.is_reg:
            raise LustreError(EINVAL)
        if self.cred.uid:
            check(inode, self.cred, MAY_WRITE)
        yield from self.llite.truncate(inode, size, self.cred)

    def _check_open(self, file: Any) -> None:
        if file.closed:
            raise LustreError(EBADF)

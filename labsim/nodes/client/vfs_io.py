"""System calls on open files: read, write, seek, cut, sync, close.

Knows file positions and open modes, not pages. Stands for the calls of fs/read_write.c and
fs/sync.c.
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.base.payload import Payload
from labsim.nodes.client.cred import MAY_WRITE, Cred, check
from labsim.nodes.client.llite_files import O_APPEND
from labsim.nodes.client.walk import Walker
from labsim.runtime.ports import Steps

EBADF, EISDIR, EINVAL = 9, 21, 22

SEEK_SET, SEEK_CUR, SEEK_END = 0, 1, 2

MAX_BYTES = 2**63 - 1
"""MAX_LFS_FILESIZE."""

DIR_END = 2**63 - 1
"""Where a directory ends for lseek: behind the highest hash (LL_DIR_END_OFF)."""


class IoCalls:
    """The part of Vfs that works on open files."""

    llite: Any
    cred: Cred
    walker: Walker
    files: dict[Any, None]

    def close(self, file: Any) -> Steps[None]:
        """System call close: the server's answer does not reach the caller."""
        self._check_open(file)
        file.closed = True
        self.files.pop(file, None)
        yield from self.llite.close(file.inode, file.handle, file.wrote, self.cred)

    def read(self, file: Any, length: int, offset: int | None = None) -> Steps[Payload]:
        """System call read, or pread(2) where `offset` is given; empty at the end of the file."""
        self._check_open(file)
        if not file.readable:
            raise LustreError(EBADF)
        inode = file.inode
        at = file.pos if offset is None else offset
        if at < 0 or at + length > MAX_BYTES:
            raise LustreError(EINVAL)
        if inode.is_dir:
            raise LustreError(EISDIR)
        payload: Payload = yield from self.llite.read(inode, at, length)
        if offset is None:
            file.pos = at + len(payload)
        return payload

    def write(self, file: Any, payload: Payload, offset: int | None = None) -> Steps[int]:
        """System call write, or pwrite(2) where `offset` is given; how many bytes.

        With O_APPEND data goes to the end, wherever the position or `offset` is.
        """
        self._check_open(file)
        if not file.writable:
            raise LustreError(EBADF)
        at = file.pos if offset is None else offset
        if at < 0 or at + len(payload) > MAX_BYTES:
            raise LustreError(EINVAL)
        if not len(payload):
            return 0
        where = None if file.flags & O_APPEND else at
        file.wrote = True
        yield from self.llite.drop_privileges(file.inode, self.cred)
        end: int = yield from self.llite.write(file.inode, where, payload)
        if offset is None:
            file.pos = end
        return len(payload)

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
        file.pos = base + offset
        self.llite.stats.op("seek")
        return file.pos

    def fsync(self, file: Any) -> Steps[None]:
        """System call fsync: data and metadata are on disk when it returns."""
        self._check_open(file)
        yield from self.llite.fsync(file.inode)

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

"""Opening, closing, reading and writing, and the entries of directories.

Knows open handles and the joint to the data path, not file tables. Stands for llite/file.c and
llite/dir.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import NO_FID
from labsim.base.payload import Payload, tobytes
from labsim.nodes.client import dirpage
from labsim.nodes.client.cred import ROOT, Cred
from labsim.nodes.client.inode import Dentry, Inode
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    LCK_PR,
    MDS_DIR_END_OFF,
    MDS_FMODE_READ,
    MDS_FMODE_WRITE,
    MDS_INODELOCK_UPDATE,
    MDS_OPEN_APPEND,
    MDS_OPEN_BY_FID,
    MDS_OPEN_CREAT,
    MDS_OPEN_DELAY_CREATE,
    MDS_OPEN_DIRECTORY,
    MDS_OPEN_EXCL,
    MDS_OPEN_SYNC,
    MDS_OPEN_TRUNC,
)

O_RDONLY, O_WRONLY, O_RDWR, O_ACCMODE = 0, 1, 2, 3
O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC, O_APPEND = 0o100, 0o200, 0o400, 0o1000, 0o2000
O_DSYNC, O_DIRECT = 0o10000, 0o40000
O_SYNC, O_FASYNC, O_DIRECTORY, O_NOFOLLOW = 0o4010000, 0o20000, 0o200000, 0o400000
O_LOV_DELAY_CREATE = O_NOCTTY | O_FASYNC
"""Create without objects, so that the striping can be set afterwards (lustre_user.h)."""

DAY_S = 86400

_OPEN_BITS = (
    (O_CREAT, MDS_OPEN_CREAT),
    (O_EXCL, MDS_OPEN_EXCL),
    (O_TRUNC, MDS_OPEN_TRUNC),
    (O_APPEND, MDS_OPEN_APPEND),
    (O_SYNC, MDS_OPEN_SYNC),
    (O_DIRECTORY, MDS_OPEN_DIRECTORY),
    (O_LOV_DELAY_CREATE, MDS_OPEN_DELAY_CREATE),
)


def open_flags(flags: int) -> int:
    """System call open's flags as the wire has them (mds_pack_open_flags)."""
    access = (flags & O_ACCMODE) + 1
    packed = access & (MDS_FMODE_READ | MDS_FMODE_WRITE)
    for bits, wire in _OPEN_BITS:
        if flags & bits == bits:
            packed |= wire
    return packed


class Files:
    """The file operations of Llite."""

    env: Any
    clock: Any
    inodes: Any
    namei: Any
    data: Any
    stats: Any
    trace: Any
    mdc: Callable[..., Any]
    match: Callable[..., Any]
    release: Callable[..., Any]
    turns: int
    retire: Callable[..., Any]
    new_fid: Callable[..., Any]
    masked: Callable[..., Any]
    tally: Callable[..., Any]
    layout: Callable[..., Any]

    # ---- open, close

    def open_name(
        self, parent: Dentry, name: str, flags: int, mode: int, cred: Cred
    ) -> Steps[tuple[Dentry, int, bool]]:
        """Look up, create and open in one request: (dentry, handle, created).

        `flags` are open(2)'s. The handle is 0 for links and special files; raises ENOENT, EEXIST
        and what else the MDT says.
        """
        assert parent.inode is not None
        fid = NO_FID
        if flags & O_CREAT:
            fid = yield from self.new_fid(parent.inode)
            mode = self.masked(mode, cred)
        found = yield from self.namei.open(parent, name, fid, open_flags(flags), mode, cred)
        dentry, handle, created = found
        if handle:
            dentry.inode.opens += 1
        return dentry, handle, created

    def open_inode(self, dentry: Dentry, flags: int, cred: Cred, eadata: bytes = b"") -> Steps[int]:
        """Open what is known already, by FID; the handle."""
        wire = open_flags(flags & ~(O_CREAT | O_EXCL)) | MDS_OPEN_BY_FID
        handle: int = yield from self.namei.open_inode(dentry, wire, cred, eadata)
        if handle and dentry.inode is not None:
            dentry.inode.opens += 1
        return handle

    def close(self, inode: Inode, handle: int, wrote: bool, cred: Cred) -> Steps[None]:
        """Give a handle back. What the MDT says to that does not reach close."""
        started_ns = self.env.now
        if handle:
            inode.opens -= 1
            try:
                yield from self.mdc(inode.fid).close(inode, handle, wrote, cred)
            except LustreError as error:
                self.trace.emit("close.failed", inode.fid, error.errno)
            self.retire(inode)
        self.tally("close", started_ns)

    def set_striping(self, dentry: Dentry, striping: bytes, cred: Cred) -> Steps[None]:
        """Give a file without objects its own: an open that carries a packed lov_user_md.

        Raises EEXIST where it has objects already, EINVAL for a striping that cannot be.
        """
        assert dentry.inode is not None
        handle = yield from self.open_inode(dentry, O_WRONLY, cred, striping)
        yield from self.close(dentry.inode, handle, False, cred)

    # ---- data

    def read(
        self, inode: Inode, offset: int, length: int, reader: Any = None, direct: bool = False
    ) -> Steps[Payload]:
        """At most `length` bytes of a regular file; without objects only the MDT knows its size."""
        if not inode.layout and not (yield from self.layout(inode, ROOT)):
            yield from self.namei.revalidate(inode, ROOT)
        payload: Payload = yield from self.data.read(inode, offset, length, reader, direct)
        if len(payload):
            self.was_read(inode, len(payload))
        return payload

    def was_read(self, inode: Inode, length: int) -> None:
        """Count a read."""
        self.stats.add("read_bytes", length, "bytes")
        self.touch_atime(inode)

    def touch_atime(self, inode: Inode) -> None:
        """relatime: the time of reading moves when it is older than a change, or than a day."""
        now = self.clock.seconds()
        changed = max(inode.mtime, inode.ctime)
        if inode.atime <= changed or now - inode.atime >= DAY_S:
            inode.atime = now

    def write(
        self, inode: Inode, offset: int | None, payload: Payload, direct: bool = False
    ) -> Steps[tuple[int, int]]:
        """Write at `offset`, or at the end where it is None; (start, end) of what was written."""
        if not inode.layout:
            yield from self.layout(inode, ROOT)
        wrote: tuple[int, int] = yield from self.data.write(inode, offset, payload, direct)
        return wrote

    def fsync(self, inode: Inode) -> Steps[None]:
        """Data to the OSTs and metadata to the MDT, both on disk when this returns."""
        started_ns = self.env.now
        if inode.is_reg:
            yield from self.data.flush(inode)
        yield from self.mdc(inode.fid).sync(inode.fid)
        self.tally("fsync", started_ns)

    def sync(self) -> Steps[None]:
        """Everything this client wrote, and everything on the MDT, is on disk when this returns."""
        for inode in list(self.inodes.inodes.values()):
            if inode.is_reg and inode.data is not None:
                yield from self.data.flush(inode)
        yield from self.mdc(None).sync(NO_FID)

    # ---- directories

    def entries(self, directory: Inode, cred: Cred) -> Steps[list[dirpage.Entry]]:
        """All entries in the MDT's order, "." and ".." with them.

        They are kept while an UPDATE lock on the directory holds.
        """
        started_ns = self.env.now
        lock = self.match(directory.fid, MDS_INODELOCK_UPDATE, LCK_PR)
        if lock is None:
            lock = yield from self.mdc(directory.fid).read_lock(directory)
        try:
            found = directory.entries
            if found is None:
                found = yield from self._read_pages(directory, cred)
                if lock is not None:
                    directory.entries = found
        finally:
            if lock is not None:
                self.release(lock)
        self.tally("readdir", started_ns)
        return found

    def _read_pages(self, directory: Inode, cred: Cred) -> Steps[list[dirpage.Entry]]:
        found: list[dirpage.Entry] = []
        start = 0
        while start != MDS_DIR_END_OFF:
            data = yield from self.mdc(directory.fid).readpage(directory, start, cred)
            pages = dirpage.unpack(tobytes(data))
            found += unseen(found, pages.entries)
            if pages.end == start:
                break
            start = pages.end
        return found


def unseen(known: list[dirpage.Entry], entries: list[dirpage.Entry]) -> list[dirpage.Entry]:
    """Entries less those that a transfer repeats, as it does when it begins within one hash."""
    if not known or not entries or entries[0].hash > known[-1].hash:
        return entries
    last = known[-1].hash
    names = {entry.name for entry in known if entry.hash == last}
    return [e for e in entries if e.hash > last or (e.hash == last and e.name not in names)]

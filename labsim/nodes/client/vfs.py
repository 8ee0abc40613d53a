"""System calls by path: what a process on a client can do.

Knows the kernel's rules (flags, errnos, file positions), not locks or servers. Stands for the
kernel's VFS in front of llite. Opening is here; names are in `vfs_names`, data in `vfs_io`,
attributes in `vfs_attrs`, extended attributes in `vfs_xattrs`, Lustre's ioctls in `vfs_lov`.

Every call is a generator; it raises LustreError with the errno that Linux gives. Paths are relative
to `cwd`, which is the mount point to begin with; "/" and "/mnt/lustre" are the mount point.
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.nodes.client.cred import (
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    ROOT,
    Cred,
    allowed,
    check,
)
from labsim.nodes.client.inode import Dentry, Inode
from labsim.nodes.client.llite_files import (
    O_ACCMODE,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_NOFOLLOW,
    O_RDONLY,
    O_TRUNC,
    O_WRONLY,
)
from labsim.nodes.client.vfs_attrs import AttrCalls
from labsim.nodes.client.vfs_io import IoCalls
from labsim.nodes.client.vfs_locks import LockCalls
from labsim.nodes.client.vfs_lov import StripeCalls
from labsim.nodes.client.vfs_names import NameCalls
from labsim.nodes.client.vfs_xattrs import XattrCalls
from labsim.nodes.client.walk import Last, Links, Walker
from labsim.runtime.ports import Steps

ENOENT, EACCES, EEXIST, ENOTDIR, EISDIR, ENXIO, ELOOP, ESTALE = 2, 13, 17, 20, 21, 6, 40, 116


class File:
    """An open file: flags, position, and the handle that the MDT knows it by (0: none).

    `inode` is what is open. `failed`: the last write or fsync told of an error, so close need not.
    """

    __slots__ = (
        "ahead", "closed", "dentry", "failed", "flags", "group", "handle", "inode", "pos",
        "readable", "serial", "writable", "wrote",
    )  # fmt: skip

    def __init__(self, dentry: Dentry, flags: int, handle: int) -> None:
        self.dentry = dentry
        self.flags = flags
        self.handle = handle
        self.pos = 0
        self.ahead: Any = None
        """What read-ahead knows of it."""
        self.wrote = False
        self.serial = 0
        """Tells its flock locks from other files'; 0: it never had any."""
        self.group = 0
        self.failed = False
        self.closed = False
        inode = dentry.inode
        assert inode is not None
        self.inode: Inode = inode
        self.readable = flags & O_ACCMODE != O_WRONLY
        self.writable = flags & O_ACCMODE != O_RDONLY


class Vfs(LockCalls, IoCalls, NameCalls, AttrCalls, XattrCalls, StripeCalls):
    """One process: who it is, its directory, and the calls it can make.

    `node` is the client; its `llite` knows the open files and directories of all processes.
    """

    def __init__(self, node: Any, cred: Cred = ROOT) -> None:
        self.node = node
        self.llite = node.llite
        self.cred = cred
        self.walker = Walker(self.llite, cred)
        self.files: dict[File, None] = self.llite.open_files

    @property
    def cwd(self) -> str:
        """The working directory below the mount point, "/" for the mount point itself."""
        return self.walker.cwd.path()

    def chdir(self, path: str) -> Steps[None]:
        """Change the working directory."""
        dentry = yield from self.walker.lookup(path)
        inode = self.directory(dentry)
        check(inode, self.cred, MAY_EXEC)
        self.llite.directories.pop(self, None)
        self.walker.cwd = dentry
        if not dentry.is_root:
            self.llite.directories[self] = dentry

    def exit(self) -> None:
        """The process ends: its directory may go from memory. Its files are for it to close."""
        self.llite.directories.pop(self, None)

    def sync(self) -> Steps[None]:
        """System call sync: everything dirty on this client is on disk when it returns."""
        yield from self.llite.sync()

    def drop_caches(self, level: int) -> Steps[None]:
        """Write 1 (pages), 2 (dentries and inodes) or 3 to /proc/sys/vm/drop_caches."""
        yield from self.llite.drop_caches(level)

    def directory(self, dentry: Dentry) -> Inode:
        """The directory that a dentry leads to; ENOTDIR where it is none."""
        inode = dentry.inode
        if inode is None or not inode.is_dir:
            raise LustreError(ENOTDIR)
        return inode

    def find(self, last: Last, operation: int) -> Steps[Dentry]:
        """Look the end of a path up; the dentry may be negative."""
        dentry = self.llite.namei.cached(last.parent, last.name)
        if dentry is None:
            dentry = yield from self.llite.namei.ask(last.parent, last.name, operation, self.cred)
        found: Dentry = dentry
        return found

    # ---- open

    def open(self, path: str, flags: int = O_RDONLY, mode: int = 0o666) -> Steps[File]:
        """System call open: flags are Linux's O_*; `mode` is for a new file, less the umask.

        What was found in the cache and is gone when it is opened is looked for once more, as in
        do_filp_open.
        """
        started_ns = self.llite.env.now
        try:
            file = yield from self._open(path, flags, mode)
        except LustreError as error:
            if error.errno != ESTALE:
                raise
            file = yield from self._open(path, flags, mode)
        self.llite.tally("open", started_ns)
        return file

    def _open(self, path: str, flags: int, mode: int) -> Steps[File]:
        links = Links()
        at: Dentry | None = None
        while True:
            last = yield from self.walker.parent(path, at, links)
            dentry, handle, created = yield from self._open_last(last, flags, mode, links)
            inode = dentry.inode
            if not (inode.is_link and self._follows(flags, last)):
                break
            links.follow()
            at, path = last.parent, (yield from self.llite.readlink(inode, self.cred))
            path += "/" if last.slash else ""
        file = File(dentry, flags, handle)
        try:
            self._may_open(file, created, last)
            if not handle:
                yield from self._open_handle(file, created)
            self.files[file] = None
            if file.inode.is_dir:
                self.llite.statahead.opens(file, self.walker)
            if flags & O_TRUNC and file.inode.is_reg and not created:
                yield from self.llite.truncate(file.inode, 0, self.cred, opening=True)
        except LustreError:
            yield from self._abandon(file)
            raise
        return file

    def _follows(self, flags: int, last: Last) -> bool:
        """Whether a link at the end is followed: not for O_NOFOLLOW, not to create anew."""
        if flags & O_CREAT and flags & O_EXCL:
            return False
        return not flags & O_NOFOLLOW or last.slash

    def _open_last(
        self, last: Last, flags: int, mode: int, links: Links
    ) -> Steps[tuple[Dentry, int, bool]]:
        """The end of the path: from the cache, or looked up and opened in one request."""
        if last.special or last.slash:
            if flags & O_CREAT:
                raise LustreError(EEXIST if flags & O_EXCL and last.special else EISDIR)
            return (yield from self._open_directory(last, links)), 0, False
        dentry = self.llite.namei.cached(last.parent, last.name)
        if dentry is not None and dentry.inode is not None:
            if flags & O_CREAT and flags & O_EXCL:
                raise LustreError(EEXIST)
            return dentry, 0, False
        if dentry is not None and not flags & O_CREAT:
            raise LustreError(ENOENT)
        return (yield from self._open_by_name(last, flags, mode))

    def _open_directory(self, last: Last, links: Links) -> Steps[Dentry]:
        """A path that can only be a directory's: the root, a dot, or a slash behind the name."""
        if last.name == "/":
            return last.parent
        found: Dentry = yield from self.walker.lookup(last.name + "/", True, last.parent, links)
        return found

    def _open_by_name(self, last: Last, flags: int, mode: int) -> Steps[tuple[Dentry, int, bool]]:
        refused = False
        if flags & O_CREAT and not self._may_create(last.parent):
            flags, refused = flags & ~(O_CREAT | O_EXCL), True
        try:
            return (yield from self.llite.open_name(
                last.parent, last.name, flags, mode & 0o7777, self.cred
            ))  # fmt: skip
        except LustreError as error:
            if refused and error.errno == ENOENT:
                raise LustreError(EACCES) from None
            raise

    def _may_create(self, parent: Dentry) -> bool:
        inode = self.directory(parent)
        return not self.cred.uid or allowed(inode, self.cred, MAY_WRITE | MAY_EXEC)

    def _may_open(self, file: File, created: bool, last: Last) -> None:
        """The checks on what was found (may_open); a file just made needs none."""
        inode, flags = file.inode, file.flags
        if created:
            return
        if flags & O_CREAT and flags & O_EXCL:
            raise LustreError(EEXIST)
        if inode.is_dir and flags & O_CREAT:
            raise LustreError(EISDIR)
        if flags & O_DIRECTORY and not inode.is_dir:
            raise LustreError(ENOTDIR)
        if inode.is_link:
            raise LustreError(ELOOP)
        if inode.is_dir and (file.writable or flags & O_TRUNC):
            raise LustreError(EISDIR)
        if self.cred.uid:
            want = MAY_READ if file.readable else 0
            if file.writable or flags & O_TRUNC:
                want |= MAY_WRITE
            check(inode, self.cred, want)

    def _open_handle(self, file: File, created: bool) -> Steps[None]:
        """Open what the cache knew already; special files have no handle at the MDT."""
        inode = file.inode
        if inode.is_reg or inode.is_dir:
            file.handle = yield from self.llite.open_inode(file.dentry, file.flags, self.cred)
            return
        raise LustreError(ENXIO)

    def _abandon(self, file: File) -> Steps[None]:
        """An open that failed half-way gives its handle back."""
        self.files.pop(file, None)
        self.llite.statahead.closes(file)
        file.closed = True
        if file.handle:
            yield from self.llite.close(file.inode, file.handle, False, self.cred)

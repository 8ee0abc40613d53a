"""System calls that make, move and remove names, and that read directories.

Knows the kernel's rules for them. Stands for the calls of fs/namei.c and fs/readdir.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.errors import LustreError
from labsim.nodes.client.cred import (
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
    S_ISVTX,
    Cred,
    check,
    check_delete,
)
from labsim.nodes.client.inode import Dentry, flatten
from labsim.nodes.client.llite_files import O_DIRECTORY, O_RDONLY
from labsim.nodes.client.walk import PATH_MAX, Last, Walker
from labsim.runtime.ports import Steps
from labsim.wire.constants import IT_GETATTR

EPERM, ENOENT, EBUSY, EEXIST, ENOTDIR, EISDIR, EINVAL = 1, 2, 16, 17, 20, 21, 22
ENAMETOOLONG, ENOTEMPTY = 36, 39


class NameCalls:
    """The part of Vfs that changes names."""

    llite: Any
    cred: Cred
    walker: Walker
    directory: Callable[..., Any]
    find: Callable[..., Any]
    open: Callable[..., Any]
    close: Callable[..., Any]

    # ---- making

    def mkdir(self, path: str, mode: int = 0o777) -> Steps[None]:
        """System call mkdir."""
        last = yield from self._new(path, directory=True)
        mode = S_IFDIR | mode & (0o777 | S_ISVTX)
        yield from self.llite.create(last.parent, last.name, mode, self.cred, "mkdir")

    def mknod(self, path: str, mode: int, rdev: int = 0) -> Steps[None]:
        """System call mknod: regular files, FIFOs and sockets; devices for root only."""
        kind = mode & S_IFMT or S_IFREG
        if kind == S_IFDIR:
            raise LustreError(EPERM)
        if kind not in (S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK):
            raise LustreError(EINVAL)
        last = yield from self._new(path)
        if kind in (S_IFCHR, S_IFBLK) and not self.cred.capable:
            raise LustreError(EPERM)
        mode = kind | mode & 0o7777
        yield from self.llite.create(last.parent, last.name, mode, self.cred, "mknod", rdev)

    def symlink(self, target: str, path: str) -> Steps[None]:
        """System call symlink: `path` will point at `target`."""
        if not target:
            raise LustreError(ENOENT)
        if len(target.encode("utf-8", "surrogateescape")) >= PATH_MAX:
            raise LustreError(ENAMETOOLONG)
        last = yield from self._new(path)
        mode = S_IFLNK | 0o777
        yield from self.llite.create(
            last.parent, last.name, mode, self.cred, "symlink", target=target
        )

    def link(self, existing: str, path: str) -> Steps[None]:
        """System call link: a link itself is linked, not what it points at."""
        source = yield from self.walker.lookup(existing, follow=False)
        last = yield from self._new(path)
        if source.inode is None or source.inode.is_dir:
            taken = yield from self.find(last, IT_GETATTR)
            raise LustreError(EPERM if taken.inode is None else EEXIST)
        yield from self.llite.link(source.inode, last.parent, last.name, self.cred)

    def _new(self, path: str, directory: bool = False) -> Steps[Last]:
        """The end of a path that must not exist yet (filename_create, may_create).

        The MDT says EEXIST where only it knows that the name is taken.
        """
        last = yield from self.walker.parent(path)
        if last.special:
            raise LustreError(EEXIST)
        dentry = self.llite.namei.cached(last.parent, last.name)
        if dentry is not None and dentry.inode is not None:
            raise LustreError(EEXIST)
        if last.slash and not directory:
            yield from self._missing(last)
        if self.cred.uid:
            yield from self._creatable(last)
        return last

    def _missing(self, last: Last) -> Steps[None]:
        """A slash behind a name that is to be no directory: EEXIST or ENOENT."""
        dentry = yield from self.find(last, IT_GETATTR)
        raise LustreError(ENOENT if dentry.inode is None else EEXIST)

    def _creatable(self, last: Last) -> Steps[None]:
        """Without write permission a name that exists is EEXIST, one that does not EACCES."""
        try:
            check(self.directory(last.parent), self.cred, MAY_WRITE | MAY_EXEC)
        except LustreError:
            dentry = yield from self.find(last, IT_GETATTR)
            if dentry.inode is not None:
                raise LustreError(EEXIST) from None
            raise

    # ---- removing

    def unlink(self, path: str) -> Steps[None]:
        """System call unlink."""
        last = yield from self.walker.parent(path)
        if last.special:
            raise LustreError(EISDIR)
        victim = yield from self._existing(last)
        inode = victim.inode
        if last.slash:
            raise LustreError(EISDIR if inode is not None and inode.is_dir else ENOTDIR)
        check_delete(self.directory(last.parent), inode, self.cred)
        if inode.is_dir:
            raise LustreError(EISDIR)
        yield from self.llite.unlink(victim, False, self.cred)

    def rmdir(self, path: str) -> Steps[None]:
        """System call rmdir."""
        last = yield from self.walker.parent(path)
        if last.special:
            raise LustreError({".": EINVAL, "..": ENOTEMPTY, "/": EBUSY}[last.name])
        victim = yield from self._existing(last)
        inode = victim.inode
        check_delete(self.directory(last.parent), inode, self.cred)
        if not inode.is_dir:
            raise LustreError(ENOTDIR)
        yield from self.llite.unlink(victim, True, self.cred)

    def _existing(self, last: Last) -> Steps[Any]:
        """The dentry at the end of a path; ENOENT where there is none."""
        dentry = yield from self.find(last, IT_GETATTR)
        if dentry.inode is None:
            raise LustreError(ENOENT)
        return dentry

    # ---- moving

    def rename(self, old: str, new: str) -> Steps[None]:
        """System call rename."""
        source = yield from self.walker.parent(old)
        target = yield from self.walker.parent(new)
        if source.special or target.special:
            raise LustreError(EBUSY)
        moved = yield from self._existing(source)
        over = yield from self.find(target, IT_GETATTR)
        if not moved.inode.is_dir and (source.slash or target.slash):
            raise LustreError(ENOTDIR)
        self._not_below(moved, over, source, target)
        if over.inode is moved.inode:
            return
        self._may_rename(moved, over, source, target)
        yield from self.llite.rename(moved, target.parent, target.name, over.inode, self.cred)

    def _not_below(self, moved: Dentry, over: Dentry, source: Last, target: Last) -> None:
        """No directory goes below itself, none is replaced by something inside it."""
        inside = {up.inode.fid for up in target.parent.above() if up.inode is not None}
        if moved.inode is not None and moved.inode.fid in inside:
            raise LustreError(EINVAL)
        above = {up.inode.fid for up in source.parent.above() if up.inode is not None}
        if over.inode is not None and over.inode.fid in above:
            raise LustreError(ENOTEMPTY)

    def _may_rename(self, moved: Dentry, over: Dentry, source: Last, target: Last) -> None:
        """The kernel's checks on both directories and both names (vfs_rename)."""
        inode, victim = moved.inode, over.inode
        assert inode is not None
        check_delete(self.directory(source.parent), inode, self.cred)
        directory = self.directory(target.parent)
        if victim is None:
            check(directory, self.cred, MAY_WRITE | MAY_EXEC)
        else:
            check_delete(directory, victim, self.cred)
            if inode.is_dir and not victim.is_dir:
                raise LustreError(ENOTDIR)
            if victim.is_dir and not inode.is_dir:
                raise LustreError(EISDIR)
        if inode.is_dir and source.parent is not target.parent and self.cred.uid:
            check(inode, self.cred, MAY_WRITE)

    # ---- reading

    def readlink(self, path: str) -> Steps[str]:
        """System call readlink: what a symbolic link says."""
        dentry = yield from self.walker.lookup(path, follow=False)
        if dentry.inode is None or not dentry.inode.is_link:
            raise LustreError(EINVAL)
        return (yield from self.llite.readlink(dentry.inode, self.cred))

    def readdir(self, path: str = ".") -> Steps[list[tuple[str, int, int]]]:
        """opendir, getdents until the end, closedir: (name, S_IFMT bits, inode number).

        In the order of the server, "." and ".." among them.
        """
        file = yield from self.open(path, O_RDONLY | O_DIRECTORY)
        try:
            return (yield from self.getdents(file))
        finally:
            yield from self.close(file)

    def getdents(self, file: Any) -> Steps[list[tuple[str, int, int]]]:
        """All entries of an open directory."""
        inode = self.directory(file.dentry)
        if self.cred.uid:
            check(inode, self.cred, MAY_READ)
        entries = yield from self.llite.entries(inode, self.cred)
        return [(entry.name, entry.type, flatten(entry.fid)) for entry in entries]

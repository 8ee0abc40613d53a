"""From a path to a dentry: components, dots, symbolic links, search permission.

Knows the dentry cache and how to ask for what is not in it; not what is done with the result.
Stands for the kernel's fs/namei.c.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from labsim.base.errors import LustreError
from labsim.nodes.client.cred import MAY_EXEC, Cred, check
from labsim.nodes.client.inode import Dentry
from labsim.runtime.ports import Steps
from labsim.wire.constants import IT_GETATTR, IT_LOOKUP

ENOENT, ENODEV, ENOTDIR, ENAMETOOLONG, ELOOP = 2, 19, 20, 36, 40

PATH_MAX = 4096
MAX_LINKS = 40
"""MAXSYMLINKS: so many links one path may go through."""

MOUNT_POINT = "/mnt/lustre"

DOTS = (".", "..")


class Last(NamedTuple):
    """The end of a path that is not looked up yet: its directory, the name, a slash behind it.

    The name is "." or ".." where the path ends so, and "/" for the root itself.
    """

    parent: Dentry
    name: str
    slash: bool

    @property
    def special(self) -> bool:
        """True for the root and the dots: nothing that can be made, removed or renamed."""
        return self.name in (".", "..", "/")


class Links:
    """How many links a walk has followed."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def follow(self) -> None:
        """One more; ELOOP after too many."""
        self.count += 1
        if self.count > MAX_LINKS:
            raise LustreError(ELOOP)


class Walker:
    """Walks paths for one process: its root is the mount, its directory `cwd`."""

    def __init__(self, llite: Any, cred: Cred) -> None:
        self.llite = llite
        self.cred = cred
        self.cwd: Dentry = llite.root

    # ---- the two ways to walk

    def lookup(
        self,
        path: str,
        follow: bool = True,
        start: Dentry | None = None,
        links: Links | None = None,
    ) -> Steps[Dentry]:
        """What the whole path leads to; raises ENOENT where there is nothing."""
        at, names, slash = self._begin(path, start)
        return (yield from self._walk(at, names, follow or slash, slash, links or Links()))

    def parent(
        self, path: str, start: Dentry | None = None, links: Links | None = None
    ) -> Steps[Last]:
        """The directory that the last name is in, and that name."""
        at, names, slash = self._begin(path, start)
        if not names:
            return Last(at, "/", slash)
        name = names.pop(0)
        links = links or Links()
        at = yield from self._walk(at, names, True, True, links, IT_LOOKUP)
        if self.cred.uid and at.is_root:
            yield from self._fresh_root()
        self._search(at)
        return Last(at, name, slash)

    def _begin(self, path: str, start: Dentry | None) -> tuple[Dentry, list[str], bool]:
        """Where to start, the names in reverse order, and whether a slash ends the path."""
        if not path:
            raise LustreError(ENOENT)
        if len(path.encode("utf-8", "surrogateescape")) >= PATH_MAX:
            raise LustreError(ENAMETOOLONG)
        at = start if start is not None else self.cwd
        if self.llite.root.inode is None:
            raise LustreError(ENODEV)  # mount.lustre has not returned yet
        if path[0] == "/":
            at = self.llite.root
            if path == MOUNT_POINT or path.startswith(MOUNT_POINT + "/"):
                path = path[len(MOUNT_POINT) :]
        return at, [name for name in reversed(path.split("/")) if name], path[-1:] == "/"

    def _walk(
        self, at: Dentry, names: list[str], follow: bool, directory: bool, links: Links,
        operation: int = IT_GETATTR,
    ) -> Steps[Dentry]:  # fmt: skip
        """Take the names off the end of the list one by one."""
        namei = self.llite.namei
        while names:
            if self.cred.uid and at.is_root:
                yield from self._fresh_root()
            self._search(at)
            name = names.pop()
            if name in DOTS:
                at = at.parent if name == ".." else at
                continue
            if self.llite.statahead.opened and not names and operation == IT_GETATTR:
                yield from self.llite.statahead.ask(self, at, name, self.cred)
            dentry = namei.cached(at, name)
            if dentry is None:
                dentry = yield from namei.ask(at, name, operation, self.cred)
            inode = dentry.inode
            if inode is None:
                raise LustreError(ENOENT)
            if inode.is_link and (names or follow):
                links.follow()
                target = yield from self.llite.readlink(inode, self.cred)
                at, more, slash = self._begin(target, at)
                directory = directory or (slash and not names)
                names += more
                continue
            at = dentry
        if directory and not (at.inode is not None and at.inode.is_dir):
            raise LustreError(ENOTDIR)
        return at

    def _fresh_root(self) -> Steps[None]:
        """No lookup ever brings the root's mode up to date, so that is done before a check."""
        yield from self.llite.namei.revalidate(self.llite.root.inode, self.cred)

    def _search(self, at: Dentry) -> None:
        """Raise unless this is a directory that may be searched."""
        inode = at.inode
        if inode is None or not inode.is_dir:
            raise LustreError(ENOTDIR)
        if self.cred.uid:
            check(inode, self.cred, MAY_EXEC)

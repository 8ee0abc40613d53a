"""The four xattr system calls: names, sizes, flags and permissions as the kernel checks them.

Knows what the kernel refuses before a file system is asked, not what the file system does. Stands
for fs/xattr.c.
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.nodes.client.cred import MAY_READ, MAY_WRITE, S_ISVTX, Cred, check
from labsim.nodes.client.inode import Inode
from labsim.nodes.client.walk import Walker
from labsim.nodes.client.xattr import (
    TRUSTED,
    USER,
    XATTR_CREATE,
    XATTR_REPLACE,
    Handler,
    resolve,
)
from labsim.runtime.ports import Steps
from labsim.wire.constants import LUSTRE_APPEND_FL, LUSTRE_IMMUTABLE_FL

EPERM, E2BIG, EINVAL, ERANGE, ENODATA = 1, 7, 22, 34, 61

XATTR_NAME_MAX, XATTR_SIZE_MAX, XATTR_LIST_MAX = 255, 65536, 65536

FREE_NAMESPACES = ("security.", "system.")
"""The kernel leaves permissions of these to the file system (xattr_permission)."""


class XattrCalls:
    """The part of Vfs that works on extended attributes."""

    llite: Any
    cred: Cred
    walker: Walker

    def setxattr(
        self, path: str, name: str, value: bytes, flags: int = 0, follow: bool = True
    ) -> Steps[None]:
        """System calls setxattr, lsetxattr: flags 0, XATTR_CREATE or XATTR_REPLACE."""
        inode = yield from self._target(path, follow)
        if flags & ~(XATTR_CREATE | XATTR_REPLACE):
            raise LustreError(EINVAL)
        check_name(name)
        if len(value) > XATTR_SIZE_MAX:
            raise LustreError(E2BIG)
        yield from self._change(inode, name, bytes(value), flags)

    def removexattr(self, path: str, name: str, follow: bool = True) -> Steps[None]:
        """System calls removexattr, lremovexattr."""
        inode = yield from self._target(path, follow)
        check_name(name)
        yield from self._change(inode, name, None, XATTR_REPLACE)

    def _change(self, inode: Inode, name: str, value: bytes | None, flags: int) -> Steps[None]:
        self._permitted(inode, name, MAY_WRITE)
        handler, suffix = resolve(name)
        yield from self.llite.xattrs.set(inode, handler, suffix, value, flags, self.cred)

    def getxattr(
        self, path: str, name: str, size: int = XATTR_SIZE_MAX, follow: bool = True
    ) -> Steps[bytes | int]:
        """System calls getxattr, lgetxattr: the value; with `size` 0 its length.

        ERANGE where it is longer than `size`, ENODATA where there is none.
        """
        inode = yield from self._target(path, follow)
        check_name(name)
        self._permitted(inode, name, MAY_READ)
        handler, suffix = resolve(name)
        room = min(size, XATTR_SIZE_MAX)
        try:
            return (yield from self._get(inode, handler, suffix, room))
        except LustreError as error:
            raise _too_long(error, size, XATTR_SIZE_MAX) from None

    def _get(self, inode: Inode, handler: Handler, suffix: str, room: int) -> Steps[bytes | int]:
        return (yield from self.llite.xattrs.get(inode, handler, suffix, room, self.cred))

    def listxattr(
        self, path: str, size: int = XATTR_LIST_MAX, follow: bool = True
    ) -> Steps[bytes | int]:
        """System calls listxattr, llistxattr: names, each with its NUL; `size` 0: their length."""
        inode = yield from self._target(path, follow)
        room = min(size, XATTR_LIST_MAX)
        try:
            return (yield from self.llite.xattrs.list(inode, room, self.cred))
        except LustreError as error:
            raise _too_long(error, size, XATTR_LIST_MAX) from None

    def _target(self, path: str, follow: bool) -> Steps[Inode]:
        dentry = yield from self.walker.lookup(path, follow)
        assert dentry.inode is not None
        return dentry.inode

    def _permitted(self, inode: Inode, name: str, want: int) -> None:
        """Which namespaces this caller may read or write on this inode (xattr_permission)."""
        if want & MAY_WRITE and inode.flags & (LUSTRE_IMMUTABLE_FL | LUSTRE_APPEND_FL):
            raise LustreError(EPERM)
        if name.startswith("security.") and want & MAY_WRITE and not self.cred.capable:
            raise LustreError(EPERM)  # cap_inode_setxattr
        if name.startswith(FREE_NAMESPACES):
            return
        refused = EPERM if want & MAY_WRITE else ENODATA
        kind = _namespace(name)
        if kind == TRUSTED:
            if not self.cred.capable:
                raise LustreError(refused)
            return
        if kind == USER:
            if not (inode.is_reg or inode.is_dir):
                raise LustreError(refused)
            sticky = inode.is_dir and inode.mode & S_ISVTX
            if sticky and want & MAY_WRITE and self.cred.uid not in (0, inode.uid):
                raise LustreError(EPERM)
        if self.cred.uid:
            check(inode, self.cred, want)


def _namespace(name: str) -> int | None:
    """TRUSTED or USER by the prefix that the kernel knows itself."""
    if name.startswith("trusted."):
        return TRUSTED
    return USER if name.startswith("user.") else None


def check_name(name: str) -> None:
    """Raise ERANGE for an empty name and for one of more than 255 bytes."""
    if not 0 < len(name.encode("utf-8", "surrogateescape")) <= XATTR_NAME_MAX:
        raise LustreError(ERANGE)


def _too_long(error: LustreError, size: int, most: int) -> LustreError:
    """A value that does not fit into the largest buffer is E2BIG, no ERANGE."""
    return LustreError(E2BIG) if error.errno == ERANGE and size >= most else error

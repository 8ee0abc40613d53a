"""Extended attributes: what each namespace allows, and where a value comes from.

Knows names, flags and the cache; the kernel's own checks of a call are in `vfs_xattrs`. Stands for
llite/xattr.c and its table of xattr handlers.

The kernel cuts a name at the prefix of its handler, and gives (handler, rest of the name, value,
flags). A removal comes the same way: without a value, and with XATTR_REPLACE.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from labsim.base.errors import LustreError
from labsim.base.payload import tobytes
from labsim.nodes.client.cred import Cred, check_owner
from labsim.nodes.client.inode import Inode
from labsim.runtime.ports import Steps
from labsim.wire.constants import OBD_MD_FLXATTR, OBD_MD_FLXATTRLS, OBD_MD_FLXATTRRM

EPERM, EINVAL, ERANGE, ENODATA, EOPNOTSUPP = 1, 22, 34, 61, 95

XATTR_CREATE, XATTR_REPLACE = 1, 2

USER, TRUSTED, SECURITY, ACL_ACCESS, ACL_DEFAULT, LUSTRE = range(6)


class Handler(NamedTuple):
    """One row of the handler table: a prefix, or a whole name where `whole` is set."""

    prefix: str
    kind: int
    whole: bool = False


HANDLERS = (
    Handler("user.", USER),
    Handler("trusted.", TRUSTED),
    Handler("security.", SECURITY),
    Handler("system.posix_acl_access", ACL_ACCESS, whole=True),
    Handler("system.posix_acl_default", ACL_DEFAULT, whole=True),
    Handler("lustre.", LUSTRE),
)

IGNORED = frozenset({
    "trusted.hsm", "trusted.lma", "trusted.link", "lustre.hsm", "lustre.lma", "lustre.link",
})  # fmt: skip
"""Lustre's own attributes: setting them is accepted and does nothing."""

LAYOUT_NAMES = frozenset({"trusted.lov", "lustre.lov"})
LISTED_LAYOUT = "lustre.lov"


def resolve(name: str) -> tuple[Handler, str]:
    """The handler of a full name, and the rest of it (xattr_resolve_name).

    Raises EOPNOTSUPP where no namespace matches, EINVAL for a namespace without a name.
    """
    for handler in HANDLERS:
        if handler.whole:
            if name == handler.prefix:
                return handler, ""
        elif name.startswith(handler.prefix):
            if len(name) == len(handler.prefix):
                raise LustreError(EINVAL, name)
            return handler, name[len(handler.prefix) :]
    raise LustreError(EOPNOTSUPP, name)


class Xattrs:
    """The four xattr calls on the inodes of one mount, below the kernel's checks."""

    def __init__(self, llite: Any, cache: Any) -> None:
        self.llite = llite
        self.cache = cache

    # ---- rules an overlay may replace

    def full_name(self, handler: Handler, suffix: str) -> str:
        """The name as the server and the cache know it."""
        return handler.prefix + suffix

    def removes(self, value: bytes | None, flags: int) -> bool:
        """Tell a removal from a replacement: a removal comes without a value."""
        return value is None and flags == XATTR_REPLACE

    def ignores(self, handler: Handler, suffix: str) -> bool:
        """True for an attribute of Lustre's own that is silently left alone."""
        return handler.prefix + suffix in IGNORED

    def is_layout(self, handler: Handler, suffix: str) -> bool:
        """True for the striping of a file, which is no stored attribute to a client."""
        return handler.prefix + suffix in LAYOUT_NAMES

    def cached(self, handler: Handler | None, suffix: str) -> bool:
        """True where a value comes from the cache rather than from a request of its own."""
        if not self.llite.xattr_cache:
            return False
        return handler is None or handler.kind != ACL_ACCESS

    # ---- set, remove

    def set(
        self,
        inode: Inode,
        handler: Handler,
        suffix: str,
        value: bytes | None,
        flags: int,
        cred: Cred,
    ) -> Steps[None]:
        """Set or remove one attribute; raises LustreError as the call would fail."""
        removes = self.removes(value, flags)
        self.llite.stats.op("removexattr" if removes else "setxattr")
        self._allowed(handler, cred)
        if self.is_layout(handler, suffix):
            yield from self.llite.set_layout(inode, value or b"", cred)
            return
        if self.ignores(handler, suffix):
            return
        self._check_set(inode, handler, suffix, cred)
        yield from self.send(inode, self.full_name(handler, suffix), value, flags, removes, cred)

    def send(
        self, inode: Inode, name: str, value: bytes | None, flags: int, removes: bool, cred: Cred
    ) -> Steps[None]:
        """The request to the MDT that owns the inode."""
        valid = OBD_MD_FLXATTRRM if removes else OBD_MD_FLXATTR
        mdc = self.llite.mdc(inode.fid)
        yield from mdc.setxattr(inode, valid, name, value or b"", flags, cred)

    def _check_set(self, inode: Inode, handler: Handler, suffix: str, cred: Cred) -> None:
        if is_label(handler, suffix):
            raise LustreError(EOPNOTSUPP)
        if handler.kind in (ACL_ACCESS, ACL_DEFAULT):
            check_owner(inode, cred)
        if handler.kind == USER and not (inode.is_reg or inode.is_dir):
            raise LustreError(EPERM)

    def _allowed(self, handler: Handler, cred: Cred) -> None:
        """What this mount offers at all (xattr_type_filter)."""
        if handler.kind == TRUSTED and not cred.capable:
            raise LustreError(EPERM)
        if handler.kind == USER and not self.llite.user_xattr:
            raise LustreError(EOPNOTSUPP)
        if handler.kind in (ACL_ACCESS, ACL_DEFAULT) and not self.llite.acl:
            raise LustreError(EOPNOTSUPP)

    # ---- get

    def get(
        self, inode: Inode, handler: Handler, suffix: str, size: int, cred: Cred
    ) -> Steps[bytes | int]:
        """A value of at most `size` bytes; its length where `size` is 0.

        Raises ENODATA where there is none, ERANGE where it is longer than `size`.
        """
        self.llite.stats.op("getxattr")
        self._allowed(handler, cred)
        if self.is_layout(handler, suffix):
            layout = yield from self.layout_of(inode, cred)
            return fit(layout, size)
        if handler.kind == ACL_ACCESS:
            if not inode.acl:
                raise LustreError(ENODATA)
            return fit(inode.acl, size)
        if handler.kind == ACL_DEFAULT and not inode.is_dir:
            raise LustreError(ENODATA)
        if is_label(handler, suffix):
            raise LustreError(EOPNOTSUPP)
        return (yield from self._value(inode, handler, suffix, size, cred))

    def _value(
        self, inode: Inode, handler: Handler, suffix: str, size: int, cred: Cred
    ) -> Steps[bytes | int]:
        name = self.full_name(handler, suffix)
        if self.cached(handler, suffix):
            values = yield from self.cache.get(inode, cred)
            if values is not None:
                if name not in values:
                    raise LustreError(ENODATA)
                return fit(values[name], size)
        return (yield from self.fetch(inode, name, OBD_MD_FLXATTR, size, cred))

    def fetch(
        self, inode: Inode, name: str, valid: int, size: int, cred: Cred
    ) -> Steps[bytes | int]:
        """Ask the MDT for one value, or for the names, past the cache."""
        reply = yield from self.llite.mdc(inode.fid).getxattr(inode, name, valid, size, cred)
        length: int = reply["mdt_body"].eadatasize
        if size == 0:
            return length
        if length > size:
            raise LustreError(ERANGE)
        if length == 0:
            raise LustreError(ENODATA)
        return tobytes(reply["eadata"])[:length]

    def layout_of(self, inode: Inode, cred: Cred) -> Steps[bytes]:
        """The striping as an attribute: a file's own layout, a directory's default."""
        if not (inode.is_reg or inode.is_dir):
            raise LustreError(ENODATA)
        layout: bytes = yield from self.llite.layout(inode, cred)
        if not layout:
            raise LustreError(ENODATA)
        return layout

    # ---- list

    def list(self, inode: Inode, size: int, cred: Cred) -> Steps[bytes | int]:
        """The names, each NUL terminated, in at most `size` bytes; their length where it is 0."""
        self.llite.stats.op("listxattr")
        if size == 0:
            length: int = yield from self._list_length(inode, cred)
            return length + len(LISTED_LAYOUT) + 1
        names = yield from self._names(inode, size, cred)
        try:
            yield from self.layout_of(inode, cred)
            names.append(LISTED_LAYOUT)
        except LustreError as error:
            if error.errno != ENODATA:
                raise
        return fit(joined(self.shown(names, cred)), size)

    def _list_length(self, inode: Inode, cred: Cred) -> Steps[int]:
        if self.cached(None, ""):
            values = yield from self.cache.get(inode, cred)
            if values is not None:
                return len(joined([*values, *self._acl_name(inode)]))
        length: int = yield from self.fetch(inode, "", OBD_MD_FLXATTRLS, 0, cred)
        return length

    def _names(self, inode: Inode, size: int, cred: Cred) -> Steps[list[str]]:
        if self.cached(None, ""):
            values = yield from self.cache.get(inode, cred)
            if values is not None:
                return [*values, *self._acl_name(inode)]
        try:
            data = yield from self.fetch(inode, "", OBD_MD_FLXATTRLS, size, cred)
        except LustreError as error:
            if error.errno != ENODATA:
                raise
            return []
        return split(data)

    def _acl_name(self, inode: Inode) -> list[str]:
        return ["system.posix_acl_access"] if inode.acl else []

    def shown(self, names: list[str], cred: Cred) -> list[str]:
        """The names of namespaces that this caller may use."""
        kept = []
        for name in names:
            try:
                self._allowed(resolve(name)[0], cred)
            except LustreError:
                continue
            kept.append(name)
        return kept


def is_label(handler: Handler, suffix: str) -> bool:
    """True for SELinux's label: no simulated kernel has SELinux switched on."""
    return handler.kind == SECURITY and suffix == "selinux"


def fit(value: bytes, size: int) -> bytes | int:
    """The value for a buffer of `size` bytes: its length where that is 0, ERANGE if too long."""
    if size == 0:
        return len(value)
    if len(value) > size:
        raise LustreError(ERANGE)
    return value


def joined(names: list[str]) -> bytes:
    """Names as listxattr(2) gives them: each followed by a NUL."""
    return b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in names)


def split(data: bytes) -> list[str]:
    """The names in what listxattr(2) gave."""
    return data.decode("utf-8", "surrogateescape").split("\0")[:-1]

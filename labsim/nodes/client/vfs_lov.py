"""Lustre's own calls on paths: striping and FIDs, as `lfs` makes them.

Knows struct lov_user_md, not which OSTs there are. Stands for the ioctls LL_IOC_LOV_SETSTRIPE,
LL_IOC_LOV_GETSTRIPE and LL_IOC_PATH2FID, and for liblustreapi's way to use them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.ids import Fid
from labsim.nodes.client.cred import Cred
from labsim.nodes.client.llite_files import O_CREAT, O_LOV_DELAY_CREATE, O_WRONLY
from labsim.nodes.client.walk import Walker
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    LOV_MIN_STRIPE_SIZE,
    LOV_PATTERN_RAID0,
    LOV_USER_MAGIC_V1,
    LOV_USER_MAGIC_V3,
)
from labsim.wire.lov import LovUserMdV1, LovUserMdV3

EINVAL, ENODATA, EEXIST = 22, 61, 17

ANY_OST = 0xFFFF
"""lmm_stripe_offset -1: the MDT chooses the first OST."""

ALL_OSTS = 0xFFFF
"""lmm_stripe_count -1: one stripe on every OST."""


class StripeObject(NamedTuple):
    """One stripe: the OST's index, and its object by struct ost_id."""

    ost: int
    id: int
    seq: int


class Striping(NamedTuple):
    """How a file is striped, or new files in a directory; `objects` is empty for a directory.

    `offset` is the first OST's index, -1 where the MDT chooses; `count` -1 stands for all OSTs.
    """

    count: int
    size: int
    offset: int
    pattern: int = LOV_PATTERN_RAID0
    generation: int = 0
    pool: str = ""
    magic: int = LOV_USER_MAGIC_V1
    objects: tuple[StripeObject, ...] = ()

    @classmethod
    def unpack(cls, data: bytes) -> Striping:
        """Read a lov_user_md or lov_mds_md, version 1 or 3; ProtocolError where it is neither."""
        magic = int.from_bytes(data[:4], "little")
        if magic not in (LOV_USER_MAGIC_V1, LOV_USER_MAGIC_V3):
            raise ProtocolError(f"lov_user_md.lmm_magic at 0: {magic:#x}")
        kind = LovUserMdV3 if magic == LOV_USER_MAGIC_V3 else LovUserMdV1
        md = kind.unpack(data)
        objects = tuple(
            StripeObject(one.ost_idx, one.ost_oi.id, one.ost_oi.seq) for one in md.objects
        )
        offset = objects[0].ost if objects else _signed(md.stripe_offset)
        return cls(
            _signed(md.stripe_count), md.stripe_size, offset, md.pattern,
            md.stripe_offset if objects else 0, getattr(md, "pool_name", ""), magic, objects,
        )  # fmt: skip


def _signed(value: int) -> int:
    """A u16 of all ones means -1."""
    return -1 if value == 0xFFFF else value


class StripeCalls:
    """The part of Vfs that `lfs` uses."""

    llite: Any
    cred: Cred
    walker: Walker
    open: Callable[..., Any]
    close: Callable[..., Any]

    def path2fid(self, path: str) -> Steps[Fid]:
        """The FID of what a path leads to."""
        dentry = yield from self.walker.lookup(path)
        assert dentry.inode is not None
        return dentry.inode.fid

    def lov_getstripe(self, path: str) -> Steps[Striping]:
        """The striping of a file, or a directory's default; ENODATA where there is none."""
        layout = yield from self.lov_layout(path)
        if not layout:
            raise LustreError(ENODATA)
        return Striping.unpack(layout)

    def lov_layout(self, path: str) -> Steps[bytes]:
        """The layout as packed bytes, empty where there is none; asks the MDT."""
        dentry = yield from self.walker.lookup(path)
        inode = dentry.inode
        assert inode is not None
        if inode.is_reg:
            parent = dentry.parent.inode
            return (yield from self.llite.layout_by_name(parent, dentry.name, self.cred))
        return (yield from self.llite.layout(inode, self.cred))

    def setstripe(
        self, path: str, count: int = 0, size: int = 0, offset: int = -1, pool: str = ""
    ) -> Steps[None]:
        """Lfs setstripe: make a file with this striping, or give it to a directory as default.

        `count` -1: all OSTs; `count` and `size` 0: the file system's default. Raises EINVAL for
        what cannot be, EEXIST where the file has objects already.
        """
        striping = packed(count, size, offset, pool)
        inode = yield from self._known_directory(path)
        if inode is not None:
            yield from self.llite.set_default_layout(inode, striping, self.cred)
            return
        flags = O_CREAT | O_WRONLY | O_LOV_DELAY_CREATE
        file = yield from self.open(path, flags, 0o644)
        try:
            yield from self.llite.set_striping(file.dentry, striping, self.cred)
        finally:
            yield from self.close(file)

    def _known_directory(self, path: str) -> Steps[Any]:
        try:
            dentry = yield from self.walker.lookup(path)
        except LustreError as error:
            if error.errno != 2:
                raise
            return None
        return dentry.inode if dentry.inode is not None and dentry.inode.is_dir else None


def packed(count: int, size: int, offset: int, pool: str = "") -> bytes:
    """A lov_user_md as liblustreapi packs it; EINVAL for a stripe size that cannot be."""
    if size < 0 or size % LOV_MIN_STRIPE_SIZE or size >= 1 << 32:
        raise LustreError(EINVAL, f"stripe size {size} is no multiple of 64 KiB below 4 GiB")
    if not -1 <= count < 0xFFFF or not -1 <= offset < 0xFFFF:
        raise LustreError(EINVAL, f"stripe count {count}, offset {offset}")
    fields: dict[str, Any] = {
        "pattern": LOV_PATTERN_RAID0,
        "stripe_size": size,
        "stripe_count": count & 0xFFFF,
        "stripe_offset": offset & 0xFFFF,
    }
    if pool:
        return LovUserMdV3(magic=LOV_USER_MAGIC_V3, pool_name=pool, **fields).pack()
    return LovUserMdV1(magic=LOV_USER_MAGIC_V1, **fields).pack()

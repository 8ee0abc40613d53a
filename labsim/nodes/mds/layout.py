"""Layouts as the MDT makes, stores and reads them: pure functions over lov EAs.

Does not know OSTs or files. Stands for the parsing half of lod/lod_lov.c (lod_verify_striping,
lod_parse_striping) and the defaults of lod_object.c.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.ids import Fid
from labsim.wire.constants import (
    LOV_ALL_STRIPES,
    LOV_MAGIC_V1,
    LOV_MAGIC_V3,
    LOV_MAX_STRIPE_COUNT,
    LOV_MIN_STRIPE_SIZE,
    LOV_PATTERN_RAID0,
    LOV_USER_MAGIC_SPECIFIC,
    LOV_USER_MAGIC_V1,
    LOV_USER_MAGIC_V3,
)
from labsim.wire.lov import LovMdsMdV1, LovMdsMdV3, LovOstDataV1, LovUserMdV1, LovUserMdV3
from labsim.wire.ost import OstId

NAME = "trusted.lov"
LUSTRE_LOV = "lustre.lov"
ANY_OST = 0xFFFF
"""lmm_stripe_offset of who does not care on which OST a file begins."""


class Stripe(NamedTuple):
    """One object of a file: on which OST, with which id."""

    ost: int
    oid: int


class Wanted(NamedTuple):
    """A layout that is asked for; 0 and ANY_OST leave the choice to who is asked next."""

    count: int = 0
    size: int = 0
    offset: int = ANY_OST
    pool: str = ""
    osts: tuple[int, ...] = ()
    """OSTs in the order of the stripes, where they were named one by one."""

    def over(self, other: Wanted) -> Wanted:
        """This wish, and where it says nothing the other one."""
        return Wanted(
            self.count or other.count,
            self.size or other.size,
            other.offset if self.offset == ANY_OST else self.offset,
            self.pool or other.pool,
            self.osts,
        )

    @property
    def says_nothing(self) -> bool:
        """Is it a wish for nothing? As a directory's default it removes the default."""
        return self == Wanted()


def parse_user(value: bytes, osts: int) -> Wanted:
    """A lov_user_md as setstripe sends it; `osts` is the number of OSTs there are.

    EINVAL for what cannot be: unknown magic or pattern, a stripe size that is no multiple of
    64 KiB, an OST that does not exist. Composite layouts are EOPNOTSUPP.
    """
    head = _unpack(LovUserMdV1, value[: LovUserMdV1.size])
    named: tuple[int, ...] = ()
    pool = ""
    if head.magic in (LOV_USER_MAGIC_V3, LOV_USER_MAGIC_SPECIFIC):
        long = _unpack(LovUserMdV3, value)
        pool = long.pool_name
        if head.magic == LOV_USER_MAGIC_SPECIFIC:
            named = tuple(one.ost_idx for one in long.objects[: head.stripe_count])
    elif head.magic != LOV_USER_MAGIC_V1:
        known = head.magic & 0xFFFF == LOV_USER_MAGIC_V1 & 0xFFFF
        raise LustreError(errno.EOPNOTSUPP if known else errno.EINVAL, "layout magic")
    wanted = Wanted(head.stripe_count, head.stripe_size, head.stripe_offset, pool, named)
    check(wanted, head.pattern, osts)
    return wanted


def check(wanted: Wanted, pattern: int, osts: int) -> None:
    """EINVAL unless such a layout can be made on that many OSTs (lod_verify_striping)."""
    if pattern not in (0, LOV_PATTERN_RAID0):
        raise LustreError(errno.EINVAL, f"pattern {pattern:#x}")
    if wanted.size % LOV_MIN_STRIPE_SIZE:
        raise LustreError(errno.EINVAL, f"stripe size {wanted.size}")
    if wanted.offset != ANY_OST and wanted.offset >= osts:
        raise LustreError(errno.EINVAL, f"no OST {wanted.offset}")
    if any(index >= osts for index in wanted.osts) or len(set(wanted.osts)) < len(wanted.osts):
        raise LustreError(errno.EINVAL, "OSTs that are not there, or twice")


def _unpack(cls: type, value: bytes) -> LovUserMdV3:
    try:
        return cls.unpack(value)
    except ProtocolError:
        raise LustreError(errno.EINVAL, "layout too short") from None


def pack_default(wanted: Wanted) -> bytes:
    """A directory's default, as its trusted.lov holds it."""
    return LovUserMdV3(
        magic=LOV_USER_MAGIC_V3,
        pattern=LOV_PATTERN_RAID0,
        stripe_size=wanted.size,
        stripe_count=wanted.count,
        stripe_offset=wanted.offset,
        pool_name=wanted.pool,
    ).pack()


def pack_user(fid: Fid, wanted: Wanted) -> bytes:
    """A layout without objects as a user is told of it (lov_user_md_v1)."""
    return LovUserMdV1(
        magic=LOV_USER_MAGIC_V1,
        pattern=LOV_PATTERN_RAID0,
        oi=OstId(id=fid.oid, seq=fid.seq),
        stripe_size=wanted.size,
        stripe_count=wanted.count,
        stripe_offset=wanted.offset,
    ).pack()


def parse_default(value: bytes) -> Wanted:
    """The other way round."""
    head = LovUserMdV3.unpack(value)
    return Wanted(head.stripe_count, head.stripe_size, head.stripe_offset, head.pool_name)


def stripes_wanted(count: int, osts: int) -> int:
    """How many stripes a count means with that many OSTs: 0 one, 65535 (-1) all."""
    if count >= LOV_ALL_STRIPES:
        count = osts
    return min(max(count, 1), osts, LOV_MAX_STRIPE_COUNT)


def pack(fid: Fid, wanted: Wanted, stripes: Sequence[Stripe]) -> bytes:
    """The lov EA of a file with these stripes; v3 where a pool is named."""
    objects = tuple(
        LovOstDataV1(ost_oi=OstId(id=stripe.oid, seq=0), ost_idx=stripe.ost) for stripe in stripes
    )
    common = {
        "pattern": LOV_PATTERN_RAID0,
        "oi": OstId(id=fid.oid, seq=fid.seq),
        "stripe_size": wanted.size,
        "stripe_count": len(objects),
        "objects": objects,
    }
    if wanted.pool:
        return LovMdsMdV3(magic=LOV_MAGIC_V3, pool_name=wanted.pool, **common).pack()
    return LovMdsMdV1(magic=LOV_MAGIC_V1, **common).pack()


def has_objects(value: bytes) -> bool:
    """Is it a layout with its objects, rather than a wish for one?"""
    magic = int.from_bytes(value[:4], "little")
    if magic not in (LOV_MAGIC_V1, LOV_MAGIC_V3):
        return False
    head = (LovMdsMdV3 if magic == LOV_MAGIC_V3 else LovMdsMdV1).size
    count = int.from_bytes(value[28:30], "little")
    return count > 0 and len(value) >= head + count * LovOstDataV1.size


def parse(value: bytes) -> tuple[int, list[Stripe]]:
    """(stripe size, stripes) of a file's lov EA."""
    v3 = int.from_bytes(value[:4], "little") == LOV_MAGIC_V3
    head = (LovMdsMdV3 if v3 else LovMdsMdV1).unpack(value)
    found = [Stripe(one.ost_idx, one.ost_oi.id) for one in head.objects]
    return head.stripe_size, found

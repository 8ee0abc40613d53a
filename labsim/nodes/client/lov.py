"""Layouts: where on which objects the bytes of a file lie.

Pure functions over a layout; sends nothing. Stands for lov_pack.c, lov_offset.c and lov_merge.c
(RAID0, LOV_PATTERN_RAID0).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from labsim.base.errors import LustreError, ProtocolError
from labsim.wire.constants import LOV_MAGIC_V1, LOV_MAGIC_V3, LOV_PATTERN_RAID0
from labsim.wire.lov import LovMdsMdV1, LovMdsMdV3
from labsim.wire.schema import OstId

EINVAL, EOPNOTSUPP = 22, 95


class Stripe(NamedTuple):
    """One object of a file: its id on its OST."""

    oi: OstId
    index: int


class Layout(NamedTuple):
    """How a file is striped: bytes a stripe, the objects in order, the pool it came from."""

    stripe_size: int
    stripes: tuple[Stripe, ...]
    magic: int = LOV_MAGIC_V1
    pattern: int = LOV_PATTERN_RAID0
    generation: int = 0
    pool: str = ""

    @property
    def width(self) -> int:
        """Bytes of one row across all stripes."""
        return self.stripe_size * len(self.stripes)


class Run(NamedTuple):
    """What a range of a file is on one of its objects: one range of it, in pieces of the file.

    `parts` are (start in the file's range, length), in the order in which they lie on the object.
    """

    stripe: int
    offset: int
    length: int
    parts: tuple[tuple[int, int], ...]


def parse(ea: bytes) -> Layout:
    """The layout in a LOV EA; EOPNOTSUPP for a kind that this client does not read."""
    magic = int.from_bytes(ea[:4], "little")
    if magic == LOV_MAGIC_V1:
        md: LovMdsMdV1 | LovMdsMdV3 = LovMdsMdV1.unpack(ea)
    elif magic == LOV_MAGIC_V3:
        md = LovMdsMdV3.unpack(ea)
    else:
        raise LustreError(EOPNOTSUPP, f"layout magic {magic:#x}")
    if md.pattern != LOV_PATTERN_RAID0:
        raise LustreError(EOPNOTSUPP, f"layout pattern {md.pattern:#x}")
    if not md.stripe_size or md.stripe_count != len(md.objects) or not md.objects:
        raise ProtocolError(f"lov_mds_md.lmm_stripe_count at 28: not {md.stripe_count} stripes")
    stripes = tuple(Stripe(one.ost_oi, one.ost_idx) for one in md.objects)
    pool = md.pool_name if isinstance(md, LovMdsMdV3) else ""
    return Layout(md.stripe_size, stripes, magic, md.pattern, md.layout_gen, pool)


def runs(layout: Layout, offset: int, length: int) -> list[Run]:
    """The ranges of objects that bytes `offset` to `offset + length` lie on, by stripe."""
    size, count = layout.stripe_size, len(layout.stripes)
    starts: dict[int, int] = {}
    parts: dict[int, list[tuple[int, int]]] = {}
    at = offset
    end = offset + length
    while at < end:
        row, within = divmod(at, layout.width)
        stripe = within // size
        take = min(size - at % size, end - at)
        if stripe not in starts:
            starts[stripe] = row * size + at % size
            parts[stripe] = []
        parts[stripe].append((at - offset, take))
        at += take
        if count == 1:
            take = end - at
            if take:
                parts[stripe][-1] = (parts[stripe][-1][0], parts[stripe][-1][1] + take)
            break
    return [
        Run(stripe, starts[stripe], sum(take for _, take in parts[stripe]), tuple(parts[stripe]))
        for stripe in sorted(parts)
    ]


def pieces(layout: Layout, offset: int, length: int) -> Iterator[tuple[int, int, int, int]]:
    """(stripe, offset on its object, start in the range, length), in the order of the file."""
    size, count = layout.stripe_size, len(layout.stripes)
    at, end = offset, offset + length
    while at < end:
        take = end - at if count == 1 else min(size - at % size, end - at)
        block = at // size
        on_object = at if count == 1 else block // count * size + at % size
        yield block % count, on_object, at - offset, take
        at += take


def file_size(layout: Layout, stripe: int, object_size: int) -> int:
    """How long the file must be for this object to be `object_size` long (lov_stripe_size)."""
    if object_size == 0:
        return 0
    row, rest = divmod(object_size, layout.stripe_size)
    if rest:
        return row * layout.width + stripe * layout.stripe_size + rest
    return (row - 1) * layout.width + (stripe + 1) * layout.stripe_size


def object_size(layout: Layout, stripe: int, size: int) -> int:
    """How long this object is in a file of `size` bytes without holes (lov_size_to_stripe)."""
    row, rest = divmod(size, layout.width)
    start = stripe * layout.stripe_size
    return row * layout.stripe_size + min(max(rest - start, 0), layout.stripe_size)

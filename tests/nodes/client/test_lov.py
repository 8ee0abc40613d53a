"""Striping: every byte on one place, sizes that agree with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labsim.base.errors import LustreError
from labsim.nodes.client.lov import Layout, Stripe, file_size, object_size, parse, runs
from labsim.wire.constants import LOV_MAGIC_V1, LOV_MAGIC_V3, LOV_PATTERN_RAID0
from labsim.wire.lov import LovMdsMdV1, LovMdsMdV3, LovOstDataV1
from labsim.wire.schema import OstId

layouts = st.builds(
    lambda size, count: Layout(
        size << 16, tuple(Stripe(OstId(id=n + 1, seq=0), n) for n in range(count))
    ),
    st.integers(1, 4),
    st.integers(1, 7),
)


def where(layout: Layout, at: int) -> tuple[int, int]:
    """The definition of RAID0, byte by byte."""
    number = at // layout.stripe_size
    count = len(layout.stripes)
    return number % count, number // count * layout.stripe_size + at % layout.stripe_size


@given(layouts, st.integers(0, 1 << 22), st.integers(1, 1 << 21))
def test_runs_cover_a_range_once(layout: Layout, offset: int, length: int) -> None:
    found = runs(layout, offset, length)
    assert sum(run.length for run in found) == length
    assert len({run.stripe for run in found}) == len(found)
    spans = sorted(part for run in found for part in run.parts)
    at = 0
    for start, size in spans:
        assert start == at
        at += size
    assert at == length
    for run in found:
        on_object = run.offset
        for start, size in run.parts:
            assert where(layout, offset + start) == (run.stripe, on_object)
            assert where(layout, offset + start + size - 1) == (run.stripe, on_object + size - 1)
            on_object += size


@given(layouts, st.integers(0, 1 << 23))
def test_object_sizes_and_file_size_agree(layout: Layout, size: int) -> None:
    objects = [object_size(layout, number, size) for number in range(len(layout.stripes))]
    assert sum(objects) == size
    assert max(file_size(layout, number, one) for number, one in enumerate(objects)) == size


def test_both_magics_are_read() -> None:
    objects = tuple(LovOstDataV1(ost_oi=OstId(id=9 + n, seq=0), ost_idx=n) for n in range(2))
    v1 = LovMdsMdV1(magic=LOV_MAGIC_V1, pattern=LOV_PATTERN_RAID0, stripe_size=1 << 20,
                    stripe_count=2, objects=objects)  # fmt: skip
    v3 = LovMdsMdV3(magic=LOV_MAGIC_V3, pattern=LOV_PATTERN_RAID0, stripe_size=1 << 20,
                    stripe_count=2, pool_name="flash", objects=objects)  # fmt: skip
    assert parse(v1.pack()).stripes == parse(v3.pack()).stripes
    assert parse(v3.pack()).pool == "flash"


def test_an_unknown_layout_is_refused() -> None:
    try:
        parse(b"\x01" * 32)
    except LustreError as error:
        assert error.name == "EOPNOTSUPP"
    else:
        raise AssertionError("took a layout it does not know")

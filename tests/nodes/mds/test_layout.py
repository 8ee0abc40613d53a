from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.nodes.mds import layout
from labsim.nodes.mds.layout import ANY_OST, Stripe, Wanted
from labsim.nodes.mds.lod import Lod
from labsim.wire.constants import LOV_USER_MAGIC_SPECIFIC
from labsim.wire.lov import LovUserMdV1, LovUserMdV3, LovUserOstDataV1

from .rig import World

FID = Fid(0x200000401, 5)


class FakeOsp:
    """An OST with or without objects at hand, and one that says what it cannot."""

    name = "fake"
    index = 0

    def __init__(
        self, ready: bool = True, refuses: int = 0, away: int = 0, degraded: bool = False
    ) -> None:
        self.precreated = int(ready)
        self.refuses = refuses
        self.away = away
        self.degraded = degraded
        self.given_back: list[int] = []
        self.mdt = self.host = self.trace = self

    def emit(self, *_: object) -> None:
        """Nobody reads it."""

    def hit(self, _point: object) -> Iterator[None]:
        return False
        yield

    def unusable(self) -> int:
        return self.away

    def reserve(self) -> Iterator[None]:
        if self.refuses:
            raise LustreError(self.refuses, "no")
        return 7
        yield

    def give_back(self, oid: int) -> None:
        self.given_back.append(oid)


def lod(*osps: FakeOsp) -> Lod:
    return Lod(None, dict(enumerate(osps)))  # type: ignore[arg-type]


def chosen(of: Lod, wish: Wanted) -> list[int]:
    """The OSTs of a new file."""
    steps = of.allocate(FID, wish)
    try:
        next(steps)
    except StopIteration as end:
        return [stripe.ost for stripe in end.value.stripes]
    raise AssertionError("it waits")


def test_the_ea_has_lustres_form() -> None:
    value = layout.pack(FID, Wanted(2, 1 << 20), [Stripe(1, 33), Stripe(0, 34)])
    assert value[:8] == bytes.fromhex("d00bd10b01000000")
    assert value[8:24] == (5).to_bytes(8, "little") + (0x200000401).to_bytes(8, "little")
    assert len(value) == 32 + 2 * 24
    assert value[32:40] == (33).to_bytes(8, "little")
    assert value[52:56] == (1).to_bytes(4, "little")
    assert layout.parse(value) == (1 << 20, [Stripe(1, 33), Stripe(0, 34)])


def test_a_pool_makes_it_v3() -> None:
    value = layout.pack(FID, Wanted(1, 65536, pool="fast"), [Stripe(7, 1)])
    assert value[32:36] == b"fast"
    assert layout.parse(value) == (65536, [Stripe(7, 1)])


@given(
    st.builds(
        Wanted, st.integers(0, 65535), st.integers(0, 100).map(lambda n: n << 16),
        st.sampled_from([ANY_OST, 0, 3]), st.sampled_from(["", "pool"]), st.just(()),
    )
)  # fmt: skip
def test_a_default_survives_packing(wanted: Wanted) -> None:
    value = layout.pack_default(wanted)
    assert layout.parse_default(value) == wanted
    assert layout.parse_user(value, 4) == wanted


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"", errno.EINVAL),
        (bytes(32), errno.EINVAL),
        (LovUserMdV1(magic=0x0BD60BD0).pack(), errno.EOPNOTSUPP),
        (LovUserMdV1(magic=0x0BD10BD0, pattern=2).pack(), errno.EINVAL),
        (LovUserMdV1(magic=0x0BD10BD0, stripe_size=1000).pack(), errno.EINVAL),
        (LovUserMdV1(magic=0x0BD10BD0, stripe_offset=4).pack(), errno.EINVAL),
    ],
)
def test_what_cannot_be_asked_for(value: bytes, number: int) -> None:
    with pytest.raises(LustreError) as error:
        layout.parse_user(value, 4)
    assert error.value.errno == number


@pytest.mark.parametrize(("osts", "good"), [((2, 0), True), ((2, 2), False), ((1, 9), False)])
def test_osts_named_one_by_one(osts: tuple[int, ...], good: bool) -> None:
    objects = tuple(LovUserOstDataV1(ost_idx=index) for index in osts)
    value = LovUserMdV3(
        magic=LOV_USER_MAGIC_SPECIFIC, stripe_count=2, stripe_offset=ANY_OST, objects=objects
    ).pack()
    if good:
        wanted = layout.parse_user(value, 4)
        assert chosen(lod(*[FakeOsp()] * 4), wanted) == list(osts)
    else:
        with pytest.raises(LustreError):
            layout.parse_user(value, 4)


@pytest.mark.parametrize(
    ("count", "osts", "stripes"),
    [(0, 4, 1), (3, 4, 3), (9, 4, 4), (65535, 4, 4), (65535, 3000, 2000)],
)
def test_how_many_stripes(count: int, osts: int, stripes: int) -> None:
    assert layout.stripes_wanted(count, osts) == stripes


def test_wishes_over_one_another() -> None:
    ours = Wanted(1, 1 << 20, 0)
    assert Wanted().over(ours) == ours
    assert Wanted(4, offset=2).over(ours) == Wanted(4, 1 << 20, 2)
    assert Wanted().says_nothing
    assert not Wanted(1).says_nothing


def test_round_robin() -> None:
    four = lod(*[FakeOsp()] * 4)
    assert [chosen(four, Wanted(1)) for _ in range(5)] == [[0], [1], [2], [3], [0]]
    assert chosen(four, Wanted(3)) == [1, 2, 3]
    assert chosen(four, Wanted(2)) == [0, 1]
    assert chosen(four, Wanted(2, offset=3)) == [3, 0]


def test_slower_osts_come_later() -> None:
    some = lod(FakeOsp(ready=False), FakeOsp(away=errno.ENOSPC), FakeOsp(), FakeOsp(degraded=True))
    assert chosen(some, Wanted(1)) == [2]
    assert chosen(some, Wanted(4)) == [2, 0, 3], "as many as there are"
    assert chosen(some, Wanted(1, offset=0)) == [0], "who names an OST waits for it"
    assert chosen(some, Wanted(1, offset=1)) == [2], "but not for one that is full"


@pytest.mark.parametrize(
    ("osps", "wish", "number"),
    [
        ([FakeOsp(away=errno.ENOTCONN)], Wanted(1), errno.EINPROGRESS),
        ([FakeOsp(away=errno.ENOTCONN), FakeOsp(away=errno.ENOSPC)], Wanted(1), errno.EINPROGRESS),
        ([FakeOsp(away=errno.EROFS), FakeOsp(away=errno.ENOSPC)], Wanted(1), errno.ENOSPC),
        ([FakeOsp(ready=False, refuses=errno.ETIMEDOUT)], Wanted(1), errno.ENOSPC),
        ([FakeOsp(away=errno.ENOTCONN)], Wanted(1, offset=0), errno.ENOSPC),
        ([FakeOsp(), FakeOsp(refuses=errno.ETIMEDOUT)], Wanted(2, offset=0), errno.EFBIG),
        ([FakeOsp(), FakeOsp(away=errno.EROFS)], Wanted(2, osts=(0, 1)), errno.EROFS),
        ([FakeOsp(), FakeOsp(refuses=errno.ETIMEDOUT)], Wanted(2, osts=(0, 1)), errno.ETIMEDOUT),
    ],
)
def test_why_no_objects_were_found(osps: list[FakeOsp], wish: Wanted, number: int) -> None:
    with pytest.raises(LustreError) as error:
        chosen(lod(*osps), wish)
    assert error.value.errno == number
    assert osps[0].given_back == ([7] if not (osps[0].away or osps[0].refuses) else [])


def test_parameters(two: World) -> None:
    two.later(10**9)
    params = two.mdt.host.params
    shown = {name: text for pattern in ("lod.*.*", "osp.*.*") for name, text in params.get(pattern)}
    assert shown["lod.lustre-MDT0000-mdtlov.stripesize"] == "1048576\n"
    assert shown["lod.lustre-MDT0000-mdtlov.activeobd"] == "3\n"
    first = "osp.lustre-OST0001-osc-MDT0000"
    assert shown[f"{first}.prealloc_next_id"] == "1\n"
    assert shown[f"{first}.prealloc_last_id"] == "32\n"
    assert shown[f"{first}.prealloc_next_seq"] == "0x100010000\n"
    assert shown[f"{first}.prealloc_status"] == "0\n"
    assert shown[f"{first}.active"] == "1\n"
    assert [text for _, text in params.get("mdt.*.recovery_status")] == ["status: INACTIVE\n"]
    assert [text for _, text in params.get("mdd.*.atime_diff")] == ["60\n"]

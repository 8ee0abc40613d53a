"""How far a server grows an extent lock."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from labsim.base.units import MIB
from labsim.fast import IntervalTree
from labsim.ldlm.extent import alignment
from labsim.ldlm.extent import expand as expand_among
from labsim.ldlm.policy import Extent, compatible
from labsim.ldlm.resource import Lock
from labsim.wire.constants import LCK_PR, LCK_PW, OBD_OBJECT_EOF

PAGE = 4096
EOF = OBD_OBJECT_EOF


class Waiter(NamedTuple):
    """A lock in the queue."""

    mode: int
    extent: Extent
    same_client: bool = False


def trees_of(locks: list[tuple[int, Extent]]) -> dict[int, IntervalTree]:
    trees: dict[int, IntervalTree] = {}
    for key, (mode, extent) in enumerate(locks):
        tree = trees.setdefault(mode, IntervalTree())
        tree.insert(extent.start, extent.end, key, Lock(key, mode, extent))
    return trees


def expand(
    mode: int, wanted: Extent, granted: list[tuple[int, Extent]], waiting: list[Waiter]
) -> Extent:
    queued = trees_of([(one.mode, one.extent) for one in waiting])
    own = [one.extent for one in waiting if one.same_client and compatible(one.mode, mode)]
    return expand_among(mode, wanted, trees_of(granted), queued, own)


def pages(first: int, last: int) -> Extent:
    return Extent(first * PAGE, (last + 1) * PAGE - 1)


def test_alone_a_client_gets_the_whole_object() -> None:
    assert expand(LCK_PW, pages(3, 3), [], []) == Extent(0, EOF)
    assert expand(LCK_PR, pages(3, 3), [(LCK_PR, Extent(0, EOF))], []) == Extent(0, EOF)


def test_among_others_it_gets_what_is_free_above_its_request() -> None:
    granted = [(LCK_PW, pages(0, 1)), (LCK_PW, pages(10, 11))]
    assert expand(LCK_PW, pages(5, 5), granted, []) == pages(5, 9)


def test_downward_it_grows_only_where_nobody_has_a_lock_in_its_way() -> None:
    granted = [(LCK_PR, pages(0, 1)), (LCK_PR, pages(10, 11))]
    assert expand(LCK_PR, pages(5, 5), granted, []) == Extent(0, EOF)
    assert expand(LCK_PW, pages(5, 5), [(LCK_PW, pages(10, 11))], []) == pages(5, 9)


def test_it_does_not_grow_over_a_waiting_lock() -> None:
    waiting = [Waiter(LCK_PW, pages(8, 9), same_client=False)]
    assert expand(LCK_PW, pages(2, 3), [], waiting) == pages(0, 7)


def test_a_waiting_lock_that_wants_the_same_bytes_does_not_bound_it() -> None:
    waiting = [Waiter(LCK_PW, pages(3, 9), same_client=False)]
    assert expand(LCK_PW, pages(2, 3), [], waiting) == Extent(0, EOF)


def test_a_compatible_waiter_bounds_only_its_own_client() -> None:
    other = Waiter(LCK_PR, pages(8, 9), same_client=False)
    own = Waiter(LCK_PR, pages(8, 9), same_client=True)
    assert expand(LCK_PR, pages(2, 3), [], [other]) == Extent(0, EOF)
    assert expand(LCK_PR, pages(2, 3), [], [own]) == pages(0, 7)


def test_with_many_conflicting_locks_it_does_not_grow_downward() -> None:
    granted = [(LCK_PW, pages(number, number)) for number in range(100, 105)]
    assert expand(LCK_PW, pages(5, 5), granted, []) == pages(5, 99)


def test_in_a_crowd_a_writer_grows_by_32_mib_at_most() -> None:
    far = [(LCK_PW, pages(1 << 20 | number, 1 << 20 | number)) for number in range(33)]
    grown = expand(LCK_PW, Extent(0, MIB - 1), far, [])
    assert grown == Extent(0, 32 * MIB - 1)
    assert expand(LCK_PR, Extent(0, MIB - 1), far, []).end == (1 << 20) * PAGE - 1


def test_the_result_keeps_the_alignment_of_the_request() -> None:
    assert alignment(Extent(MIB, 2 * MIB - 1)) == MIB
    assert alignment(Extent(MIB, MIB + PAGE - 1)) == PAGE
    assert alignment(Extent(1, 5)) == PAGE
    granted = [(LCK_PW, pages(0, 0)), (LCK_PW, pages(600, 600))]
    assert expand(LCK_PW, Extent(MIB, 2 * MIB - 1), granted, []) == Extent(MIB, 2 * MIB - 1)


def test_the_group_of_a_request_stays() -> None:
    assert expand(LCK_PW, pages(1, 1)._replace(gid=5), [], []).gid == 5


places = st.integers(0, 60)
extents = st.builds(lambda a, b: pages(min(a, b), max(a, b)), places, places)
locks = st.lists(st.tuples(st.sampled_from([LCK_PR, LCK_PW]), extents), max_size=12)


@given(st.sampled_from([LCK_PR, LCK_PW]), extents, locks, locks)
def test_growing_never_makes_a_conflict_nor_less_than_was_asked(
    mode: int, wanted: Extent, granted: list[tuple[int, Extent]], queue: list[tuple[int, Extent]]
) -> None:
    granted = [one for one in granted if compatible(one[0], mode) or not one[1].meets(wanted)]
    waiting = [Waiter(other, extent, same_client=False) for other, extent in queue]
    grown = expand(mode, wanted, granted, waiting)
    assert grown.includes(wanted)
    for other, extent in granted:
        assert compatible(other, mode) or not extent.meets(grown)
    for other, extent in queue:
        if not compatible(other, mode) and not extent.meets(wanted):
            assert not extent.meets(grown)

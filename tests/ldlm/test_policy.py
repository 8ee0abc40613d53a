"""Which locks may be granted side by side, and which lock serves for which wish."""

from hypothesis import given
from hypothesis import strategies as st

from labsim.ldlm.policy import (
    MODES,
    Extent,
    Ibits,
    Plain,
    compatible,
    conflict,
    covering,
    covers,
    mode_name,
)
from labsim.wire.constants import (
    LCK_CR,
    LCK_CW,
    LCK_EX,
    LCK_GROUP,
    LCK_NL,
    LCK_PR,
    LCK_PW,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_UPDATE,
    MDS_INODELOCK_XATTR,
    OBD_OBJECT_EOF,
)

# Rows and columns as in Lustre's manual: may the column be granted beside the row?
TABLE = """
        EX PW PR CW CR NL GROUP
EX      0  0  0  0  0  1  0
PW      0  0  0  0  1  1  0
PR      0  0  1  0  1  1  0
CW      0  0  0  1  1  1  0
CR      0  1  1  1  1  1  0
NL      1  1  1  1  1  1  1
GROUP   0  0  0  0  0  1  1
"""
BY_NAME = {mode_name(mode): mode for mode in MODES}
modes = st.sampled_from(MODES)
edges = st.integers(0, 40) | st.just(OBD_OBJECT_EOF)
extents = st.builds(lambda a, b: Extent(min(a, b), max(a, b)), edges, edges)
ibits = st.builds(Ibits, st.integers(1, 127))


def test_modes_are_compatible_as_the_table_says() -> None:
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    for row in rows:
        for column, allowed in zip(head, row[1:], strict=True):
            assert compatible(BY_NAME[row[0]], BY_NAME[column]) is (allowed == "1"), (row, column)


@given(modes, extents, modes, extents)
def test_conflicts_are_mutual(a: int, one: Extent, b: int, other: Extent) -> None:
    assert conflict(a, one, b, other) == conflict(b, other, a, one)


@given(modes, ibits, modes, ibits)
def test_inode_bits_conflict_only_where_they_share_a_bit(
    a: int, one: Ibits, b: int, other: Ibits
) -> None:
    if a != LCK_GROUP or b != LCK_GROUP:
        assert conflict(a, one, b, other) == (not compatible(a, b) and bool(one.bits & other.bits))


def test_extents_conflict_only_where_they_share_a_byte() -> None:
    assert conflict(LCK_PW, Extent(0, 4095), LCK_PW, Extent(4095, 8191))
    assert not conflict(LCK_PW, Extent(0, 4095), LCK_PW, Extent(4096, 8191))
    assert not conflict(LCK_PR, Extent(0, 4095), LCK_PR, Extent(0, 4095))


def test_a_group_shares_with_itself_only() -> None:
    one, other = Extent(gid=7), Extent(gid=8)
    assert not conflict(LCK_GROUP, one, LCK_GROUP, one)
    assert conflict(LCK_GROUP, one, LCK_GROUP, other)
    assert covers(LCK_GROUP, one, LCK_GROUP, Extent(0, 9, gid=7))
    assert not covers(LCK_GROUP, one, LCK_GROUP, Extent(0, 9, gid=8))


def test_a_stronger_mode_serves_for_a_weaker_one() -> None:
    assert covering(LCK_PR) == LCK_PR | LCK_PW | LCK_EX
    assert covering(LCK_CR) == LCK_CR | LCK_CW | LCK_PR | LCK_PW | LCK_EX
    assert covering(LCK_CW) == LCK_CW | LCK_PW | LCK_EX
    assert covering(LCK_PW) == LCK_PW | LCK_EX
    assert covering(LCK_GROUP) == LCK_GROUP
    assert covering(LCK_PR | LCK_CW) == LCK_PR | LCK_CW | LCK_PW | LCK_EX


@given(modes, modes, modes)
def test_what_serves_keeps_away_all_that_the_wanted_mode_keeps_away(
    have: int, want: int, third: int
) -> None:
    if covering(want) & have and not compatible(want, third):
        assert not compatible(have, third)


def test_a_lock_serves_for_a_part_of_what_it_covers() -> None:
    bits = Ibits(MDS_INODELOCK_LOOKUP | MDS_INODELOCK_UPDATE)
    assert covers(LCK_PR, bits, LCK_PR, Ibits(MDS_INODELOCK_LOOKUP))
    assert not covers(LCK_PR, bits, LCK_PR, Ibits(MDS_INODELOCK_XATTR))
    assert not covers(LCK_PR, bits, LCK_PW, Ibits(MDS_INODELOCK_LOOKUP))
    assert covers(LCK_PW, Extent(0, 100), LCK_PR, Extent(50, 100))
    assert not covers(LCK_PW, Extent(0, 100), LCK_PR, Extent(50, 101))
    assert not covers(LCK_NL, Plain(), LCK_CR, Plain())


def test_locks_of_different_types_never_serve_for_one_another() -> None:
    assert not covers(LCK_EX, Plain(), LCK_CR, Ibits(1))
    assert not covers(LCK_EX, Extent(), LCK_CR, Ibits(1))


def test_names_for_people() -> None:
    assert str(Extent(0)) == "[0-EOF]"
    assert str(Extent(4096, 8191, 3)) == "[4096-8191] gid 3"
    assert str(Ibits(0x13)) == "0x13"
    assert mode_name(LCK_PR) == "PR"
    assert mode_name(0) == "-"

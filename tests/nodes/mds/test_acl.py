from __future__ import annotations

import errno

import pytest

from labsim.base.errors import LustreError
from labsim.nodes.mds import acl
from labsim.nodes.mds.acl import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Entry
from labsim.nodes.mds.cred import Cred

PLAIN = (Entry(USER_OBJ, 6), Entry(GROUP_OBJ, 4), Entry(OTHER, 0))
NAMED = (
    Entry(USER_OBJ, 7),
    Entry(USER, 7, 500),
    Entry(GROUP_OBJ, 5),
    Entry(GROUP, 6, 600),
    Entry(MASK, 5),
    Entry(OTHER, 0),
)


def test_an_acl_survives_packing() -> None:
    assert acl.parse(acl.pack(NAMED)) == NAMED
    assert acl.pack(PLAIN)[:4] == b"\2\0\0\0"
    assert len(acl.pack(PLAIN)) == 4 + 3 * 8


def test_a_header_alone_has_no_entries() -> None:
    assert acl.parse(b"\2\0\0\0") == ()


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"", errno.EINVAL),
        (b"\2\0\0", errno.EINVAL),
        (b"\3\0\0\0", errno.EOPNOTSUPP),
        (b"\2\0\0\0abc", errno.EINVAL),
    ],
)
def test_what_is_no_acl_is_refused(value: bytes, number: int) -> None:
    with pytest.raises(LustreError) as error:
        acl.parse(value)
    assert error.value.errno == number


@pytest.mark.parametrize(
    "entries",
    [
        NAMED[:-1],
        tuple(reversed(NAMED)),
        (NAMED[0], NAMED[1], NAMED[2], NAMED[5]),
        (*PLAIN, Entry(OTHER, 0)),
        (Entry(USER_OBJ, 9), *PLAIN[1:]),
        (Entry(3, 1), *PLAIN),
    ],
)
def test_entries_must_be_complete_and_in_order(entries: tuple[Entry, ...]) -> None:
    acl.check(PLAIN)
    acl.check(NAMED)
    with pytest.raises(LustreError) as error:
        acl.check(entries)
    assert error.value.errno == errno.EINVAL


def test_a_mode_says_what_a_plain_acl_says() -> None:
    assert acl.equivalent_mode(PLAIN, 0o100777) == (0o100640, True)
    assert acl.equivalent_mode(NAMED, 0o100777) == (0o100750, False)


def test_the_first_entry_that_names_the_user_decides() -> None:
    def may(cred: Cred, want: int) -> bool:
        return acl.permits(NAMED, 100, 200, cred, want)

    assert may(Cred(100, 1), 7)
    assert may(Cred(500, 1), 5)
    assert not may(Cred(500, 1), 2), "the mask takes writing away"
    assert may(Cred(1, 200), 5)
    assert may(Cred(1, 1, (600,)), 4)
    assert not may(Cred(1, 1, (600,)), 2)
    assert not may(Cred(1, 1), 4)


def test_a_default_acl_and_the_mode_narrow_one_another() -> None:
    access, mode, plain = acl.inherit(NAMED, 0o100640)
    assert mode == 0o100640 & ~0o010
    assert not plain
    assert {one.tag: one.perm for one in access if one.tag in (USER_OBJ, MASK, OTHER)} == {
        USER_OBJ: 6,
        MASK: 4,
        OTHER: 0,
    }
    assert acl.inherit(PLAIN, 0o100777) == (PLAIN, 0o100640, True)


def test_chmod_moves_the_mask_where_there_is_one() -> None:
    after = acl.after_chmod(NAMED, 0o601)
    assert [one.perm for one in after] == [6, 7, 5, 6, 0, 1]
    assert [one.perm for one in acl.after_chmod(PLAIN, 0o753)] == [7, 5, 3]

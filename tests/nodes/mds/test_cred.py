from __future__ import annotations

import stat

import pytest

from labsim.nodes.mds import cred
from labsim.nodes.mds.acl import GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Entry, pack
from labsim.nodes.mds.cred import (
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    IMMUTABLE_FL,
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    ROOT,
    Cred,
)
from labsim.storage.osd import Attrs

NAMED = (
    Entry(USER_OBJ, 7),
    Entry(USER, 7, 500),
    Entry(GROUP_OBJ, 5),
    Entry(MASK, 5),
    Entry(OTHER, 0),
)


def file(mode: int, flags: int = 0) -> Attrs:
    return Attrs(mode=stat.S_IFREG | mode, uid=1, gid=2, flags=flags)


@pytest.mark.parametrize(
    ("who", "want", "may"),
    [
        (Cred(1, 9), MAY_WRITE, True),
        (Cred(1, 2), MAY_EXEC, False),
        (Cred(9, 2), MAY_READ, True),
        (Cred(9, 2), MAY_WRITE, False),
        (Cred(9, 9, (2,)), MAY_READ, True),
        (Cred(9, 9), MAY_READ, False),
        (ROOT, MAY_READ | MAY_WRITE, True),
        (ROOT, MAY_EXEC, False),
        (Cred(9, 9, (), 1 << CAP_DAC_READ_SEARCH), MAY_READ, True),
        (Cred(9, 9, (), 1 << CAP_DAC_READ_SEARCH), MAY_WRITE, False),
        (Cred(9, 9, (), 1 << CAP_DAC_OVERRIDE), MAY_WRITE, True),
    ],
)
def test_owner_group_other_and_capabilities(who: Cred, want: int, may: bool) -> None:
    assert cred.permits(file(0o640), None, who, want) is may


def test_the_owner_has_only_the_owners_bits() -> None:
    assert not cred.permits(file(0o066), None, Cred(1, 2), MAY_READ)


def test_root_may_search_any_directory() -> None:
    assert cred.permits(Attrs(mode=stat.S_IFDIR), None, ROOT, MAY_EXEC)


def test_nobody_writes_what_is_immutable() -> None:
    assert not cred.permits(file(0o666, IMMUTABLE_FL), None, ROOT, MAY_WRITE)


def test_an_acl_replaces_the_group_bits() -> None:
    value = pack(NAMED)
    assert cred.permits(file(0o750), value, Cred(500, 9), MAY_READ)
    assert not cred.permits(file(0o700), value, Cred(500, 9), MAY_READ)


def test_an_acl_without_entries_counts_as_none() -> None:
    assert cred.permits(file(0o644), b"\2\0\0\0", Cred(9, 9), MAY_READ)


def test_only_root_keeps_the_capabilities_a_client_claims() -> None:
    everything = (1 << 32) - 1
    assert cred.from_wire(0, 0, (), everything).can(CAP_DAC_OVERRIDE)
    user = cred.from_wire(5, 5, (7, 0xFFFFFFFF), everything)
    assert not user.can(CAP_DAC_OVERRIDE)
    assert user.groups == (7,)


def test_a_sticky_directory_protects_the_files_of_others() -> None:
    folder = Attrs(mode=stat.S_IFDIR | 0o1777, uid=3)
    assert cred.sticky(folder, file(0o666), Cred(9, 9))
    assert not cred.sticky(folder, file(0o666), Cred(1, 9))
    assert not cred.sticky(folder, file(0o666), Cred(3, 9))
    assert not cred.sticky(folder, file(0o666), ROOT)

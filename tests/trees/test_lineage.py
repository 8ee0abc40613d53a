"""The tags, the branches, and the trees built on them."""

from __future__ import annotations

import pytest

from labsim.base.errors import InputError
from labsim.base.overlay import Overlay
from labsim.trees import all_trees, get, kit_for, names
from labsim.trees.lineage import BRANCHES, RELEASES, contains, parse_version, tag


def test_there_are_46_releases() -> None:
    assert len(RELEASES) == 46
    by_branch = {b: [t.name for t in RELEASES.values() if t.branch == b] for b in BRANCHES}
    assert {branch: len(tags) for branch, tags in by_branch.items()} == {
        "master": 14, "b2_4": 3, "b2_5": 3, "b2_10": 8, "b2_12": 9, "b2_15": 8, "b2_16": 1,
    }  # fmt: skip
    assert by_branch["b2_5"] == ["2.5.1", "2.5.2", "2.5.3"]


def test_trees_are_named_once_and_in_order() -> None:
    assert len(set(names())) == 50
    assert names()[:2] == ["2.4.0", "2.4.1"]
    assert names()[-5:] == ["2.17.0", "staging-4.4", "staging-4.16", "cray-2.7", "chaos-2.8"]


@pytest.mark.parametrize(
    ("name", "branch", "version", "inside"),
    [
        ("2.10.0", "master", "2.10.0", True),
        ("2.10.8", "master", "2.10.0", True),
        ("2.10.8", "master", "2.10.51", False),
        ("2.10.8", "b2_10", "2.10.5", True),
        ("2.10.4", "b2_10", "2.10.5", False),
        ("2.11.0", "b2_10", "2.10.5", False),
        ("2.11.0", "master", "2.10.59", True),
        ("2.12.1", "b2_10", "2.10.5", False),
        ("2.10.53", "master", "2.10.51", True),
    ],
)
def test_contains(name: str, branch: str, version: str, inside: bool) -> None:
    assert contains(tag(name), branch, parse_version(version)) is inside


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("2.12", "did you mean '2.12.0'?"),
        ("2.10.9", "did you mean '2.10."),
        ("staging-4.15", "did you mean 'staging-4.16'?"),
        ("chaos", "did you mean 'chaos-2.8'?"),
        ("ext4", "see `labsim trees`"),
        ("2.3.60", "no tree is called '2.3.60'"),
    ],
)
def test_an_unknown_tree_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(InputError, match="no tree is called") as caught:
        get(name)
    assert hint in str(caught.value)


def test_trees_say_what_approximates_them() -> None:
    told = {tree.name: tree.approximated_by for tree in all_trees() if tree.approximated_by}
    assert set(told) == {"cray-2.7", "chaos-2.8"}
    assert told["cray-2.7"].startswith("2.7.0:")
    assert get("chaos-2.8").base == "2.8.0"


def test_traits_follow_the_release() -> None:
    assert get("2.12.0").traits.ocd_version == 0x020C0000
    assert get("2.10.5").traits.ocd_version == 0x020A0500
    assert not get("2.4.3").traits.xattr_cache
    assert get("2.5.0").traits.xattr_cache
    assert get("2.4.53").traits.xattr_cache


def test_development_trees_belong_to_the_release_they_lead_to() -> None:
    assert get("2.11.52").dialect is get("2.12.0").dialect
    assert get("2.10.53").family == "development"


def test_a_kit_carries_overlays_traits_and_dialect() -> None:
    class Odd(Overlay):
        because = "a test"

    tree = get("2.10.5")
    kit = kit_for(tree, [Odd])
    assert kit.overlays == (Odd,)
    assert kit.traits is tree.traits
    assert kit.dialect is tree.dialect

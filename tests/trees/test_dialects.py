"""Where parameters live and how they are written, by tree."""

from __future__ import annotations

import pytest

from labsim.base.component import Component
from labsim.base.dialect import Rule
from labsim.base.errors import LustreError
from labsim.base.grammar import GRAMMARS
from labsim.base.param_tree import ParamTree
from labsim.base.params import Param
from labsim.base.units import MIB
from labsim.trees import all_trees, get
from labsim.trees.dialects import columns, generation_of, rules_of
from labsim.trees.param_places import GENERATIONS, PLACES
from labsim.trees.param_rules import RULES

SHOWN = ("2.7.0", "2.8.0", "2.9.0", "2.10.5", "2.12.0", "2.15.0", "2.17.0", "staging-4.4")


class Llite(Component, tree="llite.{name}"):
    xattr_cache = Param.flag(True, help="keep xattrs")
    statahead_max = Param.count(32, unit="entries", help="attributes fetched ahead")
    max_read_ahead_bytes = Param.size_mb(64 * MIB, help="read ahead")


class Osc(Component, tree="osc.{name}"):
    max_dirty_bytes = Param.size_mb(2000 * MIB, low=1, high=2047, help="dirty data")
    active = Param.flag(True, help="in use")
    idle_timeout_ns = Param.seconds(20, high=50, help="when an idle import disconnects")


class Namespace(Component, tree="ldlm.namespaces.{name}"):
    lru_size = Param.count(100, unit="locks", help="locks kept")


def mounted(name: str) -> tuple[ParamTree, Llite, Osc, Namespace]:
    """One of each in the dialect of a tree."""
    tree = ParamTree(get(name).dialect)
    parts = Llite(), Osc(), Namespace()
    for part in parts:
        tree.mount(part, name="x")
    return tree, *parts


def results(pattern: str, text: str | None = None) -> dict[str, str]:
    """By tree: the text, after writing `text` if given; or the errno's name, or "absent"."""
    told = {}
    for name in SHOWN:
        tree = mounted(name)[0]
        try:
            if text is not None:
                tree.set(pattern, text)
            told[name] = tree.get(pattern)[0][1].rstrip("\n")
        except LustreError as error:
            told[name] = "absent" if error.name == "ENOENT" else error.name
    return told


def by_tree(*texts: str) -> dict[str, str]:
    """The trees of SHOWN with these texts."""
    return dict(zip(SHOWN, texts, strict=True))


def test_places_by_tree() -> None:
    told = {}
    for name in SHOWN:
        found = mounted(name)[0].glob("{osc/x/max_dirty_mb,ldlm/namespaces/x/lru_size}")
        told[name] = " ".join(entry.path.split("/")[1] for entry in found)
    assert told == by_tree(
        "proc proc", "proc proc", "proc proc", "sys proc", "sys sys", "sys sys", "sys sys",
        "sys sys",
    )  # fmt: skip


def test_sizes_with_units_and_fractions() -> None:
    half = ("12.5",) * 4
    assert results("osc.x.max_dirty_mb", "12.5") == by_tree(*half, "EINVAL", "12", "12", "EINVAL")
    units = ("64",) * 4
    assert results("osc.x.max_dirty_mb", "64M") == by_tree(*units, "EINVAL", "64", "64", "EINVAL")
    assert results("osc.x.max_dirty_mb") == by_tree(*("32",) * 4, "2000", "2000", "2000", "32")


def test_flags() -> None:
    assert results("llite.x.xattr_cache", "2") == by_tree(
        *("ERANGE",) * 4, "EINVAL", "EINVAL", "EINVAL", "ERANGE"
    )
    assert results("llite.x.xattr_cache", "off") == by_tree(
        *("EINVAL",) * 4, "0", "0", "0", "EINVAL"
    )


def test_statahead_max_out_of_range() -> None:
    assert results("llite.x.statahead_max", "9999") == by_tree(*("32",) * 6, "2048", "32")
    assert results("llite.x.statahead_max", "600") == by_tree(
        *("600",) * 4, "32", "32", "600", "600"
    )


def test_numbers_with_something_behind_them() -> None:
    assert results("llite.x.statahead_max", "64 entries") == by_tree("64", "64", *("EINVAL",) * 6)


def test_absent_files() -> None:
    assert results("osc.x.idle_timeout") == by_tree(*("absent",) * 4, "20", "20", "20", "absent")


def test_read_ahead_defaults() -> None:
    assert mounted("2.7.0")[1].max_read_ahead_bytes == 40 * MIB
    assert mounted("2.12.0")[1].max_read_ahead_bytes == 64 * MIB


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_rule_is_well_formed(generation: str) -> None:
    for key, rule in rules_of(generation).items():
        assert isinstance(rule, Rule)
        assert rule.accepts in {"", *GRAMMARS}, key
        assert rule.location in {"procfs", "sysfs", "debugfs", "absent"}, key


def test_every_rule_belongs_to_a_file_that_has_a_place() -> None:
    placed = {
        f"{directory}.{name}" if directory else name
        for directory, codes in PLACES.items()
        for names in codes.values()
        for name in names.split()
    }
    assert set(RULES) <= placed
    assert len(placed) > 250
    for codes in PLACES.values():
        assert all(len(code) == len(GENERATIONS) for code in codes)


def test_what_is_not_verified_is_marked() -> None:
    staging = rules_of("staging")
    assert not staging["timeout"].verified
    assert staging["osc.*.max_dirty_mb"].verified
    assert all(rule.verified for rule in rules_of("2.12").values())


def test_rows_name_generations() -> None:
    assert columns("2.7") == ["2.7"]
    assert columns("2.9..2.12 staging") == ["2.9", "2.10", "2.12", "staging"]
    with pytest.raises(ValueError, match="not in tuple"):
        columns("2.11")


@pytest.mark.parametrize(
    ("version", "generation"),
    [
        ((2, 4, 3), "2.7"), ((2, 7, 0), "2.7"), ((2, 7, 53), "2.8"), ((2, 9, 53), "2.10"),
        ((2, 11, 0), "2.10"), ((2, 11, 52), "2.12"), ((2, 14, 0), "2.12"), ((2, 16, 1), "2.15"),
        ((2, 17, 0), "2.17"), ((2, 17, 55), "2.17"),
    ],
)  # fmt: skip
def test_generations(version: tuple[int, int, int], generation: str) -> None:
    assert generation_of(version) == generation


@pytest.mark.parametrize(
    ("name", "digits", "elapsed", "op_times"),
    [
        ("2.9.0", "usecs", False, False), ("2.10.0", "nsecs", False, False),
        ("2.13.0", "nsecs", False, False), ("2.14.0", "nsecs", False, True),
        ("2.15.0", "nsecs", True, True), ("staging-4.16", "usecs", False, False),
    ],
)  # fmt: skip
def test_counters(name: str, digits: str, elapsed: bool, op_times: bool) -> None:
    style = get(name).dialect.stats
    assert (style.digits, style.elapsed, style.op_times) == (digits, elapsed, op_times)


def test_every_tree_has_a_dialect_and_shares_it_with_its_neighbours() -> None:
    found = {tree.name: tree.dialect for tree in all_trees()}
    assert found["2.12.0"] is found["2.12.9"]
    assert found["2.4.0"] is not found["2.7.0"]
    assert len({dialect.name for dialect in found.values()}) == len(GENERATIONS)

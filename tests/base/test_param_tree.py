"""The parameter tree: mounting, patterns, roots and their order."""

from __future__ import annotations

import pytest

from labsim.base.component import Component
from labsim.base.dialect import Dialect, Rule
from labsim.base.param_names import braces, slashed, word_matcher
from labsim.base.param_tree import ParamTree
from labsim.base.params import Param


class Osc(Component, tree="osc.{name}"):
    active = Param.flag(True, help="in use")
    stats = Param.text("none", help="counters")


class Export(Component, tree="obdfilter.{name}.exports.{nid}"):
    uuid = Param.text("abc", help="who it is")


class Root(Component, tree=""):
    timeout = Param.seconds(100, help="RPC timeout")
    fail_loc = Param.count(0, unit="point", help="armed")


ROOTS = ("/sys/fs/lustre", "/sys/kernel/debug/lnet", "/sys/kernel/debug/lustre")
DIALECT = Dialect(
    name="test",
    roots=ROOTS,
    rules={
        "osc.*.stats": Rule(location="debugfs"),
        "fail_loc": Rule(location="debugfs", root="/sys/kernel/debug/lnet"),
    },
)


@pytest.fixture
def tree() -> ParamTree:
    made = ParamTree(DIALECT)
    made.mount(Root())
    for index in (1, 0, 10):
        made.mount(Osc(), name=f"lustre-OST{index:04x}-osc-ffff")
    made.mount(Export(), name="lustre-OST0000", nid="10.0.0.31@tcp")
    return made


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("timeout", ["timeout"]),
        ("fail_*", ["fail_loc"]),
        ("osc.*OST0000*.active", ["osc.lustre-OST0000-osc-ffff.active"]),
        ("osc.*.{stats,active}", [
            "osc.lustre-OST0000-osc-ffff.active", "osc.lustre-OST0001-osc-ffff.active",
            "osc.lustre-OST000a-osc-ffff.active", "osc.lustre-OST0000-osc-ffff.stats",
            "osc.lustre-OST0001-osc-ffff.stats", "osc.lustre-OST000a-osc-ffff.stats",
        ]),
        ("osc.*OST000[01]*.active", [
            "osc.lustre-OST0000-osc-ffff.active", "osc.lustre-OST0001-osc-ffff.active",
        ]),
        ("osc.*OST000[^01]*.active", ["osc.lustre-OST000a-osc-ffff.active"]),
        ("osc.*OST000?-*.active", [
            "osc.lustre-OST0000-osc-ffff.active", "osc.lustre-OST0001-osc-ffff.active",
            "osc.lustre-OST000a-osc-ffff.active",
        ]),
        ("obdfilter.*.exports.10.0.0.31@tcp.uuid",
         ["obdfilter.lustre-OST0000.exports.10.0.0.31@tcp.uuid"]),
        ("obdfilter.*.exports.*.uuid", ["obdfilter.lustre-OST0000.exports.10.0.0.31@tcp.uuid"]),
        ("osc/*/active", [
            "osc.lustre-OST0000-osc-ffff.active", "osc.lustre-OST0001-osc-ffff.active",
            "osc.lustre-OST000a-osc-ffff.active",
        ]),
        ("osc.*", [f"osc.lustre-OST{n}-osc-ffff" for n in ("0000", "0001", "000a")] * 2),
        ("nothing.*", []),
        ("osc", ["osc", "osc"]),
        ("", []),
    ],
)  # fmt: skip
def test_patterns(tree: ParamTree, pattern: str, found: list[str]) -> None:
    assert tree.list(pattern) == found


def test_entries_know_their_whole_path(tree: ParamTree) -> None:
    paths = [entry.path for entry in tree.glob("osc/*OST0001*/*")]
    assert paths == [
        "/sys/fs/lustre/osc/lustre-OST0001-osc-ffff/active",
        "/sys/kernel/debug/lustre/osc/lustre-OST0001-osc-ffff/stats",
    ]
    assert tree.glob("fail_loc")[0].path == "/sys/kernel/debug/lnet/fail_loc"


def test_unmounting_takes_the_files_away(tree: ParamTree) -> None:
    osc = Osc()
    tree.mount(osc, name="gone")
    assert tree.get("osc.gone.active") == [("osc.gone.active", "1\n")]
    tree.unmount(osc)
    assert tree.list("osc.gone.*") == []
    assert osc.mounted is None


def test_a_component_without_a_place_is_refused() -> None:
    with pytest.raises(TypeError, match="no place"):
        ParamTree().mount(Component())


@pytest.mark.parametrize(
    ("pattern", "parsed", "prefixed", "escaped"),
    [
        ("osc.*.active", "osc/*/active", "osc/*/active", "osc/*/active"),
        ("mgc.MGC10.0.0.10@tcp.import", "mgc/MGC10.0.0.10@tcp/import",
         "mgc/MGC10.0.0.10@tcp/import", "mgc/MGC10/0/0/10@tcp/import"),
        ("mdt.a.exports.10.0.0.*@tcp.uuid", "mdt/a/exports/10/0/0/*@tcp/uuid",
         "mdt/a/exports/10.0.0.*@tcp/uuid", "mdt/a/exports/10/0/0/*@tcp/uuid"),
        (r"mdt.a.exports.10\.0\.0\.1@tcp.uuid", "mdt/a/exports/10.0.0.1@tcp/uuid",
         "mdt/a/exports/10.0.0.1@tcp/uuid", "mdt/a/exports/10.0.0.1@tcp/uuid"),
        ("devices", "devices", "devices", "devices"),
    ],
)  # fmt: skip
def test_dots_of_a_nid(pattern: str, parsed: str, prefixed: str, escaped: str) -> None:
    assert slashed(pattern, "parsed") == parsed
    assert slashed(pattern, "prefixed") == prefixed
    assert slashed(pattern, "escaped") == escaped


def test_braces_expand_in_order() -> None:
    assert list(braces("a.{b,c{d,e}}.f")) == ["a.b.f", "a.cd.f", "a.ce.f"]
    assert list(braces("{x,y}{1,2}")) == ["x1", "x2", "y1", "y2"]
    assert list(braces("a{b")) == ["a{b"]
    assert list(braces("a{}")) == ["a"]


def test_words_match_whole() -> None:
    assert word_matcher("max_*")("max_dirty_mb")
    assert not word_matcher("max")("max_dirty_mb")

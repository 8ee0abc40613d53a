"""Declaring parameters: what a component gets, and what its files say and take."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from labsim.base.component import Component
from labsim.base.dialect import Dialect, Rule
from labsim.base.errors import LustreError
from labsim.base.overlay import Kit, Overlay
from labsim.base.param_tree import ParamTree
from labsim.base.params import Param
from labsim.base.units import MIB, NS_PER_S


class Cache(Component, tree="cache.{name}"):
    max_rpcs = Param.count(8, low=1, high=256, unit="RPCs", help="RPCs on the wire")
    max_mod_rpcs = Param.count(
        7, low=1, high=lambda self: self.max_rpcs - 1, unit="RPCs", help="changing RPCs"
    )
    checksums = Param.flag(True, help="guard the data")
    max_dirty_bytes = Param.size_mb(32 * MIB, low=1, high=2047, help="dirty data")
    max_age_ns = Param.milliseconds(3_900_000, help="how long a lock may idle")
    idle_timeout_ns = Param.seconds(20, high=50, help="when an idle import disconnects")
    timeout = Param.seconds(100, help="RPC timeout")
    label = Param.text("none", length=8, help="a name")
    state = Param.text("cold", file="pool.state", help="a file in a directory")
    stats = Param.stats(order=("read_bytes", "open"), word="regs", help="counters")

    resized = 0

    @Param.computed(unit="bytes", help="grant in hand")
    def grant(self) -> int:
        return 4096

    @Param.trigger(help="drop everything")
    def drop(self, text: str) -> None:
        self.resized = -int(text)

    def set_max_rpcs(self, value: int) -> None:
        self.max_rpcs = value
        self.resized += 1


def mounted(**rules: Rule) -> tuple[Cache, ParamTree]:
    """A cache in a tree whose dialect has those rules."""
    dialect = Dialect(
        name="test",
        roots=("/sys/fs/lustre", "/proc/fs/lustre"),
        rules={f"cache.*.{name}": rule for name, rule in rules.items()},
    )
    tree = ParamTree(dialect, wall_ns=lambda: 1_694_500_010_000_004_511, hz=250)
    cache = Cache()
    tree.mount(cache, name="a0")
    return cache, tree


def get(tree: ParamTree, name: str) -> str:
    """The text of one file."""
    return tree.get(f"cache.a0.{name}")[0][1]


def errno_of(tree: ParamTree, name: str, text: str) -> str:
    """The name of the errno that a write of `text` gives."""
    with pytest.raises(LustreError) as caught:
        tree.set(f"cache.a0.{name}", text)
    return caught.value.name


def test_reading_is_a_plain_attribute() -> None:
    cache = Cache()
    assert Cache.__dict__["max_rpcs"] == 8
    assert (cache.max_rpcs, cache.checksums, cache.max_dirty_bytes) == (8, True, 32 * MIB)
    assert (cache.idle_timeout_ns, cache.timeout) == (20 * NS_PER_S, 100)
    assert cache.max_age_ns == 3900 * NS_PER_S
    assert cache.grant == 4096
    assert vars(cache) == {}


def test_files_are_named_after_attributes_and_units() -> None:
    _, tree = mounted()
    assert [name.removeprefix("cache.a0.") for name in tree.list("cache.a0.*")] == [
        "checksums", "drop", "grant", "idle_timeout", "label", "max_age", "max_dirty_mb",
        "max_mod_rpcs", "max_rpcs", "pool", "stats", "timeout",
    ]  # fmt: skip
    assert tree.list("cache.*.pool.*") == ["cache.a0.pool.state"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max_rpcs", "8\n"), ("checksums", "1\n"), ("max_dirty_mb", "32\n"), ("grant", "4096\n"),
        ("max_age", "3900000\n"), ("idle_timeout", "20\n"), ("timeout", "100\n"),
        ("label", "none\n"), ("pool.state", "cold\n"),
    ],
)  # fmt: skip
def test_what_files_say(name: str, text: str) -> None:
    assert get(mounted()[1], name) == text


def test_what_files_take() -> None:
    cache, tree = mounted()
    for name, text in [
        ("max_rpcs", "16\n"), ("checksums", "off"), ("max_dirty_mb", "64"), ("max_age", "500"),
        ("idle_timeout", "7"), ("timeout", "20"), ("label", "hot\n"),
    ]:  # fmt: skip
        assert tree.set(f"cache.*.{name}", text) == 1
    assert (cache.max_rpcs, cache.checksums, cache.max_dirty_bytes) == (16, False, 64 * MIB)
    assert (cache.max_age_ns, cache.idle_timeout_ns) == (NS_PER_S // 2, 7 * NS_PER_S)
    assert (cache.timeout, cache.label) == (20, "hot")
    assert cache.resized == 1
    assert isinstance(cache.checksums, bool)


def test_what_files_refuse() -> None:
    cache, tree = mounted()
    assert errno_of(tree, "max_rpcs", "0") == "ERANGE"
    assert errno_of(tree, "max_rpcs", "257") == "ERANGE"
    assert errno_of(tree, "max_rpcs", "many") == "EINVAL"
    assert errno_of(tree, "max_mod_rpcs", "8") == "ERANGE"
    assert errno_of(tree, "max_dirty_mb", "2048") == "ERANGE"
    assert errno_of(tree, "max_dirty_mb", "12.5") == "EINVAL"
    assert errno_of(tree, "idle_timeout", "51") == "ERANGE"
    assert errno_of(tree, "label", "far too long") == "EINVAL"
    assert errno_of(tree, "grant", "1") == "EACCES"
    with pytest.raises(LustreError, match="ENOENT"):
        tree.set("cache.*.nothing", "1")
    assert cache.max_rpcs == 8


def test_a_trigger_gets_the_text() -> None:
    cache, tree = mounted()
    tree.set("cache.a0.drop", "3")
    assert cache.resized == -3
    with pytest.raises(LustreError, match="EACCES"):
        tree.get("cache.a0.drop")


@pytest.mark.parametrize(
    ("rule", "text", "value"),
    [
        (Rule(out_of_range="clamp"), "900", 256),
        (Rule(out_of_range="clamp"), "0", 1),
        (Rule(out_of_range="ignore"), "900", 8),
        (Rule(high=1024), "900", 900),
        (Rule(accepts="lax"), "12 of them", 12),
    ],
)
def test_a_rule_changes_what_is_accepted(rule: Rule, text: str, value: int) -> None:
    cache, tree = mounted(max_rpcs=rule)
    tree.set("cache.a0.max_rpcs", text)
    assert cache.max_rpcs == value


def test_a_rule_changes_units_and_text() -> None:
    cache, tree = mounted(
        max_age=Rule(unit="jiffies"),
        max_dirty_mb=Rule(accepts="strict_units", fraction=True, default=12 * MIB + MIB // 3),
        max_rpcs=Rule(newline=False),
        checksums=Rule(location="absent"),
        label=Rule(access="ro"),
    )
    assert get(tree, "max_age") == "975000\n"
    tree.set("cache.a0.max_age", "250")
    assert cache.max_age_ns == NS_PER_S
    assert get(tree, "max_dirty_mb") == "12.33\n"
    tree.set("cache.a0.max_dirty_mb", "1.5G")
    assert get(tree, "max_dirty_mb") == "1536\n"
    assert get(tree, "max_rpcs") == "8"
    assert "cache.a0.checksums" not in tree.list("cache.a0.*")
    assert cache.checksums
    assert errno_of(tree, "label", "x") == "EACCES"


def test_flags_take_what_the_rule_says() -> None:
    cache, tree = mounted(checksums=Rule(accepts="lax"))
    tree.set("cache.a0.checksums", "7")
    assert cache.checksums
    strict = mounted(checksums=Rule(accepts="lax", out_of_range="ERANGE"))[1]
    assert errno_of(strict, "checksums", "2") == "ERANGE"


def test_stats_count_and_clear() -> None:
    cache, tree = mounted()
    cache.stats.op("open", 12)
    cache.stats.add("read_bytes", 4096, "bytes")
    cache.stats.add("read_bytes", 1048576, "bytes")
    cache.stats.add("req_waittime", 92)
    assert get(tree, "stats") == (
        "snapshot_time             1694500010.000004511 secs.nsecs\n"
        "read_bytes                2 samples [bytes] 4096 1048576 1052672\n"
        "open                      1 samples [regs]\n"
        "req_waittime              1 samples [usec] 92 92 92 8464\n"
    )
    tree.set("cache.a0.stats", "anything")
    assert get(tree, "stats").count("\n") == 1


class Doubles(Overlay, of=Cache):
    because = "a test: the store doubles what it reads"
    grant = Param.absent()

    def store_max_rpcs(self, text: str) -> Any:
        return super().store_max_rpcs(str(int(text) * 2))  # type: ignore[misc]


class Terse(Overlay, of=Cache):
    because = "a test: the newline is missing"

    def show_pool_state(self) -> str:
        text: str = super().show_pool_state()  # type: ignore[misc]
        return text.rstrip("\n")


def test_overlays_replace_show_store_and_declarations() -> None:
    kit = Kit([Doubles, Terse])
    cache = kit.build(Cache)()
    tree = ParamTree()
    tree.mount(cache, name="a0")
    tree.set("cache.a0.max_rpcs", "4")
    assert cache.max_rpcs == 8
    assert cache.resized == 1
    assert get(tree, "pool.state") == "cold"
    assert "cache.a0.grant" not in tree.list("cache.a0.*")
    assert "grant" in Cache.declared and Cache.declared["grant"].kind == "computed"


class Own(Component, tree="own"):
    size = Param.count(1, unit="locks", help="locks kept")
    waits = Param.count(1, unit="locks", help="a store that waits")

    def store_size(self, text: str) -> None:
        if text.strip() == "clear":
            self.size = 0
        else:
            self.declared["size"].store(self, text)

    def store_waits(self, text: str) -> Generator[str, None, None]:
        yield "an event"


def test_a_component_may_have_rules_of_its_own() -> None:
    own, tree = Own(), ParamTree()
    tree.mount(own)
    tree.set("own.size", "5")
    assert own.size == 5
    tree.set("own.size", "clear")
    assert own.size == 0
    with pytest.raises(RuntimeError, match="yield from"):
        tree.set("own.waits", "1")


def test_declarations_are_inherited_and_restated() -> None:
    class Small(Cache):
        max_rpcs = Param.count(2, low=1, high=4, unit="RPCs", help="fewer")

    assert Small().max_rpcs == 2
    assert Cache().max_rpcs == 8
    assert Small.tree == "cache.{name}"
    assert list(Small.declared) == list(Cache.declared)


def test_a_declaration_without_help_or_with_a_wrong_name_is_refused() -> None:
    with pytest.raises(TypeError, match="help"):
        Param.count(1, unit="x", help=" ")
    with pytest.raises(TypeError, match="name it NAME_bytes"):

        class Wrong(Component, tree="x"):
            max_dirty_mb = Param.size_mb(1, help="dirty data")

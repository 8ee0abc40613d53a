"""lctl, to the byte, as the generations of it speak."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from labsim import trees
from labsim.base.component import Component
from labsim.base.errors import InputError, LustreError
from labsim.base.param_tree import ParamTree
from labsim.base.params import Param
from labsim.base.units import MIB
from labsim.nodes import lctl


class Osc(Component, tree="osc.{name}"):
    active = Param.flag(True, help="in use")
    max_rpcs_in_flight = Param.count(8, low=1, high=256, unit="RPCs", help="RPCs on the wire")
    max_dirty_bytes = Param.size_mb(32 * MIB, low=1, help="dirty data")
    idle_connect_text = ""

    @Param.computed(file="import", help="the import")
    def import_text(self) -> str:
        return "import:\n    state: FULL\n"

    @Param.computed(unit="bytes", help="dirty data")
    def cur_dirty_bytes(self) -> int:
        return 0

    @Param.trigger(help="reconnect")
    def idle_connect(self, text: str) -> None:
        self.idle_connect_text = text


class Llite(Component, tree="llite.{name}"):
    xattr_cache = Param.flag(True, help="keep xattrs")
    broken = Param.text("", help="a file that fails")
    slow = Param.count(0, unit="locks", help="a file that waits")

    def show_broken(self) -> str:
        raise LustreError(19, "no device")

    def store_slow(self, text: str) -> Generator[str, None, None]:
        yield "an event"
        self.slow = int(text)


OSC = "lustre-OST{}-osc-ffff88003a5c1000"


def node(tree_name: str) -> tuple[ParamTree, list[Osc], Llite]:
    """A client's tree in the dialect of a source tree."""
    tree = ParamTree(trees.get(tree_name).dialect)
    oscs = [Osc(), Osc()]
    for index, osc in enumerate(oscs):
        tree.mount(osc, name=OSC.format(f"{index:04}"))
    llite = Llite()
    tree.mount(llite, name="lustre-ffff88003a5c1000")
    return tree, oscs, llite


def run(tree_name: str, *argv: str) -> tuple[int, str, str]:
    """One command on a fresh node."""
    return lctl.run(node(tree_name)[0], list(argv))


OST0, OST1 = OSC.format("0000"), OSC.format("0001")


def test_get_param_prints_names_and_values() -> None:
    assert run("2.12.0", "get_param", "osc.*.max_rpcs_in_flight") == (
        0,
        f"osc.{OST0}.max_rpcs_in_flight=8\nosc.{OST1}.max_rpcs_in_flight=8\n",
        "",
    )
    assert run("2.12.0", "get_param", "-n", "osc.*OST0001*.active").stdout == "1\n"
    both = run("2.12.0", "get_param", "osc.*.{active,max_dirty_mb}", "-n")
    assert both.stdout == "1\n1\n32\n32\n"
    assert run("2.12.0", "get_param", "-N", "osc.*.act*").stdout == (
        f"osc.{OST0}.active\nosc.{OST1}.active\n"
    )
    assert run("2.12.0", "get_param", "-NF", "osc.*OST0000*.*").stdout == (
        f"osc.{OST0}.active=\nosc.{OST0}.cur_dirty_bytes\nosc.{OST0}.idle_connect=\n"
        f"osc.{OST0}.max_dirty_mb=\nosc.{OST0}.max_rpcs_in_flight=\nosc.{OST0}.import\n"
    )


def test_a_value_with_lines_goes_below_its_name() -> None:
    text = f"osc.{OST0}.import=\nimport:\n    state: FULL\n"
    for name in ("2.5.3", "2.7.0", "2.10.0", "2.12.0", "2.17.0"):
        assert run(name, "get_param", "osc.*OST0000*.import") == (0, text, "")


class Long(Component, tree="lov.{name}"):
    words = Param.text("x" * 61, help="a long line")
    short = Param.text("y" * 20, help="a line")


@pytest.mark.parametrize(
    ("tree_name", "words", "short"),
    [
        ("2.5.3", "=\n", "="), ("2.7.0", "=\n", "=\n"), ("2.10.5", "=\n", "=\n"),
        ("2.12.0", "=\n", "=\n"), ("2.15.0", "=", "="),
    ],
)  # fmt: skip
def test_long_values_wrap_by_generation(tree_name: str, words: str, short: str) -> None:
    tree = ParamTree(trees.get(tree_name).dialect)
    name = "lustre-clilov-ffff88003a5c1000-and-more-of-it-to-be-long"
    tree.mount(Long(), name=name)
    assert f"words{words}x" in lctl.run(tree, ["get_param", "lov.*.words"]).stdout
    assert f"short{short}y" in lctl.run(tree, ["get_param", "lov.*.short"]).stdout


@pytest.mark.parametrize(
    ("tree_name", "status", "stderr"),
    [
        ("2.5.3", 3, "error: get_param: /proc/{fs,sys}/{lnet,lustre}/osc/*/nix: Found no match\n"),
        ("2.7.0", 3, "error: get_param: osc/*/nix: Found no match\n"),
        ("2.10.5", 2, "error: get_param: param_path 'osc/*/nix': No such file or directory\n"),
        ("2.12.0", 2, "error: get_param: param_path 'osc/*/nix': No such file or directory\n"),
    ],
)
def test_no_match(tree_name: str, status: int, stderr: str) -> None:
    assert run(tree_name, "get_param", "osc.*.nix") == (status, "", stderr)


def test_one_pattern_that_fails_does_not_stop_the_next() -> None:
    status, out, err = run("2.12.0", "get_param", "nix", "osc.*OST0000*.active")
    assert (status, out) == (2, f"osc.{OST0}.active=1\n")
    assert err == "error: get_param: param_path 'nix': No such file or directory\n"


def test_set_param_both_forms() -> None:
    tree, oscs, _ = node("2.12.0")
    argv = ["set_param", "osc.*.active=0", "osc.*OST0001*.max_dirty_mb", "64"]
    status, out, err = lctl.run(tree, argv)
    assert (status, err) == (0, "")
    assert out == f"osc.{OST0}.active=0\nosc.{OST1}.active=0\nosc.{OST1}.max_dirty_mb=64\n"
    assert [osc.active for osc in oscs] == [False, False]
    assert oscs[1].max_dirty_bytes == 64 * MIB
    assert lctl.run(tree, ["set_param", "-n", "osc.*.active=1"]) == (0, "", "")


PROC = f"/proc/fs/lustre/osc/{OST0}"
SYS = f"/sys/fs/lustre/osc/{OST0}"


@pytest.mark.parametrize(
    ("tree_name", "status", "stdout", "stderr"),
    [
        ("2.5.3", 1, f"osc.{OST0}.max_rpcs_in_flight=0\n",
         f"error: set_param: setting {PROC}/max_rpcs_in_flight=0: Numerical result out of range\n"),
        ("2.7.0", 34, f"osc.{OST0}.max_rpcs_in_flight=0\n",
         f"error: set_param: setting {PROC}/max_rpcs_in_flight=0: Numerical result out of range\n"),
        ("2.10.5", 34, "",
         f"error: set_param: setting {PROC}/max_rpcs_in_flight=0: Numerical result out of range\n"),
        ("2.12.0", 34, "",
         f"error: set_param: setting {SYS}/max_rpcs_in_flight=0: Numerical result out of range\n"),
        ("2.15.0", 34, "",
         f"error: set_param: setting {SYS}/max_rpcs_in_flight=0: Numerical result out of range\n"
         "error: set_param: setting 'osc/*OST0000*/max_rpcs_in_flight'='0': "
         "Numerical result out of range\n"),
    ],
)  # fmt: skip
def test_a_value_that_is_refused(tree_name: str, status: int, stdout: str, stderr: str) -> None:
    argv = ("set_param", "osc.*OST0000*.max_rpcs_in_flight=0")
    assert run(tree_name, *argv) == (status, stdout, stderr)


@pytest.mark.parametrize(
    ("tree_name", "status", "stderr"),
    [
        ("2.7.0", 22, "error: set_param: setting osc/x/active=: Invalid argument\n"),
        ("2.12.0", 22, "error: set_param: setting osc.x.active: no value\n"),
        ("2.15.0", 22, "error: set_param: setting osc.x.active: Invalid argument\n"),
    ],
)
def test_a_missing_value(tree_name: str, status: int, stderr: str) -> None:
    assert run(tree_name, "set_param", "osc.x.active=") == (status, "", stderr)
    assert run(tree_name, "set_param", "osc.x.active") == (status, "", stderr)


@pytest.mark.parametrize(
    ("tree_name", "status", "stderr"),
    [
        ("2.7.0", 5, f"error: set_param: setting {PROC}/cur_dirty_bytes=1: Input/output error\n"),
        ("2.10.5", 5, ""),
        ("2.12.0", 13, f"error: set_param: opening '{SYS}/cur_dirty_bytes': Permission denied\n"),
    ],
)
def test_writing_what_is_read_only(tree_name: str, status: int, stderr: str) -> None:
    found = run(tree_name, "set_param", "-n", "osc.*OST0000*.cur_dirty_bytes=1")
    assert found == (status, "", stderr)


@pytest.mark.parametrize(
    ("tree_name", "status", "stderr"),
    [
        ("2.10.5", 0, "error: get_param: reading 'llite.lustre-ffff88003a5c1000.broken': "
         "No such device\n"),
        ("2.12.0", 19, "error: read_param: "
         "'/sys/fs/lustre/llite/lustre-ffff88003a5c1000/broken': No such device\n"),
    ],
)  # fmt: skip
def test_a_read_that_fails(tree_name: str, status: int, stderr: str) -> None:
    assert run(tree_name, "get_param", "llite.*.broken") == (status, "", stderr)


def test_a_trigger_is_write_only() -> None:
    tree, oscs, _ = node("2.12.0")
    assert lctl.run(tree, ["get_param", "-n", "osc.*OST0000*.idle_connect"]) == (
        13, "", f"error: read_param: '{SYS}/idle_connect': Permission denied\n",
    )  # fmt: skip
    lctl.run(tree, ["set_param", "osc.*OST0000*.idle_connect=1"])
    assert oscs[0].idle_connect_text == "1"


def test_list_param() -> None:
    assert run("2.12.0", "list_param", "*") == (0, "llite\nosc\n", "")
    assert run("2.12.0", "list_param", "-F", "osc.*") == (0, f"osc.{OST0}/\nosc.{OST1}/\n", "")
    listed = run("2.12.0", "list_param", "-R", "osc").stdout.splitlines()
    assert listed[:3] == ["osc", f"osc.{OST0}", f"osc.{OST0}.active"]
    assert sorted(listed) == sorted(set(listed))
    assert len(listed) == 15
    assert run("2.12.0", "list_param", "-D", "-R", "osc").stdout == f"osc\nosc.{OST0}\nosc.{OST1}\n"
    assert run("2.12.0", "list_param", "nix") == (
        2,
        "",
        "error: list_param: param_path 'nix': No such file or directory\n"
        "error: list_param: listing 'nix': No such file or directory\n",
    )
    assert run("2.7.0", "list_param", "-R").stdout.splitlines()[0] == "llite"


def test_recursion_reads_each_file_once() -> None:
    status, out, err = run("2.12.0", "get_param", "-R", "osc.*OST0000*")
    assert (status, err.count("\n")) == (13, 1)
    assert [line.split("=")[0].rpartition(".")[2] for line in out.splitlines()] == [
        "active", "cur_dirty_bytes", "max_dirty_mb", "max_rpcs_in_flight", "import", "import:",
        "    state: FULL",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "argv",
    [("get_param",), ("get_param", "-x", "osc.*.active"), ("set_param", "-n"), ("list_param",)],
)
def test_a_wrong_command_line_prints_its_usage(argv: tuple[str, ...]) -> None:
    status, out, err = run("2.12.0", *argv)
    assert (status, out) == (4, "")
    assert f"usage: {argv[0]}" in err


def test_an_unknown_command_is_bad_input() -> None:
    with pytest.raises(InputError, match="'conf_param' is not known"):
        run("2.12.0", "conf_param", "x")


def test_a_missing_newline_shows() -> None:
    class Namespace(Component, tree="ldlm.namespaces.{name}"):
        lru_size = Param.count(100, unit="locks", help="locks kept")

        def show_lru_size(self) -> str:
            return str(self.lru_size)

    tree = ParamTree()
    for name in ("a", "b"):
        tree.mount(Namespace(), name=name)
    assert lctl.run(tree, ["get_param", "ldlm.namespaces.*.lru_size"]).stdout == (
        "ldlm.namespaces.a.lru_size=100ldlm.namespaces.b.lru_size=100"
    )


def test_a_store_that_waits_wants_the_generator() -> None:
    tree, _, llite = node("2.12.0")
    argv = ["set_param", "llite.*.slow=3"]
    with pytest.raises(RuntimeError, match="yield from"):
        lctl.run(tree, argv)
    steps = lctl.running(tree, argv)
    assert next(steps) == "an event"
    with pytest.raises(StopIteration) as stop:
        next(steps)
    output: Any = stop.value.value
    assert output == (0, "llite.lustre-ffff88003a5c1000.slow=3\n", "")
    assert llite.slow == 3

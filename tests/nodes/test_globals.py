"""The parameters that a node has once."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from labsim import trees
from labsim.base.errors import LustreError
from labsim.base.faults import Faults
from labsim.base.param_tree import ParamTree
from labsim.nodes import lctl
from labsim.nodes.debug_mask import ALL, DEBUG_WORDS, SUBSYSTEM_WORDS, mask_of, words_of
from labsim.nodes.globals import Device, Globals


def node(tree_name: str) -> tuple[Globals, ParamTree]:
    """The globals of a node that runs that tree."""
    tree = trees.get(tree_name)
    kit = trees.kit_for(tree)
    host: Any = SimpleNamespace(kit=kit, faults=Faults(None, Random(1)))
    params = ParamTree(tree.dialect)
    made = kit.build(Globals)(host)
    params.mount(made)
    return made, params


def get(tree_name: str, name: str) -> str:
    """What lctl get_param prints."""
    return lctl.run(node(tree_name)[1], ["get_param", name]).stdout


@pytest.mark.parametrize(
    ("tree_name", "name", "text"),
    [
        ("2.12.0", "timeout", "timeout=100\n"),
        ("2.12.0", "at_max", "at_max=600\n"),
        ("2.12.0", "at_min", "at_min=0\n"),
        ("2.17.0", "at_min", "at_min=5\n"),
        ("2.12.0", "version", "version=2.12.0\n"),
        ("2.9.0", "version", "version=lustre: 2.9.0\n"),
        ("2.7.0", "version", "version=\nlustre: 2.7.0\nkernel: patchless_client\nbuild:  2.7.0\n"),
        ("2.12.0", "health_check", "health_check=healthy\n"),
        ("2.12.0", "jobid_var", "jobid_var=disable\n"),
        ("2.12.0", "debug",
         "debug=ioctl neterror warning error emerg ha config console lfsck\n"),
        ("2.12.0", "printk", "printk=warning error emerg console\n"),
        ("2.12.0", "fail_loc", "fail_loc=0\n"),
        ("2.12.0", "pinger", "pinger=on\n"),
    ],
)  # fmt: skip
def test_what_they_say(tree_name: str, name: str, text: str) -> None:
    assert get(tree_name, name) == text


@pytest.mark.parametrize(
    ("tree_name", "name", "path"),
    [
        ("2.7.0", "timeout", "/proc/sys/lustre/timeout"),
        ("2.12.0", "timeout", "/sys/fs/lustre/timeout"),
        ("2.7.0", "fail_loc", "/proc/sys/lnet/fail_loc"),
        ("2.12.0", "fail_loc", "/sys/kernel/debug/lnet/fail_loc"),
        ("2.7.0", "jobid_var", "/proc/fs/lustre/jobid_var"),
        ("2.12.0", "devices", "/sys/kernel/debug/lustre/devices"),
        ("staging-4.4", "timeout", "/sys/fs/lustre/timeout"),
    ],
)
def test_where_they_live(tree_name: str, name: str, path: str) -> None:
    assert [entry.path for entry in node(tree_name)[1].glob(name)] == [path]


def test_a_tree_without_a_file_does_not_have_it() -> None:
    assert node("2.7.0")[1].glob("jobid_name") == []
    assert node("staging-4.4")[1].glob("ldlm_timeout") == []


@pytest.mark.parametrize("text", ["0x8000020e", "2147484174"])
def test_fail_loc_arms_a_fault_point(text: str) -> None:
    made, params = node("2.12.0")
    assert lctl.run(params, ["set_param", f"fail_loc={text}", "fail_val=5"]).status == 0
    assert made.host.faults.fail_loc == 0x8000020E
    assert made.host.faults.fail_val == 5
    assert lctl.run(params, ["get_param", "-n", "fail_loc"]).stdout == "2147484174\n"


def test_timeouts_are_plain_seconds() -> None:
    made, params = node("2.12.0")
    params.set("timeout", "20")
    assert made.timeout == 20
    assert lctl.run(params, ["set_param", "timeout=0"]).status == 34
    assert lctl.run(params, ["set_param", "timeout=soon"]).status == 22


def test_jobid_var_has_a_length() -> None:
    made, params = node("2.12.0")
    params.set("jobid_var", "procname_uid\n")
    assert made.jobid_var == "procname_uid"
    for text in ("x" * 21, "\n"):
        with pytest.raises(LustreError, match="EINVAL"):
            params.set("jobid_var", text)


def test_health_by_generation() -> None:
    for tree_name, text in [
        ("2.12.0", "health_check=NOT HEALTHY\n"),
        ("2.7.0", "health_check=\ndevice lustre-OST0000 reported unhealthy\nNOT HEALTHY\n"),
    ]:
        made, params = node(tree_name)
        made.sick.append("lustre-OST0000")
        assert lctl.run(params, ["get_param", "health_check"]).stdout == text


def test_devices_and_dl() -> None:
    made, params = node("2.12.0")
    made.list_devices = lambda: [
        Device("mgc", "MGC10.0.0.10@tcp", "6d2c7b3a"),
        Device("osc", "lustre-OST0001-osc-ffff88003a5c1000", "5f0a2b66", status="IN"),
    ]
    assert lctl.run(params, ["dl"]).stdout == (
        "  0 UP mgc MGC10.0.0.10@tcp 6d2c7b3a 4\n"
        "  1 IN osc lustre-OST0001-osc-ffff88003a5c1000 5f0a2b66 4\n"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", "0"),
        ("+rpctrace", "error rpctrace"),
        ("rpctrace dlmtrace", "dlmtrace rpctrace"),
        ("-error", "0"),
        ("+rpctrace -error", "rpctrace"),
        ("0x20001", "trace error"),
        ("-1", words_of(ALL, DEBUG_WORDS)),
        ("all", words_of(ALL, DEBUG_WORDS)),
    ],
)
def test_debug_masks(text: str, words: str) -> None:
    assert words_of(mask_of(text, mask_of("error", 0, DEBUG_WORDS), DEBUG_WORDS), DEBUG_WORDS) == (
        words
    )


def test_debug_masks_refuse_unknown_words() -> None:
    for text in ("", "no_such_word"):
        with pytest.raises(LustreError, match="EINVAL"):
            mask_of(text, 0, DEBUG_WORDS)


def test_debug_is_set_through_its_file() -> None:
    made, params = node("2.12.0")
    params.set("debug", "+trace")
    assert made.debug_mask & 1
    params.set("subsystem_debug", "mdc osc")
    assert words_of(made.subsystem_mask, SUBSYSTEM_WORDS) == "mdc osc"
    assert lctl.run(params, ["get_param", "-n", "subsystem_debug"]).stdout == "mdc osc\n"

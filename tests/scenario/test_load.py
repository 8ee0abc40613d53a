"""Scenario files: what is read, and where each mistake is said to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from labsim.base.errors import InputError
from labsim.base.units import NS_PER_S
from labsim.scenario import load, model
from labsim.scenario.decode import Problems

GOOD = (Path(__file__).parent / "everything.yaml").read_text()


def read(text: str) -> model.Scenario:
    return load.load("area/name.yaml", text)


def problems(text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(Problems) as caught:
        read(text)
    return [(p.place.line, p.place.column, p.what) for p in caught.value.problems]


def test_a_whole_file() -> None:
    scenario = read(GOOD)
    assert (scenario.name, scenario.area, scenario.ticket) == ("area/name", "area", "LU-1")
    assert [client.tree for client in scenario.cluster.clients] == ["under-test", "2.12.0"]
    assert scenario.cluster.ost_count == 4
    steps = iter(scenario.steps)
    assert next(steps) == model.Command(line=7, node="c0", text="touch f")
    second = next(steps)
    assert isinstance(second, model.Command)
    assert second.shows == model.Outcome(errno="ENODATA")
    assert (second.within_ns, second.user) == (5 * NS_PER_S, "500:600")
    third = next(steps)
    assert isinstance(third, model.Command)
    assert (third.shows.expect, third.save) == ("0", "size")
    assert third.buggy == model.Outcome(expect="/^[1-9]/")
    next(steps)
    assert next(steps) == model.Wait(line=18, time_ns=1_500_000_000)
    full = next(steps)
    assert isinstance(full, model.Wait)
    assert (full.import_, full.target, full.within_ns) == ("FULL", "lustre-OST0000", 60 * NS_PER_S)
    active = next(steps)
    assert isinstance(active, model.Wait)
    assert (active.param, active.shows) == ("osc.*.active", "1")
    assert isinstance(next(steps), model.Parallel)
    assert [step.label for step in steps] == [
        "net: partition c0,c1 | oss0",
        "net: drop c0 -> oss0 opc=OST_WRITE rate=0.5 count=3",
        "net: delay * -> mds0 2s",
        "net: heal",
        "fault: delay OST_BRW_WRITE_BULK on oss0",
        "fault: arm OST_BRW_WRITE_BULK on oss0",
        "fault: cure OST_BRW_WRITE_BULK on oss0",
        "oss0: kill",
        "oss0: start",
        "c1: umount",
        "mgs: lctl set_param -P osc.*.max_dirty_mb=64",
    ]


def test_a_number_with_zeros_before_it_is_decimal() -> None:
    scenario = read("labsim: 1\ntitle: t\ncovers: [sanityn 16]\ncluster: {clients: 002}\n"
                    "steps: [{c1: ls}]\n")  # fmt: skip
    assert len(scenario.cluster.clients) == 2


def test_a_behaviour_names_the_tests_it_covers() -> None:
    scenario = read("labsim: 1\ntitle: t\ncovers: [replay-single 20b, sanityn 16]\n"
                    "steps: [{c0: ls}]\n")  # fmt: skip
    assert scenario.covers == ["replay-single 20b", "sanityn 16"]
    assert (scenario.ticket, scenario.history, scenario.label) == ("", None, "name")


def test_net_and_fault_steps_carry_numbers() -> None:
    text = """\
labsim: 1
title: t
steps:
  - net: drop c0 -> oss0 opc=OST_WRITE rate=0.5 count=3
  - net: delay c0 <-> mds0 2s
  - fault: {on: oss0, at: 0x8000020e, val: 3}
  - fault: {on: oss0, at: OST_BRW_WRITE_BULK, do: fail ENOSPC, skip: 2}
"""
    drop, delay, number, name = read(text).steps
    assert isinstance(drop, model.Net)
    assert (drop.src, drop.dst, drop.both_ways) == (["c0"], ["oss0"], False)
    assert drop.match == {"opc": 4, "rate": 0.5, "count": 3}
    assert isinstance(delay, model.Net)
    assert (delay.both_ways, delay.delay_ns) == (True, 2 * NS_PER_S)
    assert isinstance(number, model.Fault)
    assert (number.at, number.bits, number.val) == (0x20E, 0x80000000, 3)
    assert isinstance(name, model.Fault)
    assert (name.at, name.bits, name.val) == (0x20E, 0x20000000, 2)
    assert (name.do, name.value) == ("fail", 28)


STEPS = "labsim: 1\ntitle: t\ncluster: {clients: 2}\nsteps:\n"


@pytest.mark.parametrize(
    ("step", "column", "what"),
    [
        ("- c0: tuch f", 9, "unknown verb 'tuch', did you mean 'touch'?"),
        ("- c9: touch f", 5, "unknown node or step 'c9'"),
        ("- wiat: 30s", 5, "unknown node or step 'wiat', did you mean 'wait'?"),
        ("- c0: touch -q f", 15, "touch has no option '-q'"),
        ("- c0: touch", 14, "touch needs FILE"),
        ("- c0: lctl getparam x", 14, "unknown lctl command 'getparam', did you mean 'get_param'?"),
        ("- c0: sys setxatr f", 13, "unknown system call 'setxatr', did you mean 'setxattr'?"),
        ("- c0: sys open f O_RDNLY", 20, "unknown flag 'O_RDNLY', did you mean 'O_RDONLY'?"),
        ("- c0: sys getxattr f", 13, "write sys getxattr path name [size]"),
        ("- c0: dd if=f bs=1X", 17, "'1X' is no size"),
        ("- c0: dd if=f conv=sink", 17, "dd: unknown conv 'sink'"),
        ("- c0: chmod 9 f", 15, "chmod: invalid mode: '9'"),
        ("- c0: touch -d yesterday f", 18, "touch: 'yesterday' is no date"),
        ("- c0: sysctl vm.drop=1", 16, "sysctl: cannot stat /proc/sys/vm/drop"),
        (
            "- c0: lctl get_param osc.*.max_rpc_in_flight",
            24,
            "unknown parameter 'osc.*.max_rpc_in_flight', did you mean 'max_rpcs_in_flight'?",
        ),
        ("- c0: lctl set_param ocs.*.active=1", 24, "unknown parameter 'ocs.*.active', did you"),
        ("- mgs: lctl set_param -P osc.*.activ=1", 28, "unknown parameter 'osc.*.activ'"),
        ("- c0: ls | wc", 12, "'|': a step has no pipe"),
        ("- c0: 'ls | wc'", 13, "'|': a step has no pipe"),
        ("- c0: echo $x", 14, "nothing was saved as 'x' before this step"),
        ("- oss0: touch f", 11, "touch runs on a client, and this node is of the kind oss"),
        ("- {c0: ls, background: a b}", 26, "'a b' is no name: a letter, then letters and digits"),
        ("- {c0: ls, background: ls}", 26, "nothing waits for 'ls'; add the step wait: ls"),
        ("- wait: writer", 11, "nothing runs in the background as 'writer'"),
        ("- net: reorder c0 -> mds0", 24, "say how late a packet may come, as in 2s"),
        ("- net: duplicate c0 -> mds0 opk=1", 31, "'opk=1' is no filter, did you mean 'opc'?"),
        ("- net: drop c0 -> OST0009", 21, "unknown node 'OST0009'"),
        ("- net: drop c0 -> 10.0@tcp", 21, "'10.0@tcp' is no NID"),
        ("- race: [MDS_REINT_DELAY]", 11, "a race is between two fault points"),
        ("- race: [LDLM_REPLY, LDLM_REPLY]", 11, "say which node visits 'LDLM_REPLY', as in"),
        (
            "- race: [mds0:LDLM_REPLY, oss0:LDLM_REPLY]",
            11,
            "a race is between two processes of one",
        ),
        ("- race: [MDS_REINT_DELAY, MDS_REINT_DELY]", 11, "unknown fault point 'MDS_REINT_DELY'"),
        ("- disk: c0 full", 11, "'c0' has no disk; one of MDT0000, MGS, OST0000, mds0, mgs, oss0"),
        ("- disk: oss0 ful", 16, "a disk is never 'ful', did you mean 'full'?"),
        ("- disk: oss0 slow", 16, "say how slow, as in 50ms"),
        ("- disk: oss0 full 2s", 21, "'2s' is one too many"),
        ("- clock: c0 1h", 12, "write clock: NODE jump 1h, or -1h"),
        ("- clock: c9 jump 1h", 12, "unknown node 'c9'"),
        ("- clock: c0 jump 1x", 20, "'1x' is no duration"),
        ("- fail: oss0 over", 11, "write fail: oss0 to oss1, or fail: oss0 back"),
        ("- fail: c0 to oss0", 11, "'c0' serves no target"),
        ("- fail: oss0 to oss0", 19, "a server cannot be its own partner"),
        ("- wait: 30", 11, "'30' is no duration"),
        ("- wait: 30 seconds", 11, "'30 seconds' is no duration"),
        ("- wait: {import: FUL, on: c0}", 20, "unknown import state 'FUL', did you mean 'FULL'?"),
        ("- wait: {import: FULL, on: c7}", 30, "unknown node 'c7'"),
        ("- wait: {import: FULL}", 11, "'on' is missing"),
        ("- wait: {on: c0}", 11, "say what to wait for"),
        ("- net: partition c0 - oss0", 23, "'-' stands where ->, <-> or | is needed"),
        ("- net: cut c0 | oss0", 10, "unknown network step 'cut'"),
        ("- net: drop c0 -> oss7", 21, "unknown node 'oss7', did you mean 'oss0'?"),
        ("- net: drop c0 -> oss0 opc=OST_WRTE", 26, "unknown opcode 'OST_WRTE', did you mean"),
        ("- net: delay c0 -> oss0", 22, "say how long, as in 2s"),
        (
            "- fault: {on: oss0, at: OST_BRW_WRITE_BLK}",
            27,
            "unknown fault point 'OST_BRW_WRITE_BLK'",
        ),
        ("- fault: {on: oss0, at: 0x20e, do: explode}", 38, "unknown reaction 'explode'"),
        ("- fault: {on: oss0, at: 0x20e, do: fail ENOSPACE}", 38, "unknown errno 'ENOSPACE'"),
        (
            "- parallel: [{c0: ls}, {wait: 3s}]",
            26,
            "only commands and power switches can be parallel",
        ),
        ("- {c0: ls, expct: f}", 14, "unknown key 'expct', did you mean 'expect'?"),
        ("- {c0: ls, errno: ENODAT}", 21, "unknown errno 'ENODAT', did you mean 'ENODATA'?"),
        ("- {c0: ls, expect: /a(/}", 22, "not a regular expression"),
        ("- {c0: ls, status: zero}", 22, "'zero' is not a whole number"),
        ("- {c0: ls, as: nobody}", 18, "'nobody' is no user; write root, UID or UID:GID"),
        ("- {c0: ls, save: 2x}", 20, "'2x' is no name: a letter"),
        ("- {c0: ls, buggy: {}}", 21, "say what a buggy tree shows"),
        ("- {c0: ls, c0: ls}", 14, "'c0' stands here twice"),
        ("- {expect: ls}", 6, "a step starts with its node or kind, not with 'expect'"),
        ("- {wait: 3s, expect: x}", 16, "a wait step has no 'expect'"),
        ("- touch f", 5, "a mapping is needed here, not a value"),
        ("- c0: [touch, f]", 9, "a value is needed here, not a list"),
    ],
)
def test_where_a_step_is_wrong(step: str, column: int, what: str) -> None:
    found = problems(f"{STEPS}  {step}\n")
    assert len(found) == 1
    line, at, said = found[0]
    assert (line, at) == (5, column)
    assert said.startswith(what)


@pytest.mark.parametrize(
    ("text", "line", "column", "what"),
    [
        ("title: t\nsteps: [{c0: ls}]\n", 1, 1, "'labsim: 1' is missing: the format's version"),
        ("labsim: 2\ntitle: t\nsteps: [{c0: ls}]\n", 1, 9, "format 2 is not known"),
        ("labsim: 1\nsteps: [{c0: ls}]\n", 1, 1, "'title' is missing"),
        ("labsim: 1\ntitle: t\n", 1, 1, "'steps' is missing"),
        ("labsim: 1\ntitle: t\nsteps: []\n", 3, 8, "there are no steps"),
        ("labsim: 1\ntitle: t\nsteps: ls\n", 3, 8, "a list of steps is needed here"),
        ("labsim: 1\ntitel: t\ntitle: t\nsteps: [{c0: ls}]\n", 2, 1, "unknown key 'titel', did"),
        ("labsim: 1\ntitle: t\ntitle: u\nsteps: [{c0: ls}]\n", 3, 1, "'title' stands here twice"),
        ("labsim: 1\ntitle: t\ncluster: {oss: two}\nsteps: [{c0: ls}]\n", 3, 16, "'two' is not a"),
        ("labsim: 1\ntitle: t\ncluster: {oss: 0}\nsteps: [{c0: ls}]\n", 3, 11, "'oss' must be 1"),
        ("labsim: 1\ntitle: t\ncluster: {oss: 2, osts: 1}\nsteps: [{c0: ls}]\n", 3, 19, "'osts'"),
        ("labsim: 1\ntitle: t\ncluster: {clients: [{tre: x}]}\nsteps: [{c0: ls}]\n", 3, 22, "unk"),
        (
            "labsim: 1\ntitle: t\ncluster: {clients: [{tree: 2.12.49}]}\nsteps: [{c0: ls}]\n",
            3, 28, "no tree is called '2.12.49'",
        ),
        (
            "labsim: 1\ntitle: t\nhistory: {introduced: {mster: 2.10.51}}\nsteps: [{c0: ls}]\n",
            3, 24, "history.introduced: no branch 'mster'; did you mean 'master'?",
        ),
        (
            "labsim: 1\ntitle: t\nhistory: {introduced: {b2_10: 2.10.99}}\nsteps: [{c0: ls}]\n",
            3, 31, "",
        ),
        (
            "labsim: 1\ntitle: t\nhistory: {staging: {staging-4.4: maybe}}\nsteps: [{c0: ls}]\n",
            3, 34, "'maybe' is not allowed here; one of no, unknown, yes",
        ),
        (
            "labsim: 1\ntitle: t\ncovers: [replay-singel 1]\nsteps: [{c0: ls}]\n",
            3, 10, "unknown test suite 'replay-singel', did you mean 'replay-single'?",
        ),
        (
            "labsim: 1\ntitle: t\ncovers: [sanityn 16, sanityn]\nsteps: [{c0: ls}]\n",
            3, 22, "'sanityn' names no test; write its suite and number: replay-single 20b",
        ),
        (
            "labsim: 1\ntitle: t\nticket: LU-1\ncovers: [sanityn 16]\nsteps: [{c0: ls}]\n",
            3, 1, "'ticket' and 'covers' exclude one another",
        ),
        (
            "labsim: 1\ntitle: t\ncovers: []\nsteps: [{c0: ls}]\n",
            3, 9, "name a test, as in replay-single 20b",
        ),
        ("labsim: 1\ntitle: [\n", 3, 1, "not YAML: "),
        ("labsim: 1\ntitle: !mine t\nsteps: [{c0: ls}]\n", 2, 8, "tag '!mine' has no meaning here"),
        ("labsim: 1\ntitle: &a t\nticket: *a\nsteps: [{c0: ls}]\n", 2, 8, "'&a' is used again"),
        ("", 1, 1, "the file is empty"),
        ("just text\n", 1, 1, "a mapping is needed here, not a value"),
    ],
)  # fmt: skip
def test_where_a_file_is_wrong(text: str, line: int, column: int, what: str) -> None:
    found = problems(text)
    assert found[0][:2] == (line, column), found
    assert found[0][2].startswith(what), found


def test_known_parameters_are_not_refused() -> None:
    text = STEPS + "".join(
        f"  - c0: {command}\n"
        for command in (
            "lctl get_param osc.*.max_rpcs_in_flight osc.lustre-OST0000-osc-*.active",
            "lctl get_param ldlm.namespaces.*mdc*.pool.recalc_period *.*.import {osc,mdc}.*.active",
            "lctl get_param timeout mdt.*.md_stats osc.*.max_*",
            "lctl set_param fail_loc=0x20e fail_val=3",
            "lctl set_param -n osc.*.active 1",
            "lctl list_param -R ldlm osc.*",
        )
    )
    assert len(read(text).steps) == 6
    assert read(f"{STEPS}  - {{c0: lctl get_param no.such, errno: ENOENT}}\n").steps


def test_all_mistakes_are_told_at_once() -> None:
    text = """\
labsim: 1
titel: t
cluster: {clients: two}
steps:
  - c0: tuch f
  - wait: 5
  - c0: ls
    expct: x
    errno: NOPE
"""
    found = problems(text)
    places = [(line, column) for line, column, _ in found]
    assert places == [(1, 1), (2, 1), (3, 20), (5, 9), (6, 11), (8, 5), (9, 12)]


def test_the_message_names_file_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"{STEPS}  - c0: tuch f\n")
    with pytest.raises(InputError) as caught:
        load.load(path)
    assert str(caught.value) == f"{path}:5:9: unknown verb 'tuch', did you mean 'touch'?"


def test_a_yes_is_text_in_yaml_1_2() -> None:
    text = f"{STEPS}  - c0: echo yes\n    expect: yes\n"
    (step,) = read(text).steps
    assert isinstance(step, model.Command)
    assert step.shows.expect == "yes"


def test_scenarios_are_found_by_path_folder_and_packaged_name(tmp_path: Path) -> None:
    (path,) = load.find(["xattr/lu_10787"])
    assert path.name == "lu_10787.yaml"
    assert load.name_of(path) == "xattr/lu_10787"
    assert load.find([str(path), "xattr/lu_10787"]) == [path]
    assert len(load.find(["xattr"])) >= 4
    with pytest.raises(InputError, match="did you mean 'xattr/lu_10787'"):
        load.find(["xattr/lu_10878"])
    with pytest.raises(InputError, match="has no scenario"):
        load.find([str(tmp_path)])
    with pytest.raises(InputError, match="cannot be read"):
        load.load(tmp_path / "missing.yaml")


def test_an_overlay_that_cannot_be_imported_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import nothing_like_this\n")
    with pytest.raises(InputError, match="cannot be imported: ModuleNotFoundError"):
        load.overlays(str(path))


def test_overlays_are_those_that_the_file_declares() -> None:
    (path,) = load.find(["xattr/lu_10787"])
    (overlay,) = load.overlays(load.overlay_file(load.load(path)))
    assert overlay.__name__ == "ReplaceDeletes"
    assert load.overlays(None) == []


def test_every_kind_of_step_has_its_manual() -> None:
    from labsim.scenario.manual import STEPS
    from labsim.scenario.reader import OTHER_STEPS

    assert set(STEPS) == {*OTHER_STEPS, "power", "background"}

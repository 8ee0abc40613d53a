"""The runner: every kind of step, what it makes of failures, and what a run leaves to read."""

from __future__ import annotations

import msgspec
import pytest

from labsim.base.errors import InputError
from labsim.base.units import NS_PER_S
from labsim.scenario import kits, load, runner
from labsim.scenario.junit import junit_xml
from labsim.scenario.matrix import Matrix
from labsim.scenario.report import Told
from labsim.scenario.runner import Listener, Run
from labsim.scenario.verdict import Shown

HEAD = "labsim: 1\ntitle: t\ncluster: {clients: 2}\nsteps:\n"


class Recorder(Listener):
    """Keeps the steps in the order they ended."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []

    def step(self, shown: Shown) -> None:
        self.shown.append(shown)


def run(steps: str, head: str = HEAD) -> Run:
    text = head + "".join(f"  {line}\n" for line in steps.strip("\n").splitlines())
    return runner.run(load.load("tests/inline.yaml", text), "2.12.0")


def reasons(made: Run) -> list[str]:
    return [shown.differs for shown in made.steps if shown.differs]


def test_a_plain_run() -> None:
    made = run("- c0: echo one > f\n- c1: cat f\n  expect: one")
    assert (made.verdict, made.expected, made.ok, made.broken) == ("pass", "pass", True, [])
    assert made.virtual_ns > 0
    assert len(made.hash) == 32
    assert [shown.label for shown in made.steps] == ["c0: echo one > f", "c1: cat f"]
    assert [shown.line for shown in made.steps] == [5, 6]


def test_a_behaviour_must_hold_on_every_tree(capsys: pytest.CaptureFixture[str]) -> None:
    head = HEAD.replace("title: t\n", "title: t\ncovers: [sanityn 16, replay-dual 2]\n")
    scenario = load.load("tests/inline.yaml", head + "  - c0: touch f\n")
    assert kits.around(scenario) == ["2.12.0"]
    made = runner.run(scenario, "2.4.0")
    assert (made.verdict, made.expected) == ("pass", "pass")
    assert made.plain()["covers"] == ["sanityn 16", "replay-dual 2"]
    Told(verbose=False).scenario(scenario)
    assert capsys.readouterr().out == "tests/inline  t\n  as in sanityn 16, replay-dual 2\n"
    table = Matrix([scenario], ["2.4.0"], [made])
    (row,) = table.plain()["rows"]
    assert (row["scenario"], row["ticket"]) == ("tests/inline", "")
    assert row["covers"] == made.covers
    assert 'name="covers" value="sanityn 16, replay-dual 2"' in junit_xml([made])
    bad = runner.run(load.load("tests/inline.yaml", head + "  - c0: cat f\n"), "2.12.0")
    assert (bad.verdict, bad.expected, bad.ok) == ("fail", "pass", False)


def test_what_differs_is_said() -> None:
    made = run("- c0: echo one\n  expect: two\n- c0: cat f\n- c0: ls\n  errno: ENOENT\n- c0: ls")
    assert made.verdict == "fail"
    assert reasons(made) == [
        "'one\\n' instead of 'two'",
        "exit status 1 (ENOENT): 'cat: f: No such file or directory\\n'",
        "success, not ENOENT",
    ]


def test_what_was_saved_can_be_used() -> None:
    made = run("""
- c0: sys pwrite f hello
  errno: ENOENT
- c0: echo -n hello > f
- c0: stat -c %s f
  save: size
- c1: truncate -s $size g
- c1: stat -c %s g
  expect: $size
- c1: stat -c %s g
  expect: /^5$/
""")
    assert made.verdict == "pass", reasons(made)


def test_another_user() -> None:
    made = run("""
- c0: mkdir -m 755 d
- c0: touch d/f
  as: 500:600
  errno: EACCES
- c0: chmod 777 d
- c0: touch d/f
  as: 500:600
- c0: stat -c %u:%g d/f
  expect: 500:600
""")
    assert made.verdict == "pass", reasons(made)


def test_waiting_for_time_and_for_states() -> None:
    made = run("""
- wait: 30s
- wait: {import: FULL, on: c0}
- wait: {import: FULL, on: c0, target: lustre-OST0000}
- wait: {param: osc.*.max_rpcs_in_flight, is: 8, on: c0}
- parallel:
  - c0: sleep 2
  - c0: lctl set_param -n osc.*.max_rpcs_in_flight=9
- wait: {param: osc.*.max_rpcs_in_flight, is: 9, on: c0, within: 10s}
""")
    assert made.verdict == "pass", reasons(made)
    assert 32_000_000_000 <= made.virtual_ns < 33_000_000_000


def test_a_wait_that_is_in_vain() -> None:
    made = run("""
- wait: {param: osc.*.max_rpcs_in_flight, is: 9, on: c0, within: 10s}
- wait: {import: FULL, on: c0, target: lustre-OST0007, within: 1s}
""")
    assert made.verdict == "fail"
    first, second = reasons(made)
    assert first.startswith("not within 10s: osc.lustre-OST0000-osc-")
    assert second == "not within 1s: nothing there"
    assert made.virtual_ns == 11_000_000_000


def test_parallel_commands_start_at_once() -> None:
    made = run("""
- parallel:
  - c0: sleep 3
  - c1: sleep 2
  - c0: true
- c0: true
""")
    assert made.virtual_ns == 3_000_000_000
    assert [shown.label for shown in made.steps] == [
        "c0: true", "c1: sleep 2", "c0: sleep 3", "c0: true",
    ]  # fmt: skip


def test_a_command_that_does_not_end_cuts_the_run_short() -> None:
    made = run("- c0: sleep 100\n  within: 10s\n- c0: true")
    assert made.verdict == "fail"
    assert made.broken == ["line 5: 'c0: sleep 100' took longer than 10s"]
    assert reasons(made) == ["it did not end"]
    assert len(made.steps) == 1


def test_a_run_beyond_its_limit_tells_who_is_stuck() -> None:
    steps = "- c1: touch f\n- oss0: kill\n- net: partition c0 | mds0\n- c0: ls -l\n  within: 1h\n"
    scenario = load.load("tests/inline.yaml", HEAD.replace("steps:\n", f"steps:\n{steps}"))
    limited = msgspec.structs.replace(scenario, limit_ns=200 * NS_PER_S)
    made = runner.run(limited, "2.12.0")
    assert made.verdict == "fail"
    (story,) = made.broken
    assert story.splitlines()[:2] == ["stuck: not over after 200s", "  c0: ls -l: for 199s"]
    assert "  c0: import of lustre-MDT0000 is CONNECTING" in story.splitlines()
    assert "  oss0 is off" in story.splitlines()


def test_network_rules_act_and_are_healed() -> None:
    made = run("""
- c0: touch f
- net: delay c0 -> mds0 2s
- c0: touch f
- net: heal
- wait: 10s
- c0: touch f
- net: drop c0 -> mds0 count=1
- c0: touch f
- net: drop c0 -> mds0
""")
    assert (made.verdict, made.broken) == ("pass", []), reasons(made)
    delayed, after, resent = (shown.took_ns for shown in (made.steps[2], *made.steps[5:8:2]))
    assert delayed > 2_000_000_000 > after
    assert resent > 1_000_000_000


def test_a_partition_keeps_two_nodes_apart_until_it_is_healed() -> None:
    steps = """
- net: partition c0 | mds0
- c1: touch f
- net: heal
- c0: ls
  expect: f
"""
    assert run(steps).verdict == "pass"
    cut = run("- net: partition c0 | mds0\n- c1: touch f\n- c0: ls\n  within: 20s")
    assert cut.broken == ["line 7: 'c0: ls' took longer than 20s"]


def test_faults_are_armed_by_name_and_number_and_cured() -> None:
    made = run("""
- fault: {on: oss0, at: OST_ENOSPC, once: true}
- c0: dd if=/dev/zero of=f bs=4k count=1 status=none oflag=sync
  errno: ENOSPC
- c0: dd if=/dev/zero of=f bs=4k count=1 status=none oflag=sync
- fault: {on: oss0, at: 0x215}
- c0: dd if=/dev/zero of=f bs=4k count=1 status=none oflag=sync
  errno: ENOSPC
- fault: {on: oss0, at: OST_ENOSPC, cure: true}
- c0: dd if=/dev/zero of=f bs=4k count=1 status=none oflag=sync
- oss0: lctl set_param -n fail_loc=0x80000215
- c0: dd if=/dev/zero of=f bs=4k count=1 status=none oflag=sync
  errno: ENOSPC
- fault: {on: oss0, at: OST_BRW_PAUSE_BULK, do: delay 5s}
- c0: dd if=/dev/zero of=f bs=4k count=1 status=none oflag=sync
""")
    assert made.verdict == "pass", [reasons(made), made.broken]
    assert made.steps[-1].took_ns > 5_000_000_000


def test_a_client_is_mounted_and_unmounted() -> None:
    made = run("""
- c0: touch f
- c0: umount
- c0: ls
  status: 1
- c1: ls
  expect: f
- c0: mount
- c0: ls
  expect: f
""")
    assert (made.verdict, made.broken) == ("pass", []), reasons(made)


def test_a_node_without_power_answers_nobody() -> None:
    made = run("""
- c0: touch f
- c1: kill
- c1: ls
  status: 1
  expect: "/c1/"
- c0: ls
- c1: start
- c1: ls
  expect: f
- c1: start
""")
    assert made.verdict == "fail"
    assert reasons(made) == ["EBUSY: c1 is up already"]


def test_an_unknown_tree_is_bad_input() -> None:
    scenario = load.load("tests/inline.yaml", f"{HEAD}  - c0: ls\n")
    with pytest.raises(InputError, match="no tree is called"):
        runner.run(scenario, "9.9.9")


def test_a_tree_of_which_nothing_is_known_is_not_run() -> None:
    (path,) = load.find(["xattr/lu_3544"])
    made = runner.run(load.load(path), "staging-4.4")
    assert (made.verdict, made.expected, made.ok, made.steps) == ("unknown", "unknown", True, [])
    assert "does not tell" in made.skipped


def test_a_defect_is_a_failure_that_names_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, step: object) -> None:
        raise AssertionError("a thing that cannot be")

    monkeypatch.setattr(runner.Runner, "step", broken)
    made = run("- c0: ls")
    assert made.verdict == "fail"
    assert made.broken[0].startswith("AssertionError: a thing that cannot be (seed 1)")
    assert "event" in made.broken[0]


def test_the_listener_hears_steps_as_they_end() -> None:
    recorder = Recorder()
    scenario = load.load("tests/inline.yaml", f"{HEAD}  - c0: touch f\n  - c0: ls\n")
    runner.run(scenario, "2.12.0", listener=recorder)
    assert [(shown.step, shown.label) for shown in recorder.shown] == [
        (1, "c0: touch f"),
        (2, "c0: ls"),
    ]


def test_the_hash_depends_on_the_seed_and_on_nothing_else() -> None:
    scenario = load.load("tests/inline.yaml", f"{HEAD}  - c0: touch f\n  - c0: ls\n")
    hashes = [runner.run(scenario, "2.12.0", seed=seed).hash for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]

"""The words that break things: power, network, disks, clocks, races; and background steps."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.faults import FAIL_ONCE, Faults, Point
from labsim.base.units import NS_PER_S
from labsim.nodes.mds import points
from labsim.scenario import load, runner
from labsim.scenario.cluster import Cluster
from labsim.scenario.runner import Run

HEAD = "labsim: 1\ntitle: t\ncluster: {clients: 2}\nsteps:\n"
BLOCK = "dd if=/dev/zero of=f bs=4k count=1 status=none"


def run(steps: str, head: str = HEAD) -> Run:
    text = head + "".join(f"  {line}\n" for line in steps.strip("\n").splitlines())
    return runner.run(load.load("tests/inline.yaml", text), "2.12.0")


def reasons(made: Run) -> list[str]:
    return [*made.broken, *(shown.differs for shown in made.steps if shown.differs)]


# ---- background


def test_a_background_step_goes_on_beside_the_others() -> None:
    made = run("""
- c0: sleep 5
  background: nap
- c1: touch f
- c1: stat -c %n f
  expect: f
- wait: nap
""")
    assert (made.verdict, made.virtual_ns) == ("pass", 5 * NS_PER_S), reasons(made)
    assert [(shown.step, shown.label) for shown in made.steps] == [
        (2, "c1: touch f"), (3, "c1: stat -c %n f"), (1, "c0: sleep 5"), (4, "wait: nap"),
    ]  # fmt: skip


def test_what_a_background_step_shows_is_judged_and_saved() -> None:
    made = run("""
- c0: cat nothing
  background: reader
  errno: ENOENT
- c1: stat -c %s .
  background: size
  save: size
- wait: reader
- wait: size
- c1: echo $size
  expect: 4096
""")
    assert made.verdict == "pass", reasons(made)


def test_a_background_step_that_does_not_end_cuts_the_run_short_where_it_is_waited_for() -> None:
    made = run("- {c0: sleep 9, within: 2s, background: nap}\n- wait: 3s\n- wait: nap\n- c0: true")
    assert made.broken == ["line 5: 'c0: sleep 9' took longer than 2s"]
    assert [shown.label for shown in made.steps] == ["c0: sleep 9", "wait: 3s"]


def test_a_command_on_a_node_that_is_killed_is_killed() -> None:
    made = run("""
- c0: sleep 100
  background: nap
  status: 137
- c0: kill -9
- wait: nap
- c0: start
- c0: ls
""")
    assert made.verdict == "pass", reasons(made)


# ---- power


def test_a_server_is_power_cycled() -> None:
    made = run("""
- c0: touch f
- oss0: power-cycle
- mds0: power-cycle
- wait: 10m
- c1: touch g
- wait: 10s
- parallel: [{oss0: kill}, {mds0: kill}]
- parallel: [{oss0: start}, {mds0: start}]
- wait: 10m
- c1: ls
  expect: "/g/"
""")
    assert made.verdict == "pass", reasons(made)


def test_a_server_is_unmounted_in_order_and_mounted_again() -> None:
    made = run("""
- c0: touch f
- oss0: umount
- oss0: mount
- wait: 10m
- c0: dd if=/dev/zero of=f bs=4k count=1 status=none
""")
    assert made.verdict == "pass", reasons(made)


# ---- network


def sent(action: str, nbytes: int = 4096) -> tuple[Run, int]:
    """A run with a rule on what c0 sends to the OSS, and how many packets the rule hit."""
    made = run(f"- c0: touch f\n- net: {action}\n- c0: {BLOCK}\n- c1: stat -c %s f\n  expect: 4096")
    return made, len(made.steps)


def test_packets_that_come_twice_or_out_of_order_do_no_harm() -> None:
    for action in (
        "duplicate c0 <-> oss0",
        "duplicate c0 <-> * 3ms",
        "reorder * -> * 20ms",
        "reorder c0 <-> OST0000 1s rate=0.5",
        "duplicate c0 -> 10.0.2.1@tcp opc=OST_WRITE count=1",
    ):
        made, _ = sent(action)
        assert made.verdict == "pass", (action, reasons(made))


def test_a_partition_may_be_one_way_and_name_nids_or_targets() -> None:
    for sides in ("c0 -> oss0", "oss0 -> c0", "c0 | OST0000", "c0 | 10.0.2.1@tcp", "c0 | *"):
        made = run(
            f"- c0: touch f\n- net: partition {sides}\n- c1: ls\n- {{c0: {BLOCK}, within: 9s}}"
        )
        assert made.broken == [f"line 8: 'c0: {BLOCK}' took longer than 9s"], sides


# ---- fault points


POINTS = {name: Point(number, "", name) for number, name in enumerate(("A", "B"), start=0x101)}


class Meeting:
    """Processes that come by points of one node."""

    def __init__(self, first: str, second: str) -> None:
        from random import Random

        from labsim.runtime.sim import environment

        self.env: Any = environment()
        self.faults = Faults(self.env, Random(1))
        self.faults.race(POINTS[first].number, POINTS[second].number)
        self.passed: list[tuple[int, str]] = []

    def visit(self, after: int, point: str) -> Any:
        def visitor() -> Any:
            yield self.env.timeout(after)
            yield from self.faults.visit(POINTS[point])
            self.passed.append((self.env.now, point))

        return self.env.process(visitor())


@pytest.mark.parametrize(
    ("race", "visits", "passed"),
    [
        ("AB", [(5, "A"), (9, "B")], [(9, "B"), (9, "A")]),
        ("AB", [(5, "B"), (9, "A")], [(9, "A"), (9, "B")]),
        ("AA", [(5, "A"), (9, "A")], [(9, "A"), (9, "A")]),
        ("AB", [(5, "A"), (6, "A"), (9, "B")], [(6, "A"), (9, "B"), (9, "A")]),
        ("AB", [(5, "A"), (9, "B"), (11, "A"), (12, "B")],
         [(9, "B"), (9, "A"), (11, "A"), (12, "B")]),
    ],
)  # fmt: skip
def test_the_first_waits_for_the_second(race: str, visits: Any, passed: Any) -> None:
    meeting = Meeting(*race)
    for after, point in visits:
        meeting.visit(after, point)
    meeting.env.run()
    assert meeting.passed == passed


def test_who_waits_in_vain_is_let_go() -> None:
    meeting = Meeting("A", "B")
    meeting.visit(5, "A")
    meeting.env.run()
    assert meeting.passed == []
    meeting.faults.disarm(POINTS["B"].number)
    meeting.env.run()
    assert meeting.passed == [(5, "A")]
    meeting.visit(0, "A")
    meeting.env.run()
    assert len(meeting.passed) == 2


def test_a_race_of_two_commands_in_parallel() -> None:
    steps = """
- c0: mkdir d
- race: [MDS_REINT_DELAY, mds0:MDS_REINT_DELAY]
- parallel:
  - c0: mkdir d/one
  - c1: sh
- c0: ls d
"""
    made = run(steps.replace("c1: sh", "c1: sleep 7") + "- c1: mkdir d/two")
    assert made.steps[-2].label == "c1: sleep 7" or not made.ok
    both = run(steps.replace("c1: sh", "c1: mkdir d/two"))
    assert both.verdict == "pass", reasons(both)


def test_several_points_are_armed_at_once() -> None:
    made = run(f"""
- fault: {{on: oss0, at: OST_ENOSPC, once: true, skip: 1}}
- fault: {{on: oss0, at: OST_BRW_PAUSE_BULK, do: delay 5s, some: 1}}
- c0: {BLOCK} oflag=sync
- c0: {BLOCK} oflag=sync
  errno: ENOSPC
- c0: {BLOCK} oflag=sync
""")
    assert made.verdict == "pass", reasons(made)
    assert [shown.took_ns > 5 * NS_PER_S for shown in made.steps[2:]] == [True, False, False]


def test_points_have_lustres_numbers() -> None:
    assert points.MDS_REINT_DELAY.number | FAIL_ONCE == 0x80000142


# ---- clocks and disks


def test_a_clock_jumps_and_stays_over_a_boot() -> None:
    made = run("""
- clock: c0 jump 1h
- c0: touch f
- c1: touch g
- c0: stat -c %Y f
  expect: "/^15778404/"
- c1: stat -c %Y g
  expect: "/^15778368/"
- c0: kill
- c0: start
- c0: touch f
- c0: stat -c %Y f
  expect: "/^15778404/"
- clock: c0 jump -1h
- c0: touch f
- c0: stat -c %Y f
  expect: "/^15778368/"
""")
    assert made.verdict == "pass", reasons(made)


class Sick:
    """A disk that notes what is made of it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []

    def trouble(self, state: str, delay_ns: int) -> None:
        self.said.append((state, delay_ns))


def test_a_disk_is_told_and_made_well_at_the_end() -> None:
    with Cluster(clients=1, oss=2, osts=4) as cluster:
        machine = cluster.node("oss1").machine  # type: ignore[attr-defined]
        disks = machine.disks = {f"lustre-OST000{n}": Sick() for n in (1, 3)}
        text = HEAD.replace("clients: 2", "oss: 2, osts: 4") + (
            "  - disk: OST0003 slow 50ms\n  - disk: oss1 full\n"
        )
        scenario = load.load("tests/inline.yaml", text)
        acting = runner.Runner(cluster, scenario, runner.Listener())
        cluster.run(acting.everything())
    assert [shown.label for shown in acting.shown] == ["disk: OST0003 slow 50ms", "disk: oss1 full"]
    assert disks["lustre-OST0001"].said == [("full", 0), ("ok", 0)]
    assert disks["lustre-OST0003"].said == [("slow", 50_000_000), ("full", 0), ("ok", 0)]

"""How long a simulation takes in which there is next to nothing but waiting.

Drives a scenario from outside, as `labsim run` does.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import Any

from labsim.perf.bench import below, bench

ROUNDS = 5

HOUR = """\
labsim: 1
title: a client is cut off for an hour, with a file that it has written
cluster: {clients: 2, oss: 2}
virtual_time: true
steps:
  - c0: dd if=/dev/zero of=f bs=1M count=4 status=none
  - net: partition c0 | mds0,oss0,oss1
  - c1: touch g
  - c1: dd if=/dev/zero of=f bs=4k count=1 conv=notrunc status=none
    within: 30m
  - wait: 1h
  - net: heal
  - wait: 2m
  - c0: ls
"""


@bench("s", below(1))
def sim_hour() -> float:
    """Simulated: a scenario with an hour of timeouts, from power on to its end."""
    from labsim.scenario import load, runner

    scenario = load.load("hour.yaml", HOUR)
    return median(_seconds(runner, scenario) for _ in range(ROUNDS))


def _seconds(runner: Any, scenario: Any) -> float:
    started = perf_counter()
    with runner.cluster_of(scenario, "2.12.0") as cluster:
        acting = runner.Runner(cluster, scenario, runner.Listener())
        cluster.run(acting.everything())
    assert acting.broken == []
    return perf_counter() - started

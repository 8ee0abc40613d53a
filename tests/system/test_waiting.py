"""Waiting costs nothing: an hour of timeouts is a few thousand events of the kernel."""

from __future__ import annotations

from labsim.base.units import NS_PER_S
from labsim.scenario import load, runner

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


def test_an_hour_of_timeouts_is_over_at_once() -> None:
    scenario = load.load("tests/hour.yaml", HOUR)
    with runner.cluster_of(scenario, "2.12.0") as cluster:
        before = cluster.env.steps
        acting = runner.Runner(cluster, scenario, runner.Listener())
        cluster.run(acting.everything())
        events = cluster.env.steps - before
    assert acting.broken == []
    assert acting.ended_ns > 3600 * NS_PER_S
    # Pings every 25 s and a client that tries to connect: some ten events in a second.
    assert events < 40_000, events

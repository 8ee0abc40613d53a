"""Waiting costs nothing: an hour of timeouts is a few thousand events of the kernel."""

from __future__ import annotations

from labsim.base.units import NS_PER_S
from labsim.perf.waiting import HOUR
from labsim.scenario import load, runner


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

"""Many timers at once: the native kernel's order is SimPy's, whatever its queue makes of them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import simpy

from labsim.runtime import des

MIXES: dict[str, Callable[[Random], Any]] = {
    "alike": lambda rng: 1000 + rng.randrange(97),
    "equal": lambda rng: rng.choice((5, 5, 5, 10)),
    "far and near": lambda rng: rng.choice((rng.randrange(3), 10**9, rng.randrange(10**6))),
    "growing": lambda rng: rng.randrange(1 << rng.randrange(40)),
    "floats": lambda rng: rng.expovariate(1 / 1000),
    "floats that meet": lambda rng: rng.randrange(50) / 4,
}


def record(sim: Any, seed: int, mix: str) -> list[tuple[Any, int]]:
    """(time, process) of each timer, of processes that also cancel, fork and interrupt."""
    rng = Random(seed)
    env = sim.Environment()
    draw = MIXES[mix]
    log: list[tuple[Any, int]] = []
    alive: list[Any] = []

    def sleeper(number: int) -> Any:
        for _ in range(12):
            try:
                yield env.timeout(draw(rng))
            except sim.Interrupt:
                log.append((env.now, -number))
                continue
            log.append((env.now, number))
            if not rng.randrange(40) and len(alive) < 1500:
                alive.append(env.process(sleeper(len(alive))))
            victim = rng.choice(alive)
            if not rng.randrange(30) and victim.is_alive and victim is not env.active_process:
                victim.interrupt()

    alive += [env.process(sleeper(number)) for number in range(1, 700)]
    env.run()
    return log


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("seed", [1, 2])
def test_many_timers_keep_their_order(seed: int, mix: str) -> None:
    expected = record(simpy, seed, mix)
    assert len(expected) > 5000
    assert record(des, seed, mix) == expected

"""Timers that the collector does not know: what nobody else sees, the environment answers for."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from labsim.runtime import des


class Env(des.Environment):
    """One that can be referred to weakly."""


def waiting(env: Any, kept: list[Any]) -> Any:
    while True:
        yield env.timeout(5)
        timer = env.timeout(7)
        yield timer
        kept[:] = [timer]


@pytest.mark.parametrize("until", [3, 9, 100, 103])
def test_an_environment_that_is_dropped_takes_its_timers_along(until: int) -> None:
    env = Env()
    kept: list[Any] = []
    processes = [env.process(waiting(env, kept)) for _ in range(300)]
    env.run(until)
    generators = [weakref.ref(process._generator) for process in processes]
    gone = weakref.ref(env)
    kept.clear()
    del env, processes
    gc.collect()
    assert gone() is None
    assert not any(ref() for ref in generators)


def test_a_timer_that_somebody_has_keeps_its_environment() -> None:
    env = Env()
    kept: list[Any] = []
    env.process(waiting(env, kept))
    env.run(100)
    gone = weakref.ref(env)
    del env
    gc.collect()
    assert kept[0].env is gone()
    kept.clear()
    gc.collect()
    assert gone() is None


def test_who_is_shown_a_timer_is_shown_one_that_is_collected() -> None:
    env = des.Environment()

    def sleeper() -> Any:
        while True:
            yield env.timeout(5)

    process = env.process(sleeper())
    env.run(12)
    assert gc.is_tracked(process.target)
    env.run(17)
    assert gc.is_tracked(process._target)
    env.run(22)
    (row,) = (row for row in env._queue if isinstance(row[3], des.Timeout))
    assert gc.is_tracked(row[3]) and row[3] is process.target


def test_timers_that_are_not_yielded_at_once_are_collected() -> None:
    env = des.Environment()
    seen: list[Any] = []

    def maker() -> Any:
        seen.append(env.timeout(1))
        first, second = env.timeout(2), env.timeout(3)
        yield first | second
        env.timeout(4)
        yield env.timeout(1, "value")
        last = env.timeout(9)
        seen.append(last)
        yield last

    process = env.process(maker())
    env.run(6)
    assert all(map(gc.is_tracked, seen))
    assert gc.is_tracked(process.target)
    env.run()
    assert not process.is_alive


def interrupted() -> tuple[Any, list[Any]]:
    """An environment that has run, and when its process woke up or (negative) was woken."""
    env = Env()
    log: list[Any] = []

    def sleeper() -> Any:
        for _ in range(3):
            try:
                yield env.timeout(10)
                log.append(env.now)
            except des.Interrupt:
                log.append(-env.now)

    sleeping = env.process(sleeper())

    def waker() -> Any:
        yield env.timeout(4)
        sleeping.interrupt()

    env.process(waker())
    env.run(6)
    gc.collect()
    env.run()
    return weakref.ref(env), log


def test_a_timer_outlives_an_interrupt_and_happens_for_nobody() -> None:
    gone, log = interrupted()
    assert log == [-4, 14, 24]
    gc.collect()
    assert gone() is None

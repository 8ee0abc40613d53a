"""The simulated environment does what simpy does, and a node's power can go."""

import random

import pytest
import simpy

from labsim.base.errors import InputError
from labsim.base.faults import Crash
from labsim.runtime.sim import NodeEnvironment, SimEnvironment, environment


def storm(env, seed):
    """Processes that wait for timers, events, one another and each other's failures."""
    rng, log, events = random.Random(seed), [], []

    def child(name, depth):
        for turn in range(rng.randrange(1, 4)):
            what = rng.randrange(6)
            if what == 0:
                yield env.timeout(rng.randrange(5))
            elif what == 1:
                event = env.event()
                events.append(event)
                got = yield event | env.timeout(rng.randrange(1, 9))
                log.append((name, env.now, len(got.events)))
            elif what == 2 and events:
                event = events.pop(rng.randrange(len(events)))
                if not event.triggered:
                    event.succeed(name)
            elif what == 3 and depth < 3:
                log.append((yield env.process(child(f"{name}.{turn}", depth + 1))))
            elif what == 4 and depth < 3:
                try:
                    yield env.process(failing(depth))
                except ValueError as error:
                    log.append((name, str(error)))
            else:
                yield env.all_of([env.timeout(n) for n in range(3)])
            log.append((name, env.now, turn))
        return name

    def failing(depth):
        yield env.timeout(depth)
        raise ValueError(f"at {env.now}")

    for number in range(20):
        env.process(child(str(number), 0))
    env.run()
    return log, env.now


@pytest.fixture(params=["native", "simpy"], autouse=True)
def kernel(request, monkeypatch):
    """Everything here holds on both kernels."""
    if request.param == "native":
        pytest.importorskip("labsim.runtime.des", reason="the native modules are not built")
    monkeypatch.setenv("LABSIM_KERNEL", request.param)
    return request.param


@pytest.mark.parametrize("seed", range(8))
def test_the_order_of_events_is_simpys(seed):
    assert storm(environment(), seed) == storm(simpy.Environment(), seed)


def test_time_is_an_int():
    env = environment()
    assert env.now == 0
    env.run(env.timeout(3_600_000_000_001))
    assert type(env.now) is int


def test_run_until_a_time_stops_before_the_timers_of_that_time():
    env, log = environment(), []
    env.timeout(10).callbacks.append(lambda _: log.append(env.now))
    env.run(10)
    assert (env.now, log) == (10, [])
    env.run(11)
    assert log == [10]
    with pytest.raises(ValueError, match="already"):
        env.run(5)


def test_run_returns_the_events_value():
    env = environment()
    timer = env.timeout(1, "value")
    assert env.run(timer) == "value"
    assert env.run(timer) == "value"


def test_waiting_for_what_cannot_happen_is_told():
    env = environment()
    with pytest.raises(RuntimeError, match="nothing is left"):
        env.run(env.event())


def test_a_cancelled_event_never_happens():
    env, log = environment(), []
    timers = [env.timeout(at, at) for at in range(5)]
    for timer in timers:
        timer.callbacks.append(lambda timer: log.append(timer.value))
    assert env.cancel(timers[2]) and env.cancel(timers[4])
    assert not env.cancel(timers[2])
    assert not env.cancel(env.event())
    env.run()
    assert (log, env.now, env.steps) == ([0, 1, 3], 3, 3)
    assert not env.cancel(timers[0])


def test_a_failure_nobody_waits_for_stops_the_run():
    env = environment()

    def bad():
        yield env.timeout(1)
        raise AssertionError("a bug")

    env.process(bad())
    with pytest.raises(AssertionError, match="a bug"):
        env.run()
    assert env.steps == 3


def test_the_kernel_is_one_switch(monkeypatch):
    monkeypatch.setenv("LABSIM_KERNEL", "simpy")
    assert isinstance(environment(), SimEnvironment)
    monkeypatch.setenv("LABSIM_KERNEL", "simpy.core")
    assert type(environment()) is simpy.Environment
    monkeypatch.setenv("LABSIM_KERNEL", "no_such_kernel")
    with pytest.raises(InputError, match="no kernel 'no_such_kernel'"):
        environment()


def test_power_off_ends_every_process_and_timer_of_that_node():
    env, log = environment(), []
    node, other = NodeEnvironment(env, lambda: None), NodeEnvironment(env, lambda: None)

    def ticking(power, name):
        try:
            while True:
                yield power.timeout(10)
                log.append((name, power.now))
        finally:
            yield power.timeout(1)
            log.append("cleaned up after the power went")

    def waiting():
        yield node.process(ticking(node, "inner"))

    node.process(waiting())
    other.process(ticking(other, "other"))
    env.run(25)
    node.process(waiting())
    node.power_off()
    node.process(ticking(node, "late"))
    env.run(45)
    ticks = [("other", 10), ("inner", 10), ("other", 20), ("inner", 20)]
    other.power_off()
    env.run()
    assert log == [*ticks, ("other", 30), ("other", 40)]


def test_a_crash_that_nobody_takes_asks_for_the_power():
    env, log = environment(), []
    node = NodeEnvironment(env, lambda: log.append(env.now))

    def crashing():
        yield node.timeout(7)
        raise Crash("here")

    node.process(crashing())
    env.run()
    assert log == [7]

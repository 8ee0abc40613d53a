"""Permits, Mutex, Gate, Mailbox and Deadlines, on the simulated environment."""

import pytest

from labsim.runtime.sim import NodeEnvironment, environment
from labsim.runtime.sync import Deadlines, Gate, Mailbox, Mutex, Permits


@pytest.fixture
def env():
    return environment()


def worker(env, permits, name, log, hold=10):
    yield from permits.take()
    log.append((env.now, name))
    yield env.timeout(hold)
    permits.give()


def test_permits_admit_so_many_in_the_order_of_arrival(env):
    permits, log = Permits(env, 2), []
    for name in "abcde":
        env.process(worker(env, permits, name, log))
    env.run()
    assert log == [(0, "a"), (0, "b"), (10, "c"), (10, "d"), (20, "e")]
    assert permits.taken == 0


def test_more_permits_let_waiters_in_at_once(env):
    permits, log = Permits(env, 1), []
    for name in "abc":
        env.process(worker(env, permits, name, log))
    env.run(env.timeout(3))
    permits.resize(3)
    env.run()
    assert log == [(0, "a"), (3, "b"), (3, "c")]


def test_fewer_permits_leave_those_held_alone(env):
    permits, log = Permits(env, 3), []
    for name in "abcd":
        env.process(worker(env, permits, name, log))
    env.run(env.timeout(3))
    permits.resize(1)
    assert permits.free == -2
    env.run()
    assert log == [(0, "a"), (0, "b"), (0, "c"), (10, "d")]


def test_try_take_does_not_overtake(env):
    permits, log = Permits(env, 1), []
    assert permits.try_take()
    env.process(worker(env, permits, "a", log))
    env.run(env.timeout(1))
    assert permits.waiting == 1
    permits.give()
    assert not permits.try_take()
    env.run()
    assert log == [(1, "a")]
    assert permits.try_take()


def test_a_permit_given_twice_is_a_bug(env):
    with pytest.raises(AssertionError):
        Permits(env, 1).give()


def test_a_stopped_waiter_passes_its_permit_on(env):
    power = NodeEnvironment(env, lambda: None)
    permits, log = Permits(env, 1), []
    env.process(worker(env, permits, "holder", log))
    power.process(worker(power, permits, "dead", log))
    env.process(worker(env, permits, "next", log))
    env.run(env.timeout(5))
    power.power_off()
    env.run()
    assert log == [(0, "holder"), (10, "next")]
    assert permits.taken == 0


def test_a_mutex_has_one_holder(env):
    mutex, log = Mutex(env), []
    env.process(worker(env, mutex, "a", log))
    env.process(worker(env, mutex, "b", log))
    env.run(env.timeout(1))
    assert mutex.locked
    env.run()
    assert log == [(0, "a"), (10, "b")]
    assert not mutex.locked


def passer(env, gate, log):
    yield from gate.passed()
    log.append(env.now)


def test_a_gate_holds_until_it_opens(env):
    gate, log = Gate(env), []
    env.process(passer(env, gate, log))
    env.run(env.timeout(4))
    gate.open()
    env.process(passer(env, gate, log))
    env.run()
    assert log == [4, 4]
    gate.close()
    env.process(passer(env, gate, log))
    env.run()
    assert log == [4, 4]
    gate.pulse()
    env.run()
    assert log == [4, 4, 4]
    assert not gate.opened


def test_a_mailbox_serves_who_waits_longest(env):
    box, log = Mailbox(env), []

    def reader(name):
        for _ in range(2):
            log.append((name, (yield from box.get())))

    env.process(reader("a"))
    env.process(reader("b"))
    env.run()
    for item in range(4):
        box.put(item)
    env.run()
    assert log == [("a", 0), ("a", 2), ("b", 1), ("b", 3)]
    box.put(9)
    assert len(box) == 1


def test_deadlines_call_back_in_order_and_once(env):
    deadlines, log = Deadlines(env), []
    for at in (30, 10, 20, 10):
        deadlines.add(at, lambda at=at: log.append((env.now, at)))
    gone = deadlines.add(15, lambda: log.append("cancelled"))
    gone.cancel()
    gone.cancel()
    assert deadlines.pending == 4
    env.run()
    assert log == [(10, 10), (10, 10), (20, 20), (30, 30)]
    assert deadlines.pending == 0


def test_a_deadline_that_has_passed_is_called_at_once(env):
    deadlines, log = Deadlines(env), []
    env.run(env.timeout(100))
    deadlines.add(5, lambda: log.append(env.now))
    env.run()
    assert log == [100]


def test_a_callback_may_add_deadlines(env):
    deadlines, log = Deadlines(env), []

    def again():
        log.append(env.now)
        if env.now < 50:
            deadlines.add(env.now + 10, again)

    deadlines.add(10, again)
    deadlines.add(100, lambda: log.append("end"))
    env.run()
    assert log == [10, 20, 30, 40, 50, "end"]


def test_answered_rpcs_leave_no_timers_behind(env):
    deadlines = Deadlines(env)

    def rpcs():
        for _ in range(5000):
            deadline = deadlines.add(env.now + 100_000_000, lambda: None)
            yield env.timeout(10)
            deadline.cancel()

    env.run(env.process(rpcs()))
    assert len(deadlines._heap) < 200
    assert len(env._queue) < 5

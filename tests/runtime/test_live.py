"""The live environment: simpy's API on the wall clock."""

import os
import threading
import time

import pytest

from labsim.runtime.live import Extension, LiveEnvironment, Switchboard

MS = 1_000_000


@pytest.fixture
def env():
    env = LiveEnvironment()
    yield env
    env.close()


def test_timers_fire_in_order_and_not_early(env):
    log, start = [], env.now

    def wait(ms):
        yield env.timeout(ms * MS)
        log.append(ms)
        assert env.now - start >= ms * MS

    for ms in (30, 5, 20):
        env.process(wait(ms))
    env.run(env.timeout(40 * MS))
    assert log == [5, 20, 30]
    assert type(env.now) is int


def test_time_never_goes_back(env):
    seen = []

    def tick():
        for _ in range(300):
            yield env.timeout(0)
            seen.append(env.now)

    env.run(env.all_of([env.process(tick()), env.process(tick()), env.timeout(1 * MS)]))
    assert seen == sorted(seen)


def test_a_timer_counts_from_the_true_present(env):
    def slow():
        yield env.timeout(0)
        time.sleep(0.02)
        start = time.monotonic_ns()
        yield env.timeout(10 * MS)
        return time.monotonic_ns() - start

    assert env.run(env.process(slow())) >= 10 * MS


def test_nothing_to_wait_for_ends_the_run(env):
    env.run()
    with pytest.raises(RuntimeError, match="nothing is left"):
        env.run(env.event())


def test_run_until_a_time(env):
    until = env.now + 5 * MS
    env.run(until)
    assert env.now >= until


def test_a_failure_nobody_waits_for_stops_the_run(env):
    def bad():
        yield env.timeout(1)
        raise AssertionError("a bug")

    env.process(bad())
    with pytest.raises(AssertionError, match="a bug"):
        env.run(env.timeout(1000 * MS))


def test_offload_runs_elsewhere_in_order_and_answers_here(env):
    log, threads = [], set()

    def work(number):
        threads.add(threading.current_thread().name)
        time.sleep(0.002)
        if number == 2:
            raise OSError(number)
        return number

    finished = env.event()

    def done(outcome):
        assert threading.current_thread() is threading.main_thread()
        log.append(outcome)
        if len(log) == 4:
            finished.succeed()

    for number in range(4):
        env.offload(lambda number=number: work(number), done)
    env.run(finished)
    assert [x for x in log if not isinstance(x, OSError)] == [0, 1, 3]
    assert isinstance(log[2], OSError)
    assert threads == {"helper"}


def test_events_run_while_the_helper_works(env):
    finished, ticks = env.event(), []

    def tick():
        while not finished.triggered:
            yield env.timeout(1 * MS)
            ticks.append(env.now)

    env.process(tick())
    env.offload(lambda: time.sleep(0.03), finished.succeed)
    env.run(finished)
    assert len(ticks) > 5


def test_a_watched_descriptor_wakes_the_sleeper(env):
    read, write = os.pipe()
    got = env.event()
    env.watch(read, lambda: got.succeed(os.read(read, 100)))
    threading.Timer(0.01, lambda: os.write(write, b"ping")).start()
    assert env.run(got) == b"ping"
    env.unwatch(read)
    env.unwatch(read)
    os.close(read)
    os.close(write)


def test_a_control_line_carries_both_ways(env, tmp_path):
    path = str(tmp_path / "control")
    heard, said = env.event(), env.event()
    board = Switchboard(env, path, lambda name, data: said.succeed((name, data)))
    assert os.stat(path).st_mode & 0o777 == 0o600
    line = Extension(env, path, "mds0", heard.succeed)
    line.send(b"hello")
    assert env.run(said) == ("mds0", b"hello")
    board.send("mds0", b"order")
    assert env.run(heard) == b"order"
    board.send("nobody", b"lost")
    line.close()
    board.close()


def test_busy_processes_do_not_starve_the_sockets(env, tmp_path):
    path = str(tmp_path / "control")
    said = env.event()
    board = Switchboard(env, path, lambda name, data: said.succeed(data))
    line = Extension(env, path, "c0", lambda data: None)

    def busy():
        while True:
            yield env.timeout(0)

    env.process(busy())
    line.send(b"hello")
    assert env.run(said) == b"hello"
    line.close()
    board.close()

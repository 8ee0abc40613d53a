"""Benchmarks of the event kernel: native against SimPy, in turns, in the same process.

Does not know nodes. Each is a small program in plain SimPy that runs on both; a rate is the
median of its rounds, the ratio the median of the rounds' ratios. Memory is what the resident
set grows by, each kernel in a process of its own.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from labsim.perf.bench import BENCHES, Bench, Measured, at_least, below
from labsim.runtime import kernels

ROUNDS = 5
NATIVE, SIMPY = "native", "simpy"
MORE = 12
"""How much more work a round of the native kernel does, to take about as long as SimPy's."""

Program = Callable[[Any, int], tuple[int, float]]
"""From a package with SimPy's API and an amount of work: what was done, in how many seconds."""


def _timed(env: Any, work: int) -> tuple[int, float]:
    started = perf_counter()
    env.run()
    return work, perf_counter() - started


def timeouts(processes: int) -> Program:
    """Processes that do nothing but wait for timers of their own."""

    def program(sim: Any, work: int) -> tuple[int, float]:
        """As many processes as the name says, that do nothing but wait for timers of their own."""
        env = sim.Environment()
        each = max(work // processes, 1)

        def waiting(delay: int) -> Any:
            for _ in range(each):
                yield env.timeout(delay)

        for number in range(processes):
            env.process(waiting(1000 + number % 97))
        return _timed(env, each * processes)

    return program


def resources(sim: Any, work: int) -> tuple[int, float]:
    """100 processes take turns at 10 slots: request, a timer, release."""
    env = sim.Environment()
    slots = sim.Resource(env, capacity=10)

    def user() -> Any:
        for _ in range(work // 100):
            with slots.request() as request:
                yield request
                yield env.timeout(1)

    for _ in range(100):
        env.process(user())
    return _timed(env, work)


def resource_cycles(sim: Any, work: int) -> tuple[int, float]:
    """100 processes, each with a slot of its own: request, release, nothing in between."""
    env = sim.Environment()

    def user() -> Any:
        slot = sim.Resource(env, capacity=1)
        for _ in range(work // 100):
            request = slot.request()
            yield request
            yield slot.release(request)

    for _ in range(100):
        env.process(user())
    return _timed(env, work)


def stores(sim: Any, work: int) -> tuple[int, float]:
    """50 pairs of processes throw a ball to and fro through two stores."""
    env = sim.Environment()

    def player(out: Any, back: Any, first: bool) -> Any:
        if first:
            yield out.put(0)
        for _ in range(work // 50):
            ball = yield back.get()
            yield out.put(ball)

    for _ in range(50):
        one, two = sim.Store(env), sim.Store(env)
        env.process(player(one, two, True))
        env.process(player(two, one, False))
    return _timed(env, work)


def conditions(sim: Any, work: int) -> tuple[int, float]:
    """100 processes wait for an answer or a timeout, as a caller of an RPC would."""
    env = sim.Environment()

    def caller() -> Any:
        for _ in range(work // 100):
            answer = env.timeout(1)
            yield env.any_of([answer, env.timeout(10)])

    for _ in range(100):
        env.process(caller())
    return _timed(env, work)


def interrupts(sim: Any, work: int) -> tuple[int, float]:
    """50 processes wait, 50 interrupt them."""
    env = sim.Environment()

    def sleeper() -> Any:
        for _ in range(work // 50):
            with suppress(sim.Interrupt):
                yield env.timeout(1 << 40)

    def waker(sleeping: Any) -> Any:
        for _ in range(work // 50):
            yield env.timeout(1)
            sleeping.interrupt("up")

    for _ in range(50):
        env.process(waker(env.process(sleeper())))
    return _timed(env, work)


def rpcs(sim: Any, work: int) -> tuple[int, float]:
    """The RPC-level model: 1000 clients, 100 OSTs of 4 threads each, 8 RPCs in flight."""
    env = sim.Environment()
    flight, clients = 8, 1000
    threads = [sim.Resource(env, capacity=4) for _ in range(100)]

    def serve(ost: Any, reply: Any) -> Any:
        yield env.timeout(5_000)
        with ost.request() as thread:
            yield thread
            yield env.timeout(200_000)
        yield env.timeout(5_000)
        reply.succeed()

    def client(number: int) -> Any:
        waiting: deque[Any] = deque()
        for turn in range(max(work // clients, 1)):
            if len(waiting) == flight:
                yield waiting.popleft()
            reply = env.event()
            env.process(serve(threads[(number + turn) % 100], reply))
            waiting.append(reply)
        yield env.all_of(waiting)

    for number in range(clients):
        env.process(client(number))
    return _timed(env, max(work // clients, 1) * clients)


PROGRAMS: dict[str, tuple[Program, int]] = {
    "timeouts_1": (timeouts(1), 60_000),
    "timeouts_100": (timeouts(100), 60_000),
    "timeouts_10k": (timeouts(10_000), 40_000),
    "timeouts_1m": (timeouts(1_000_000), 1_000_000),
    "resource_cycles": (resource_cycles, 10_000),
    "resource_queue": (resources, 10_000),
    "store_pingpong": (stores, 10_000),
    "anyof_timeout": (conditions, 8_000),
    "interrupts": (interrupts, 8_000),
    "rpc_model": (rpcs, 16_000),
}
"""What is measured, with how much work a round of SimPy does."""

AIMS = {
    "timeouts_100": at_least(12), "timeouts_1m": at_least(10), "resource_cycles": at_least(30),
    "store_pingpong": at_least(30), "anyof_timeout": at_least(8), "memory": below(1),
}  # fmt: skip


def _rate(program: Program, name: str, work: int) -> float:
    gc.collect()
    done, seconds = program(kernels.package(name), work)
    return done / seconds


def _compare(name: str) -> Measured:
    program, work = PROGRAMS[name]
    huge = work >= 1_000_000
    rates: dict[str, list[float]] = {NATIVE: [], SIMPY: []}
    for _ in range(2 if huge else ROUNDS):
        rates[SIMPY].append(_rate(program, SIMPY, work))
        rates[NATIVE].append(_rate(program, NATIVE, work if huge else work * MORE))
    ratios = [fast / slow for fast, slow in zip(rates[NATIVE], rates[SIMPY], strict=True)]
    parts = {f"{kernel}_per_s": round(median(rates[kernel])) for kernel in rates}
    return Measured(median(ratios), parts)


def _resident() -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.split("VmRSS:")[1].split()[0]) * 1024


def grown(name: str, processes: int) -> float:
    """Bytes per process, while all of them wait for their first timer, in this process."""
    sim = kernels.package(name)
    env = sim.Environment()
    before = _resident()

    def waiting() -> Any:
        yield env.timeout(5)

    for _ in range(processes):
        env.process(waiting())
    env.run(until=1)
    return (_resident() - before) / processes


def _memory() -> Measured:
    """Memory of 200 000 processes that wait, against SimPy's."""
    used = {}
    for name in (NATIVE, SIMPY):
        program = f"from labsim.perf.kernel import grown; print(grown({name!r}, 200_000))"
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        )
        used[f"{name}_bytes"] = round(float(done.stdout))
    return Measured(used["native_bytes"] / used["simpy_bytes"], dict(used))


def _cluster() -> Measured:
    """The processor time of a simulated cluster at work: SimPy's, divided by the native kernel's.

    1000 setxattrs and some writes through the whole stack of a client, an MDS and an OSS.
    """
    from labsim.perf import clusters

    used: dict[str, list[float]] = {SIMPY: [], NATIVE: []}
    before = os.environ.get(kernels.KERNEL_VARIABLE)
    try:
        for _ in range(3):
            for name, seconds in used.items():
                os.environ[kernels.KERNEL_VARIABLE] = name
                gc.collect()
                started = process_time()
                clusters.sim_setxattr()
                clusters.sim_write_1m()
                seconds.append(process_time() - started)
    finally:
        os.environ.pop(kernels.KERNEL_VARIABLE)
        if before is not None:
            os.environ[kernels.KERNEL_VARIABLE] = before
    ratios = [slow / fast for fast, slow in zip(used[NATIVE], used[SIMPY], strict=True)]
    parts = {f"{kernel}_s": round(median(used[kernel]), 2) for kernel in used}
    return Measured(median(ratios), parts)


def _register() -> None:
    for name, (program, _) in PROGRAMS.items():
        what, aim = str(program.__doc__), AIMS.get(name)
        run = partial(_compare, name)
        BENCHES[f"kernel_{name}"] = Bench(run, "x SimPy's rate", what, aim)
    for name, run, unit in (
        ("cluster", _cluster, "x SimPy's speed"),
        ("memory", _memory, "x SimPy's bytes per process"),
    ):
        what = str(run.__doc__).partition("\n")[0]
        BENCHES[f"kernel_{name}"] = Bench(run, unit, what, AIMS.get(name))


_register()

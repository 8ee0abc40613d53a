"""A million processes, and how many bytes are more in use after them than before.

    python -m tests.runtime.des.crowd

Prints what tracemalloc sees for 20 000 of them, and what the resident set grew by for all.
"""

from __future__ import annotations

import gc
import os
import tracemalloc
from contextlib import suppress
from pathlib import Path

from labsim.runtime import des


def crowd(count):
    """Processes that run, wait for each other and are interrupted, and an environment to drop."""
    env = des.Environment()
    slots, store = des.Resource(env, 2), des.Store(env)

    def one(number):
        with suppress(des.Interrupt, ValueError):
            if number % 5 == 0:
                with slots.request() as request:
                    yield request | env.timeout(3)
            elif number % 5 == 1:
                yield store.put(number)
                yield store.get()
            elif number % 5 == 2:
                yield env.timeout(1) & env.timeout(2)
                raise ValueError(number)
            else:
                yield env.timeout(10)

    def waker(processes):
        yield env.timeout(1)
        for process in processes[::7]:
            if process.is_alive:
                process.interrupt("up")

    env.process(waker([env.process(one(number)) for number in range(count)]))
    env.run(until=5)


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main():
    tracemalloc.start(1)
    for _ in range(2):  # fills the free lists
        crowd(25_000)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(10):
        crowd(2000)
    gc.collect()
    traced = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    for _ in range(100):
        crowd(2000)
    gc.collect()
    before = resident()
    for _ in range(400):
        crowd(2000)
    gc.collect()
    print(traced, resident() - before)


if __name__ == "__main__":
    main()

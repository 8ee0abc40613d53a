"""Random programs on the event kernel, for crashes, leaks of references and differences.

    python native/des/fuzz.py [--seconds 10] [--seed N] [--sanitize]

With --sanitize the module is built for the run under AddressSanitizer and UBSan, without its free
lists, and Python allocates with malloc, so that each object that is used after it was freed is
found. Each round runs a program on SimPy too and compares, or breaks off in the middle: drops the
environment, closes generators, collects garbage, cancels events, counts time in odd numbers.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from heapq import heapify
from pathlib import Path
from time import monotonic
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODULE = "LABSIM_FUZZ_MODULE"
sys.path.insert(0, str(ROOT))


def build(place: str) -> str:
    """The module under the sanitizers; its path."""
    target = f"{place}/_des.so"
    sources = [str(path) for path in sorted(HERE.glob("des*.c")) if path.stem != "des_test"]
    flags = ["-std=c11", "-O1", "-g", "-DDES_NO_FREE_LISTS", "-fPIC", "-shared", "-UNDEBUG"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    include = sysconfig.get_paths()["include"]
    subprocess.run(["cc", *flags, f"-I{include}", *sources, "-o", target], check=True)
    return target


def libraries() -> str:
    """The sanitizers' libraries, to be loaded before Python."""
    names = ("libasan.so", "libubsan.so")
    found = [
        subprocess.run(
            ["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in names
    ]
    return " ".join(found)


def sanitized(arguments: list[str]) -> int:
    """Run this again with the module built under the sanitizers."""
    with tempfile.TemporaryDirectory() as place:
        env = {
            **os.environ,
            MODULE: build(place),
            "LD_PRELOAD": libraries(),
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": "detect_leaks=0",
        }
        return subprocess.run(
            [sys.executable, __file__, *arguments], env=env, check=False
        ).returncode


def load() -> Any:
    """The package, on the module that was built for this run if there is one."""
    path = os.environ.get(MODULE)
    if path:
        spec = importlib.util.spec_from_file_location("labsim._des", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules["labsim._des"] = module
    return importlib.import_module("labsim.runtime.des")


def tree(rng: random.Random, depth: int = 0) -> Any:
    """What a process waits for."""
    kind = rng.choice(["timeout", "timeout", "event", "process", "all", "any", "and", "or"])
    if kind == "timeout" or depth > 2:
        return ("timeout", rng.choice([0, 0, 1, 2, 3, 0.5, 1.5]))
    if kind in ("event", "process"):
        return (kind, rng.randrange(4))
    return (kind, [tree(rng, depth + 1) for _ in range(rng.randrange(4))])


def step(rng: random.Random, depth: int = 0) -> Any:
    """One step of a process, as in tests/parity/programs.py."""
    inner = depth < 3
    store = rng.choice(["store", "filter", "priority"])
    number = rng.randrange(4)
    choices = [
        ("wait", tree(rng)),
        ("wait", tree(rng)),
        ("succeed", number, 5),
        ("fail", number),
        ("defuse", number),
        ("trigger", number, rng.randrange(4)),
        ("callback", number),
        ("interrupt", number),
        ("schedule", number, rng.randrange(-2, 3)),
        ("put", store, number),
        ("get", store, number),
        ("pour", number),
        ("drain", number),
        ("release_early", number),
    ]
    if rng.random() < 0.05:
        choices = [("raise",), ("yield_nonsense",), ("negative",)]
    if inner and rng.random() < 0.4:
        few = [step(rng, depth + 1) for _ in range(rng.randrange(3))]
        choices = [
            ("use", rng.randrange(3), number, rng.random() < 0.5, step(rng, depth + 1)),
            ("spawn", few, rng.random() < 0.5),
            ("try", step(rng, depth + 1)),
        ]
    return rng.choice(choices)


def program(rng: random.Random) -> dict[str, Any]:
    """A whole program."""
    return {
        "start": rng.choice([0, 0, 0, 5, 0.25, 2**62, 2**70, -3]),
        "capacity": rng.randrange(1, 4),
        "processes": [
            [step(rng) for _ in range(rng.randrange(8))] for _ in range(rng.randrange(1, 8))
        ],
        "until": [rng.randrange(1, 9) for _ in range(rng.randrange(3))],
    }


def numbers(rng: random.Random) -> Iterator[Any]:
    """Delays of all kinds that Python can add and compare."""
    while True:
        yield rng.choice(
            [0, 1, 2**40, 2**61, 0.5, 1e300, True, Fraction(1, 3), 2**64, float("inf"), 7, 3]
        )


def break_off(sim: Any, rng: random.Random, program: dict[str, Any]) -> None:
    """Run a while, then let go of everything in some order."""
    from tests.parity.programs import World

    world = World(sim, program)
    for _ in range(rng.randrange(60)):
        with suppress(Exception):
            world.env.step()
        if rng.random() < 0.1:
            world.env.cancel(rng.choice([*world.events, *world.processes]))
        if rng.random() < 0.05:
            generator = rng.choice(world.processes)._generator
            with suppress(ValueError, RuntimeError, Exception):
                generator.close()
        if rng.random() < 0.05:
            gc.collect()
    parts = [world.env, world.processes, world.events, world.slots, world.stores]
    rng.shuffle(parts)
    del world
    while parts:
        parts.pop()
        if rng.random() < 0.3:
            gc.collect()


def cancel(env: Any, event: Any) -> bool:
    """The native kernel's cancel, on both."""
    if hasattr(env, "cancel"):
        return bool(env.cancel(event))
    count = len(env._queue)
    env._queue[:] = [entry for entry in env._queue if entry[3] is not event]
    heapify(env._queue)
    return len(env._queue) < count


def odd_times(sim: Any, seed: int) -> list[str]:
    """Schedules in all modes of the queue; what happened, in order."""
    rng = random.Random(seed)
    env = sim.Environment(rng.choice([0, 0.0, Fraction(0), 2**63, -(2**63), Decimal(3)]))
    some, seen = numbers(rng), []
    for _ in range(rng.randrange(80)):
        try:
            timer = env.timeout(next(some))
            timer.callbacks.append(lambda timer: seen.append(f"{env.now!r} {timer._delay!r}"))
            if rng.random() < 0.2:
                seen.append(str(cancel(env, timer)))
        except TypeError as error:
            seen.append(str(error))
        if rng.random() < 0.2:
            with suppress(sim.core.EmptySchedule):
                env.step()
        if rng.random() < 0.1:
            env.schedule(sim.Event(env), rng.choice([0, 1, -5, 2**40, 0.5]), rng.choice([0, 3]))
            with suppress(AttributeError, TypeError):
                env.run()
    return [*seen, repr(env.now), repr(env._eid)]


def rounds(sim: Any, seconds: float, seed: int) -> int:
    """Fuzz for so long; the number of rounds."""
    import simpy

    from tests.parity.programs import trace

    until, count = monotonic() + seconds, 0
    while monotonic() < until:
        rng = random.Random(seed + count)
        data = program(rng)
        try:
            kind = rng.randrange(4)
            if kind == 0:
                break_off(sim, rng, data)
            elif kind == 1:
                assert odd_times(sim, seed + count) == odd_times(simpy, seed + count)
            else:
                assert trace(sim, data, kind == 2) == trace(simpy, data, kind == 2)
        except BaseException:
            print(f"seed {seed + count}: {data}", file=sys.stderr)
            raise
        count += 1
        if count % 50 == 0:
            gc.collect()
    return count


def main() -> int:
    """Run, and say how many rounds passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sanitize", action="store_true")
    given = parser.parse_args()
    if given.sanitize:
        return sanitized(["--seconds", str(given.seconds), "--seed", str(given.seed)])
    count = rounds(load(), given.seconds, given.seed)
    print(f"{count} rounds from seed {given.seed} on: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())

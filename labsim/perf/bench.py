"""Benchmarks: named measurements, each made now, on this machine.

Does not know how results are shown. A benchmark is a function that returns a number; it says its
unit, and the command that measures it again.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

from labsim.base.errors import InputError


class Measured(NamedTuple):
    """A value, and what it was made of."""

    value: float
    parts: dict[str, float]


class Bench(NamedTuple):
    """One benchmark: what it measures, in which unit."""

    run: Callable[[], float | Measured]
    unit: str


BENCHES: dict[str, Bench] = {}


def bench(unit: str) -> Callable[[Callable[[], float]], Callable[[], float]]:
    """Make a function a benchmark of its name."""

    def register(run: Callable[[], float]) -> Callable[[], float]:
        assert run.__doc__, "a benchmark says what it measures"
        BENCHES[run.__name__] = Bench(run, unit)
        return run

    return register


def chosen(names: tuple[str, ...]) -> list[str]:
    """The benchmarks that these names mean: all, some, or a group by what their names begin with.

    InputError with a did-you-mean for a name that means none.
    """
    found: list[str] = [] if names else list(BENCHES)
    for name in names:
        group = [one for one in BENCHES if one == name or one.startswith(f"{name}_")]
        if not group:
            from labsim.scenario.suggest import nearest

            raise InputError(f"no benchmark '{name}'{nearest(name, BENCHES)}")
        found += group
    return list(dict.fromkeys(found))


def measure(name: str) -> dict[str, Any]:
    """One benchmark's {value, unit, command}, and the parts it was made of."""
    found = BENCHES[name]
    measured = found.run()
    value, parts = measured if isinstance(measured, Measured) else (measured, {})
    digits = 3 if value < 10 else 1
    return {
        "value": round(value, digits),
        "unit": found.unit,
        **parts,
        "command": f"labsim bench {name} --json",
    }


def _seconds(arguments: list[str], times: int = 3) -> float:
    """The best of some runs of a whole process, in seconds."""
    best = float("inf")
    for _ in range(times):
        started = perf_counter()
        subprocess.run(
            [sys.executable, "-m", "labsim", *arguments], check=True, capture_output=True
        )
        best = min(best, perf_counter() - started)
    return best


@bench("s")
def startup_run() -> float:
    """`labsim run` of one scenario on one tree, with Python's own start."""
    return _seconds(["run", "xattr/lu_10787", "--tree", "2.12.0", "--json"])


@bench("s")
def startup_version() -> float:
    """`labsim --version`, with Python's own start."""
    return _seconds(["--version"])

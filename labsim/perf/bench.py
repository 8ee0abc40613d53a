"""Benchmarks: named measurements, each made now, on this machine.

Does not know how results are shown. A benchmark is a function that returns a number; it says its
unit, what labsim is to reach, and the command that measures it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from labsim.base.errors import InputError


class Measured(NamedTuple):
    """A value, and what it was made of."""

    value: float
    parts: dict[str, float]


class Aim(NamedTuple):
    """What is to be reached: a bound of the value, or of one of the parts it was made of."""

    bound: float
    least: bool
    part: str = ""

    def __str__(self) -> str:
        words = f"{'at least' if self.least else 'below'} {self.bound:g}"
        return f"{self.part} {words}" if self.part else words

    def reached(self, measured: Measured) -> bool:
        """Does a measurement keep the bound?"""
        value = measured.parts[self.part] if self.part else measured.value
        return value >= self.bound if self.least else value < self.bound


def at_least(bound: float) -> Aim:
    """The value is to be that large."""
    return Aim(bound, True)


def below(bound: float, part: str = "") -> Aim:
    """The value, or the part of that name, is to be smaller."""
    return Aim(bound, False, part)


class Bench(NamedTuple):
    """One benchmark: in which unit and what it measures, and what is to be reached."""

    run: Callable[[], float | Measured]
    unit: str
    what: str
    aim: Aim | None = None


Run = TypeVar("Run", bound=Callable[[], Any])

BENCHES: dict[str, Bench] = {}


def bench(unit: str, aim: Aim | None = None) -> Callable[[Run], Run]:
    """Make a function a benchmark of its name; its docstring says what it measures."""

    def register(run: Run) -> Run:
        assert run.__doc__, "a benchmark says what it measures"
        BENCHES[run.__name__] = Bench(run, unit, run.__doc__.partition("\n")[0], aim)
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
    """One benchmark's {value, unit, command}, its aim, and the parts it was made of."""
    found = BENCHES[name]
    measured = found.run()
    if not isinstance(measured, Measured):
        measured = Measured(measured, {})
    digits = 3 if measured.value < 10 else 1
    aim = {}
    if found.aim is not None:
        aim = {"aim": str(found.aim), "reached": found.aim.reached(measured)}
    return {
        "value": round(measured.value, digits),
        "unit": found.unit,
        **aim,
        **measured.parts,
        "command": f"labsim bench {name} --json",
    }


def machine() -> str:
    """What the numbers depend on: processors, and how busy they are before."""
    cpus, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    busy = "; others are at work, an idle machine reaches more" if load > cpus / 2 else ""
    return f"{cpus} CPUs, load {load:.1f}{busy}"


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


@bench("s", below(0.8))
def startup_run() -> float:
    """`labsim run` of one scenario on one tree, with Python's own start."""
    return _seconds(["run", "xattr/lu_10787", "--tree", "2.12.0", "--json"])


@bench("s")
def startup_version() -> float:
    """`labsim --version`, with Python's own start."""
    return _seconds(["--version"])

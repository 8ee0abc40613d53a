"""The environment and how a run ends, as in `simpy.core`.

Does not know resources. Stands for the kernel's scheduler and timers.
"""

from __future__ import annotations

from typing import Any

from labsim import _des
from labsim._des import BoundClass, Infinity
from labsim.runtime.des.events import (
    NORMAL,
    URGENT,
    AllOf,
    AnyOf,
    Event,
    EventPriority,
    Process,
    Timeout,
    _describe_frame,
)
from labsim.runtime.des.exceptions import Interrupt

__all__ = [
    "NORMAL",
    "URGENT",
    "AllOf",
    "AnyOf",
    "BoundClass",
    "EmptySchedule",
    "Environment",
    "Event",
    "EventPriority",
    "Infinity",
    "Process",
    "SimTime",
    "StopSimulation",
    "Timeout",
]

SimTime = int | float


class Environment(_des.Environment):
    """Simulated time, passing from event to event, from `initial_time` on.

    A class of Python's own, so that CPython can look up its methods the fast way.
    """


class EmptySchedule(Exception):
    """Nothing is left to happen."""


class StopSimulation(Exception):
    """Ends the run; its argument is what `run` returns."""

    @classmethod
    def callback(cls, event: Any) -> None:
        """As a callback of the event that a run waits for: end the run with its outcome."""
        if event.ok:
            raise cls(event.value)
        raise event._value


_des.link(
    Interrupt=Interrupt,
    StopSimulation=StopSimulation,
    EmptySchedule=EmptySchedule,
    describe_frame=_describe_frame,
)

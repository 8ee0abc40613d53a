"""The kinds of events, as in `simpy.events`; the native module has them all.

Does not know environments. Stands for the kernel's completions and wait queues.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import FrameType
from typing import Any, NewType

from labsim._des import (
    PENDING,
    AllOf,
    AnyOf,
    Condition,
    ConditionValue,
    Event,
    Initialize,
    Interruption,
    Process,
    Timeout,
)
from labsim.runtime.des.exceptions import Interrupt

__all__ = [
    "NORMAL",
    "PENDING",
    "URGENT",
    "AllOf",
    "AnyOf",
    "Condition",
    "ConditionValue",
    "Event",
    "EventCallback",
    "EventCallbacks",
    "EventPriority",
    "Initialize",
    "Interrupt",
    "Interruption",
    "Process",
    "ProcessGenerator",
    "Timeout",
]

EventPriority = NewType("EventPriority", int)
EventCallback = Callable[[Any], None]
EventCallbacks = list[EventCallback]
ProcessGenerator = Generator[Event, Any, Any]

URGENT: EventPriority = EventPriority(0)
"""Priority of interrupts and of the first step of a process."""
NORMAL: EventPriority = EventPriority(1)
"""Priority of everything else."""


def _describe_frame(frame: FrameType) -> str:
    """Where a generator stands, as a traceback shows it, with the line of its source."""
    code, number = frame.f_code, frame.f_lineno
    place = f'  File "{code.co_filename}", line {number}, in {code.co_name}\n'
    with open(code.co_filename, encoding="utf-8", errors="replace") as source:
        for at, line in enumerate(source, start=1):
            if at == number:
                return f"{place}    {line.strip()}\n"
    return place

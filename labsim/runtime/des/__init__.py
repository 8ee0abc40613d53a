"""A native event kernel with SimPy's API and event order: a drop-in for `simpy`.

Does not know nodes. Every module here has the name and the content of SimPy's own; what it does
is documented by SimPy's documentation, and docs/kernel.md lists the deviations. One addition:
`Environment.cancel(event)` takes an event out of the schedule. Stands for the kernel's scheduler
and timers.
"""

from __future__ import annotations

from labsim.runtime.des import core, events, exceptions, resources, rt, util
from labsim.runtime.des.core import Environment
from labsim.runtime.des.events import AllOf, AnyOf, Event, Process, Timeout
from labsim.runtime.des.exceptions import Interrupt, SimPyException
from labsim.runtime.des.resources.container import Container
from labsim.runtime.des.resources.resource import (
    PreemptiveResource,
    PriorityResource,
    Resource,
)
from labsim.runtime.des.resources.store import FilterStore, PriorityItem, PriorityStore, Store
from labsim.runtime.des.rt import RealtimeEnvironment

__all__ = [
    "AllOf",
    "AnyOf",
    "Container",
    "Environment",
    "Event",
    "FilterStore",
    "Interrupt",
    "PreemptiveResource",
    "PriorityItem",
    "PriorityResource",
    "PriorityStore",
    "Process",
    "RealtimeEnvironment",
    "Resource",
    "SimPyException",
    "Store",
    "Timeout",
    "core",
    "events",
    "exceptions",
    "resources",
    "rt",
    "util",
]

__version__ = "4.1.2"
"""The version of SimPy whose behaviour this is."""

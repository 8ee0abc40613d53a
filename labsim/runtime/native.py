"""The simulated environment on the native kernel, for who chose it with `LABSIM_KERNEL`.

Does not know nodes. Imports the native module, so only sim.py imports this, and only when it is
asked for. Stands for the kernel's scheduler and timers.
"""

from __future__ import annotations

from labsim.runtime.des.core import Environment, StopSimulation
from labsim.runtime.des.events import Event
from labsim.runtime.sim import Runs


class NativeEnvironment(Runs, Environment):
    """The same as SimEnvironment: an unhandled failure is raised as it is, not as a copy."""

    kernel_event = Event
    kernel_stop = StopSimulation

    def __init__(self) -> None:
        super().__init__(0)
        self._reraise = True

    @property
    def steps(self) -> int:
        """Events run so far: names the place when an assertion stops the run."""
        return self._steps

"""An environment whose steps wait for the wall clock, as in `simpy.rt`.

Does not know sockets: see runtime/live.py for a clock that sleeps in a poller.
"""

from __future__ import annotations

from time import monotonic, sleep

from labsim.runtime.des.core import EmptySchedule, Environment, Infinity, SimTime

__all__ = ["RealtimeEnvironment"]


class RealtimeEnvironment(Environment):
    """One unit of simulated time takes `factor` seconds.

    `strict`: RuntimeError when an event is more than one unit late.
    """

    def __init__(self, initial_time: SimTime = 0, factor: float = 1.0, strict: bool = True) -> None:
        super().__init__(initial_time)
        self.env_start = initial_time
        self.real_start = monotonic()
        self._factor = factor
        self._strict = strict

    @property
    def factor(self) -> float:
        """Seconds per unit of simulated time."""
        return self._factor

    @property
    def strict(self) -> bool:
        """Whether being late is an error."""
        return self._strict

    def sync(self) -> None:
        """Let the present of the wall clock be the environment's start."""
        self.real_start = monotonic()

    def step(self) -> None:
        """Sleep until the next event is due, then process it."""
        due = self.peek()
        if due == Infinity:
            raise EmptySchedule
        real_due = self.real_start + (due - self.env_start) * self.factor
        late = monotonic() - real_due
        if self.strict and late > self.factor:
            raise RuntimeError(f"Simulation too slow for real time ({late:.3f}s).")
        while (left := real_due - monotonic()) > 0:
            sleep(left)
        super().step()

"""The seam: everything a node may touch.

Does not know which runtime stands behind it; only `scenario/cluster.py` does. Stands for the kernel
under Lustre's modules: scheduler, network, disks, clock.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from labsim.base.draws import Draws
from labsim.base.faults import Faults
from labsim.base.overlay import Kit
from labsim.base.trace import NodeTrace
from labsim.base.units import NS_PER_S

T = TypeVar("T")
Steps: TypeAlias = Generator[Any, Any, T]
"""A generator that yields events of the env and returns a T."""


class Env(Protocol):
    """simpy's API with int nanoseconds."""

    @property
    def now(self) -> int:
        """Nanoseconds since the run began."""
        ...

    @property
    def active_process(self) -> Any:
        """The process that runs just now, None where none does."""
        ...

    def timeout(self, delay: int, value: Any = None) -> Any:
        """An event that happens after `delay` nanoseconds."""
        ...

    def event(self) -> Any:
        """An event that somebody will make happen."""
        ...

    def process(self, generator: Generator[Any, Any, Any]) -> Any:
        """Run a generator beside its caller; an event for its end."""
        ...

    def all_of(self, events: Any) -> Any:
        """An event for when all of these have happened."""
        ...

    def any_of(self, events: Any) -> Any:
        """An event for when one of these has happened."""
        ...


class Clock:
    """A node's clocks: monotonic time, the date that Lustre puts on the wire, and jiffies.

    They are kept apart because ports between them brought regressions. `hz` is the kernel's HZ.
    """

    __slots__ = ("_env", "epoch_ns", "hz")

    def __init__(self, env: Env, epoch_ns: int = 0, hz: int = 1000) -> None:
        self._env = env
        self.epoch_ns = epoch_ns
        self.hz = hz

    @property
    def now_ns(self) -> int:
        """Monotonic nanoseconds of the run."""
        return self._env.now

    def wall_ns(self) -> int:
        """The date, in nanoseconds since 1970."""
        return self.epoch_ns + self._env.now

    def seconds(self) -> int:
        """The date, in seconds since 1970."""
        return (self.epoch_ns + self._env.now) // NS_PER_S

    def jiffies(self) -> int:
        """Ticks since boot; starts 300 s before it wraps at 2**32, as INITIAL_JIFFIES does."""
        return (1 << 32) - 300 * self.hz + self._env.now * self.hz // NS_PER_S


class Host(NamedTuple):
    """What a node is given, and all that it may touch."""

    name: str
    env: Env
    lnet: Any
    osd: Any
    rng: Draws
    params: Any
    faults: Faults
    trace: NodeTrace
    clock: Clock
    kit: Kit

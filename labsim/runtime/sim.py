"""The simulated runtime: virtual time that jumps from event to event.

Does not know nodes. Stands for the kernel's scheduler and timers. `LABSIM_KERNEL` chooses who runs
the events: "native" (C), "simpy" (its twin and oracle, and what LABSIM_PURE=1 chooses), or the
name of a module that offers the same API and event order as a class `Environment`.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop
from importlib import import_module
from typing import Any

import simpy
from simpy.core import StopSimulation
from simpy.events import URGENT

from labsim.base.errors import InputError
from labsim.base.faults import Crash
from labsim.runtime import kernels
from labsim.runtime.kernels import KERNEL_VARIABLE


class Runs:
    """How a simulation runs, on either kernel: `now` is int nanoseconds from 0 on."""

    kernel_event: Any
    """The kernel's own Event and StopSimulation."""
    kernel_stop: Any

    def run(self: Any, until: Any = None) -> Any:
        """As simpy's: until an event has happened, a time is reached, or nothing is left."""
        if until is None:
            self._drain()
            return None
        if not isinstance(until, self.kernel_event):
            until = self._moment(until)
        elif until.callbacks is None:
            return until.value
        until.callbacks.append(self.kernel_stop.callback)
        try:
            self._drain()
        except self.kernel_stop as stop:
            return stop.args[0]
        raise RuntimeError("nothing is left to happen, and what the run waits for has not happened")

    def _moment(self: Any, at_ns: int) -> Any:
        """An event at that time, ahead of all timers of that time."""
        if at_ns <= self._now:
            raise ValueError(f"the run is at {self._now} ns already, past {at_ns}")
        event = self.kernel_event(self)
        event._ok, event._value = True, None
        self.schedule(event, URGENT, at_ns - self._now)
        return event


class SimEnvironment(Runs, simpy.Environment):
    """simpy with its loop unrolled."""

    kernel_event = simpy.Event
    kernel_stop = StopSimulation

    def __init__(self) -> None:
        super().__init__(0)
        self.steps = 0
        """Events run so far: names the place when an assertion stops the run."""

    def cancel(self, event: Any) -> bool:
        """Take an event out of the schedule, as the native kernel can; False if not in it."""
        queue = self._queue
        count = len(queue)
        queue[:] = [entry for entry in queue if entry[3] is not event]
        heapify(queue)
        return len(queue) < count

    def _drain(self) -> None:
        """Run events until none is left; the hottest loop of a simulation."""
        queue = self._queue
        steps = self.steps
        try:
            while queue:
                steps += 1
                self._now, _, _, event = heappop(queue)
                callbacks, event.callbacks = event.callbacks, None
                try:
                    for callback in callbacks:
                        callback(event)
                except StopSimulation:
                    event.callbacks = callbacks[callbacks.index(callback) + 1 :]
                    self.schedule(event, -1)
                    raise
                if not event._ok and not hasattr(event, "_defused"):
                    raise event._value
        finally:
            self.steps = steps


class PowerLoss(BaseException):
    """Thrown into the processes of a node whose power goes; nobody catches it."""


class NodeEnvironment:
    """One node's view of the environment, which can lose its power.

    What the node started runs in the environment that all share. `power_off` ends it all: its
    processes go no further, what it starts from then on never runs. `on_crash` is called when a
    process meets a fault point that takes the power, and has nobody to tell.
    """

    def __init__(self, env: Any, on_crash: Callable[[], None]) -> None:
        self._env = env
        self._on_crash = on_crash
        self._processes: dict[Any, None] = {}
        self.powered = True
        self.timeout = env.timeout
        self.event = env.event
        self.all_of = env.all_of
        self.any_of = env.any_of

    @property
    def now(self) -> int:
        """Nanoseconds since the start of the run."""
        now: int = self._env._now
        return now

    @property
    def active_process(self) -> Any:
        """The process that runs just now."""
        return self._env.active_process

    def process(self, generator: Any) -> Any:
        """Run a generator until it returns or the power goes."""
        if not self.powered:
            generator.close()
            return self._env.event()
        process = self._env.process(generator)
        self._processes[process] = None
        process.callbacks.append(self._ended)
        return process

    def _ended(self, process: Any) -> None:
        self._processes.pop(process, None)
        if not process._ok and isinstance(process._value, Crash):
            process._defused = True
            self._on_crash()

    def power_off(self) -> None:
        """Stop every process where it stands. Not to be called by one of them."""
        self.powered = False
        processes, self._processes = self._processes, {}
        for process in processes:
            target = process._target
            if target is not None and target.callbacks is not None:
                target.callbacks.remove(process._resume)
            _stop(process._generator)


def _stop(generator: Any) -> None:
    """End a generator; what it still waits for while it cleans up, it does not get."""
    for _ in range(100):
        try:
            generator.throw(PowerLoss)
        except (PowerLoss, Exception):
            return
    raise AssertionError("a process does not end when its power goes")


def environment() -> Any:
    """A fresh simulated environment from the kernel that `LABSIM_KERNEL` names."""
    name = kernels.chosen()
    if name == "simpy":
        return SimEnvironment()
    try:
        if name == "native":
            return import_module("labsim.runtime.native").NativeEnvironment()
        return import_module(name).Environment()
    except ImportError as error:
        what = f"no kernel '{name}'; use native, simpy, or the name of a module"
        raise InputError(what, KERNEL_VARIABLE) from error

"""Two small helpers, as in `simpy.util`.

Does not know resources. Stands for no part of Lustre.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from labsim.runtime.des.core import Environment, SimTime
from labsim.runtime.des.events import Event, Process

__all__ = ["start_delayed", "subscribe_at"]


def start_delayed(
    env: Environment, generator: Generator[Event, Any, Any], delay: SimTime
) -> Process:
    """A process that waits for `delay` (> 0) and then starts another one, which it returns."""
    if delay <= 0:
        raise ValueError(f"delay(={delay}) must be > 0.")

    def starter() -> Generator[Event, None, Process]:
        yield env.timeout(delay)
        return env.process(generator)

    return env.process(starter())


def subscribe_at(event: Event) -> None:
    """Interrupt the active process with (event, value) when the event happens."""
    env = event.env
    assert env.active_process is not None
    subscriber = env.active_process

    def signaller(signal: Event, receiver: Process) -> Generator[Event, Any, None]:
        value = yield signal
        if receiver.is_alive:
            receiver.interrupt((signal, value))

    if event.callbacks is None:
        raise RuntimeError(f"{event} has already terminated.")
    env.process(signaller(event, subscriber))

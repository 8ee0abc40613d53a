"""The exceptions of the event kernel, as in `simpy.exceptions`.

Does not know who raises them. Stands for no part of Lustre.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Interrupt", "SimPyException"]


class SimPyException(Exception):
    """What all exceptions of the kernel's own are."""


class Interrupt(SimPyException):
    """Thrown into a process that somebody interrupts, with the cause they gave."""

    def __init__(self, cause: Any) -> None:
        super().__init__(cause)

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.cause!r})"

    @property
    def cause(self) -> Any:
        """Why, or None."""
        return self.args[0]

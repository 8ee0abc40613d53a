"""The table from opcode to method.

Does not know what a handler does. Stands for the tgt_handler rows of Lustre's targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def handles(*opcodes: int) -> Callable[[F], F]:
    """Mark a method as the handler of `opcodes`; it takes a ServerRequest and returns its reply."""

    def mark(function: F) -> F:
        function.handles = opcodes  # type: ignore[attr-defined]
        return function

    return mark


class Handlers:
    """A class with handler methods. `table` maps an opcode to the name of its method, so that a
    subclass may replace the method without repeating the mark.
    """

    table: ClassVar[dict[int, str]] = {}
    failing = False
    """It is about to stop: requests that have not begun are refused with ENODEV (obd_fail)."""
    starting = False
    """It takes no connections yet: who comes is to come again to this node (obd_no_conn)."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        table: dict[int, str] = {}
        for base in reversed(cls.__mro__):
            for name, member in vars(base).items():
                for opcode in getattr(member, "handles", ()):
                    table[opcode] = name
        cls.table = table

    def stamp(self, reply: Any, export: Any) -> None:
        """A reply is about to go to a client; targets with locks tell it their volume."""

    def awaits_ack(self, req: Any) -> Any:
        """What `req` leaves until its client acknowledges the reply (a difficult one); or None."""

    def called_back(self, nid: int, opcode: int) -> None:
        """A lock callback is on its way to a client; targets that keep statistics count it."""

    def count_job(self, req: Any, reply: Any) -> None:
        """A request that names its job has succeeded; targets that keep job statistics count it."""

    def handler(self, opcode: int) -> Callable[[Any], Any] | None:
        """The bound method for `opcode`, or None."""
        name = self.table.get(opcode)
        return getattr(self, name) if name is not None else None

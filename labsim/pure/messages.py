"""What a codec needs to know of a message's buffers, and the codec that knows nothing by itself.

Does not know Lustre's buffers; `wire.buffers` makes a plan for each, `wire.message` the functions.
The native twin (labsim._wire) reads the same plans and does what they say in C.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from labsim.pure.codec import Buffer, Table


class Part(IntEnum):
    """What a buffer holds. The numbers are those of native/wire/wire_layout.h."""

    ONE = 0
    """One struct of `table`; with `open`, elements follow it."""
    SEVERAL = 1
    """As many structs of `table` as fit, a list."""
    NUMBER = 2
    """One integer."""
    NUMBERS = 3
    """As many integers as fit, a list."""
    NAME = 4
    """One named tuple `make` of integers."""
    STRING = 5
    """Text that ends with its only NUL."""
    UUID = 6
    """Text filled up to `size` with zeros."""
    BYTES = 7
    """Any bytes; with `view` they stay where they are."""
    REINT = 8
    """One of the structs in `records`, by its first word."""


class Plan(NamedTuple):
    """How a buffer is read and written. `size` is that of the whole, or of one of several."""

    part: Part
    key: str
    size: int = 0
    table: Table | None = None
    code: str = ""
    """Letters of the struct module, one per integer."""
    make: Any = None
    open: bool = False
    view: bool = False
    records: Mapping[int, Table] = {}


class Messages:
    """Measures, encodes and decodes messages with the functions it is given.

    `message` is the class, `body` the table of buffer 0, `plain` the format of each opcode that
    has only one, `recognise` what finds the others: a native codec needs them.
    """

    def __init__(
        self,
        message: type,
        body: Table,
        twins: tuple[
            Callable[[Any], int],
            Callable[[Any], bytes],
            Callable[[Buffer, bool, Any], Any],
        ],
        plain: dict[int, Any],
        recognise: Callable[[int, list[memoryview]], Any],
    ) -> None:
        self.measure, self.encode, self.decode = twins

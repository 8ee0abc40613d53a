"""The reference objects: wire structs whose fields are slots, with functions that Python writes.

Knows structs only as tables (`pure.codec`). `labsim._wire` has the same base class in C, whose
objects keep their fields as the bytes they are on the wire; what can be seen of them is the same.
Stands for no part of Lustre.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal, Self

from labsim.pure import codec
from labsim.pure.codec import Buffer, Table


class Struct:
    """The base of every wire struct; a class of it has a `table` and is made with `space`."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    table: ClassVar[Table]

    def __init__(self, **fields: Any) -> None:
        """Short arrays are filled up with zeros; what is not given is zero, empty or fresh."""
        self._generate("init")
        self.__init__(**fields)  # type: ignore[misc]

    def pack(self) -> bytes:
        """The bytes, little endian. ValueError names a field that its type cannot hold."""
        self._generate("pack")
        return self.pack()

    @classmethod
    def unpack(cls, buffer: Buffer, offset: int = 0) -> Self:
        """Read the struct at `offset`; what comes after it is not looked at, unless it has a tail.

        ProtocolError names struct, field and offset where it does not fit.
        """
        cls._generate("unpack")
        return cls.unpack(buffer, offset)

    def packed_size(self) -> int:
        """How many bytes `pack` makes."""
        last = self.table.tail
        return self.table.size if last is None else codec.tail_end(last, getattr(self, last.name))

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed; nested structs are shared, not copied."""
        other = self._copy()
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    def _copy(self) -> Self:
        self._generate("copy")
        return self._copy()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return bool(self._state(self) == self._state(other))

    @staticmethod
    def _state(value: Any) -> Any:
        cls = type(value)
        cls._state = staticmethod(codec.state_of(cls.table))
        return cls._state(value)

    @classmethod
    def _generate(cls, what: Literal["init", "pack", "unpack", "copy"]) -> None:
        """Put a generated function in place of the stand-in that asked for it."""
        function: Any = codec.generate(cls.table, what)
        name = {"init": "__init__", "copy": "_copy"}.get(what, what)
        setattr(cls, name, staticmethod(function) if what == "unpack" else function)


def space(names: Iterable[str]) -> dict[str, Any]:
    """What the body of a class with these fields has to hold."""
    return {"__slots__": tuple(names)}


def settle(cls: Any) -> None:
    """To be called with a class that has its table. Nothing to do here."""

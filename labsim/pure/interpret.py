"""Op tables run row by row, as slowly and plainly as can be: the measure of both codecs.

Knows structs only as tables. `pure.codec` writes Python from the same tables and `labsim._wire`
runs them in C; tests hold both against this, and benchmarks say how much faster each one is.
"""

from __future__ import annotations

import struct
from typing import Any

from labsim.base.errors import ProtocolError
from labsim.pure.codec import Buffer, Kind, Op, Table


def unpack(table: Table, buffer: Buffer, offset: int = 0, nested: bool = False) -> Any:
    """A new object from the bytes at `offset`; ProtocolError where they do not fit."""
    factory: Any = table.factory
    value = factory.__new__(factory)
    for op in table.ops:
        setattr(value, op.name, _read(op, value, buffer, offset, nested))
    return value


def _piece(op: Op, buffer: Buffer, at: int, size: int) -> bytes:
    if size > len(buffer) - at:
        raise ProtocolError(f"{op.field} at byte {op.offset}: {size} bytes wanted")
    return bytes(buffer[at : at + size])


def _read(op: Op, value: Any, buffer: Buffer, offset: int, nested: bool) -> Any:
    """One row's value; rows before it are in `value` already."""
    at = offset + op.offset
    if op.kind is Kind.TAIL:
        return _read_tail(op, value, buffer, at, nested)
    raw = _piece(op, buffer, at, op.size)
    match op.kind:
        case Kind.INT:
            return struct.unpack("<" + op.code, raw)[0]
        case Kind.INTS:
            return struct.unpack("<" + op.code * op.length, raw)
        case Kind.RECORD:
            return op.make(*struct.unpack("<" + op.code, raw))
        case Kind.TEXT:
            return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        case Kind.STRUCT:
            assert op.table is not None
            return unpack(op.table, raw, nested=True)
        case Kind.UNION:
            chosen = _selected(value, op.selector)
            if chosen not in op.cases:
                raise ProtocolError(f"{op.selector} = {chosen}")
            case = op.cases[chosen]
            return None if case is None else unpack(case, raw)
    return raw


def _selected(value: Any, path: str) -> int:
    for name in path.split("."):
        value = getattr(value, name)
    return int(value)


def _read_tail(op: Op, value: Any, buffer: Buffer, at: int, nested: bool) -> Any:
    one = op.table.size if op.table is not None else struct.calcsize("<" + op.code) or 1
    left = len(buffer) - at
    count = _selected(value, op.selector) if op.selector and not nested else left // one
    if nested:
        count = 0
    elif count < op.length or count * one > left or (not op.selector and left % one):
        raise ProtocolError(f"{op.field} at byte {op.offset}: {count} elements in {left} bytes")
    places = range(at, at + count * one, one)
    if op.table is not None:
        return tuple(unpack(op.table, buffer, place) for place in places)
    if not op.code:
        return bytes(buffer[at : at + count])
    rows = [struct.unpack_from("<" + op.code, buffer, place) for place in places]
    return tuple(row[0] if op.make is None else op.make(*row) for row in rows)


def pack(table: Table, value: Any, nested: bool = False) -> bytes:
    """The bytes; struct.error, TypeError or ValueError where a value does not fit."""
    return b"".join([_written(op, getattr(value, op.name), nested) for op in table.ops])


def _written(op: Op, held: Any, nested: bool) -> bytes:
    """One row's bytes."""
    match op.kind:
        case Kind.INT:
            return struct.pack("<" + op.code, held)
        case Kind.INTS:
            return struct.pack("<" + op.code * op.length, *held)
        case Kind.RECORD:
            return struct.pack("<" + op.code, *held)
        case Kind.STRUCT:
            assert op.table is not None
            return pack(op.table, held, nested=True)
        case Kind.TAIL:
            return b"" if nested else _written_tail(op, held)
        case Kind.TEXT:
            raw = held.encode("utf-8", "surrogateescape") if held else b""
        case Kind.UNION:
            raw = b"" if held is None else pack(type(held).table, held)
        case _:
            raw = held
    if len(raw) > op.size:
        raise ValueError(f"{op.field}: {len(raw)} bytes do not fit {op.size}")
    return bytes(raw).ljust(op.size, b"\0")


def _written_tail(op: Op, held: Any) -> bytes:
    if op.table is not None:
        return b"".join([pack(op.table, one) for one in held])
    if not op.code:
        return bytes(memoryview(held))
    rows = held if op.make is not None else [(one,) for one in held]
    return b"".join([struct.pack("<" + op.code, *row) for row in rows])

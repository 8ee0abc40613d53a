"""Hypothesis strategies for wire structs and messages, read off their tables."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from labsim.base.ids import Fid
from labsim.pure.codec import Kind, Op, Table
from labsim.wire import buffers as b
from labsim.wire import registry
from labsim.wire.schema import REGISTERED, OstId, Wire, WireType

registry()
STRUCTS: list[type[Wire]] = [one for one in REGISTERED.values() if isinstance(one, WireType)]

BITS = {"B": 8, "H": 16, "I": 32, "Q": 64}
SIGNED = {"i": 32, "q": 64}


def integer(code: str) -> st.SearchStrategy[int]:
    if code in SIGNED:
        half = 1 << SIGNED[code] - 1
        return st.integers(-half, half - 1)
    return st.integers(0, (1 << BITS[code]) - 1)


def text(size: int) -> st.SearchStrategy[str]:
    raw = st.binary(max_size=size).map(lambda given: given.replace(b"\0", b"n"))
    return raw.map(lambda given: given.decode("utf-8", "surrogateescape"))


def row(op: Op, inner: bool) -> st.SearchStrategy[Any]:
    """Values of one field; `inner` structs keep their tails empty."""
    match op.kind:
        case Kind.INT:
            return integer(op.code)
        case Kind.INTS:
            few = min(op.length, 4)
            zeros = (0,) * (op.length - few)
            return st.tuples(*[integer(op.code)] * few).map(lambda given: given + zeros)
        case Kind.TEXT:
            return text(op.size)
        case Kind.OCTETS:
            few = st.binary(max_size=min(op.size, 24))
            return few.map(lambda given: given.ljust(op.size, b"\0"))
        case Kind.RECORD:
            return st.tuples(*map(integer, op.code)).map(lambda given: op.make(*given))
        case Kind.STRUCT:
            assert op.table is not None
            return struct(op.table, inner=True)
        case Kind.TAIL:
            return st.just(b"" if not op.code and op.table is None else ()) if inner else tail(op)
    raise AssertionError(op)


def tail(op: Op) -> st.SearchStrategy[Any]:
    low, high = op.length, op.length + 3
    if op.table is not None:
        return st.lists(struct(op.table, inner=True), min_size=low, max_size=high).map(tuple)
    if not op.code:
        return st.binary(max_size=9)
    if op.make is not None:
        one = st.tuples(*map(integer, op.code)).map(lambda given: op.make(*given))
        return st.lists(one, min_size=low, max_size=high).map(tuple)
    return st.lists(integer(op.code), min_size=low, max_size=high).map(tuple)


@st.composite
def struct(draw: st.DrawFn, table: Table, inner: bool = False) -> Any:
    """Any object of a table that its bytes describe completely."""
    value: Any = table.factory()
    for op in table.ops:
        if op.kind is Kind.UNION:
            continue
        setattr(value, op.name, draw(row(op, inner)))
        if op.kind is Kind.TAIL and op.selector:
            setattr(value, op.selector, len(getattr(value, op.name)))
    for op in table.ops:
        if op.kind is Kind.UNION:
            chosen = draw(st.sampled_from(sorted(op.cases)))
            *path, last = op.selector.split(".")
            holder = value
            for name in path:
                holder = getattr(holder, name)
            setattr(holder, last, chosen)
            case = op.cases[chosen]
            setattr(value, op.name, None if case is None else draw(struct(case, inner=True)))
    return value


def buffer(one: b.Buffer) -> st.SearchStrategy[Any]:
    """Any value of a message's buffer that is not empty."""
    match one:
        case b.One():
            return struct(one.kind.table, inner=not one.open)
        case b.Several():
            return st.lists(struct(one.kind.table, inner=True), min_size=1, max_size=3)
        case b.Number():
            return integer(one.layout.format[-1])
        case b.Numbers():
            return st.lists(integer(one.code), min_size=1, max_size=3)
        case b.Name():
            return struct_of_name(one)
        case b.Text():
            return text(20)
        case b.Uuid():
            return text(b.UUID_SIZE)
        case b.Bytes():
            return st.binary(min_size=1, max_size=20)
        case b.Reint():
            return st.sampled_from(sorted(b.RECORD_OF_OP)).flatmap(reint)
    raise AssertionError(one)


def struct_of_name(one: b.Name) -> st.SearchStrategy[Any]:
    code = {Fid: "QII", OstId: "QQ"}[one.kind]
    return st.tuples(*map(integer, code)).map(lambda given: one.kind(*given))


def reint(opcode: int) -> st.SearchStrategy[Any]:
    record = b.RECORD_OF_OP[opcode]
    return struct(record.table).map(lambda given: given.replace(opcode=opcode))

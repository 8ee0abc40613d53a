"""The reference codec runs tables: every kind of row, both ways, and what does not fit."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsim.base.errors import ProtocolError
from labsim.pure.codec import (
    Kind,
    Op,
    Table,
    bytes_of,
    generate,
    refuse_short,
    state_of,
    tail_end,
    text_of,
)


class Pair(NamedTuple):
    one: int
    two: int


def make(name: str, *ops: Op, size: int | None = None) -> Any:
    """A class whose functions are those of a table, as `wire.schema` would build it."""
    space: dict[str, Any] = {"__slots__": tuple(op.name for op in ops)}
    cls: Any = type(name, (), space)
    end = ops[-1].offset + ops[-1].size if ops else 0
    cls.table = Table(name, end if size is None else size, ops, cls)
    cls.__init__ = generate(cls.table, "init")
    cls.pack = generate(cls.table, "pack")
    cls.unpack = staticmethod(generate(cls.table, "unpack"))
    cls.copy = generate(cls.table, "copy")
    cls.state = property(state_of(cls.table))
    return cls


Inner = make("inner", Op(Kind.INT, "a", "i_a", 0, 4, "I"), Op(Kind.INT, "b", "i_b", 4, 2, "h"))
Other = make("other", Op(Kind.TEXT, "text", "o_text", 0, 8))
OPS = (
    Op(Kind.INT, "kind", "w_kind", 0, 4, "I"),
    Op(Kind.INTS, "four", "w_four", 4, 8, "H", 4),
    Op(Kind.TEXT, "name", "w_name", 12, 6),
    Op(Kind.OCTETS, "raw", "w_raw", 18, 2),
    Op(Kind.RECORD, "pair", "w_pair", 20, 12, "QI", make=Pair),
    Op(Kind.STRUCT, "inner", "w_inner", 32, 6, table=Inner.table),
    Op(
        Kind.UNION,
        "any",
        "w_any",
        38,
        8,
        selector="kind",
        cases={0: None, 1: Inner.table, 2: Other.table},
    ),
)
Whole = make("whole", *OPS)


def test_one_call_covers_nested_structs() -> None:
    value = Whole(kind=2, four=(1, 2, 3, 4), name="abc", raw=b"xy", pair=Pair(5, 6))
    value.inner.a, value.inner.b = 7, -8
    value.any = Other(text="other")
    raw = value.pack()
    assert raw == struct.pack("<I4H6s2sQIIh8s", 2, 1, 2, 3, 4, b"abc", b"xy", 5, 6, 7, -8, b"other")
    again = Whole.unpack(raw)
    assert again.inner.state == value.inner.state
    assert (again.any.text, again.pair, again.name) == ("other", Pair(5, 6), "abc")
    assert isinstance(again.pair, Pair)
    assert again.pack() == raw


def test_what_is_not_given_is_nothing() -> None:
    assert Whole().pack() == bytes(46)
    assert Whole.unpack(bytes(46)).any is None


def test_a_copy_shares_nested_objects() -> None:
    value = Whole(kind=1, any=Inner(a=1))
    copy = value.copy()
    assert copy is not value
    assert copy.state == value.state
    assert copy.inner is value.inner


@pytest.mark.parametrize(
    ("length", "field"),
    [(0, "w_kind"), (3, "w_kind"), (11, "w_four"), (31, "w_pair"), (45, "w_any")],
)
def test_the_first_field_that_is_cut_is_named(length: int, field: str) -> None:
    with pytest.raises(ProtocolError, match=rf"whole\.{field} at byte \d+ needs \d+ bytes"):
        Whole.unpack(bytes(length))


def test_an_offset_beyond_the_buffer_is_refused() -> None:
    with pytest.raises(ProtocolError, match="w_kind"):
        Whole.unpack(bytes(46), 44)
    with pytest.raises(ProtocolError, match="whole cannot be read at byte 0"):
        refuse_short(Whole.table, bytes(46), 0)


def test_an_unknown_selector_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"whole\.kind = 9: unknown, so w_any at byte 38"):
        Whole.unpack(b"\x09" + bytes(45))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", -1),
        ("kind", 1 << 32),
        ("kind", "one"),
        ("four", (1 << 16, 0, 0, 0)),
        ("four", (1, 2, 3, 4, 5)),
        ("name", "seven b"),
        ("raw", b"xyz"),
        ("pair", Pair(1, 1 << 32)),
        ("any", Whole()),
    ],
)
def test_what_the_wire_cannot_carry_is_our_fault(field: str, value: Any) -> None:
    with pytest.raises(ValueError):
        Whole(**{field: value}).pack()


def test_the_field_that_does_not_fit_is_named_through_nesting() -> None:
    with pytest.raises(ValueError, match=r"inner\.i_b = 32768"):
        Whole(inner=Inner(b=1 << 15)).pack()
    with pytest.raises(ValueError, match="7 bytes do not fit 6"):
        Whole(name="sevenby").pack()


Words = make(
    "words",
    Op(Kind.INT, "count", "w_count", 0, 4, "I"),
    Op(Kind.TAIL, "words", "w_words", 4, 0, "H", 0, selector="count"),
)
Pairs = make("pairs", Op(Kind.TAIL, "pairs", "p_pairs", 0, 0, "HH", 0, make=Pair))
Structs = make("structs", Op(Kind.TAIL, "all", "s_all", 0, 6, table=Inner.table, length=1))
Rest = make("rest", Op(Kind.INT, "a", "r_a", 0, 1, "B"), Op(Kind.TAIL, "rest", "r_rest", 1, 0))


def test_a_counted_tail() -> None:
    value = Words(count=2, words=[5, 6])
    assert value.pack() == b"\2\0\0\0\5\0\6\0"
    assert Words.unpack(value.pack() + b"more").words == (5, 6)
    with pytest.raises(ProtocolError, match=r"words\.w_words at byte 4: 2 of 2 bytes announced"):
        Words.unpack(value.pack()[:-1])
    with pytest.raises(ProtocolError, match="4294967295 of 2 bytes announced, 0 bytes are left"):
        Words.unpack(b"\xff\xff\xff\xff")


def test_a_tail_to_the_end() -> None:
    assert Pairs.unpack(b"\1\0\2\0").pairs == (Pair(1, 2),)
    assert Pairs(pairs=[Pair(3, 4)]).pack() == b"\3\0\4\0"
    with pytest.raises(ProtocolError, match="5 bytes are no multiple of 4"):
        Pairs.unpack(bytes(5))
    assert Rest.unpack(b"\1xyz").rest == b"xyz"
    assert Rest(a=1, rest=b"xyz").pack() == b"\1xyz"


def test_a_tail_of_structs_with_a_least_number() -> None:
    value = Structs(all=[Inner(a=1), Inner(a=2)])
    raw = value.pack()
    assert [one.a for one in Structs.unpack(raw).all] == [1, 2]
    with pytest.raises(ProtocolError, match="0 instead of at least 1"):
        Structs.unpack(b"")


def test_where_a_tail_ends() -> None:
    tail = Words.table.tail
    assert tail is not None
    assert tail_end(tail, (1, 2, 3)) == 10
    assert Whole.table.tail is None


@given(st.binary(max_size=30))
def test_text_survives_whatever_it_is(raw: bytes) -> None:
    text = text_of(raw)
    assert bytes_of(text, 30, "text") == raw.split(b"\0")[0]


@given(st.binary(max_size=60), st.integers(0, 60))
def test_random_bytes_are_refused_or_read(raw: bytes, offset: int) -> None:
    try:
        value = Whole.unpack(raw, offset)
    except ProtocolError:
        return
    assert Whole.unpack(value.pack()).name == value.name

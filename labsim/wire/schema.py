"""Wire structs as annotated classes: declared once, compiled to a flat op table.

Does not know any struct of Lustre. A class says Lustre's own struct name, the prefix of its field
names and its size; the metaclass turns the annotations into slots and a table, and refuses a size
that is not the sum of the fields. What runs the table is made when a class is first used. Stands
for lustre_idl.h together with its checks (ptlrpc/wiretest.c).
"""

import sys
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Self, get_args, get_origin

from labsim import fast
from labsim.base.ids import Fid
from labsim.pure.codec import Kind, Op, Table
from labsim.wire.eras import Differs


class Scalar(NamedTuple):
    """An integer: its letter in the struct module, its size in bytes."""

    code: str
    size: int


class Text(NamedTuple):
    """A zero-padded char array of `size` bytes; a str. Made by `chars`."""

    size: int


class Octets(NamedTuple):
    """A byte array of `size` bytes; bytes. Made by `octets`."""

    size: int


class Many(NamedTuple):
    """A fixed array of integers, a tuple. Made by `array`."""

    scalar: Scalar
    length: int


class Tail(NamedTuple):
    """What follows the fixed part. Made by `tail`."""

    element: Any
    counter: str
    least: int


class Named(NamedTuple):
    """The field's name where it does not follow the prefix."""

    field: str


class Also(NamedTuple):
    """Another name that the same bytes have in Lustre. Made by `also`."""

    field: str
    size: int


class Choice(NamedTuple):
    """A union: which of its members by the value of an attribute read before it."""

    union: "Union"
    selector: str
    members: Mapping[int, str]


class Record(NamedTuple):
    """A named tuple of integers with its letters."""

    make: Any
    code: str
    size: int


u8 = Annotated[int, Scalar("B", 1)]
u16 = Annotated[int, Scalar("H", 2)]
u32 = Annotated[int, Scalar("I", 4)]
u64 = Annotated[int, Scalar("Q", 8)]
i32 = Annotated[int, Scalar("i", 4)]
i64 = Annotated[int, Scalar("q", 8)]
handle = u64
"""A struct lustre_handle: an opaque cookie."""


class OstId(NamedTuple):
    """An object's name on an OST (struct ost_id): id and sequence, or a FID in the same bytes."""

    id: int = 0
    seq: int = 0

    @property
    def fid(self) -> Fid:
        """The same 16 bytes read as oi_fid."""
        return Fid(self.id, self.seq & 0xFFFFFFFF, self.seq >> 32)

    @classmethod
    def of_fid(cls, fid: Fid) -> Self:
        """The ost_id whose bytes are this FID."""
        return cls(fid.seq, fid.ver << 32 | fid.oid)


RECORDS: dict[type, Record] = {Fid: Record(Fid, "QII", 16), OstId: Record(OstId, "QQ", 16)}


def chars(size: int) -> Text:
    """Mark a str as zero-padded to that many bytes.

    `Annotated[str, chars(40)]`
    """
    return Text(size)


def octets(size: int) -> Octets:
    """Mark bytes as exactly that many, without meaning here.

    `Annotated[bytes, octets(16)]`
    """
    return Octets(size)


def array(element: Any, count: int) -> Many:
    """Mark a tuple as a fixed array.

    `Annotated[tuple[int, ...], array(u64, 4)]`
    """
    return Many(_scalar(element), count)


def tail(element: Any, count: str = "", least: int = 0) -> Tail:
    """What follows the fixed part: elements of a Wire class, `Fid`, an integer type, or `bytes`.

    `count` names the attribute that says how many; without it they fill the rest of the buffer.
    At least `least` of them belong to the struct's declared size.
    """
    return Tail(element, count, least)


def named(field: str) -> Named:
    """Lustre's name of the field where it is not prefix + attribute."""
    return Named(field)


def also(field: str, size: int = 0) -> Also:
    """A second name that Lustre has for these bytes.

    The class gets a property of that name too, unless a `size` says that it is of another type.
    """
    return Also(field, size)


def _scalar(annotation: Any) -> Scalar:
    for extra in get_args(annotation)[1:]:
        if isinstance(extra, Scalar):
            return extra
    raise TypeError(f"{annotation!r} is no integer type")


class Row(NamedTuple):
    """One line of `rows`: Lustre's field name, its offset and size in bytes."""

    field: str
    offset: int
    size: int


class Union:
    """A C union whose members share their first byte; registered, never instantiated."""

    def __init__(self, name: str, size: int, **members: Any) -> None:
        self.name = name
        self.size = size
        self.members = members
        if name:
            REGISTERED[name] = self

    def by(self, selector: str, members: Mapping[int, str]) -> Choice:
        """The metadata of a field: attribute path `selector`, and the member for each value."""
        return Choice(self, selector, members)

    def rows(self) -> list[Row]:
        """The members by name."""
        return [Row(name, 0, _size_of(member)) for name, member in self.members.items()]


def _size_of(member: Any) -> int:
    if isinstance(member, int):
        return member
    if isinstance(member, WireType):
        return member.table.size
    return RECORDS[member].size if member in RECORDS else _scalar(member).size


REGISTERED: dict[str, "WireType | Union"] = {}
"""Every declared struct and union by Lustre's name."""


class Basic(NamedTuple):
    """A struct that is no class here: a tuple, an int or a str holds it."""

    size: int
    fields: tuple[Row, ...]

    def rows(self) -> list[Row]:
        """Lustre's field names with offset and size."""
        return list(self.fields)


BASIC: dict[str, Basic] = {
    "lu_fid": Basic(16, (Row("f_seq", 0, 8), Row("f_oid", 8, 4), Row("f_ver", 12, 4))),
    "ost_id": Basic(
        16,
        (
            Row("oi", 0, 16),
            Row("oi.oi_id", 0, 8),
            Row("oi_fid", 0, 16),
            Row("oi.oi_seq", 8, 8),
        ),
    ),
    "lustre_handle": Basic(8, (Row("cookie", 0, 8),)),
    "obd_uuid": Basic(40, (Row("uuid", 0, 40),)),
}
"""`Fid`, `OstId`, `handle` and `Annotated[str, chars(40)]` by Lustre's name."""


class WireType(type):
    """The metaclass of `Wire`: annotations in, fields and an op table out."""

    table: Table
    second_names: list[Row]
    differs: Differs
    """How the struct differs in other eras."""

    def __new__(
        mcs, name: str, bases: tuple[type, ...], space: dict[str, Any], **given: Any
    ) -> "WireType":
        """Build the class; TypeError where its fields do not add up to `size`."""
        declared = [base for base in bases if isinstance(base, WireType)]
        if not declared:
            return super().__new__(mcs, name, bases, space)
        if any(hasattr(base, "table") for base in declared):
            raise TypeError(f"{name}: a struct is no base of another")
        struct, prefix = given["struct"], given.get("prefix", "")
        fields = _annotations(space)
        ops, also = _flatten(struct, prefix, fields)
        space.update(fast.space(fields))
        for name_too, op in also:
            if not name_too.size:
                space[name_too.field.removeprefix(prefix)] = second_name(op.name)
        cls = super().__new__(mcs, name, bases, space)
        end = ops[-1].offset + ops[-1].size if ops else 0
        has_tail = bool(ops) and ops[-1].kind is Kind.TAIL
        if end != given["size"] and not (has_tail and 0 < given["size"] - end < 8):
            raise TypeError(f"{struct}: fields take {end} bytes, {given['size']} declared")
        cls.table = Table(struct, given["size"], tuple(ops), cls)
        fast.settle(cls)
        cls.second_names = [
            Row(name_too.field, op.offset, name_too.size or op.size) for name_too, op in also
        ]
        cls.differs = given.get("differs", {})
        for at in cls.differs.values():
            stray = {*at.unknown, *at.renamed} - {*fields, *[one.field for one in cls.second_names]}
            if stray:
                raise TypeError(f"{struct} has no {', '.join(sorted(stray))}")
        REGISTERED[struct] = cls
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any], **given: Any):
        super().__init__(name, bases, space)

    @property
    def size(cls) -> int:
        """Bytes of the fixed part. A field called size lives on the objects, this on the class."""
        return cls.table.size

    def rows(cls) -> list[Row]:
        """Lustre's field names with offset and size; second names right after the first."""
        found = [Row(op.field, op.offset, op.size) for op in cls.table.ops if op.field]
        return sorted([*found, *cls.second_names], key=lambda row: row.offset)


def _annotations(space: dict[str, Any]) -> dict[str, Any]:
    """A class body's annotations, evaluated."""
    if sys.version_info >= (3, 14):  # they are computed on demand there
        import annotationlib

        annotate = annotationlib.get_annotate_from_class_namespace(space)
        if annotate is None:
            return {}
        return dict(annotationlib.call_annotate_function(annotate, annotationlib.Format.VALUE))
    return dict(space.get("__annotations__", {}))


def second_name(attribute: str) -> property:
    """A property that reads and writes `attribute`: a macro that Lustre has for a field."""

    def read(self: Any) -> Any:
        return getattr(self, attribute)

    def write(self: Any, value: Any) -> None:
        setattr(self, attribute, value)

    return property(read, write, doc=f"The same bytes as {attribute}.")


def _flatten(
    struct: str, prefix: str, fields: dict[str, Any]
) -> tuple[list[Op], list[tuple[Also, Op]]]:
    """The rows of a table, and the second names of some of them."""
    ops: list[Op] = []
    also: list[tuple[Also, Op]] = []
    offset = 0
    for name, annotation in fields.items():
        extras: list[Any] = [annotation]
        if get_origin(annotation) is Annotated:
            extras = [annotation.__origin__, *annotation.__metadata__]
        if isinstance(annotation, str):
            raise TypeError(f"{struct}: declare it without `from __future__ import annotations`")
        names = [extra.field for extra in extras if isinstance(extra, Named)]
        field = names[0] if names else prefix + name.rstrip("_")
        op = _op(struct, name, field, offset, extras)
        ops.append(op)
        offset += op.size
        for extra in extras:
            if isinstance(extra, Also):
                also.append((extra, op))
            elif isinstance(extra, Choice) and not extra.union.name:
                also += [(Also(f"{field}.{row.field}", row.size), op) for row in extra.union.rows()]
    return ops, also


def _op(struct: str, name: str, field: str, offset: int, extras: list[Any]) -> Op:
    """One row, by what the annotation carries."""
    for extra in reversed(extras):
        match extra:
            case Scalar(code, size):
                return Op(Kind.INT, name, field, offset, size, code)
            case Text(size):
                return Op(Kind.TEXT, name, field, offset, size)
            case Octets(size):
                return Op(Kind.OCTETS, name, field, offset, size)
            case Many(scalar, count):
                size = scalar.size * count
                return Op(Kind.INTS, name, field, offset, size, scalar.code, count)
            case Choice(union, selector, members):
                cases = {
                    value: union.members[member].table if member else None
                    for value, member in members.items()
                }
                return Op(
                    Kind.UNION, name, field, offset, union.size, selector=selector, cases=cases
                )
            case Tail():
                return _tail_op(name, field, offset, extra)
            case WireType():
                return Op(Kind.STRUCT, name, field, offset, extra.table.size, table=extra.table)
            case type() if extra in RECORDS:
                record = RECORDS[extra]
                return Op(
                    Kind.RECORD, name, field, offset, record.size, record.code, make=record.make
                )
    raise TypeError(f"{struct}.{field}: {extras!r} is no wire type")


def _tail_op(name: str, field: str, offset: int, tail: Tail) -> Op:
    made = Op(Kind.TAIL, name, field, offset, 0, length=tail.least, selector=tail.counter)
    if tail.element is bytes:
        return made
    if isinstance(tail.element, WireType):
        return made._replace(table=tail.element.table, size=tail.least * tail.element.table.size)
    if tail.element in RECORDS:
        record = RECORDS[tail.element]
        return made._replace(code=record.code, make=record.make, size=tail.least * record.size)
    scalar = _scalar(tail.element)
    return made._replace(code=scalar.code, size=tail.least * scalar.size)


class Wire(fast.Struct, metaclass=WireType):
    """The base of every wire struct: `class LuExtent(Wire, struct="lu_extent", size=16)`.

    Fields are given by keyword; what is not given is zero, empty, or a fresh nested struct.
    Objects are mutable until they are sent; `replace` makes a changed copy of one that was.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Only the fields that differ from their default."""
        plain = type(self)()
        shown = [
            f"{op.name}={getattr(self, op.name)!r}"
            for op in type(self).table.ops
            if getattr(self, op.name) != getattr(plain, op.name)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> Any:
        """What makes a copy or a pickle of it."""
        held = {op.name: getattr(self, op.name) for op in type(self).table.ops}
        return _again, (type(self), held)


def _again(cls: type[Wire], held: dict[str, Any]) -> Wire:
    return cls().replace(**held)

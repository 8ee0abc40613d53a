"""The reference codec: runs the op table of a wire struct as generated Python.

Knows structs only as tables of (kind, offset, size), not what they mean; `wire.schema` makes the
tables from annotated classes. A table is everything a codec needs, so that one in C can run the
same tables. Stands for the packing and swabbing half of ptlrpc (ptlrpc/pack_generic.c).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import IntEnum
from operator import attrgetter
from typing import Any, Literal, NamedTuple, NoReturn

from labsim.base.errors import ProtocolError

Buffer = bytes | bytearray | memoryview


class Kind(IntEnum):
    """What one row of a table does with its bytes."""

    INT = 0
    """One integer."""
    INTS = 1
    """A fixed number of integers, a tuple."""
    TEXT = 2
    """A zero-padded char array, a str."""
    OCTETS = 3
    """A byte array, bytes of exactly that length."""
    RECORD = 4
    """A named tuple of integers (a FID)."""
    STRUCT = 5
    """Another table's object."""
    UNION = 6
    """One of several tables' objects, chosen by a field read before it."""
    TAIL = 7
    """What follows the fixed part, as many as a count says or until the buffer's end."""


class Op(NamedTuple):
    """One row of a table: where a field lies and how to read it. Offsets and sizes in bytes."""

    kind: Kind
    name: str
    """The attribute."""
    field: str
    """Lustre's own name."""
    offset: int
    size: int
    code: str = ""
    """Letters of the struct module, one per integer; of one element for INTS and TAIL."""
    length: int = 1
    """Elements of INTS; of TAIL, how many there must be at least."""
    make: Any = None
    """The named tuple of RECORD; the element's record type of TAIL."""
    table: Table | None = None
    """Of STRUCT, and of TAIL's elements."""
    selector: str = ""
    """UNION: the attribute path that chooses; TAIL: the attribute that counts, "" for the rest."""
    cases: Mapping[int, Table | None] = {}
    """UNION: the table for each selector value; None where the bytes mean nothing."""


class Table:
    """A struct as rows: `name` and field names are Lustre's, `size` is the fixed part in bytes."""

    __slots__ = ("factory", "name", "ops", "size")

    def __init__(self, name: str, size: int, ops: tuple[Op, ...], factory: type) -> None:
        self.name = name
        self.size = size
        self.ops = ops
        self.factory = factory

    @property
    def tail(self) -> Op | None:
        """The row of what follows the fixed part, if any does."""
        last = self.ops[-1] if self.ops else None
        return last if last is not None and last.kind is Kind.TAIL else None


def generate(table: Table, what: Literal["init", "pack", "unpack", "copy"]) -> Callable[..., Any]:
    """Write and compile one function of a table.

    init(self, every field by keyword): what is not given is zero, empty or a fresh struct.
    pack(self) -> bytes: ValueError where a value does not fit its field.
    unpack(buffer, offset=0) -> object: ProtocolError where the bytes do not fit.
    copy(self) -> object: nested objects are shared.
    """
    maker = _Maker(table)
    source = getattr(maker, what)()
    exec(compile(source, f"<{what} of {table.name}>", "exec"), maker.scope)
    function: Callable[..., Any] = maker.scope[what]
    return function


def state_of(table: Table) -> Callable[[Any], Any]:
    """What reads all fields at once, as one comparable value."""
    names = [op.name for op in table.ops]
    return attrgetter(*names) if names else lambda _: ()


def text_of(raw: bytes) -> str:
    """A char array up to its first NUL; bytes that are no UTF-8 survive as surrogates."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def bytes_of(text: str, room: int, field: str) -> bytes:
    """The reverse of `text_of`; ValueError where it is longer than its array."""
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) > room:
        raise ValueError(f"{field}: {len(raw)} bytes do not fit {room}")
    return raw


def _exactly(raw: bytes, room: int, field: str) -> bytes:
    if len(raw) > room:
        raise ValueError(f"{field}: {len(raw)} bytes do not fit {room}")
    return raw


def _padded(values: Any, count: int) -> tuple[int, ...]:
    """An array as a tuple of at least `count`; zeros fill up what was not given."""
    given = tuple(values)
    return given + (0,) * (count - len(given))


def _whole(raw: bytes, room: int) -> bytes:
    return raw if len(raw) == room else raw.ljust(room, b"\0")


def refuse_short(table: Table, buffer: Buffer, offset: int) -> NoReturn:
    """Say which field does not fit in what is left of the buffer."""
    left = len(buffer) - offset
    for op in table.ops:
        if op.offset + op.size > left:
            raise ProtocolError(
                f"{table.name}.{op.field or op.name} at byte {op.offset} needs {op.size} bytes,"
                f" {max(left - op.offset, 0)} are left"
            )
    raise ProtocolError(f"{table.name} cannot be read at byte {offset}")


def _refuse_unfit(table: Table, value: Any) -> NoReturn:
    """Say which attribute of our own object the wire cannot carry."""
    for op in table.ops:
        held = getattr(value, op.name)
        try:
            if op.kind is Kind.INT:
                struct.pack("<" + op.code, held)
            elif op.kind in (Kind.INTS, Kind.RECORD):
                struct.pack("<" + (op.code * op.length if op.kind is Kind.INTS else op.code), *held)
            elif op.kind is Kind.STRUCT and op.table is not None:
                held.pack()
        except (struct.error, TypeError) as error:
            raise ValueError(f"{table.name}.{op.field} = {held!r}: {error}") from None
    raise ValueError(f"{table.name}: {value!r} does not fit")


def _chooser(table: Table, op: Op) -> Callable[[int, bytes], Any]:
    """What reads a union's bytes once its selector is known."""
    readers = {value: (None if case is None else _reader(case)) for value, case in op.cases.items()}

    def choose(selector: int, raw: bytes) -> Any:
        try:
            reader = readers[selector]
        except KeyError:
            raise ProtocolError(
                f"{table.name}.{op.selector} = {selector}: unknown,"
                f" so {op.field} at byte {op.offset} cannot be read"
            ) from None
        return None if reader is None else reader(raw)

    return choose


def _reader(table: Table) -> Callable[..., Any]:
    factory: Any = table.factory

    def read(raw: bytes) -> Any:
        return factory.unpack(raw)

    return read


def _part(value: Any, room: int, field: str) -> bytes:
    """A union's bytes: of whichever object it holds."""
    if value is None:
        return b""
    return _exactly(value.pack(), room, field)


def _step(op: Op) -> int:
    """Bytes of one element of a TAIL."""
    return op.table.size if op.table is not None else struct.calcsize("<" + op.code) or 1


def tail_end(op: Op, values: Any) -> int:
    """Where a struct with these elements after its fixed part ends, in bytes."""
    return op.offset + len(values) * _step(op)


def _tail_length(table: Table, op: Op, left: int, count: int | None) -> int:
    """How many elements there are; ProtocolError where the buffer says otherwise."""
    step = _step(op)
    where = f"{table.name}.{op.field} at byte {op.offset}"
    if count is None:
        count, odd = divmod(left, step)
        if odd:
            raise ProtocolError(f"{where}: {left} bytes are no multiple of {step}")
    if count * step > left:
        raise ProtocolError(f"{where}: {count} of {step} bytes announced, {left} bytes are left")
    if count < op.length:
        raise ProtocolError(f"{where}: {count} instead of at least {op.length}")
    return count


def _tail_reader(table: Table, op: Op) -> Callable[[Buffer, int, int | None], Any]:
    """What reads `count` elements after the fixed part (None: until the buffer's end)."""
    step = _step(op)

    def read(buffer: Buffer, offset: int, count: int | None) -> Any:
        begin = offset + op.offset
        count = _tail_length(table, op, len(buffer) - begin, count)
        if op.table is not None:
            factory: Any = op.table.factory
            stop = begin + count * step
            return tuple([factory.unpack(buffer, at) for at in range(begin, stop, step)])
        if not op.code:
            return bytes(buffer[begin : begin + count])
        values = struct.unpack_from("<" + op.code * count, buffer, begin)
        if op.make is None:
            return values
        width = len(op.code)
        return tuple([op.make(*values[at : at + width]) for at in range(0, len(values), width)])

    return read


def _tail_writer(op: Op) -> Callable[[Any], bytes]:
    """What packs the elements after the fixed part."""
    if op.table is not None:
        return lambda values: b"".join([value.pack() for value in values])
    if not op.code:
        return lambda values: bytes(memoryview(values))  # bytes alone would make some of a number
    if op.make is not None:
        one = struct.Struct("<" + op.code).pack
        return lambda values: b"".join([one(*value) for value in values])
    return lambda values: struct.pack(f"<{len(values)}{op.code}", *values)


class _Maker:
    """Writes the source of one table's functions; `scope` holds the objects they refer to."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.scope: dict[str, Any] = {
            "_new": table.factory.__new__,
            "_tuple": tuple.__new__,
            "_tuple_of": tuple,
            "_error": struct.error,
            "_text_of": text_of,
            "_bytes_of": bytes_of,
            "_exactly": _exactly,
            "_padded": _padded,
            "_whole": _whole,
            "_part": _part,
            "_short": refuse_short,
            "_unfit": _refuse_unfit,
            "_table": table,
        }

    def hold(self, value: Any) -> str:
        """A name in the functions' scope for an object."""
        name = f"_k{len(self.scope)}"
        self.scope[name] = value
        return name

    def init(self) -> str:
        parameters, body = [], []
        for op in self.table.ops:
            default, line = self._default(op)
            parameters.append(f"{op.name}={default}")
            body.append(f"    self.{op.name} = {line}")
        named = ", ".join(["self", "*", *parameters] if parameters else ["self"])
        name = self.table.factory.__name__
        return "\n".join([f"def {name}({named}):", *body, "    return", f"init = {name}"])

    def _default(self, op: Op) -> tuple[str, str]:
        """The default in the signature and the expression that is stored."""
        match op.kind:
            case Kind.INT:
                return "0", op.name
            case Kind.INTS:
                zeros = self.hold((0,) * op.length)
                padded = f"_padded({op.name}, {op.length})"
                return zeros, f"{op.name} if {op.name} is {zeros} else {padded}"
            case Kind.TEXT:
                return "''", op.name
            case Kind.OCTETS:
                zeros = self.hold(bytes(op.size))
                return zeros, f"_whole({op.name}, {op.size})"
            case Kind.RECORD:
                return self.hold(op.make(*(0,) * len(op.code))), op.name
            case Kind.STRUCT:
                assert op.table is not None
                factory = self.hold(op.table.factory)
                return "None", f"{factory}() if {op.name} is None else {op.name}"
            case Kind.UNION:
                return "None", op.name
            case Kind.TAIL:
                if not op.code and op.table is None:
                    return "b''", op.name
                if op.length:
                    return "()", f"_padded({op.name}, {op.length})"
                return "()", f"_tuple_of({op.name})"

    def pack(self) -> str:
        formats: list[str] = []
        before: list[str] = []
        values: list[str] = []
        self._gather_pack(self.table, "self", formats, before, values)
        packer = self.hold(struct.Struct("<" + "".join(formats)).pack)
        lines = ["def pack(self):", "    try:"]
        lines += [f"        {line}" for line in before]
        tail = ""
        if self.table.tail is not None:
            writer = self.hold(_tail_writer(self.table.tail))
            tail = f" + {writer}(self.{self.table.tail.name})"
        lines.append(f"        return {packer}({', '.join(values)}){tail}")
        lines.append("    except (_error, TypeError):")
        lines.append("        _unfit(_table, self)")
        return "\n".join(lines)

    def _gather_pack(
        self, table: Table, path: str, formats: list[str], before: list[str], values: list[str]
    ) -> None:
        for op in table.ops:
            here = f"{path}.{op.name}"
            field = f"{table.name}.{op.field}"
            match op.kind:
                case Kind.INT:
                    formats.append(op.code)
                    values.append(here)
                case Kind.INTS | Kind.RECORD:
                    letters = op.code * op.length if op.kind is Kind.INTS else op.code
                    names = [f"t{len(values)}_{index}" for index in range(len(letters))]
                    formats.append(letters)
                    before.append(f"({', '.join(names)},) = {here}")
                    values += names
                case Kind.TEXT:
                    name = f"t{len(values)}"
                    before.append(f"{name} = {here}")
                    formats.append(f"{op.size}s")
                    values.append(f"_bytes_of({name}, {op.size}, {field!r}) if {name} else b''")
                case Kind.OCTETS:
                    formats.append(f"{op.size}s")
                    values.append(f"_exactly({here}, {op.size}, {field!r})")
                case Kind.UNION:
                    formats.append(f"{op.size}s")
                    values.append(f"_part({here}, {op.size}, {field!r})")
                case Kind.STRUCT:
                    assert op.table is not None
                    name = f"s{len(before)}"
                    before.append(f"{name} = {here}")
                    self._gather_pack(op.table, name, formats, before, values)
                case Kind.TAIL:
                    pass

    def unpack(self) -> str:
        formats: list[str] = []
        before: list[str] = []
        targets: list[str] = []
        after: list[str] = []
        self._gather_unpack(self.table, "self", formats, before, targets, after)
        reader = self.hold(struct.Struct("<" + "".join(formats)).unpack_from)
        factory = self.hold(self.table.factory)
        lines = ["def unpack(buffer, offset=0):", f"    self = _new({factory})"]
        lines += [f"    {line}" for line in before]
        lines += [
            "    try:",
            f"        ({', '.join(targets)},) = {reader}(buffer, offset)"
            if targets
            else "        ()",
            "    except _error:",
            "        _short(_table, buffer, offset)",
        ]
        lines += [f"    {line}" for line in after]
        return "\n".join([*lines, "    return self"])

    def _gather_unpack(
        self,
        table: Table,
        path: str,
        formats: list[str],
        before: list[str],
        targets: list[str],
        after: list[str],
    ) -> None:
        for op in table.ops:
            here = f"{path}.{op.name}"
            name = f"t{len(targets)}"
            match op.kind:
                case Kind.INT:
                    formats.append(op.code)
                    targets.append(here)
                case Kind.INTS | Kind.RECORD:
                    letters = op.code * op.length if op.kind is Kind.INTS else op.code
                    names = [f"{name}_{index}" for index in range(len(letters))]
                    formats.append(letters)
                    targets += names
                    row = f"({', '.join(names)},)"
                    make = f"_tuple({self.hold(op.make)}, {row})" if op.make else row
                    after.append(f"{here} = {make}")
                case Kind.TEXT:
                    formats.append(f"{op.size}s")
                    targets.append(name)
                    after.append(f"{here} = _text_of({name}) if {name}[0] else ''")
                case Kind.OCTETS:
                    formats.append(f"{op.size}s")
                    targets.append(here)
                case Kind.UNION:
                    formats.append(f"{op.size}s")
                    targets.append(name)
                    chooser = self.hold(_chooser(table, op))
                    after.append(f"{here} = {chooser}({path}.{op.selector}, {name})")
                case Kind.STRUCT:
                    assert op.table is not None
                    child = f"s{len(before)}"
                    before.append(f"{child} = {here} = _new({self.hold(op.table.factory)})")
                    self._gather_unpack(op.table, child, formats, before, targets, after)
                case Kind.TAIL if table is self.table:
                    count = f"{path}.{op.selector}" if op.selector else "None"
                    reader = self.hold(_tail_reader(table, op))
                    after.append(f"{here} = {reader}(buffer, offset, {count})")
                case Kind.TAIL:
                    empty = "b''" if not op.code and op.table is None else "()"
                    after.append(f"{here} = {empty}")

    def copy(self) -> str:
        factory = self.hold(self.table.factory)
        lines = ["def copy(self):", f"    other = _new({factory})"]
        lines += [f"    other.{op.name} = self.{op.name}" for op in self.table.ops]
        return "\n".join([*lines, "    return other"])

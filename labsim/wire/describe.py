"""The declarations as tables for people: structs, numbers, formats, and who carries what.

Does not know how a table is printed. Reads what `schema`, `buffers`, `formats` and the groups of
numbers declare; says nothing that they do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from inspect import getdoc, getsource
from typing import Any, NamedTuple

from labsim.base.ids import Fid
from labsim.pure.codec import Kind, Op
from labsim.wire import constants, numbers_then, opcodes, registry
from labsim.wire.buffers import BUFFERS, Buffer, One, Reint, Several
from labsim.wire.eras import DECLARED, Era
from labsim.wire.formats import FORMATS, FORMATS_IN, INTENTS, OPCODES, REINTS, Format
from labsim.wire.schema import BASIC, REGISTERED, Basic, OstId, Union, Wire, WireType

GROUPS = (
    "opcodes", "msg_flags", "connect", "obd_md", "mds_flags", "ldlm_flags", "lov_flags",
    "llog_flags", "hsm_flags", "server_flags", "fid_seq", "lnet_flags", "misc", "errno_wire",
)  # fmt: skip
"""The modules that declare numbers, in the order of the page."""

_LETTERS = {
    "B": "u8", "H": "u16", "I": "u32", "Q": "u64", "b": "i8", "h": "i16", "i": "i32", "q": "i64",
}  # fmt: skip
_BASIC = {"lu_fid": "Fid", "ost_id": "OstId", "lustre_handle": "int", "obd_uuid": "str"}
_RECORDS = {Fid: "lu_fid", OstId: "ost_id"}


class Field(NamedTuple):
    """One line of a struct's table. Offset and size in bytes."""

    offset: int
    size: int
    field: str
    """Lustre's name."""
    type: str
    attribute: str
    """The name in Python; "" for a second name of the same bytes."""
    eras: str
    """What is otherwise in other releases."""


class Struct(NamedTuple):
    """One struct or union."""

    name: str
    size: int
    kind: str
    python: str
    module: str
    about: str
    fields: tuple[Field, ...]
    carriers: tuple[str, ...]
    """Formats that carry it, as "MDS_GETATTR request mdt_body"."""


class Section(NamedTuple):
    """Numbers that belong together."""

    title: str
    numbers: tuple[tuple[str, int | str], ...]


class Group(NamedTuple):
    """The numbers of one module."""

    name: str
    about: str
    sections: tuple[Section, ...]


def type_of(op: Op) -> str:
    """A field's type in a word."""
    match op.kind:
        case Kind.INT:
            return _LETTERS[op.code]
        case Kind.INTS:
            return f"{_LETTERS[op.code]}[{op.length}]"
        case Kind.TEXT:
            return f"char[{op.size}]"
        case Kind.OCTETS:
            return f"byte[{op.size}]"
        case Kind.RECORD:
            return _RECORDS[op.make]
        case Kind.STRUCT:
            assert op.table is not None
            return op.table.name
        case Kind.UNION:
            cases = {case.name for case in op.cases.values() if case is not None}
            return f"{' or '.join(sorted(cases))} by {op.selector}"
    one = "byte"
    if op.table is not None:
        one = op.table.name
    elif op.code:
        one = _RECORDS[op.make] if op.make is not None else _LETTERS[op.code]
    return f"{one}[{op.selector or 'to the end'}]"


def fields_of(cls: Any) -> tuple[Field, ...]:
    """The table of a struct, second names after the first."""
    found = [
        Field(op.offset, op.size, op.field, type_of(op), op.name, _eras(cls, op.name))
        for op in cls.table.ops
    ]
    found += [
        Field(row.offset, row.size, row.field, "the same bytes", "", _eras(cls, row.field))
        for row in cls.second_names
    ]
    for era, at in cls.differs.items():
        for name, (offset, size) in at.added.items():
            found.append(Field(offset, size, name, "", "", f"only in {era}"))
    return tuple(sorted(found, key=lambda field: field.offset))


FLAGS = {
    "lock_flags": "LDLM_FL_", "valid": "OBD_MD_", "bits": "MDS_INODELOCK_", "flags": "OBD_BRW_",
    "mdt_rec_setattr.valid": "MDS_ATTR_",
}  # fmt: skip
"""Whose numbers the bits of a field are."""


def _flags(struct: str, name: str, bits: int) -> str:
    prefix = FLAGS.get(f"{struct}.{name}") or FLAGS[name]
    return " ".join(constants.flag_names(prefix, bits))


def _eras(cls: Any, name: str) -> str:
    """What a field is in other eras."""
    said = []
    for era, at in cls.differs.items():
        if name in at.unknown:
            now = at.unknown[name]
            said.append(f"unknown in {era}" + (f" ({now})" if now else ""))
        elif at.renamed.get(name):
            said.append(f"{at.renamed[name]} in {era}")
        if name in at.bits:
            said.append(f"in {era} without {_flags(cls.table.name, name, at.bits[name])}")
    return ", ".join(said)


@lru_cache
def structs() -> dict[str, Struct]:
    """Every struct and union by Lustre's name."""
    registry()
    carriers = _carriers()
    found = {}
    for name, one in sorted(REGISTERED.items()):
        carried = tuple(carriers.get(name, ()))
        if isinstance(one, WireType):
            python, module = one.__name__, one.__module__.rpartition(".")[2]
            about = " ".join((getdoc(one) or "").split())
            found[name] = Struct(
                name, one.size, "struct", python, module, about, fields_of(one), carried
            )
        else:
            found[name] = Struct(name, one.size, "union", "", "unions", "", _members(one), carried)
    for name, basic in BASIC.items():
        found[name] = Struct(
            name, basic.size, "struct", _BASIC[name], "schema", "", _members(basic), ()
        )
    return dict(sorted(found.items()))


def _members(one: Union | Basic) -> tuple[Field, ...]:
    return tuple(Field(row.offset, row.size, row.field, "", "", "") for row in one.rows())


def _inner(cls: Any) -> Iterator[str]:
    """The struct and all within it."""
    yield cls.table.name
    for op in cls.table.ops:
        if op.table is not None:
            yield from _inner(op.table.factory)
        for case in op.cases.values():
            if case is not None:
                yield from _inner(case.factory)


def _structs_in(one: Buffer) -> set[str]:
    kinds: list[Any] = []
    if isinstance(one, (One, Several)):
        kinds = [one.kind]
    elif isinstance(one, Reint):
        kinds = [table.factory for table in one.plan.records.values()]
    return {name for kind in kinds for name in _inner(kind)}


def _carriers() -> dict[str, list[str]]:
    """Struct to the places in formats that hold it."""
    found: dict[str, list[str]] = {}
    inside = {key: _structs_in(one) for key, one in BUFFERS.items()}
    for fmt in FORMATS.values():
        for side in ("request", "reply"):
            for one in getattr(fmt, side):
                for name in inside[one.key]:
                    found.setdefault(name, []).append(f"{fmt.name} {side} {one.key}")
    return found


@lru_cache
def groups() -> dict[str, Group]:
    """Every group of numbers by its module's name."""
    return {name: _group(name) for name in GROUPS}


def _group(name: str) -> Group:
    """Read a module's sections off its comments."""
    module = import_module(f"labsim.wire.{name}")
    sections: list[Section] = []
    title = ""
    numbers: list[tuple[str, int | str]] = []
    for line in getsource(module).splitlines():
        comment = re.match(r"# (\w.*)", line)
        given = re.match(r"([A-Z][A-Za-z0-9_]*)(?:: \w+)? = ", line)
        if comment:
            if numbers:
                sections.append(Section(title, tuple(numbers)))
            title, numbers = comment.group(1), []
        elif given:
            value = getattr(module, given.group(1))
            if isinstance(value, (int, str)):
                numbers.append((given.group(1), value))
    if numbers:
        sections.append(Section(title, tuple(numbers)))
    return Group(name, " ".join((getdoc(module) or "").split()), tuple(sections))


@lru_cache
def numbers() -> dict[str, int | str]:
    """Every constant by name."""
    return {
        name: value
        for group in groups().values()
        for section in group.sections
        for name, value in section.numbers
    }


def number_then(name: str) -> str:
    """What a number is in other eras, in words; "" where it is the same."""
    said = []
    for era in Era:
        now = numbers().get(name)
        if era is DECLARED or not isinstance(now, (int, type(None))):
            continue
        then = numbers_then.number_in(name, era, now)
        if then != now:
            said.append(f"none in {era}" if then is None else f"{_spelled(then)} in {era}")
    return ", ".join(said)


def _spelled(value: int) -> str:
    return hex(value) if value > 9 else str(value)


def numbers_elsewhere() -> list[str]:
    """Every name whose number differs in some era."""
    found: set[str] = set()
    for era in Era:
        found |= {*numbers_then.OTHER.get(era, {}), *numbers_then.ONLY.get(era, {})}
        found |= numbers_then.WITHOUT.get(era, frozenset())
    return sorted(found)


def sides(fmt: Format) -> dict[str, list[str]]:
    """The buffers of a format, the ptlrpc_body first."""
    body = ["ptlrpc_body"]
    return {
        "request": body + [one.key for one in fmt.request],
        "reply": body + [one.key for one in fmt.reply],
    }


def sent_as(name: str) -> list[str]:
    """Which operations have a format: opcodes, intents, reints."""
    fmt = FORMATS[name]
    found = [f"{opcodes.opcode_name(code)} ({code})" for code, one in OPCODES.items() if one is fmt]
    found += [f"LDLM_ENQUEUE with intent {code:#x}" for code, one in INTENTS.items() if one is fmt]
    found += [f"MDS_REINT operation {code}" for code, one in REINTS.items() if one is fmt]
    return found


def in_eras(name: str) -> list[str]:
    """How a format differs in other eras, in words."""
    said, now = [], FORMATS.get(name)
    for era in Era:
        fmt = FORMATS_IN[era].get(name)
        if era is DECLARED or fmt is now:
            continue
        if fmt is None:
            said.append(f"none in {era}")
            continue
        for side, keys in sides(fmt).items():
            if now is None or keys != sides(now)[side]:
                said.append(f"{side} in {era}: {' '.join(keys[1:])}")
    return said


def plain(value: Any, everything: bool = False) -> Any:
    """A value as text, numbers, lists and dicts; without zeros unless `everything` is wanted."""
    if isinstance(value, Wire):
        defaults = type(value)()
        return {
            op.field or op.name: plain(getattr(value, op.name), everything)
            for op in type(value).table.ops
            if everything or getattr(value, op.name) != getattr(defaults, op.name)
        }
    if isinstance(value, Fid):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [plain(one, everything) for one in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    return value

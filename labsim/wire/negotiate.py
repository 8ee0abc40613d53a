"""Messages as a peer of another era knows them.

Does not know connections; `net.ptlrpc` says which era two peers have in common. A buffer or field
that the era does not have is left out or zero, whoever made the message: it is neither sent nor
read. Stands for what Lustre's code does case by case with exp_connect_flags.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from labsim.pure.codec import Kind, Table
from labsim.wire.eras import DECLARED, Era, differences
from labsim.wire.formats import Format, format_in
from labsim.wire.message import Message
from labsim.wire.schema import Wire


def in_era(message: Message, era: Era) -> Message:
    """The message as both sides understand it; the same object where nothing has to change.

    A format that the era does not have stays as it is: the peer says that it does not know it.
    """
    if era is DECLARED:
        return message
    fmt = format_in(message.fmt, era)
    fields = {key: _known(value, era) for key, value in _carried(message, fmt).items()}
    same = fmt is message.fmt and len(fields) == len(message.fields)
    if same and all(value is message.fields[key] for key, value in fields.items()):
        return message
    made = Message(fmt, fields, message.body, message.flags, message.repsize, message.request)
    made.cksum = message.cksum
    if message.bufcount:
        made.bufcount = min(message.bufcount, len(made.layout) + 1)
    return made


def _carried(message: Message, fmt: Format) -> dict[str, Any]:
    """The fields that have a buffer in that format."""
    layout = fmt.request if message.request else fmt.reply
    keys = {one.key for one in layout}
    return {key: value for key, value in message.fields.items() if key in keys}


def _known(value: Any, era: Era) -> Any:
    """A buffer's value without what the era does not know."""
    if isinstance(value, list):
        known = [_known(one, era) for one in value]
        return known if any(a is not b for a, b in zip(known, value, strict=True)) else value
    return without_unknown(value, era) if isinstance(value, Wire) else value


def without_unknown(value: Any, era: Era) -> Any:
    """A struct whose unknown fields and bits are zero; itself where they are, or all are known."""
    table = type(value).table
    if not _concerned(table, era):
        return value
    changes: dict[str, Any] = {}
    at = differences(table.factory, era)
    for op in table.ops:
        held = getattr(value, op.name)
        if op.name in at.bits:
            if held & at.bits[op.name]:
                changes[op.name] = held & ~at.bits[op.name]
        elif op.name in at.unknown:
            nothing = getattr(_plain(table), op.name)
            if held != nothing:
                changes[op.name] = type(nothing)() if isinstance(nothing, Wire) else nothing
        elif isinstance(held, Wire):
            known = without_unknown(held, era)
            if known is not held:
                changes[op.name] = known
        elif op.kind is Kind.TAIL and op.table is not None:
            all_known = tuple(without_unknown(one, era) for one in held)
            if any(a is not b for a, b in zip(all_known, held, strict=True)):
                changes[op.name] = all_known
    return value.replace(**changes) if changes else value


@lru_cache
def _plain(table: Table) -> Any:
    """An object of defaults; never handed out."""
    return table.factory()


@lru_cache
def _concerned(table: Table, era: Era) -> bool:
    """Whether a struct, or one within it, has fields or bits that the era does not know."""
    inner = [op.table for op in table.ops if op.table is not None]
    for op in table.ops:
        inner += [case for case in op.cases.values() if case is not None]
    at = differences(table.factory, era)
    return bool(at.unknown or at.bits) or any(_concerned(one, era) for one in inner)

"""`labsim wire`: the protocol as it is declared, and bytes read by it.

Does not know the protocol; `wire.describe` makes the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from os.path import isfile
from pathlib import Path
from typing import Any

import click

from labsim.base.errors import InputError, ProtocolError
from labsim.base.units import NS_PER_S
from labsim.cli.common import json_option, print_json, write
from labsim.cli.wire_words import errno_of, said

KINDS = ("structs", "formats", "numbers", "operations")


@click.group("wire", epilog="Example: labsim wire show mdt_body")
def command() -> None:
    """Show the protocol: structs, formats, numbers; decode captures and bytes."""


@command.command("list", epilog="Example: labsim wire list formats")
@click.argument("kinds", nargs=-1, type=click.Choice(KINDS))
@json_option
def list_(kinds: tuple[str, ...], as_json: bool) -> None:
    """List what is declared."""
    tables = {kind: _LISTS[kind]() for kind in kinds or KINDS}
    if as_json:
        plain = {
            kind: [dict(zip(head, row, strict=True)) for row in rows]
            for kind, (head, rows) in tables.items()
        }
        print_json(plain)
        return
    for number, (kind, (head, rows)) in enumerate(tables.items()):
        if len(tables) > 1:
            click.echo(f"{chr(10) * bool(number)}{kind}")
        _table(head, rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    from rich.markup import escape

    from labsim.scenario.tables import print_table

    print_table(head, [[escape(str(cell)) for cell in row] for row in rows])


def _list_structs() -> tuple[list[str], list[list[Any]]]:
    from labsim.wire import describe

    rows = [
        [s.name, s.size, s.kind, s.module, s.about.partition(". ")[0].removesuffix(".")]
        for s in describe.structs().values()
    ]
    return ["name", "bytes", "kind", "module", "about"], rows


def _list_formats() -> tuple[list[str], list[list[Any]]]:
    from labsim.wire import describe

    rows = []
    for name, fmt in describe.FORMATS.items():
        sides = describe.sides(fmt)
        rows.append([name, " ".join(sides["request"][1:]), " ".join(sides["reply"][1:])])
    return ["format", "request", "reply"], rows


def _list_numbers() -> tuple[list[str], list[list[Any]]]:
    from labsim.wire import describe

    rows = [
        [group.name, section.title, len(section.numbers)]
        for group in describe.groups().values()
        for section in group.sections
    ]
    return ["group", "section", "numbers"], rows


def _list_operations() -> tuple[list[str], list[list[Any]]]:
    from labsim.wire import opcodes as op
    from labsim.wire.formats import OPCODES

    rows = []
    for code, route in sorted(op.ROUTES.items()):
        portals = op.CHOSEN_PORTALS.get(code, (route.request_portal,))
        portal = " or ".join([op.portal_name(one) for one in portals if one]) or "the import's"
        fmt = OPCODES.get(code)
        rows.append([code, op.opcode_name(code), portal, fmt.name if fmt else "by what it carries"])
    return ["code", "operation", "portal", "format"], rows


_LISTS = {
    "structs": _list_structs,
    "formats": _list_formats,
    "numbers": _list_numbers,
    "operations": _list_operations,
}


@command.command("show", epilog="Example: labsim wire show MDS_GETATTR")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a struct, a format, a number, a group of numbers, or numbers by how they begin."""
    found = _find(name)
    if as_json:
        print_json(found)
        return
    for kind, value in found.items():
        _SHOW[kind](value)


def _find(name: str) -> dict[str, Any]:
    """Everything of that name; InputError with a did-you-mean where there is nothing."""
    from labsim.wire import describe

    structs, groups = describe.structs(), describe.groups()
    numbers = dict.fromkeys(describe.numbers_elsewhere(), "") | describe.numbers()
    found: dict[str, Any] = {}
    if name in structs:
        found["struct"] = {
            **structs[name]._asdict(), "fields": [f._asdict() for f in structs[name].fields],
        }  # fmt: skip
    if name in describe.FORMATS:
        fmt = describe.FORMATS[name]
        found["format"] = {
            "name": name, **describe.sides(fmt), "sent_as": describe.sent_as(name),
            "eras": describe.in_eras(name),
        }  # fmt: skip
    if name in groups:
        found["group"] = {
            "name": name, "about": groups[name].about,
            "sections": {s.title: dict(s.numbers) for s in groups[name].sections},
        }  # fmt: skip
    matching = {one: value for one, value in numbers.items() if one.startswith(name)}
    if name in numbers:
        found["numbers"] = {name: numbers[name]}
    elif not found and matching:
        found["numbers"] = matching
    if not found:
        from labsim.scenario.suggest import nearest

        known = [*structs, *describe.FORMATS, *groups, *numbers]
        raise InputError(f"nothing in the protocol is called '{name}'{nearest(name, known)}")
    return found


def _show_struct(found: dict[str, Any]) -> None:
    click.echo(f"{found['kind']} {found['name']}, {found['size']} bytes ({found['module']}.py)")
    if found["about"]:
        click.echo(found["about"])
    head = ["offset", "size", "field", "type", "other releases"]
    _table(
        head,
        [[f["offset"], f["size"], f["field"], f["type"], f["eras"]] for f in found["fields"]],
    )
    _bullets("in", found["carriers"])


def _show_format(found: dict[str, Any]) -> None:
    click.echo(f"format {found['name']}")
    for side in ("request", "reply"):
        click.echo(f"  {side}: {' '.join(found[side])}")
    _bullets("sent as", found["sent_as"])
    _bullets("other releases", found["eras"])


def _show_group(found: dict[str, Any]) -> None:
    click.echo(found["about"])
    for title, numbers in found["sections"].items():
        click.echo(f"\n{title}")
        _show_numbers(numbers)


def _show_numbers(found: dict[str, Any]) -> None:
    from labsim.wire.describe import number_then

    _table(
        ["name", "value", "hex", "other releases"],
        [[name, v, _hex(v), number_then(name)] for name, v in found.items()],
    )


def _hex(value: Any) -> str:
    return hex(value) if isinstance(value, int) and value > 9 else ""


def _bullets(title: str, lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(f"  {title}: {line}")


_SHOW = {
    "struct": _show_struct,
    "format": _show_format,
    "group": _show_group,
    "numbers": _show_numbers,
}


@command.command("decode", epilog="Example: labsim wire decode run.pcap --fields")
@click.argument("what", metavar="FILE.pcap|HEX")
@click.option("--as", "struct", metavar="STRUCT", help="HEX is this struct, not a message.")
@click.option("--fields", is_flag=True, help="Print the fields too, those that are not zero.")
@click.option("--all", "everything", is_flag=True, help="Print zeros too.")
@json_option
def decode(what: str, struct: str | None, fields: bool, everything: bool, as_json: bool) -> None:
    """Read a capture of TCP port 988, or one message in hexadecimal digits."""
    lines = list(_decoded(what, struct, everything))
    if as_json:
        print_json({"messages": lines})
        return
    for line in lines:
        values = line.pop("fields", None)
        click.echo(_one_line(line))
        if values and (fields or everything or struct or len(lines) == 1):
            _tree(values, "    ")


def _one_line(line: dict[str, Any]) -> str:
    """A message in a line: who, what, how it went."""
    words = []
    if "frame" in line:
        words = [f"{line['frame']} {line['time']} {line['from']} > {line['to']} {line['kind']}"]
    shown = {"struct": "", "operation": "", "what": "", "status": "status ", "format": "as "}
    shown |= {"portal": "portal ", "match": "match ", "transno": "transno ", "bytes": "bytes "}
    shown |= {"error": "error: "}
    if line.get("format") == line.get("operation"):
        del shown["format"]
    told = line | {"status": errno_of(line.get("status", ""))}
    if "operation" in line and "match" in line:
        shown["match"] = "xid "
        told["match"] = int(line["match"], 16)
    words += [f"{word}{told[key]}" for key, word in shown.items() if told.get(key, "") != ""]
    return " ".join(words)


def _tree(value: Any, indent: str) -> None:
    """Print nested values, one per line."""
    for key, one in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(one, (dict, list)) and one and not _flat(one):
            click.echo(f"{indent}{key}:")
            _tree(one, indent + "    ")
        else:
            click.echo(f"{indent}{key}: {said(str(key), one)}")


def _flat(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(one, (dict, list)) for one in value)


def _decoded(what: str, struct: str | None, everything: bool) -> Iterator[dict[str, Any]]:
    if struct is None and (isfile(what) or not _digits(what)):
        yield from _from_capture(what, everything)
    else:
        yield _from_hex(_digits(what), struct, everything)


def _digits(text: str) -> bytes:
    """The bytes that hexadecimal digits stand for; none where they are none."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _from_capture(path: str, everything: bool) -> Iterator[dict[str, Any]]:
    from labsim.net import lnet, pcap_read
    from labsim.wire import opcodes as op

    for seen in pcap_read.read(path):
        packet = seen.packet
        line = {
            "frame": seen.number,
            "time": f"{seen.time_ns // NS_PER_S}.{seen.time_ns % NS_PER_S:09d}",
            "from": str(seen.src),
            "to": str(seen.dst),
            "kind": lnet.KIND_NAMES[packet.kind],
            "match": f"{packet.match:#x}" if packet.kind != lnet.ACK else "",
        }
        if seen.message is not None:
            line |= _message(seen.message, everything)
        else:
            portal = op.portal_name(packet.portal) if packet.kind in (lnet.PUT, lnet.GET) else ""
            line |= {"portal": portal, "bytes": packet.length, "error": seen.error}
        yield line


def _message(message: Any, everything: bool) -> dict[str, Any]:
    from labsim.wire import opcodes as op
    from labsim.wire.describe import plain

    body = message.body
    fields = {"ptlrpc_body": plain(body, everything)}
    fields |= {key: plain(value, everything) for key, value in message.fields.items()}
    return {
        "operation": op.opcode_name(message.opcode),
        "what": "request" if message.request else "reply",
        "status": "" if message.request else message.status,
        "format": message.fmt.name,
        "bytes": message.wire_size,
        "transno": body.transno or "",
        "fields": fields,
    }


def _from_hex(raw: bytes, struct: str | None, everything: bool) -> dict[str, Any]:
    from labsim.wire import describe
    from labsim.wire.message import Message
    from labsim.wire.schema import REGISTERED, WireType

    if not raw:
        raise InputError("no file of that name, and no hexadecimal digits")
    try:
        if struct is not None:
            cls: Any = REGISTERED.get(struct) if struct in describe.structs() else None
            if not isinstance(cls, WireType):
                from labsim.scenario.suggest import nearest

                raise InputError(f"no struct '{struct}'{nearest(struct, describe.structs())}")
            value = cls.unpack(raw)
            return {"struct": struct, "fields": describe.plain(value, everything)}
        start = 32 + (4 * int.from_bytes(raw[:4], "little") + 7 & ~7)
        request = int.from_bytes(raw[start + 8 : start + 12], "little") == 4711
        return _message(Message.decode(raw, request), everything)
    except ProtocolError as error:
        raise InputError(f"cannot be read: {error}") from None


@command.command("page", epilog="Example: labsim wire page --check")
@click.argument("path", default="docs/protocol.md", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; fail where the file is not up to date.")
def page(path: Path, check: bool) -> int:
    """Write the page that holds all of it (docs/protocol.md)."""
    from labsim.cli.wire_page import text

    made = text()
    if not check:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, made)
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == made:
        return 0
    click.echo(f"{path} is not up to date: labsim wire page", err=True)
    return 1

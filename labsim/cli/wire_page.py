"""The page docs/protocol.md, made of the declarations: nothing in it is typed twice.

Does not know Lustre; `wire.describe` has the tables, `wire_sequences` the order of messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from labsim.cli.wire_sequences import SEQUENCES
from labsim.wire import describe, opcodes
from labsim.wire.eras import DECLARED
from labsim.wire.formats import FORMATS_IN, OPCODES

HEAD = """\
# The protocol

What labsim speaks: Lustre 2.12, as its nodes declare it in `labsim/wire`; where 2.10 and 2.15 have
something else, it stands beside. Integers are little endian, offsets and sizes are bytes.

This page is generated: `labsim wire page` writes it, `labsim wire page --check` compares.
`labsim wire show NAME` prints one entry, `labsim wire decode FILE.pcap` reads a capture by it.
"""

FRAMING = """\
## Framing

From the outside in:

| layer | bytes | declared as |
|---|---|---|
| TCP | port 988; three connections for each pair of nodes | |
| socklnd | 24 before each message | `ksock_msg` |
| LNet | 72: who, to whom, PUT, GET, REPLY or ACK, portal, match bits | `lnet_hdr` |
| lustre_msg | 32, then a length for each buffer, filled up to 8 | `lustre_msg_v2` |
| buffers | one after the other, each filled up to 8 | the formats below |

Buffer 0 is the RPC's body: 184 bytes of `ptlrpc_body_v3` in a request, 152 of `ptlrpc_body_v2` in a
reply. A buffer of no bytes takes no room but counts. A failure is its body alone unless the handler
has more to say. Strings end with a NUL that counts; the uuids of a connect take 39 bytes each.
"""


def text() -> str:
    """The whole page."""
    parts = [HEAD, FRAMING, *_sequences(), *_operations(), *_formats(), *_structs(), *_numbers()]
    parts += _numbers_elsewhere()
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(_cell(str(cell)) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: str) -> str:
    return value.replace("|", "\\|")


def _sequences() -> Iterator[str]:
    yield "## Conversations\n"
    for one in SEQUENCES:
        yield f"### {one.title}\n\n{one.about}\n"
        yield _table(["way", "message", "for"], one.lines)


def _operations() -> Iterator[str]:
    yield "## Operations\n\nA portal of the import is that of the kind of target it leads to.\n"
    rows = []
    for code, route in sorted(opcodes.ROUTES.items()):
        fmt = OPCODES.get(code)
        rows.append(
            [
                code,
                opcodes.opcode_name(code),
                _portal(*opcodes.CHOSEN_PORTALS.get(code, (route.request_portal,))),
                _portal(route.reply_portal),
                fmt.name if fmt is not None else "by what it carries",
            ]
        )
    yield _table(["code", "operation", "request portal", "reply portal", "format"], rows)


def _portal(*numbers: int) -> str:
    named = [f"{opcodes.portal_name(number)} ({number})" for number in numbers if number]
    return " or ".join(named) or "the import's"


def _formats() -> Iterator[str]:
    yield "## Formats\n\nThe buffers after buffer 0, in their order.\n"
    rows = []
    for name, fmt in describe.FORMATS.items():
        sides = describe.sides(fmt)
        rows.append([name, " ".join(sides["request"][1:]), " ".join(sides["reply"][1:])])
    yield _table(["format", "request", "reply"], rows)
    yield "### In other releases\n"
    names = sorted({name for known in FORMATS_IN.values() for name in known})
    yield _table(
        ["format", "difference"],
        [[name, said] for name in names for said in describe.in_eras(name)],
    )


def _structs() -> Iterator[str]:
    yield "## Structs\n"
    found = sorted(describe.structs().values(), key=lambda one: (one.module, one.name))
    for module, structs in groupby(found, key=lambda one: one.module):
        yield f"### {module}\n"
        for one in structs:
            yield f"#### {one.name}\n\n{_about(one)}\n"
            rows = [(f.offset, f.size, f.field, f.type, f.eras) for f in one.fields]
            yield _table(["offset", "size", "field", "type", "other releases"], rows)


def _about(one: describe.Struct) -> str:
    """Size, sentence, carriers, absence."""
    said = [f"{one.kind.capitalize()} of {one.size} bytes.", one.about]
    kind = describe.REGISTERED.get(one.name)
    differs = getattr(kind, "differs", {})
    for era, at in differs.items():
        said.append(f"Not in {era}." if at.absent else "")
        said.append(f"{at.size} bytes in {era}." if at.size else "")
        moved = ", ".join(f"`{name}` at {place[0]}" for name, place in at.moved.items())
        said.append(f"Elsewhere in {era}: {moved}." if moved else "")
    formats = list(dict.fromkeys(carrier.split()[0] for carrier in one.carriers))
    if formats:
        more = f" and {len(formats) - 6} more" if len(formats) > 6 else ""
        said.append(f"In {', '.join(formats[:6])}{more}.")
    return " ".join(part for part in said if part)


def _numbers() -> Iterator[str]:
    yield f"## Numbers\n\nOf {DECLARED}.\n"
    for group in describe.groups().values():
        yield f"### {group.name}\n\n{group.about}\n"
        for section in group.sections:
            rows = [(name, value, _hex(value)) for name, value in section.numbers]
            yield f"#### {group.name}: {section.title}\n"
            yield _table(["name", "value", "hex"], rows)


def _numbers_elsewhere() -> Iterator[str]:
    yield "## Numbers in other releases\n\nWhat has another value there, or is not in both.\n"
    known = describe.numbers()
    yield _table(
        ["name", str(DECLARED), "elsewhere"],
        [[n, known.get(n, ""), describe.number_then(n)] for n in describe.numbers_elsewhere()],
    )


def _hex(value: object) -> str:
    return hex(value) if isinstance(value, int) and value > 9 else ""

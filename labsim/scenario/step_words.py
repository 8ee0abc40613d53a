"""The words of the steps that are no commands: wait, net, fault.

Does not know YAML nodes nor how a step is carried out; turns words into the model and says which
field is wrong.
"""

from __future__ import annotations

import errno
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from labsim.base.errors import InputError
from labsim.base.faults import (
    FAIL_MASK,
    FAIL_ONCE,
    FAIL_RAND,
    FAIL_SKIP,
    FAIL_SOME,
    REACTIONS,
    Point,
)
from labsim.base.units import parse_duration
from labsim.scenario import model
from labsim.scenario.suggest import nearest
from labsim.scenario.words import SyntaxProblem, Word

POWER = ("kill", "start", "mount", "umount")

IMPORT_STATES = (
    "CLOSED", "NEW", "DISCONN", "CONNECTING", "REPLAY", "REPLAY_LOCKS", "REPLAY_WAIT", "RECOVER",
    "FULL", "EVICTED", "IDLE",
)  # fmt: skip


class BadField(InputError):
    """One field of a step is wrong."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(what)
        self.field = field


def pattern(expect: str | None) -> str | None:
    """The expression in /regex/; None where the text is meant exactly."""
    if expect is not None and len(expect) > 1 and expect[0] == expect[-1] == "/":
        return expect[1:-1]
    return None


# ---- wait


class WaitWords(msgspec.Struct, frozen=True, kw_only=True):
    """`wait: {import: FULL, on: c0}` or `wait: {param: .., is: .., on: c0}`."""

    on: str
    import_: str = msgspec.field(name="import", default="")
    target: str = ""
    param: str = ""
    shows: str = msgspec.field(name="is", default="")
    within: model.Nanoseconds = model.Nanoseconds(model.STEP_TIMEOUT_NS)


def wait(words: WaitWords, cluster: model.ClusterSpec, line: int) -> model.Wait:
    """A wait for a state."""
    _known_node("on", words.on, cluster)
    if bool(words.import_) == bool(words.param):
        raise BadField("", "say what to wait for: a time (30s), import: STATE, or param: and is:")
    if words.import_ and words.import_ not in IMPORT_STATES:
        what = f"unknown import state '{words.import_}'{nearest(words.import_, IMPORT_STATES)}"
        raise BadField("import", what)
    return model.Wait(
        line=line,
        import_=words.import_,
        param=words.param,
        shows=words.shows,
        on=words.on,
        target=words.target,
        within_ns=words.within,
    )


def _known_node(field: str, name: str, cluster: model.ClusterSpec) -> None:
    if cluster.role(name) is None:
        raise BadField(field, f"unknown node '{name}'{nearest(name, cluster.nodes())}")


# ---- net

_ARROWS = {"|": True, "<->": True, "->": False}
_FILTERS = ("opc", "portal", "kind", "rate", "skip", "count")
_KINDS = {"ACK": 0, "PUT": 1, "GET": 2, "REPLY": 3}


def net(text: str, nodes: dict[str, str]) -> dict[str, Any]:
    """Read partition c0 | oss0, drop c0 -> oss0 opc=OST_WRITE count=1, delay c0 -> * 2s, heal."""
    words = [Word(word, start) for word, start in _bare(text)]
    if not words:
        raise SyntaxProblem("say what happens: partition, drop, delay or heal", 0)
    action, *rest = words
    if action.text == "heal":
        _no_more(rest)
        return {"action": "heal"}
    if action.text not in {"partition", "drop", "delay"}:
        hint = nearest(action.text, ["partition", "drop", "delay", "heal"])
        raise SyntaxProblem(f"unknown network step '{action.text}'{hint}", action.start)
    if len(rest) < 3:
        raise SyntaxProblem(f"write {action.text} NODES -> NODES, or | for both ways", action.start)
    left, arrow, right, *more = rest
    if arrow.text not in _ARROWS:
        raise SyntaxProblem(f"'{arrow.text}' stands where ->, <-> or | is needed", arrow.start)
    found: dict[str, Any] = {"action": action.text, "both_ways": _ARROWS[arrow.text]}
    found["src"], found["dst"] = _group(left, nodes), _group(right, nodes)
    if action.text == "delay":
        if not more:
            raise SyntaxProblem("say how long, as in 2s", right.start)
        found["delay_ns"] = _at(more[0], parse_duration, more.pop(0).text)
    if action.text == "partition":
        _no_more(more)
    found["match"] = dict(_filter(word) for word in more)
    return found


def _bare(text: str) -> list[tuple[str, int]]:
    """Words between blanks, with their offsets."""
    found, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        found.append((word, at))
        at += len(word)
    return found


def _no_more(words: list[Word]) -> None:
    if words:
        raise SyntaxProblem(f"'{words[0].text}' is one too many", words[0].start)


def _group(word: Word, nodes: dict[str, str]) -> list[str]:
    """`c0,c1` or `*` (every node) as names."""
    if word.text == "*":
        return []
    names = word.text.split(",")
    for name in names:
        if name not in nodes:
            raise SyntaxProblem(f"unknown node '{name}'{nearest(name, nodes)}", word.start)
    return names


def _at(word: Word, read: Any, text: str) -> Any:
    """A value read; its mistakes point at its word."""
    try:
        return read(text)
    except InputError as error:
        raise SyntaxProblem(error.what, word.start) from None
    except ValueError:
        raise SyntaxProblem(f"'{text}' is no number", word.start) from None


def _filter(word: Word) -> tuple[str, Any]:
    key, _, value = word.text.partition("=")
    if key not in _FILTERS or not value:
        raise SyntaxProblem(f"'{word.text}' is no filter{nearest(key, _FILTERS)}", word.start)
    if key == "rate":
        return key, _at(word, float, value)
    if key == "kind" and value in _KINDS:
        return key, _KINDS[value]
    if key == "opc" and not value[:1].isdigit():
        known = opcodes()
        if value not in known:
            raise SyntaxProblem(f"unknown opcode '{value}'{nearest(value, known)}", word.start)
        return key, known[value]
    return key, _at(word, lambda text: int(text, 0), value)


@cache
def opcodes() -> dict[str, int]:
    """Every RPC's opcode by Lustre's name."""
    from labsim.wire import opcodes as module

    return {name: value for name, value in vars(module).items() if name.isupper()
            and isinstance(value, int)}  # fmt: skip


# ---- fault


class FaultWords(msgspec.Struct, frozen=True, kw_only=True):
    """`fault: {on: oss0, at: OST_BRW_WRITE_BULK, do: delay 5s, once: true}`."""

    on: str
    at: str
    do: str = ""
    once: bool = False
    skip: int = 0
    some: int = 0
    rand: int = 0
    val: int = 0
    cure: bool = False


def fault(words: FaultWords, cluster: model.ClusterSpec, line: int) -> model.Fault:
    """A fault point armed, or taken back."""
    _known_node("on", words.on, cluster)
    number, name = _point(words.at)
    bits, val = number & ~FAIL_MASK | (FAIL_ONCE if words.once else 0), words.val
    for field, bit in (("skip", FAIL_SKIP), ("some", FAIL_SOME), ("rand", FAIL_RAND)):
        count = getattr(words, field)
        if count:
            if val:
                _bad(field, "skip, some, rand and val exclude one another: fail_val is one number")
            bits, val = bits | bit, count
    do, value = _reaction(words.do)
    return model.Fault(
        line=line,
        on=words.on,
        at=number & FAIL_MASK,
        name=name,
        do=do,
        value=value,
        bits=bits,
        val=val,
        cure=words.cure,
    )


def _bad(field: str, what: str) -> NoReturn:
    raise BadField(field, what)


def _point(text: str) -> tuple[int, str]:
    """A fault point's number (with fail_loc's bits) and name."""
    if text[:1].isdigit():
        try:
            number = int(text, 0)
        except ValueError:
            _bad("at", f"'{text}' is no number; write 0x20e or a point's name")
        names = [point.name for point in points().values() if point.number == number & FAIL_MASK]
        return number, names[0] if names else ""
    name = text.removeprefix("OBD_FAIL_")
    known = points()
    if name not in known:
        _bad("at", f"unknown fault point '{text}'{nearest(name, known)}")
    return known[name].number, name


def _reaction(text: str) -> tuple[str, int]:
    """`delay 5s`, `fail ENOSPC`, `drop`, `crash`, `hold`."""
    words = text.split()
    if not words:
        return "", 0
    do, *rest = words
    if do not in REACTIONS:
        _bad("do", f"unknown reaction '{do}'{nearest(do, REACTIONS)}")
    if do == "delay" and len(rest) == 1:
        try:
            return do, parse_duration(rest[0])
        except InputError as error:
            _bad("do", error.what)
    if do == "fail" and len(rest) == 1:
        numbers = {name: number for number, name in errno.errorcode.items()}
        if rest[0] not in numbers:
            _bad("do", f"unknown errno '{rest[0]}'{nearest(rest[0], numbers)}")
        return do, numbers[rest[0]]
    if rest:
        _bad("do", f"'{text}' is not understood; as in: delay 5s, fail ENOSPC, drop")
    return do, 0


@cache
def points() -> dict[str, Point]:
    """Every fault point that a node visits, by name: each `points.py` of the package."""
    from importlib import import_module

    package = Path(__file__).resolve().parent.parent
    found: dict[str, Point] = {}
    for path in sorted(package.rglob("points.py")):
        module = ".".join(("labsim", *path.relative_to(package).with_suffix("").parts))
        declared = vars(import_module(module)).items()
        found |= {name: value for name, value in declared if isinstance(value, Point)}
    return found


WAIT = (WaitWords, wait)
FAULT = (FaultWords, fault)

__all__ = ["FAULT", "POWER", "WAIT", "BadField", "net", "opcodes", "pattern", "points"]

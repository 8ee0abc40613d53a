"""The words of the steps that break things: fault, race, disk, clock, fail.

Does not know YAML nodes nor how a step is carried out; turns words into the model and says which
word or field is wrong.
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
from labsim.scenario.step_words import BadField, known_node
from labsim.scenario.suggest import nearest
from labsim.scenario.words import SyntaxProblem, Word, bare, read_at
from labsim.storage.trouble import STATES

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
    known_node("on", words.on, cluster)
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
def _rows() -> dict[str, tuple[Point, str]]:
    """Every fault point that a node visits, by name, and the module that declares it."""
    from importlib import import_module

    package = Path(__file__).resolve().parent.parent
    found: dict[str, tuple[Point, str]] = {}
    for path in sorted(package.rglob("points.py")):
        module = ".".join(("labsim", *path.relative_to(package).with_suffix("").parts))
        declared = vars(import_module(module)).items()
        found |= {name: (value, module) for name, value in declared if isinstance(value, Point)}
    return found


def points() -> dict[str, Point]:
    """Every fault point that a node visits, by name: each `points.py` of the package."""
    return {name: point for name, (point, _) in _rows().items()}


def point_roles() -> dict[str, str]:
    """Which kind of node visits a point, by name; those that several kinds visit are not there."""
    homes = {name: module.split(".")[-2] for name, (_, module) in _rows().items()}
    return {name: home for name, home in homes.items() if home in {"client", "mds", "oss", "mgs"}}


# ---- race


def race(places: list[str], cluster: model.ClusterSpec, line: int) -> model.Race:
    """`[mds0:POINT_A, POINT_B]`: two points of one node, left out where only one can be meant."""
    if len(places) != 2:
        raise InputError("a race is between two fault points: [POINT_A, POINT_B]")
    numbers, names, nodes = [], [], []
    for place in places:
        node, _, text = place.rpartition(":")
        number, name = _point(text)
        numbers.append(number & FAIL_MASK)
        names.append(name or text)
        nodes.append(node or _home(name, cluster))
    for node in nodes:
        if node:
            known_node("", node, cluster)
    said = [node for node in nodes if node]
    if not said:
        raise InputError(f"say which node visits '{names[0]}', as in mds0:{names[0]}")
    if len(set(said)) > 1:
        raise InputError("a race is between two processes of one node")
    first, second = names
    return model.Race(line=line, on=said[0], at=(numbers[0], numbers[1]), names=(first, second))


def _home(name: str, cluster: model.ClusterSpec) -> str:
    """The only node that can visit a point; empty where there are several."""
    role = point_roles().get(name, "")
    nodes = [node for node, kind in cluster.nodes().items() if kind == role]
    return nodes[0] if len(nodes) == 1 else ""


# ---- disk, clock, fail


def disk(text: str, cluster: model.ClusterSpec) -> dict[str, Any]:
    """Read `oss0 slow 50ms`, `OST0001 full`, `oss0 eio`, `oss0 ok`."""
    words = bare(text)
    if len(words) < 2:
        raise SyntaxProblem("write disk: NODE slow 50ms, full, eio, readonly or ok", 0)
    place, state, *more = words
    targets = cluster.targets()
    found: dict[str, Any] = {"node": targets.get(place.text, place.text), "state": state.text}
    if place.text in targets:
        found["targets"] = [place.text]
    if found["node"] not in targets.values():
        known = nearest(place.text, [*dict.fromkeys(targets.values()), *targets])
        raise SyntaxProblem(f"'{place.text}' has no disk{known}", place.start)
    if state.text not in STATES:
        hint = nearest(state.text, STATES)
        raise SyntaxProblem(f"a disk is never '{state.text}'{hint}", state.start)
    if state.text == "slow":
        if not more:
            raise SyntaxProblem("say how slow, as in 50ms", state.start)
        found["delay_ns"] = read_at(more[0], parse_duration, more.pop(0).text)
    _no_more(more)
    return found


def clock(text: str, cluster: model.ClusterSpec) -> dict[str, Any]:
    """Read `c0 jump 1h`, `c0 jump -10m`."""
    words = bare(text)
    if len(words) < 3 or words[1].text != "jump":
        raise SyntaxProblem("write clock: NODE jump 1h, or -1h", 0)
    node, _, time, *more = words
    _node(node, cluster)
    _no_more(more)
    by_ns = read_at(time, parse_duration, time.text.removeprefix("-"))
    return {"node": node.text, "by_ns": -by_ns if time.text[0] == "-" else by_ns}


def fail(text: str, cluster: model.ClusterSpec) -> dict[str, Any]:
    """Read `oss0 to oss1`, `oss0 back`."""
    words = bare(text)
    said = [word.text for word in words[1:]]
    if said != ["back"] and (len(said) != 2 or said[0] != "to"):
        raise SyntaxProblem("write fail: oss0 to oss1, or fail: oss0 back", 0)
    servers = (words[0], words[2]) if len(said) == 2 else (words[0],)
    for word in servers:
        if _node(word, cluster) == "client":
            raise SyntaxProblem(f"'{word.text}' serves no target", word.start)
    if len(said) == 2 and words[0].text == words[2].text:
        raise SyntaxProblem("a server cannot be its own partner", words[2].start)
    return {"node": words[0].text, "to": said[1] if len(said) == 2 else ""}


def _node(word: Word, cluster: model.ClusterSpec) -> str:
    role = cluster.role(word.text)
    if role is None:
        known = nearest(word.text, cluster.nodes())
        raise SyntaxProblem(f"unknown node '{word.text}'{known}", word.start)
    return role


def _no_more(words: list[Word]) -> None:
    if words:
        raise SyntaxProblem(f"'{words[0].text}' is one too many", words[0].start)


FAULT = (FaultWords, fault)

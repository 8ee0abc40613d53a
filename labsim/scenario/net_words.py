"""The words of a net step, as they are written behind `net:`.

Does not know YAML nodes nor packets; turns text into the fields of `model.Net`. Every mistake
points at its word.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from labsim.base.ids import Nid
from labsim.base.units import parse_duration
from labsim.scenario import model
from labsim.scenario.suggest import nearest
from labsim.scenario.words import SyntaxProblem, Word, bare, read_at

_ARROWS = {"|": True, "<->": True, "->": False}
_FILTERS = ("opc", "portal", "kind", "rate", "skip", "count")
_KINDS = {"ACK": 0, "PUT": 1, "GET": 2, "REPLY": 3}


_ACTIONS = ("partition", "drop", "delay", "duplicate", "reorder", "heal")
_TIMED = {"delay": "how long", "reorder": "how late a packet may come", "duplicate": ""}
"""What the time behind the nodes says; a duplicate needs none."""


def net(text: str, cluster: model.ClusterSpec) -> dict[str, Any]:
    """Read partition c0 | oss0, drop c0 -> oss0 opc=OST_WRITE count=1, delay c0 -> * 2s, heal."""
    words = bare(text)
    if not words:
        raise SyntaxProblem(f"say what happens: {', '.join(_ACTIONS)}", 0)
    action, *rest = words
    if action.text == "heal":
        _no_more(rest)
        return {"action": "heal"}
    if action.text not in _ACTIONS:
        hint = nearest(action.text, _ACTIONS)
        raise SyntaxProblem(f"unknown network step '{action.text}'{hint}", action.start)
    if len(rest) < 3:
        raise SyntaxProblem(f"write {action.text} NODES -> NODES, or | for both ways", action.start)
    left, arrow, right, *more = rest
    if arrow.text not in _ARROWS:
        raise SyntaxProblem(f"'{arrow.text}' stands where ->, <-> or | is needed", arrow.start)
    found: dict[str, Any] = {"action": action.text, "both_ways": _ARROWS[arrow.text]}
    found["src"], found["dst"] = _group(left, cluster), _group(right, cluster)
    if action.text in _TIMED:
        found["delay_ns"] = _time(_TIMED[action.text], right, more)
    if action.text == "partition":
        _no_more(more)
    found["match"] = dict(_filter(word) for word in more)
    return found


def _time(meaning: str, before: Word, more: list[Word]) -> int:
    """The time in front of the filters, taken away from them."""
    if more and "=" not in more[0].text:
        return read_at(more[0], parse_duration, more.pop(0).text)
    if meaning:
        raise SyntaxProblem(f"say {meaning}, as in 2s", before.start)
    return 0


def _no_more(words: list[Word]) -> None:
    if words:
        raise SyntaxProblem(f"'{words[0].text}' is one too many", words[0].start)


def _group(word: Word, cluster: model.ClusterSpec) -> list[str]:
    """`c0,OST0001,10.0.2.1@tcp` as nodes and NIDs; `*`, every node, as nothing.

    A target stands for the node that it is on by the plan: packets do not say which they are for.
    """
    if word.text == "*":
        return []
    return [_member(word, name, cluster) for name in word.text.split(",")]


def _member(word: Word, name: str, cluster: model.ClusterSpec) -> str:
    if "@" in name:
        return str(read_at(word, Nid.parse, name))
    home = cluster.targets().get(name, name)
    if home not in cluster.nodes():
        raise SyntaxProblem(f"unknown node '{name}'{nearest(name, cluster.nodes())}", word.start)
    return home


def _filter(word: Word) -> tuple[str, Any]:
    key, _, value = word.text.partition("=")
    if key not in _FILTERS or not value:
        raise SyntaxProblem(f"'{word.text}' is no filter{nearest(key, _FILTERS)}", word.start)
    if key == "rate":
        return key, read_at(word, float, value)
    if key == "kind" and value in _KINDS:
        return key, _KINDS[value]
    if key == "opc" and not value[:1].isdigit():
        known = opcodes()
        if value not in known:
            raise SyntaxProblem(f"unknown opcode '{value}'{nearest(value, known)}", word.start)
        return key, known[value]
    return key, read_at(word, lambda text: int(text, 0), value)


@cache
def opcodes() -> dict[str, int]:
    """Every RPC's opcode by Lustre's name."""
    from labsim.wire import opcodes as module

    return {name: value for name, value in vars(module).items() if name.isupper()
            and isinstance(value, int)}  # fmt: skip

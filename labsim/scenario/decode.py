"""YAML into typed structs, with the place of every mistake.

Does not know scenarios. The types are msgspec structs; this reads YAML 1.2 nodes by their fields,
so that an error can say `file:line:column`, and all errors of a file come at once. A text field
takes any scalar as it is written (`expect: 600`, `tree: 2.4`), numbers and flags only their own
kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLStreamError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from labsim.base.errors import InputError
from labsim.scenario.suggest import nearest

_TAG = "tag:yaml.org,2002:"
_KINDS = {MappingNode: "a mapping", SequenceNode: "a list", ScalarNode: "a value"}

WRONG: Any = object()
"""What a value is that could not be read; its problem has been noted."""


class Place(NamedTuple):
    """A position in a file, counted from 1."""

    line: int
    column: int


class Problem(NamedTuple):
    """One mistake and where it is."""

    place: Place
    what: str


class Problems(InputError):
    """Every mistake found in one file, one to a line."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = sorted(problems)
        lines = [f"{path}:{p.place.line}:{p.place.column}: {p.what}" for p in self.problems]
        super().__init__("\n".join(lines))


def place(node: Any, offset: int = 0) -> Place:
    """Where a node starts; `offset` characters into its text where that is on one line."""
    mark = node.start_mark
    if offset and isinstance(node, ScalarNode) and node.style not in {"|", ">"}:
        offset += node.style in {"'", '"'}
        if mark.line == node.end_mark.line:
            return Place(mark.line + 1, mark.column + 1 + offset)
    return Place(mark.line + 1, mark.column + 1)


class Decoder:
    """Reads nodes by type and collects what is wrong with them.

    `special` maps a type to a function (decoder, node) -> value that reads it its own way.
    """

    def __init__(self, special: dict[Any, Callable[[Decoder, Node], Any]] | None = None) -> None:
        self.problems: list[Problem] = []
        self.special = special or {}

    def wrong(self, node: Any, what: str, offset: int = 0) -> Any:
        """Note a problem; the value to return."""
        self.problems.append(Problem(place(node, offset), what))
        return WRONG

    def read(self, node: Node, kind: Any) -> Any:
        """A node as a value of `kind`, or WRONG."""
        if kind in self.special:
            return self._converted(node, kind)
        origin = get_origin(kind)
        if origin in {Union, UnionType}:
            return self._optional(node, kind)
        if origin is Literal:
            return self._choice(node, [str(choice) for choice in get_args(kind)])
        if origin is list:
            return self.items(node, get_args(kind)[0])
        if origin is dict:
            return self._dict(node, get_args(kind)[1])
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self.struct(node, kind)
        return self._scalar(node, kind)

    def _converted(self, node: Node, kind: Any) -> Any:
        try:
            return self.special[kind](self, node)
        except InputError as error:
            return self.wrong(node, error.what)

    def _optional(self, node: Node, kind: Any) -> Any:
        inner = [part for part in get_args(kind) if part is not type(None)]
        if len(inner) < len(get_args(kind)) and _tag(node) == "null":
            return None
        return self.read(node, inner[0])

    def _choice(self, node: Node, choices: list[str]) -> Any:
        text = self._scalar(node, str)
        if text is WRONG or text in choices:
            return text
        return self.wrong(node, f"'{text}' is not allowed here{nearest(text, choices)}")

    # ---- collections

    def pairs(self, node: Node, known: Any = None) -> dict[str, tuple[Node, Node]]:
        """A mapping as key -> (key node, value node); wrong and double keys are noted."""
        if not isinstance(node, MappingNode):
            self.wrong(node, f"a mapping is needed here, not {_kind(node)}")
            return {}
        found: dict[str, tuple[Node, Node]] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.wrong(key, "a key must be a word")
            elif key.value in found:
                self.wrong(key, f"'{key.value}' stands here twice")
            elif known is not None and key.value not in known:
                self.wrong(key, f"unknown key '{key.value}'{nearest(key.value, known)}")
            else:
                found[key.value] = (key, value)
        return found

    def struct(self, node: Node, kind: type[msgspec.Struct]) -> Any:
        """A mapping as a struct; fields that start with _ cannot be written."""
        fields = {f.encode_name: f for f in msgspec.structs.fields(kind)}
        types = get_type_hints(kind)
        pairs = self.pairs(node, [name for name in fields if not name.startswith("_")])
        if not isinstance(node, MappingNode):
            return WRONG
        values = {}
        for name, field in fields.items():
            if name in pairs:
                values[field.name] = self.read(pairs[name][1], types[field.name])
            elif field.required:
                values[field.name] = self.wrong(node, f"'{name}' is missing")
        if WRONG in values.values():
            return WRONG
        try:
            return kind(**values)
        except InputError as error:
            return self.wrong(blamed(node, error.what), error.what)

    def items(self, node: Node, kind: Any) -> Any:
        """A list of values of one kind."""
        if not isinstance(node, SequenceNode):
            return self.wrong(node, f"a list is needed here, not {_kind(node)}")
        values = [self.read(item, kind) for item in node.value]
        return WRONG if WRONG in values else values

    def _dict(self, node: Node, kind: Any) -> Any:
        if not isinstance(node, MappingNode):
            return self.wrong(node, f"a mapping is needed here, not {_kind(node)}")
        values = {key: self.read(value, kind) for key, (_, value) in self.pairs(node).items()}
        return WRONG if WRONG in values.values() else values

    # ---- scalars

    def _scalar(self, node: Node, kind: Any) -> Any:
        if not isinstance(node, ScalarNode):
            return self.wrong(node, f"a value is needed here, not {_kind(node)}")
        tag = _tag(node)
        if kind is str:
            return (
                node.value if tag != "null" or node.value else self.wrong(node, "text is missing")
            )
        if kind is bool and tag == "bool":
            return node.value in {"true", "True", "TRUE"}
        if kind is int and tag == "int":
            text = node.value.replace("_", "")
            return int(text, 10 if text.lstrip("+-").isdigit() else 0)
        if kind is float and tag in {"int", "float"}:
            return float(node.value)
        names = {bool: "true or false", int: "a whole number", float: "a number"}
        return self.wrong(node, f"'{node.value}' is not {names.get(kind, kind)}")


def _kind(node: Node) -> str:
    if isinstance(node, ScalarNode) and _tag(node) == "null":
        return "nothing"
    return next((name for kind, name in _KINDS.items() if isinstance(node, kind)), "this")


def _tag(node: Node) -> str:
    return str(node.tag).removeprefix(_TAG)


def items(node: Node) -> list[tuple[str, Node]]:
    """(key, value node) of a mapping."""
    return (
        [(key.value, value) for key, value in node.value] if isinstance(node, MappingNode) else []
    )


def blamed(node: Node, what: str) -> Node:
    """The key or value in a mapping that a message quotes, or the mapping itself."""
    pairs = node.value if isinstance(node, MappingNode) else []
    for key, value in pairs:
        for part in (key, value):
            if isinstance(part, ScalarNode) and f"'{part.value}'" in what:
                return part
        inner = blamed(value, what)
        if inner is not value:
            return inner
    for _, value in pairs:
        if isinstance(value, ScalarNode) and value.value and value.value in what:
            return value
    return node


def compose(path: str, text: str | None = None) -> Node:
    """The one YAML document of a file as nodes; InputError or Problems where there is none."""
    if text is None:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            what = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise InputError(f"cannot be read: {what}", path) from None
    try:
        node: Node | None = YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        what = re.sub(r"\s+", " ", str(error.problem or error.context or "bad YAML"))
        raise Problems(path, [Problem(where, f"not YAML: {what}")]) from None
    except YAMLStreamError as error:
        raise Problems(path, [Problem(Place(1, 1), f"not YAML: {error}")]) from None
    if node is None:
        raise Problems(path, [Problem(Place(1, 1), "the file is empty")])
    _plain(path, node, set())
    return node


def _plain(path: str, node: Node, seen: set[int]) -> None:
    """Refuse tags of one's own, and anchors: each node is written where it stands."""
    if id(node) in seen:
        what = f"'&{node.anchor}' is used again; write the text out"
        raise Problems(path, [Problem(place(node), what)])
    seen.add(id(node))
    if not str(node.tag).startswith(_TAG):
        raise Problems(path, [Problem(place(node), f"tag '{node.tag}' has no meaning here")])
    if isinstance(node, MappingNode):
        for pair in node.value:
            for part in pair:
                _plain(path, part, seen)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            _plain(path, item, seen)

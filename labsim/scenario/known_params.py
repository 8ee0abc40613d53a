"""Which parameters there are on any node: so that a typo in a scenario is told before it runs.

Does not know values, nor which tree has which file; a tree may well lack one that is known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module

from labsim.base.component import Component
from labsim.base.param_names import braces, slashed
from labsim.scenario.suggest import nearest
from labsim.scenario.topology import CLASSES
from labsim.scenario.words import SyntaxProblem, Word

_PATTERN = re.compile(r"[\w.*?{},@\[\]-]+")


def _components(kind: type[Component]) -> Iterator[type[Component]]:
    for below in kind.__subclasses__():
        yield below
        yield from _components(below)


@cache
def files() -> frozenset[tuple[str, ...]]:
    """Every parameter file as the parts of its path, a star for each instance."""
    for name in CLASSES.values():
        import_module(name.partition(":")[0])
    found = set()
    for component in _components(Component):
        if component.tree is None or not component.__module__.startswith("labsim."):
            continue
        above = [re.sub(r"\{[^}]*\}", "*", part) for part in component.tree.split(".") if part]
        for param in component.declared.values():
            found.add((*above, *param.file.split(".")))
    return frozenset(found)


def _known(parts: Sequence[str]) -> bool:
    """True where the pattern may match a file, or a directory above one."""
    return any(len(parts) <= len(file) and _fits(file, parts) for file in files())


def _fits(file: Sequence[str], parts: Sequence[str]) -> bool:
    pairs = zip(file, parts, strict=False)
    return all(known == "*" or fnmatchcase(known, part) for known, part in pairs)


def check(words: Sequence[Word], setting: bool) -> None:
    """Raise SyntaxProblem at the first operand of get_param or its like that is not known.

    `setting`: a word without = is a pattern, and the next one its value. Words with variables are
    left alone.
    """
    operands = iter([word for word in words if not word.text.startswith("-")])
    for word in operands:
        pattern, equals, _ = word.text.partition("=")
        if setting and not equals:
            next(operands, None)
        if not word.names and _PATTERN.fullmatch(pattern):
            _check(pattern, word.start)


def _check(pattern: str, start: int) -> None:
    for expanded in braces(slashed(pattern)):
        parts = expanded.strip("/").split("/")
        if not _known(parts):
            names = {part for file in files() for part in file if part != "*"}
            wrong = next((part for part in reversed(parts) if _is_name(part, names)), parts[-1])
            raise SyntaxProblem(f"unknown parameter '{pattern}'{nearest(wrong, names)}", start)


def _is_name(part: str, names: set[str]) -> bool:
    """True for a plain word that is no known name."""
    return not set(part) & set("*?[") and part not in names

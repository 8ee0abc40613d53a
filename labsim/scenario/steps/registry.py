"""The registry of verbs: what a command's words mean, read from the signature of a typed function.

Does not know any verb. A verb is a generator function `def touch(ctx, *paths: str, ...)`: its plain
parameters are operands, those annotated with `flag` are options, the docstring is the manual.
Options are read as getopt_long does: clusters (-rf), joined values (-n1), --name=value, --.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, NewType, get_args, get_origin

from labsim.base.errors import InputError
from labsim.base.units import parse_duration, parse_size
from labsim.scenario.steps.dates import parse_date
from labsim.scenario.steps.modes import parse_mode
from labsim.scenario.suggest import nearest
from labsim.scenario.words import SyntaxProblem, Word

Size = NewType("Size", int)
"""Bytes, written with dd's suffixes."""
Duration = NewType("Duration", int)
"""Nanoseconds, written with a unit."""
Date = NewType("Date", int)
"""Nanoseconds since 1970."""
Mode = Callable[[int, bool], int]
"""(old mode, is a directory) -> new mode, written as chmod takes it."""

ROLES = ("client", "mds", "oss", "mgs")


class flag(NamedTuple):  # noqa: N801
    """How an option is written: `Annotated[str, flag("-n", "--name")]`; `many` collects a list."""

    short: str
    long: str = ""
    many: bool = False


class Parameter(NamedTuple):
    """One operand or option of a verb, from its signature."""

    name: str
    convert: Callable[[str], Any]
    switch: bool
    many: bool
    required: bool


class Schema(NamedTuple):
    """What a verb accepts."""

    options: dict[str, Parameter]
    operands: list[Parameter]
    rest: Parameter | None


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise InputError(f"'{text}' is no whole number") from None


CONVERTERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: _number,
    Size: parse_size,
    Duration: parse_duration,
    Date: parse_date,
    Mode: parse_mode,
}


class Verb:
    """One verb: its name, where it runs, what it accepts, and the generator that does it."""

    def __init__(
        self,
        run: Callable[..., Any],
        name: str,
        on: Iterable[str],
        least: int,
        check: Callable[[tuple[Any, ...]], Any] | None,
        raw: bool,
    ) -> None:
        self.run = run
        self.name = name
        self.on = tuple(on)
        self.least = least
        self.check = check
        self.raw = raw

    @property
    def manual(self) -> str:
        """The verb's docstring."""
        return inspect.getdoc(self.run) or ""

    @cached_property
    def schema(self) -> Schema:
        """Options and operands, from the signature."""
        options: dict[str, Parameter] = {}
        operands, rest = [], None
        for parameter in list(inspect.signature(self.run, eval_str=True).parameters.values())[1:]:
            kind, marks = _plain_type(parameter.annotation)
            made = Parameter(
                parameter.name,
                CONVERTERS.get(kind, str),
                kind is bool,
                any(mark.many for mark in marks),
                parameter.default is parameter.empty,
            )
            if parameter.kind is parameter.VAR_POSITIONAL:
                rest = made
            elif marks:
                options |= {name: made for mark in marks for name in mark[:2] if name}
            else:
                operands.append(made)
        return Schema(options, operands, rest)

    def bind(self, words: Sequence[Word], end: int = 0) -> tuple[list[Any], dict[str, Any]]:
        """Words as arguments of `run`; raises SyntaxProblem at the word that does not fit.

        `end` is where something is missing when words are.
        """
        return _Binding(self, words, end).bound()


def _plain_type(annotation: Any) -> tuple[Any, list[flag]]:
    """Annotated[str, flag(..)] as (str, [flag]); `str | None` as str."""
    marks: list[flag] = []
    if hasattr(annotation, "__metadata__"):
        marks = [mark for mark in annotation.__metadata__ if isinstance(mark, flag)]
        annotation = annotation.__origin__
    inner = [kind for kind in get_args(annotation) if kind is not type(None)]
    if inner and (get_origin(annotation) is list or len(inner) < len(get_args(annotation))):
        annotation = inner[0]
    return annotation, marks


class _Binding:
    """Matches the words of one command against a verb's schema."""

    def __init__(self, verb: Verb, words: Sequence[Word], end: int) -> None:
        self.verb = verb
        self.schema = verb.schema
        self.words = list(words)
        self.operands: list[Word] = []
        self.options: dict[str, Any] = {}
        self.end = end

    def bound(self) -> tuple[list[Any], dict[str, Any]]:
        plain = self.verb.raw
        while self.words:
            word = self.words.pop(0)
            if plain or not word.text.startswith("-") or word.text == "-":
                self.operands.append(word)
            elif word.text == "--":
                plain = True
            elif word.text.startswith("--"):
                self._long(word)
            else:
                self._cluster(word)
        return self._positional(), self.options

    def _option(self, name: str, word: Word) -> Parameter:
        found = self.schema.options.get(name)
        if found is None:
            hint = nearest(name, self.schema.options)
            raise SyntaxProblem(f"{self.verb.name} has no option '{name}'{hint}", word.start)
        return found

    def _long(self, word: Word) -> None:
        name, given, value = word.text.partition("=")
        option = self._option(name, word)
        if option.switch and given:
            raise SyntaxProblem(f"{self.verb.name}: '{name}' takes no value", word.start)
        self._take(option, name, word, Word(value, word.start, word.names) if given else None)

    def _cluster(self, word: Word) -> None:
        whole = self.schema.options.get(word.text)
        if whole is not None:
            self._take(whole, word.text, word, None)
            return
        letters = word.text[1:]
        while letters:
            name, letters = "-" + letters[0], letters[1:]
            option = self._option(name, word)
            if not option.switch and letters:
                self._take(option, name, word, Word(letters, word.start, word.names))
                return
            self._take(option, name, word, None)

    def _take(self, option: Parameter, name: str, word: Word, value: Word | None) -> None:
        if option.switch:
            self.options[option.name] = True
            return
        if value is None:
            if not self.words:
                raise SyntaxProblem(f"{self.verb.name}: '{name}' needs a value", word.start)
            value = self.words.pop(0)
        converted = self._convert(option, value)
        if option.many:
            self.options.setdefault(option.name, []).append(converted)
        else:
            self.options[option.name] = converted

    def _convert(self, parameter: Parameter, word: Word) -> Any:
        try:
            return parameter.convert(word.text)
        except InputError as error:
            if word.names and "$" in word.text:
                return None
            raise SyntaxProblem(f"{self.verb.name}: {error.what}", word.start) from None

    def _positional(self) -> list[Any]:
        schema, words = self.schema, list(self.operands)
        values = []
        for parameter in schema.operands:
            if words:
                values.append(self._convert(parameter, words.pop(0)))
            elif parameter.required:
                raise SyntaxProblem(f"{self.verb.name} needs {parameter.name.upper()}", self.end)
        if words and schema.rest is None:
            raise SyntaxProblem(
                f"{self.verb.name}: '{words[0].text}' is one too many", words[0].start
            )
        if schema.rest is not None:
            if len(words) < self.verb.least:
                missing = schema.rest.name.upper().removesuffix("S")
                raise SyntaxProblem(f"{self.verb.name} needs {missing}", self.end)
            rest = [self._convert(schema.rest, word) for word in words]
            self._check(rest, words)
            values += rest
        return values

    def _check(self, values: list[Any], words: list[Word]) -> None:
        """The verb's own look at its operands; the word that the error quotes is to blame."""
        if self.verb.check is None:
            return
        try:
            self.verb.check(tuple(values))
        except InputError as error:
            parts = ((word, part) for word in words for part in re.split("([=,|:])", word.text))
            blamed = [word for word in words if f"'{word.text}'" in error.what]
            blamed += [word for word, part in parts if f"'{part}'" in error.what]
            start = blamed[0].start if blamed else words[0].start if words else self.end
            raise SyntaxProblem(error.what, start) from None


VERBS: dict[str, Verb] = {}
"""Every verb by name; a verb of two words ("lfs df") has both in its name."""


def verb(
    name: str = "",
    *,
    on: Iterable[str] = ("client",),
    least: int = 1,
    check: Callable[[tuple[Any, ...]], Any] | None = None,
    raw: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a generator function a verb.

    `least` is how many of its `*operands` it needs; `check` looks at them before anything runs and
    raises InputError, quoting the word that is wrong. `raw`: options are words like all others.
    """

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        full = name or run.__name__.strip("_")
        assert run.__doc__, f"verb {full} has no manual"
        VERBS[full] = Verb(run, full, on, least, check, raw)
        return run

    return register


def find(words: Sequence[Word], role: str | None = None) -> tuple[Verb, Sequence[Word]]:
    """The verb of a command and the words that follow its name."""
    if not words:
        raise SyntaxProblem("an empty command", 0)
    first = words[0].text
    family = {name.split()[1] for name in VERBS if name.startswith(first + " ")}
    if family:
        if len(words) < 2 or words[1].text not in family:
            asked = words[1].text if len(words) > 1 else ""
            where = words[1].start if len(words) > 1 else words[0].start
            raise SyntaxProblem(f"unknown {first} command '{asked}'{nearest(asked, family)}", where)
        first, words = f"{first} {words[1].text}", words[1:]
    found = VERBS.get(first)
    if found is None:
        known = {name.split()[0] for name in VERBS}
        raise SyntaxProblem(f"unknown verb '{first}'{nearest(first, known)}", words[0].start)
    if role is not None and role not in found.on:
        kinds = " or ".join(found.on)
        what = f"{found.name} runs on a {kinds}, and this node is of the kind {role}"
        raise SyntaxProblem(what, words[0].start)
    return found, words[1:]

"""Command lines: how the text of a step becomes words, as a shell would read it.

Does not know any verb. Quotes, backslashes, `$variables` and the two redirections `>` and `>>` mean
what they mean in sh; there are no globs, pipes or substitutions, and asking for one is an error.
Each word keeps its place, so that an error can point at it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from labsim.base.errors import InputError

T = TypeVar("T")

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_FORBIDDEN = {"|": "pipe", "&": "background job", ";": "second command", "<": "input file"}
_BLANKS = " \t\n"


class Word(NamedTuple):
    """One word of a command, and where it starts in the text."""

    text: str
    start: int
    names: tuple[str, ...] = ()
    """The variables it uses."""
    operator: bool = False
    """It is an unquoted > or >>."""


class Command(NamedTuple):
    """A command's words without its redirection."""

    words: list[Word]
    target: Word | None = None
    append: bool = False


class SyntaxProblem(InputError):
    """A command line that cannot be read; `start` is the offset of what is wrong."""

    def __init__(self, what: str, start: int) -> None:
        super().__init__(what)
        self.start = start


class _Reader:
    """Reads one command line from left to right."""

    def __init__(self, text: str, values: Mapping[str, str] | None) -> None:
        self.text = text
        self.values = values
        self.at = 0
        self.names: list[str] = []

    def words(self) -> list[Word]:
        found: list[Word] = []
        while True:
            while self.at < len(self.text) and self.text[self.at] in _BLANKS:
                self.at += 1
            if self.at >= len(self.text) or self.text[self.at] == "#":
                return found
            found.append(self._operator() or self._word())

    def _operator(self) -> Word | None:
        if self.text[self.at] != ">":
            return None
        start = self.at
        self.at += 2 if self.text.startswith(">>", start) else 1
        return Word(self.text[start : self.at], start, operator=True)

    def _word(self) -> Word:
        start, parts = self.at, list[str]()
        self.names = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in _BLANKS or char == ">":
                break
            if char in _FORBIDDEN and not self._inside(char):
                raise SyntaxProblem(f"'{char}': a step has no {_FORBIDDEN[char]}", self.at)
            parts.append(self._piece(char))
        return Word("".join(parts), start, tuple(self.names))

    def _inside(self, char: str) -> bool:
        """True for the bar of O_RDWR|O_CREAT, which stands between two letters."""
        around = self.text[max(self.at - 1, 0) : self.at] + self.text[self.at + 1 : self.at + 2]
        return char == "|" and len(around) == 2 and around.isalnum()

    def _piece(self, char: str) -> str:
        if char == "'":
            return self._single()
        if char == '"':
            return self._double()
        if char == "\\":
            self.at += 2
            return self.text[self.at - 1 : self.at]
        if char == "$":
            return self._variable()
        self.at += 1
        return char

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise SyntaxProblem("a quote is not closed", self.at)
        start, self.at = self.at + 1, end + 1
        return self.text[start:end]

    def _double(self) -> str:
        start, parts = self.at, list[str]()
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return "".join(parts)
            if char == "\\" and self.text[self.at + 1 : self.at + 2] in {'"', "\\", "$", "`"}:
                parts.append(self.text[self.at + 1])
                self.at += 2
            elif char == "$":
                parts.append(self._variable())
            else:
                parts.append(char)
                self.at += 1
        raise SyntaxProblem("a quote is not closed", start)

    def _variable(self) -> str:
        match = _VARIABLE.match(self.text, self.at)
        if match is None:
            if self.text.startswith("$(", self.at):
                raise SyntaxProblem("'$(': a step has no command substitution; use save", self.at)
            self.at += 1
            return "$"
        name = match[1] or match[2]
        if self.values is not None and name not in self.values:
            raise SyntaxProblem(f"nothing was saved as '{name}'", self.at)
        self.names.append(name)
        self.at = match.end()
        return match[0] if self.values is None else self.values[name]


def split(text: str, values: Mapping[str, str] | None = None) -> list[Word]:
    """The words of a command line. Without `values`, variables stay as they are written."""
    return _Reader(text, values).words()


def parse(text: str, values: Mapping[str, str] | None = None) -> Command:
    """A command line as words and a redirection; raises SyntaxProblem."""
    words, target, append, found = iter(split(text, values)), None, False, []
    for word in words:
        if not word.operator:
            found.append(word)
            continue
        target = next(words, None)
        if target is None or target.operator:
            raise SyntaxProblem(f"'{word.text}' without a file", word.start)
        append = word.text == ">>"
    return Command(found, target, append)


def bare(text: str) -> list[Word]:
    """Words between blanks, without a meaning for any sign."""
    found, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        found.append(Word(word, at))
        at += len(word)
    return found


def read_at(word: Word, read: Callable[[str], T], text: str) -> T:
    """A value read from a word or a part of it; its mistakes point at the word."""
    try:
        return read(text)
    except InputError as error:
        raise SyntaxProblem(error.what, word.start) from None
    except ValueError:
        raise SyntaxProblem(f"'{text}' is no number", word.start) from None


def expand(text: str, values: Mapping[str, str]) -> str:
    """Text with its variables replaced and nothing else; unknown ones stay."""
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], match[0]), text)


def render(text: str, values: Mapping[str, str]) -> str:
    """A command line with its variables replaced, quoted so that it reads back the same."""
    if not values or "$" not in text:
        return text
    return " ".join(w.text if w.operator else shlex.quote(w.text) for w in split(text, values))


def quote_if_needed(text: str) -> str:
    """A name as coreutils print it where it may stand bare."""
    return text if re.fullmatch(r"[\w@%+=:,./-]+", text) else quote(text)


def quote(text: str) -> str:
    """Text as coreutils quote a name in a message: 'f'."""
    if "'" in text and not set(text) & set('"\\$`\n'):
        return f'"{text}"'
    quoted = "'" + text.replace("'", "'\\''") + "'"
    return quoted.replace("\n", "'$'\\n''")

"""Verdicts: what a step showed against what it should, and what a whole run amounts to.

Pure functions; does not know nodes. A run is `pass` when every step shows the fixed behaviour,
`bug` when the steps with a `buggy` variant show exactly that and all others the fixed behaviour,
`fail` when anything else happens, `unknown` where the history does not say what is to be shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from labsim.scenario.model import Outcome
from labsim.scenario.step_words import pattern
from labsim.scenario.steps.context import Result
from labsim.scenario.words import expand
from labsim.trees import Presence

Verdict = Literal["pass", "bug", "fail", "unknown"]

EXPECTED: Mapping[Presence, Verdict] = {"yes": "bug", "no": "pass", "unknown": "unknown"}
"""What a run must amount to, by whether the tree has the bug."""


class Shown(msgspec.Struct, frozen=True):
    """One step as it went: which of the described behaviours it matches, and what differs."""

    label: str
    line: int
    at_ns: int
    took_ns: int
    fixed: bool
    buggy: bool | None
    """None: the step has no variant for trees with the bug."""
    output: str = ""
    differs: str = ""
    """In one sentence, where neither matches."""
    step: int = 0

    @property
    def word(self) -> Verdict:
        """The step's own verdict."""
        if self.fixed:
            return "pass"
        return "bug" if self.buggy else "fail"


def difference(wanted: Outcome, result: Result, values: Mapping[str, str]) -> str:
    """What a result lacks to be the wanted one, in one sentence; empty where it is."""
    if wanted.errno is not None and result.errno_name != wanted.errno:
        got = result.errno_name or "success"
        return f"{got}, not {wanted.errno}"
    if wanted.status is not None and result.status != wanted.status:
        return f"exit status {result.status}, not {wanted.status}"
    if wanted.errno is None and wanted.status is None and result.status:
        name = f" ({result.errno_name})" if result.errno else ""
        return f"exit status {result.status}{name}: {_line(result.output)}"
    if wanted.expect is not None and not matches(wanted.expect, result.output, values):
        return f"{_line(result.output)} instead of {_line(expand(wanted.expect, values))}"
    return ""


def matches(expect: str, output: str, values: Mapping[str, str]) -> bool:
    """Compare output: /regex/ is searched for, text is compared to the byte.

    A newline at the very end of the output does not count where the expected text does not end in
    one, as with $(..) in a shell; write it (in a block, or quoted) to have it count.
    """
    expression = pattern(expect)
    if expression is not None:
        return re.search(expression, output) is not None
    wanted = expand(expect, values)
    return output == wanted or (output == wanted + "\n" and not wanted.endswith("\n"))


def _line(text: str) -> str:
    """Text for a message: quoted, and short."""
    shown = repr(text)
    return shown if len(shown) <= 160 else shown[:160] + "..."


def judge(
    wanted: Outcome, buggy: Outcome | None, result: Result, values: Mapping[str, str]
) -> tuple[bool, bool | None, str]:
    """(shows the fixed behaviour, shows the buggy one, what differs from both)."""
    fixed = difference(wanted, result, values)
    if buggy is None:
        return not fixed, None, fixed
    wrong = difference(buggy, result, values)
    differs = f"{fixed}; and on a tree with the bug: {wrong}" if fixed and wrong else ""
    return not fixed, not wrong, differs


def verdict_of(steps: Iterable[Shown], presence: Presence, broken: bool) -> Verdict:
    """What a run amounts to; `broken` when an invariant does not hold or the run was cut short."""
    if presence == "unknown":
        return "unknown"
    shown = list(steps)
    if broken:
        return "fail"
    if all(step.fixed for step in shown):
        return "pass"
    variants = [step for step in shown if step.buggy is not None]
    others = [step for step in shown if step.buggy is None]
    if all(step.buggy for step in variants) and all(step.fixed for step in others):
        return "bug"
    return "fail"

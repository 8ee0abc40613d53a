"""Verdicts: what a step shows, and what a run amounts to."""

from __future__ import annotations

import errno

import pytest

from labsim.scenario.model import Outcome
from labsim.scenario.steps.context import Result
from labsim.scenario.verdict import Shown, judge, matches, verdict_of


@pytest.mark.parametrize(
    ("expect", "output", "same"),
    [
        ("two", "two", True),
        ("two", "two\n", True),
        ("two", "two\n\n", False),
        ("two", " two", False),
        ("two\n", "two", False),
        ("two\n", "two\n", True),
        ("0\n0\n", "00", False),
        ("a\nb", "a\nb\n", True),
        ("", "", True),
        ("", "x", False),
        ("/^t.o$/", "two\n", True),
        (r"/^two\Z/", "two\n", False),
        ("/o/", "two", True),
        ("/", "/", True),
        ("//", "anything", True),
        ("$n", "5\n", True),
        ("${n}0", "50", True),
        ("$m", "$m", True),
    ],
)
def test_output(expect: str, output: str, same: bool) -> None:
    assert matches(expect, output, {"n": "5"}) is same


def result(text: str = "", status: int = 0, number: int = 0) -> Result:
    return Result(status=status, errno=number, chunks=[(1, text.encode())])


FAILED = result("f: user.a: No such attribute\n", 1, errno.ENODATA)


@pytest.mark.parametrize(
    ("wanted", "shown", "fixed"),
    [
        (Outcome(), result("x"), True),
        (Outcome(), FAILED, False),
        (Outcome(expect="x"), result("x\n"), True),
        (Outcome(expect="x"), result("x\n", 1), False),
        (Outcome(errno="ENODATA"), FAILED, True),
        (Outcome(errno="ENOENT"), FAILED, False),
        (Outcome(errno="ENODATA"), result("x"), False),
        (Outcome(status=1), FAILED, True),
        (Outcome(status=0), result(), True),
        (Outcome(status=2, expect="x"), result("x", 2), True),
        (Outcome(errno="ENODATA", expect="/No such/"), FAILED, True),
    ],
)
def test_one_step(wanted: Outcome, shown: Result, fixed: bool) -> None:
    assert judge(wanted, None, shown, {})[:2] == (fixed, None)


def test_a_step_with_a_buggy_variant() -> None:
    fixed, buggy = Outcome(expect="two"), Outcome(errno="ENODATA")
    assert judge(fixed, buggy, result("two"), {}) == (True, False, "")
    assert judge(fixed, buggy, FAILED, {}) == (False, True, "")
    shown = judge(fixed, buggy, result("three"), {})
    assert shown[:2] == (False, False)
    assert shown[2] == "'three' instead of 'two'; and on a tree with the bug: success, not ENODATA"


def step(fixed: bool, buggy: bool | None = None) -> Shown:
    return Shown(label="", line=0, at_ns=0, took_ns=0, fixed=fixed, buggy=buggy)


FIXED, PLAIN_FAILURE = step(True), step(False)
SHOWS_FIXED, SHOWS_BUG, SHOWS_NEITHER = step(True, False), step(False, True), step(False, False)
SHOWS_BOTH = step(True, True)


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        ([FIXED, FIXED], "pass"),
        ([FIXED, SHOWS_FIXED], "pass"),
        ([FIXED, SHOWS_BUG], "bug"),
        ([FIXED, SHOWS_BUG, SHOWS_BUG], "bug"),
        ([FIXED, SHOWS_BUG, SHOWS_BOTH], "bug"),
        ([SHOWS_BOTH], "pass"),
        ([PLAIN_FAILURE, SHOWS_FIXED], "fail"),
        ([PLAIN_FAILURE, SHOWS_BUG], "fail"),
        ([SHOWS_FIXED, SHOWS_BUG], "fail"),
        ([SHOWS_NEITHER], "fail"),
        ([PLAIN_FAILURE], "fail"),
    ],
)
def test_a_run(steps: list[Shown], verdict: str) -> None:
    assert verdict_of(steps, "no", broken=False) == verdict
    assert verdict_of(steps, "yes", broken=False) == verdict
    assert verdict_of(steps, "yes", broken=True) == "fail"
    assert verdict_of(steps, "unknown", broken=False) == "unknown"

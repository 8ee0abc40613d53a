"""The matrix, JUnit XML, and runs in parallel."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from labsim import trees
from labsim.scenario import batch, kits, load, matrix, model
from labsim.scenario.junit import junit_xml
from labsim.scenario.runner import Run
from labsim.scenario.verdict import Shown


def scenario(name: str) -> model.Scenario:
    (path,) = load.find([name])
    return load.load(path)


LU_10787 = "xattr/lu_10787"


def test_the_trees_around_a_change() -> None:
    assert kits.around(scenario(LU_10787)) == ["2.11.0", "2.12.0"]
    assert kits.around(scenario("xattr/lu_9183_user_hsm")) == ["2.17.0", "2.10.0"]
    assert kits.around(scenario("sysfs/lu_9109")) == ["staging-4.4", "2.12.0"]
    assert kits.around(scenario("sysfs/lu_6421")) == ["2.7.0", "2.8.0"]


def test_only_trees_with_the_bug_get_the_overlay() -> None:
    story = scenario(LU_10787)
    assert kits.overlay_files(story, "2.12.0") == ()
    assert kits.overlay_files(story, "staging-4.4") == ()
    (path,) = kits.overlay_files(story, "2.10.5")
    assert path.endswith("lu_10787.py")


def test_a_matrix_in_parallel_is_that_of_one_process() -> None:
    stories = [scenario(LU_10787), scenario("xattr/staging_xattr_newline")]
    names = ["2.10.5", "2.12.0", "staging-4.16", "staging-4.4"]
    one, two = (matrix.make(stories, names, "sim", 1, jobs, False) for jobs in (1, 2))
    assert one.ok
    assert one.plain() == two.plain()
    assert [made.hash for made in one.runs] == [made.hash for made in two.runs]
    assert one.plain()["rows"][0] == {
        "ticket": "LU-10787",
        "area": "xattr",
        "title": "setxattr(XATTR_REPLACE) deletes the attribute",
        "cells": {
            "2.10.5": {"present": "yes", "verdict": "bug"},
            "2.12.0": {"present": "no", "verdict": "pass"},
            "staging-4.16": {"present": "yes", "verdict": "bug"},
            "staging-4.4": {"present": "unknown", "verdict": "unknown"},
        },
    }


def test_a_worker_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(batch.WorkerDied, match="with 2 runs to go"):
        batch.in_parallel([batch.Task("/no/such.yaml", "2.12.0")] * 2, 2, lambda made: None)


def test_columns() -> None:
    names = trees.names()
    groups = matrix.grouped(names)
    assert [name for _, group in groups for name in group] == names
    assert ("2.10", [f"2.10.{n}" for n in range(9)]) in groups
    assert [label for label, _ in groups][-3:] == ["staging", "cray", "chaos"]
    assert matrix.grouped(["2.12.0", "cray-2.7"]) == [
        ("2.12.0", ["2.12.0"]),
        ("cray-2.7", ["cray-2.7"]),
    ]
    for width in (20, 60, 1000):
        chunks = matrix.chunks(groups, width)
        assert [group for chunk in chunks for group in chunk] == groups
    assert len(matrix.chunks(groups, 1000)) == 1


def made(verdict: str, expected: str, **fields: object) -> Run:
    return Run(
        scenario="xattr/x",
        ticket="LU-1",
        tree="2.12.0",
        verdict=verdict,
        expected=expected,
        **fields,
    )  # type: ignore[arg-type]


BAD = Shown(
    label="c0: ls", line=7, at_ns=0, took_ns=0, fixed=False, buggy=None, differs="'\x00' ]]>"
)


def test_junit() -> None:
    runs = [
        made("pass", "pass", wall_ms=12),
        made("fail", "bug", steps=[BAD], broken=["transno_only_grows: 5 & 6 < 7"]),
        made("unknown", "unknown"),
    ]
    suite = ElementTree.fromstring(junit_xml(runs).encode()).find("testsuite")
    assert suite is not None
    assert [suite.get(key) for key in ("tests", "failures", "skipped")] == ["3", "1", "1"]
    good, bad, unknown = suite.findall("testcase")
    assert (good.get("classname"), good.get("name")) == ("xattr.x", "2.12.0 sim")
    failure = bad.find("failure")
    assert failure is not None
    assert failure.get("message") == "fail, expected bug"
    assert failure.text == "transno_only_grows: 5 & 6 < 7\nline 7: c0: ls: '?' ]]>"
    assert unknown.find("skipped") is not None


def test_why_a_run_is_odd() -> None:
    assert matrix.why(made("fail", "bug", steps=[BAD])).startswith("fail, expected bug: line 7: ")
    assert matrix.why(made("pass", "bug")) == "pass, expected bug: nothing differed"

"""The command line: output, JSON, exit status, bad input, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from time import perf_counter, sleep
from typing import Any
from xml.etree import ElementTree

import pytest

import labsim
from labsim.cli import VERBS, invoke
from labsim.perf import bench

BOTH = ["--tree", "2.10.5", "--tree", "2.12.0"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of a command line."""
    status = invoke(list(arguments))
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status, out, err = run(capsys, *arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"labsim, version {labsim.__version__}\n", "")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    status, out, _ = run(capsys, verb, "--help")
    assert status == 0
    assert f"Example: labsim {verb}" in " ".join(out.split())


def test_the_list_of_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for verb in VERBS:
        assert f"\n  {verb} " in out


def test_run(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "run", "xattr/lu_10787", *BOTH)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "LU-10787  setxattr(XATTR_REPLACE) deletes the attribute"
    assert lines[2].split()[:4] == ["2.10.5", "bug", "as", "expected"]
    assert lines[3].split()[:4] == ["2.12.0", "pass", "as", "expected"]
    assert lines[4] == "2 runs: every verdict as expected"


def test_run_verbose_shows_steps(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "run", "xattr/lu_10787", "-v", *BOTH)
    assert out.count("c0: touch f") == 2
    assert "bug" in next(line for line in out.splitlines() if "--only-values" in line)
    assert "f: user.a: No such attribute" in out


def test_run_json_is_exactly_this(capsys: pytest.CaptureFixture[str]) -> None:
    answer = as_json(capsys, "run", "xattr/lu_10787", *BOTH)
    assert list(answer) == ["ok", "runs"]
    assert answer["ok"] is True
    for made, verdict in zip(answer["runs"], ["bug", "pass"], strict=True):
        assert list(made) == [
            "scenario", "ticket", "tree", "runtime", "seed", "verdict", "expected", "hash",
            "virtual_ns", "wall_ms",
        ]  # fmt: skip
        assert (made["verdict"], made["expected"]) == (verdict, verdict)
        assert (made["scenario"], made["ticket"]) == ("xattr/lu_10787", "LU-10787")
        assert (made["runtime"], made["seed"]) == ("sim", 1)
        assert len(made["hash"]) == 32
        assert made["virtual_ns"] > 0


FAILING = """\
labsim: 1
title: it fails
steps:
  - c0: echo one
    expect: two
"""


def test_a_verdict_that_is_not_as_expected_is_status_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, junit = tmp_path / "bad.yaml", tmp_path / "junit.xml"
    path.write_text(FAILING)
    status, out, _ = run(capsys, "run", str(path), "--tree", "2.12.0", "--junit", str(junit))
    assert status == 1
    assert "line 4: c0: echo one: 'one\\n' instead of 'two'" in out
    assert "1 run: 1 not as expected" in out
    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert suite is not None
    assert suite.get("failures") == "1"


def test_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "matrix", "xattr", *BOTH)
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["area", "scenario", "2.10.5", "2.12.0"]
    assert ["xattr", "LU-10787", "bug", "pass"] in rows
    assert out.splitlines()[-1] == "8 runs: every verdict as expected"


def test_matrix_of_many_trees_has_a_letter_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "matrix", "xattr/lu_10787")
    assert status == 0
    head, row = (line.split() for line in out.splitlines()[:2])
    assert dict(zip(head, row, strict=True)) | {"2.10": "·BBBBBBBB", "2.11": "B"} == dict(
        zip(head, row, strict=True)
    )
    assert "cray-2.7 is approximated by 2.7.0" in out


def test_matrix_json_is_exactly_this(capsys: pytest.CaptureFixture[str]) -> None:
    answer = as_json(capsys, "matrix", "xattr/lu_10787", *BOTH, "--tree", "staging-4.4")
    assert answer == {
        "trees": ["2.10.5", "2.12.0", "staging-4.4"],
        "rows": [
            {
                "ticket": "LU-10787",
                "area": "xattr",
                "title": "setxattr(XATTR_REPLACE) deletes the attribute",
                "cells": {
                    "2.10.5": {"present": "yes", "verdict": "bug"},
                    "2.12.0": {"present": "no", "verdict": "pass"},
                    "staging-4.4": {"present": "unknown", "verdict": "unknown"},
                },
            }
        ],
    }


def test_trees(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in as_json(capsys, "trees")["trees"]}
    assert len([row for row in rows.values() if row["family"] == "release"]) == 46
    assert rows["2.10.8"]["branch"] == "b2_10"
    assert rows["cray-2.7"]["base"] == "2.7.0"
    _, out, _ = run(capsys, "trees")
    assert "approximated by 2.7.0" in out


def test_validate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good = as_json(capsys, "validate", "xattr", "sysfs", "time")
    assert good["ok"] is True
    assert len(good["files"]) >= 8
    path = tmp_path / "bad.yaml"
    path.write_text("labsim: 1\ntitle: t\nsteps:\n  - c0: tuch f\n")
    status, out, err = run(capsys, "validate", str(path), "xattr/lu_10787")
    assert status == 2
    assert err == f"{path}:4:9: unknown verb 'tuch', did you mean 'touch'?\n"
    assert out.endswith("lu_10787.yaml: ok\n")
    status, out, _ = run(capsys, "validate", str(path), "--json")
    assert status == 2
    assert json.loads(out)["files"][0]["problems"] == [err.strip()]


def test_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "verbs")
    assert status == 0
    assert "setfattr" in out
    _, manual, _ = run(capsys, "verbs", "setfattr")
    assert "setfattr {-n NAME [-v VALUE] | -x NAME} [-h] FILE..." in manual
    assert {row["name"] for row in as_json(capsys, "verbs")} >= {"touch", "lfs df", "sys", "race"}
    _, manual, _ = run(capsys, "verbs", "net", "power")
    assert "net: reorder NODES -> NODES TIME [FILTER...]" in manual


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu", "x"], "labsim: no command 'rnu', did you mean 'run'?"),
        (
            ["run", "xattr/lu_1078"],
            "xattr/lu_1078: no such scenario, did you mean 'xattr/lu_10787'?",
        ),
        (["run", "xattr/lu_10787", "--tree", "2.12.49"], "no tree is called '2.12.49'"),
        (
            ["run", "xattr/lu_10787", "--junit", "/no/such/x.xml"],
            "/no/such/x.xml: cannot be written",
        ),
        (["matrix", "nowhere"], "nowhere: no such scenario"),
        (["validate", "/etc/passwd"], "/etc/passwd:"),
        (["verbs", "tuch"], "no verb 'tuch', did you mean 'touch'?"),
        (["bench", "nothing"], "no benchmark 'nothing'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert err.startswith(message), err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["run"], ["run", "x", "--sed", "3"], ["matrix", "-j", "0"]])
def test_wrong_options_are_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert "Error: " in err


def labsim_process(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "labsim", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes, **more)


LONG = "labsim: 1\ntitle: t\nsteps:\n  - c0: touch f\n  - wait: 60s\n"


@pytest.mark.live
def test_ctrl_c_ends_a_live_run_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(LONG)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    process = labsim_process(
        "run", str(path), "--tree", "2.12.0", "--live", "-v",
        env=os.environ | {"TMPDIR": str(scratch)}, start_new_session=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        out = ""
        for line in process.stdout:
            out += line
            if "touch f" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = out + process.stdout.read(), process.stderr.read()
        process.wait(timeout=30)
    assert process.returncode == 130, out + err
    assert err.strip() == "interrupted"
    until = perf_counter() + 10
    while session(process.pid) and perf_counter() < until:
        sleep(0.1)
    assert session(process.pid) == []
    assert list(scratch.iterdir()) == []


def session(leader: int) -> list[int]:
    """The processes that a session still has."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def test_ctrl_c_ends_a_matrix() -> None:
    process = labsim_process("matrix", start_new_session=True)
    with process:
        sleep(1.0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    if process.returncode == 0:
        assert "every verdict as expected" in out
        return
    assert (process.returncode, err.strip()) == (130, "interrupted")


def test_a_closed_pipe_is_no_crash() -> None:
    with labsim_process("trees") as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait(timeout=30)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_packaged_scenarios_run_from_any_folder(tmp_path: Path) -> None:
    root = Path(labsim.__file__).parent.parent
    with labsim_process(
        "run", "xattr/lu_10787", "--tree", "2.12.0", "--json",
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)},
    ) as process:  # fmt: skip
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["ok"] is True


def test_bench_names_value_unit_and_command(capsys: pytest.CaptureFixture[str]) -> None:
    answer = as_json(capsys, "bench", "startup_version")
    assert answer["startup_version"]["unit"] == "s"
    assert 0 < answer["startup_version"]["value"] < 30
    assert answer["startup_version"]["command"] == "labsim bench startup_version --json"


def test_bench_shows_what_is_to_be_reached(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    aims = {"sim_rate": bench.at_least(2), "sim_time": bench.below(5, "run_s"), "sim_free": None}
    measured = bench.Measured(1.5, {"run_s": 4.0})
    for name, aim in aims.items():
        made = bench.Bench(lambda: measured, "s", f"What {name} is.", aim)
        monkeypatch.setitem(bench.BENCHES, name, made)
    status, out, _ = run(capsys, "bench", *aims)
    assert status == 0
    head, *rows = out.splitlines()
    assert re.fullmatch(r"\d+ CPUs?, load [\d.]+(; .*)?", head)
    assert [row.split(None, 3)[3] if len(row.split()) > 3 else "" for row in rows] == [
        "at least 2: MISSED       run_s 4.0", "run_s below 5: reached   run_s 4.0", "run_s 4.0",
    ]  # fmt: skip
    assert as_json(capsys, "bench", "sim_time")["sim_time"] == {
        "value": 1.5, "unit": "s", "aim": "run_s below 5", "reached": True, "run_s": 4.0,
        "command": "labsim bench sim_time --json",
    }  # fmt: skip
    status, out, _ = run(capsys, "bench", "sim_rate", "--list")
    assert out.split(None, 1) == ["sim_rate", "What sim_rate is.\n"]


@pytest.mark.live
def test_a_long_tmpdir_is_no_obstacle(tmp_path: Path) -> None:
    scratch = tmp_path / ("long" * 20)
    scratch.mkdir()
    path = tmp_path / "short.yaml"
    path.write_text("labsim: 1\ntitle: t\nsteps:\n  - c0: touch f\n")
    process = labsim_process(
        "run", str(path), "--tree", "2.12.0", "--live",
        env=os.environ | {"TMPDIR": str(scratch)},
    )  # fmt: skip
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert list(scratch.iterdir()) == []

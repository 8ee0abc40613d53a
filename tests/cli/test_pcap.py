"""--pcap: which files there are, that runs do not change, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labsim.cli import invoke
from labsim.net import pcap_read

BOTH = ["--tree", "2.10.5", "--tree", "2.12.0"]


def runs(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert invoke([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def messages(path: Path) -> int:
    return sum(seen.message is not None for seen in pcap_read.read(str(path)))


def test_one_run_is_captured_in_the_file_that_was_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = str(tmp_path / "run.pcap")
    ask = ["run", "xattr/lu_10787", "--tree", "2.12.0"]
    with_it, without = runs(capsys, *ask, "--pcap", file), runs(capsys, *ask)
    assert with_it["runs"][0]["hash"] == without["runs"][0]["hash"]
    assert names(tmp_path) == ["run.pcap"]
    assert messages(tmp_path / "run.pcap") > 20


@pytest.mark.parametrize("verb", ["run", "matrix"])
def test_each_of_several_runs_has_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: str
) -> None:
    runs(capsys, verb, "xattr/lu_10787", *BOTH, "--pcap", str(tmp_path / "all.pcap"))
    wanted = [f"all-xattr-lu_10787-{tree}.pcap" for tree in ("2.10.5", "2.12.0")]
    assert names(tmp_path) == wanted
    assert all(messages(tmp_path / name) > 20 for name in wanted)


@pytest.mark.live
def test_a_live_run_is_captured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "live.pcap"
    runs(capsys, "run", "xattr/lu_10787", "--tree", "2.12.0", "--live", "--pcap", str(file))
    assert messages(file) > 20


@pytest.mark.parametrize("verb", ["run", "matrix"])
def test_a_folder_that_is_not_there_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: str
) -> None:
    file = str(tmp_path / "no" / "run.pcap")
    assert invoke([verb, "xattr/lu_10787", "--tree", "2.12.0", "--pcap", file]) == 2
    assert capsys.readouterr().err == f"{file}: its folder is not there, or cannot be written\n"

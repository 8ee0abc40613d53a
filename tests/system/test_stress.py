"""Random runs: clean where nothing is wrong, the same for a seed, small when they fail."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from labsim.base.units import NS_PER_S
from labsim.cli import invoke, stress_live
from labsim.scenario import load, model, oracle, stress
from labsim.scenario.record import Archive
from labsim.scenario.runner import Run, run
from labsim.scenario.shrink import Shrinker
from labsim.scenario.verdict import Shown
from labsim.scenario.write_yaml import text_of

SHORT = stress.Plan(calls=40, troubles=2)


def made(plan: stress.Plan, seed: int) -> Run:
    return run(stress.scenario(plan, seed), model.REFERENCE_TREE, seed=seed)


@pytest.mark.parametrize("kind", ["", *stress.ALL])
def test_a_random_run_is_clean(kind: str) -> None:
    plan = msgspec.structs.replace(SHORT, faults=(kind,) if kind else ())
    for seed in (1, 2):
        assert made(plan, seed).broken == []


def test_a_seed_is_a_run() -> None:
    plan = msgspec.structs.replace(SHORT, faults=("drop", "reorder"))
    one, again, other = (made(plan, seed) for seed in (3, 3, 4))
    assert one.hash == again.hash != other.hash
    assert one.virtual_ns == again.virtual_ns


def test_a_random_run_can_be_written_and_read_back() -> None:
    scenario = stress.scenario(SHORT, 5)
    text = text_of(scenario)
    again = load.load("stress/random.yaml", text)
    assert text_of(again) == text
    first, second = (run(one, model.REFERENCE_TREE, seed=5) for one in (scenario, again))
    assert first.hash == second.hash


def test_what_fails_is_made_small() -> None:
    script = stress.script(SHORT, 1)
    wanted = script.clients["c1"][7], script.troubles[0][1]

    def fails(script: stress.Script) -> str:
        clients = script.clients["c1"]
        both = any(one is wanted[0] for one in clients) and any(
            one is wanted[1] for trouble in script.troubles for one in trouble
        )
        return "bad" if both else ""

    small = Shrinker(fails).shrink(script)
    assert [len(calls) for calls in small.clients.values()] == [0, 1, 0, 0]
    assert [len(trouble) for trouble in small.troubles] == [len(script.troubles[0])]


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    few = ["stress", "--seeds", "2", "--calls", "10", "-j", "1", "--faults", "delay"]
    assert invoke(few) == 0
    assert capsys.readouterr().out == "2 random runs: clean\n"
    assert invoke(["stress", "--faults", "dealy"]) == 2
    assert "no trouble is called 'dealy', did you mean 'delay'?" in capsys.readouterr().err


@pytest.mark.live
def test_a_short_run_on_real_processes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stress, "LIVE_QUIET_NS", NS_PER_S)
    few = ["--minutes", "0.05", "--seed", "4", "--clients", "2"]
    assert invoke(["stress", "--live", *few]) == 0
    assert re.fullmatch(r"seed 4: \d+ calls, 1 kill in \d+s: clean\n", capsys.readouterr().out)


def test_the_command_on_real_processes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[model.Scenario] = []

    def pretend(
        scenario: model.Scenario, tree: str, runtime: str, seed: int, listener: Any, check: bool
    ) -> Run:
        seen.append(scenario)
        for label in ("c0: sys stat a", "oss0: kill", "wait: 1s", "oss0: start"):
            listener.step(Shown(label, 0, 0, 0, True, None))
        broken = ["stuck: not over after 400s\n  c0: ls: for 400s"] if seed == 2 else []
        verdict: Any = "fail" if broken else "pass"
        return Run(
            scenario=scenario.name, ticket="", tree=tree, seed=seed, wall_ms=90_500,
            verdict=verdict, expected="pass", broken=broken,
        )  # fmt: skip

    monkeypatch.setattr(stress_live, "run", pretend)
    assert invoke(["stress", "--live", "--minutes", "0.5"]) == 0
    assert capsys.readouterr().out == "seed 1: 2 calls, 1 kill in 90s: clean\n"
    (scenario,) = seen
    assert not scenario.virtual_time
    assert scenario.limit_ns == 30 * NS_PER_S + stress.LIVE_QUIET_NS + stress.LIVE_PATIENCE_NS
    assert invoke(["stress", "--live", "--seeds", "2"]) == 1
    assert "1 kill in 90s: not clean\nstuck: not over" in capsys.readouterr().out
    assert invoke(["stress", "--minutes", "1"]) == 2


def test_the_command_shows_what_fails(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(archive: Archive) -> list[str]:
        return ["posix: it was read"] * any(call.name == "read" for call in archive.calls)

    monkeypatch.setattr(oracle, "posix", told)
    kept = tmp_path / "small.yaml"
    few = ["--seeds", "1", "--calls", "12", "--clients", "2", "--troubles", "1", "-j", "1"]
    status = invoke(["stress", *few, "--faults", "delay", "--keep", str(kept)])
    out = capsys.readouterr().out
    assert status == 1
    assert "as small as it gets" in out
    assert f"again: labsim run {kept} --seed 1" in out
    scenario = load.load(kept)
    assert run(scenario, model.REFERENCE_TREE, seed=1).broken

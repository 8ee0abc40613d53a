"""Whatever a scenario file holds, it is read or refused; nothing else happens."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.base.errors import InputError
from labsim.scenario import load, steps

GOOD = (Path(__file__).parent / "everything.yaml").read_text()
NOISE = st.text(alphabet="abc019 :-{}[]'\"\\\n\t,&*!|>%@`$#/~.", max_size=6)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=6), one, max_size=3),
    max_leaves=6,
)  # fmt: skip


def read(text: str) -> None:
    try:
        load.load("area/name.yaml", text)
    except InputError as error:
        assert str(error)


def test_the_file_that_is_damaged_is_good() -> None:
    assert load.load("area/name.yaml", GOOD).steps


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD)), st.integers(0, 40), NOISE)
def test_damage_is_told(start: int, length: int, noise: str) -> None:
    read(GOOD[:start] + noise + GOOD[start + length :])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(GOOD.splitlines()), st.sampled_from(GOOD.splitlines()), NOISE)
def test_mixed_lines_are_told(one: str, other: str, noise: str) -> None:
    read(GOOD.replace(one, other + noise))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(
    st.sampled_from(["labsim", "ticket", "title", "history", "cluster", "steps", "notes", "more"]),
    ANYTHING,
))  # fmt: skip
def test_strange_values_are_told(document: dict[str, object]) -> None:
    import json

    read(json.dumps({"labsim": 1, "title": "t"} | document))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(
    st.sampled_from(["c0", "wait", "net", "fault", "parallel", "expect", "buggy", "as", "within"]),
    ANYTHING | st.sampled_from(["touch f", "ls -q", "3s", "heal", "drop c0 -> oss0 rate=x"]),
))  # fmt: skip
def test_strange_steps_are_told(step: dict[str, object]) -> None:
    import json

    read(json.dumps({"labsim": 1, "title": "t", "steps": [step]}))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(steps.VERBS)), st.lists(NOISE, max_size=4))
def test_strange_commands_are_told(verb: str, words: list[str]) -> None:
    try:
        steps.check(" ".join([verb, *words]), "client", params=True)
    except InputError as error:
        assert str(error)

"""Which tree has which bug: computed from histories, compared with what is known."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from labsim.base.errors import InputError
from labsim.trees import History, all_trees, get, present, validate

RELEASES = ("2.4.0", "2.5.3", "2.7.0", "2.8.0", "2.9.0", "2.10.0", "2.11.0", "2.12.0")
TABLE = Path(__file__).with_name("regression_facts.txt").read_text()
FACTS = [
    [part.strip() for part in line.split("|")]
    for line in TABLE.splitlines()
    if not line.startswith("#")
]


def branches(text: str) -> dict[str, str]:
    """The branch:tag words of a row."""
    return dict(word.split(":") for word in text.split() if word != "-")


@pytest.mark.parametrize(("name", "came", "went", "where"), FACTS, ids=[row[0] for row in FACTS])
def test_presence_is_computed_as_known(name: str, came: str, went: str, where: str) -> None:
    history = History(introduced=branches(came), fixed=branches(went))
    validate(history)
    told = "".join("Y" if present(history, get(r)) == "yes" else "-" for r in RELEASES)
    assert told == where
    assert {present(history, get(r)) for r in RELEASES} <= {"yes", "no"}


REPLACE = History(
    introduced={"master": "2.10.51", "b2_10": "2.10.1"},
    fixed={"master": "2.11.51"},
    staging={"staging-4.16": "yes"},
)


def test_a_branch_has_a_bug_from_its_own_backport_on() -> None:
    having = [tree.name for tree in all_trees() if present(REPLACE, tree) == "yes"]
    assert having == [*(f"2.10.{n}" for n in range(1, 9)), "2.11.0", "staging-4.16"]
    assert present(REPLACE, get("2.10.0")) == "no"


def test_development_tags_are_points_on_master() -> None:
    newline = History(introduced={"master": "2.9.53"}, fixed={"master": "2.9.54"})
    told = {name: present(newline, get(name)) for name in ("2.9.52", "2.9.53", "2.9.54", "2.9.59")}
    assert told == {"2.9.52": "no", "2.9.53": "yes", "2.9.54": "no", "2.9.59": "no"}
    assert all(present(newline, tree) != "yes" for tree in all_trees())


def test_what_staging_does_not_tell_is_unknown() -> None:
    assert present(REPLACE, get("staging-4.4")) == "unknown"
    assert present(REPLACE, get("staging-4.16")) == "yes"


def test_vendor_trees_follow_their_base_unless_they_are_told() -> None:
    old = History(introduced={"master": "<2.4.0"}, fixed={"master": "2.7.53"})
    assert present(old, get("cray-2.7")) == "yes"
    assert present(old, get("chaos-2.8")) == "no"
    told = msgspec.structs.replace(old, vendor={"cray-2.7": "no"})
    assert present(told, get("cray-2.7")) == "no"


def test_a_bound_leaves_earlier_tags_unknown() -> None:
    hsm = History(introduced={"master": "<=2.8.0"}, fixed={"master": "2.12.90"})
    told = {name: present(hsm, get(name)) for name in ("2.7.0", "2.8.0", "2.12.9", "2.13.0")}
    assert told == {"2.7.0": "unknown", "2.8.0": "yes", "2.12.9": "yes", "2.13.0": "no"}


def test_an_unknown_point_is_unknown_only_where_it_matters() -> None:
    history = History(introduced={"master": "2.6.0"}, fixed={"master": "2.9.0", "b2_10": "unknown"})
    assert present(history, get("2.5.0")) == "no"
    assert present(history, get("2.8.0")) == "yes"
    assert present(history, get("2.10.4")) == "no"
    lost = History(introduced={"master": "unknown"})
    assert {present(lost, tree) for tree in all_trees()} == {"unknown"}


def test_never_and_unreleased_are_in_no_tag() -> None:
    history = History(
        introduced={"master": "2.4.53", "b2_4": "unreleased"},
        fixed={"master": "2.6.0", "b2_5": "unreleased", "b2_12": "never"},
    )
    assert present(history, get("2.4.3")) == "no"
    assert present(history, get("2.5.3")) == "yes"


def test_a_bug_of_staging_alone() -> None:
    newline = History(introduced={"master": "never"}, staging={"staging-4.16": "yes"})
    validate(newline)
    assert [tree.name for tree in all_trees() if present(newline, tree) == "yes"] == [
        "staging-4.16"
    ]


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (History(introduced={"b2_11": "2.11.1"}), "no branch 'b2_11'; did you mean 'b2_1"),
        (History(introduced={"trunk": "2.11.1"}), "no branch 'trunk'; known are master, b2_4"),
        (History(introduced={"master": "2.10.1"}), "2.10.1 is a tag of b2_10, not of master"),
        (History(introduced={"b2_10": "2.12.3"}), "2.12.3 is a tag of b2_12, not of b2_10"),
        (History(introduced={"b2_10": "2.10.51"}), "2.10.51 is a tag of master, not of b2_10"),
        (History(introduced={"b2_10": "2.10.12"}), "no release is called '2.10.12'"),
        (History(introduced={"master": "soon"}), "'soon' is no tag; write one as 2.10.51"),
        (History(introduced={"master": "2.8"}), "'2.8' is no tag"),
        (
            History(introduced={"master": "2.8.0"}, staging={"staging-4.15": "yes"}),
            "no tree 'staging-4.15'; did you mean 'staging-4.16'?",
        ),
        (History(fixed={"master": "2.8.0"}), "a history says where the bug came in"),
    ],
)
def test_a_wrong_history_gets_one_line(history: History, message: str) -> None:
    with pytest.raises(InputError) as caught:
        validate(history, "x.yaml:3:1")
    assert str(caught.value).startswith("x.yaml:3:1: ") or "no release" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_history_is_read_strictly() -> None:
    text = b'{"introduced": {"master": "2.10.51"}, "staging": {"staging-4.16": "yes"}}'
    assert msgspec.json.decode(text, type=History).staging == {"staging-4.16": "yes"}
    with pytest.raises(msgspec.ValidationError, match="introducd"):
        msgspec.json.decode(b'{"introducd": {}}', type=History)

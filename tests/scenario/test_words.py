"""Command lines: words as a shell makes them, redirections, variables, places of mistakes."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsim.scenario.words import (
    SyntaxProblem,
    expand,
    parse,
    quote,
    quote_if_needed,
    render,
    split,
)

PLAIN = st.text(alphabet="abz09 -_.:/='\"\\\n", max_size=12)


def words(text: str) -> list[str]:
    return [word.text for word in split(text, {})]


@given(st.lists(PLAIN, max_size=5))
def test_words_survive_quoting(given_words: list[str]) -> None:
    assert words(shlex.join(given_words)) == given_words


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("touch a  b", ["touch", "a", "b"]),
        ("echo 'a b' \"c d\" e\\ f", ["echo", "a b", "c d", "e f"]),
        ('echo "a\\"b" \'c\\d\'', ["echo", 'a"b', "c\\d"]),
        ("echo a'b'\"c\"", ["echo", "abc"]),
        ("echo ''", ["echo", ""]),
        ("ls # all of it", ["ls"]),
        ("echo a#b", ["echo", "a#b"]),
        ("sys open f O_RDWR|O_CREAT", ["sys", "open", "f", "O_RDWR|O_CREAT"]),
        ("echo '$x' \\$x", ["echo", "$x", "$x"]),
        ("lctl get_param osc.*.x", ["lctl", "get_param", "osc.*.x"]),
    ],
)
def test_words(text: str, wanted: list[str]) -> None:
    assert words(text) == wanted


def test_each_word_knows_where_it_starts() -> None:
    text = "setfattr -n 'user.a'  f"
    assert [word.start for word in split(text)] == [0, 9, 12, 22]


def test_variables() -> None:
    values = {"x": "a b", "name": "f"}
    assert [word.text for word in split('echo $x "${name}g" $', values)] == [
        "echo",
        "a b",
        "fg",
        "$",
    ]
    assert [word.names for word in split("echo $x ${y}z", None)] == [(), ("x",), ("y",)]
    assert expand("$x and $unknown", values) == "a b and $unknown"
    assert render("echo $x > $name", values) == "echo 'a b' > f"


def test_redirections() -> None:
    command = parse("echo a > f")
    assert [word.text for word in command.words] == ["echo", "a"]
    assert command.target is not None
    assert (command.target.text, command.append) == ("f", False)
    assert parse("echo a >>f").append
    assert parse("echo '>' f").target is None


@pytest.mark.parametrize(
    ("text", "start", "what"),
    [
        ("ls | wc -l", 3, "'|': a step has no pipe"),
        ("ls &", 3, "'&': a step has no background job"),
        ("ls; ls", 2, "';': a step has no second command"),
        ("cat < f", 4, "'<': a step has no input file"),
        ("echo 'a", 5, "a quote is not closed"),
        ('echo "a', 5, "a quote is not closed"),
        ("echo $(ls)", 5, "'$(': a step has no command substitution; use save"),
        ("ls >", 3, "'>' without a file"),
    ],
)
def test_what_a_step_cannot_say(text: str, start: int, what: str) -> None:
    with pytest.raises(SyntaxProblem) as caught:
        parse(text)
    assert (caught.value.start, caught.value.what) == (start, what)


def test_an_unknown_variable_is_an_error_when_it_is_used() -> None:
    with pytest.raises(SyntaxProblem, match="nothing was saved as 'x'"):
        split("echo $x", {})


def test_names_in_messages_are_quoted_as_coreutils_do() -> None:
    assert quote("f") == "'f'"
    assert quote("it's") == '"it\'s"'
    assert quote("a\nb") == "'a'$'\\n''b'"
    assert quote_if_needed("a.b") == "a.b"
    assert quote_if_needed("a b") == "'a b'"

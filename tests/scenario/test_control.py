"""What nodes tell their controller, whatever clients have called their files."""

from __future__ import annotations

import msgspec

from labsim.scenario import control
from labsim.scenario.steps.context import Result


def test_a_name_that_is_no_text_travels_with_backslashes() -> None:
    seen = {"names": {"\udcf9": [1, ("a\udc80", b"\xff")]}, "plain": "\u00fc"}
    found = msgspec.msgpack.decode(control.answer(1, seen).value)
    assert found == {"names": {"\\udcf9": [1, ["a\\udc80", b"\xff"]]}, "plain": "\u00fc"}


def test_so_does_a_result() -> None:
    result = Result(value="\udcf9", chunks=[(1, b"\xf9")])
    answer = control.answer(1, result)
    found = msgspec.msgpack.decode(answer.value, type=Result)
    assert (found.value, found.chunks) == ("\\udcf9", [(1, b"\xf9")])

"""The search for an order of all calls: what is in doubt in many places is still decided."""

from __future__ import annotations

import errno

import pytest

from labsim.scenario.record import NEVER

from .test_posix_model import SECOND, History, attributes

MANY = 14
"""Of 2 ** 14 ways in which things may have gone none may be looked at that says nothing new."""


def late(h: History) -> None:
    """A directory comes after a call that failed, and after somebody saw that it is not there."""
    h.call("mkdir", "/late", 0o777, errno=errno.EIO)
    h.call("stat", "/late", errno=errno.ENOENT, on="c1")
    h.call("stat", "/late", value=attributes(0o040000, 2), fid="late", on="c1")


@pytest.mark.parametrize("name", ["mkdir", "open"])
def test_many_names_in_doubt(name: str) -> None:
    h = History()
    for number in range(MANY):
        h.call(name, f"/n{number}", 0o101 if name == "open" else 0o777, errno=errno.EIO)
    late(h)
    for number in range(MANY):
        h.call("unlink", f"/n{number}", errno=errno.ENOENT, on="c1")
    assert h.wrong == ""
    h.call("stat", "/n3", errno=0, value=attributes(0o020000), fid="other", on="c1")
    assert h.wrong == "stat: expected ENOENT"


def test_many_files_in_doubt() -> None:
    h = History()
    for number in range(MANY):
        h.open(f"/n{number}", file=number + 1, fid=f"f{number}")
        h.write(b"abcd", file=number + 1, fid=f"f{number}", errno=errno.EIO)
    late(h)
    for number in range(MANY):
        data = b"abcd" if number % 2 else b""
        h.read(data, file=number + 1, fid=f"f{number}")
    assert h.wrong == ""
    h.read(b"", file=2, fid="f1")
    assert h.wrong == "read: 0 bytes read at 0, expected 4"


def test_calls_under_way_meet_through_a_symbolic_link() -> None:
    """What a link leads to is not seen from its path."""
    h = History()
    h.call("mkdir", "/d", 0o777)
    h.call("symlink", "/l", "/d")
    h.call("mkdir", "/d/x", 0o777, at=(10, 20))
    h.call("stat", "/l/x", value=attributes(0o040000, 2), fid="x", on="c1", at=(11, 12))
    assert h.wrong == ""


def test_a_call_that_never_ended_happens_when_it_is_seen() -> None:
    h = History()
    h.call("mkdir", "/d", 0o777)
    h.call("rename", "/d", "/e", at=(4, NEVER))
    h.call("stat", "/d", value=attributes(0o040000, 2), fid="d", on="c1", at=(5, 6))
    h.call("stat", "/e", value=attributes(0o040000, 2), fid="d", on="c1", at=(7, 8))
    h.call("stat", "/d", errno=errno.ENOENT, on="c1", at=(9, 10))
    assert h.now * SECOND == h.archive.calls[-1].ended_ns
    assert h.wrong == ""
    h.call("stat", "/d", value=attributes(0o040000, 2), fid="d", on="c1")
    assert h.wrong

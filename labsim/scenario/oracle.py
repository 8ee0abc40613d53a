"""The oracles of a run: the reference model over all calls, and the story of what it refuses.

Does not know runtimes; is given what was recorded. The invariants over snapshots are in `checkers`.
A story is short: the call, when, its number, what was expected, and the calls before it that met
the same names or the same file.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from labsim.base.units import format_duration
from labsim.scenario import posix_model
from labsim.scenario.posix_model import Violation
from labsim.scenario.record import NEVER, Archive, Call, Note

UNEXPLAINED = frozenset(
    {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN, errno.ENODEV, errno.EHOSTDOWN}
)
"""Errors that only a client that was evicted gets. ETIMEDOUT is none: an MDT answers it to a create
while no OST has objects for it (osp_precreate_reserve)."""

SHOWN = 12
"""So many calls before the one that is wrong are told."""


def posix(archive: Archive) -> list[str]:
    """What the reference model does not explain, as a story; nothing where all is well."""
    calls, notes = posix_model.merged(archive.calls), archive.told()
    violation = posix_model.check(calls, notes)
    if violation is None:
        return []
    return [story(violation, calls, notes)]


def causes(archive: Archive) -> list[str]:
    """Calls that failed as if something had happened to their client, though nothing had."""
    evicted: dict[str, int] = {}
    for note in archive.told():
        if note.what in ("evicted", "evicts", "killed"):
            evicted[note.node] = min(note.time_ns, evicted.get(note.node, note.time_ns))
    calls = posix_model.merged(archive.calls)
    return [
        f"causes: {told(call)}: its client was not evicted"
        for call in calls
        if call.errno in UNEXPLAINED and call.ended_ns < evicted.get(call.client, call.ended_ns + 1)
    ]


def story(violation: Violation, calls: Sequence[Call], notes: Sequence[Note]) -> str:
    """A violation in as few lines as explain it."""
    call = violation.call
    lines = [f"posix: {told(call)}: {violation.expected}"]
    near = [one for one in calls if one.number < call.number and _meet(one, call)]
    events = [(one.begun_ns, told(one)) for one in near[-SHOWN:]]
    since = near[-SHOWN:][0].begun_ns if near else 0
    events += [
        (note.time_ns, f"{format_duration(note.time_ns)} {note.node} {note.what} {note.target}")
        for note in notes
        if since <= note.time_ns <= max(call.ended_ns, call.begun_ns)
        and note.what not in ("uuid", "full")
    ]
    return "\n".join([*lines, *(f"  {text}" for _, text in sorted(events))])


def told(call: Call) -> str:
    """One call in a line: number, when, who, what, how it ended."""
    number = f"#{call.number}"
    ended = "never ended"
    if call.ended_ns != NEVER:
        took = format_duration(call.ended_ns - call.begun_ns)
        ended = (
            f"{errno.errorcode.get(call.errno, call.errno) if call.errno else 'ok'} after {took}"
        )
    return f"{number} {format_duration(call.begun_ns)} {call.client} {_line(call)} -> {ended}"


def _line(call: Call) -> str:
    if call.name in ("read", "write"):
        length = len(call.data) if call.data is not None else 0
        asked = f" of {call.args[2]}" if call.name == "read" and len(call.args) > 2 else ""
        return f"{call.name} file {call.file} {call.fid} {length} bytes{asked} at {call.at}"
    args: list[Any] = list(call.args)
    if call.file:
        args = [f"file {call.file}", call.fid, *args]
    shown = ", ".join(str(arg) if not isinstance(arg, bytes) else repr(arg[:20]) for arg in args)
    value = "" if call.value is None else f" = {str(call.value)[:120]}"
    return f"{call.name}({shown}){value}"


def _meet(one: Call, other: Call) -> bool:
    """Whether two calls are about the same file or name."""
    if one.fid and one.fid == other.fid:
        return True
    names = {str(arg) for arg in other.args if isinstance(arg, str)}
    return any(arg in names for arg in one.args if isinstance(arg, str))

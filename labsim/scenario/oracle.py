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
from labsim.scenario import posix_locks, posix_model
from labsim.scenario.posix_model import Violation
from labsim.scenario.record import LOCKS, NEVER, Archive, Call, Note

UNEXPLAINED = frozenset(
    {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ESHUTDOWN, errno.ENODEV, errno.EHOSTDOWN}
)
"""Errors that only a client that was evicted gets. ETIMEDOUT is none: an MDT answers it to a create
while no OST has objects for it (osp_precreate_reserve)."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that only a full disk explains."""
NEVER_YET = 1 << 62

SHOWN = 12
"""So many calls before the one that is wrong are told."""


def posix(archive: Archive) -> list[str]:
    """What the reference model does not explain, as a story; nothing where all is well.

    Where too much is in doubt to be sure, the archive is marked.
    """
    calls, notes = posix_model.merged(archive.calls), archive.told()
    try:
        violation = posix_model.check([call for call in calls if call.name not in LOCKS], notes)
    except posix_model.Undecided:
        archive.undecided = True
        return []
    if violation is None:
        return []
    return [story(violation, calls, notes)]


def locks(archive: Archive) -> list[str]:
    """Who had a file lock, or was refused one, that the others do not explain, as a story.

    Of mounts that ask the MDT (option flock).
    """
    calls, notes = posix_model.merged(archive.calls), archive.told()
    wrong = posix_locks.check(calls, notes)
    if wrong is None:
        return []
    near = [call for call in calls if call.name in (*LOCKS, "close", "open")]
    return [story(Violation(*wrong), near, notes)]


def causes(archive: Archive) -> list[str]:
    """Calls that failed as if something had happened to their client or to a disk, and had not."""
    evicted: dict[str, int] = {}
    failing = full = NEVER_YET
    for note in archive.told():
        if note.what in ("evicted", "evicts", "killed"):
            evicted[note.node] = min(note.time_ns, evicted.get(note.node, note.time_ns))
        elif note.what == "disk eio":
            failing = min(failing, note.time_ns)
        elif note.what == "disk full":
            full = min(full, note.time_ns)
    found = []
    for call in posix_model.merged(archive.calls):
        since = min(evicted.get(call.client, NEVER_YET), failing)
        if call.errno in UNEXPLAINED and call.ended_ns < since:
            found.append(f"causes: {told(call)}: its client was not evicted")
        if call.errno in NO_ROOM and call.ended_ns < full:
            found.append(f"causes: {told(call)}: no disk was full")
        if call.errno == errno.EROFS and call.ended_ns < failing:
            found.append(f"causes: {told(call)}: no disk failed")
    return found


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

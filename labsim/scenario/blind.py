"""When a client did not see the truth: between its eviction and the moment it hears of it.

Pure functions over notes; does not know calls' meaning. A client that was evicted goes on with what
it has cached until a server tells it; a server that restarts forgets what was not committed of a
client that does not come back in time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from labsim.base.units import NS_PER_S
from labsim.scenario.posix_content import Place
from labsim.scenario.record import NEVER, Call, Note

COMMIT_NS = 10 * NS_PER_S
"""What is older than this when the power goes is on disk: two commit intervals."""

DATA_CALLS = frozenset({"read", "write", "truncate", "ftruncate", "stat", "fstat", "fsync"})
"""Calls that meet OSTs."""
OWN_CALLS = frozenset({"close"})
NEVER_ENDS = 1 << 62
LOSSES = frozenset({"evicted", "evicts", "killed", "replay failed"})
"""A replay that fails, though not by a version, is no eviction: what it did before is gone, as in
Lustre a link of a file whose maker did not come back (ptlrpc_replay_interpret: status, old was)."""
HOME = "-MDT0000"
"""The MDT that has all names: nothing makes directories on others."""


class Window(NamedTuple):
    """From when to when a client was blind, and for which target."""

    client: str
    start_ns: int
    end_ns: int
    target: str


class Blindness:
    """What the notes of all nodes say of who was evicted when.

    `notes` are those that change what a client's cache or calls are worth, in order: evicted
    (by a server, or noticed), killed.
    """

    def __init__(self, notes: Sequence[Note]) -> None:
        ordered = sorted(notes, key=lambda note: note.time_ns)
        self._kills = [note for note in ordered if note.what == "power-off"]
        self._targets = sorted({kill.target for kill in self._kills})
        self._fulls: dict[tuple[str, str], list[int]] = {}
        for note in ordered:
            if note.what == "full":
                self._fulls.setdefault((note.node, note.target), []).append(note.time_ns)
        self.notes = [note for note in ordered if note.what in LOSSES]
        self.windows = [
            window for note in self.notes if note.what in ("evicted", "replay failed")
            for window in self._windows(note, ordered)
        ]  # fmt: skip
        self._sick = [self._sickness(note) for note in ordered if note.what == "disk eio"]
        self.notes += [
            Note(node=window.client, what="evicted", time_ns=time_ns, target=window.target)
            for window in self.windows for time_ns in self._losses(window)
        ]  # fmt: skip

    def _losses(self, window: Window) -> list[int]:
        """When a server loses what a client wrote, before that client hears of it."""
        kills = [
            kill.time_ns for kill in self._kills
            if kill.target == window.target and window.start_ns <= kill.time_ns <= window.end_ns
        ]  # fmt: skip
        return sorted({window.start_ns, *kills} - {window.end_ns})

    def _windows(self, note: Note, ordered: Sequence[Note]) -> list[Window]:
        """The time before a client noticed: since a server said so, or lost its power."""
        start = note.time_ns
        for one in ordered:
            if one is note:
                break
            mine = one.node == note.node and one.target == note.target
            if one.what == "full" and mine:
                start = note.time_ns
            elif (one.what == "evicts" and mine) or (
                one.what == "power-off" and one.target == note.target
            ):
                start = min(start, one.time_ns)
        return [Window(note.node, start, note.time_ns, note.target)]

    def _sickness(self, note: Note) -> Window:
        """The time in which a target's disk fails, until it is started anew: for all clients.

        What it then refuses may be done in its memory.
        """
        ends = [one.time_ns for one in self._kills
                if one.target == note.target and one.time_ns > note.time_ns]  # fmt: skip
        return Window("", note.time_ns, min(ends, default=NEVER_ENDS), note.target)

    def covers(self, call: Call, place: Place) -> bool:
        """Whether a call's client was blind while it ran, for a target that it needs.

        `place` is where the data of its file is.
        """
        ended = call.ended_ns if call.ended_ns != NEVER else call.begun_ns
        for window in (*self.windows, *self._sick):
            if window.client not in (call.client, ""):
                continue
            if ended < window.start_ns or call.begun_ns > window.end_ns:
                continue
            index = ost_index(window.target)
            if window.target.endswith(HOME) and call.name not in OWN_CALLS:
                return True
            if index is not None and call.name in DATA_CALLS and place.on(index):
                return True
        return False

    def losses(self, note: Note) -> Iterator[tuple[str, int | None]]:
        """What goes with a note: targets, and since when what the client did there may be undone.

        None: nothing is, but what the client has not sent; without a target that is of all.
        """
        if note.what == "killed":
            yield "", None
            for target in self._targets:
                since = self._since(note, target, note.time_ns)
                if since is not None:
                    yield target, since
            return
        start = min(
            (w.start_ns for w in self.windows
             if w.client == note.node and w.target == note.target
             and w.start_ns <= note.time_ns <= w.end_ns),
            default=note.time_ns,
        )  # fmt: skip
        yield note.target, self._since(note, note.target, start)

    def _since(self, note: Note, target: str, blind_ns: int) -> int | None:
        """Since when what a client did may be undone, that may know nothing since `blind_ns`.

        What a restarted server lost came back by replay only, and is not on disk at once: when it
        lost its power again, or before the replay was over, what came first is lost as well.
        """
        margin = COMMIT_NS if note.what == "killed" else 0
        late, until = blind_ns - margin, note.time_ns + margin
        kills = [one.time_ns for one in self._kills if one.target == target]
        lost = [kill for kill in kills if late <= kill <= until]
        since = min(lost) - COMMIT_NS if lost else note.time_ns
        for kill in reversed(kills):
            if kill >= min([*lost, note.time_ns]):
                continue
            back = [full for full in self._fulls.get((note.node, target), ())
                    if kill <= full <= note.time_ns]  # fmt: skip
            if back and back[0] < since:
                break
            lost.append(kill)
            since = kill - COMMIT_NS
        return since if lost else None


def ost_index(target: str) -> int | None:
    """The index of an OST by its name; None for anything else."""
    name = target.rpartition("-")[2]
    return int(name[3:7], 16) if name.startswith("OST") else None

"""The file locks that calls ask for, fcntl(2) and flock(2): who may have held what, and when.

Pure functions over what `record` noted; does not know servers. A lock is held for sure from the end
of the call that got it to the beginning of the one that lets go of it, and maybe from the beginning
of the first to the end of the second. Two that exclude one another are never both held for sure; a
call that was told EAGAIN or EDEADLK met one that was held maybe. The server forgets what an evicted
client held, a client all of its own with its power.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from labsim.nodes.client.flock import (
    F_GETLK,
    F_RDLCK,
    F_SETLKW,
    F_UNLCK,
    F_WRLCK,
    OFFSET_MAX,
)
from labsim.nodes.client.vfs_locks import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN
from labsim.scenario.blind import HOME, Blindness
from labsim.scenario.record import LOCKS, NEVER, Call, Note

FOREVER = 1 << 62
REFUSED = frozenset({
    errno.EAGAIN, errno.EDEADLK, errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOLCK,
})  # fmt: skip
"""Errors of a lock that was not granted; after any other it may have been."""

Owner = tuple[str, str, int]


class Wish(NamedTuple):
    """What a call asks for: a kind of lock on bytes of a file, and whether it waits."""

    owner: Owner
    fid: str
    kind: int
    start: int
    end: int
    waits: bool


class Held(msgspec.Struct, eq=False):
    """A lock on some bytes, and when it was held for sure, and maybe."""

    wish: Wish
    sure_from: int
    may_from: int
    sure_until: int = FOREVER
    may_until: int = FOREVER
    call: int = 0
    """The number of the call that got it."""

    def sure(self, other: Held) -> bool:
        """Whether both were held at once."""
        begin = max(self.sure_from, other.sure_from)
        return begin < min(self.sure_until, other.sure_until)

    def may(self, call: Call) -> bool:
        """Whether it may have been held during a call."""
        ended = call.ended_ns if call.ended_ns != NEVER else FOREVER
        return self.may_from <= ended and call.begun_ns <= self.may_until


class Wrong(NamedTuple):
    """A call that the others do not explain."""

    call: Call
    expected: str


def wish(call: Call, boot: int = 0) -> Wish | None:
    """What a call asks for; nothing where it is none for a lock, or makes no sense."""
    if call.name == "flock":
        kinds = {LOCK_SH: F_RDLCK, LOCK_EX: F_WRLCK, LOCK_UN: F_UNLCK}
        kind = kinds.get(call.args[0] & ~LOCK_NB)
        if kind is None:
            return None
        owner = call.client, "file", call.file
        return Wish(owner, call.fid, kind, 0, OFFSET_MAX, not call.args[0] & LOCK_NB)
    command, kind, *where = call.args
    start, length = [*where, 0, 0][:2]
    first, last = (start, start + length - 1) if length > 0 else (start + length, start - 1)
    if not length:
        last = OFFSET_MAX
    process = call.client, f"process of boot {boot}", call.process
    return Wish(process, call.fid, kind, first, last, command == F_SETLKW)


def _asks(call: Call) -> bool:
    """Whether a call wants to know only who is in the way."""
    return call.name == "fcntl" and bool(call.args[0] == F_GETLK)


def conflict(one: Wish, other: Wish) -> bool:
    """Whether two locks exclude one another."""
    return (
        one.fid == other.fid and one.owner != other.owner and F_WRLCK in (one.kind, other.kind)
        and one.start <= other.end and other.start <= one.end
    )  # fmt: skip


def check(calls: Sequence[Call], notes: Sequence[Note]) -> Wrong | None:
    """The first call (of `posix_model.merged`) that had a lock, or was refused one, wrongly."""
    table = Table(calls, notes)
    found = [*_both(table), *_refused(table)]
    return min(found, key=lambda wrong: wrong.call.number, default=None)


class Table:
    """All locks of a run: `held`, and the wishes of calls by their number."""

    def __init__(self, calls: Sequence[Call], notes: Sequence[Note]) -> None:
        self.calls = {call.number: call for call in calls if call.name in LOCKS}
        self.wishes: dict[int, Wish] = {}
        self.held: list[Held] = []
        self._now: dict[str, list[Held]] = {}
        self._kills = [note for note in notes if note.what == "killed"]
        for call in calls:
            if call.name in LOCKS:
                self._lock(call)
            elif call.name == "close":
                self._close(call)
        self._gone(notes)

    def _boot(self, call: Call) -> int:
        kills = [note for note in self._kills if note.node == call.client]
        return sum(note.time_ns <= call.begun_ns for note in kills)

    def _lock(self, call: Call) -> None:
        asked = wish(call, self._boot(call))
        if asked is None:
            return
        self.wishes[call.number] = asked
        if call.errno in REFUSED or _asks(call):
            return
        done = not call.errno and call.ended_ns != NEVER
        self._cut(call, asked, done)
        if asked.kind != F_UNLCK:
            sure = call.ended_ns if done else FOREVER
            made = Held(asked, sure, call.begun_ns, call=call.number)
            self.held.append(made)
            self._now.setdefault(asked.fid, []).append(made)

    def _cut(self, call: Call, asked: Wish, done: bool) -> None:
        """What its owner held of these bytes goes with the call, if it is done."""
        kept = []
        for one in self._now.get(asked.fid, []):
            held = one.wish
            apart = held.end < asked.start or held.start > asked.end
            if held.owner != asked.owner or apart:
                kept.append(one)
                continue
            for start, end in ((held.start, asked.start - 1), (asked.end + 1, held.end)):
                if start <= end:
                    left = msgspec.structs.replace(one, wish=held._replace(start=start, end=end))
                    self.held.append(left)
                    kept.append(left)
            part = held._replace(start=max(held.start, asked.start), end=min(held.end, asked.end))
            one.wish = part
            one.sure_until = min(one.sure_until, call.begun_ns)
            if done:
                one.may_until = min(one.may_until, call.ended_ns)
            else:
                kept.append(one)
        self._now[asked.fid] = kept

    def _close(self, call: Call) -> None:
        """The locks of the open file go, and those of its process on the same file."""
        boot = self._boot(call)
        done = not call.errno and call.ended_ns != NEVER
        for owner in (
            (call.client, "file", call.file),
            (call.client, f"process of boot {boot}", call.process),
        ):
            self._cut(call, Wish(owner, call.fid, F_UNLCK, 0, OFFSET_MAX, False), done)

    def _gone(self, notes: Sequence[Note]) -> None:
        """A server forgets what an evicted client held; who lost its power knows of nothing."""
        for note in self._kills:
            for one in self._of(note.node, note.time_ns):
                one.sure_until = min(one.sure_until, note.time_ns)
        for window in Blindness(notes).windows:
            if window.target.endswith(HOME):
                for one in self._of(window.client, window.end_ns):
                    one.sure_until = min(one.sure_until, window.start_ns)
        for note in notes:
            if note.what == "evicts" and note.target.endswith(HOME):
                for one in self._of(note.node, note.time_ns):
                    one.sure_until = min(one.sure_until, note.time_ns)

    def _of(self, client: str, since_ns: int) -> Iterator[Held]:
        """What a client may have held then."""
        for one in self.held:
            if one.wish.owner[0] == client and one.may_from <= since_ns:
                yield one


def _both(table: Table) -> Iterator[Wrong]:
    """Locks that exclude one another and were held at once."""
    for place, one in enumerate(table.held):
        for other in table.held[:place]:
            if conflict(one.wish, other.wish) and one.sure(other):
                later, first = (one, other) if one.call > other.call else (other, one)
                what = f"expected not to get it: {_told(first.wish)} got it by #{first.call}"
                yield Wrong(table.calls[later.call], what)


def _refused(table: Table) -> Iterator[Wrong]:
    """Calls that were told of a lock in the way where there was none."""
    for number, asked in table.wishes.items():
        call = table.calls[number]
        if _asks(call):
            told = not call.errno and call.value and call.value[0] != F_UNLCK
            if told and not _blockers(table, call, asked):
                yield Wrong(call, "expected no lock in the way")
        elif call.errno == errno.EAGAIN:
            if asked.waits:
                yield Wrong(call, "expected it to wait")
            elif not _blockers(table, call, asked):
                yield Wrong(call, "expected success, nobody holds it")
        elif call.errno == errno.EDEADLK and not (asked.waits and _circle(table, call, asked)):
            yield Wrong(call, "expected no deadlock: nobody who holds it waits for this one")


def _blockers(table: Table, call: Call, asked: Wish) -> set[Owner]:
    """Who may have held what excludes it, during a call."""
    return {one.wish.owner for one in table.held if conflict(one.wish, asked) and one.may(call)}


def _circle(table: Table, call: Call, asked: Wish) -> bool:
    """Whether who holds what is asked for waits, in the end, for who asks."""
    seen: set[Owner] = set()
    todo = _blockers(table, call, asked)
    while todo:
        owner = min(todo)
        todo.discard(owner)
        seen.add(owner)
        for number, other in table.wishes.items():
            waiting = table.calls[number]
            ended = waiting.ended_ns if waiting.ended_ns != NEVER else FOREVER
            at_once = waiting.begun_ns <= call.ended_ns and call.begun_ns <= ended
            if other.owner == owner and other.waits and at_once:
                found = _blockers(table, waiting, other)
                if asked.owner in found:
                    return True
                todo |= found - seen
    return False


def _told(one: Wish) -> str:
    client, what, number = one.owner
    return f"{client} ({what} {number})"

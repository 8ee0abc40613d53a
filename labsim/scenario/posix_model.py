"""The reference model: every completed call of every client must fit one order of all calls.

Pure functions over what `record` noted; does not know nodes. Calls that overlap may take effect in
any order (linearizability, checked just in time: Lowe, "Testing for linearizability", 2016): at the
end of a call there must be an order of the calls under way, ending with it, that explains its
answer. What a failure leaves in doubt is kept as several states, or as an unsure part of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from labsim.scenario import posix_content as content
from labsim.scenario.blind import HOME, Blindness, ost_index
from labsim.scenario.posix_answers import DOUBTFUL, World, paths_of, resolve
from labsim.scenario.posix_calls import perform
from labsim.scenario.posix_data import perhaps
from labsim.scenario.posix_names import attributes, look, sized
from labsim.scenario.posix_reach import Reach
from labsim.scenario.posix_state import NOTHING, UNSURE, Found, State
from labsim.scenario.record import NEVER, Call, Note

MOST_STATES = (128, 2048)
"""So many states are kept at each level of care; with more, the answer may be that nobody knows."""

NAMES = frozenset({
    "mkdir", "mknod", "symlink", "link", "open", "setstripe", "unlink", "rmdir", "rename",
})  # fmt: skip
"""Calls that change names."""

MOST_STEPS = 250_000
"""So many calls are tried in all: some seconds."""

BEGIN, NOTE, END = range(3)
Event = tuple[int, int, int, int, Call | Note]


class Violation(NamedTuple):
    """A call that no order of the calls explains."""

    call: Call
    expected: str


class Undecided(Exception):
    """There were too many states to be sure."""


class Look(NamedTuple):
    """What the paths of a call led to; a stat may have its attributes from then, or from later."""

    number: int
    found: tuple[Found, ...]
    attributes: bool


class Config(NamedTuple):
    """One way in which things may have gone: the state, and who of those under way is done.

    `looked` is what the paths of some led to, of those who have looked but not acted yet.
    """

    state: State
    done: frozenset[int] = frozenset()
    looked: tuple[Look, ...] = ()


def merged(calls: Iterable[Call]) -> list[Call]:
    """All clients' calls in the order they began, numbered through from 1."""
    ordered = sorted(calls, key=lambda call: (call.begun_ns, call.begun, call.client, call.number))
    return [
        msgspec.structs.replace(call, number=number) for number, call in enumerate(ordered, start=1)
    ]


def check(calls: Sequence[Call], notes: Sequence[Note], start: State | None = None) -> (
    Violation | None
):  # fmt: skip
    """The first call (of `merged`) that nothing explains; None where all is well.

    `start` is what was there before the first call. Undecided where there were too many ways.
    """
    last = len(MOST_STATES) - 1
    found: Violation | None = None
    for level in range(last + 1):
        try:
            found = _Search(calls, notes, level, start or State()).run()
        except Undecided:
            if level == last:
                raise
            continue
        if found is None:
            return None
    return found


class _Search:
    """One pass over a history, at one level of care.

    Level 0 takes each call as one step, and one that failed as done or not when it ends. Level 1
    lets a call look its paths up before it acts, and one that failed act at any time afterwards.
    """

    def __init__(
        self, calls: Sequence[Call], notes: Sequence[Note], level: int, start: State
    ) -> None:
        self.level = level
        self.most = MOST_STATES[level]
        self.left = MOST_STEPS
        self.world = World(calls)
        self.configs = [Config(start.fork())]
        self.live: dict[int, Call] = {}
        self.calls = calls
        self.blind = Blindness(notes)
        self.events = sorted(_events(calls, self.blind.notes), key=lambda event: event[:4])

    def run(self) -> Violation | None:
        """The first violation."""
        for time_ns, _, what, _, about in self.events:
            if isinstance(about, Note):
                self._note(about, time_ns)
            elif what == BEGIN:
                self.live[about.number] = about
            else:
                wrong = self._end(about)
                if wrong:
                    return Violation(about, wrong)
                if len(self.configs) > self.most:
                    raise Undecided
        return None

    # ---- a call ends

    def _end(self, call: Call) -> str:
        """Explain a call's answer in every config; what was expected where none can."""
        if call.number not in self.live:
            return ""  # its client died at that moment: whether it was done is open already
        if self._doubtful(call):
            self._in_doubt(call)
            return ""
        first = self.configs[0]
        if len(self.configs) == 1 and len(self.live) == 1 and not first.done:
            del self.live[call.number]
            state = first.state
            return perform(state, call, resolve(state, call), self.world)
        found: list[Config] = []
        for config in self.configs:
            if call.number in config.done:
                found.append(config._replace(done=config.done - {call.number}))
            else:
                found += self._explained(config, call)
        if not found:
            return self._expected(call)
        del self.live[call.number]
        self.configs = self._distinct(found)
        return ""

    def _doubtful(self, call: Call) -> bool:
        return (
            call.ended_ns == NEVER
            or call.errno in DOUBTFUL
            or self.blind.covers(call, self.world.place(call.fid))
        )  # fmt: skip

    def _explained(self, config: Config, call: Call) -> Iterator[Config]:
        """Every way to get from a config to one in which the call is done, by those under way.

        Only by those that may meet the call, or one that does: the others can as well act later.
        """
        meeting = self._meeting(config, call)
        seen = {config}
        todo = [config]
        while todo:
            now = todo.pop()
            self.left -= 1
            for after in self._steps(now, call):
                yield after._replace(done=after.done - {call.number})
            others = [one for one in meeting if one is not call and one.number not in now.done]
            reached = [after for other in others for after in self._steps(now, other)]
            if self.level:
                reached += self._looks(now, meeting)
            for after in reached:
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
            if len(seen) > self.most:
                raise Undecided

    def _meeting(self, config: Config, call: Call) -> list[Call]:
        """The calls under way that may meet a call, or one that does so, and the call."""
        looked = {one.number: one.found for one in config.looked}
        apart = [one for one in self.live.values() if one.number not in config.done]
        reach = {
            one.number: Reach.of(config.state, one, looked.get(one.number, ())) for one in apart
        }
        met = [call]
        for one in met:
            mine = reach[one.number]
            near = [other for other in apart if mine.meets(reach[other.number])]
            met += [other for other in near if other not in met]
        return sorted(met, key=lambda one: one.number)

    def _steps(self, config: Config, call: Call) -> Iterator[Config]:
        """The config after a call has acted, where its answer allows that."""
        for earlier in (None, *(one for one in config.looked if one.number == call.number)):
            state = config.state.fork()
            found = resolve(state, call) if earlier is None else list(earlier.found)
            if earlier and call.name == "stat" and not call.errno and found[0].inode > NOTHING:
                if not earlier.attributes and attributes(state, call, found):
                    continue
                if sized(state, call, found[0].inode):
                    continue
            elif self._doubtful(call):
                if not perhaps(state, call, self.world) and self._acted(state, call, found):
                    continue
            elif perform(state, call, found, self.world):
                continue
            rest = tuple(one for one in config.looked if one.number != call.number)
            yield Config(state, config.done | {call.number}, rest)

    def _looks(self, config: Config, calls: Iterable[Call]) -> Iterator[Config]:
        """The config after one of the calls has looked its paths up."""
        for call in calls:
            known = {one.number for one in config.looked}
            if call.number in config.done or call.number in known or not paths_of(call):
                continue
            state = config.state.fork()
            found = resolve(state, call)
            if look(state, call, found):
                continue
            one = Look(call.number, tuple(found), not attributes(state, call, found))
            looked = (*config.looked, one)
            yield config._replace(state=state, looked=tuple(sorted(looked)))

    def _acted(self, state: State, call: Call, found: list[Found]) -> str:
        """Have a call done what it would have done with success."""
        success = msgspec.structs.replace(call, errno=0)
        return perform(state, success, found, self.world)

    def _in_doubt(self, call: Call) -> None:
        """A call failed in a way that leaves open whether it happened, or still will."""
        found: list[Config] = []
        for config in self.configs:
            if call.number in config.done:
                found.append(config._replace(done=config.done - {call.number}))
                continue
            state = config.state.fork()
            if perhaps(state, call, self.world):
                found.append(config._replace(state=state))
            elif self.level:
                return
            else:
                success = msgspec.structs.replace(call, ended_ns=NEVER)
                acted = self._steps(config, success)
                found.append(config)
                found += (after._replace(done=after.done - {call.number}) for after in acted)
        self.live.pop(call.number, None)
        self.configs = self._distinct(found)

    def _distinct(self, configs: Iterable[Config]) -> list[Config]:
        """The configs that say more than another: one that waits for a doubtful call has both."""
        never = frozenset(one.number for one in self.live.values() if self._doubtful(one))
        found: dict[tuple[State, tuple[Look, ...]], list[frozenset[int]]] = {}
        for config in configs:
            looked = self._elsewhere(config) if config.looked else ()
            done = found.setdefault((config.state, looked), [])
            if not any(one <= config.done and config.done - one <= never for one in done):
                done[:] = [one for one in done if not (config.done < one <= config.done | never)]
                done.append(config.done)
        return [Config(key[0], one, key[1]) for key, done in found.items() for one in done]

    def _elsewhere(self, config: Config) -> tuple[Look, ...]:
        """The looks that would find something else now."""
        return tuple(one for one in config.looked if self._differs(config, one))

    def _differs(self, config: Config, earlier: Look) -> bool:
        call = self.live.get(earlier.number)
        if call is None:
            return False
        found, state = list(earlier.found), config.state.fork()
        return (
            resolve(state, call) != found
            or bool(look(state, call, found))
            or (earlier.attributes and bool(attributes(state, call, found)))
        )

    def _expected(self, call: Call) -> str:
        state = self.configs[0].state.fork()
        return perform(state, call, resolve(state, call), self.world) or "another order"

    # ---- what happens to clients

    def _note(self, note: Note, time_ns: int) -> None:
        if note.what == "killed":
            for call in [one for one in self.live.values() if one.client == note.node]:
                self._in_doubt(call)
        for target, since_ns in self.blind.losses(note):
            for config in self.configs:
                if target and ost_index(target) is None:
                    if target.endswith(HOME) and since_ns is not None:
                        self._forget(config.state, note.node, since_ns, time_ns)
                    continue
                lost_ns = content.NOT_YET if since_ns is None else since_ns
                loss = content.Loss(note.node, ost_index(target), lost_ns)
                for inode, one in list(config.state.inodes.items()):
                    if one.content.owner or one.content.ranges:
                        left = content.lose(one.content, loss, self.world.place(one.fid))
                        config.state.change(inode, content=left)

    def _forget(self, state: State, client: str, since_ns: int, until_ns: int) -> None:
        """What a client did in that time is gone with a server, or is not."""
        for call in self.calls:
            late = call.ended_ns != NEVER and call.ended_ns < since_ns
            if call.client != client or late or call.begun_ns > until_ns:
                continue
            for inode in self.world.changed.get(call.number, ()):
                if inode in state.inodes:
                    state.change(
                        inode, nlink=UNSURE, mode=UNSURE, uid=UNSURE, gid=UNSURE, xattrs=None
                    )
            if call.name not in NAMES or (call.name == "open" and not call.args[1] & os.O_CREAT):
                continue
            for found in resolve(state, call):
                if found.parent and found.name:
                    state.forget_name(found.parent, found.name)
            inode = state.fids.get(call.fid, NOTHING)
            if inode > NOTHING:
                state.forget_inode(inode)


def _events(calls: Sequence[Call], notes: Sequence[Note]) -> Iterator[Event]:
    for call in calls:
        yield call.begun_ns, call.begun, BEGIN, call.number, call
        if call.ended_ns != NEVER:
            yield call.ended_ns, call.ended, END, call.number, call
    for number, note in enumerate(notes):
        yield note.time_ns, note.place, NOTE, number, note

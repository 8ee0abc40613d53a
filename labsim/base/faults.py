"""Fault points: named places in a node where a scenario may make something go wrong.

Does not know what the places mean, nor time beyond asking its env for a delay. Stands for libcfs
fail_loc and fail_val (libcfs_fail.h): the low 16 bits name the point, the high bits say when.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from labsim.base.draws import Draws
from labsim.base.errors import InputError, LustreError

FAIL_SKIP = 0x20000000
"""CFS_FAIL_SKIP: let the first fail_val visits pass."""
FAIL_SOME = 0x10000000
"""CFS_FAIL_SOME: act on fail_val visits only."""
FAIL_RAND = 0x08000000
"""CFS_FAIL_RAND: act on one visit in fail_val."""
FAIL_ONCE = 0x80000000
"""CFS_FAIL_ONCE: act on one visit, then disarm."""
FAIL_MASK = 0x0000FFFF

REACTIONS = ("delay", "fail", "drop", "crash", "hold")


class Point(NamedTuple):
    """One fault point: Lustre's number, what happens there, and what an armed number does."""

    number: int
    what: str
    name: str = ""
    reaction: str = "drop"
    errno: int = 5


class Dropped(Exception):
    """The visit asks its RPC to vanish: nothing is sent, nothing is answered."""


class Crash(Exception):
    """The visit asks the node to stop as if its power went."""


class Race:
    """Two processes that meet: who comes first waits for the other at its point (cfs_race).

    Once they have met, nobody waits here any more.
    """

    def __init__(self, env: Any, first: int, second: int) -> None:
        self.numbers = first, second
        self._env = env
        self._waiting: tuple[int, Any] | None = None
        self._met = False

    def visit(self, number: int) -> Generator[Any, Any, None]:
        """Come by one of the two points: wait, wake who waits at the other, or pass."""
        if self._met:
            return
        if self._waiting is None:
            event = self._env.event()
            self._waiting = number, event
            yield event
        elif self.numbers[0] == self.numbers[1] or self._waiting[0] != number:
            self.off()

    def off(self) -> None:
        """Let go of who waits, and hold nobody from now on."""
        self._met = True
        if self._waiting is not None:
            (_, event), self._waiting = self._waiting, None
            event.succeed()


class Armed:
    """One armed point: when it acts (fail_loc's bits, fail_val) and what it does."""

    def __init__(
        self, number: int, bits: int = 0, val: int = 0, reaction: str | None = None, value: int = 0
    ) -> None:
        if reaction is not None and reaction not in REACTIONS:
            known = ", ".join(REACTIONS)
            raise InputError(f"'{reaction}' is no reaction of a fault point; one of {known}")
        self.number = number
        self.bits = bits
        self.val = val
        self.reaction = reaction
        self.value = value
        self.visits = 0
        self.hits = 0
        self.spent = False
        self.released: Any = None

    def due(self, rng: Draws) -> bool:
        """Count a visit, and say whether this one is hit."""
        self.visits += 1
        if self.spent:
            return False
        if self.bits & FAIL_RAND and self.val > 1 and rng.randrange(self.val):
            return False
        if self.bits & FAIL_SKIP and self.visits <= self.val:
            return False
        if self.bits & FAIL_SOME and self.hits >= max(self.val, 1):
            return False
        self.hits += 1
        self.spent = bool(self.bits & FAIL_ONCE)
        return True


NONE_ARMED: dict[int, Armed] = {}
"""Of a node where nothing ever was; never changed in place."""


class Faults:
    """The fault points that are armed on one node."""

    def __init__(self, env: Any, rng: Draws, on_hit: Callable[[Point], None] | None = None) -> None:
        self._env = env
        self._rng = rng
        self._on_hit = on_hit
        self._armed = NONE_ARMED
        self._races: dict[int, Race] = {}
        self.fail_loc = 0
        self.fail_val = 0

    @property
    def armed(self) -> bool:
        """Is anything armed?"""
        return bool(self._armed)

    def arm(self, armed: Armed) -> None:
        """Arm a point; several may be armed at once, one way each."""
        if self._armed is NONE_ARMED:
            self._armed = {}
        self._armed[armed.number] = armed

    def disarm(self, number: int) -> None:
        """Take a point back; who is held there goes on."""
        race = self._races.pop(number, None)
        if race is not None:
            race.off()
        armed = self._armed.pop(number, None)
        if armed is not None and armed.released is not None:
            armed.released.succeed()

    def is_armed(self, point: Point) -> bool:
        """Will somebody who visits this point perhaps not just pass?"""
        return point.number in self._armed or point.number in self._races

    def race(self, first: int, second: int) -> None:
        """Have two processes meet, one at each of two points (they may be the same)."""
        race = Race(self._env, first, second)
        for number in race.numbers:
            self._races[number] = race

    def set_fail_loc(self, value: int) -> None:
        """What `lctl set_param fail_loc=` does: replaces the number armed the same way before."""
        self.disarm(self.fail_loc & FAIL_MASK)
        self.fail_loc = value
        if value & FAIL_MASK:
            self.arm(Armed(value & FAIL_MASK, value & ~FAIL_MASK, self.fail_val))

    def set_fail_val(self, value: int) -> None:
        """What `lctl set_param fail_val=` does, also to a point that is armed already."""
        self.fail_val = value
        armed = self._armed.get(self.fail_loc & FAIL_MASK)
        if armed is not None:
            armed.val = value

    def __bool__(self) -> bool:
        """Is anything armed at all?"""
        return bool(self._armed)

    def hit(self, point: Point, value: int | None = None) -> bool:
        """Come by a point where nobody can wait; what happens there, the caller does.

        With `value` only a point whose fail_val that is counts.
        """
        armed = self._armed.get(point.number)
        if armed is None or value not in (None, armed.val) or not armed.due(self._rng):
            return False
        if self._on_hit is not None:
            self._on_hit(point)
        return True

    def visit(self, point: Point) -> Generator[Any, Any, None]:
        """Pass, wait or raise; the one way a node meets its faults."""
        if self._races and point.number in self._races:
            if self._on_hit is not None:
                self._on_hit(point)
            yield from self._races[point.number].visit(point.number)
        armed = self._armed.get(point.number)
        if armed is None or not armed.due(self._rng):
            return
        if self._on_hit is not None:
            self._on_hit(point)
        reaction = armed.reaction or point.reaction
        if reaction == "drop":
            raise Dropped(point.name)
        if reaction == "crash":
            raise Crash(point.name)
        if reaction == "fail":
            raise LustreError(armed.value or point.errno, f"fault point {point.name}")
        if reaction == "delay":
            yield self._env.timeout(armed.value or armed.val * 1_000_000_000)
            return
        if armed.released is None:
            armed.released = self._env.event()
        yield armed.released

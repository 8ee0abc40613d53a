"""The objects of the native codec side by side with their twins: the same is done to both.

A `Pair` is one object in C and one whose fields are slots. What is read of them, what they say no
to and how, and the bytes they make must be the same after any number of steps, whatever was put in.
"""

from __future__ import annotations

import copy
import enum
import random
from functools import cache
from typing import Any, NamedTuple

from labsim.base.ids import Fid, Nid
from labsim.pure import structs
from labsim.pure.codec import Kind, Op, Table
from labsim.wire.schema import Wire


@cache
def twin_of(cls: Any) -> Any:
    """A class with the same fields whose objects are the twin's."""
    table = cls.table
    names = [op.name for op in table.ops]
    space = {**structs.space(names), "__repr__": Wire.__repr__, "__reduce__": Wire.__reduce__}
    made: Any = type(cls.__name__, (structs.Struct,), space)
    ops = [
        op._replace(
            table=op.table and twin_of(op.table.factory).table,
            cases={value: case and twin_of(case.factory).table for value, case in op.cases.items()},
        )
        for op in table.ops
    ]
    made.table = Table(table.name, table.size, tuple(ops), made)
    structs.settle(made)
    return made


class Both(NamedTuple):
    """A value for one side and for the other."""

    native: Any
    twin: Any


class Small(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


THING = object()
HOSTILE: list[Any] = [
    -1, 1 << 64, 1 << 200, -(1 << 63), -(1 << 63) - 1, 1 << 31, 256, True, Small.ONE, Nid(7), 1.5,
    None, "7", "a\0b", "\udcff", "\ud800", "é", Text("t"), "x" * 200, b"7", b"", b"y" * 9000,
    bytearray(b"12"), memoryview(b"34"), (), (1,), (1, 2), (1, 2, 3), [1, 2, 3], (1, -1, 1 << 64),
    (True, Nid(3), 0), ("a", None, 2.0), Fid(1, 2, 3), Fid(1 << 70, 0, 0), range(3), {}, THING,
]  # fmt: skip
"""What no field expects; some of it fits nevertheless."""


def plain(value: Any) -> Any:
    """A value so that both sides can be compared, classes too."""
    if hasattr(type(value), "table"):
        held = [outcome(getattr, value, op.name) for op in type(value).table.ops]
        return (type(value).__name__, tuple(held))
    if type(value) in (tuple, list):
        return type(value), [plain(one) for one in value]
    return type(value), value


def outcome(work: Any, *given: Any) -> Any:
    """What it gives, or how it fails."""
    try:
        return plain(work(*given))
    except AttributeError:
        return AttributeError  # Python words it as it likes
    except Exception as error:
        return type(error), str(error)


class Pair:
    """One object of each side, and what can be done to them."""

    def __init__(self, cls: Any, rng: random.Random) -> None:
        self.cls, self.kind, self.rng = cls, twin_of(cls), rng
        self.names = [op.name for op in cls.table.ops]
        self.value = Both(cls(), self.kind())

    def step(self) -> None:
        """Do something to both; AssertionError where they differ."""
        deeds = [self.set] * 4 + [self.get] * 2 + [
            self.delete, self.make, self.replace, self.copied, self.inner, self.read, self.equal,
            self.missing,
        ]  # fmt: skip
        self.rng.choice(deeds)()

    def check(self) -> None:
        """Both say the same of themselves."""
        native, twin = self.value
        assert plain(native) == plain(twin)
        for one, two in ((native.packed_size, twin.packed_size), (native.pack, twin.pack)):
            assert outcome(one) == outcome(two), (outcome(one), outcome(two))

    def _alike(self, work: Any) -> Both | None:
        """The two results, or None where both fail alike."""
        answers: list[Any] = []
        failures: list[Any] = []
        for side in (0, 1):
            try:
                answers.append(work(side))
            except AttributeError:
                failures.append(AttributeError)
            except Exception as error:
                failures.append((type(error), str(error)))
        assert not failures or (len(failures) == 2 and failures[0] == failures[1]), failures
        return None if failures else Both(*answers)

    def op(self) -> Op | None:
        return self.rng.choice(self.cls.table.ops) if self.names else None

    def draw(self, op: Op) -> Both:
        """Something for a field: mostly what belongs there."""
        rng = self.rng
        if rng.random() < 0.3:
            one = rng.choice(HOSTILE)
            return Both(one, one)
        match op.kind:
            case Kind.STRUCT:
                assert op.table is not None
                return other(op.table.factory, rng)
            case Kind.UNION:
                case = rng.choice(list(op.cases.values()))
                return Both(None, None) if case is None else other(case.factory, rng)
            case Kind.TAIL if op.table is not None:
                made = [other(op.table.factory, rng) for _ in range(rng.randrange(3))]
                return Both(tuple(one.native for one in made), tuple(one.twin for one in made))
        one = fitting(op, rng)
        return Both(one, one)

    def set(self) -> None:
        if op := self.op():
            given = self.draw(op)
            self._alike(lambda side: setattr(self.value[side], op.name, given[side]))

    def get(self) -> None:
        if op := self.op():
            found = self._alike(lambda side: getattr(self.value[side], op.name))
            if found is not None:
                assert plain(found.native) == plain(found.twin)
                again = getattr(self.value.native, op.name)
                assert op.kind is Kind.INT or again is found.native

    def delete(self) -> None:
        if (op := self.op()) and self.rng.random() < 0.3:
            self._alike(lambda side: delattr(self.value[side], op.name))

    def missing(self) -> None:
        self._alike(lambda side: self.value[side].colour)
        self._alike(lambda side: setattr(self.value[side], "colour", 1))
        self._alike(lambda side: delattr(self.value[side], "colour"))

    def _given(self) -> dict[str, Both]:
        chosen = self.rng.sample(self.cls.table.ops, self.rng.randrange(len(self.names) + 1))
        return {op.name: self.draw(op) for op in chosen}

    def make(self) -> None:
        given = self._given()
        classes = Both(self.cls, self.kind)
        if self.rng.random() < 0.1:
            given["colour"] = Both(1, 1)
        wrong = sum(outcome(self._one, classes.twin, {name: one.twin}) != "made"
                    for name, one in given.items())  # fmt: skip
        if wrong > 1:
            return  # which of them is complained about is not said
        made = self._alike(
            lambda side: classes[side](**{name: one[side] for name, one in given.items()})
        )
        self.value = made or self.value

    def _one(self, cls: Any, given: dict[str, Any]) -> str:
        cls(**given)
        return "made"

    def replace(self) -> None:
        given = self._given()
        made = self._alike(
            lambda side: self.value[side].replace(**{key: one[side] for key, one in given.items()})
        )
        self.value = made or self.value

    def copied(self) -> None:
        """A copy shares what is nested."""
        made = self._alike(lambda side: self.value[side].replace())
        if made is None:
            return
        for op in self.cls.table.ops:
            if op.kind is not Kind.INT:
                shared = [
                    outcome(getattr, made[side], op.name) is AttributeError
                    or getattr(made[side], op.name) is getattr(self.value[side], op.name)
                    for side in (0, 1)
                ]
                assert shared[0] == shared[1] or op.kind is not Kind.STRUCT, op
        assert made.native is not self.value.native
        if self.rng.random() < 0.5:
            self.value = made

    def inner(self) -> None:
        """Do something to a nested object."""
        if op := self.op():
            found = outcome(getattr, self.value.twin, op.name)
            held = getattr(self.value.native, op.name, None)
            if found is AttributeError or not hasattr(type(held), "table"):
                return
            pair = Pair(type(held), self.rng)
            pair.value = Both(held, getattr(self.value.twin, op.name))
            pair.set()

    def read(self) -> None:
        """Take what the bytes of both say, or any bytes."""
        raw = self.rng.randbytes(max(self.cls.table.size + self.rng.randrange(-1, 3) * 8, 0))
        if self.rng.random() < 0.7:
            try:
                raw = self.value.twin.pack()
            except Exception:
                return
        classes = Both(self.cls, self.kind)
        self.value = self._alike(lambda side: classes[side].unpack(raw)) or self.value

    def equal(self) -> None:
        """What is equal on one side is on the other."""
        another = other(self.cls, self.rng)
        for one in (another, self.value, copied_of(self.value)):
            answers = self._alike(lambda side, one=one: self.value[side] == one[side])
            assert answers is None or answers.native == answers.twin
            answers = self._alike(lambda side, one=one: self.value[side] != one[side])
            assert answers is None or answers.native == answers.twin


def copied_of(value: Both) -> Both:
    """Copies, or the same where there can be none."""
    try:
        return Both(copy.copy(value.native), copy.copy(value.twin))
    except AttributeError:
        return value


def other(cls: Any, rng: random.Random) -> Both:
    """A pair of new objects with something in them."""
    pair = Pair(cls, rng)
    for _ in range(rng.randrange(3)):
        pair.set()
    return pair.value


def fitting(op: Op, rng: random.Random) -> Any:
    """A value that a field of integers, text or bytes can hold, often barely."""
    match op.kind:
        case Kind.TEXT:
            return "é" * rng.randrange(3) + "a" * rng.randrange(op.size - 5 if op.size > 6 else 1)
        case Kind.OCTETS:
            return rng.randbytes(op.size)
        case Kind.INTS:
            return tuple(integer(op.code, rng) for _ in range(op.length))
        case Kind.INT:
            return integer(op.code, rng)
        case Kind.TAIL if not op.code:
            return rng.randbytes(rng.randrange(9))
    records = [tuple(integer(code, rng) for code in op.code) for _ in range(rng.randrange(4))]
    if op.kind is Kind.RECORD:
        return op.make(*[integer(code, rng) for code in op.code])
    return tuple(op.make(*one) if op.make else one[0] for one in records)


def integer(code: str, rng: random.Random) -> int:
    bits = {"b": 8, "h": 16, "i": 32, "q": 64}[code.lower()]
    low = -(1 << bits - 1) if code.islower() else 0
    high = low + (1 << bits) - 1
    return rng.choice((low, high, 0, 1, high >> 1, rng.randint(low, high)))


def run(cls: Any, rng: random.Random, steps: int) -> None:
    """So many steps; both are compared after each."""
    pair = Pair(cls, rng)
    for _ in range(steps):
        pair.step()
        pair.check()

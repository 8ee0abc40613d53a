"""Dirty ranges against a set of bytes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.nodes.client.dirty import Dirty

WINDOW = 4 * 4096

places = st.integers(0, 10 * 4096)
TAX = 24576

steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), places, st.integers(1, 9000)),
        st.tuples(st.just("cut"), places, st.integers(1, 20_000)),
        st.tuples(st.just("take"), st.booleans(), st.integers(1, 4)),
        st.tuples(st.just("hurry"), places, st.integers(1, 20_000)),
        st.tuples(st.just("done"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


class Model:
    """What must be dirty, byte by byte, and what grant was taken for it."""

    def __init__(self) -> None:
        self.dirty = Dirty()
        self.bytes: set[int] = set()
        self.grant = 0

    def add(self, at: int, length: int) -> None:
        end = at + length
        self.bytes |= set(range(at, end))
        while at < end:
            limit = at - at % WINDOW + WINDOW
            stop = min(end, limit)
            self.grant += self.dirty.cost(at, stop, limit, TAX).grant
            self.dirty.add(at, stop, limit, None, 0, TAX)
            at = stop

    def cut(self, at: int, length: int) -> None:
        self.grant -= self.dirty.cut(at, at + length).grant
        self.bytes -= set(range(at, at + length))

    def take(self, anything: bool, pages: int) -> None:
        before = set(self.dirty.waiting)
        taken = self.dirty.take(pages * 4096, anything)
        assert taken == sorted(taken, key=lambda one: one.start)
        assert all(one in before and one.taken for one in taken)
        assert len(taken) <= 1 or sum(one.bytes for one in taken) <= pages * 4096
        for one in taken:
            self.bytes -= set(range(one.start, one.end))
        for other in set(self.dirty.sent) - set(taken):
            for one in taken:
                after = other.start & ~4095 >= one.end or one.start & ~4095 >= other.end
                assert after, "a page is in two RPCs"

    def hurry(self, at: int, length: int) -> None:
        found = self.dirty.hurry(at, at + length, 1)
        assert all(one.start < at + length and one.end > at for one in found)
        assert all(one in self.dirty.ready for one in found if not one.taken)

    def done(self, *_: int) -> None:
        sent = list(self.dirty.sent)
        self.grant -= sum(one.grant for one in sent)
        self.dirty.done(sent)
        assert all(one.finished for one in sent)

    def check(self) -> None:
        waiting = self.dirty.waiting
        covered: set[int] = set()
        for one in waiting:
            assert one.start < one.end
            covered |= set(range(one.start, one.end))
        assert sum(one.end - one.start for one in waiting) == len(covered)
        assert covered == self.bytes
        assert self.grant == self.dirty.grant
        assert set(self.dirty.ready) <= set(waiting)
        for left, right in pairwise(waiting):
            assert left.end < right.start or left.end % WINDOW == 0


@settings(max_examples=150, deadline=None)
@given(steps)
def test_ranges_are_a_set_of_bytes(program: list[tuple[str, int, int]]) -> None:
    model = Model()
    for name, one, two in program:
        getattr(model, name)(one, two)
        model.check()


def test_a_range_takes_its_waiters_along() -> None:
    dirty = Dirty()
    woken: list[str] = []

    class Event:
        def __init__(self, name: str) -> None:
            self.name = name

        def succeed(self) -> None:
            woken.append(self.name)

    class Env:
        def event(self) -> Event:
            return Event(f"w{len(woken)}")

    left = dirty.add(0, 10, WINDOW, None, 0)
    right = dirty.add(20, 30, WINDOW, None, 0)
    assert right.wait(Env()) is not None
    whole = dirty.add(5, 25, WINDOW, None, 0)
    assert whole is left
    assert right.into is left
    dirty.done(dirty.take(WINDOW, True))
    assert woken == ["w0"]
    assert right.wait(Env()) is None

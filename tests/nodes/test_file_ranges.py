"""Calls on one file keep apart where they must, and are served in their order."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from labsim.nodes.client.file_ranges import END, FileRanges
from labsim.nodes.client.lov import Layout, Stripe, pieces, runs
from labsim.runtime.sim import environment
from labsim.wire.schema import OstId


def test_reads_share_and_writes_do_not() -> None:
    env = environment()
    ranges = FileRanges()
    said: list[str] = []

    def call(name: str, start: int, end: int, exclusive: bool, last: int) -> Any:
        held = yield from ranges.take(env, start, end, exclusive)
        said.append(f"{name}+")
        yield env.timeout(last)
        said.append(f"{name}-")
        ranges.give(held)

    env.process(call("r1", 0, 10, False, 5))
    env.process(call("r2", 5, 20, False, 5))
    env.process(call("w", 8, 9, True, 5))
    env.process(call("far", 100, 200, True, 1))
    env.process(call("r3", 8, 9, False, 1))
    env.process(call("whole", 0, END, True, 1))
    env.run()
    assert said == [
        "r1+", "r2+", "far+", "far-", "r1-", "r2-", "w+", "w-", "r3+", "r3-", "whole+", "whole-"
    ]  # fmt: skip
    assert not ranges.held


@pytest.mark.parametrize("seed", range(5))
def test_nobody_meets_who_excludes_him(seed: int) -> None:
    env = environment()
    rng = Random(seed)
    ranges = FileRanges()
    inside: list[tuple[int, int, bool]] = []

    def call() -> Any:
        for _ in range(20):
            start = rng.randrange(100)
            mine = (start, start + rng.randrange(1, 40), rng.random() < 0.4)
            held = yield from ranges.take(env, *mine)
            for low, high, exclusive in inside:
                assert high <= mine[0] or low >= mine[1] or not (exclusive or mine[2])
            inside.append(mine)
            yield env.timeout(rng.randrange(5))
            inside.remove(mine)
            ranges.give(held)

    env.run(env.all_of([env.process(call()) for _ in range(12)]))
    assert not ranges.held


@pytest.mark.parametrize("count", [1, 2, 5])
def test_pieces_are_what_runs_are_made_of(count: int) -> None:
    rng = Random(count)
    layout = Layout(1000, tuple(Stripe(OstId(n + 1, 0), n) for n in range(count)))
    for _ in range(200):
        offset, length = rng.randrange(9000), rng.randrange(1, 9000)
        found = list(pieces(layout, offset, length))
        assert found[0][2] == 0
        assert sum(size for *_, size in found) == length
        by_stripe: dict[int, list[tuple[int, int]]] = {}
        at = 0
        for stripe, on_object, start, size in found:
            assert start == at
            at += size
            by_stripe.setdefault(stripe, []).append((on_object, size))
        for run in runs(layout, offset, length):
            parts = by_stripe.pop(run.stripe)
            assert parts[0][0] == run.offset
            assert sum(size for _, size in parts) == run.length
        assert not by_stripe

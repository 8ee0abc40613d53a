"""Lies of one client: whatever it sends, no server dies of it and an honest client goes on."""

from __future__ import annotations

import pytest

from .hostile import storm
from .hostile_live import LiveLiar


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_lies(seed: int) -> None:
    storm(seed, 1500)


@pytest.mark.live
def test_a_storm_of_lies_over_sockets() -> None:
    """Real processes: none dies, none grows, and who is honest gets on with its work."""
    liar = LiveLiar(1)
    try:
        liar.run(500)
        before = liar.memory()
        liar.ended = False
        liar.run(4000)
        after = liar.memory()
        assert liar.works > 5
        assert liar.good > liar.works * 0.9
        received = liar.received()
        assert received["mds0"] + received["oss0"] > 3500
        assert all(after[name] - before[name] < 24 << 20 for name in before), (before, after)
    finally:
        liar.close()

"""Lies of one client: whatever it sends, no server dies of it and an honest client goes on."""

from __future__ import annotations

import pytest

from .hostile import storm


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_lies(seed: int) -> None:
    storm(seed, 1500)

"""A node's random numbers."""

from __future__ import annotations

from collections import Counter

import pytest

from labsim.base.draws import Draws


def test_reference_numbers() -> None:
    """The first numbers from state 1234567, as published with the reference implementation."""
    draws = Draws("")
    draws._state = 1234567
    assert [draws.getrandbits(64) for _ in range(5)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
        4593380528125082431, 16408922859458223821,
    ]  # fmt: skip


def test_a_seed_gives_the_same_again_and_another_something_else() -> None:
    def first(seed: str) -> list[int]:
        draws = Draws(seed)
        return [draws.getrandbits(128) for _ in range(10)]

    assert first("1:c0:1") == first("1:c0:1")
    assert not set(first("1:c0:1")) & set(first("1:c1:1"))


@pytest.mark.parametrize("bits", [1, 7, 28, 64, 65, 128])
def test_bits(bits: int) -> None:
    draws = Draws("bits")
    drawn = [draws.getrandbits(bits) for _ in range(2000)]
    assert max(drawn).bit_length() == bits
    for bit in range(bits):
        assert 850 < sum(number >> bit & 1 for number in drawn) < 1150


@pytest.mark.parametrize("stop", [1, 2, 3, 10, 1000])
def test_range(stop: int) -> None:
    draws = Draws("range")
    drawn = Counter(draws.randrange(stop) for _ in range(200 * min(stop, 10)))
    assert min(drawn) >= 0
    assert max(drawn) < stop
    if stop <= 10:
        assert all(140 < drawn[number] < 260 for number in range(stop))

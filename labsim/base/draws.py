"""A node's random numbers: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
Generators, OOPSLA 2014), seeded from a text.

Does not know what is drawn. A Mersenne Twister keeps 2.5 KB of state, and each of a thousand
clients has a stream of its own. Not for secrets. Stands for get_random_bytes and prandom_u32.
"""

from __future__ import annotations

from hashlib import blake2b

_WORD = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15


class Draws:
    """The numbers that one seed gives, on every machine."""

    __slots__ = ("_state",)

    def __init__(self, seed: str) -> None:
        self._state = int.from_bytes(blake2b(seed.encode(), digest_size=8).digest(), "little")

    def _word(self) -> int:
        """The next 64 bits."""
        self._state = word = (self._state + _STEP) & _WORD
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
        word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
        return word ^ word >> 31

    def getrandbits(self, bits: int) -> int:
        """A number of so many random bits."""
        number = self._word()
        for _ in range(64, bits, 64):
            number = number << 64 | self._word()
        return number >> -bits % 64

    def randrange(self, stop: int) -> int:
        """One of 0 .. stop - 1, each as likely as the others."""
        bits = (stop - 1).bit_length()
        while (number := self.getrandbits(bits) if bits else 0) >= stop:
            pass
        return number

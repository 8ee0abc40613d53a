"""Bulk data: real bytes, or a pattern that only says how long it is.

Does not know files or pages. Stands for the pages of a bulk descriptor. A `Fill` makes a simulated
TiB cost nothing; a `Chain` keeps pieces side by side without copying them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from sys import maxsize
from typing import TypeAlias

_PERIOD = 4096
"""A fill's pattern repeats after this many bytes, so one block serves every slice."""

_BLOCK = 1 << 16
_CACHED = 1 << 22
"""Zeros up to this many bytes are made once."""


@lru_cache(maxsize=64)
def _pattern(seed: int) -> bytes:
    """64 KiB of the pattern, starting at a multiple of its period."""
    if seed == 0:
        return bytes(_BLOCK)
    key = seed.to_bytes(16, "little", signed=True)
    page = b"".join(
        blake2b(number.to_bytes(4, "little"), key=key).digest() for number in range(_PERIOD // 64)
    )
    return page * (_BLOCK // _PERIOD)


@lru_cache(maxsize=4)
def _zeros(length: int) -> bytes:
    """Zeros are wanted in the same few sizes over and over."""
    return bytes(length)


class Fill:
    """`length` bytes of the pattern of `seed` as it stands at `offset`; seed 0 is all zeros."""

    __slots__ = ("length", "offset", "seed")

    def __init__(self, length: int, seed: int = 0, offset: int = 0) -> None:
        assert length >= 0
        self.length = length
        self.seed = seed
        self.offset = offset % _PERIOD if seed else 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: slice) -> Fill:
        start, stop, step = key.indices(self.length)
        assert step == 1
        return Fill(max(stop - start, 0), self.seed, self.offset + start)

    def tobytes(self) -> bytes:
        """The real bytes."""
        if self.seed == 0:
            return _zeros(self.length) if self.length <= _CACHED else bytes(self.length)
        need = self.offset + self.length
        blocks = _pattern(self.seed) * -(-need // _BLOCK)
        return blocks if self.length == len(blocks) else blocks[self.offset : need]

    def continues(self, other: Fill) -> bool:
        """True when `other` directly after this one is the same pattern going on."""
        follows = not self.seed or (self.offset + self.length - other.offset) % _PERIOD == 0
        return self.seed == other.seed and follows

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Fill):
            same = (self.length, self.seed, self.offset) == (other.length, other.seed, other.offset)
            return same or (self.length == other.length and self.tobytes() == other.tobytes())
        if isinstance(other, (bytes, bytearray, memoryview, Chain)):
            return len(other) == self.length and self.tobytes() == tobytes(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Fill({self.length}, seed={self.seed}, offset={self.offset})"


class Chain:
    """Pieces one after the other, as one payload; made by `join`."""

    __slots__ = ("length", "pieces")

    def __init__(self, pieces: tuple[bytes | bytearray | memoryview | Fill, ...]) -> None:
        self.pieces = pieces
        self.length = sum(map(len, pieces))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: slice) -> Payload:
        start, stop, step = key.indices(self.length)
        assert step == 1
        return join(self._between(start, stop))

    def _between(self, start: int, stop: int) -> Iterator[Payload]:
        at = 0
        for part in self.pieces:
            low, high = max(start - at, 0), min(stop - at, len(part))
            if low < high:
                yield piece(part, low, high)
            at += len(part)

    def tobytes(self) -> bytes:
        """The real bytes."""
        return b"".join(map(tobytes, self.pieces))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (bytes, bytearray, memoryview, Fill, Chain)):
            return len(other) == self.length and self.tobytes() == tobytes(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Chain({self.pieces!r})"


Payload: TypeAlias = bytes | bytearray | memoryview | Fill | Chain


def tobytes(payload: Payload) -> bytes:
    """The payload as bytes; the same object where it is bytes already."""
    if isinstance(payload, bytes):
        return payload
    return bytes(payload) if isinstance(payload, bytearray) else payload.tobytes()


def piece(payload: Payload, start: int, stop: int) -> Payload:
    """Bytes `start` to `stop` without copying where that can be."""
    if isinstance(payload, bytearray):
        return memoryview(payload)[start:stop]
    if start == 0 and stop >= len(payload):
        return payload
    if isinstance(payload, bytes):
        return memoryview(payload)[start:stop]
    return payload[start:stop]


@lru_cache(maxsize=1024)
def _endless(seed: int, offset: int) -> Fill:
    return Fill(maxsize, seed, offset)


def pattern(fill: Fill, position: int) -> Fill:
    """The pattern that shows `fill` from `position` on, and goes on to both sides.

    It is the same object for all fills that fit together.
    """
    return _endless(fill.seed, (fill.offset - position) % _PERIOD if fill.seed else 0)


def join(parts: Iterable[Payload]) -> Payload:
    """The parts one after the other; fills that go on become one, nothing is copied."""
    flat: list[bytes | bytearray | memoryview | Fill] = []
    for part in parts:
        for one in part.pieces if isinstance(part, Chain) else (part,):
            last = flat[-1] if flat else None
            if not len(one):
                continue
            if isinstance(one, Fill) and isinstance(last, Fill) and last.continues(one):
                flat[-1] = Fill(len(last) + len(one), last.seed, last.offset)
            else:
                flat.append(one)
    if len(flat) == 1:
        return flat[0]
    return Chain(tuple(flat)) if flat else b""


def digest(payload: Payload) -> bytes:
    """Sixteen bytes that name the content, for the trace; cheap for a fill."""
    if isinstance(payload, Fill):
        key = f"{payload.length}:{payload.seed}:{payload.offset}".encode()
        return blake2b(key, digest_size=16).digest()
    return blake2b(tobytes(payload), digest_size=16).digest()

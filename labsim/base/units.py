"""Units of time and size, and how people write them.

Does not know any clock. Times inside labsim are int nanoseconds, sizes int bytes.
"""

from __future__ import annotations

import re

from labsim.base.errors import InputError

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

PAGE_SIZE = 4096
"""Bytes of a page on x86-64; Lustre's wire counts in these."""

_DURATIONS = {
    "ns": 1,
    "us": NS_PER_US,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "min": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
    "d": 86400 * NS_PER_S,
}
_SIZES = {"": 1, "b": 512, "c": 1, "w": 2}
for _power, _letter in enumerate("kmgtpe", start=1):
    _SIZES[_letter] = _SIZES[_letter + "ib"] = 1024**_power
    _SIZES[_letter + "b"] = 1000**_power

_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*\Z")


def parse_duration(text: str | int | float) -> int:
    """Nanoseconds of "30s", "1.5ms", "2h"; a unit is required."""
    match = _NUMBER.match(str(text))
    if match is None or match.group(2) not in _DURATIONS:
        units = ", ".join(_DURATIONS)
        raise InputError(f"'{text}' is no duration; write a number and one of {units}, as in 30s")
    return round(float(match.group(1)) * _DURATIONS[match.group(2)])


def format_duration(ns: int) -> str:
    """Nanoseconds in the largest unit that keeps the number short: "2.4s", "600ms"."""
    for unit, scale in (("s", NS_PER_S), ("ms", NS_PER_MS), ("us", NS_PER_US)):
        if abs(ns) >= scale:
            return f"{ns / scale:.3f}".rstrip("0").rstrip(".") + unit
    return f"{ns}ns"


def parse_size(text: str | int) -> int:
    """Bytes of "4096", "4k", "1M", "1MB", "64KiB" as dd reads them (K is 1024, KB is 1000)."""
    match = _NUMBER.match(str(text))
    if match is None or "." in match.group(1) or match.group(2).lower() not in _SIZES:
        raise InputError(f"'{text}' is no size; write bytes or a unit, as in 4096, 64K or 1M")
    return int(match.group(1)) * _SIZES[match.group(2).lower()]

"""Grammars: how Lustre and the kernel read the text that somebody writes into a parameter file.

Pure functions from text to int. Does not know any parameter. Stands for lprocfs_write_helper and
lprocfs_str_with_units_to_s64 (procfs), kstrtox.c and kstrtobool (sysfs), sysfs_memparse (later).

Each grammar is `read(text, scale) -> int`: `scale` is what a bare number is multiplied with (the
file's unit in bytes or nanoseconds, 1 for a count). Errors are LustreError EINVAL or ERANGE.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from fractions import Fraction

from labsim.base.errors import LustreError

Grammar = Callable[[str, int], int]

_SUFFIXES = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_LEADING_NUMBER = re.compile(r"(-?)(\d*)(?:\.(\d*))?([A-Za-z]?)")
_MEMORY = re.compile(r"(\d+)(?:\.(\d+))?\s*([A-Za-z]*)\Z")


def refuse(what: str, number: int = errno.EINVAL) -> LustreError:
    """The error a store function answers with."""
    return LustreError(number, what)


def number(text: str, scale: int = 1) -> int:
    """A whole number at the start of the text, base 10; what follows is not looked at (procfs)."""
    match = re.match(r"(-?)(\d+)", text)
    if match is None:
        raise refuse(f"no number in '{text}'")
    value = int(match.group(2)) * scale
    return -value if match.group(1) else value


def units(text: str, scale: int = 1) -> int:
    """A number with optional fraction and one of K M G T P E, powers of 1024 (procfs).

    A suffix replaces the file's own unit: "64M" and "64" mean the same in a file of MiB.
    """
    match = _LEADING_NUMBER.match(text)
    assert match is not None
    sign, whole, fraction, suffix = match.groups()
    if not whole and not fraction:
        raise refuse(f"no number in '{text}'")
    shift = _SUFFIXES.get(suffix.lower())
    if shift is None:
        raise refuse(f"unknown unit in '{text}'")
    if suffix:
        scale = 1 << shift
    value = int(whole or "0") * scale
    if fraction:
        value += int(fraction[:10]) * scale // 10 ** len(fraction[:10])
    return -value if sign else value


def kstrto(text: str, base: int, low: int, high: int) -> int:
    """The kernel's strict integers: the whole text, one newline at its end allowed.

    Base 0 reads 0x.. as hexadecimal and 0.. as octal; a plus sign is allowed everywhere, a minus
    sign only where `low` is below zero.
    """
    digits = text.removesuffix("\n")
    negative = digits.startswith("-")
    if negative and low >= 0:
        raise refuse(f"'{text}' is negative")
    if digits[:1] in {"+", "-"}:
        digits = digits[1:]
    if base == 0:
        base, digits = _base_of(digits)
    try:
        if not digits or not digits[0].isalnum() or "_" in digits:
            raise ValueError
        value = int(digits, base)
    except ValueError:
        raise refuse(f"'{text}' is no integer") from None
    if negative:
        value = -value
    if not low <= value <= high:
        raise refuse(f"'{text}' does not fit", errno.ERANGE)
    return value


def _base_of(digits: str) -> tuple[int, str]:
    if digits[:2].lower() == "0x":
        return 16, digits[2:]
    if digits[:1] == "0" and len(digits) > 1:
        return 8, digits
    return 10, digits


def _strict(base: int, low: int, high: int) -> Grammar:
    def read(text: str, scale: int = 1) -> int:
        return kstrto(text, base, low, high) * scale

    return read


def kstrtobool(text: str, scale: int = 1) -> int:
    """1 or 0 of y, Y, 1, on / n, N, 0, off; only the first letters count."""
    first = text[:1].lower()
    if first in {"y", "1"}:
        return 1
    if first in {"n", "0"}:
        return 0
    if text[:2].lower() == "on":
        return 1
    if text[:2].lower() == "of":
        return 0
    raise refuse(f"'{text.rstrip()}' is neither on nor off")


def memparse(text: str, scale: int = 1) -> int:
    """A number with optional fraction and unit: B, K or KiB (1024), KB (1000), M, MiB, MB ...

    A bare number is in the file's unit.
    """
    match = _MEMORY.match(text.rstrip())
    if match is None:
        raise refuse(f"'{text.rstrip()}' is no size")
    whole, fraction, unit = match.groups()
    factor = scale if not unit else _memory_unit(unit)
    value = Fraction(int(whole)) + Fraction(int(fraction or "0"), 10 ** len(fraction or ""))
    return int(value * factor)


def _memory_unit(unit: str) -> int:
    letters = unit.lower()
    if letters == "b":
        return 1
    power = "kmgtpe".find(letters[0]) + 1
    if power and letters[1:] in {"", "ib"}:
        return 1 << 10 * power
    if power and letters[1:] == "b":
        return int(1000**power)
    raise refuse(f"'{unit}' is no unit of size")


GRAMMARS: dict[str, Grammar] = {
    "number": number,
    "units": units,
    "memparse": memparse,
    "kstrtobool": kstrtobool,
}
"""Every grammar by name; strict integers as "kstrtouint" (base 0) and "kstrtouint10"."""

for _name, _low, _high in (
    ("kstrtou8", 0, 2**8 - 1),
    ("kstrtou16", 0, 2**16 - 1),
    ("kstrtoint", -(2**31), 2**31 - 1),
    ("kstrtouint", 0, 2**32 - 1),
    ("kstrtol", -(2**63), 2**63 - 1),
    ("kstrtoul", 0, 2**64 - 1),
):
    GRAMMARS[_name] = _strict(0, _low, _high)
    GRAMMARS[_name + "10"] = _strict(10, _low, _high)

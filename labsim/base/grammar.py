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

from labsim.base.errors import LustreError

Grammar = Callable[[str, int], int]

_SHIFTS = {"k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_LEADING = re.compile(r"(-?)(\d+)(?:\.(\d*))?(.?)", re.DOTALL | re.ASCII)
_WHOLE = re.compile(r"(-?)(0[xX])?([0-9A-Fa-f]*)(?:\.([0-9A-Fa-f]+))?([^\n]?)\n?\Z")
_MEMORY = re.compile(r"(\d+)(?:\.(\d+))?([A-Za-z]*)\Z", re.ASCII)
_DIGITS = re.compile(r"[0-9A-Za-z]+")


def refuse(what: str, number: int = errno.EINVAL) -> LustreError:
    """The error a store function answers with."""
    return LustreError(number, what)


def lax(text: str, scale: int = 1) -> int:
    """A decimal number, perhaps with a fraction; what follows is not looked at (early procfs)."""
    return _lax(text, scale, room=19, decimals=5)


def lax_units(text: str, scale: int = 1) -> int:
    """As `lax`, and a suffix K M G T P stands in place of the file's unit."""
    match = _LEADING.match(text)
    shift = _SHIFTS.get(match.group(4).lower()) if match else None
    return _lax(text, 1 << shift if shift else scale, room=21, decimals=10)


def _lax(text: str, scale: int, room: int, decimals: int) -> int:
    match = _LEADING.match(text)
    if match is None or len(text) > room:
        raise refuse(f"no number in '{text}'")
    sign, whole, fraction, _ = match.groups()
    value = int(whole) * scale + _part((fraction or "")[:decimals], 10, scale)
    return -value if sign else value


def _part(digits: str, base: int, scale: int) -> int:
    """The digits behind a point, times scale, cut to an integer."""
    return int(digits, base) * scale // base ** len(digits) if digits else 0


def strict(text: str, scale: int = 1) -> int:
    """The whole text is a number: decimal or 0x, perhaps a fraction, one newline (later procfs).

    Stands for lprocfs_str_to_s64.
    """
    return _strict_number(text, scale, suffixes=False)


def strict_units(text: str, scale: int = 1) -> int:
    """As `strict`, with one of K M G T P % behind it (lprocfs_str_with_units_to_s64)."""
    return _strict_number(text, scale, suffixes=True)


def _strict_number(text: str, scale: int, suffixes: bool) -> int:
    match = _WHOLE.match(text)
    if match is None or len(text) > 21:
        raise refuse(f"'{text.rstrip()}' is no number")
    sign, hexadecimal, whole, fraction, suffix = match.groups()
    base = 16 if hexadecimal else 10
    if suffix:
        shift = 0 if suffix == "%" else _SHIFTS.get(suffix.lower())
        if not suffixes or shift is None:
            raise refuse(f"'{text.rstrip()}' has an unknown suffix")
        scale = 1 << shift
    try:
        value = int(whole, base) * scale if whole else 0
        value += _part((fraction or "")[:10], base, scale)
    except ValueError:
        raise refuse(f"'{text.rstrip()}' is no number") from None
    if not whole and not fraction:
        raise refuse("no number")
    if value >= 1 << 63:
        raise refuse(f"'{text.rstrip()}' does not fit", errno.ERANGE)
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
        if not _DIGITS.fullmatch(digits):
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
    """A number with optional fraction (three digits count) and unit; bare in the file's unit.

    Units: B; K, M, G, T, P, E and KiB, MiB ... (1024); kB, MB ... (1000). See sysfs_memparse.
    """
    stripped = text.rstrip()
    match = _MEMORY.match(stripped)
    if match is None:
        raise refuse(f"'{stripped}' is no size")
    if len(stripped) > 19:
        raise refuse(f"'{stripped}' is too long", errno.E2BIG)
    whole, fraction, unit = match.groups()
    factor = _memory_unit(unit) if unit else scale
    value = int(whole) * factor + int(f"{fraction or '':0<3}"[:3]) * factor // 1000
    if value >= 1 << 64:
        raise refuse(f"'{stripped}' does not fit", errno.EOVERFLOW)
    return value


def milliseconds(text: str, scale: int = 1) -> int:
    """An integer with or without "ms" behind it (lru_max_age)."""
    return kstrto(text.rstrip("\n").removesuffix("ms"), 10, 0, 2**64 - 1) * scale


def _memory_unit(unit: str) -> int:
    power = "KMGTPE".find(unit[0].upper()) + 1
    if unit == "B":
        return 1
    if power and unit[1:] in {"", "iB"}:
        return 1 << 10 * power
    if power and unit[1:] == "B":
        return int(1000**power)
    raise refuse(f"'{unit}' is no unit of size")


GRAMMARS: dict[str, Grammar] = {
    "lax": lax,
    "lax_units": lax_units,
    "strict": strict,
    "strict_units": strict_units,
    "memparse": memparse,
    "kstrtobool": kstrtobool,
    "milliseconds": milliseconds,
}
"""Every grammar by name; the kernel's integers as "kstrtouint" (base 0) and "kstrtouint10"."""

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

"""Dates as text, in UTC: what touch reads and what ls and stat print.

Does not know any clock. Stands for the part of coreutils' parse_datetime that recipes use.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from labsim.base.errors import InputError
from labsim.base.units import NS_PER_S

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HALF_YEAR_S = 31556952 // 2


def parse_date(text: str) -> int:
    """Nanoseconds since 1970 of "@1500000000", "2017-07-19" or "2017-07-19 12:00:01"."""
    stamp = re.fullmatch(r"@(-?\d+)(?:\.(\d{1,9}))?", text)
    if stamp:
        return int(stamp[1]) * NS_PER_S + int((stamp[2] or "0").ljust(9, "0"))
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        what = f"'{text}' is no date; write @SECONDS or YYYY-MM-DD [HH:MM:SS]"
        raise InputError(what) from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (when - _EPOCH) // timedelta(microseconds=1) * 1000


def full(seconds: int, ns: int = 0) -> str:
    """As stat's %y prints it."""
    when = _EPOCH + timedelta(seconds=seconds)
    return f"{when:%Y-%m-%d %H:%M:%S}.{ns:09d} +0000"


def short(seconds: int, now_s: int) -> str:
    """As ls -l prints it: with the time of day within half a year, with the year otherwise."""
    when = _EPOCH + timedelta(seconds=seconds)
    recent = now_s - _HALF_YEAR_S < seconds <= now_s
    return f"{when:%b} {when.day:>2} " + (f"{when:%H:%M}" if recent else f" {when.year}")

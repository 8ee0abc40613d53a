"""The dialects: how each generation of source trees places, reads and writes its parameters.

Puts the tables of `param_places` and `param_rules` together. Does not know any component. Stands
for the drift from procfs (to 2.9) over the first sysfs files (2.10, 2.12) to sysfs and debugfs, and
of lctl with it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from labsim.base.dialect import Dialect, LctlStyle, Location, Rule, StatsStyle
from labsim.trees.lineage import DEVELOPMENT, Version
from labsim.trees.param_places import GENERATIONS, PLACES
from labsim.trees.param_rules import GRAMMARS, RULES

PLACE_OF: dict[str, tuple[Location, str]] = {
    "p": ("procfs", ""),
    "y": ("procfs", "/proc/sys/lustre"),
    "n": ("procfs", "/proc/sys/lnet"),
    "s": ("sysfs", ""),
    "d": ("debugfs", ""),
    "e": ("debugfs", "/sys/kernel/debug/lnet"),
    "m": ("debugfs", "/sys/kernel/debug/lnet"),
    "-": ("absent", ""),
}

OLD_ROOTS = ("/proc/fs/lnet", "/proc/fs/lustre", "/proc/sys/lnet", "/proc/sys/lustre")
ROOTS = (
    "/sys/fs/lnet",
    "/sys/fs/lustre",
    "/sys/kernel/debug/lnet",
    "/sys/kernel/debug/lustre",
    *OLD_ROOTS,
)
LATE_ROOTS = (
    "/proc/fs/lustre",
    "/sys/fs/lustre",
    "/sys/kernel/debug/lnet",
    "/sys/kernel/debug/lustre",
)
"""The order of the braces in lctl's pattern."""

STARTS: tuple[tuple[Version, str], ...] = (
    ((2, 4, 0), "2.7"),
    ((2, 8, 0), "2.8"),
    ((2, 9, 0), "2.9"),
    ((2, 10, 0), "2.10"),
    ((2, 12, 0), "2.12"),
    ((2, 15, 0), "2.15"),
    ((2, 17, 0), "2.17"),
)
"""The first release of each generation; a development tag belongs to the release it leads to."""


def generation_of(version: Version) -> str:
    """The column of the tables that a version belongs to."""
    major, minor, patch = version
    if patch >= DEVELOPMENT:
        version = (major, minor + 1, 0)
    return [name for start, name in STARTS if version >= start][-1]


def columns(text: str) -> list[str]:
    """The generations that a row names: "2.7 2.10..2.15 staging"."""
    named: list[str] = []
    for word in text.split():
        first, _, last = word.partition("..")
        start = GENERATIONS.index(first)
        named += GENERATIONS[start : GENERATIONS.index(last or first) + 1]
    return named


def rules_of(generation: str) -> dict[str, Rule]:
    """Every rule that holds in a generation, by the file's name."""
    fields: dict[str, dict[str, Any]] = {}
    column = GENERATIONS.index(generation)
    for directory, codes in PLACES.items():
        for code, names in codes.items():
            verified = code[column] != "?"
            letter = code[: column + 1].rstrip("?")[-1]
            location, root = PLACE_OF[letter]
            for name in names.split():
                key = f"{directory}.{name}" if directory else name
                fields[key] = {"location": location, "root": root, "verified": verified}
    for key, rows in RULES.items():
        known = fields.setdefault(key, {})
        for named, differs in rows:
            if generation in columns(named):
                known.update(differs)
    return {key: Rule(**known) for key, known in fields.items()}


def grammars_of(generation: str) -> dict[str, str]:
    """What files read with in a generation, by place and kind."""
    found: dict[str, str] = {}
    for named, grammars in GRAMMARS.items():
        if generation in columns(named):
            found.update(grammars)
    return found


def stats_of(version: Version) -> StatsStyle:
    """How counters are written at a version."""
    if version < (2, 10, 0):
        return StatsStyle(digits="usecs")
    if version < (2, 14, 0):
        return StatsStyle(blank_padded=("mdc.*.rpc_stats", "mdt.*.rename_stats"))
    return StatsStyle(op_times=True, usecs="usecs", elapsed=version >= (2, 15, 0))


def lctl_of(version: Version) -> LctlStyle:
    """How lctl speaks at a version."""
    if version < (2, 7, 0):
        return LctlStyle(old=True, names_roots=True, nids="escaped", wraps="value60")
    if version < (2, 8, 0):
        return LctlStyle(old=True, nids="escaped")
    if version < (2, 12, 0):
        return LctlStyle(hushes_reads=True)
    if version < (2, 15, 0):
        return LctlStyle()
    return LctlStyle(nids="prefixed", wraps="lines", repeats=True)


def roots_of(version: Version) -> tuple[str, ...]:
    """Where lctl looks at a version, in its order."""
    if version < (2, 8, 0):
        return OLD_ROOTS
    return ROOTS if version < (2, 17, 0) else LATE_ROOTS


@cache
def _dialect(generation: str, epoch: Version) -> Dialect:
    later = epoch >= (2, 12, 0)
    return Dialect(
        name=generation,
        roots=roots_of(epoch),
        location="sysfs" if later else "procfs",
        rules=rules_of(generation),
        grammars=grammars_of(generation),
        stats=stats_of(epoch),
        lctl=lctl_of(epoch),
    )


EPOCHS: tuple[Version, ...] = (
    (2, 4, 0), (2, 7, 0), (2, 8, 0), (2, 9, 0), (2, 10, 0), (2, 12, 0), (2, 14, 0), (2, 15, 0),
    (2, 17, 0),
)  # fmt: skip
"""Where the tables, the counters or lctl change; trees between two share one dialect."""


def dialect_of(version: Version) -> Dialect:
    """The dialect at a version of the community's lineage."""
    major, minor, patch = version
    release = (major, minor + 1, 0) if patch >= DEVELOPMENT else version
    epoch = max(start for start in EPOCHS if start <= release)
    return _dialect(generation_of(version), epoch)


STAGING = Dialect(
    name="staging",
    roots=ROOTS,
    location="sysfs",
    rules=rules_of("staging"),
    grammars=grammars_of("staging"),
    stats=StatsStyle(digits="usecs"),
    lctl=LctlStyle(),
)
"""The client of drivers/staging, with the lctl of the years around 2.12."""

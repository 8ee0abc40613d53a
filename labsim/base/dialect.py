"""Dialects: how one source tree writes, reads and places the files of its parameter tree.

Does not know any release; a dialect is data that a tree hands to its nodes. Stands for the
difference between lprocfs (procfs), a kobject's attributes (sysfs) and seq files (debugfs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

Location = Literal["procfs", "sysfs", "debugfs", "absent", "default"]
OutOfRange = Literal["ERANGE", "EINVAL", "clamp", "ignore", "truth"]
"""What a value outside its range does; truth: a flag takes anything but 0 for 1."""
Unit = Literal["", "ns", "us", "ms", "s", "jiffies", "bytes", "KiB", "MiB", "pages"]

ROOTS: Mapping[str, str] = {
    "procfs": "/proc/fs/lustre",
    "sysfs": "/sys/fs/lustre",
    "debugfs": "/sys/kernel/debug/lustre",
}
"""Where the files of a location live, unless a rule names another root."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """How one parameter file behaves in one tree; an empty field leaves it to the declaration."""

    location: Location = "default"
    root: str = ""
    """The directory above the file's name, where it is not the usual one: "/proc/sys/lnet"."""
    access: Literal["", "ro", "rw", "wo"] = ""
    accepts: str = ""
    """A grammar of `base.grammar`: how written text is read."""
    out_of_range: OutOfRange | Literal[""] = ""
    low: int | None = None
    high: int | None = None
    unit: Unit = ""
    """The unit of the text, where it is not the one the declaration names."""
    newline: bool = True
    """False: the text goes out without its closing newline."""
    fraction: bool = False
    """A size that is no whole number of its unit shows up to two decimals."""
    default: bool | int | str | None = None
    """What this tree starts with, where it is not the declared default."""
    style: str = ""
    """A form of the text that the component knows by this name."""
    verified: bool = True
    """False: the sources at hand did not tell; taken from the nearest tree."""


class StatsStyle(msgspec.Struct, frozen=True, kw_only=True):
    """How counters and histograms are written."""

    digits: Literal["usecs", "nsecs"] = "nsecs"
    """secs.usecs without zero padding in old trees, secs.nsecs with nine digits later."""
    elapsed: bool = False
    """start_time and elapsed_time follow snapshot_time."""
    blank_padded: tuple[str, ...] = ()
    """Files whose nanoseconds are padded with blanks ("%9lu"), by key: "mdc.*.rpc_stats"."""
    op_times: bool = False
    """Operation counters show their times: min, max, sum and sum of squares."""
    usecs: Literal["usec", "usecs"] = "usec"
    """The word for microseconds in the unit column."""
    byte_squares: bool = False
    """Counters of bytes show their sum of squares."""


class LctlStyle(msgspec.Struct, frozen=True, kw_only=True):
    """What differs in what lctl prints and how it ends; the defaults are the middle years."""

    old: bool = False
    """Its first form: "Found no match", other wording and exit statuses."""
    nids: Literal["escaped", "parsed", "prefixed"] = "parsed"
    """How it tells the dots of a NID from those between words; see `param_names.slashed`."""
    names_roots: bool = False
    """`old`: a pattern without a match is told with all the roots in front."""
    wraps: Literal["name80", "value60", "lines"] = "name80"
    """A value with inner newlines goes below its NAME=; so does one that makes NAME=VALUE
    80 columns wide (name80), or one of more than 60 characters (value60)."""
    hushes_reads: bool = False
    """An error of a read is told, but does not count in the exit status, and EIO not even told."""
    repeats: bool = False
    """set_param tells a failure a second time, by name and value; the last one is its status."""
    exit_help: int = 4
    """The exit status of a wrong command line (CMD_HELP)."""


@dataclass(eq=False, kw_only=True)
class Dialect:
    """The parameter tree of one source tree, as data.

    `rules` are keyed by the file's name with a star for each instance: "osc.*.max_dirty_mb",
    "ldlm.namespaces.*.lru_size", "timeout". A file without a rule lives in `location` and reads
    text with the grammar of `grammars["LOCATION/KIND"]` (KIND: count, flag, size, time).
    """

    name: str
    roots: tuple[str, ...]
    """The directories that lctl searches, in its order."""
    location: Location = "sysfs"
    rules: Mapping[str, Rule] = field(default_factory=dict)
    grammars: Mapping[str, str] = field(default_factory=dict)
    stats: StatsStyle = field(default_factory=StatsStyle)
    lctl: LctlStyle = field(default_factory=LctlStyle)
    plans: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What the rules came to for each component class; filled as nodes are built."""

    def rule(self, key: str) -> Rule:
        """The rule of the file `key`; a star in a rule's own key stands for any one word."""
        found = self.rules.get(key)
        if found is None:
            words = key.split(".")
            for known, rule in self.rules.items():
                parts = known.split(".")
                if len(parts) == len(words) and all(map(fnmatchcase, words, parts)):
                    return rule
        return found or ANY

    def grammar(self, rule: Rule, kind: str, location: str) -> str:
        """The grammar a file of that kind and place reads with."""
        place = f"{location}/{kind}"
        return rule.accepts or self.grammars.get(place) or USUAL_GRAMMARS.get(place, "kstrtoul")


ANY = Rule()
"""What holds where nothing is said."""

USUAL_GRAMMARS: Mapping[str, str] = {
    "procfs/count": "lax",
    "procfs/flag": "lax",
    "procfs/size": "lax_units",
    "procfs/time": "lax",
    "sysfs/flag": "kstrtobool",
    "debugfs/count": "lax",
    "debugfs/flag": "kstrtobool",
    "debugfs/size": "lax_units",
    "debugfs/time": "lax",
}
"""How text is read where the dialect says nothing else."""

PLAIN = Dialect(
    name="plain",
    roots=(
        "/sys/fs/lnet",
        "/sys/fs/lustre",
        "/sys/kernel/debug/lnet",
        "/sys/kernel/debug/lustre",
        "/proc/fs/lnet",
        "/proc/fs/lustre",
        "/proc/sys/lnet",
        "/proc/sys/lustre",
    ),
)
"""Everything in sysfs with the declared ranges: for tests, and for a node of no tree."""

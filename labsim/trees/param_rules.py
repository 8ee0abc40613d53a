"""How the text of a parameter file is read and written, by generation of the source tree.

Data only; where the files live is in `param_places`. Only what differs from the usual is here:
what a file of that kind and place does anyway (`GRAMMARS`), and what its component declares, needs
no row. Stands for the store and show functions of each release.

What was a bug is not here: an overlay of its own brings it back to the trees that had it. So no row
speaks of jiffies in lru_max_age, of newlines that were lost, or of a file that a port forgot.

A row is (generations, what differs). Generations are columns of `param_places.GENERATIONS`: one
name, several with a blank between, or a range A..B; later rows win.
"""

from __future__ import annotations

from typing import Any

from labsim.base.units import MIB

Row = tuple[str, dict[str, Any]]

GRAMMARS: dict[str, dict[str, str]] = {
    "2.7..2.8": {
        "procfs/count": "lax",
        "procfs/flag": "lax",
        "procfs/size": "lax_units",
        "procfs/time": "lax",
    },
    "2.9..2.17": {
        "procfs/count": "strict",
        "procfs/flag": "strict",
        "procfs/size": "strict_units",
        "procfs/time": "strict",
        "debugfs/count": "strict",
        "debugfs/flag": "strict",
        "debugfs/size": "strict_units",
        "debugfs/time": "strict",
    },
    "2.10..2.17": {
        "sysfs/count": "kstrtouint10",
        "sysfs/flag": "kstrtobool",
        "sysfs/size": "kstrtoul10",
        "sysfs/time": "kstrtouint10",
    },
    "2.15..2.17": {"sysfs/size": "memparse", "debugfs/size": "memparse"},
    "staging": {
        "sysfs/count": "kstrtouint10",
        "sysfs/flag": "kstrtoul10",
        "sysfs/size": "kstrtoul10",
        "sysfs/time": "kstrtouint10",
        "debugfs/count": "lax",
        "debugfs/flag": "lax",
        "debugfs/size": "lax_units",
        "debugfs/time": "lax",
    },
}
"""generations -> what a file of that place and kind reads with; later entries win."""

FRACTION = {"fraction": True}
REFUSED = {"out_of_range": "ERANGE"}
IGNORED = {"out_of_range": "ignore"}
CLAMPED = {"out_of_range": "clamp"}
READ_AHEAD: list[Row] = [
    ("2.7..2.12 staging", FRACTION),
    ("staging", {"accepts": "kstrtoul10"}),
]

RULES: dict[str, list[Row]] = {
    # ---- llite
    "llite.*.max_read_ahead_mb": [
        *READ_AHEAD,
        ("2.7", {"default": 40 * MIB}),
        ("2.8..2.12", {"default": 64 * MIB}),
        ("2.17", CLAMPED),
    ],
    "llite.*.max_read_ahead_per_file_mb": [*READ_AHEAD, ("2.17", CLAMPED)],
    "llite.*.max_read_ahead_whole_mb": [
        *READ_AHEAD,
        ("2.7..2.12 staging", {"default": 2 * MIB}),
        ("2.17", {"default": 4 * MIB}),
    ],
    "llite.*.statahead_max": [
        ("2.7..2.10 staging", {**IGNORED, "high": 8192}),
        ("2.12..2.15", {**IGNORED, "high": 512}),
        ("2.17", {**CLAMPED, "high": 2048}),
    ],
    "llite.*.statahead_running_max": [("2.12..2.17", REFUSED)],
    "llite.*.statahead_batch_max": [("2.17", {**CLAMPED, "high": 1024})],
    "llite.*.statahead_stats": [("2.17", {"access": "rw"})],
    "llite.*.lazystatfs": [("2.7", {"default": False})],
    "llite.*.xattr_cache": [("2.7..2.10 staging", REFUSED)],
    "llite.*.default_easize": [("2.7..2.8 staging", {"access": "ro"})],
    # ---- osc
    "osc.*.max_pages_per_rpc": [
        ("2.7..2.8", {"accepts": "lax_units", "default": 256}),
        ("2.9..2.12", {"accepts": "strict_units"}),
        ("2.15..2.17", {"accepts": "memparse"}),
        ("staging", {"accepts": "kstrtoul10", "default": 256}),
    ],
    "osc.*.max_dirty_mb": [
        ("2.7..2.10 staging", {**FRACTION, "default": 32 * MIB}),
    ],
    "osc.*.active": [("2.7..2.10 staging", REFUSED), ("2.12..2.17", {"out_of_range": "EINVAL"})],
    "osc.*.cur_grant_bytes": [
        ("2.7..2.8", {"accepts": "lax_units"}),
        ("2.9..2.12", {"accepts": "strict_units"}),
        ("2.15", {"accepts": "memparse"}),
        ("2.17", {"accepts": "memparse", "unit": "MiB"}),
    ],
    "osc.*.resend_count": [("2.7..2.17 staging", {"out_of_range": "EINVAL"})],
    "osc.*.timeouts": [("2.7..2.12 staging", {"style": "dhms"})],
    "osc.*.short_io_bytes": [
        ("2.12", {"accepts": "kstrtoul10"}),
        ("2.15..2.17", {"accepts": "memparse"}),
    ],
    "osc.*.connect_flags": [("2.7..2.10 staging", {"style": "single"})],
    # ---- mdc
    "mdc.*.connect_flags": [("2.7..2.10 staging", {"style": "single"})],
    "mdc.*.timeouts": [("2.7..2.12 staging", {"style": "dhms"})],
    "mdc.*.active": [("2.7..2.10 staging", REFUSED), ("2.12..2.17", {"out_of_range": "EINVAL"})],
    "mdc.*.max_mod_rpcs_in_flight": [("2.10..2.17 staging", {"accepts": "kstrtou1610"})],
    # ---- ldlm
    "ldlm.namespaces.*.lru_size": [("2.7..2.17 staging", {"accepts": "kstrtoul"})],
    "ldlm.namespaces.*.contended_locks": [
        ("2.7..2.15", {"default": 32}),
        ("2.17", {"default": 16}),
    ],
    "ldlm.namespaces.*.contention_seconds": [
        ("2.7..2.15", {"default": 2}),
        ("2.17", {"default": 4}),
    ],
    # ---- globals
    "max_dirty_mb": [("2.7..2.17 staging", {"out_of_range": "EINVAL"}), ("2.7..2.9", FRACTION)],
    "at_min": [("2.17", {"default": 5})],
    "fail_loc": [("2.7..2.17 staging", {"accepts": "kstrtoul"})],
    "fail_val": [("2.7..2.17 staging", {"accepts": "kstrtol"})],
    "fail_err": [("2.7..2.17 staging", {"accepts": "kstrtol"})],
    "version": [("2.7..2.8", {"style": "lines"}), ("2.9", {"style": "labelled"})],
    "health_check": [("2.7..2.9", {"style": "lines"})],
    # ---- mdt, lod, osp
    "mdt.*.enable_remote_dir": [("2.7..2.10", REFUSED), ("2.7..2.10", {"default": False})],
    "lod.*.stripesize": [("2.15..2.17", {"accepts": "memparse"})],
    "lod.*.qos_maxage": [("2.7..2.17", {"out_of_range": "EINVAL"})],
    "osp.*.active": [("2.7..2.17", REFUSED)],
    # ---- obdfilter
    "obdfilter.*.brw_size": [("2.9..2.12", {"default": 4 * MIB})],
    "obdfilter.*.precreate_batch": [("2.7..2.17", {"out_of_range": "EINVAL"})],
}
"""File, with a star for each instance -> its rows. Defaults are in the attribute's unit."""

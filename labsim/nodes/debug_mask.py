"""Debug masks as words: what `debug`, `subsystem_debug` and `printk` show and take.

Does not know what is logged. Stands for libcfs/debug.c: libcfs_debug_mask2str and its inverse.
"""

from __future__ import annotations

import errno
import re

from labsim.base.errors import LustreError

DEBUG_WORDS = (
    "trace", "inode", "super", "iotrace", "malloc", "cache", "info", "ioctl", "neterror", "net",
    "warning", "buffs", "other", "dentry", "nettrace", "page", "dlmtrace", "error", "emerg", "ha",
    "rpctrace", "vfstrace", "reada", "mmap", "config", "console", "quota", "sec", "lfsck", "hsm",
    "snapshot", "layout",
)  # fmt: skip
"""Names of the D_* bits from bit 0 on (libcfs_debug.h)."""

SUBSYSTEM_WORDS = (
    "undefined", "mdc", "mds", "osc", "ost", "class", "log", "llite", "rpc", "mgmt", "lnet", "lnd",
    "pinger", "filter", "libcfs", "echo", "ldlm", "lov", "lquota", "osd", "lfsck", "snapshot",
    "", "lmv", "", "sec", "gss", "", "mgc", "mgs", "fid", "fld",
)  # fmt: skip
"""Names of the S_* bits from bit 0 on; an empty one is not used."""

ALL = 0xFFFFFFFF


def words_of(mask: int, words: tuple[str, ...]) -> str:
    """The mask as words in the order of their bits; "0" where it is empty."""
    named = [word for bit, word in enumerate(words) if word and mask >> bit & 1]
    return " ".join(named) or "0"


def mask_of(text: str, old: int, words: tuple[str, ...]) -> int:
    """What `text` makes of the mask `old`: a number, words, words with + and -; else EINVAL."""
    stripped = text.strip()
    if re.fullmatch(r"-?(0[xX][0-9A-Fa-f]+|\d+)", stripped):
        return int(stripped, 0) & ALL
    mask, started = 0, False
    for sign, word in re.findall(r"([+-]?)\s*([^\s+-]+)", stripped):
        if word.lower() not in words and word.lower() != "all":
            raise LustreError(errno.EINVAL, f"no debug word '{word}'")
        bits = ALL if word.lower() == "all" else 1 << words.index(word.lower())
        if not started:
            mask = old if sign else 0
            started = True
        mask = mask & ~bits if sign == "-" else mask | bits
    if not started:
        raise LustreError(errno.EINVAL, "no debug word")
    return mask

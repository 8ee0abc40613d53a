"""Lustre's own tests by name: which of them a scenario corresponds to.

Does not know what the tests do. Stands for the suites of lustre/tests: "replay-single 20b" is
test_20b of replay-single.sh.
"""

from __future__ import annotations

import re

from labsim.base.errors import InputError
from labsim.scenario.suggest import nearest

SUITES = (
    "conf-sanity", "dne_sanity", "hot-pools", "insanity", "lfsck-performance", "lnet-selftest",
    "metadata-updates", "mmp", "ost-pools", "parallel-scale", "pjdfstest", "posix",
    "racer", "recovery-double-scale", "recovery-mds-scale", "recovery-random-scale",
    "recovery-small", "replay-dual", "replay-ost-single", "replay-single", "replay-vbr", "runtests",
    "sanity", "sanity-dom", "sanity-flr", "sanity-gss", "sanity-hsm", "sanity-lfsck", "sanity-lnet",
    "sanity-lsnapshot", "sanity-pcc", "sanity-pfl", "sanity-quota", "sanity-scrub", "sanity-sec",
    "sanity-selinux", "sanityn",
)  # fmt: skip
"""The scripts of lustre/tests, without .sh."""
UNKNOWN = "unknown"
"""In place of a test: none of them is known to do that."""

_NUMBER = re.compile(r"\d+[a-zA-Z]*")


def check(text: str) -> str:
    """One test as SUITE NUMBER, or `unknown`; InputError for no such suite or no number."""
    if text == UNKNOWN:
        return text
    suite, _, number = text.partition(" ")
    if suite not in SUITES:
        raise InputError(f"unknown test suite '{suite}'{nearest(suite, SUITES)}")
    if not _NUMBER.fullmatch(number):
        raise InputError(f"'{text}' names no test; write its suite and number: replay-single 20b")
    return text

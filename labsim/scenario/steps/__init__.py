"""Verbs: what people type on a node, as typed generator functions over the vfs and the parameters.

Importing this fills the registry. Does not know scenarios, verdicts or runtimes.
"""

from __future__ import annotations

from labsim.scenario.steps import (
    data,
    lctl,
    lfs,
    names,
    owners,
    processes,
    show,
    syscalls,
    system,
    utilities,
    xattrs,
)
from labsim.scenario.steps.context import Context, Result
from labsim.scenario.steps.registry import VERBS, Verb, find
from labsim.scenario.steps.shell import check, execute

__all__ = ["VERBS", "Context", "Result", "Verb", "check", "execute", "find"]

MODULES = (data, lctl, lfs, names, owners, processes, show, syscalls, system, utilities, xattrs)
"""Where the verbs are."""

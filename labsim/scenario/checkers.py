"""Invariants: what must hold after every scenario, whatever it did.

Pure functions over the nodes' snapshots; does not know runtimes or verdicts. Each returns one
sentence for each thing that does not hold. Stands for lfsck, and for the LASSERTs of Lustre.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Snapshots = Mapping[str, Mapping[str, Any]]
Checker = Callable[[Snapshots], Iterator[str]]

CHECKERS: list[Checker] = []


def checker(check: Checker) -> Checker:
    """Run this one after every scenario."""
    CHECKERS.append(check)
    return check


def check(snapshots: Snapshots) -> list[str]:
    """Everything that does not hold."""
    return [f"{one.__name__}: {what}" for one in CHECKERS for what in one(snapshots)]

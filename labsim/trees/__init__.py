"""The trees a node may run: releases, the staging client, vendors' trees.

Knows no scenario and no bug. Stands for the source trees that drifted apart.
"""

from __future__ import annotations

from functools import cache

from labsim.base.errors import InputError
from labsim.trees.chaos import chaos_trees
from labsim.trees.cray import cray_trees
from labsim.trees.history import History, Presence, present, validate
from labsim.trees.lineage import nearest
from labsim.trees.releases import release, releases
from labsim.trees.staging import staging_trees
from labsim.trees.tree import Tree, kit_for

__all__ = [
    "History",
    "Presence",
    "Tree",
    "all_trees",
    "get",
    "kit_for",
    "names",
    "present",
    "validate",
]


@cache
def _known() -> dict[str, Tree]:
    trees = [*releases(), *staging_trees(), *cray_trees(), *chaos_trees()]
    return {tree.name: tree for tree in trees}


def all_trees() -> list[Tree]:
    """Every tree: the releases, oldest version first, then staging, then vendors."""
    return list(_known().values())


def names() -> list[str]:
    """The names of all trees, in that order."""
    return list(_known())


def get(name: str) -> Tree:
    """A tree by name; also a development tag (2.10.53). InputError where there is none."""
    found = _known().get(name)
    if found is not None:
        return found
    try:
        return release(name)
    except InputError:
        hint = nearest(name, _known()) or "; see `labsim trees`"
        raise InputError(f"no tree is called '{name}'{hint}") from None

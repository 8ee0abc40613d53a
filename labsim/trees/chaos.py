"""LLNL's chaos tree of its 2.8 years.

Its history is not looked into here: the tree is approximated by the release it was built on, and
says so. Stands for the 2.8-fe branches that Livermore ran.
"""

from __future__ import annotations

from labsim.trees.releases import release
from labsim.trees.tree import Tree


def chaos_trees() -> list[Tree]:
    """chaos-2.8."""
    base = release("2.8.0")
    return [
        Tree(
            name="chaos-2.8",
            family="vendor",
            version=base.version,
            base=base.name,
            approximated_by="2.8.0: LLNL's own patches are not modelled",
            dialect=base.dialect,
            traits=base.traits,
        )
    ]

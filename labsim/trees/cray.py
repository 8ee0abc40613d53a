"""Cray's client of its 2.7 years.

Its history is not public: the tree is approximated by the release it was built on, and says so.
Stands for the Lustre client of Cray's CLE 5 and 6.
"""

from __future__ import annotations

from labsim.trees.releases import release
from labsim.trees.tree import Tree


def cray_trees() -> list[Tree]:
    """cray-2.7."""
    base = release("2.7.0")
    return [
        Tree(
            name="cray-2.7",
            family="vendor",
            version=base.version,
            base=base.name,
            approximated_by="2.7.0: Cray's own patches are not public",
            dialect=base.dialect,
            traits=base.traits,
        )
    ]

"""A tree: one source tree that a node may run, as data.

Does not know any scenario. Stands for a checkout: a release of the community, the upstream client
of drivers/staging, a vendor's tree.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from labsim.base.dialect import Dialect
from labsim.base.overlay import Kit, Overlay, Traits
from labsim.trees.lineage import Version

Family = Literal["release", "development", "staging", "vendor"]


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """One tree, and what a node that runs it is built with."""

    name: str
    """"2.12.0", "staging-4.16", "cray-2.7": how people ask for it."""
    family: Family
    version: Version
    """What its nodes say they are (obd_connect_data.ocd_version)."""
    branch: str = ""
    """"master", "b2_10"; empty outside the community's lineage."""
    base: str = ""
    """The release that stands in for it, where its own history is not public."""
    approximated_by: str = ""
    """Empty, or one sentence that says what stands in for what."""
    note: str = ""
    dialect: Dialect
    traits: Traits


def ocd_version(version: Version) -> int:
    """obd_connect_data.ocd_version: major, minor, patch, fix, a byte each."""
    major, minor, patch = version
    return major << 24 | minor << 16 | patch << 8


def kit_for(tree: Tree, overlays: Iterable[type[Overlay]] = ()) -> Kit:
    """What a node of that tree is built from, with the overlays of the bugs it has."""
    return Kit(overlays, tree.traits, tree.dialect)

"""Which MDT an inode lives on. One MDT for now, so every FID leads to the first.

Does not know requests. Stands for lustre/lmv and the client's FLD cache: functions over the list of
MDT devices, not a device of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from labsim.base.ids import Fid
from labsim.nodes.client.mdc import Mdc


def locate(mdcs: Sequence[Mdc], fid: Fid) -> Mdc:
    """The device of the MDT that has the inode `fid` (lmv_find_target)."""
    return mdcs[0]


def for_new(mdcs: Sequence[Mdc], parent: Fid) -> Mdc:
    """The device of the MDT that a new inode in `parent` is created on (lmv_placement_policy)."""
    return locate(mdcs, parent)

"""Which MDT an inode lives on, by the sequence of its FID.

Does not know requests. Stands for lustre/lmv: functions over the list of MDT devices, not a device
of its own. A sequence that nobody was asked about is MDT0000's.
"""

from __future__ import annotations

from collections.abc import Sequence

from labsim.base.ids import Fid
from labsim.nodes.client.mdc import Mdc


def locate(mdcs: Sequence[Mdc], fid: Fid) -> Mdc:
    """The device of the MDT that has the inode `fid` (lmv_find_target)."""
    first = mdcs[0]
    if len(mdcs) == 1:
        return first
    index = first.fld.known(fid.seq)
    return next((mdc for mdc in mdcs if mdc.info.index == index), first)


def for_new(mdcs: Sequence[Mdc], parent: Fid) -> Mdc:
    """The device of the MDT that a new inode in `parent` is created on (lmv_placement_policy)."""
    return locate(mdcs, parent)

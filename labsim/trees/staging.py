"""The client of drivers/staging/lustre, as two kernels had it.

Does not know any bug: which one is in these trees is told by a history's `staging`, and what is not
told is unknown. Stands for torvalds/linux at 03844599 (about 4.4) and 0642048d (4.16). The client
is a hybrid: imported at 2.3.64, then fixes of 2.8 and later, picked one by one.
"""

from __future__ import annotations

from labsim.base.overlay import Traits
from labsim.trees.dialects import STAGING
from labsim.trees.tree import Tree, ocd_version
from labsim.wire.constants import (
    OBD_CKSUM_ALL,
    OBD_CKSUM_T10_ALL,
    OBD_CONNECT2_LOCK_CONVERT,
    OBD_CONNECT2_LOCKAHEAD,
    OBD_CONNECT_GRANT_PARAM,
    OBD_CONNECT_SHORTIO,
)

_VERSION = (2, 4, 60)
"""LUSTRE_VERSION_STRING of its lustre_ver.h in those years."""


def _tree(name: str, commit: str) -> Tree:
    return Tree(
        name=name,
        family="staging",
        version=_VERSION,
        note=f"client only; drivers/staging/lustre of torvalds/linux@{commit}",
        dialect=STAGING,
        traits=Traits(
            ocd_version=ocd_version(_VERSION),
            connect_unknown=OBD_CONNECT_SHORTIO | OBD_CONNECT_GRANT_PARAM,
            xattr_cache=True,
            osc_idle_s=0,
            cksum_types=OBD_CKSUM_ALL & ~OBD_CKSUM_T10_ALL,
            jobid_codes="",
            connect_unknown2=OBD_CONNECT2_LOCK_CONVERT | OBD_CONNECT2_LOCKAHEAD,
        ),
    )


def staging_trees() -> list[Tree]:
    """staging-4.4 and staging-4.16."""
    return [_tree("staging-4.4", "03844599"), _tree("staging-4.16", "0642048d")]

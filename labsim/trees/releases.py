"""The community's releases, and development tags as points on master.

Does not know any bug. Stands for lustre-release (Sun, Whamcloud, Intel, OpenSFS, DDN).
"""

from __future__ import annotations

from labsim.base.overlay import Traits
from labsim.trees.dialects import dialect_of
from labsim.trees.lineage import DEVELOPMENT, RELEASES, Tag, Version, tag
from labsim.trees.tree import Tree, ocd_version
from labsim.wire.constants import (
    OBD_CKSUM_ALL,
    OBD_CKSUM_T10_ALL,
    OBD_CONNECT2_LOCK_CONVERT,
    OBD_CONNECT2_LOCKAHEAD,
    OBD_CONNECT_GRANT_PARAM,
    OBD_CONNECT_LARGE_ACL,
    OBD_CONNECT_SHORTIO,
)

XATTR_CACHE_SINCE: Version = (2, 4, 53)
"""The client's cache of extended attributes, and the XATTR inodebit, came with e53d1c18ea9f."""

FEW_XATTRS_SINCE: Version = (2, 10, 0)
"""getxattr intents with little room (LU-9417): in 2.10, not in 2.8; in which tag is unknown."""

LARGE_ACL_SINCE: Version = (2, 9, 0)
"""ACLs of more than 32 entries (LU-7473); in which tag before 2.9 is unknown."""

SHORT_IO_SINCE: Version = (2, 11, 0)
"""Short I/O (LU-1757) is in 2.12 and not in 2.10; in which tag between them is unknown."""

GRANT_PARAM_SINCE: Version = (2, 9, 0)
"""Grant with the tax of extents (LU-2049): in 2.9, not in 2.8; in which tag between is unknown."""

SHORT_LIVED_SINCE: Version = (2, 8, 0)
"""Locks stay unused for 65 min, ten hours before; in which tag of 2.7.50 to 2.7.66 is unknown."""

T10_SINCE: Version = (2, 12, 0)
"""T10-PI checksums (LU-10472): in 2.12, not in 2.10; in which tag between is unknown."""

IDLE_SINCE: Version = (2, 12, 0)
"""Idle imports disconnect (LU-7236): in 2.12, not in 2.10; in which tag between is unknown."""

COMPLEX_JOBS_SINCE: Version = (2, 12, 0)
"""jobid_name may be a pattern (manual, Lustre Jobstats); in which tag of 2.11.5x is unknown."""
JOB_SESSIONS_SINCE: Version = (2, 13, 0)
"""jobid_this_session (the same)."""
SHORT_HOST_SINCE: Version = (2, 15, 0)
"""%H beside %h: in jobid.c of 2.15 and not of 2.12; since when exactly is unknown."""

FLOCK_SINCE: Version = (2, 13, 0)
"""File locks without a mount option (LU-10885); in which tag of 2.12.50 to 2.12.99 is unknown."""

UNKNOWN2_BEFORE: Version = (2, 11, 0)
"""Before that none of these is known; in which tag of 2.10.50 to 2.10.99 each came is unknown."""
SINCE_2_11 = OBD_CONNECT2_LOCK_CONVERT | OBD_CONNECT2_LOCKAHEAD
"""Converting inodebits locks (LU-10175), locks without growth for who asks for them (LU-6179)."""


def traits_of(version: Version) -> Traits:
    """The plain values that differ from release to release."""
    return Traits(
        ocd_version=ocd_version(version),
        connect_unknown=_connect_unknown(version),
        few_xattrs=version >= FEW_XATTRS_SINCE,
        xattr_cache=version >= XATTR_CACHE_SINCE,
        osc_idle_s=20 if version >= IDLE_SINCE else 0,
        cksum_types=OBD_CKSUM_ALL if version >= T10_SINCE else OBD_CKSUM_ALL & ~OBD_CKSUM_T10_ALL,
        jobid_codes=_jobid_codes(version),
        jobid_sessions=version >= JOB_SESSIONS_SINCE,
        lru_max_age_s=3900 if version >= SHORT_LIVED_SINCE else 36000,
        flock_by_default=version >= FLOCK_SINCE,
        connect_unknown2=0 if version >= UNKNOWN2_BEFORE else SINCE_2_11,
    )


def _connect_unknown(version: Version) -> int:
    since = {
        OBD_CONNECT_SHORTIO: SHORT_IO_SINCE,
        OBD_CONNECT_GRANT_PARAM: GRANT_PARAM_SINCE,
        OBD_CONNECT_LARGE_ACL: LARGE_ACL_SINCE,
    }
    return sum(flag for flag, first in since.items() if version < first)


def _jobid_codes(version: Version) -> str:
    if version < COMPLEX_JOBS_SINCE:
        return ""
    return "eghHjpu" if version >= SHORT_HOST_SINCE else "eghjpu"


def tree_of(at: Tag) -> Tree:
    """The tree at a tag."""
    development = at.version[2] >= DEVELOPMENT
    return Tree(
        name=at.name,
        family="development" if development else "release",
        version=at.version,
        branch=at.branch,
        dialect=dialect_of(at.version),
        traits=traits_of(at.version),
    )


def releases() -> list[Tree]:
    """Every release, oldest version first."""
    return [tree_of(at) for at in RELEASES.values()]


def release(name: str) -> Tree:
    """One release or development tag; InputError where there is none."""
    return tree_of(tag(name))

"""Quota: limits, usage, and what slaves ask of the master.

Does not know how limits are enforced. Stands for lustre_idl.h's and lustre_quota.h's structs.
"""

from typing import Annotated

from labsim.base.ids import Fid
from labsim.wire.eras import V2_15, At
from labsim.wire.schema import Wire, array, handle, u32, u64


class ObdDqinfo(Wire, struct="obd_dqinfo", prefix="dqi_", size=24):
    """Grace times."""

    bgrace: u64
    igrace: u64
    flags: u32
    valid: u32


class ObdDqblk(Wire, struct="obd_dqblk", prefix="dqb_", size=72):
    """Limits and usage of one id."""

    bhardlimit: u64
    bsoftlimit: u64
    curspace: u64
    ihardlimit: u64
    isoftlimit: u64
    curinodes: u64
    btime: u64
    itime: u64
    valid: u32
    padding: u32


class ObdQuotactl(
    Wire,
    struct="obd_quotactl",
    prefix="qc_",
    size=112,
    differs={V2_15: At(added={"qc_poolname": (112, 0)})},
):
    """A quotactl(2) call on a target."""

    cmd: u32
    type: u32
    id: u32
    stat: u32
    dqinfo: ObdDqinfo
    dqblk: ObdDqblk


class LquotaAcctRec(Wire, struct="lquota_acct_rec", size=16):
    """Usage of one id in an accounting index."""

    bspace: u64
    ispace: u64


class LquotaGlbRec(Wire, struct="lquota_glb_rec", prefix="qbr_", size=32):
    """Limits of one id in a global quota index."""

    hardlimit: u64
    softlimit: u64
    time: u64
    granted: u64


class LquotaSlvRec(Wire, struct="lquota_slv_rec", prefix="qsr_", size=8):
    """Space granted to one slave for one id."""

    granted: u64


class LquotaLvb(Wire, struct="lquota_lvb", prefix="lvb_", size=40):
    """What the quota master tells a slave under a per-id lock."""

    flags: u64
    id_may_rel: u64
    id_rel: u64
    id_qunit: u64
    pad1: u64


class QuotaBody(Wire, struct="quota_body", prefix="qb_", size=112):
    """A slave's request for quota space, or its report."""

    fid: Fid
    id: Fid
    flags: u32
    padding: u32
    count: u64
    usage: u64
    slv_ver: u64
    lockh: handle
    glb_lockh: handle
    padding1: Annotated[tuple[int, ...], array(u64, 4)]

"""Hierarchical storage: requests, progress, states.

Does not know copytools. Stands for lustre_idl.h's and lustre_user.h's hsm_* structs.
"""

from typing import Annotated

from labsim.base.ids import Fid
from labsim.wire.llog import LlogRecHdr, LlogRecTail
from labsim.wire.schema import Wire, named, tail, u16, u32, u64


class HsmExtent(Wire, struct="hsm_extent", size=16):
    """A byte range: offset and length."""

    offset: u64
    length: u64


class HsmUserState(Wire, struct="hsm_user_state", prefix="hus_", size=32):
    """Where a file stands, and what is going on with it."""

    states: u32
    archive_id: u32
    in_progress_state: u32
    in_progress_action: u32
    in_progress_location: HsmExtent
    extended_info: Annotated[bytes, tail(bytes)]


class HsmStateSet(Wire, struct="hsm_state_set", prefix="hss_", size=24):
    """State bits of a file to set and to clear."""

    valid: u32
    archive_id: u32
    setmask: u64
    clearmask: u64


class HsmCurrentAction(Wire, struct="hsm_current_action", prefix="hca_", size=24):
    """What is going on with a file."""

    state: u32
    action: u32
    location: HsmExtent


class HsmRequest(Wire, struct="hsm_request", prefix="hr_", size=24):
    """Asks for an action on files."""

    action: u32
    archive_id: u32
    flags: u64
    itemcount: u32
    data_len: u32


class HsmUserItem(Wire, struct="hsm_user_item", prefix="hui_", size=32):
    """One file of a request."""

    fid: Fid
    extent: HsmExtent


class HsmUserRequest(Wire, struct="hsm_user_request", prefix="hur_", size=24):
    """A request with its files, as a program gives it."""

    request: HsmRequest
    user_item: Annotated[tuple[HsmUserItem, ...], tail(HsmUserItem)]


class HsmUserImport(Wire, struct="hsm_user_import", prefix="hui_", size=48):
    """Attributes of a file that is born released."""

    size: u64
    atime: u64
    mtime: u64
    atime_ns: u32
    mtime_ns: u32
    uid: u32
    gid: u32
    mode: u32
    archive_id: u32


class HsmProgress(Wire, struct="hsm_progress", prefix="hp_", size=48):
    """How far a copytool has come."""

    fid: Fid
    cookie: u64
    extent: HsmExtent
    flags: u16
    errval: u16
    padding: Annotated[u32, named("padding")]


class HsmProgressKernel(Wire, struct="hsm_progress_kernel", prefix="hpk_", size=64):
    """How far a copytool has come, with the data version it copied."""

    fid: Fid
    cookie: u64
    extent: HsmExtent
    flags: u16
    errval: u16
    padding1: u32
    data_version: u64
    padding2: u64


class HsmActionItem(Wire, struct="hsm_action_item", prefix="hai_", size=72):
    """One action for a copytool."""

    len: u32
    action: u32
    fid: Fid
    dfid: Fid
    extent: HsmExtent
    cookie: u64
    gid: u64
    data: Annotated[bytes, tail(bytes)]


class HsmActionList(Wire, struct="hsm_action_list", prefix="hal_", size=32):
    """Actions for a copytool."""

    version: u32
    count: u32
    compound_id: u64
    flags: u64
    archive_id: u32
    padding1: Annotated[u32, named("padding1")]
    fsname: Annotated[bytes, tail(bytes)]


class HsmCopy(Wire, struct="hsm_copy", prefix="hc_", size=88):
    """A copy that a copytool begins or ends."""

    data_version: u64
    flags: u16
    errval: u16
    padding: Annotated[u32, named("padding")]
    hai: HsmActionItem


class LlogAgentReqRec(Wire, struct="llog_agent_req_rec", prefix="arr_", size=136):
    """An action in the coordinator's log."""

    hdr: LlogRecHdr
    status: u32
    archive_id: u32
    flags: u64
    compound_id: u64
    req_create: u64
    req_change: u64
    hai: HsmActionItem
    tail: LlogRecTail

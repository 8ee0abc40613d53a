"""Updates that one target sends another, and the records of distributed changes.

Does not know transactions. Stands for lustre_idl.h's object_update, out_update and update_records.
"""

from typing import Annotated

from labsim.base.ids import Fid
from labsim.wire.eras import V2_15, At
from labsim.wire.llog import LlogRecHdr
from labsim.wire.schema import Wire, i32, tail, u16, u32, u64


class ObjectUpdateParam(Wire, struct="object_update_param", prefix="oup_", size=8):
    """One argument of an update, its bytes behind it."""

    len: u16
    padding: u16
    padding2: u32
    buf: Annotated[bytes, tail(bytes, "len")]


class ObjectUpdate(Wire, struct="object_update", prefix="ou_", size=40):
    """One update of one object, its arguments behind it."""

    type: u16
    params_count: u16
    result_size: u32
    flags: u32
    padding1: u32
    batchid: u64
    fid: Fid
    params: Annotated[bytes, tail(bytes)]


class ObjectUpdateRequest(Wire, struct="object_update_request", prefix="ourq_", size=8):
    """Updates to be done in one go."""

    magic: u32
    count: u16
    padding: u16
    updates: Annotated[bytes, tail(bytes)]


class ObjectUpdateResult(Wire, struct="object_update_result", prefix="our_", size=8):
    """How one update went, its data behind it."""

    rc: i32
    datalen: u16
    padding: u16
    data: Annotated[bytes, tail(bytes, "datalen")]


class ObjectUpdateReply(Wire, struct="object_update_reply", prefix="ourp_", size=8):
    """How updates went: the length of each result."""

    magic: u32
    count: u16
    padding: u16
    lens: Annotated[tuple[int, ...], tail(u16, "count")]


class OutUpdateHeader(Wire, struct="out_update_header", prefix="ouh_", size=16):
    """The head of OUT_UPDATE: where the updates are."""

    magic: u32
    count: u32
    inline_length: u32
    reply_size: u32
    inline_data: Annotated[bytes, tail(bytes, "inline_length")]


class OutUpdateBuffer(Wire, struct="out_update_buffer", prefix="oub_", size=8):
    """The length of one buffer of updates."""

    size: u32
    padding: u32


class OutReadReply(Wire, struct="out_read_reply", prefix="orr_", size=16):
    """Data that OUT_READ read."""

    size: u32
    padding: u32
    offset: u64
    data: Annotated[bytes, tail(bytes, "size")]


class UpdateOp(
    Wire,
    struct="update_op",
    prefix="uop_",
    size=24,
    differs={V2_15: At(size=20)},
):
    """One operation of a distributed change."""

    fid: Fid
    type: u16
    param_count: u16
    params_off: Annotated[tuple[int, ...], tail(u16, "param_count")]


class UpdateOps(Wire, struct="update_ops", prefix="uops_", size=0):
    """Operations of a distributed change, one behind the other."""

    op: Annotated[bytes, tail(bytes)]


class UpdateParams(Wire, struct="update_params", prefix="up_", size=0):
    """Arguments of a distributed change, one behind the other."""

    params: Annotated[bytes, tail(bytes)]


class UpdateRecords(Wire, struct="update_records", prefix="ur_", size=32):
    """A distributed change, as every target involved logs it."""

    master_transno: u64
    batchid: u64
    flags: u32
    index: u32
    update_count: u32
    param_count: u32
    ops: Annotated[bytes, tail(bytes)]


class LlogUpdateRecord(Wire, struct="llog_update_record", prefix="lur_", size=48):
    """A distributed change in a log."""

    hdr: LlogRecHdr
    update_rec: UpdateRecords

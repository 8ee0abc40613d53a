"""The envelope of every RPC: message header, RPC body, connect data.

Does not know which buffers follow; `formats` and `ptlrpc` do. Stands for lustre_idl.h's lustre_msg.
"""

from typing import Annotated

from labsim.wire.schema import Wire, array, chars, handle, i32, named, tail, u8, u16, u32, u64


class LustreMsgV2(Wire, struct="lustre_msg_v2", prefix="lm_", size=32):
    """The header of a message: how many buffers follow, how long each one is."""

    bufcount: u32
    secflvr: u32
    magic: u32
    repsize: u32
    cksum: u32
    flags: u32
    padding_2: u32
    padding_3: u32
    buflens: Annotated[tuple[int, ...], tail(u32, "bufcount")]


class PtlrpcBodyV2(Wire, struct="ptlrpc_body_v2", prefix="pb_", size=152):
    """Buffer 0 of every reply: what the RPC layer of the peer needs to know.

    `status` is zero or a negative errno; positive for lock statuses (ELDLM_*) and bytes read.
    `timeout` and `service_time` are seconds.
    """

    handle: handle
    type: u32
    version: u32
    opc: u32
    status: i32
    last_xid: u64
    tag: u16
    padding0: u16
    padding1: u32
    last_committed: u64
    transno: u64
    flags: u32
    op_flags: u32
    conn_cnt: u32
    timeout: u32
    service_time: u32
    limit: u32
    slv: u64
    pre_versions: Annotated[tuple[int, ...], array(u64, 4)]
    mbits: u64
    padding64_0: u64
    padding64_1: u64
    padding64_2: u64


class PtlrpcBody(Wire, struct="ptlrpc_body_v3", prefix="pb_", size=184):
    """Buffer 0 of every request: `PtlrpcBodyV2` and the id of the job that caused it."""

    handle: handle
    type: u32
    version: u32
    opc: u32
    status: i32
    last_xid: u64
    tag: u16
    padding0: u16
    padding1: u32
    last_committed: u64
    transno: u64
    flags: u32
    op_flags: u32
    conn_cnt: u32
    timeout: u32
    service_time: u32
    limit: u32
    slv: u64
    pre_versions: Annotated[tuple[int, ...], array(u64, 4)]
    mbits: u64
    padding64_0: u64
    padding64_1: u64
    padding64_2: u64
    jobid: Annotated[str, chars(32)]


class ObdConnectData(Wire, struct="obd_connect_data", prefix="ocd_", size=192):
    """What client and server agree on when an import connects."""

    connect_flags: u64
    version: u32
    grant: u32
    index: u32
    brw_size: u32
    ibits_known: u64
    grant_blkbits: u8
    grant_inobits: u8
    grant_tax_kb: u16
    grant_max_blks: u32
    transno: u64
    group: u32
    cksum_types: u32
    max_easize: u32
    instance: u32
    maxbytes: u64
    maxmodrpcs: u16
    padding0: Annotated[u16, named("padding0")]
    padding1: Annotated[u32, named("padding1")]
    connect_flags2: u64
    padding3: Annotated[u64, named("padding3")]
    padding4: Annotated[u64, named("padding4")]
    padding5: Annotated[u64, named("padding5")]
    padding6: Annotated[u64, named("padding6")]
    padding7: Annotated[u64, named("padding7")]
    padding8: Annotated[u64, named("padding8")]
    padding9: Annotated[u64, named("padding9")]
    padding_a: Annotated[u64, named("paddingA")]
    padding_b: Annotated[u64, named("paddingB")]
    padding_c: Annotated[u64, named("paddingC")]
    padding_d: Annotated[u64, named("paddingD")]
    padding_e: Annotated[u64, named("paddingE")]
    padding_f: Annotated[u64, named("paddingF")]

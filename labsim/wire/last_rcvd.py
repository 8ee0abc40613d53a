"""What a target keeps about its clients to survive a restart.

Does not know recovery. Stands for lustre_disk.h's files last_rcvd and reply_data.
"""

from typing import Annotated

from labsim.wire.schema import Wire, array, chars, i32, octets, u16, u32, u64


class LrServerData(Wire, struct="lr_server_data", prefix="lsd_", size=512):
    """The head of last_rcvd: the target, its last transno, its mount count."""

    uuid: Annotated[str, chars(40)]
    last_transno: u64
    compat14: u64
    mount_count: u64
    feature_compat: u32
    feature_rocompat: u32
    feature_incompat: u32
    server_size: u32
    client_start: u32
    client_size: u16
    subdir_count: u16
    catalog_oid: u64
    catalog_ogen: u32
    peeruuid: Annotated[str, chars(40)]
    osd_index: u32
    padding1: u32
    start_epoch: u32
    trans_table: Annotated[tuple[int, ...], array(u64, 16)]
    trans_table_time: u32
    expire_intervals: u32
    padding: Annotated[bytes, octets(224)]


class LsdClientData(Wire, struct="lsd_client_data", prefix="lcd_", size=128):
    """A client's slot of last_rcvd: its last RPC and how it ended."""

    uuid: Annotated[str, chars(40)]
    last_transno: u64
    last_xid: u64
    last_result: i32
    last_data: u32
    last_close_transno: u64
    last_close_xid: u64
    last_close_result: i32
    last_close_data: u32
    pre_versions: Annotated[tuple[int, ...], array(u64, 4)]
    last_epoch: u32
    generation: u32
    padding: Annotated[bytes, octets(0)]


class LsdReplyHeader(Wire, struct="lsd_reply_header", prefix="lrh_", size=32):
    """The head of reply_data."""

    magic: u32
    header_size: u32
    reply_size: u32
    pad: Annotated[bytes, octets(20)]


class LsdReplyData(Wire, struct="lsd_reply_data", prefix="lrd_", size=32):
    """One reply that a client may ask for again."""

    transno: u64
    xid: u64
    data: u64
    result: i32
    client_gen: u32

"""What clients, the MDT and OSTs tell each other about objects and their data.

Does not know grants or striping. Stands for lustre_idl.h's obdo, BRW and statfs structs.
"""

from typing import Annotated

from labsim.wire.eras import V2_10, At
from labsim.wire.obd_md import OBD_BRW_NDELAY, OBD_MD_LAYOUT_VERSION
from labsim.wire.schema import (
    OstId,
    Wire,
    array,
    chars,
    handle,
    i64,
    octets,
    second_name,
    tail,
    u16,
    u32,
    u64,
)


class OstLayout(Wire, struct="ost_layout", prefix="ol_", size=28):
    """Which part of a file an object holds."""

    stripe_size: u32
    stripe_count: u32
    comp_start: u64
    comp_end: u64
    comp_id: u32


class Obdo(
    Wire,
    struct="obdo",
    prefix="o_",
    size=208,
    differs={
        V2_10: At(unknown={"layout_version": "o_padding_3"}, bits={"valid": OBD_MD_LAYOUT_VERSION}),
    },
):
    """Attributes of an OST object, and which of them are valid (OBD_MD_*).

    Times are seconds, `blocks` are of 512 bytes. In bulk transfers four fields mean something else
    and have a second name: bytes of dirty cache, grant wanted, grant lost, checksum of the data.
    """

    valid: u64
    oi: OstId
    parent_seq: u64
    size: u64
    mtime: i64
    atime: i64
    ctime: i64
    blocks: u64
    grant: u64
    blksize: u32
    mode: u32
    uid: u32
    gid: u32
    flags: u32
    nlink: u32
    parent_oid: u32
    misc: u32
    ioepoch: u64
    stripe_idx: u32
    parent_ver: u32
    handle: handle
    layout: OstLayout
    layout_version: u32
    uid_h: u32
    gid_h: u32
    data_version: u64
    projid: u32
    padding_4: u32
    padding_5: u64
    padding_6: u64

    dirty = second_name("blocks")
    undirty = second_name("mode")
    dropped = second_name("misc")
    cksum = second_name("nlink")
    grant_used = second_name("data_version")


class OstBody(Wire, struct="ost_body", size=208):
    """The one argument and result of most OST operations."""

    oa: Obdo


class ObdIoobj(Wire, struct="obd_ioobj", prefix="ioo_", size=24):
    """One object of a bulk transfer, and how many ranges of it."""

    oid: OstId
    max_brw: u32
    bufcnt: u32


class NiobufRemote(
    Wire,
    struct="niobuf_remote",
    prefix="rnb_",
    size=16,
    differs={V2_10: At(bits={"flags": OBD_BRW_NDELAY})},
):
    """One contiguous range of an object in a bulk transfer."""

    offset: u64
    len: u32
    flags: u32


class ObdStatfs(
    Wire,
    struct="obd_statfs",
    prefix="os_",
    size=144,
    differs={V2_10: At(unknown={"granted": "os_spare2"})},
):
    """Space, in blocks of `bsize` bytes, and inodes of a target."""

    type: u64
    blocks: u64
    bfree: u64
    bavail: u64
    files: u64
    ffree: u64
    fsid: Annotated[bytes, octets(40)]
    bsize: u32
    namelen: u32
    maxbytes: u64
    state: u32
    fprecreated: u32
    granted: u32
    spare3: u32
    spare4: u32
    spare5: u32
    spare6: u32
    spare7: u32
    spare8: u32
    spare9: u32


class OstLvbV1(Wire, struct="ost_lvb_v1", prefix="lvb_", size=40):
    """An object's size, times and blocks under a lock, without nanoseconds."""

    size: u64
    mtime: i64
    atime: i64
    ctime: i64
    blocks: u64


class OstLvb(Wire, struct="ost_lvb", prefix="lvb_", size=56):
    """An object's size, times and blocks under a lock."""

    size: u64
    mtime: i64
    atime: i64
    ctime: i64
    blocks: u64
    mtime_ns: u32
    atime_ns: u32
    ctime_ns: u32
    padding: u32


class LuLadvise(Wire, struct="lu_ladvise", prefix="lla_", size=32):
    """One piece of advice about how a file will be used."""

    advice: u16
    value1: u16
    value2: u32
    start: u64
    end: u64
    value3: u32
    value4: u32


class LadviseHdr(Wire, struct="ladvise_hdr", prefix="lah_", size=32):
    """The head of a list of advice."""

    magic: u32
    count: u32
    flags: u64
    value1: u32
    value2: u32
    value3: u64
    advise: Annotated[tuple[LuLadvise, ...], tail(LuLadvise)]


class FiemapExtent(Wire, struct="fiemap_extent", prefix="fe_", size=56):
    """One extent of a file on its device."""

    logical: u64
    physical: u64
    length: u64
    reserved64: Annotated[tuple[int, ...], array(u64, 2)]
    flags: u32
    reserved: Annotated[tuple[int, ...], array(u32, 3)]


class Fiemap(Wire, struct="fiemap", prefix="fm_", size=32):
    """Asks for the extents of a range, or lists them."""

    start: u64
    length: u64
    flags: u32
    mapped_extents: u32
    extent_count: u32
    reserved: u32
    extents: Annotated[tuple[FiemapExtent, ...], tail(FiemapExtent)]


class LlFiemapInfoKey(Wire, struct="ll_fiemap_info_key", prefix="lfik_", size=248):
    """The key of an OST_GET_INFO for extents: object and range."""

    name: Annotated[str, chars(8)]
    oa: Obdo
    fiemap: Fiemap

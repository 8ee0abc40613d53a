"""What clients and the MDT tell each other about files.

Does not know what the operations do. Stands for lustre_idl.h's mdt_* and MDS structs.
"""

from typing import Annotated

from labsim.base.ids import Fid
from labsim.wire.eras import V2_10, V2_15, At
from labsim.wire.lu import LuExtent
from labsim.wire.mds_flags import MDS_ATTR_LBLOCKS, MDS_ATTR_LSIZE, MDS_ATTR_OVERRIDE
from labsim.wire.obd_md import OBD_MD_DOM_SIZE, OBD_MD_FLAGSTATFS
from labsim.wire.schema import Wire, also, array, handle, i64, named, octets, tail, u16, u32, u64


class MdtBody(
    Wire,
    struct="mdt_body",
    prefix="mbo_",
    size=216,
    differs={
        V2_10: At(
            unknown={
                "version": "mbo_ioepoch",
                "layout_gen": "mbo_unused2",
                "dom_size": "mbo_padding_6",
                "dom_blocks": "mbo_padding_7",
            },
            renamed={"open_handle": "mbo_handle"},
            bits={"valid": OBD_MD_DOM_SIZE | OBD_MD_FLAGSTATFS},
        ),
        V2_15: At(renamed={"padding_8": "mbo_btime"}),
    },
):
    """Attributes of a file, and which of them are valid (OBD_MD_*); also names the file asked for.

    Times are seconds, `blocks` are of 512 bytes, `eadatasize` and `aclsize` are bytes: in a request
    the room the caller has, in a reply the length of what follows.
    """

    fid1: Fid
    fid2: Fid
    open_handle: handle
    valid: u64
    size: u64
    mtime: i64
    atime: i64
    ctime: i64
    blocks: u64
    version: u64
    t_state: u64
    fsuid: u32
    fsgid: u32
    capability: u32
    mode: u32
    uid: u32
    gid: u32
    flags: u32
    rdev: u32
    nlink: u32
    layout_gen: u32
    suppgid: u32
    eadatasize: u32
    aclsize: u32
    max_mdsize: u32
    unused3: u32
    uid_h: u32
    gid_h: u32
    projid: u32
    dom_size: u64
    dom_blocks: u64
    padding_8: u64
    padding_9: u64
    padding_10: u64


class MdtIoepoch(
    Wire,
    struct="mdt_ioepoch",
    prefix="mio_",
    size=24,
    differs={V2_10: At(renamed={"open_handle": "mio_handle"})},
):
    """Which open file is meant, by its handle."""

    open_handle: handle
    unused1: u64
    unused2: u32
    padding: u32


class MdtRecSetattr(
    Wire,
    struct="mdt_rec_setattr",
    prefix="sa_",
    size=136,
    differs={
        V2_10: At(bits={"valid": MDS_ATTR_LSIZE | MDS_ATTR_LBLOCKS | MDS_ATTR_OVERRIDE}),
    },
):
    """MDS_REINT record: change attributes of a file."""

    opcode: u32
    cap: u32
    fsuid: u32
    fsuid_h: u32
    fsgid: u32
    fsgid_h: u32
    suppgid: u32
    suppgid_h: u32
    padding_1: u32
    padding_1_h: u32
    fid: Fid
    valid: u64
    uid: u32
    gid: u32
    size: u64
    blocks: u64
    mtime: i64
    atime: i64
    ctime: i64
    attr_flags: u32
    mode: u32
    bias: u32
    projid: u32
    padding_4: u32
    padding_5: u32


class MdtRecCreate(
    Wire,
    struct="mdt_rec_create",
    prefix="cr_",
    size=136,
    differs={
        V2_10: At(renamed={"open_handle_old": "cr_old_handle"}),
        V2_15: At(added={"cr_archive_id": (88, 4)}),
    },
):
    """MDS_REINT record: create a name and its object, or open it."""

    opcode: u32
    cap: u32
    fsuid: u32
    fsuid_h: u32
    fsgid: u32
    fsgid_h: u32
    suppgid1: u32
    suppgid1_h: u32
    suppgid2: u32
    suppgid2_h: u32
    fid1: Fid
    fid2: Fid
    open_handle_old: handle
    time: i64
    rdev: u64
    ioepoch: u64
    padding_1: u64
    mode: u32
    bias: u32
    flags_l: u32
    flags_h: u32
    umask: u32
    padding_4: u32


class MdtRecLink(Wire, struct="mdt_rec_link", prefix="lk_", size=136):
    """MDS_REINT record: give a file another name."""

    opcode: u32
    cap: u32
    fsuid: u32
    fsuid_h: u32
    fsgid: u32
    fsgid_h: u32
    suppgid1: u32
    suppgid1_h: u32
    suppgid2: u32
    suppgid2_h: u32
    fid1: Fid
    fid2: Fid
    time: i64
    padding_1: u64
    padding_2: u64
    padding_3: u64
    padding_4: u64
    bias: u32
    padding_5: u32
    padding_6: u32
    padding_7: u32
    padding_8: u32
    padding_9: u32


class MdtRecUnlink(Wire, struct="mdt_rec_unlink", prefix="ul_", size=136):
    """MDS_REINT record: remove a name."""

    opcode: u32
    cap: u32
    fsuid: u32
    fsuid_h: u32
    fsgid: u32
    fsgid_h: u32
    suppgid1: u32
    suppgid1_h: u32
    suppgid2: u32
    suppgid2_h: u32
    fid1: Fid
    fid2: Fid
    time: i64
    padding_2: u64
    padding_3: u64
    padding_4: u64
    padding_5: u64
    bias: u32
    mode: u32
    padding_6: u32
    padding_7: u32
    padding_8: u32
    padding_9: u32


class MdtRecRename(Wire, struct="mdt_rec_rename", prefix="rn_", size=136):
    """MDS_REINT record: move a name."""

    opcode: u32
    cap: u32
    fsuid: u32
    fsuid_h: u32
    fsgid: u32
    fsgid_h: u32
    suppgid1: u32
    suppgid1_h: u32
    suppgid2: u32
    suppgid2_h: u32
    fid1: Fid
    fid2: Fid
    time: i64
    padding_1: u64
    padding_2: u64
    padding_3: u64
    padding_4: u64
    bias: u32
    mode: u32
    padding_5: u32
    padding_6: u32
    padding_7: u32
    padding_8: u32


class MdtRecSetxattr(Wire, struct="mdt_rec_setxattr", prefix="sx_", size=136):
    """MDS_REINT record: set or remove an extended attribute."""

    opcode: u32
    cap: u32
    fsuid: u32
    fsuid_h: u32
    fsgid: u32
    fsgid_h: u32
    suppgid1: u32
    suppgid1_h: u32
    suppgid2: u32
    suppgid2_h: u32
    fid: Fid
    padding_1: u64
    padding_2: u32
    padding_3: u32
    valid: u64
    time: i64
    padding_5: u64
    padding_6: u64
    padding_7: u64
    size: u32
    flags: u32
    padding_8: u32
    padding_9: u32
    padding_10: u32
    padding_11: u32


class MdtRecResync(
    Wire,
    struct="mdt_rec_resync",
    prefix="rs_",
    size=136,
    differs={V2_10: At(absent=True)},
):
    """MDS_REINT record: begin to resynchronise the mirrors of a file."""

    opcode: u32
    cap: u32
    fsuid: u32
    fsuid_h: u32
    fsgid: u32
    fsgid_h: u32
    suppgid1: u32
    suppgid1_h: u32
    suppgid2: u32
    suppgid2_h: u32
    fid: Fid
    padding0: Annotated[bytes, octets(16)]
    lease_handle: handle
    padding1: i64
    padding2: i64
    padding3: u64
    padding4: u64
    bias: u32
    padding5: u32
    padding6: u32
    padding7: u32
    padding8: u32
    mirror_id: u16
    padding9: u16


class MdtRecReint(
    Wire,
    struct="mdt_rec_reint",
    prefix="rr_",
    size=136,
    differs={V2_10: At(unknown={"mirror_id": ""}, moved={"rr_padding_4": (132, 4)})},
):
    """Any MDS_REINT record, before its opcode is known."""

    opcode: u32
    cap: u32
    fsuid: u32
    fsuid_h: u32
    fsgid: u32
    fsgid_h: u32
    suppgid1: u32
    suppgid1_h: u32
    suppgid2: u32
    suppgid2_h: u32
    fid1: Fid
    fid2: Fid
    mtime: i64
    atime: i64
    ctime: i64
    size: u64
    blocks: u64
    bias: u32
    mode: u32
    flags: u32
    flags_h: u32
    umask: u32
    mirror_id: u16
    padding_4: u16


class CloseDataResyncDone(
    Wire,
    struct="close_data_resync_done",
    size=64,
    differs={V2_10: At(absent=True)},
):
    """Which mirror components were resynchronised, in a close."""

    resync_count: u32
    resync_ids_inline: Annotated[tuple[int, ...], array(u32, 15)]


class CloseData(
    Wire,
    struct="close_data",
    prefix="cd_",
    size=96,
    differs={
        V2_10: At(unknown={"resync": "", "cd_mirror_id": ""}),
        V2_15: At(added={"cd_archive_id": (32, 4)}),
    },
):
    """What a close does besides closing: release, swap or merge layouts."""

    handle: handle
    fid: Fid
    data_version: u64
    resync: Annotated[CloseDataResyncDone, also("cd_reserved", 64), also("cd_mirror_id", 2)]


class LayoutIntent(
    Wire,
    struct="layout_intent",
    prefix="li_",
    size=24,
    differs={
        V2_10: At(renamed={"extent": ""}, added={"li_start": (8, 8), "li_end": (16, 8)}),
    },
):
    """Why a client wants a layout lock, and for which range."""

    opc: u32
    flags: u32
    extent: LuExtent


class MdcSwapLayouts(Wire, struct="mdc_swap_layouts", prefix="msl_", size=8):
    """Flags of a layout swap."""

    flags: u64


class GetinfoFid2path(Wire, struct="getinfo_fid2path", prefix="gf_", size=32):
    """Asks for the path of a FID; the reply carries it behind the struct."""

    fid: Fid
    recno: u64
    linkno: u32
    pathlen: u32
    path: Annotated[bytes, tail(bytes), named("gf_u")]


class Getparent(Wire, struct="getparent", prefix="gp_", size=24):
    """Asks for the parent and name of one link of a file."""

    fid: Fid
    linkno: u32
    name_size: u32
    name: Annotated[bytes, tail(bytes)]

"""What servers and clients tell the MGS, and the records of configuration logs.

Does not know what the commands do. Stands for lustre_idl.h's mgs_* structs, lustre_cfg.h and the
node map records.
"""

from typing import Annotated

from labsim.wire.eras import V2_15, At
from labsim.wire.schema import Wire, also, array, chars, i64, named, tail, u8, u16, u32, u64


class MgsSendParam(Wire, struct="mgs_send_param", prefix="mgs_", size=1024):
    """A parameter to set on all nodes."""

    param: Annotated[str, chars(1024)]


class CfgMarker(Wire, struct="cfg_marker", prefix="cm_", size=160):
    """Brackets the records of one target in a configuration log."""

    step: u32
    flags: u32
    vers: u32
    padding: u32
    createtime: i64
    canceltime: i64
    tgtname: Annotated[str, chars(64)]
    comment: Annotated[str, chars(64)]


class MgsTargetInfo(Wire, struct="mgs_target_info", prefix="mti_", size=4544):
    """A target registers with the MGS."""

    lustre_ver: u32
    stripe_index: u32
    config_ver: u32
    flags: u32
    nid_count: u32
    instance: u32
    fsname: Annotated[str, chars(64)]
    svname: Annotated[str, chars(64)]
    uuid: Annotated[str, chars(40)]
    nids: Annotated[tuple[int, ...], array(u64, 32)]
    params: Annotated[str, chars(4096)]


class MgsNidtblEntry(Wire, struct="mgs_nidtbl_entry", prefix="mne_", size=24):
    """Where a target runs now, for imperative recovery."""

    version: u64
    instance: u32
    index: u32
    length: u32
    type: u8
    nid_type: u8
    nid_size: u8
    nid_count: u8
    nids: Annotated[tuple[int, ...], tail(u64, "nid_count"), named("u")]


class MgsConfigBody(Wire, struct="mgs_config_body", prefix="mcb_", size=80):
    """Asks for a part of a configuration log."""

    name: Annotated[str, chars(64)]
    offset: u64
    type: u16
    nm_cur_pass: u8
    bits: u8
    units: u32


class MgsConfigRes(Wire, struct="mgs_config_res", prefix="mcr_", size=16):
    """Which part of a configuration log was sent."""

    offset: u64
    size: Annotated[u64, also("mcr_nm_cur_pass")]


class LustreCfg(Wire, struct="lustre_cfg", prefix="lcfg_", size=32):
    """One configuration command; its arguments follow, each padded to 8."""

    version: u32
    command: u32
    num: u32
    flags: u32
    nid: u64
    nal: u32
    bufcount: u32
    buflens: Annotated[tuple[int, ...], tail(u32, "bufcount")]


class NodemapClusterRec(
    Wire,
    struct="nodemap_cluster_rec",
    prefix="ncr_",
    size=32,
    differs={V2_15: At(renamed={"padding2": "ncr_squash_projid"})},
):
    """A node map: name, flags and whom unknown ids become."""

    name: Annotated[str, chars(17)]
    flags: u8
    padding1: u16
    padding2: u32
    squash_uid: u32
    squash_gid: u32


class NodemapRangeRec(Wire, struct="nodemap_range_rec", prefix="nrr_", size=32):
    """A range of NIDs that belongs to a node map."""

    start_nid: u64
    end_nid: u64
    padding1: u64
    padding2: u64


class NodemapIdRec(Wire, struct="nodemap_id_rec", prefix="nir_", size=32):
    """One id of a node map on the file system."""

    id_fs: u32
    padding1: u32
    padding2: u64
    padding3: u64
    padding4: u64


class NodemapGlobalRec(Wire, struct="nodemap_global_rec", prefix="ngr_", size=32):
    """Whether node maps are in use."""

    is_active: u8
    padding1: u8
    padding2: u16
    padding3: u32
    padding4: u64
    padding5: u64
    padding6: u64

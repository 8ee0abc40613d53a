"""Layouts: how a file lies on OSTs, how a directory lies on MDTs.

Does not know how offsets map to objects. Stands for lustre_idl.h's and lustre_user.h's lov_* and
lmv_* structs. Layouts travel and are stored little endian.
"""

from typing import Annotated

from labsim.base.ids import Fid
from labsim.wire.eras import V2_10, V2_15, At
from labsim.wire.lu import LuExtent
from labsim.wire.schema import OstId, Wire, also, array, chars, i32, i64, tail, u16, u32, u64


class LovOstDataV1(Wire, struct="lov_ost_data_v1", prefix="l_", size=24):
    """One stripe of a layout: object and OST.

    `ost_oi` holds the FID of an object that has one (`OstId.of_fid`), else an id and a sequence.
    """

    ost_oi: OstId
    ost_gen: u32
    ost_idx: u32


class LovMdsMdV1(Wire, struct="lov_mds_md_v1", prefix="lmm_", size=32):
    """A striped layout; its stripes follow, none where there are no objects yet.

    `oi` holds the file's FID as oid and sequence. `stripe_size` is bytes.
    """

    magic: u32
    pattern: u32
    oi: OstId
    stripe_size: u32
    stripe_count: u16
    layout_gen: u16
    objects: Annotated[tuple[LovOstDataV1, ...], tail(LovOstDataV1)]


class LovMdsMdV3(Wire, struct="lov_mds_md_v3", prefix="lmm_", size=48):
    """A striped layout in an OST pool, else as `LovMdsMdV1`."""

    magic: u32
    pattern: u32
    oi: OstId
    stripe_size: u32
    stripe_count: u16
    layout_gen: u16
    pool_name: Annotated[str, chars(16)]
    objects: Annotated[tuple[LovOstDataV1, ...], tail(LovOstDataV1)]


class LovCompMdEntryV1(
    Wire,
    struct="lov_comp_md_entry_v1",
    prefix="lcme_",
    size=48,
    differs={
        V2_10: At(
            unknown={"layout_gen": "", "timestamp": "", "padding_1": ""},
            added={"lcme_padding": (32, 16)},
        ),
    },
):
    """One component of a composite layout, and where its own layout lies."""

    id: u32
    flags: u32
    extent: LuExtent
    offset: u32
    size: u32
    layout_gen: u32
    timestamp: u64
    padding_1: u32


class LovCompMdV1(
    Wire,
    struct="lov_comp_md_v1",
    prefix="lcm_",
    size=32,
    differs={V2_10: At(unknown={"mirror_count": ""}, moved={"lcm_padding1": (16, 8)})},
):
    """A composite layout."""

    magic: u32
    size: u32
    layout_gen: u32
    flags: u16
    entry_count: u16
    mirror_count: u16
    padding1: Annotated[tuple[int, ...], array(u16, 3)]
    padding2: u64
    entries: Annotated[tuple[LovCompMdEntryV1, ...], tail(LovCompMdEntryV1, "entry_count")]


class LovDesc(Wire, struct="lov_desc", prefix="ld_", size=88):
    """What a configuration log says about striping by default."""

    tgt_count: u32
    active_tgt_count: u32
    default_stripe_count: i32
    pattern: u32
    default_stripe_size: u64
    default_stripe_offset: i64
    padding_0: u32
    qos_maxage: u32
    padding_1: u32
    padding_2: u32
    uuid: Annotated[str, chars(40)]


class LovUserOstDataV1(Wire, struct="lov_user_ost_data_v1", prefix="l_", size=24):
    """One stripe of a layout as users see it."""

    ost_oi: OstId
    ost_gen: u32
    ost_idx: u32


class LovUserMdV1(Wire, struct="lov_user_md_v1", prefix="lmm_", size=32):
    """A layout as users give and see it (xattr lustre.lov)."""

    magic: u32
    pattern: u32
    oi: OstId
    stripe_size: u32
    stripe_count: u16
    stripe_offset: Annotated[u16, also("lmm_layout_gen")]
    objects: Annotated[tuple[LovUserOstDataV1, ...], tail(LovUserOstDataV1)]


class LovUserMdV3(Wire, struct="lov_user_md_v3", prefix="lmm_", size=48):
    """A layout with a pool as users give and see it."""

    magic: u32
    pattern: u32
    oi: OstId
    stripe_size: u32
    stripe_count: u16
    stripe_offset: Annotated[u16, also("lmm_layout_gen")]
    pool_name: Annotated[str, chars(16)]
    objects: Annotated[tuple[LovUserOstDataV1, ...], tail(LovUserOstDataV1)]


class LmvMdsMdV1(
    Wire,
    struct="lmv_mds_md_v1",
    prefix="lmv_",
    size=56,
    differs={
        V2_10: At(
            unknown={"migrate_offset": "lmv_padding1", "migrate_hash": ""},
            moved={"lmv_padding2": (24, 8)},
        ),
    },
):
    """The layout of a striped directory."""

    magic: u32
    stripe_count: u32
    master_mdt_index: u32
    hash_type: u32
    layout_version: u32
    migrate_offset: u32
    migrate_hash: u32
    padding2: u32
    padding3: u64
    pool_name: Annotated[str, chars(16)]
    stripe_fids: Annotated[tuple[Fid, ...], tail(Fid)]


class LmvUserMdsData(Wire, struct="lmv_user_mds_data", prefix="lum_", size=24):
    """One stripe of a directory as users see it."""

    fid: Fid
    padding: u32
    mds: u32


class LmvUserMdV1(
    Wire,
    struct="lmv_user_md_v1",
    prefix="lum_",
    size=48,
    differs={
        V2_15: At(
            added={"lum_max_inherit": (20, 1), "lum_max_inherit_rr": (21, 1)},
            moved={"lum_padding1": (22, 2)},
        ),
    },
):
    """The layout of a striped directory as users give and see it."""

    magic: u32
    stripe_count: u32
    stripe_offset: u32
    hash_type: u32
    type: u32
    padding1: u32
    padding2: u32
    padding3: u32
    pool_name: Annotated[str, chars(16)]
    objects: Annotated[tuple[LmvUserMdsData, ...], tail(LmvUserMdsData)]


class LmvDesc(Wire, struct="lmv_desc", prefix="ld_", size=88):
    """What a configuration log says about striped directories by default."""

    tgt_count: u32
    active_tgt_count: u32
    default_stripe_count: u32
    pattern: u32
    default_hash_size: u64
    padding_1: u64
    padding_2: u32
    qos_maxage: u32
    padding_3: u32
    padding_4: u32
    uuid: Annotated[str, chars(40)]

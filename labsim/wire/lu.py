"""Identifiers, ranges and the small attributes that files carry in xattrs.

Knows no operation. Stands for lustre_idl.h's lu_* types, lustre_lma and lustre_linkea.
"""

from typing import Annotated

from labsim.base.ids import Fid
from labsim.wire.eras import V2_10, At
from labsim.wire.ost import OstLayout
from labsim.wire.schema import Wire, array, octets, tail, u16, u32, u64


class LuSeqRange(Wire, struct="lu_seq_range", prefix="lsr_", size=24):
    """A range of FID sequences and the target that serves it."""

    start: u64
    end: u64
    index: u32
    flags: u32


class LuSeqRangeArray(Wire, struct="lu_seq_range_array", prefix="lsra_", size=8):
    """Many sequence ranges, as FLD_READ returns them."""

    count: u32
    padding: u32
    lsr: Annotated[tuple[LuSeqRange, ...], tail(LuSeqRange, "count")]


class LlFid(Wire, struct="ll_fid", size=16):
    """An inode number with its generation, from before FIDs."""

    id: u64
    generation: u32
    f_type: u32


class LuExtent(Wire, struct="lu_extent", prefix="e_", size=16):
    """A byte range, end excluded."""

    start: u64
    end: u64


class LustreMdtAttrs(Wire, struct="lustre_mdt_attrs", prefix="lma_", size=24):
    """The xattr trusted.lma of an MDT object: its own FID and what must be understood."""

    compat: u32
    incompat: u32
    self_fid: Fid


class LustreOstAttrs(Wire, struct="lustre_ost_attrs", prefix="loa_", size=64):
    """The xattr trusted.lma of an OST object: also which file it is a stripe of."""

    lma: LustreMdtAttrs
    parent_fid: Fid
    stripe_size: u32
    comp_id: u32
    comp_start: u64
    comp_end: u64


class LustreSomAttrs(
    Wire,
    struct="lustre_som_attrs",
    prefix="lsa_",
    size=24,
    differs={V2_10: At(absent=True)},
):
    """The xattr trusted.som: a lazy size and block count kept by the MDT."""

    valid: u16
    reserved: Annotated[tuple[int, ...], array(u16, 3)]
    size: u64
    blocks: u64


class HsmAttrs(Wire, struct="hsm_attrs", prefix="hsm_", size=24):
    """The xattr trusted.hsm: where a file stands between Lustre and the archive."""

    compat: u32
    flags: u32
    arch_id: u64
    arch_ver: u64


class LinkEaHeader(Wire, struct="link_ea_header", prefix="leh_", size=24):
    """The head of the xattr trusted.link: how many names a file has."""

    magic: u32
    reccount: u32
    len: u64
    overflow_time: u32
    padding: u32


class LinkEaEntry(Wire, struct="link_ea_entry", prefix="lee_", size=18):
    """One name of a file: parent FID and name; its numbers are big endian."""

    reclen: Annotated[bytes, octets(2)]
    parent_fid: Annotated[bytes, octets(16)]
    name: Annotated[bytes, tail(bytes)]


class FilterFid(
    Wire,
    struct="filter_fid",
    prefix="ff_",
    size=52,
    differs={V2_10: At(unknown={"layout_version": "", "range": ""}, size=44)},
):
    """The xattr trusted.fid of an OST object: the file it belongs to, and its place there."""

    parent: Fid
    layout: OstLayout
    layout_version: u32
    range: u32


class PosixAclXattrEntry(Wire, struct="posix_acl_xattr_entry", prefix="e_", size=8):
    """One entry of a POSIX ACL: whom it is about and what they may do."""

    tag: u16
    perm: u16
    id: u32


class PosixAclXattrHeader(Wire, struct="posix_acl_xattr_header", prefix="a_", size=4):
    """The head of the xattrs system.posix_acl_access and _default."""

    version: u32
    entries: Annotated[tuple[PosixAclXattrEntry, ...], tail(PosixAclXattrEntry)]

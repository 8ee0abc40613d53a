"""Directory pages and index pages, as the MDT sends them.

Does not know hashes or how entries are ordered. Stands for lu_dirent, lu_dirpage and lu_idxpage.
"""

from typing import Annotated

from labsim.base.ids import Fid
from labsim.wire.schema import Wire, tail, u16, u32, u64


class LuDirent(Wire, struct="lu_dirent", prefix="lde_", size=32):
    """One entry of a directory page; attributes may follow its name."""

    fid: Fid
    hash: u64
    reclen: u16
    namelen: u16
    attrs: u32
    name: Annotated[bytes, tail(bytes, "namelen")]


class LudaType(Wire, struct="luda_type", prefix="lt_", size=2):
    """The attribute that follows a name when LUDA_TYPE is set: its S_IFMT bits."""

    type: u16


class LuDirpage(Wire, struct="lu_dirpage", prefix="ldp_", size=24):
    """A page of directory entries, in the order of their hashes."""

    hash_start: u64
    hash_end: u64
    flags: u32
    pad0: u32
    entries: Annotated[bytes, tail(bytes)]


class LuIdxpage(Wire, struct="lu_idxpage", prefix="lip_", size=16):
    """A page of index records, as OBD_IDX_READ returns them."""

    magic: u32
    flags: u16
    nr: u16
    pad0: u64
    entries: Annotated[bytes, tail(bytes)]


class IdxInfo(Wire, struct="idx_info", prefix="ii_", size=80):
    """What part of an index OBD_IDX_READ wants, and what it got."""

    magic: u32
    flags: u32
    count: u16
    pad0: u16
    attrs: u32
    fid: Fid
    version: u64
    hash_start: u64
    hash_end: u64
    keysize: u16
    recsize: u16
    pad1: u32
    pad2: u64
    pad3: u64

"""The objects an MDT keeps for itself, and the plain rules about names and FIDs.

Does not know requests. Stands for the local object ids of lustre_fid.h, struct lustre_mdt_attrs
(trusted.lma), and lu_name_is_valid.
"""

from __future__ import annotations

import errno
import struct

from labsim.base.errors import LustreError
from labsim.base.ids import ROOT_FID, Fid

LOCAL_FILES = 0x200000001
"""FID_SEQ_LOCAL_FILE."""
FLD = Fid(LOCAL_FILES, 3)
"""FLD_INDEX_OID: which target has which sequences."""
SEQ_CONTROLLER = Fid(LOCAL_FILES, 4)
"""FID_SEQ_CTL_OID: how many super-sequences have been given out."""
SEQ_SERVER = Fid(LOCAL_FILES, 5)
"""FID_SEQ_SRV_OID: which sequences have been given out."""
ORPHANS = Fid(LOCAL_FILES, 7)
"""MDD_ORPHAN_OID: files without a name that somebody still has open (PENDING)."""
OBJIDS = Fid(LOCAL_FILES, 8)
"""MDD_LOV_OBJ_OID: the last object id used on each OST."""
UNLINKED = Fid(LOCAL_FILES, 0x8000)
"""OST objects still to be destroyed; the place of the llogs of unlink records."""

FIRST_NORMAL_SEQ = 0x200000400
"""FID_SEQ_NORMAL: sequences from here on are for clients."""
NAME_MAX = 255
LINK_MAX = 65000
"""ldiskfs's EXT4_LINK_MAX: names of a file; a directory with more subdirectories shows 1 link."""
LMA = "trusted.lma"

_LMA = struct.Struct("<IIQII")


def lma(fid: Fid) -> bytes:
    """trusted.lma of an object: no flags, its own FID."""
    return _LMA.pack(0, 0, *fid)


def is_client_fid(fid: Fid) -> bool:
    """May a client name this object in a request? (fid_is_md_operative)"""
    return fid.seq >= FIRST_NORMAL_SEQ or fid == ROOT_FID


def check_name(name: bytes) -> None:
    """LustreError EPROTO for what cannot be a name, ENAMETOOLONG past 255 bytes."""
    if not name or b"/" in name or b"\0" in name:
        raise LustreError(errno.EPROTO, "a name that is none")
    if len(name) > NAME_MAX:
        raise LustreError(errno.ENAMETOOLONG, f"a name of {len(name)} bytes")


def encode_name(name: str) -> bytes:
    """A name from the wire's str to the bytes that are kept."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(name: bytes) -> str:
    """The other way round."""
    return name.decode("utf-8", "surrogateescape")


def key(fid: Fid) -> bytes:
    """A FID as an index key."""
    return struct.pack(">QII", *fid)


def unkey(packed: bytes) -> Fid:
    """The other way round."""
    return Fid(*struct.unpack(">QII", packed))

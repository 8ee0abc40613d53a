"""How an OST names and describes its objects.

Rules only. Stands for the ost_id to lu_fid mapping (lustre_ostid.h) and ofd's obdo conversions.
"""

from __future__ import annotations

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.storage.osd import Attrs
from labsim.wire.constants import (
    FID_SEQ_IDIF,
    OBD_MD_FLATIME,
    OBD_MD_FLBLKSZ,
    OBD_MD_FLBLOCKS,
    OBD_MD_FLCTIME,
    OBD_MD_FLGID,
    OBD_MD_FLGROUP,
    OBD_MD_FLID,
    OBD_MD_FLMODE,
    OBD_MD_FLMTIME,
    OBD_MD_FLSIZE,
    OBD_MD_FLTYPE,
    OBD_MD_FLUID,
)
from labsim.wire.ost import Obdo, OstLvb
from labsim.wire.schema import OstId

EINVAL, ENOENT = 22, 2

LAST_ID_OID = 0
"""LUSTRE_FID_LASTID_OID: the object of each sequence that holds its last id."""

BLKSIZE = 4 << 20

SHOWN = (
    OBD_MD_FLID | OBD_MD_FLGROUP | OBD_MD_FLTYPE | OBD_MD_FLMODE | OBD_MD_FLUID | OBD_MD_FLGID
    | OBD_MD_FLSIZE | OBD_MD_FLBLOCKS | OBD_MD_FLBLKSZ
    | OBD_MD_FLATIME | OBD_MD_FLMTIME | OBD_MD_FLCTIME
)  # fmt: skip

CHANGES = (
    (OBD_MD_FLATIME, "atime"),
    (OBD_MD_FLMTIME, "mtime"),
    (OBD_MD_FLCTIME, "ctime"),
    (OBD_MD_FLUID, "uid"),
    (OBD_MD_FLGID, "gid"),
)
"""Which obdo fields a client may set on an object, and as what."""


def object_fid(oi: OstId, index: int) -> Fid:
    """The FID of an object: itself where the id is one, else its IDIF on OST `index`.

    IDIF keeps the low 32 bits of the id in the oid, the OST index and the high 16 in the sequence.
    """
    if oi.seq != 0:
        if oi.fid.seq < FID_SEQ_IDIF:
            raise LustreError(EINVAL, f"no object {oi.id:#x} in sequence {oi.seq:#x}")
        return oi.fid
    if not 0 < oi.id < 1 << 48:
        raise LustreError(EINVAL, f"no object {oi.id}")
    return Fid(FID_SEQ_IDIF | index << 16 | oi.id >> 32, oi.id & 0xFFFFFFFF, 0)


def last_id_fid(index: int) -> Fid:
    """Where OST `index` keeps the last id of the sequence of MDT0."""
    return Fid(FID_SEQ_IDIF | index << 16, LAST_ID_OID, 0)


def describe(oa: Obdo, attrs: Attrs) -> Obdo:
    """`oa` with the attributes of the object filled in."""
    return oa.replace(
        valid=oa.valid | SHOWN,
        size=attrs.size,
        blocks=attrs.blocks,
        blksize=BLKSIZE,
        mode=attrs.mode,
        uid=attrs.uid,
        gid=attrs.gid,
        atime=attrs.atime,
        mtime=attrs.mtime,
        ctime=attrs.ctime,
    )


def changes_of(oa: Obdo) -> dict[str, int]:
    """What an obdo sets, as changes of `Attrs`."""
    return {name: getattr(oa, name) for bit, name in CHANGES if oa.valid & bit}


def lvb_of(attrs: Attrs) -> OstLvb:
    """The value block of an object's extent locks."""
    return OstLvb(
        size=attrs.size,
        mtime=attrs.mtime,
        atime=attrs.atime,
        ctime=attrs.ctime,
        blocks=attrs.blocks,
    )

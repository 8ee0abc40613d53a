"""LFSCK between targets, and capabilities.

Does not know what is checked. Stands for lustre_idl.h's lfsck_* and lustre_capa.
"""

from typing import Annotated

from labsim.base.ids import Fid
from labsim.wire.eras import V2_15, At
from labsim.wire.schema import Wire, also, i32, octets, u16, u32, u64


class LfsckRequest(Wire, struct="lfsck_request", prefix="lr_", size=96):
    """Tells a target what LFSCK does or found."""

    event: u32
    index: u32
    flags: u32
    valid: u32
    speed: Annotated[u32, also("lr_status")]
    version: u16
    active: u16
    param: u16
    async_windows: u16
    flags2: u32
    fid: Fid
    fid2: Fid
    comp_id: u32
    padding_0: u32
    padding_1: u64
    padding_2: u64
    padding_3: u64


class LfsckReply(Wire, struct="lfsck_reply", prefix="lr_", size=16):
    """Where LFSCK stands on a target."""

    status: i32
    padding_1: u32
    repaired: u64


class LustreCapa(
    Wire,
    struct="lustre_capa",
    prefix="lc_",
    size=120,
    differs={V2_15: At(absent=True)},
):
    """A capability: what its holder may do with an object."""

    fid: Fid
    opc: u64
    uid: u64
    gid: u64
    flags: u32
    keyid: u32
    timeout: u32
    expiry: u32
    hmac: Annotated[bytes, octets(64)]


class LustreCapaKey(
    Wire,
    struct="lustre_capa_key",
    prefix="lk_",
    size=72,
    differs={V2_15: At(absent=True)},
):
    """The key that signs capabilities."""

    seq: u64
    keyid: u32
    padding: u32
    key: Annotated[bytes, octets(56)]

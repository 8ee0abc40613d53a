"""Lock requests, replies and callbacks.

Does not know which locks conflict. Stands for lustre_idl.h's ldlm_* structs.
"""

from typing import Annotated, TypeAlias

from labsim.base.ids import Fid
from labsim.wire.eras import V2_10, V2_15, At
from labsim.wire.ldlm_flags import (
    LDLM_EXTENT,
    LDLM_FL_CONVERTING,
    LDLM_FL_NO_EXPANSION,
    LDLM_FL_SPECULATIVE,
    LDLM_FLOCK,
    LDLM_IBITS,
    LDLM_PLAIN,
)
from labsim.wire.mds_flags import MDS_INODELOCK_DOM
from labsim.wire.schema import Union, Wire, also, array, handle, tail, u32, u64


class LdlmResId(Wire, struct="ldlm_res_id", size=32):
    """The name of a lock resource: four words."""

    name: Annotated[tuple[int, ...], array(u64, 4)]


class LdlmExtent(Wire, struct="ldlm_extent", size=24):
    """The byte range of an extent lock, end included, and its group."""

    start: u64
    end: u64
    gid: u64


class LdlmInodebits(
    Wire,
    struct="ldlm_inodebits",
    size=16,
    differs={
        V2_10: At(
            unknown={"try_bits": "", "cancel_bits": ""}, bits={"bits": MDS_INODELOCK_DOM}, size=8
        ),
        V2_15: At(added={"li_gid": (16, 8)}, size=24),
    },
):
    """The bits of an inode lock, and those to try or to cancel."""

    bits: u64
    try_bits: Annotated[u64, also("cancel_bits")]


class LdlmFlockWire(Wire, struct="ldlm_flock_wire", prefix="lfw_", size=32):
    """The byte range, process and owner of a flock."""

    start: u64
    end: u64
    owner: u64
    padding: u32
    pid: u32


POLICY = Union(
    "ldlm_wire_policy_data",
    32,
    l_extent=LdlmExtent,
    l_flock=LdlmFlockWire,
    l_inodebits=LdlmInodebits,
)
"""What a lock covers of its resource; the resource's type says which member holds."""

POLICY_OF_TYPE = {
    0: "",
    LDLM_PLAIN: "",
    LDLM_EXTENT: "l_extent",
    LDLM_FLOCK: "l_flock",
    LDLM_IBITS: "l_inodebits",
}

Policy: TypeAlias = LdlmExtent | LdlmInodebits | LdlmFlockWire | None


class LdlmIntent(Wire, struct="ldlm_intent", size=8):
    """The operation that comes along with an enqueue (IT_*)."""

    opc: u64


class LdlmResourceDesc(Wire, struct="ldlm_resource_desc", prefix="lr_", size=40):
    """A resource: type and name."""

    type: u32
    pad: u32
    name: Annotated[tuple[int, ...], array(u64, 4)]


class LdlmLockDesc(Wire, struct="ldlm_lock_desc", prefix="l_", size=80):
    """A lock: resource, modes, and what of the resource it covers."""

    resource: LdlmResourceDesc
    req_mode: u32
    granted_mode: u32
    policy_data: Annotated[Policy, POLICY.by("resource.type", POLICY_OF_TYPE)]


YOUNGER_FLAGS = LDLM_FL_SPECULATIVE | LDLM_FL_CONVERTING | LDLM_FL_NO_EXPANSION
"""What 2.10 does not have of the lower 32 flags, which are those that travel."""


class LdlmRequest(
    Wire,
    struct="ldlm_request",
    size=104,
    differs={V2_10: At(bits={"lock_flags": YOUNGER_FLAGS})},
):
    """Names locks to enqueue, cancel, convert or call back.

    `lock_count` counts the handles that mean something, from the first on; there is room for two
    even when there are none.
    """

    lock_flags: u32
    lock_count: u32
    lock_desc: LdlmLockDesc
    lock_handle: Annotated[tuple[int, ...], tail(u64, least=2)]


class LdlmReply(
    Wire,
    struct="ldlm_reply",
    size=112,
    differs={V2_10: At(bits={"lock_flags": YOUNGER_FLAGS})},
):
    """The lock that an enqueue got, and how its intent went.

    `lock_policy_res1` says how far the intent got (DISP_*), `lock_policy_res2` how it ended: zero
    or a negative errno, in 64 bits of two's complement.
    """

    lock_flags: u32
    lock_padding: u32
    lock_desc: LdlmLockDesc
    lock_handle: handle
    lock_policy_res1: u64
    lock_policy_res2: u64


class LdlmGlLquotaDesc(Wire, struct="ldlm_gl_lquota_desc", prefix="gl_", size=64):
    """What a glimpse callback tells a quota slave."""

    id: Fid
    flags: u64
    ver: u64
    hardlimit: u64
    softlimit: u64
    time: u64
    pad2: u64


class LdlmGlBarrierDesc(Wire, struct="ldlm_gl_barrier_desc", prefix="lgbd_", size=16):
    """What a glimpse callback tells a target about a write barrier."""

    status: u32
    timeout: u32
    padding: u64


class BarrierLvb(Wire, struct="barrier_lvb", prefix="lvb_", size=16):
    """What a target answers about a write barrier."""

    status: u32
    index: u32
    padding: u64

"""Between locks and the structs that describe them on the wire.

The one place of the lock manager that converts. Does not know queues or peers. Stands for
ldlm_lock2desc and the ldlm_convert_policy functions (ldlm_lock.c).
"""

from __future__ import annotations

from collections.abc import Sequence

from labsim.base.errors import LustreError
from labsim.ldlm.policy import POLICIES, WHOLE, Extent, Flock, Ibits, Plain, Policy
from labsim.ldlm.resource import ResName
from labsim.wire.constants import LDLM_EXTENT, LDLM_FLOCK, LDLM_IBITS
from labsim.wire.ldlm import (
    LdlmExtent,
    LdlmFlockWire,
    LdlmInodebits,
    LdlmLockDesc,
    LdlmReply,
    LdlmRequest,
    LdlmResourceDesc,
)
from labsim.wire.message import Message

EFAULT, EPROTO = 14, 71


def describe(name: ResName, mode: int, policy: Policy, granted_mode: int = 0) -> LdlmLockDesc:
    """The struct for a lock; `granted_mode` is 0 until it is granted."""
    return LdlmLockDesc(
        resource=LdlmResourceDesc(type=policy.kind, name=name),
        req_mode=mode,
        granted_mode=granted_mode,
        policy_data=_to_wire(policy),
    )


def _to_wire(policy: Policy) -> LdlmExtent | LdlmInodebits | LdlmFlockWire | None:
    match policy:
        case Extent(start, end, gid):
            return LdlmExtent(start=start, end=end, gid=gid)
        case Ibits(bits, optional):
            return LdlmInodebits(bits=bits, try_bits=optional)
        case Flock(start, end, owner, pid):
            return LdlmFlockWire(start=start, end=end, owner=owner, pid=pid)
    return None


def name_of(desc: LdlmLockDesc) -> ResName:
    """The resource that a description is about."""
    one, two, three, four = desc.resource.name
    return (one, two, three, four)


def policy_of(desc: LdlmLockDesc) -> Policy:
    """The policy in a description; EFAULT for an unknown type, EPROTO where nothing is covered."""
    kind, data = desc.resource.type, desc.policy_data
    if kind not in POLICIES:
        raise LustreError(EFAULT, f"ldlm_resource_desc.lr_type: {kind}")
    policy: Policy | None = None
    if kind == LDLM_EXTENT and isinstance(data, LdlmExtent):
        policy = Extent(data.start, data.end, data.gid)
    elif kind == LDLM_IBITS and isinstance(data, LdlmInodebits):
        policy = Ibits(data.bits, data.try_bits)
    elif kind == LDLM_FLOCK and isinstance(data, LdlmFlockWire):
        policy = Flock(data.start, data.end, data.owner, data.pid)
    elif POLICIES.get(kind) is Plain:
        policy = WHOLE
    if policy is None or not policy.valid or is_empty(policy):
        raise LustreError(EPROTO, f"ldlm_lock_desc: no lock of type {kind} can be on {data!r}")
    return policy


def is_empty(policy: Policy) -> bool:
    """Does it cover nothing: only optional bits, or none of those that were optional?"""
    return isinstance(policy, Ibits) and not policy.bits


def request_of(msg: Message) -> LdlmRequest:
    """The ldlm_request of a message; EPROTO where the sender left it out."""
    request: LdlmRequest | None = msg.get("dlm_req")
    if request is None:
        raise LustreError(EPROTO, "dlm_req is missing")
    return request


def answer_of(reply: Message) -> LdlmReply:
    """The ldlm_reply of the answer to an enqueue; EPROTO where the server left it out."""
    rep: LdlmReply | None = reply.get("dlm_rep")
    if rep is None:
        raise LustreError(EPROTO, "dlm_rep is missing")
    return rep


def first_handle(request: LdlmRequest) -> int:
    """The handle that a request is about."""
    return request.lock_handle[0] if request.lock_handle else 0


def handles_of(request: LdlmRequest, first: int = 0) -> tuple[int, ...]:
    """The handles to cancel, from index `first` on; EPROTO where there are fewer than it says."""
    count = max(request.lock_count, 1)
    if count > len(request.lock_handle):
        raise LustreError(EPROTO, f"ldlm_request.lock_count: {count} handles are not there")
    return tuple(request.lock_handle[first:count])


def padded(handles: Sequence[int]) -> tuple[int, ...]:
    """As lock_handle has them: there is room for two at least."""
    return (*handles, *[0] * (2 - len(handles)))


NO_CANCELS = LdlmRequest(lock_handle=padded(()))


def cancelling(handles: Sequence[int]) -> LdlmRequest:
    """What names locks to cancel, in an LDLM_CANCEL or along with another request."""
    if not handles:
        return NO_CANCELS
    return LdlmRequest(lock_count=len(handles), lock_handle=padded(handles))


def intent_result(reply: Message) -> tuple[int, int]:
    """How an intent went: (DISP_* bits, errno or 0), from the reply to its enqueue."""
    rep = answer_of(reply)
    return rep.lock_policy_res1, -rep.lock_policy_res2 & 0xFFFFFFFF


def intent_status(errno: int) -> int:
    """What lock_policy_res2 holds for an errno: its negative, in 64 bits."""
    return -errno & 0xFFFFFFFFFFFFFFFF

"""What a target's recovery_* files say.

Text only. Stands for lprocfs_recovery_status_seq_show and its neighbours
(obdclass/lprocfs_status_server.c).
"""

from __future__ import annotations

import errno

from labsim.base.errors import LustreError
from labsim.net.ptlrpc import Recovery

INT_MAX = 2**31 - 1


def seconds(text: str) -> int:
    """What was written to recovery_time_*; EINVAL for no number, ERANGE for one too large."""
    try:
        value = int(text.strip(), 0)
    except ValueError:
        raise LustreError(errno.EINVAL, text) from None
    if not 0 <= value <= INT_MAX:
        raise LustreError(errno.ERANGE, text)
    return value


def status(recovery: Recovery | None, announced: bool) -> str:
    """The file recovery_status; `announced` says that the MGS told clients of this start."""
    if recovery is None:
        return "status: INACTIVE"
    if recovery.over:
        return _complete(recovery, announced)
    if recovery.started_ns is None:
        return "status: WAITING_FOR_CLIENTS"
    return "\n".join([
        "status: RECOVERING",
        f"recovery_start: {recovery.started_s}",
        f"time_remaining: {recovery.left_s}",
        f"connected_clients: {recovery.connected}/{recovery.expected}",
        f"req_replay_clients: {recovery.requests_left}",
        f"lock_repay_clients: {recovery.locks_left}",
        f"completed_clients: {recovery.connected - recovery.locks_left}",
        f"evicted_clients: {recovery.stale}",
        f"replayed_requests: {recovery.replayed}",
        f"queued_requests: {recovery.queued}",
        f"next_transno: {recovery.next_transno}",
    ])  # fmt: skip


def _complete(recovery: Recovery, announced: bool) -> str:
    return "\n".join([
        "status: COMPLETE",
        f"recovery_start: {recovery.started_s}",
        f"recovery_duration: {recovery.ended_s - recovery.started_s}",
        f"completed_clients: {recovery.expected - recovery.stale}/{recovery.expected}",
        f"replayed_requests: {recovery.replayed}",
        f"last_transno: {recovery.next_transno - 1}",
        f"VBR: {'ENABLED' if recovery.by_version else 'DISABLED'}",
        f"IR: {'ENABLED' if announced else 'DISABLED'}",
    ])  # fmt: skip

"""The files of a target about its clients and their recovery.

Knows text and limits, not how clients recover. Stands for lprocfs_recovery_status_seq_show and its
neighbours (obdclass/lprocfs_status_server.c) and server_calc_timeout (obd_mount_server.c).
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.base.ids import Nid
from labsim.base.params import Param
from labsim.net.ptlrpc import Export, Exports, Recovery
from labsim.net.ptlrpc.recovery import RECONNECT_DELAY_MAX_S

INT_MAX = 2**31 - 1
IR_FACTOR_MAX = 10
"""OBD_IR_FACTOR_MAX: the recovery window is not shrunk."""


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


class RecoveryFiles(Component):
    """The files of a target about its recovery; a mixin of Target."""

    rpc: Any
    exports: Exports
    _recovery: Recovery | None = None
    _soft_s = _hard_s = 0
    _ir_factor = IR_FACTOR_MAX // 2
    announced = False
    """The MGS has told all clients that it is up (LDD_F_IR_CAPABLE)."""

    @Param.computed(help="how far recovery has come")
    def recovery_status(self) -> str:
        """As lprocfs_recovery_status_seq_show has it."""
        return status(self._recovery, self.announced)

    @Param.computed(unit="s", access="rw", help="how long clients are waited for")
    def recovery_time_soft(self) -> int:
        """Three times obd_timeout where nobody said otherwise; grows while clients replay."""
        if self._recovery is not None and not self._recovery.over:
            return self._recovery.soft_s
        return self._soft_s or 3 * self.rpc.timeouts.timeout

    def store_recovery_time_soft(self, text: str) -> None:
        """Takes effect with the next recovery, or with the next extension of this one."""
        self._soft_s = seconds(text)
        if self._recovery is not None:
            self._recovery.soft_s = self._soft_s

    @Param.computed(unit="s", access="rw", help="how long clients are waited for at most")
    def recovery_time_hard(self) -> int:
        """Nine times obd_timeout where nobody said otherwise."""
        return self._hard_s or 9 * self.rpc.timeouts.timeout

    def store_recovery_time_hard(self, text: str) -> None:
        """Takes effect at once."""
        self._hard_s = seconds(text)
        if self._recovery is not None:
            self._recovery.hard_s = self._hard_s

    @Param.computed(
        unit="tenths", access="rw", help="to how much of it the window shrinks where clients hear "
        "at once that the target is up"
    )  # fmt: skip
    def ir_factor(self) -> int:
        """5 where nobody said otherwise (OBD_IR_FACTOR_DEFAULT)."""
        return self._ir_factor

    def store_ir_factor(self, text: str) -> None:
        """1 to 10, EINVAL; takes effect with the next start."""
        factor = seconds(text)
        if not 1 <= factor <= IR_FACTOR_MAX:
            raise LustreError(errno.EINVAL, text)
        self._ir_factor = factor

    def announce(self, told: bool) -> None:
        """The MGS was told that this target is up; `told`: all its clients will hear of it now.

        Then they are waited for for less long (server_calc_timeout): never less than a client may
        need to try both nodes twice, and only what nobody set.
        """
        self.announced = told
        if told and self._recovery is not None:
            shrunk = 3 * self.rpc.timeouts.timeout * self._ir_factor // IR_FACTOR_MAX
            self._recovery.soft_s = max(self._soft_s, 2 * RECONNECT_DELAY_MAX_S, shrunk)

    @Param.trigger(unit="uuid", help='evict a client: "UUID", "uuid:UUID" or "nid:NID"')
    def evict_client(self, text: str) -> None:
        """Throw a client out; EINVAL for one that is not there."""
        wanted = text.strip()
        found = [export for export in self.exports if wanted in _names(export)]
        if not found:
            raise LustreError(errno.EINVAL, wanted)
        for export in found:
            export.evict("by an administrator")


def _names(export: Export) -> tuple[str, ...]:
    """What an administrator may call a client."""
    nid = str(Nid(export.nid))
    return export.client_uuid, f"uuid:{export.client_uuid}", f"nid:{nid}"

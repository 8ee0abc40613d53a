"""Pings: they keep a client known, tell it what is committed, and let go of an idle import.

Knows when to ping, not what follows from it. Stands for ptlrpc/pinger.c and the idle part of
ptlrpc/import.c. A ping is due a while after the last request went out, and soon after a reply that
left a change uncommitted.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from labsim.base.errors import LustreError
from labsim.net.ptlrpc import points
from labsim.net.ptlrpc.replay import Replaying
from labsim.net.ptlrpc.request import Request
from labsim.net.ptlrpc.rpc import PtlRpc
from labsim.net.ptlrpc.states import State
from labsim.runtime.ports import Steps
from labsim.wire.message import Message
from labsim.wire.opcodes import OBD_PING

NEVER = 1 << 63
ETIMEDOUT = 110


class Pinged(Replaying):
    """An import that is pinged while it is FULL.

    `idle_timeout_ns` (0: never) is how long after the last reply it may be given up while nothing
    is held over it: no request, nothing to replay, none of its `locks`.
    """

    __slots__ = (
        "_due_ns", "_pinger", "_recent_ns", "idle_timeout_ns", "locks", "pinger_recovers", "state",
    )  # fmt: skip

    def __init__(self, rpc: PtlRpc, peer: int, portals: tuple[int, int]) -> None:
        super().__init__(rpc, peer, portals)
        self.state = State.NEW
        self.idle_timeout_ns = 0
        self.pinger_recovers = True
        """It connects anew by itself, beyond the first attempt (imp_no_pinger_recover)."""
        self.locks: Sized = ()
        self._pinger: Any = None
        self._due_ns = NEVER
        self._recent_ns = -1
        """When a reply last left something uncommitted."""

    def call(self, request: Request) -> Steps[Message]:
        """Send a request and wait for its reply."""
        raise NotImplementedError

    def retreat(self) -> Steps[None]:
        """Disconnect, as nobody needs the connection."""
        raise NotImplementedError

    def watch(self) -> None:
        """Ping from now on, until the state is another than FULL."""
        self._due_ns = NEVER
        self._arm_ping(self._next_ping_ns())

    def unwatch(self) -> None:
        """No more pings."""
        if self._pinger is not None:
            self._pinger.cancel()
            self._pinger = None

    def expect_commit(self) -> None:
        """A change is not committed yet: ask soon, if nothing else is said till then."""
        self._recent_ns = self.rpc.env.now
        due_ns = self._recent_ns + self.rpc.short_interval_ns
        if due_ns < self._due_ns:
            self._arm_ping(due_ns)

    def _next_ping_ns(self) -> int:
        if self._recent_ns >= self.last_sent_ns:
            return self._recent_ns + self.rpc.short_interval_ns
        return self.last_sent_ns + self.rpc.ping_interval_ns

    def _arm_ping(self, due_ns: int) -> None:
        self.unwatch()
        self._due_ns = due_ns
        self._pinger = self.rpc.deadlines.add(due_ns, self._ping_due)

    def _ping_due(self) -> None:
        self._pinger = None
        self._due_ns = NEVER
        if self.state is not State.FULL:
            return
        due_ns, now_ns = self._next_ping_ns(), self.rpc.env.now
        if due_ns <= now_ns:
            due_ns = now_ns + self.rpc.ping_interval_ns
            if self.rpc.faults.hit(points.PTLRPC_IMP_DEACTIVE):
                self._arm_ping(due_ns)
                return
            self.rpc.env.process(self.retreat() if self.idle else self._ping())
        self._arm_ping(due_ns)

    @property
    def idle(self) -> bool:
        """Was nothing answered for so long, and is nothing held (ptlrpc_check_import_is_idle)?"""
        if not self.idle_timeout_ns or self.outstanding or self.first_transno:
            return False
        if self.rpc.env.now - self.last_reply_ns < self.idle_timeout_ns:
            return False
        return not self.locks

    def reached(self) -> Steps[None]:
        """Wait until it is FULL; ETIMEDOUT where that takes longer than obd_timeout."""
        env = self.rpc.env
        yield env.any_of([env.process(self._ping(False)), env.timeout(self.rpc.timeout_ns)])
        if self.state is not State.FULL:
            raise LustreError(ETIMEDOUT, self.name)

    def _ping(self, no_delay: bool = True) -> Steps[None]:
        request = Request(OBD_PING, no_resend=True, no_delay=no_delay)
        try:
            yield from self.call(request)
        except LustreError as error:
            self.rpc.trace.emit("import.ping", self.name, error.errno)

"""The recovery of a target: its clients come back and replay what a crash took.

Knows clients, transaction numbers and queues, not what the requests do. Stands for the recovery
half of ldlm/ldlm_lib.c: target_recovery_thread, target_queue_recovery_request,
check_and_start_recovery_timer, extend_recovery_timer, target_recovery_overseer.

Three stages: requests in the order of their transnos, locks, last pings. A stage ends when all
clients have told that they are through with it, or when time is up.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from labsim.base.faults import Dropped, Point
from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc import points
from labsim.net.ptlrpc.rpc import PtlRpc
from labsim.net.ptlrpc.server_request import ServerRequest
from labsim.net.ptlrpc.timeouts import timeout_of
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Gate
from labsim.wire import opcodes
from labsim.wire.constants import MSG_LOCK_REPLAY_DONE, MSG_REQ_REPLAY_DONE

EAGAIN, ENOTCONN = 11, 107

RECONNECT_DELAY_MAX_S = 60
"""How long the window goes on after who was silent has been evicted."""

GOODBYES = frozenset({opcodes.MDS_DISCONNECT, opcodes.OST_DISCONNECT, opcodes.OBD_IDX_READ})
"""Done at any time."""

PERMITTED = frozenset({
    opcodes.MDS_CLOSE, opcodes.MDS_SYNC, opcodes.OBD_PING, opcodes.MDS_REINT, opcodes.OUT_UPDATE,
    opcodes.SEQ_QUERY, opcodes.FLD_QUERY, opcodes.FLD_READ, opcodes.LDLM_ENQUEUE,
    opcodes.OST_CREATE, opcodes.OST_DESTROY, opcodes.OST_PUNCH, opcodes.OST_SETATTR,
    opcodes.OST_SYNC, opcodes.OST_WRITE, opcodes.MDS_HSM_PROGRESS, opcodes.MDS_HSM_STATE_SET,
    opcodes.MDS_HSM_REQUEST, opcodes.MDS_SWAP_LAYOUTS,
})  # fmt: skip
"""What else may come while a target recovers (tgt_filter_recovery_request)."""


class Executor(Protocol):
    """The service that a request came to, which also does it."""

    times: Any

    def run(self, req: ServerRequest) -> None:
        """Do it now, or when a thread is free."""
        ...

    def execute(self, req: ServerRequest) -> Steps[None]:
        """Do it in the caller's process."""
        ...

    def refuse(self, req: ServerRequest, errno: int) -> None:
        """Answer it with an error."""
        ...

    def drop(self, req: ServerRequest) -> None:
        """Forget it without an answer."""
        ...


class Waiting:
    """A request that waits for its turn, in the order of transnos."""

    __slots__ = ("req", "service", "transno")

    def __init__(self, service: Executor, req: ServerRequest) -> None:
        self.service = service
        self.req = req
        self.transno: int = req.body.transno

    def __lt__(self, other: Waiting) -> bool:
        return self.transno < other.transno


class Part:
    """One client's part: what it still has to do, and how much of it waits here."""

    __slots__ = ("joined", "locks_needed", "queued", "requests_needed", "vbr_failed")

    def __init__(self) -> None:
        self.joined = False
        """It has connected (exp_in_recovery)."""
        self.requests_needed = False
        self.locks_needed = False
        self.queued = 0
        """Its requests in the queues, with the one being done (exp_replay_count)."""
        self.vbr_failed = False
        """A replay of it found another version than it knew; it is evicted at the end."""

    @property
    def finished(self) -> bool:
        """Has it told of all its locks? Nothing is expected of it but its last ping."""
        return self.joined and not self.locks_needed


class Recovery:
    """One recovery: from the start of a target that knows clients until all have had their chance.

    `soft_s` and `hard_s` bound the window that begins with the first client to come back.
    `on_end` is called when normal service may begin, before the last pings are answered.
    """

    def __init__(
        self,
        rpc: PtlRpc,
        target: Any,
        next_transno: int,
        at: Callable[[Point], Steps[None]],
        on_end: Callable[[], Steps[None]],
    ) -> None:
        self._rpc = rpc
        self._target = target
        self._at = at
        self._on_end = on_end
        self._changed = Gate(rpc.env)
        self._alarm: Any = None
        self._requests: list[Waiting] = []
        self._locks: deque[Waiting] = deque()
        self._pings: dict[Any, Waiting] = {}
        self._aborted = self._expired = self._stopped = False
        self.expected = len(target.exports)
        """Clients that were here before (obd_max_recoverable_clients)."""
        self.connected = self.stale = 0
        self.requests_left = self.locks_left = 0
        self.next_transno = next_transno
        self.replayed = self.replayed_locks = 0
        self.by_version = False
        """Somebody is missing, so only versions tell what may be replayed (obd_version_recov)."""
        self.soft_s: int = target.recovery_time_soft
        self.hard_s: int = target.recovery_time_hard
        self.started_ns: int | None = None
        self.started_s = self.ended_s = 0
        for export in target.exports:
            export.part = Part()

    @property
    def over(self) -> bool:
        """True once normal service has begun."""
        return bool(self.ended_s)

    @property
    def queued(self) -> int:
        """Requests that wait for those before them."""
        return len(self._requests)

    # ---- the window

    def heard(self, req: ServerRequest, new: bool) -> None:
        """A client knocks: the window begins with the first, and is long enough for the others.

        Who comes back tells how long its target took to answer; the others time out after that,
        and then try the other nodes (check_and_start_recovery_timer).
        """
        limits = self._rpc.timeouts
        if self.started_ns is None:
            self.started_ns = self._rpc.env.now
            self.started_s = self._rpc.now_s
            self._arm()
        switch_max = min(50, max(5, limits.timeout))
        initial = max(5, limits.timeout // 20)
        took_s = timeout_of(req.body.service_time)
        if self._rpc.faults.hit(points.TGT_SLUGGISH_NET):
            took_s = max(took_s, limits.at_extra)
        wait_s = took_s + 2 * initial + 2 * (switch_max + 5)
        if not new:
            self._extend(wait_s, from_now=False)

    def _extend(self, seconds: int, from_now: bool) -> None:
        """Make the window last `seconds` from now on, or in all; never past the hard limit."""
        if self.over or self._aborted or self.started_ns is None:
            return
        until_s = self.soft_s
        left_s = self.soft_s - (self._rpc.env.now - self.started_ns) // NS_PER_S
        if from_now and seconds > left_s:
            until_s += seconds - left_s
        elif not from_now and seconds > until_s:
            until_s = seconds
        until_s = min(until_s, self.hard_s)
        if self.soft_s < until_s:
            self.soft_s = until_s
            self._arm()

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        assert self.started_ns is not None
        at_ns = max(self.started_ns + self.soft_s * NS_PER_S, self._rpc.env.now)
        self._alarm = self._rpc.deadlines.add(at_ns, self._expire)

    def _expire(self) -> None:
        self._alarm = None
        self._expired = True
        self._rpc.trace.emit("recovery.expired", self._target.name, self.locks_left)
        self._changed.pulse()

    @property
    def left_s(self) -> int:
        """Seconds until the window closes."""
        if self.started_ns is None:
            return self.soft_s
        return max(self.soft_s - (self._rpc.env.now - self.started_ns) // NS_PER_S, 0)

    def abort(self) -> None:
        """Do not wait any longer: who is not through is evicted (lctl abort_recovery)."""
        self._aborted = True
        self._changed.pulse()

    def stop(self) -> None:
        """The target stops; nobody is evicted, and the next start begins again."""
        self._stopped = True
        self._changed.pulse()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # ---- clients

    def deny(self, uuid: str) -> None:
        """A new client was told to come back later."""
        self._rpc.trace.emit("recovery.denied", self._target.name, uuid, self.left_s)

    def join(self, export: Any, transno: int) -> None:
        """A client has connected; `transno` is the first that it wants to replay, 0 for none."""
        if export.part is None:
            export.part = Part()
            self.expected += 1
        part: Part = export.part
        if part.joined:
            return
        part.joined = part.requests_needed = part.locks_needed = True
        if self._target.last_committed < transno < self.next_transno:
            self.next_transno = transno
        self.requests_left += 1
        self.locks_left += 1
        self.connected += 1
        self._rpc.trace.emit("recovery.join", self._target.name, export.client_uuid, transno)
        self._changed.pulse()

    def leave(self, export: Any) -> None:
        """A client says goodbye, or is evicted (class_export_recovery_cleanup)."""
        part: Part | None = export.part
        export.part = None
        if part is None or self.over:
            return
        self.connected -= part.joined
        self.requests_left -= part.requests_needed
        self.locks_left -= part.locks_needed
        self.stale += 1
        if not self._aborted:  # else they are refused
            for one in [one for one in self._requests if one.req.export is export]:
                self._requests.remove(one)
                one.service.drop(one.req)
        ping = self._pings.pop(export, None)
        if ping is not None:
            ping.service.drop(ping.req)
        self._changed.pulse()

    def _evict_unless(self, healthy: Callable[[Part], bool], why: str) -> None:
        for export in self._target.exports:
            if export.part is not None and not healthy(export.part):
                export.evict(why)

    # ---- requests that come meanwhile

    def take(self, service: Executor, req: ServerRequest) -> Steps[None]:
        """Sort a request of a client in: done now, kept until its turn, or refused."""
        part: Part | None = req.export.part
        if self.over or part is None or req.opcode in GOODBYES:
            service.run(req)
        elif req.opcode not in PERMITTED:
            service.refuse(req, EAGAIN)
        elif req.body.flags & MSG_LOCK_REPLAY_DONE:
            self._note(part, req.body.flags)
            yield from self._keep_ping(service, req)
        elif req.body.flags & MSG_REQ_REPLAY_DONE:
            self._note(part, req.body.flags)
            if part.joined:
                part.queued += 1
                self._locks.append(Waiting(service, req))
            else:
                service.refuse(req, ENOTCONN)
        elif not req.body.transno or req.body.transno < self.next_transno:
            service.run(req)
        else:
            yield from self._keep_request(service, req, part)
        self._changed.pulse()

    def _note(self, part: Part, flags: int) -> None:
        """What the flags of a request say of its client's progress (target_process_req_flags)."""
        if flags & MSG_REQ_REPLAY_DONE and part.requests_needed:
            part.requests_needed = False
            self.requests_left -= 1
        if flags & MSG_LOCK_REPLAY_DONE and part.locks_needed:
            part.locks_needed = False
            self.locks_left -= 1

    def _keep_ping(self, service: Executor, req: ServerRequest) -> Steps[None]:
        """The last ping of a client is answered when all are through; a newer takes its place."""
        try:
            yield from self._at(points.TGT_RECOVERY_REQ_RACE)
        except Dropped:
            service.drop(req)
            return
        if self.over or req.export.closed:
            service.run(req)
            return
        older = self._pings.pop(req.export, None)
        if older is not None:
            older.service.drop(older.req)
        self._pings[req.export] = Waiting(service, req)

    def _keep_request(self, service: Executor, req: ServerRequest, part: Part) -> Steps[None]:
        try:
            yield from self._at(points.TGT_REPLAY_DROP)
        except Dropped:
            service.drop(req)
            return
        if not part.joined:
            service.refuse(req, ENOTCONN)
            return
        one = Waiting(service, req)
        if any(other.transno == one.transno for other in self._requests):
            self._rpc.trace.emit("recovery.claimed", self._target.name, one.transno)
            service.drop(req)
            return
        part.queued += 1
        insort(self._requests, one)

    # ---- the stages

    def run(self) -> Steps[None]:
        """The process that does it all."""
        self._rpc.trace.emit("recovery.begin", self._target.name, self.expected, self.next_transno)
        if (yield from self._oversee(self._all_here, _has_joined)):
            self._refuse_all()
        yield from self._replay_requests()
        yield from self._replay_locks()
        if self._stopped:
            return
        yield from self._at(points.TGT_REPLAY_RECONNECT)
        yield from self._finish()

    def _oversee(self, ready: Callable[[], bool], healthy: Callable[[Part], bool]) -> Steps[bool]:
        """Wait for `ready`; when time is up evict who is not `healthy`. True where all is over."""
        while True:
            hard_ns = self.hard_s * NS_PER_S
            if self.started_ns is not None and self._rpc.env.now >= self.started_ns + hard_ns:
                self._aborted = True
            while not (self._stopped or self._aborted or self._expired or ready()):
                yield self._changed.wait()
            if self._stopped:
                return True
            if self._aborted:
                self._evict_unless(_has_finished, "recovery was aborted")
                return True
            if not self._expired:
                return False
            self._expired = False
            self._evict_unless(healthy, "recovery timed out")
            self.by_version = True
            self._extend(RECONNECT_DELAY_MAX_S, from_now=True)

    def _all_here(self) -> bool:
        return self.connected + self.stale >= self.expected

    def _replay_requests(self) -> Steps[None]:
        """Stage one: what has a transno, one after the other."""
        while True:
            yield from self._at(points.TGT_REPLAY_DELAY2)
            yield from self._at(points.TGT_REPLAY_DELAY)
            if (yield from self._oversee(self._next_here, _has_request)):
                self._refuse_all()
            if not self._requests:
                break
            one = self._requests.pop(0)
            yield from self._execute(one)
            self.next_transno += 1
            self.replayed += 1
        if not self._stopped:
            self._evict_unless(_has_versions, "a replay found another version")

    def _next_here(self) -> bool:
        """Is the next transno here, or is nobody left who could bring it?

        A gap is what was never answered, or answered to somebody who is gone: it is skipped when
        every client that replays has its next request here.
        """
        if self._requests:
            first = self._requests[0].transno
            if first != self.next_transno and len(self._requests) >= self.requests_left:
                self._rpc.trace.emit("recovery.gap", self._target.name, self.next_transno, first)
                self.next_transno = first
            elif self._rpc.faults.hit(points.MDS_RECOVERY_ACCEPTS_GAPS):
                self.next_transno = first
            return first == self.next_transno
        return self.requests_left == 0

    def _replay_locks(self) -> Steps[None]:
        """Stage two: the locks that clients hold, in the order they come."""
        while True:
            if (yield from self._oversee(self._lock_here, _has_lock)):
                self._refuse_all()
            if not self._locks:
                break
            yield from self._execute(self._locks.popleft())
            self.replayed_locks += 1
        if not self._stopped:
            self._evict_unless(_has_versions, "a replay found another version")

    def _lock_here(self) -> bool:
        return bool(self._locks) or self.locks_left == 0

    def _execute(self, one: Waiting) -> Steps[None]:
        """Do one kept request; its client gets time to send the next."""
        export, req = one.req.export, one.req
        if export.closed:
            one.service.drop(req)
            return
        yield from one.service.execute(req)
        part: Part | None = export.part
        if part is None:
            return
        part.queued -= 1
        if not part.finished:
            limits = self._rpc.timeouts
            seconds = limits.timeout
            if limits.at_max:
                estimate_s = timeout_of(one.service.times.estimate.get(limits))
                seconds = max(estimate_s, req.body.timeout) + 2 * req.body.service_time
            self._extend(seconds, from_now=True)

    def _refuse_all(self) -> None:
        """Nobody waits any longer: what is kept of requests and locks gets ENOTCONN."""
        kept = [*self._requests, *self._locks]
        self._requests.clear()
        self._locks.clear()
        for one in kept:
            if self._stopped:
                one.service.drop(one.req)
            else:
                one.service.refuse(one.req, ENOTCONN)

    def _finish(self) -> Steps[None]:
        """Stage three: normal service begins, and the last pings are answered."""
        yield from self._on_end()
        self.ended_s = max(self._rpc.now_s, 1)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._target.exports.recovery = None
        now = self._rpc.env.now
        for export in self._target.exports:
            export.part = None
            export.last_heard_ns = now
        self._rpc.trace.emit(
            "recovery.end", self._target.name, self.replayed, self.replayed_locks, self.stale
        )
        pings, self._pings = list(self._pings.values()), {}
        for one in pings:
            one.service.run(one.req)


def _has_joined(part: Part) -> bool:
    return part.joined


def _has_request(part: Part) -> bool:
    return not part.requests_needed or part.queued > 0


def _has_lock(part: Part) -> bool:
    return not part.locks_needed or part.queued > 0


def _has_finished(part: Part) -> bool:
    return part.finished


def _has_versions(part: Part) -> bool:
    return not part.vbr_failed

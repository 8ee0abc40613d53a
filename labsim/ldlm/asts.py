"""What a server asks of the clients that hold its locks, and what follows if they do not answer.

Knows callbacks and deadlines, not queues. Stands for ldlm_server_blocking_ast and its
kin, and for the waiting list (ldlm_lockd.c).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.faults import Dropped, Point
from labsim.base.params import Param
from labsim.base.units import NS_PER_S
from labsim.ldlm import lvb, points
from labsim.ldlm.desc import describe
from labsim.ldlm.namespace import ENQUEUE_MIN_S, Namespace
from labsim.ldlm.policy import Ibits, Policy
from labsim.ldlm.server_lock import ServerLock
from labsim.net.ptlrpc import Export, Request, ServerRequest
from labsim.runtime.ports import Host, Steps
from labsim.runtime.sync import Permits
from labsim.wire.constants import (
    LDLM_EXTENT,
    LDLM_FL_AST_DISCARD_DATA,
    LDLM_FL_AST_SENT,
    LDLM_FL_DISCARD_DATA,
    OBD_CONNECT_LVB_TYPE,
)
from labsim.wire.ldlm import LdlmRequest
from labsim.wire.message import Message
from labsim.wire.opcodes import LDLM_BL_CALLBACK, LDLM_CP_CALLBACK, LDLM_GL_CALLBACK
from labsim.wire.ost import OstLvb

EINVAL, ENOTCONN, ESHUTDOWN, ETIMEDOUT, EHOSTUNREACH = 22, 107, 108, 110, 113

UNREACHABLE = frozenset({ETIMEDOUT, ENOTCONN, ESHUTDOWN, EHOSTUNREACH})
"""The callback did not arrive."""

UNLIMITED = 1 << 31


class Asts(Namespace):
    """Base of ServerNamespace: blocking, completion and glimpse callbacks."""

    target: Any
    server = True

    max_parallel_ast = Param.count(
        1024, unit="ASTs", help="callbacks under way at once; 0: no limit"
    )

    def __init__(self, host: Host, name: str) -> None:
        super().__init__(host, name)
        self._expired_count = 0
        self.on_wanted: Callable[[ServerLock], None] = _nothing
        """Told when somebody waits for a lock of the server's own."""
        self._slots = Permits(self.env, self.max_parallel_ast)
        self._awaited: dict[int, ServerLock] = {}
        """Locks that were called back and did not come yet, by cookie (waiting_locks_list)."""

    def set_max_parallel_ast(self, count: int) -> None:
        """More or fewer callbacks may be under way."""
        self.max_parallel_ast = count
        self._slots.resize(count or UNLIMITED)

    @Param.computed(unit="count", help="locks whose holder was evicted for not giving them back")
    def lock_timeouts(self) -> int:
        """How often a client that had heard was evicted over a lock (ns_timeouts)."""
        return self._expired_count

    def callback_timeout_ns(self, export: Export) -> int:
        """How long a client may take to give a lock back (ldlm_bl_timeout).

        Half as long again as it was seen to take, LDLM_ENQUEUE_MIN at least: who waits for the
        lock is kept by early replies. Without those half of obd_timeout, so that a waiter is
        answered before its request times out.
        """
        if export.reverse is None or not export.reverse.adaptive:
            return export.rpc.timeout_ns // 2
        estimate_s = export.lock_times.get(export.rpc.timeouts)
        return max(estimate_s + (estimate_s >> 1), ENQUEUE_MIN_S) * NS_PER_S

    def ast_timeout_ns(self, export: Export) -> int | None:
        """How long a callback may go unanswered (ldlm_get_rq_timeout); None: as it is learned."""
        if export.reverse is not None and export.reverse.adaptive:
            return None
        timeouts = export.rpc.timeouts
        return max(min(timeouts.ldlm_timeout, timeouts.timeout // 3), 1) * NS_PER_S

    # ---- calling a lock back

    def ask_back(self, lock: ServerLock, waiter: ServerLock) -> None:
        """`waiter` is held up by `lock`: have its client give it back, once.

        The server's own locks go soon by themselves. A lock that its client does not know yet is
        called back by the reply that hands it over.
        """
        if lock.export is None:
            self.on_wanted(lock)
            return
        if lock.asked or lock.export.closed:
            return
        lock.asked = True
        if lock.handed:
            self.await_cancel(lock)
            self.env.process(self._blocking(lock, waiter))

    def await_cancel(self, lock: ServerLock) -> None:
        """From now on the client has so long, and no longer."""
        if lock.export is not None and not lock.gone:
            lock.asked_s = lock.export.rpc.now_s
            self._await(lock, lock.export, self.callback_timeout_ns(lock.export))

    def _await(self, lock: ServerLock, export: Export, wait_ns: int) -> None:
        self.calm(lock)
        at_ns = self.env.now + wait_ns
        lock.deadline = export.rpc.deadlines.add(at_ns, lambda: self._expired(lock, export))
        self._awaited[lock.cookie] = lock

    def _expired(self, lock: ServerLock, export: Export) -> None:
        """Time is up, unless this server itself is at work under the lock (ldlm_lock_busy)."""
        wait_ns = self.callback_timeout_ns(export)
        if any(self._is_under(req, lock) for req in export.running.values()):
            self._await(lock, export, wait_ns // 2)
            return
        self._expired_count += 1
        self.host.trace.emit("ldlm.timeout", self.name, export.client_uuid, lock.cookie)
        export.evict(f"lock callback timer expired after {wait_ns // NS_PER_S}s")

    def _is_under(self, req: ServerRequest, lock: ServerLock) -> bool:
        """Does a request do I/O under a lock (hpreq_lock_match)?"""
        touches = self.target.touches(req)
        return touches is not None and (
            lock.resource.name == touches[0] and lock.policy.meets(touches[1])
        )

    def calm(self, lock: ServerLock) -> None:
        """The lock came back, or goes with its client."""
        if lock.deadline is not None:
            lock.deadline.cancel()
            lock.deadline = None
            self._awaited.pop(lock.cookie, None)

    def prolong(self, export: Export, resource: Any, policy: Policy) -> None:
        """The client does I/O under locks that were called back: it is alive, give it more time."""
        for lock in list(self._awaited.values()) if self._awaited else ():
            same = lock.export is export and lock.resource.name == resource
            if same and lock.policy.kind == policy.kind and lock.policy.meets(policy):
                self.await_cancel(lock)

    def remove(self, lock: ServerLock) -> None:
        """The lock goes."""
        raise NotImplementedError

    def _blocking(self, lock: ServerLock, waiter: ServerLock) -> Steps[None]:
        """LDLM_BL_CALLBACK; carries what the waiter wants, and whether the data is to be lost."""
        flags = LDLM_FL_DISCARD_DATA if waiter.flags & LDLM_FL_AST_DISCARD_DATA else 0
        desc = describe(waiter.resource.name, waiter.mode, _named(waiter.wanted))
        if (yield from self._forgotten(points.LDLM_SRV_BL_AST)):
            return
        yield from self._deliver(lock, LDLM_BL_CALLBACK, desc, flags, {})

    # ---- telling that a lock is granted

    def tell_granted(self, lock: ServerLock, wanted_back: bool) -> None:
        """A client's lock has left the queue; it may be wanted by the next one already."""
        if lock.export is None:
            return
        if wanted_back:
            lock.asked = True
            self.await_cancel(lock)
        self.env.process(self._completion(lock))

    def _completion(self, lock: ServerLock, flags: int = 0) -> Steps[None]:
        flags |= LDLM_FL_AST_SENT if lock.asked else 0
        desc = describe(lock.resource.name, lock.mode, lock.policy, lock.mode)
        fields: dict[str, Any] = {}
        if lock.resource.kind == LDLM_EXTENT and lock.export is not None:
            try:
                fields["dlm_lvb"] = self.value_for(lock.export, lock)
            except LustreError as error:
                self.host.trace.emit("ldlm.no_lvb", self.name, error.errno)
        if (yield from self._forgotten(points.LDLM_SRV_CP_AST)):
            return
        yield from self._deliver(lock, LDLM_CP_CALLBACK, desc, flags, fields)

    # ---- sending

    def _forgotten(self, point: Point) -> Steps[bool]:
        """Does a fault point make this server forget to send a callback?"""
        try:
            yield from self.at(point)
        except Dropped:
            return True
        return False

    def _deliver(
        self, lock: ServerLock, opcode: int, desc: Any, flags: int, fields: dict[str, Any]
    ) -> Steps[None]:
        """Send until it is answered, as long as there is a lock and a client."""
        assert lock.export is not None
        limit_ns = self.env.now + self.callback_timeout_ns(lock.export)
        yield from self._slots.take()
        try:
            while lock.concerns_client:
                try:
                    yield from self._call(lock, opcode, desc, flags, fields)
                    return
                except LustreError as error:
                    if not self._undelivered(lock, error, limit_ns):
                        return
                    if lock.deadline is not None:
                        self.await_cancel(lock)  # it did not hear of it before (ldlm_update_resend)
        finally:
            self._slots.give()

    def _call(
        self, lock: ServerLock, opcode: int, desc: Any, flags: int, fields: dict[str, Any]
    ) -> Steps[Message]:
        """One callback and its answer."""
        export = lock.export
        assert export is not None and export.reverse is not None
        dlm_req = LdlmRequest(
            lock_flags=flags, lock_count=1, lock_desc=desc, lock_handle=(lock.client_cookie, 0)
        )
        request = Request(opcode, timeout_ns=self.ast_timeout_ns(export), dlm_req=dlm_req, **fields)
        return (yield from export.reverse.call(request))

    def _undelivered(self, lock: ServerLock, error: LustreError, limit_ns: int) -> bool:
        """A callback failed; True where it is worth another try (ldlm_handle_ast_error).

        Who says that it knows no such connection has booted: it is evicted at once. Who has no such
        lock has given it up, and its cancel may be on the way; any other error changes nothing.
        """
        export = lock.export
        assert export is not None
        if lock.gone or export.closed:
            return False
        if error.errno == EINVAL:
            self.remove(lock)
        if error.errno not in UNREACHABLE:
            return False
        if error.errno == ETIMEDOUT and self.env.now < limit_ns:
            return True
        self.host.trace.emit("ldlm.undelivered", self.name, export.client_uuid, lock.cookie)
        export.evict("lock callback was not answered")
        return False

    # ---- glimpse

    def glimpse(self, lock: ServerLock) -> Steps[OstLvb | None]:
        """Ask the holder of a write lock for size and times; None where it has nothing to say."""
        if not lock.concerns_client:
            return None
        if (yield from self._forgotten(points.LDLM_SRV_GL_AST)):
            return None
        desc = describe(lock.resource.name, lock.mode, lock.policy, lock.mode)
        try:
            reply = yield from self._call(lock, LDLM_GL_CALLBACK, desc, 0, {})
        except LustreError as error:
            self._undelivered_glimpse(lock, error)
            return None
        seen = reply.get("dlm_lvb")
        return lvb.read(seen) if seen else None

    def _undelivered_glimpse(self, lock: ServerLock, error: LustreError) -> None:
        """A client that does not answer is evicted: what it has cached cannot be known.

        One that has nothing cached (ELDLM_NO_LOCK_DATA) keeps its lock; one that has no such lock
        has lost it, and what it had cached is on disk.
        """
        if lock.gone or lock.export is None or lock.export.closed:
            return
        if error.errno == EINVAL:
            self.remove(lock)
        elif error.errno in UNREACHABLE:
            lock.export.evict("glimpse callback was not answered")

    def value_for(self, export: Export, lock: ServerLock) -> bytes:
        """The value block of an extent lock's object, in the form that the client knows."""
        block = lvb.read(self.target.lvb(lock.resource.name))
        return lvb.packed(block, export.granted(OBD_CONNECT_LVB_TYPE))


def _nothing(_lock: ServerLock) -> None:
    """It will go soon anyway."""


def _named(wanted: Policy) -> Policy:
    """What a waiter wants; inodebits once more as cancel_bits, for who can do without just them."""
    return Ibits(wanted.bits, wanted.bits) if isinstance(wanted, Ibits) else wanted

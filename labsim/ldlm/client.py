"""The locks that a client has from one target.

Knows enqueues, references and giving locks back, not what the locks protect. Stands for a client's
struct ldlm_namespace and ldlm_request.c.

A lock is in use while somebody has a reference from `enqueue` or `match`. Unused ones stay in the
LRU until the server calls them back, or there are too many, or they are too old.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.units import NS_PER_S
from labsim.ldlm.client_flocks import ClientFlocks
from labsim.ldlm.client_lock import Blocking, ClientLock, Glimpse, LockState
from labsim.ldlm.desc import answer_of, describe
from labsim.ldlm.namespace import ENQUEUE_MIN_S
from labsim.ldlm.policy import WHOLE, Extent, Ibits, Policy, covers
from labsim.ldlm.resource import ResName
from labsim.net.ptlrpc import CallbackExport, Import, Request
from labsim.net.ptlrpc.timeouts import Estimate
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    LDLM_FL_AST_SENT,
    LDLM_FL_BLOCKED_MASK,
    LDLM_FL_HAS_INTENT,
    LDLM_FL_NO_TIMEOUT,
)
from labsim.wire.ldlm import LdlmReply, LdlmRequest
from labsim.wire.message import Message
from labsim.wire.opcodes import LDLM_ENQUEUE

EIO = 5


class ClientNamespace(ClientFlocks):
    """One client's locks of one target; made before its import connects.

    `name` is the client device's ("lustre-MDT0000-mdc-ffff88003a5c1000").
    """

    def __init__(self, node: Any, imp: Import, name: str) -> None:
        super().__init__(node.host, imp, name)
        self.module = node.ldlm_module
        self._grant_times: Estimate | None = None
        """How long locks that were not free took to be granted (nsb_at_estimate)."""
        cookie = imp.rpc.cookie()
        imp.callback_cookie = cookie
        self._export = CallbackExport(imp.rpc, self, imp, cookie)
        imp.rpc.exports[cookie] = self._export
        imp.on_evicted += (self.invalidate,)
        imp.on_replay_locks += (self.replay_locks,)

    def close(self) -> None:
        """The mount goes: forget all locks, without a word to the server."""
        self.imp.rpc.exports.pop(self._export.cookie, None)
        self.invalidate()
        self.stop_scan()
        self.unmount()

    # ---- having locks

    def match(
        self, resource: ResName, mode: int, *, bits: int = 0, extent: Extent | None = None
    ) -> ClientLock | None:
        """A granted lock that serves for this, with a reference; None where there is none.

        `mode` may be a mask of modes; a stronger mode serves too (PW for PR).
        """
        wanted = _policy(bits, extent)
        for lock in self.of(resource):
            if lock.usable and covers(lock.mode, lock.policy, mode, wanted):
                return self.use(lock)
        return None

    def twin(self, lock: ClientLock) -> ClientLock | None:
        """Another lock that serves as well as this one, with a reference.

        For intents: the server's answer may be on an inode that is locked already.
        """
        for other in self.of(lock.resource):
            same = other is not lock and other.usable and other.mode == lock.mode
            if same and other.policy.includes(lock.policy):
                return self.use(other)
        return None

    def hold(self, lock: ClientLock) -> bool:
        """Take a reference on a lock that is known; False where it may not be used any more."""
        if lock.usable:
            self.use(lock)
            return True
        return False

    def put(self, lock: ClientLock, cancel: bool = False) -> None:
        """Drop a reference; the last one puts the lock into the LRU, or gives it back.

        `cancel`: give it back as soon as nobody uses it.
        """
        assert lock.refs > 0, "a lock was put once too often"
        lock.refs -= 1
        lock.cancel_pending |= cancel
        if lock.refs or lock.state is not LockState.GRANTED:
            return
        if lock.cancel_pending:
            self.start_cancel(lock)
        else:
            self.lru.add(lock, self.env.now)
            self.shrink()

    # ---- asking for locks

    def enqueue(
        self,
        resource: ResName,
        mode: int,
        *,
        bits: int = 0,
        optional: int = 0,
        extent: Extent | None = None,
        flags: int = 0,
        blocking: Blocking | None = None,
        glimpse: Glimpse | None = None,
        data: Any = None,
        early: Iterable[int] = (),
        **fields: Any,
    ) -> Steps[tuple[ClientLock | None, Message]]:
        """Ask the server for a lock; returns it with a reference, and the reply.

        `early` are handles of locks given up along with the request (`take_early`).

        An intent's buffers (`ldlm_intent`, `mdt_body`, `name` ...) go in `fields`. The lock is None
        where the server did not give one (ELDLM_LOCK_ABORTED): the intent's result is then all
        there is. With an intent the lock may be on another resource than was asked for. Raises
        what the import raises, and EIO where the client is evicted while it waits.
        """
        policy = _policy(bits, extent, optional)
        lock = ClientLock(self.new_cookie(self.locks.__contains__), resource, mode, policy)
        lock.blocking, lock.glimpse, lock.data = blocking, glimpse, data
        if "ldlm_intent" in fields:
            flags |= LDLM_FL_HAS_INTENT
        self.add(lock)
        settled = False
        try:
            request = self._request(lock, flags, early, fields)
            reply: Message = yield from self.imp.call(request)
            if reply.status > 0:
                return None, reply
            yield from self._settle(lock, reply)
            settled = True
        finally:
            if not settled:
                self.drop(lock)
                lock.state = LockState.GONE
        return lock, reply

    def _request(
        self, lock: ClientLock, flags: int, early: Iterable[int], fields: dict[str, Any]
    ) -> Request:
        handles = (lock.cookie, *early)
        dlm_req = LdlmRequest(
            lock_flags=flags,
            lock_count=len(handles),
            lock_desc=describe(lock.resource, lock.mode, lock.policy),
            lock_handle=handles if len(handles) > 1 else (lock.cookie, 0),
        )
        request = Request(LDLM_ENQUEUE, dlm_req=dlm_req, **fields)
        self.pack_cancels(request, new=1)
        return request

    def _settle(self, lock: ClientLock, reply: Message) -> Steps[None]:
        """Take what the server says; wait where the lock is not granted yet.

        The completion callback may have overtaken the reply: then it knows better.
        """
        rep = answer_of(reply)
        lock.server_handle = rep.lock_handle
        if lock.state is LockState.ASKED and not lock.failed:
            self.adopt(lock, rep.lock_desc)
            lock.lvb = reply.get("dlm_lvb") or b""
            if rep.lock_flags & LDLM_FL_BLOCKED_MASK:
                lock.state = LockState.WAITING
                lock.granted = self.env.event()
                yield from self._await_grant(lock, rep)
            else:
                self.now_granted(lock)
        if lock.failed:
            raise LustreError(EIO, f"{self.name}: evicted while waiting for a lock")
        if rep.lock_flags & LDLM_FL_AST_SENT:
            lock.cancel_pending = True

    def _await_grant(self, lock: ClientLock, rep: LdlmReply) -> Steps[None]:
        """Wait for the completion callback; when it takes long, connect anew, once.

        What waits for a group's lock may wait for ever (ldlm_completion_ast).
        """
        began_s, doubt = self.imp.rpc.now_s, None
        if not rep.lock_flags & LDLM_FL_NO_TIMEOUT:
            connection, wait_ns = self.imp.conn_cnt, self._grant_timeout_ns()

            def long() -> None:
                self.host.trace.emit("ldlm.waits", self.name, lock.cookie, wait_ns // NS_PER_S)
                if self.imp.conn_cnt == connection:
                    self.imp.lost("lock timed out")

            doubt = self.imp.rpc.deadlines.add(self.env.now + wait_ns, long)
        try:
            yield lock.granted
        finally:
            if doubt is not None:
                doubt.cancel()
        if self._grant_times is None:
            self._grant_times = Estimate(0, began_s)
        now_s = self.imp.rpc.now_s
        self._grant_times.measured(now_s - began_s, now_s, self.imp.rpc.timeouts)

    def _grant_timeout_ns(self) -> int:
        """Three times as long as grants were seen to take, LDLM_ENQUEUE_MIN at least."""
        timeouts = self.imp.rpc.timeouts
        if not self.imp.adaptive:
            return timeouts.timeout * NS_PER_S
        seen_s = self._grant_times.get(timeouts) if self._grant_times is not None else 0
        return max(3 * seen_s, ENQUEUE_MIN_S) * NS_PER_S

    # ---- giving locks back

    def cancel(self, lock: ClientLock) -> Steps[None]:
        """Give a lock back, and wait until the server knows; if it is in use, do so later."""
        lock.cancel_pending = True
        if lock.refs == 0:
            if lock.state is LockState.GRANTED:
                self.start_cancel(lock)
            yield from self.wait_gone([lock])

    def cancel_unused(self, resource: ResName | None = None) -> Steps[None]:
        """Give back all locks that nobody uses, or those of one resource."""
        if resource is None:
            yield from self.clear()
            return
        locks = [lock for lock in self.of(resource) if lock in self.lru]
        for lock in locks:
            self.start_cancel(lock)
        yield from self.wait_gone(locks)

    def invalidate(self) -> None:
        """The server has forgotten this client: all locks are void, what they cover is stale."""
        for lock in list(self.locks.values()):
            lock.failed = lock.discard = lock.cancel_pending = True
            if lock.granted is not None and not lock.granted.triggered:
                lock.granted.succeed()
            elif lock.state is LockState.GRANTED and lock.refs == 0:
                self.start_cancel(lock)
        self.lose_flocks()


def _policy(bits: int, extent: Extent | None, optional: int = 0) -> Policy:
    """The policy that the arguments of a call name."""
    if extent is not None:
        return extent
    return Ibits(bits, optional) if bits else WHOLE

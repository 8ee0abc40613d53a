"""What the server asks of a client about its locks.

Knows the three callbacks, nothing of how locks are asked for. Stands for the ldlm_cbd service
(ldlm_callback_handler in ldlm_lockd.c). A callback that names a lock which is not here, or already
on its way out, is answered with EINVAL.
"""

from __future__ import annotations

from labsim.base.errors import LustreError
from labsim.base.units import NS_PER_S
from labsim.ldlm import points
from labsim.ldlm.client_lock import ClientLock, LockState
from labsim.ldlm.desc import first_handle, policy_of, request_of
from labsim.ldlm.holdings import Holdings
from labsim.ldlm.policy import Ibits
from labsim.net.ptlrpc import ServerRequest, handles
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    ELDLM_NO_LOCK_DATA,
    LCK_PW,
    LDLM_FL_AST_SENT,
    LDLM_FL_DISCARD_DATA,
    LDLM_FL_FLOCK_DEADLOCK,
)
from labsim.wire.message import Message
from labsim.wire.opcodes import LDLM_BL_CALLBACK, LDLM_CP_CALLBACK, LDLM_GL_CALLBACK

EINVAL = 22


class Callbacks(Holdings):
    """The callback handlers of a ClientNamespace."""

    last_committed = 0
    """A client commits nothing; ptlrpc asks whoever it replies for."""

    def _called(self, req: ServerRequest) -> ClientLock:
        cookie = first_handle(request_of(req.msg))
        lock = self.locks.get(cookie)
        if lock is None or lock.failed:
            raise LustreError(EINVAL, f"{self.name}: no lock {cookie:#x}")
        return lock

    @handles(LDLM_BL_CALLBACK)
    def blocking_callback(self, req: ServerRequest) -> Steps[Message]:
        """Somebody else wants what this lock covers. Answer at once, give it back when possible."""
        yield from self.at(points.LDLM_BL_CALLBACK_NET)
        lock = self._called(req)
        try:
            yield from self.at(points.LDLM_CANCEL_BL_CB_RACE)
        except LustreError:
            if lock.refs == 0 and lock.state is LockState.GRANTED:
                self.start_cancel(lock)
                yield from self.wait_gone([lock])
        if request_of(req.msg).lock_flags & LDLM_FL_DISCARD_DATA:
            lock.discard = True
        wanted = policy_of(request_of(req.msg).lock_desc)
        if isinstance(wanted, Ibits):
            lock.called_bits |= wanted.optional
        self.call_back(lock)
        return req.reply()

    @handles(LDLM_CP_CALLBACK)
    def completion_callback(self, req: ServerRequest) -> Steps[Message]:
        """A lock that had to wait is granted; this may come before the reply to its enqueue."""
        yield from self.at(points.LDLM_CP_CALLBACK_NET)
        lock = self._called(req)
        if lock.state in (LockState.ASKED, LockState.WAITING):
            dlm_req = request_of(req.msg)
            lock.deadlocked = bool(dlm_req.lock_flags & LDLM_FL_FLOCK_DEADLOCK)
            self.adopt(lock, dlm_req.lock_desc)
            lock.lvb = req.get("dlm_lvb") or lock.lvb
            self.now_granted(lock)
            lock.cancel_pending |= bool(dlm_req.lock_flags & LDLM_FL_AST_SENT)
            if lock.granted is not None and not lock.granted.triggered:
                lock.granted.succeed()
        return req.reply()

    @handles(LDLM_GL_CALLBACK)
    def glimpse_callback(self, req: ServerRequest) -> Steps[Message]:
        """Somebody wants to know size and times; say what is cached here, and keep the lock.

        A write lock that was idle for long is given back as well: who looks may look again.
        """
        yield from self.at(points.LDLM_GL_CALLBACK_NET)
        lock = self._called(req)
        lvb = lock.glimpse(lock) if lock.glimpse is not None else None
        idle_ns = self.env.now - lock.last_used_ns
        unused = lock.mode == LCK_PW and lock.refs == 0 and lock.state is LockState.GRANTED
        if unused and idle_ns > self.dirty_age_limit * NS_PER_S:
            self.call_back(lock)
        if lvb is None:
            raise LustreError(ELDLM_NO_LOCK_DATA, f"{self.name}: nothing cached")
        return req.reply(dlm_lvb=lvb)

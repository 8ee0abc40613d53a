"""File locks of a client's processes: asked for at the MDT, and mirrored here for replay.

Knows ranges and owners, not files or processes. Stands for ldlm_flock_completion_ast and the
client's share of ldlm_process_flock_lock: both sides merge and split alike, so that they go on
having the same locks.
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.ldlm import points
from labsim.ldlm.client_lock import ClientLock, LockState
from labsim.ldlm.desc import answer_of, describe, policy_of
from labsim.ldlm.flock import FlockResource
from labsim.ldlm.policy import Flock
from labsim.ldlm.replay import Replays
from labsim.ldlm.resource import Lock, ResName
from labsim.net.ptlrpc import Import, Request
from labsim.runtime.ports import Host, Steps
from labsim.runtime.sync import Interruptible
from labsim.wire.constants import (
    LDLM_FL_BLOCKED_MASK,
    LDLM_FL_TEST_LOCK,
    LDLM_FLOCK,
)
from labsim.wire.ldlm import LdlmRequest
from labsim.wire.opcodes import LDLM_ENQUEUE

EINTR, EIO, EDEADLK = 4, 5, 35


NONE_LOCKED: dict[ResName, FlockResource] = {}
"""Of a namespace that never had a file lock; never changed in place."""


class ClientFlocks(Replays):
    """The file locks of a ClientNamespace."""

    def __init__(self, host: Host, imp: Import, name: str) -> None:
        super().__init__(host, imp, name)
        self._files = NONE_LOCKED

    def flock(
        self, resource: ResName, mode: int, policy: Flock, flags: int = 0,
        caller: Interruptible | None = None,
    ) -> Steps[tuple[int, Flock]]:  # fmt: skip
        """Lock a range (LCK_PR, LCK_PW), or give it back (LCK_NL); what the server made of it.

        With LDLM_FL_TEST_LOCK: mode and range of who is in the way, mode LCK_NL for nobody. Raises
        EAGAIN (LDLM_FL_BLOCK_NOWAIT), EDEADLK, EIO where the client is evicted meanwhile, and EINTR
        where a signal reaches a `caller` that waits. Then the server is told nothing: its lock
        waits on, and goes when its grant is not taken (failed_lock_cleanup).
        """
        lock = ClientLock(self.new_cookie(self.locks.__contains__), resource, mode, policy)
        self.add(lock)
        try:
            told = yield from self._ask_flock(lock, flags, caller)
        except BaseException:
            self._lose(lock)
            raise
        if flags & LDLM_FL_TEST_LOCK:
            self._lose(lock)
        else:
            self._mirror(lock)
        return told

    def _ask_flock(
        self, lock: ClientLock, flags: int, caller: Interruptible | None
    ) -> Steps[tuple[int, Flock]]:
        fields: dict[str, Any] = {
            "dlm_req": LdlmRequest(
                lock_flags=flags,
                lock_count=1,
                lock_desc=describe(lock.resource, lock.mode, lock.policy),
                lock_handle=(lock.cookie, 0),
            )
        }
        request = Request(LDLM_ENQUEUE, **fields)
        self.pack_cancels(request, new=1)
        reply = yield from self.imp.call(request)
        rep = answer_of(reply)
        desc = rep.lock_desc
        told = desc.granted_mode or desc.req_mode, policy_of(desc)
        assert isinstance(told[1], Flock)
        if flags & LDLM_FL_TEST_LOCK:
            return told[0], told[1]
        lock.server_handle = rep.lock_handle
        if lock.state is LockState.ASKED and not lock.failed:
            self.adopt(lock, desc)
            if rep.lock_flags & LDLM_FL_BLOCKED_MASK:
                lock.state = LockState.WAITING
                lock.granted = self.env.event()
                yield from self.at(points.LDLM_CP_CB_WAIT2)
                yield from self._await(lock, caller)
            else:
                lock.state = LockState.GRANTED
        yield from self.at(points.LDLM_CP_CB_WAIT)
        if lock.failed:
            raise LustreError(EIO, f"{self.name}: evicted while waiting for a lock")
        if lock.deadlocked:
            raise LustreError(EDEADLK, f"{self.name}: would wait for itself")
        return told[0], told[1]

    def _await(self, lock: ClientLock, caller: Interruptible | None) -> Steps[None]:
        """Sleep until the lock is granted or lost; not even then if a signal came before that."""
        if caller is None:
            yield lock.granted
        elif not (yield from caller.wait(lock.granted)):
            raise LustreError(EINTR, f"{self.name}: interrupted while waiting for a lock")

    def _mirror(self, lock: ClientLock) -> None:
        """Make of this client's locks what the server has made of them."""
        file = self._files.get(lock.resource)
        if file is None:
            if self._files is NONE_LOCKED:
                self._files = {}
            file = self._files[lock.resource] = FlockResource(lock.resource, LDLM_FLOCK)
        outcome = file.take_in(lock, self._copy)
        for other in outcome.gone:
            assert isinstance(other, ClientLock)
            self._lose(other)
        if not outcome.kept:
            self._lose(lock)
        if file.idle:
            self._files.pop(lock.resource, None)

    def _copy(self, lock: Lock, part: Flock) -> ClientLock:
        """The lower part of a lock that was cut in two."""
        assert isinstance(lock, ClientLock)
        twin = ClientLock(self.new_cookie(self.locks.__contains__), lock.resource, lock.mode, part)
        twin.state = LockState.GRANTED
        self.add(twin)
        return twin

    def _lose(self, lock: ClientLock) -> None:
        self.drop(lock)
        lock.state = LockState.GONE

    def lose_flocks(self) -> None:
        """The server has forgotten this client, and with it its processes' locks."""
        files, self._files = self._files, NONE_LOCKED
        for file in files.values():
            for lock in list(file.granted):
                assert isinstance(lock, ClientLock)
                self._lose(lock)

    def has_flocks(self, resource: ResName, owner: int) -> bool:
        """Has that owner any lock on the file?"""
        file = self._files.get(resource)
        owners = (lock.policy for lock in file.granted) if file is not None else ()
        return any(isinstance(policy, Flock) and policy.owner == owner for policy in owners)

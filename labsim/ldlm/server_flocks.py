"""File locks on a server: who has them, who waits, and who waits for whom in a circle.

Knows clients and queues, not requests. Stands for ldlm_process_flock_lock and the deadlock
detection of ldlm_flock.c. Nobody is called back over a file lock, and none ever times out.
"""

from __future__ import annotations

from typing import TypeAlias

from labsim.base.errors import LustreError
from labsim.ldlm.asts import Asts
from labsim.ldlm.flock import FlockResource, range_of
from labsim.ldlm.policy import Flock
from labsim.ldlm.resource import Lock, ResName, Resource
from labsim.ldlm.server_lock import ServerLock
from labsim.net.ptlrpc import Export
from labsim.runtime.ports import Host
from labsim.wire.constants import (
    LCK_NL,
    LDLM_FL_AST_SENT,
    LDLM_FL_BLOCK_NOWAIT,
    LDLM_FL_CANCEL_ON_BLOCK,
    LDLM_FL_FLOCK_DEADLOCK,
    OBD_CONNECT_FLOCK_DEAD,
)

EAGAIN, EDEADLK = 11, 35

Owner: TypeAlias = tuple[int, int]
"""A client (its export's cookie), and the owner that it names."""

DEADLOCKED = LDLM_FL_AST_SENT | LDLM_FL_CANCEL_ON_BLOCK | LDLM_FL_FLOCK_DEADLOCK


class ServerFlocks(Asts):
    """The file locks of a ServerNamespace."""

    def __init__(self, host: Host, name: str) -> None:
        super().__init__(host, name)
        self._waits_for: dict[Owner, Owner] = {}
        """Of each owner that waits, whom it waits for (exp_flock_hash)."""

    def ask_flock(self, lock: ServerLock) -> bool:
        """F_SETLK, F_SETLKW, F_UNLCK: is it granted? EAGAIN, EDEADLK; the lock is gone then."""
        resource = _flocks(lock)
        blocker = None if lock.mode == LCK_NL else next(resource.conflicting(lock), None)
        if blocker is None:
            self._take_in(lock)
            return True
        if lock.flags & LDLM_FL_BLOCK_NOWAIT:
            self.remove(lock)
            raise LustreError(EAGAIN, f"{self.name}: locked by another process")
        if self._circle(lock, blocker):
            self.remove(lock)
            raise LustreError(EDEADLK, f"{self.name}: would wait for itself")
        resource.wait(lock)
        return False

    def test_flock(self, lock: ServerLock) -> Lock | None:
        """F_GETLK: who is in the way; the lock asked with is gone then."""
        found = next(_flocks(lock).conflicting(lock), None)
        self.remove(lock)
        return found

    def advance_flocks(self, resource: FlockResource) -> None:
        """Something has gone: grant, in the order of the queue, whoever nobody excludes."""
        for lock in list(resource.waiting.values()):
            assert isinstance(lock, ServerLock)
            blocker = next(resource.conflicting(lock), None)
            if blocker is None:
                self._take_in(lock)
                self.env.process(self._completion(lock))
            elif self._circle(lock, blocker):
                self._refuse(lock)

    def stopped_waiting(self, lock: ServerLock) -> None:
        """The lock is granted, or goes."""
        if isinstance(lock.policy, Flock):
            self._waits_for.pop(_owner(lock), None)

    def forget(self, lock: ServerLock) -> None:
        """The lock goes; nobody is granted for that."""
        raise NotImplementedError

    def tidy(self, resource: Resource) -> None:
        """Forget a resource without locks."""
        raise NotImplementedError

    def create(
        self,
        resource: ResName,
        mode: int,
        policy: Flock,
        *,
        export: Export | None = None,
        client_cookie: int = 0,
        flags: int = 0,
        behalf: int = 0,
    ) -> ServerLock:
        """A lock that is in no queue yet."""
        raise NotImplementedError

    def _take_in(self, lock: ServerLock) -> None:
        """Grant it: it may become part of another, or take others away."""
        resource = _flocks(lock)
        self.stopped_waiting(lock)
        lock.granted = True
        outcome = resource.take_in(lock, self._copy)
        for other in outcome.gone:
            assert isinstance(other, ServerLock)
            self.forget(other)
        if not outcome.kept:
            lock.outlived = True
            self.forget(lock)
        if lock.mode == LCK_NL and outcome.overlapped:
            self.advance_flocks(resource)
        self.tidy(resource)

    def _copy(self, lock: Lock, part: Flock) -> ServerLock:
        assert isinstance(lock, ServerLock)
        twin = self.create(lock.resource.name, lock.mode, part, export=lock.export)
        twin.granted = twin.handed = True
        return twin

    def _circle(self, lock: ServerLock, blocker: Lock) -> bool:
        """Note whom `lock` waits for; True where that one, in the end, waits for it."""
        assert isinstance(blocker, ServerLock)
        start = at = _owner(lock)
        self._waits_for[start] = _owner(blocker)
        seen: list[Owner] = []
        while (then := self._waits_for.get(at)) is not None and then not in seen:
            if then == start:
                del self._waits_for[start]
                return True
            seen.append(then)
            at = then
        return False

    def _refuse(self, lock: ServerLock) -> None:
        """One that waits has come to wait for itself: tell its client (EDEADLK)."""
        if lock.export is None or not lock.export.granted(OBD_CONNECT_FLOCK_DEAD):
            return
        lock.outlived = True
        self.forget(lock)
        self.env.process(self._completion(lock, DEADLOCKED))


def _flocks(lock: ServerLock) -> FlockResource:
    resource = lock.resource
    assert isinstance(resource, FlockResource), "no resource of file locks"
    return resource


def _owner(lock: ServerLock) -> Owner:
    cookie = lock.export.cookie if lock.export is not None else 0
    return cookie, range_of(lock).owner

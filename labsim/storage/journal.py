"""The running transaction, and how it becomes durable.

Does not know objects or media: a `Medium` seals what has joined and makes it durable. Stands for
jbd2 under ldiskfs: one transaction runs, at most one is being committed; operations go on joining
meanwhile. The interval is the mount option commit=5.
"""

from __future__ import annotations

import errno
from typing import Any, Protocol, TypeAlias

from labsim.base.errors import LustreError
from labsim.base.units import NS_PER_S
from labsim.runtime.ports import Env, Steps

Call: TypeAlias = tuple[Any, ...]
"""A function and its arguments; flat, as each object more costs the collector."""

COMMIT_INTERVAL_NS = 5 * NS_PER_S
"""ldiskfs's default (JBD2_DEFAULT_MAX_COMMIT_AGE)."""


class Medium(Protocol):
    """What an OSD does for its journal."""

    def seal(self) -> Any:
        """End the running transaction; the result goes to `flush`."""
        ...

    def flush(self, sealed: Any) -> Steps[None]:
        """Make a sealed transaction durable."""
        ...


class Journal:
    """Counts transactions by `tid`, commits them one after the other, calls back in order."""

    def __init__(self, env: Env, medium: Medium, interval_ns: int, full_bytes: int) -> None:
        self._env = env
        self._medium = medium
        self.interval_ns = interval_ns
        self.full_bytes = full_bytes
        self.tid = 1
        """The running transaction."""
        self.committed = 0
        """The last durable one."""
        self.crashes = 0
        self.aborted = False
        """A commit failed: no change is taken or made durable any more (jbd2_journal_abort)."""
        self._callbacks: list[Call] = []
        self._joined = False
        self._bytes = 0
        self._wanted = 0
        self._committing = False
        self._waiters: list[tuple[int, Any]] = []
        self._throttled: list[Any] = []

    def anew(self, medium: Medium) -> Journal:
        """A journal that begins where this one ended, when the medium has come to another place."""
        return Journal(self._env, medium, self.interval_ns, self.full_bytes)

    def room(self) -> Steps[None]:
        """Wait while the running transaction is full and the one before is not durable yet.

        EROFS once the journal has ended.
        """
        while self._bytes >= self.full_bytes and not self.aborted:
            event = self._env.event()
            self._throttled.append(event)
            yield event
        if self.aborted:
            raise LustreError(errno.EROFS, "the journal has ended")

    def join(self, callbacks: tuple[Call, ...], nbytes: int) -> None:
        """Operations that fill so many bytes have joined; call back when they are durable."""
        if not self._joined:
            self._joined = True
            self._env.process(self._expire(self.tid, self.crashes))
        self._callbacks += callbacks
        self._bytes += nbytes
        if self._bytes >= self.full_bytes:
            self.commit()

    def commit(self) -> None:
        """Begin to commit what has joined, without waiting."""
        if self._joined and not self.aborted:
            self._wanted = self.tid
            if not self._committing:
                self._committing = True
                self._env.process(self._commit(self.crashes))

    def sync(self) -> Steps[None]:
        """Wait until all that has joined is durable; EIO where it will never be."""
        self.commit()
        target = self.tid if self._joined else self.tid - 1
        if self.aborted and target > self.committed:
            raise LustreError(errno.EIO, "the journal has ended")
        if target > self.committed:
            event = self._env.event()
            self._waiters.append((target, event))
            yield event

    def crash(self) -> None:
        """Forget what was not durable, and everybody who waits for it."""
        self.crashes += 1
        self._callbacks = []
        self._joined = self._committing = self.aborted = False
        self._bytes = 0
        self.committed = self.tid
        self.tid += 1
        self._waiters.clear()
        self._throttled.clear()

    def _expire(self, tid: int, life: int) -> Steps[None]:
        yield self._env.timeout(self.interval_ns)
        if life == self.crashes and tid == self.tid:
            self.commit()

    def _commit(self, life: int) -> Steps[None]:
        """Commit as long as the running transaction is wanted; one such process at a time."""
        while life == self.crashes and self._joined and self._wanted == self.tid:
            sealed = self._medium.seal()
            tid, callbacks = self.tid, self._callbacks
            self.tid, self._callbacks, self._joined, self._bytes = tid + 1, [], False, 0
            throttled, self._throttled = self._throttled, []
            for event in throttled:
                event.succeed()
            try:
                yield from self._medium.flush(sealed)
            except LustreError as error:
                if life == self.crashes:
                    self._abort(error)
                return
            if life != self.crashes:
                return
            self.committed = tid
            for call, *args in callbacks:
                call(*args)
            self._wake(tid)
        if life == self.crashes:
            self._committing = False

    def _abort(self, error: LustreError) -> None:
        """A commit failed: nobody will hear of one again before the target is started anew."""
        self.aborted = True
        self._committing = False
        throttled, self._throttled = self._throttled, []
        for event in throttled:
            event.succeed()
        waiters, self._waiters = self._waiters, []
        for _, event in waiters:
            event.fail(LustreError(error.errno, error.what))

    def _wake(self, tid: int) -> None:
        due = [event for target, event in self._waiters if target <= tid]
        self._waiters = [waiter for waiter in self._waiters if waiter[0] > tid]
        for event in due:
            event.succeed()

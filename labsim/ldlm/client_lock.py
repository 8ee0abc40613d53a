"""A lock as the client that holds it sees it.

Does not know how it is asked for or given back. Stands for struct ldlm_lock on a client, with its
blocking and glimpse callbacks.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeAlias

from labsim.base.members import plain_members
from labsim.base.payload import Payload
from labsim.ldlm.policy import Policy
from labsim.ldlm.resource import Lock, ResName
from labsim.runtime.ports import Steps


@plain_members
class LockState(IntEnum):
    """The life of a client's lock."""

    ASKED = 1
    """The enqueue is under way."""
    WAITING = 2
    """The server has it in its queue; a completion callback will come."""
    GRANTED = 3
    CANCELING = 4
    """Its blocking callback runs; then the server is told."""
    GONE = 5


Blocking: TypeAlias = Callable[["ClientLock"], "Steps[None] | None"]
"""Runs before a lock is given back: writes back or drops what was cached under it."""

Glimpse: TypeAlias = Callable[["ClientLock"], "Payload | None"]
"""Tells size and times as this client has them: a packed OstLvb; None: nothing is cached."""


class ClientLock(Lock):
    """`mode` and `policy` are what was granted, `lvb` what the server said about the object.

    `data`, `blocking` and `glimpse` belong to whoever uses the lock. `discard` says that what is
    cached may be thrown away: the object is being destroyed, or the server has evicted us.
    """

    __slots__ = (
        "blocking",
        "called_bits",
        "cancel_pending",
        "data",
        "deadlocked",
        "discard",
        "done",
        "failed",
        "glimpse",
        "going",
        "granted",
        "last_used_ns",
        "lvb",
        "refs",
        "resource",
        "server_handle",
        "state",
    )

    def __init__(self, cookie: int, resource: ResName, mode: int, policy: Policy) -> None:
        super().__init__(cookie, mode, policy)
        self.resource = resource
        self.state = LockState.ASKED
        self.refs = 1
        self.server_handle = 0
        self.cancel_pending = False
        """LDLM_FL_CBPENDING: no new users; it goes when the last user has gone."""
        self.called_bits = 0
        """The inodebits that others want (cancel_bits); 0: nobody said which."""
        self.going = 0
        """The inodebits that go while its blocking callback runs."""
        self.failed = False
        """The server has forgotten it (eviction)."""
        self.deadlocked = False
        """A file lock that would have waited for itself (LDLM_FL_FLOCK_DEADLOCK)."""
        self.discard = False
        self.lvb: Payload = b""
        self.last_used_ns = 0
        self.data: Any = None
        self.blocking: Blocking | None = None
        self.glimpse: Glimpse | None = None
        self.granted: Any = None
        """The event that a waiting enqueue waits for."""
        self.done: Any = None
        """The event of somebody who waits until it is given back."""

    @property
    def client(self) -> int:
        """A client knows only its own."""
        return 0

    @property
    def usable(self) -> bool:
        """May somebody new use it?"""
        return self.state is LockState.GRANTED and not self.cancel_pending

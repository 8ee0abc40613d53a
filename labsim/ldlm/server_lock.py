"""A lock as the server that grants it sees it.

Does not know queues or messages. Stands for struct ldlm_lock on a server.
"""

from __future__ import annotations

from typing import Any

from labsim.ldlm.policy import Policy
from labsim.ldlm.resource import Lock, Resource
from labsim.net.ptlrpc import Export
from labsim.wire.constants import LCK_COS, LDLM_FL_NO_EXPANSION


class ServerLock(Lock):
    """`export` is the client it is for; None for the server's own.

    A lock that is taken on behalf of a client's intent is `handed` to the client with the reply;
    until then it cannot be called back, and `asked` tells that somebody wants it.
    """

    __slots__ = (
        "_behalf",
        "asked",
        "asked_s",
        "client_cookie",
        "deadline",
        "export",
        "flags",
        "gone",
        "granted",
        "handed",
        "outlived",
        "resource",
        "woken",
    )

    def __init__(
        self,
        cookie: int,
        resource: Resource,
        mode: int,
        policy: Policy,
        *,
        export: Export | None = None,
        client_cookie: int = 0,
        flags: int = 0,
        behalf: int = 0,
    ) -> None:
        super().__init__(cookie, mode, policy)
        self._behalf = behalf
        self.resource = resource
        self.export = export
        self.client_cookie = client_cookie
        self.flags = flags
        self.granted = False
        self.gone = False
        self.handed = False
        self.outlived = False
        """It has become part of another lock, and its client is still to hear of that."""
        self.asked = False
        """Somebody waits for it: the client has been told, or will be as soon as it may be."""
        self.asked_s = 0
        """When its client was told that somebody waits for it (l_blast_sent)."""
        self.deadline: Any = None
        """When the client has to have given it back."""
        self.woken: Any = None
        """The event that a handler on this server waits for; None: the client is told instead."""

    @property
    def concerns_client(self) -> bool:
        """Is there something to tell its client?"""
        if self.export is None or self.export.closed:
            return False
        return self.outlived or not self.gone

    @property
    def client_key(self) -> int:
        """What finds the lock among its client's: the client's cookie, if it told one."""
        return self.client_cookie or -self.cookie

    @property
    def growable(self) -> bool:
        """Locks of the server's own are short: growing them would only disturb."""
        return self.export is not None and not self.flags & LDLM_FL_NO_EXPANSION

    @property
    def behalf(self) -> int:
        """The cookie of the client that it was taken for; 0: for none (l_client_cookie)."""
        return self._behalf or self.client

    def _shared(self, other: Lock) -> bool:
        """Does one keep the other out only if it were of another client (COS)?"""
        own = isinstance(other, ServerLock) and self.behalf == other.behalf != 0
        return own and LCK_COS in (self.mode, other.mode)

    def excludes(self, other: Lock) -> bool:
        """Do the modes of the two not go together?"""
        return super().excludes(other) and not self._shared(other)

    def conflicts(self, other: Lock) -> bool:
        """May the two not be granted at the same time?"""
        return super().conflicts(other) and not self._shared(other)

    @property
    def client(self) -> int:
        """The cookie of its client's export; 0 for the server's own."""
        return self.export.cookie if self.export is not None else 0

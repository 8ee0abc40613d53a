"""Locks that an MDT keeps beyond the request they were taken for.

Knows requests, acknowledgements and commits, not what was changed. Stands for ptlrpc_save_lock, the
difficult replies of ptlrpc/service.c, and commit-on-sharing (mdt_save_lock).

What a client has changed nobody else may build upon before the client has the reply, or the change
is on disk: else, after a power loss, one client replays what rests on something that another one
does not know it did. So the strong locks of a change stay until the reply is acknowledged. With
commit-on-sharing they stay until the commit, in mode COS, which keeps out all but the same client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.ldlm.server_lock import ServerLock
from labsim.net.ptlrpc import Export, ServerRequest
from labsim.wire.constants import LCK_COS, LCK_EX, LCK_PW


class Saved:
    """The locks of one request, and the entry that waits for the acknowledgement of its reply."""

    __slots__ = ("entry", "key", "locks", "owner", "transno")

    def __init__(self, owner: SavedLocks, key: tuple[int, int], transno: int) -> None:
        self.owner = owner
        self.key = key
        self.transno = transno
        self.locks: list[ServerLock] = []
        self.entry: Any = None

    def acked(self, _packet: Any) -> None:
        """The client has the reply."""
        self.owner.let_go(self)

    def sent(self, entry: Any) -> None:
        """The reply went out, maybe once more."""
        if self.entry is not None:
            self.entry.unlink()
        self.entry = entry


class SavedLocks:
    """The saved locks of one MDT."""

    def __init__(
        self, release: Callable[[ServerLock], None], downgrade: Callable[[ServerLock, int], None]
    ) -> None:
        self._release = release
        self._downgrade = downgrade
        self._saved: dict[tuple[int, int], Saved] = {}

    def __len__(self) -> int:
        """How many requests have locks saved."""
        return len(self._saved)

    def unlock(self, req: ServerRequest, lock: ServerLock, cos: bool) -> None:
        """A request that changed something is done with a lock: keep it where it guards that."""
        if lock.mode not in (LCK_PW, LCK_EX) or lock.gone or req.export.closed:
            self._release(lock)
            return
        if cos:
            self._downgrade(lock, LCK_COS)
        key = (req.export.cookie, req.xid)
        saved = self._saved.get(key)
        if saved is None:
            if self._gone not in req.export.on_close:
                req.export.on_close += (self._gone,)
            saved = self._saved[key] = Saved(self, key, req.transno)
        saved.locks.append(lock)

    def of(self, req: ServerRequest) -> Saved | None:
        """What is kept until the reply to `req` is acknowledged; COS locks wait for the commit."""
        saved = self._saved.get((req.export.cookie, req.xid))
        if saved is None or any(lock.mode == LCK_COS for lock in saved.locks):
            return None
        return saved

    def let_go(self, saved: Saved) -> None:
        """Nothing needs these locks any more."""
        if self._saved.get(saved.key) is saved:
            del self._saved[saved.key]
        entry, saved.entry = saved.entry, None  # which holds `saved`
        if entry is not None:
            entry.unlink()
        locks, saved.locks = saved.locks, []
        while locks:
            self._release(locks.pop())

    def committed(self, transno: int) -> None:
        """All changes up to `transno` are on disk."""
        for saved in [one for one in self._saved.values() if one.transno <= transno]:
            self.let_go(saved)

    def _gone(self, export: Export) -> None:
        for saved in [one for key, one in self._saved.items() if key[0] == export.cookie]:
            self.let_go(saved)

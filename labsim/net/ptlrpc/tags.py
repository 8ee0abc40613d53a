"""Tags of modifying requests: each that is under way has a slot of the server's reply_data.

Numbers only. Stands for obd_get_mod_rpc_slot and obd_put_mod_rpc_slot (obdclass/genops.c): one
more than the limit may be had by a close, where no other close is under way, so that closes go on
while everything else waits for one.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from labsim.runtime.ports import Env, Steps


class Tags:
    """Tags from 1 on; `limit` of them at a time, which may change, and one more for a close."""

    __slots__ = ("_closes", "_env", "_free", "_highest", "_waiting", "limit", "taken")

    def __init__(self, env: Env, limit: int) -> None:
        self._env = env
        self.limit = max(limit, 1)
        self.taken = 0
        self._closes = 0
        self._highest = 0
        self._free: list[int] = []
        self._waiting: deque[tuple[Any, bool]] = deque()

    def take(self, close: bool = False) -> Steps[int]:
        """Wait for a tag; the lowest that is free."""
        if (self._waiting and not close) or not self._available(close):
            event = self._env.event()
            self._waiting.append((event, close))
            try:
                yield event
            except BaseException:
                self._leave(event, close)
                raise
        else:
            self._grant(close)
        if not self._free:
            self._highest += 1
            return self._highest
        tag = min(self._free)
        self._free.remove(tag)
        return tag

    def give(self, tag: int, close: bool = False) -> None:
        """The request is over."""
        self._free.append(tag)
        self._release(close)

    def resize(self, limit: int) -> None:
        """Another limit; who has a tag keeps it."""
        self.limit = max(limit, 1)
        self._admit()

    def _available(self, close: bool) -> bool:
        return self.taken < self.limit or (close and not self._closes)

    def _grant(self, close: bool) -> None:
        self.taken += 1
        self._closes += close

    def _release(self, close: bool) -> None:
        self.taken -= 1
        self._closes -= close
        self._admit()

    def _admit(self) -> None:
        """Let those go on who may now, in the order in which they came."""
        for entry in list(self._waiting):
            event, close = entry
            if self._available(close):
                self._waiting.remove(entry)
                self._grant(close)
                event.succeed()

    def _leave(self, event: Any, close: bool) -> None:
        """The process was stopped while it waited: pass on what it may already have."""
        if (event, close) in self._waiting:
            self._waiting.remove((event, close))
        elif event.triggered:
            self._release(close)

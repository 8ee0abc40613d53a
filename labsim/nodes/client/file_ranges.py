"""Which parts of a file are being read or written by this client's own processes.

A range lock: does not know locks of servers. Stands for the range lock of writes and the truncate
semaphore of llite (lli_write_tree, lli_trunc_sem), which keep calls on one client apart as extent
locks keep clients apart. In Lustre reads pass writes page by page; here a read sees the whole of a
write or nothing of it.
"""

from __future__ import annotations

from typing import Any

from labsim.runtime.ports import Env, Steps

END = 1 << 64
"""Behind every byte."""


class Held:
    """One call in progress, or one that waits for its turn."""

    __slots__ = ("end", "event", "exclusive", "start")

    def __init__(self, start: int, end: int, exclusive: bool) -> None:
        self.start = start
        self.end = end
        self.exclusive = exclusive
        self.event: Any = None

    def excludes(self, other: Held) -> bool:
        """May the two not go on together?"""
        apart = self.end <= other.start or other.end <= self.start
        return not apart and (self.exclusive or other.exclusive)


class FileRanges:
    """The calls on one file that may have to wait, in order of arrival. Empty: nobody is busy."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: list[Held] = []

    def take(self, env: Env, start: int, end: int, exclusive: bool) -> Steps[Held]:
        """Wait until nobody who came before stands in the way."""
        mine = Held(start, end, exclusive)
        blocked = any(mine.excludes(other) for other in self.held)
        self.held.append(mine)
        if blocked:
            mine.event = env.event()
            try:
                yield mine.event
            except BaseException:
                self.give(mine)
                raise
        return mine

    def give(self, mine: Held) -> None:
        """Done; those go on who waited only for this."""
        self.held.remove(mine)
        for number, other in enumerate(self.held):
            if other.event is None:
                continue
            if not any(other.excludes(before) for before in self.held[:number]):
                event, other.event = other.event, None
                event.succeed()

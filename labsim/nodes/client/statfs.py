"""Space and inodes of the file system, cached for a second.

Does not know which device it asks. Stands for obd_statfs() in front of lmv and lov: the answer of
an obd device with its age, and the mutex that keeps many callers from sending as many requests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.units import NS_PER_S
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Mutex
from labsim.wire.ost import ObdStatfs

CACHE_NS = NS_PER_S
"""OBD_STATFS_CACHE_SECONDS: how old an answer a caller of statfs(2) accepts."""

NEVER = -(1 << 62)


class StatfsCache:
    """One obd device's last answer. `fetch` is a generator function that asks for a new one."""

    def __init__(self, env: Any, fetch: Callable[[], Steps[ObdStatfs]]) -> None:
        self.env = env
        self.fetch = fetch
        self.cached = ObdStatfs()
        self.taken_ns = NEVER
        self._mutex: Mutex | None = None

    def get(self, oldest_ns: int) -> Steps[ObdStatfs]:
        """An answer not older than `oldest_ns`; asks where the cached one is."""
        if not self.stale(oldest_ns):
            return self.cached
        if self._mutex is None:
            self._mutex = Mutex(self.env)
        yield from self._mutex.take()
        try:
            return (yield from self.locked(oldest_ns))
        finally:
            self._mutex.give()

    # ---- rules an overlay may replace

    def stale(self, oldest_ns: int) -> bool:
        """True where the cached answer is too old for this caller."""
        return self.taken_ns < oldest_ns

    def locked(self, oldest_ns: int) -> Steps[ObdStatfs]:
        """The mutex is held: somebody may have asked while this caller waited for it."""
        buffer = ObdStatfs()
        if not self.stale(oldest_ns):
            return self.lost_race(buffer)
        buffer = yield from self.fetch()
        self.store(buffer)
        self.taken_ns = self.env.now
        return buffer

    def lost_race(self, buffer: ObdStatfs) -> ObdStatfs:
        """Somebody else asked meanwhile: their answer serves; `buffer` was never filled."""
        return self.cached

    def store(self, answer: ObdStatfs) -> None:
        """Keep an answer for the next callers."""
        self.cached = answer


def merge(namespace: ObdStatfs, data: ObdStatfs) -> ObdStatfs:
    """What statfs(2) shows: blocks of the OSTs, inodes of the MDTs (ll_statfs_internal).

    Where the OSTs have fewer objects left than the MDTs have inodes, that many fewer files fit.
    """
    merged = namespace.replace(
        bsize=data.bsize, blocks=data.blocks, bfree=data.bfree, bavail=data.bavail
    )
    if data.ffree < namespace.ffree:
        used = namespace.files - namespace.ffree
        merged = merged.replace(files=used + data.ffree, ffree=data.ffree)
    return merged

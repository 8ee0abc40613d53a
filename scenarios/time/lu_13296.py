"""LU-13296: who finds the statfs cache filled by another returns its own empty buffer."""

from __future__ import annotations

from labsim.base.overlay import Overlay
from labsim.nodes.client.statfs import StatfsCache
from labsim.wire.ost import ObdStatfs


class LoserFillsCache(Overlay, of=StatfsCache):
    """After the mutex the cache is fresh, nothing is asked, but the buffer is used all the same."""

    because = "1c41a6ac390b (LU-12368): who lost the race still copies its buffer into the cache"

    def lost_race(self, buffer: ObdStatfs) -> ObdStatfs:
        """What was never filled in becomes the answer, and the cache."""
        self.store(buffer)
        return buffer

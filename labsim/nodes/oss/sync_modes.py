"""When an OST commits although no client asked for it.

Knows locks and the journal, not what is written. Stands for tgt_blocking_ast with
lut_sync_lock_cancel (target/tgt_main.c, ofd/lproc_ofd.c): what one client has written and another
one is about to read must not get lost with the first one and the power of the OST.
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.params import Param
from labsim.ldlm.handlers import LdlmHandlers
from labsim.ldlm.server_lock import ServerLock
from labsim.net.ptlrpc import ServerRequest
from labsim.runtime.ports import Steps
from labsim.wire.constants import LCK_GROUP, LCK_PW

MODES = ("never", "blocking", "always")


class SyncModes(LdlmHandlers):
    """The part of an OST that says when a lock's cancel, or a write, waits for the disk."""

    osd: Any

    sync_journal = Param.flag(False, help="every write is on disk before it is answered")
    _sync_cancel = "blocking"

    @Param.computed(access="rw", help="does a write lock's cancel commit: never, blocking, always")
    def sync_lock_cancel(self) -> str:
        """Never where every write is on disk anyway."""
        return "never" if self.sync_journal else self._sync_cancel

    def store_sync_lock_cancel(self, text: str) -> None:
        """Take a word or its number; EINVAL."""
        word = text.strip()
        if word in ("0", "1", "2"):
            word = MODES[int(word)]
        if word not in MODES:
            raise LustreError(errno.EINVAL, text)
        self._sync_cancel = word

    def before_cancel(self, req: ServerRequest, handles: tuple[int, ...]) -> Steps[None]:
        """A client gives locks back: what it wrote under them is on disk before others get them."""
        held = [self.ldlm.held(req.export, handle) for handle in handles]
        if any(lock is not None and self._commits(lock) for lock in held):
            yield from self.osd.sync()

    def _commits(self, lock: ServerLock) -> bool:
        mode = self.sync_lock_cancel
        wanted = mode == "always" or (mode == "blocking" and lock.asked)
        return wanted and lock.mode in (LCK_PW, LCK_GROUP)

"""Telling a server that has started anew which locks this client has.

Knows locks and the enqueue that replays one, not import states; whoever recovers the import calls
`replay_locks` between the replay of requests and the last ping. Stands for ldlm_replay_locks,
ldlm_cancel_unused_locks_for_replay and replay_lock_interpret (ldlm_request.c).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from labsim.ldlm.callbacks import Callbacks
from labsim.ldlm.client_lock import ClientLock, LockState
from labsim.ldlm.desc import answer_of, describe
from labsim.ldlm.module import LdlmModule
from labsim.net.ptlrpc import Request
from labsim.runtime.ports import Steps
from labsim.runtime.sync import gather
from labsim.wire.constants import (
    LDLM_FL_BLOCK_GRANTED,
    LDLM_FL_BLOCK_WAIT,
    LDLM_FL_REPLAY,
)
from labsim.wire.ldlm import LdlmRequest
from labsim.wire.message import Message
from labsim.wire.opcodes import LDLM_ENQUEUE

Send: TypeAlias = Callable[[Request], Steps[Message]]
"""How a request goes out while its import recovers."""


class Replays(Callbacks):
    """The lock replay of a ClientNamespace."""

    module: LdlmModule

    def replay_locks(self, send: Send) -> Steps[None]:
        """Tell the server of every lock, all at once; first forget those that guard nothing."""
        if self.module.cancel_unused_locks_before_replay:
            self._forget_unused()
        known = [lock for lock in self.locks.values() if _worth(lock)]
        yield from gather(self.env, [self._replay(lock, send) for lock in known])

    def _forget_unused(self) -> None:
        """Drop unused locks without a word: who restarted does not know them any more."""
        for lock in list(self.lru):
            if self.cheap(lock):
                self.drop_at_once(lock)

    def _replay(self, lock: ClientLock, send: Send) -> Steps[None]:
        if not _worth(lock):
            return
        waiting = lock.state is LockState.WAITING
        flags = LDLM_FL_REPLAY | (LDLM_FL_BLOCK_WAIT if waiting else LDLM_FL_BLOCK_GRANTED)
        granted_mode = 0 if waiting else lock.mode
        dlm_req = LdlmRequest(
            lock_flags=flags,
            lock_count=1,
            lock_desc=describe(lock.resource, lock.mode, lock.policy, granted_mode),
            lock_handle=(lock.cookie, 0),
        )
        fields: dict[str, Any] = {"dlm_req": dlm_req}
        reply = yield from send(Request(LDLM_ENQUEUE, **fields))
        lock.server_handle = answer_of(reply).lock_handle


def _worth(lock: ClientLock) -> bool:
    """Not what is asked for only now (that is resent), nor what is lost or gone already."""
    held = lock.state in (LockState.WAITING, LockState.GRANTED, LockState.CANCELING)
    return held and not lock.failed

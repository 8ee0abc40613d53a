"""What may be wrong with a disk: it is slow, full, read-only, or fails.

Does not know objects or transactions; both OSDs ask it before they read, write and commit. Stands
for dm-delay, dm-error, and a device that has become read-only under ldiskfs.
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.errors import InputError, LustreError
from labsim.runtime.ports import Env, Steps

STATES = ("slow", "full", "eio", "readonly", "ok")
"""slow: each read, write and commit takes longer; full: statfs says that nothing is free, and no
object is made; eio: reads and writes fail, and so does the next commit, which ends the journal;
readonly: no change is taken."""


class Trouble:
    """The state of one disk; several troubles may come together, "ok" ends all."""

    __slots__ = ("_env", "active", "delay_ns", "failing", "full", "readonly")

    def __init__(self, env: Env) -> None:
        self._env = env
        self._set()

    def _set(self) -> None:
        self.active = False
        """Anything is wrong."""
        self.delay_ns = 0
        self.failing = False
        self.full = False
        self.readonly = False

    def set(self, state: str, delay_ns: int = 0) -> None:
        """From now on the disk is so, too; InputError for what no disk ever is."""
        if state not in STATES:
            raise InputError(f"a disk is never '{state}'; it may be {', '.join(STATES)}")
        if state == "ok":
            self._set()
            return
        self.active = True
        if state == "slow":
            self.delay_ns = delay_ns
        elif state == "full":
            self.full = True
        elif state == "eio":
            self.failing = True
        else:
            self.readonly = True

    def io(self) -> Steps[Any]:
        """A read, a write of data or a commit: wait, raise EIO, or pass."""
        if self.delay_ns:
            yield self._env.timeout(self.delay_ns)
        if self.failing:
            raise LustreError(errno.EIO, "the disk fails")

    def change(self) -> None:
        """A transaction begins: EROFS where nothing may change."""
        if self.readonly:
            raise LustreError(errno.EROFS, "the disk is read-only")

"""System calls that lock files: fcntl (F_GETLK, F_SETLK, F_SETLKW), flock, Lustre's group lock.

Knows processes, open files and Linux's rules, not servers. Stands for fs/locks.c in front of
llite. A process's fcntl locks on a file go when it closes any descriptor of that file; an open
file's flock lock goes when that file is closed.
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.ldlm.policy import Flock
from labsim.nodes.client.flock import (
    F_GETLK,
    F_RDLCK,
    F_SETLK,
    F_SETLKW,
    F_UNLCK,
    F_WRLCK,
    OFFSET_MAX,
    Told,
)
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Interruptible
from labsim.wire.constants import LCK_PR, LCK_PW

EBADF, EINVAL = 9, 22

O_NONBLOCK = 0o4000

LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8

PROCESSES = 0xFFFF880000000000
FILES = 0xFFFF888000000000
"""Where the owners of fcntl and flock locks are: addresses in the kernel, for the wire."""
ADDRESS_STEP = 64


AHEAD_MODES = {F_RDLCK: LCK_PR, F_WRLCK: LCK_PW}


class LockCalls:
    """The part of Vfs that locks files."""

    llite: Any
    _pid = 0
    _waits: Interruptible | None = None
    """The call that it is in, while a signal may end that."""

    def close(self, file: Any) -> Steps[None]:
        """System call close: file locks go first."""
        if not file.closed:
            yield from self.drop_file_locks(file)
        yield from super().close(file)  # type: ignore[misc]

    @property
    def pid(self) -> int:
        """The process's number; it gets one when it first needs it."""
        if not self._pid:
            self._pid = self.llite.new_pid()
        return self._pid

    def fcntl(
        self, file: Any, command: int, kind: int, start: int = 0, length: int = 0
    ) -> Steps[Told | None]:
        """System call fcntl with F_GETLK, F_SETLK or F_SETLKW on bytes from `start`; SEEK_SET.

        `kind` is F_RDLCK, F_WRLCK or F_UNLCK; length 0 is to the end of the file, a negative one
        is what lies before `start`. F_GETLK tells who is in the way. EAGAIN, EDEADLK, ENOSYS,
        EBADF where the file is not open for it, EINTR where a signal comes while it waits.
        """
        self._check_lockable(file)
        policy = self._range(start, length)
        if command == F_GETLK:
            if kind == F_UNLCK:
                raise LustreError(EINVAL)
            told: Told = yield from self.llite.file_locks.test(file.inode, kind, policy)
            return told
        if command not in (F_SETLK, F_SETLKW) or kind not in (F_RDLCK, F_WRLCK, F_UNLCK):
            raise LustreError(EINVAL)
        if (kind == F_RDLCK and not file.readable) or (kind == F_WRLCK and not file.writable):
            raise LustreError(EBADF)
        yield from self._lock(file, kind, policy, command == F_SETLKW)
        return None

    def flock(self, file: Any, operation: int) -> Steps[None]:
        """System call flock: LOCK_SH, LOCK_EX or LOCK_UN, with LOCK_NB not to wait."""
        self._check_lockable(file)
        kinds = {LOCK_SH: F_RDLCK, LOCK_EX: F_WRLCK, LOCK_UN: F_UNLCK}
        kind = kinds.get(operation & ~LOCK_NB)
        if kind is None:
            raise LustreError(EINVAL)
        if not file.serial:
            file.serial = self.llite.new_pid()
        policy = Flock(0, OFFSET_MAX, FILES + file.serial * ADDRESS_STEP, self.pid)
        yield from self._lock(file, kind, policy, not operation & LOCK_NB)

    def _lock(self, file: Any, kind: int, policy: Flock, wait: bool) -> Steps[None]:
        waits = self._waits = Interruptible(self.llite.env) if wait else None
        try:
            yield from self.llite.file_locks.lock(file.inode, kind, policy, waits)
        finally:
            self._waits = None

    def interrupt(self) -> None:
        """A signal comes (SIGINT): a call that waits for a file lock ends; all others go on."""
        if self._waits is not None:
            self._waits.signal()

    def group_lock(self, file: Any, gid: int) -> Steps[None]:
        """LL_IOC_GROUP_LOCK: share the file with whoever names the same group, and nobody else.

        EINVAL for group 0 and for a file that is in a group; EAGAIN where an O_NONBLOCK file would
        have to wait.
        """
        self._check_lockable(file)
        if not gid or file.group or not file.inode.is_reg:
            raise LustreError(EINVAL)
        wait = not file.flags & O_NONBLOCK
        yield from self.llite.data.join_group(file.inode, gid, wait)
        file.group = gid

    def group_unlock(self, file: Any, gid: int) -> None:
        """LL_IOC_GROUP_UNLOCK: EINVAL where the file is not in that group."""
        self._check_lockable(file)
        if not gid or file.group != gid:
            raise LustreError(EINVAL)
        self.llite.data.leave_group(file.inode, gid)
        file.group = 0

    def lock_ahead(
        self, file: Any, mode: int, start: int, end: int, background: bool = False
    ) -> Steps[int]:
        """LL_IOC_LADVISE with LU_LADVISE_LOCKAHEAD: LLA_RESULT_*; `mode` is F_RDLCK or F_WRLCK.

        EINVAL for no range, EOPNOTSUPP where an OST does not know such locks, EAGAIN where a
        group's lock is in the way.
        """
        self._check_lockable(file)
        if mode not in AHEAD_MODES or not 0 <= start < end or not file.inode.is_reg:
            raise LustreError(EINVAL)
        if not file.inode.layout:
            return 0
        ahead = self.llite.data.lock_ahead(file.inode, AHEAD_MODES[mode], start, end, background)
        return int((yield from ahead))

    def drop_file_locks(self, file: Any) -> Steps[None]:
        """The file is being closed (locks_remove_posix, locks_remove_file)."""
        if file.group:
            self.group_unlock(file, file.group)
        locks = self.llite.file_locks
        if self._pid:
            owner = PROCESSES + self._pid * ADDRESS_STEP
            yield from locks.release(file.inode, owner, self._pid)
        if file.serial:
            yield from locks.release(file.inode, FILES + file.serial * ADDRESS_STEP, self.pid)

    def _range(self, start: int, length: int) -> Flock:
        if length < 0:
            start, length = start + length, -length
        end = start + length - 1 if length else OFFSET_MAX
        if start < 0 or not start <= end <= OFFSET_MAX:
            raise LustreError(EINVAL)
        return Flock(start, end, PROCESSES + self.pid * ADDRESS_STEP, self.pid)

    def _check_lockable(self, file: Any) -> None:
        if file.closed:
            raise LustreError(EBADF)

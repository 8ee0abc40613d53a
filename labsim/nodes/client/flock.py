"""File locks of this client's processes: fcntl(2) and flock(2) below the system calls.

Knows inodes and owners, not file tables. Stands for ll_file_flock and ll_file_noflock
(llite/file.c), and for the kernel's own list of file locks (fs/locks.c).

What the mount was told decides who is asked: the MDT (flock), nobody but this client (localflock),
or nobody at all (noflock: ENOSYS).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.ldlm.flock import FlockResource, range_of
from labsim.ldlm.policy import Flock
from labsim.ldlm.resource import Lock, flock_resource
from labsim.nodes.client.inode import Inode
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Interruptible
from labsim.wire.constants import (
    LCK_NL,
    LCK_PR,
    LCK_PW,
    LDLM_FL_BLOCK_NOWAIT,
    LDLM_FL_TEST_LOCK,
    LDLM_FLOCK,
)

EINTR, EAGAIN, EDEADLK, ENOSYS = 4, 11, 35, 38

F_RDLCK, F_WRLCK, F_UNLCK = 0, 1, 2
"""l_type."""
F_GETLK, F_SETLK, F_SETLKW = 5, 6, 7

MODES = {F_RDLCK: LCK_PR, F_WRLCK: LCK_PW, F_UNLCK: LCK_NL}
TYPES = {mode: kind for kind, mode in MODES.items()}

OFFSET_MAX = 2**63 - 1
"""Where a lock without length ends."""


class Told(NamedTuple):
    """A struct flock as F_GETLK fills it; length 0: to the end of the file."""

    type: int
    start: int = 0
    length: int = 0
    pid: int = 0


class KernelLock(Lock):
    """A lock on the kernel's list; all are of this client."""

    __slots__ = ()

    @property
    def client(self) -> int:
        """Every process here is of this client."""
        return 0


class FileLocks:
    """The file locks of one mount. `option` is flock, localflock or noflock."""

    def __init__(self, llite: Any, option: str) -> None:
        self.llite = llite
        self.env = llite.env
        self.option = option
        self._lists: dict[Fid, FlockResource] = {}
        self._serial = 0
        self._waiting: list[tuple[KernelLock, Inode, Any]] = []
        self._apply: Callable[..., Any] = self._apply_locally
        if option == "flock":
            self._apply = self._apply_remotely
        elif option == "noflock":
            self._apply = self._refuse

    def lock(
        self, inode: Inode, kind: int, policy: Flock, wait: Interruptible | None = None
    ) -> Steps[None]:
        """F_SETLK or F_SETLKW, or flock(2): EAGAIN, EDEADLK, ENOSYS.

        With `wait` it waits as long as no signal comes: EINTR.
        """
        started_ns = self.env.now
        yield from self._apply(inode, MODES[kind], policy, wait)
        self.llite.tally("flock", started_ns)

    def test(self, inode: Inode, kind: int, policy: Flock) -> Steps[Told]:
        """F_GETLK: who is in the way; F_UNLCK: nobody."""
        self._check_option()
        if self.option == "localflock":
            wish = KernelLock(self._next(), MODES[kind], policy)
            found = next(self._list(inode).conflicting(wish), None)
            mode, at = (found.mode, range_of(found)) if found else (LCK_NL, policy)
        else:
            ldlm = self.llite.mdc(inode.fid).ldlm
            mode, at = yield from ldlm.flock(
                flock_resource(inode.fid), MODES[kind], policy, LDLM_FL_TEST_LOCK
            )
        if mode == LCK_NL:
            return Told(F_UNLCK)
        length = 0 if at.end >= OFFSET_MAX else at.end - at.start + 1
        return Told(TYPES[mode], at.start, length, at.pid)

    def has(self, inode: Inode, owner: int) -> bool:
        """Has that owner any lock on the file?"""
        known = self._lists.get(inode.fid)
        return known is not None and any(range_of(one).owner == owner for one in known.granted)

    def release(self, inode: Inode, owner: int, pid: int) -> Steps[None]:
        """A file is closed: what its process, or the file itself, had locked is free."""
        if self.has(inode, owner):
            try:
                yield from self.lock(inode, F_UNLCK, Flock(0, OFFSET_MAX, owner, pid))
            except LustreError as error:
                self.llite.trace.emit("flock.lost", inode.fid, error.errno)
                self._record(inode, LCK_NL, Flock(0, OFFSET_MAX, owner, pid))

    # ---- by the mount's option

    def _check_option(self) -> None:
        if self.option == "noflock":
            raise LustreError(ENOSYS, "mounted without flock")

    def _refuse(
        self, inode: Inode, mode: int, policy: Flock, wait: Interruptible | None
    ) -> Steps[None]:
        self._check_option()
        yield

    def _apply_remotely(
        self, inode: Inode, mode: int, policy: Flock, wait: Interruptible | None
    ) -> Steps[None]:
        ldlm = self.llite.mdc(inode.fid).ldlm
        flags = 0 if wait is not None else LDLM_FL_BLOCK_NOWAIT
        yield from ldlm.flock(flock_resource(inode.fid), mode, policy, flags, wait)
        self._record(inode, mode, policy)

    def _apply_locally(
        self, inode: Inode, mode: int, policy: Flock, wait: Interruptible | None
    ) -> Steps[None]:
        wish = KernelLock(self._next(), mode, policy)
        while mode != LCK_NL and self._blocker(wish, inode) is not None:
            if wait is None:
                raise LustreError(EAGAIN, "locked by another process")
            if self._circle(policy.owner, wish, inode):
                raise LustreError(EDEADLK, "would wait for itself")
            woken = self.env.event()
            sleeper = wish, inode, woken
            self._waiting.append(sleeper)
            if not (yield from wait.wait(woken)):
                self._waiting.remove(sleeper)
                raise LustreError(EINTR, "interrupted while waiting for a lock")
        self._record(inode, mode, policy)

    def _blocker(self, wish: KernelLock, inode: Inode) -> Lock | None:
        return next(self._list(inode).conflicting(wish), None)

    def _circle(self, owner: int, wish: KernelLock, inode: Inode) -> bool:
        """Does who holds what `wish` wants wait, in the end, for `owner`?"""
        seen = [owner]
        blocker = self._blocker(wish, inode)
        while blocker is not None:
            holder = range_of(blocker).owner
            if holder in seen:
                return holder == owner
            seen.append(holder)
            waits = [one for one in self._waiting if range_of(one[0]).owner == holder]
            blocker = self._blocker(waits[0][0], waits[0][1]) if waits else None
        return False

    # ---- the kernel's list

    def _list(self, inode: Inode) -> FlockResource:
        known = self._lists.get(inode.fid)
        if known is None:
            known = self._lists[inode.fid] = FlockResource(flock_resource(inode.fid), LDLM_FLOCK)
        return known

    def _record(self, inode: Inode, mode: int, policy: Flock) -> None:
        """The lock is granted; who waits here may look again."""
        known = self._list(inode)
        known.take_in(KernelLock(self._next(), mode, policy), self._copy)
        if known.idle:
            del self._lists[inode.fid]
        waiting, self._waiting = self._waiting, []
        for _, _, woken in waiting:
            woken.succeed()

    def _copy(self, lock: Lock, part: Flock) -> KernelLock:
        return KernelLock(self._next(), lock.mode, part)

    def _next(self) -> int:
        self._serial += 1
        return self._serial

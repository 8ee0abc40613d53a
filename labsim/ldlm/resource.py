"""Resources: what a lock is on, and who holds or awaits locks on it.

Plain objects, values in and values out. Does not know clients, messages or time. Stands for struct
ldlm_resource with its granted and waiting queues, and the grant decision of ldlm_lock.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from labsim.base.ids import Fid
from labsim.ldlm.policy import Ibits, Policy, compatible, conflict, mode_name
from labsim.wire.constants import LDLM_FLOCK

ResName: TypeAlias = tuple[int, int, int, int]
"""struct ldlm_res_id: four u64."""


def fid_resource(fid: Fid) -> ResName:
    """The resource of an MDT object, or of an OST object that has a FID of its own."""
    return (fid.seq, fid.ver << 32 | fid.oid, 0, 0)


def entry_resource(parent: Fid, name_hash: int) -> ResName:
    """The resource of one name in a directory (parallel directory operations)."""
    return (parent.seq, parent.ver << 32 | parent.oid, 0, name_hash)


def flock_resource(fid: Fid) -> ResName:
    """The resource of the file locks on an MDT object: its last word is LDLM_FLOCK."""
    return (fid.seq, fid.ver << 32 | fid.oid, 0, LDLM_FLOCK)


def ost_resource(oid: int, seq: int = 0) -> ResName:
    """The resource of an OST object by struct ost_id: objects of MDT0 have sequence 0."""
    return (oid, seq, 0, 0) if seq == 0 else (seq, oid, 0, 0)


def config_resource(fsname: str, kind: int = 0) -> ResName:
    """The resource of a configuration log on the MGS: the first eight letters of its name."""
    return (int.from_bytes(fsname.encode()[:8], "little"), 0, kind, 0)


def resource_ost(name: ResName) -> tuple[int, int]:
    """(object id, sequence) of an OST object's resource; the inverse of `ost_resource`."""
    return (name[0], 0) if name[1] == 0 else (name[1], name[0])


def resource_fid(name: ResName) -> Fid:
    """The FID of an MDT object's resource."""
    return Fid(name[0], name[1] & 0xFFFFFFFF, name[1] >> 32)


class Lock:
    """What every lock has, on either side; cookies are unique in their namespace."""

    __slots__ = ("cookie", "mode", "policy", "wanted")

    def __init__(self, cookie: int, mode: int, policy: Policy) -> None:
        self.cookie = cookie
        self.mode = mode
        self.policy = policy
        self.wanted = policy
        """The policy as it was asked for, before the server grew it."""

    def excludes(self, other: Lock) -> bool:
        """Do the modes of the two not go together?"""
        return not compatible(self.mode, other.mode)

    def conflicts(self, other: Lock) -> bool:
        """May the two not be granted at the same time?"""
        return conflict(self.mode, self.policy, other.mode, other.policy)

    @property
    def growable(self) -> bool:
        """May an extent be granted larger than it was asked for?"""
        return False

    @property
    def client(self) -> int:
        """A number for whom it belongs to."""
        return self.cookie

    def same_client(self, other: Lock) -> bool:
        """Do both belong to one client?"""
        return self.client == other.client

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.cookie:#x} {mode_name(self.mode)} {self.policy}>"


class Resource:
    """The locks on one resource of a server.

    A new lock is granted when it conflicts with no granted lock and with none that waits before
    it: so nobody starves, and who wants another part of the resource need not wait. When a lock has
    gone the queue moves from its head, as far as that goes (LDLM_ITER_STOP).
    """

    __slots__ = ("_granted", "kind", "name", "waiting")

    def __init__(self, name: ResName, kind: int) -> None:
        self.name = name
        self.kind = kind
        self._granted: dict[int, dict[int, Lock]] = {}
        self.waiting: dict[int, Lock] = {}

    @property
    def granted(self) -> Iterator[Lock]:
        """The granted locks, mode by mode."""
        for locks in self._granted.values():
            yield from locks.values()

    @property
    def idle(self) -> bool:
        """True when there is no lock at all."""
        return not self.waiting and not any(self._granted.values())

    def of_mode(self, mode: int) -> list[Lock]:
        """The granted locks of that mode."""
        return list(self._granted.get(mode, {}).values())

    def conflicting(self, lock: Lock) -> Iterator[Lock]:
        """The granted locks that stand in the way of `lock`."""
        for mode, locks in self._granted.items():
            if compatible(mode, lock.mode):
                continue
            for other in locks.values():
                if other is not lock and lock.conflicts(other):
                    yield other

    def may_grant(self, lock: Lock) -> bool:
        """Is nothing granted, and nobody before it in the queue, in the way of `lock`?"""
        return not any(True for _ in self.conflicting(lock)) and self.may_pass(lock)

    def may_pass(self, lock: Lock) -> bool:
        """Is nobody that waits before it in the way?"""
        for other in self.waiting.values():
            if other is lock:
                return True
            if lock.conflicts(other):
                return False
        return True

    def wait(self, lock: Lock) -> None:
        """Put `lock` at the end of the queue."""
        self.waiting[lock.cookie] = lock

    def leave_queue(self, lock: Lock) -> None:
        """`lock` waits no longer."""
        self.waiting.pop(lock.cookie, None)

    def grant(self, lock: Lock) -> None:
        """Grant `lock`, as far as the others leave room."""
        self.leave_queue(lock)
        lock.policy = self.room(lock)
        self.admit(lock)

    def admit(self, lock: Lock) -> None:
        """Put `lock` among the granted ones as it is."""
        self._granted.setdefault(lock.mode, {})[lock.cookie] = lock

    def remove(self, lock: Lock) -> None:
        """Take `lock` away, granted or waiting."""
        self.leave_queue(lock)
        self._granted.get(lock.mode, {}).pop(lock.cookie, None)

    @property
    def next(self) -> Lock | None:
        """The first of the waiting locks."""
        return next(iter(self.waiting.values()), None)

    def next_granted(self) -> Lock | None:
        """Grant the first waiting lock if that may be now, and return it."""
        lock = self.next
        if lock is None or not self.may_grant(lock):
            return None
        self.grant(lock)
        return lock

    def waiting_for(self, lock: Lock) -> Lock | None:
        """The first waiting lock that the granted `lock` stands in the way of."""
        for other in self.waiting.values():
            if other.conflicts(lock):
                return other
        return None

    def room(self, lock: Lock) -> Policy:
        """The policy to grant: with the optional bits that nobody minds."""
        policy = lock.policy
        if isinstance(policy, Ibits) and policy.optional:
            return self._with_optional(lock, policy)
        return policy

    def _with_optional(self, lock: Lock, wanted: Ibits) -> Ibits:
        spare = wanted.optional & ~wanted.bits
        for other in (*self.granted, *self.waiting.values()):
            if other is not lock and lock.excludes(other):
                spare &= ~getattr(other.policy, "bits", 0)
        return Ibits(wanted.bits | spare)

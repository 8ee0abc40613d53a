"""The locks that a client has, and how it gives them back.

Knows the table of locks, the LRU and the cancel message, not how locks are asked for nor who calls
them back. Stands for the client's part of ldlm_resource.c, the LRU of ldlm_request.c and the client
side of ldlm_pool.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.faults import Dropped
from labsim.base.grammar import kstrto
from labsim.base.params import Param
from labsim.base.units import NS_PER_S
from labsim.ldlm import points
from labsim.ldlm.client_lock import ClientLock, LockState
from labsim.ldlm.desc import describe, name_of, policy_of
from labsim.ldlm.lru import Lru, next_tick
from labsim.ldlm.namespace import DEFAULT_LRU_SIZE, Namespace
from labsim.ldlm.policy import Ibits, conflict, mode_name, valid_mode
from labsim.ldlm.resource import ResName
from labsim.net.ptlrpc import Import, Request
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import (
    LDLM_FLOCK,
    OBD_CONNECT2_LOCK_CONVERT,
    OBD_CONNECT_CANCELSET,
    OBD_CONNECT_LRU_RESIZE,
)
from labsim.wire.ldlm import LdlmLockDesc, LdlmRequest
from labsim.wire.opcodes import LDLM_CANCEL, LDLM_CONVERT

EPROTO = 71

MAX_HANDLES = 409
"""Locks given back in one message: what fits in a page less 512 bytes (ldlm_req_handles_avail)."""


class Holdings(Namespace):
    """Base of ClientNamespace: which locks there are, and how they go."""

    early_lock_cancel = Param.flag(
        True, help="the server may be told of cancelled locks along with other requests"
    )
    dirty_age_limit = Param.count(
        10, unit="s", help="a glimpse calls a write lock back that was unused for longer than this"
    )

    def __init__(self, host: Host, imp: Import, name: str) -> None:
        super().__init__(host, name)
        self.imp = imp
        self.lru: Lru[ClientLock] = Lru()
        self.locks: dict[int, ClientLock] = {}
        self._resources: dict[ResName, dict[int, ClientLock]] = {}
        self._leaving: list[ClientLock] = []
        self._start_ns = self.env.now
        self._scan: Any = None
        self._scan_ns = 0
        imp.on_lock_volume = self._told_volume

    # ---- the table

    def add(self, lock: ClientLock) -> None:
        """A lock that is about to be asked for."""
        self.locks[lock.cookie] = lock
        self._resources.setdefault(lock.resource, {})[lock.cookie] = lock

    def of(self, resource: ResName) -> Iterable[ClientLock]:
        """The locks on a resource, oldest first."""
        return self._resources.get(resource, {}).values()

    def adopt(self, lock: ClientLock, desc: LdlmLockDesc) -> None:
        """Take over what the server made of the lock: resource, mode, bits or extent.

        Raises EPROTO, and changes nothing, where that is no lock.
        """
        mode = desc.granted_mode or desc.req_mode
        policy = policy_of(desc)
        if not valid_mode(mode) or policy.kind != lock.policy.kind:
            raise LustreError(EPROTO, f"{self.name}: a lock of mode {mode} was granted")
        self._unlist(lock)
        lock.resource = name_of(desc)
        lock.mode = mode
        lock.policy = Ibits(policy.bits) if isinstance(policy, Ibits) else policy
        self._resources.setdefault(lock.resource, {})[lock.cookie] = lock

    def drop(self, lock: ClientLock) -> None:
        """Nobody can find the lock any more."""
        if lock.state in (LockState.GRANTED, LockState.CANCELING) and lock.cookie in self.locks:
            self._left_pool(lock)
        self.lru.remove(lock)
        self.locks.pop(lock.cookie, None)
        self._unlist(lock)

    def _unlist(self, lock: ClientLock) -> None:
        others = self._resources.get(lock.resource)
        if others is not None:
            others.pop(lock.cookie, None)
            if not others:
                del self._resources[lock.resource]

    def now_granted(self, lock: ClientLock) -> None:
        """The lock is this client's."""
        lock.state = LockState.GRANTED
        if lock.policy.kind != LDLM_FLOCK:
            self.reckoned().granted_one()

    def _left_pool(self, lock: ClientLock) -> None:
        if lock.policy.kind != LDLM_FLOCK:
            self.reckoned().cancelled_one()

    def use(self, lock: ClientLock) -> ClientLock:
        """One more user."""
        lock.refs += 1
        self.lru.remove(lock)
        return lock

    # ---- giving back

    def call_back(self, lock: ClientLock) -> None:
        """Somebody wants the lock: no new users, and away with it once nobody uses it."""
        lock.cancel_pending = True
        if lock.refs == 0 and lock.state is LockState.GRANTED:
            self.start_cancel(lock)

    def start_cancel(self, lock: ClientLock) -> None:
        """Begin to give an unused lock back."""
        assert lock.refs == 0 and lock.state is LockState.GRANTED
        lock.state = LockState.CANCELING
        lock.cancel_pending = True
        self.lru.remove(lock)
        self.env.process(self._leave(lock))

    def _leave(self, lock: ClientLock) -> Steps[None]:
        """Have the cache under the lock written back or dropped, then tell the server."""
        kept = self._kept_bits(lock)
        if kept and (yield from self._convert(lock, kept)):
            return
        yield from self._let_go(lock, getattr(lock.policy, "bits", 0))
        self.drop(lock)
        self._leaving.append(lock)
        if len(self._leaving) == 1:
            yield self.env.timeout(0)  # those that leave at the same moment go together
            leaving, self._leaving = self._leaving, []
            yield from self._tell(leaving)

    def _let_go(self, lock: ClientLock, bits: int) -> Steps[None]:
        """Run the blocking callback; `bits` are the inodebits that go."""
        lock.going = bits
        if lock.blocking is not None:
            try:
                steps = lock.blocking(lock)
                if steps is not None:
                    yield from steps
            except LustreError as error:
                self.host.trace.emit("ldlm.flush_failed", self.name, error.errno)

    # ---- giving back only some inodebits

    def _kept_bits(self, lock: ClientLock) -> int:
        """What of a lock nobody wants, and no other lock covers (ll_md_need_convert); 0: all go."""
        converts = self.imp.connect_data.connect_flags2 & OBD_CONNECT2_LOCK_CONVERT
        if not (lock.called_bits and converts):
            return 0
        if lock.failed or not isinstance(lock.policy, Ibits):
            return 0
        unwanted = kept = lock.policy.bits & ~lock.called_bits
        for other in self.of(lock.resource):
            if other.usable and isinstance(other.policy, Ibits):
                kept &= ~other.policy.bits
        return unwanted if kept else 0

    def _convert(self, lock: ClientLock, kept: int) -> Steps[bool]:
        """LDLM_CONVERT: the wanted bits go, the lock stays; False where it must go after all."""
        yield from self._let_go(lock, lock.called_bits)
        desc = describe(lock.resource, lock.mode, Ibits(kept), lock.mode)
        asked = lock.server_handle
        dlm_req = LdlmRequest(lock_count=1, lock_desc=desc, lock_handle=(asked, 0))
        try:
            reply = yield from self.imp.call(Request(LDLM_CONVERT, dlm_req=dlm_req))
        except LustreError as error:
            self.host.trace.emit("ldlm.convert_failed", self.name, error.errno)
            return False
        if reply.status or lock.failed:
            if lock.server_handle == asked:
                lock.server_handle = 0  # the server has no such lock any more
            return False  # else it started anew, and was told of the lock: it knows another handle
        lock.policy = Ibits(kept)
        lock.state = LockState.GRANTED
        lock.called_bits &= kept
        if lock.called_bits:
            self.start_cancel(lock)  # somebody has come for more meanwhile
        else:
            lock.cancel_pending = False
            self.lru.add(lock, self.env.now)
            self.shrink()
        return True

    def _tell(self, locks: list[ClientLock]) -> Steps[None]:
        """LDLM_CANCEL; a server that has forgotten us needs none."""
        yield from self.at(points.LDLM_PAUSE_CANCEL)
        known = [lock.server_handle for lock in locks if lock.server_handle and not lock.failed]
        try:
            yield from self.at(points.LDLM_CANCEL_RACE)
        except Dropped:
            known = []
        while known:
            now, known = known[:MAX_HANDLES], known[MAX_HANDLES:]
            padded = (*now, 0) if len(now) == 1 else tuple(now)
            dlm_req = LdlmRequest(lock_count=len(now), lock_handle=padded)
            try:
                yield from self.imp.call(Request(LDLM_CANCEL, dlm_req=dlm_req))
            except LustreError as error:
                # ESTALE: dropped there before we asked. Anything else: the import's business.
                self.host.trace.emit("ldlm.cancel_failed", self.name, error.errno, len(now))
        for lock in locks:
            lock.state = LockState.GONE
            if lock.done is not None:
                lock.done.succeed()

    def wait_gone(self, locks: Iterable[ClientLock]) -> Steps[None]:
        """Wait until locks that are on their way out are gone, and the server knows."""
        for lock in locks:
            if lock.state is LockState.GONE:
                continue
            if lock.done is None:
                lock.done = self.env.event()
            yield lock.done

    def take_early(self, resource: ResName, mode: int, bits: int) -> list[int]:
        """Give up the unused locks that a lock of that mode on these inodebits would call back.

        Their server handles, for another request to carry (early lock cancel,
        ldlm_cancel_resource_local). A lock whose cache cannot be dropped at once stays.
        """
        if not (self.early_lock_cancel and self.imp.granted(OBD_CONNECT_CANCELSET)):
            return []
        wanted, handles = Ibits(bits), []
        for lock in list(self.of(resource)):
            if lock not in self.lru or not conflict(lock.mode, lock.policy, mode, wanted):
                continue
            if self.drop_at_once(lock):
                handles.append(lock.server_handle)
        return handles

    def drop_at_once(self, lock: ClientLock) -> bool:
        """Forget an unused lock; False where its cache takes time, so that it leaves in order."""
        self.lru.remove(lock)
        lock.state, lock.cancel_pending = LockState.CANCELING, True
        lock.going = getattr(lock.policy, "bits", 0)
        if lock.blocking is not None and lock.blocking(lock) is not None:
            lock.state = LockState.GRANTED
            self.start_cancel(lock)
            return False
        self.drop(lock)
        lock.state = LockState.GONE
        return True

    # ---- the LRU

    def _told_volume(self, volume: int, limit: int) -> None:
        """The server's lock volume has changed."""
        self.pool.told(volume, limit)
        if self.limit() is None:
            self._schedule_scan()

    def limit(self) -> int | None:
        """How many unused locks are kept; None: only their age counts (LRU_RESIZE)."""
        if self.lru_size:
            return self.lru_size
        return None if self.imp.granted(OBD_CONNECT_LRU_RESIZE) else DEFAULT_LRU_SIZE

    def shrink(self) -> None:
        """Give back what the LRU has above its limit; without a limit see to the old ones."""
        limit = self.limit()
        if limit is None:
            self._schedule_scan()
        else:
            for lock in self.lru.over(limit):
                self.start_cancel(lock)

    def _schedule_scan(self) -> None:
        """Arm for the first turn of the pool at which the oldest lock will be too old."""
        oldest = self.lru.oldest
        if oldest is None:
            return
        age_ns = self.max_age_ns()
        by_volume_s = self.pool.age_s(len(self.lru))
        if by_volume_s is not None:
            age_ns = min(age_ns, by_volume_s * NS_PER_S)
        ripe_ns = max(oldest.last_used_ns + age_ns, self.env.now)
        period_ns = self.pool_recalc_period * NS_PER_S
        at_ns = next_tick(ripe_ns, self._start_ns, period_ns)
        if self._scan is None or at_ns < self._scan_ns:
            self.stop_scan()
            self._scan_ns = at_ns
            self._scan = self.imp.rpc.deadlines.add(at_ns, self._scanned)

    def _scanned(self) -> None:
        """A turn of the pool (ldlm_cli_pool_recalc): cancel what is too old, or too much."""
        self._scan = None
        if self.limit() is None:
            for lock in self._ripe():
                self.start_cancel(lock)
            self._schedule_scan()

    def _ripe(self) -> list[ClientLock]:
        """The unused locks that are too old, or weigh too much (ldlm_cancel_lrur_policy)."""
        found: list[ClientLock] = []
        now, oldest_ns = self.env.now, self.env.now - self.max_age_ns()
        for lock in self.lru:
            age_s = (now - lock.last_used_ns) // NS_PER_S
            if lock.last_used_ns >= oldest_ns and self.pool.keeps(
                len(self.lru) - len(found), age_s
            ):
                break
            found.append(lock)
        return found

    def age_changed(self) -> None:
        """Look at the LRU anew, at the pool's next turn."""
        self.stop_scan()
        self.shrink()

    def stop_scan(self) -> None:
        """Disarm the pool's next turn."""
        if self._scan is not None:
            self._scan.cancel()
            self._scan = None

    # ---- parameters

    def show_lru_size(self) -> str:
        """The limit; without one, how many unused locks there are."""
        return f"{len(self.lru) if self.limit() is None else self.limit()}\n"

    def store_lru_size(self, text: str) -> Steps[None] | None:
        """A number of locks to keep from now on; 0: as many as age allows; "clear": none now."""
        if text.startswith("clear"):
            return self.clear()
        size = kstrto(text, 10, 0, 2**64 - 1)
        if self.limit() is None or size:
            for lock in self.lru.over(size):
                self.start_cancel(lock)
        self.lru_size = size
        self.age_changed()
        return None

    def clear(self) -> Steps[None]:
        """Give back all locks that nobody uses."""
        locks = list(self.lru)
        for lock in locks:
            self.start_cancel(lock)
        yield from self.wait_gone(locks)

    @Param.computed(unit="locks", help="locks in this namespace")
    def lock_count(self) -> int:
        """How many locks this client has or asks for."""
        return len(self.locks)

    @Param.computed(unit="locks", help="locks that nobody uses at present")
    def lock_unused_count(self) -> int:
        """How many of them are in the LRU."""
        return len(self.lru)

    @Param.computed(unit="resources", help="resources that have locks")
    def resource_count(self) -> int:
        """How many resources they are on."""
        return len(self._resources)

    def snapshot(self) -> list[dict[str, Any]]:
        """Every lock as plain data, for the invariants."""
        return [
            {
                "resource": list(lock.resource),
                "kind": lock.policy.kind,
                "mode": mode_name(lock.mode),
                "policy": str(lock.policy),
                "state": lock.state.name,
                "owner": self.name,
                "cookie": lock.cookie,
                "handle": lock.server_handle,
                "refs": lock.refs,
            }
            for lock in self.locks.values()
        ]

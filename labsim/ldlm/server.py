"""The locks that a target has granted, and who waits for them.

Knows queues, callbacks and clients that do not answer, not what the locks protect. Stands for a
server's struct ldlm_namespace, ldlm_lock.c and the waiting list of ldlm_lockd.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.params import Param
from labsim.base.units import NS_PER_S
from labsim.ldlm import points
from labsim.ldlm.extent import ExtentResource
from labsim.ldlm.flock import FlockResource
from labsim.ldlm.namespace import DEFAULT_LRU_SIZE
from labsim.ldlm.policy import WHOLE, Extent, Ibits, Policy, mode_name, valid_mode
from labsim.ldlm.resource import Lock, ResName, Resource
from labsim.ldlm.server_flocks import ServerFlocks
from labsim.ldlm.server_lock import ServerLock
from labsim.net.ptlrpc import Export
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    LCK_GROUP,
    LDLM_EXTENT,
    LDLM_FL_BLOCK_NOWAIT,
    LDLM_FL_DENY_ON_CONTENTION,
    LDLM_FL_NO_TIMEOUT,
    LDLM_FL_SPECULATIVE,
    LDLM_FLOCK,
)

EAGAIN, EFAULT, EINVAL, EUSERS, ENOTCONN = 11, 14, 22, 87, 107

KINDS: dict[int, type[Resource]] = {LDLM_EXTENT: ExtentResource, LDLM_FLOCK: FlockResource}
"""The resources of lock types that have rules of their own."""

NEVER_WAITS = LDLM_FL_BLOCK_NOWAIT | LDLM_FL_SPECULATIVE
"""A lock that is granted at once or not at all, and calls nobody's back."""


class ServerNamespace(ServerFlocks):
    """One target's locks.

    `target` has `host`, `rpc` and `name` ("lustre-MDT0000"); an OST's also `lvb(resource)`.
    """

    contended_locks = Param.count(
        32, unit="locks", help="conflicting locks beyond which a resource counts as contended"
    )
    contention_seconds = Param.count(
        2, unit="s", help="how long a resource counts as contended after that"
    )
    max_nolock_bytes = Param.count(
        0, unit="bytes", help="up to this size a contended request is done without a client's lock"
    )
    ctime_age_limit = Param.count(
        10, unit="s", help="a lookup of an inode unchanged for this long gets an UPDATE lock too"
    )

    def __init__(self, target: Any) -> None:
        super().__init__(target.host, _name(target.name))
        self.target = target
        self._locks: dict[int, ServerLock] = {}
        self._resources: dict[ResName, Resource] = {}
        self._clients: dict[int, dict[int, ServerLock]] = {}

    # ---- taking locks

    def acquire(
        self,
        resource: ResName,
        mode: int,
        *,
        bits: int = 0,
        optional: int = 0,
        extent: Extent | None = None,
        export: Export | None = None,
        client_cookie: int = 0,
        flags: int = 0,
        behalf: int = 0,
    ) -> Steps[ServerLock]:
        """Take a lock and wait until it is granted: the server's own, or for a client's intent.

        `behalf` is the cookie of the client whose request a lock of the server's own is for.
        For an intent name the client's `export` and the cookie of its lock
        (`dlm_req.lock_handle[0]`), and hand the lock over with `intent_reply`. Otherwise give it
        back with `release`. Raises EAGAIN where LDLM_FL_BLOCK_NOWAIT forbids to wait, ENOTCONN
        where the client has gone meanwhile.
        """
        policy: Policy = extent or (Ibits(bits, optional) if bits | optional else WHOLE)
        known = self.known(export, client_cookie)
        if known is not None:  # the intent is executed again: its first reply did not arrive
            if known.granted and known.resource.name == resource:
                return known
            self.remove(known)
        lock = self.create(
            resource, mode, policy, export=export, client_cookie=client_cookie, flags=flags,
            behalf=behalf,
        )  # fmt: skip
        if not self.start(lock):
            yield from self._wait(lock)
        if lock.gone or (export is not None and export.closed):
            self.remove(lock)
            raise LustreError(ENOTCONN, f"{self.name}: the client has gone")
        return lock

    def _wait(self, lock: ServerLock) -> Steps[None]:
        lock.woken = self.env.event()
        try:
            yield lock.woken
        except BaseException:
            self.remove(lock)
            raise

    def create(
        self,
        resource: ResName,
        mode: int,
        policy: Policy,
        *,
        export: Export | None = None,
        client_cookie: int = 0,
        flags: int = 0,
        behalf: int = 0,
    ) -> ServerLock:
        """A lock that is in no queue yet; EFAULT for no mode, EINVAL for another type."""
        if not valid_mode(mode):
            raise LustreError(EFAULT, f"{self.name}: mode {mode}")
        if not policy.valid:
            raise LustreError(EINVAL, f"{self.name}: {policy}")
        if export is not None and export.closed:
            raise LustreError(ENOTCONN, f"{self.name}: the client has gone")
        found = self._resources.get(resource)
        if found is None:
            kind = KINDS.get(policy.kind, Resource)
            found = self._resources[resource] = kind(resource, policy.kind)
        if found.kind != policy.kind:
            raise LustreError(EINVAL, f"{self.name}: resource {resource} is of type {found.kind}")
        lock = ServerLock(
            self.new_cookie(self._locks.__contains__), found, mode, policy,
            export=export, client_cookie=client_cookie, flags=flags, behalf=behalf,
        )  # fmt: skip
        self._locks[lock.cookie] = lock
        if export is not None:
            self._of_client(export)[lock.client_key] = lock
        return lock

    def start(self, lock: ServerLock) -> bool:
        """Grant the lock if nothing is in the way; else queue it, and call back what is.

        EAGAIN for one that must not wait; EUSERS where many fight for the object and the client
        would rather do without a lock then. The lock is gone after either.
        """
        resource = lock.resource
        if resource.may_grant(lock):
            resource.grant(lock)
            self.now_granted(lock)
            return True
        if lock.flags & NEVER_WAITS and self._refused(lock):
            self.remove(lock)
            raise LustreError(EAGAIN, f"{self.name}: a lock is in the way")
        if isinstance(resource, ExtentResource) and self._denied(lock, resource):
            self.remove(lock)
            raise LustreError(EUSERS, f"{self.name}: contended")
        if self._awaits_group(lock):
            lock.flags |= LDLM_FL_NO_TIMEOUT
        resource.wait(lock)
        self._call_back_for(lock)
        return False

    def now_granted(self, lock: ServerLock) -> None:
        """The lock is its client's."""
        lock.granted = True
        if lock.resource.kind != LDLM_FLOCK:
            self.reckoned().granted_one()

    def _refused(self, lock: ServerLock) -> bool:
        """May a lock that shall not wait not be queued either?

        On an object only groups are waited for by nobody: all others give their locks back soon.
        """
        if lock.flags & LDLM_FL_SPECULATIVE or not isinstance(lock.resource, ExtentResource):
            return True
        return self._awaits_group(lock)

    @staticmethod
    def _awaits_group(lock: ServerLock) -> bool:
        """Is a group's lock in the way, granted or before it in the queue?"""
        resource = lock.resource
        if not (isinstance(resource, ExtentResource) and resource.has_groups):
            return False
        others = (*resource.conflicting(lock), *resource.waiting.values())
        return any(other.mode == LCK_GROUP and lock.conflicts(other) for other in others)

    # ---- contention

    def contend(self, resource: Resource) -> Steps[None]:
        """A fault point makes an object contended (OBD_FAIL_LDLM_SET_CONTENTION)."""
        try:
            yield from self.at(points.LDLM_SET_CONTENTION)
        except LustreError:
            if isinstance(resource, ExtentResource):
                resource.contended_ns = self.env.now

    def _denied(self, lock: ServerLock, resource: ExtentResource) -> bool:
        """Is the client to do its I/O without a lock (ldlm_check_contention)?"""
        now = self.env.now
        contended = resource.contenders(lock) > self.contended_locks
        if contended:
            resource.contended_ns = now
        elif resource.contended_ns:
            contended = now < resource.contended_ns + self.contention_seconds * NS_PER_S
        wanted = lock.wanted
        small = isinstance(wanted, Extent) and wanted.end - wanted.start <= self.max_nolock_bytes
        asks = lock.flags & LDLM_FL_DENY_ON_CONTENTION and lock.mode != LCK_GROUP
        return contended and bool(asks) and small

    # ---- after a restart

    @property
    def recovering(self) -> bool:
        """Are there clients that have not told yet which locks they have?"""
        return getattr(self.target, "recovering", False)

    def restore(self, lock: ServerLock) -> None:
        """A client had this lock before this server started anew: it has it still, as it was."""
        lock.resource.admit(lock)
        self.now_granted(lock)

    def reprocess(self) -> None:
        """Recovery is over: grant whoever can be granted, and call back for the others."""
        for resource in list(self._resources.values()):
            if isinstance(resource, FlockResource):
                self.advance_flocks(resource)
                continue
            for lock in list(resource.waiting.values()):
                assert isinstance(lock, ServerLock)
                if resource.may_grant(lock):
                    resource.grant(lock)
                    self._granted(lock)
                else:
                    self._call_back_for(lock)

    def _call_back_for(self, lock: ServerLock) -> None:
        for other in list(lock.resource.conflicting(lock)):
            assert isinstance(other, ServerLock)
            self.ask_back(other, lock)

    # ---- finding locks

    def _of_client(self, export: Export) -> dict[int, ServerLock]:
        """A client's locks by its own cookies; they go when the client goes."""
        locks = self._clients.get(export.cookie)
        if locks is None:
            locks = self._clients[export.cookie] = {}
            export.on_close += (self._client_gone,)
        return locks

    def known(self, export: Export | None, client_cookie: int) -> ServerLock | None:
        """The lock that a client knows by this cookie: it asks for it a second time."""
        if export is None:
            return None
        return self._clients.get(export.cookie, {}).get(client_cookie)

    def held(self, export: Export, handle: int) -> ServerLock | None:
        """A client's lock by its handle; None where the handle is not one of that client's."""
        lock = self._locks.get(handle)
        return lock if lock is not None and lock.export is export and lock.handed else None

    # ---- giving locks back

    def release(self, lock: ServerLock) -> None:
        """The server's own lock, or one that is not handed to its client after all, goes."""
        self.remove(lock)

    def cancel(self, export: Export, handles: Iterable[int], asked: bool = False) -> int:
        """A client gives locks back; how many of them there were.

        With `asked` it does so in a request of its own, which tells how long it takes.
        """
        count = 0
        for handle in handles:
            lock = self.held(export, handle)
            if lock is not None:
                if asked and lock.asked_s:
                    now_s = export.rpc.now_s
                    export.lock_times.measured(now_s - lock.asked_s, now_s, export.rpc.timeouts)
                self.remove(lock)
                count += 1
        return count

    def downgrade(self, lock: ServerLock, mode: int) -> None:
        """A granted lock goes on in a weaker mode; who waited for that is granted."""
        resource = lock.resource
        resource.remove(lock)
        lock.mode = mode
        resource.admit(lock)
        self._advance(resource)
        waiter = resource.waiting_for(lock)
        if waiter is not None:
            assert isinstance(waiter, ServerLock)
            self.ask_back(lock, waiter)

    def convert(self, lock: ServerLock, bits: int) -> None:
        """A client keeps only `bits` of a lock; who else wants those calls it back once more."""
        self.calm(lock)
        lock.asked = False
        lock.policy = lock.wanted = Ibits(bits)
        self._advance(lock.resource)
        waiter = lock.resource.waiting_for(lock)
        if waiter is not None:
            assert isinstance(waiter, ServerLock)
            self.ask_back(lock, waiter)

    def remove(self, lock: ServerLock) -> None:
        """The lock goes, granted or waiting; who waited for it is granted."""
        if lock.gone:
            return
        self.forget(lock)
        self._advance(lock.resource)

    def forget(self, lock: ServerLock) -> None:
        """The lock goes; nobody is granted for that."""
        self.stopped_waiting(lock)
        if lock.granted and lock.resource.kind != LDLM_FLOCK:
            self.reckoned().cancelled_one()
        lock.gone = True
        lock.granted = False
        self.calm(lock)
        self._locks.pop(lock.cookie, None)
        if lock.export is not None:
            self._clients.get(lock.export.cookie, {}).pop(lock.client_key, None)
        lock.resource.remove(lock)
        if lock.woken is not None and not lock.woken.triggered:
            lock.woken.succeed()

    def _advance(self, resource: Resource) -> None:
        """Grant whom nobody is in the way of any more.

        While clients may hold locks that they have not told of, only the server gets new ones.
        """
        if isinstance(resource, FlockResource) and not self.recovering:
            self.advance_flocks(resource)
        while not (self.recovering and _is_clients(resource.next)):
            lock = resource.next_granted()
            if lock is None:
                break
            assert isinstance(lock, ServerLock)
            self._granted(lock)
        self.tidy(resource)

    def tidy(self, resource: Resource) -> None:
        """Forget a resource without locks."""
        if resource.idle:
            self._resources.pop(resource.name, None)

    def _granted(self, lock: ServerLock) -> None:
        """A lock has left the queue: tell whoever waits for it."""
        self.now_granted(lock)
        waiter = lock.resource.waiting_for(lock)
        if lock.woken is not None:
            lock.asked |= waiter is not None and lock.export is not None
            lock.woken.succeed()
        else:
            self.tell_granted(lock, waiter is not None)

    def _client_gone(self, export: Export) -> None:
        """Disconnected or evicted: all of its locks go at once, then the others move up.

        What an evicted one was granted is nobody's until the eviction is on disk: after a restart
        it could have it still.
        """
        locks = list(self._clients.pop(export.cookie, {}).values())
        if export.forgetting is None:
            self._free(locks)
            return
        self._free([lock for lock in locks if not lock.granted])
        for lock in locks:
            self.calm(lock)
        self.env.process(self._free_later(export.forgetting, locks))

    def _free_later(self, forgotten: Any, locks: list[ServerLock]) -> Steps[None]:
        yield forgotten
        yield from self.at(points.LDLM_BL_EVICT)
        self._free([lock for lock in locks if not lock.gone])

    def _free(self, locks: list[ServerLock]) -> None:
        for lock in locks:
            self.forget(lock)
        resources = {lock.resource.name: lock.resource for lock in locks}
        for resource in resources.values():
            self._advance(resource)

    def close(self) -> None:
        """The target stops; its clients have gone already."""
        for lock in list(self._locks.values()):
            self.forget(lock)
        self._resources.clear()
        self.unmount()

    # ---- parameters

    def show_lru_size(self) -> str:
        """A server keeps no LRU; the file shows what the limit would be."""
        return f"{self.lru_size or DEFAULT_LRU_SIZE}\n"

    @Param.computed(unit="locks", help="locks in this namespace")
    def lock_count(self) -> int:
        """Granted and waiting locks."""
        return len(self._locks)

    @Param.computed(unit="resources", help="resources that have locks")
    def resource_count(self) -> int:
        """How many resources they are on."""
        return len(self._resources)

    def snapshot(self) -> list[dict[str, Any]]:
        """Every lock as plain data, for the invariants."""
        return [
            {
                "resource": list(lock.resource.name),
                "kind": lock.resource.kind,
                "mode": mode_name(lock.mode),
                "policy": str(lock.policy),
                "state": "GRANTED" if lock.granted else "WAITING",
                "owner": lock.export.client_uuid if lock.export is not None else self.name,
                "cookie": lock.cookie,
                "client_cookie": lock.client_cookie,
            }
            for lock in self._locks.values()
        ]


def _is_clients(lock: Lock | None) -> bool:
    return isinstance(lock, ServerLock) and lock.export is not None


def _name(target: str) -> str:
    """What a target's namespace is called: filter-lustre-OST0000_UUID, mdt-..., or just MGS."""
    if "-" not in target:
        return target
    return f"{'filter' if '-OST' in target else 'mdt'}-{target}_UUID"

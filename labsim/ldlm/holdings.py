"""The locks that a client has, and how it gives them back.

Knows the table of locks and the cancel message, not how locks are asked for nor who calls them
back. Stands for the client's part of ldlm_resource.c, and for ldlm_cli_cancel and its kin
(ldlm_request.c). A cancel goes alone, or along with a request that is sent anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.faults import Dropped
from labsim.base.params import Param
from labsim.ldlm import points
from labsim.ldlm.client_lock import ClientLock, LockState
from labsim.ldlm.desc import cancelling, describe, name_of, padded, policy_of
from labsim.ldlm.policy import Ibits, conflict, mode_name, valid_mode
from labsim.ldlm.resource import ResName
from labsim.ldlm.unused import UnusedLocks
from labsim.net.ptlrpc import Import, Request
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import LDLM_FLOCK, LDLM_LOCKREQ_HANDLES, OBD_CONNECT2_LOCK_CONVERT
from labsim.wire.ldlm import LdlmLockDesc, LdlmRequest
from labsim.wire.lustre_msg import PtlrpcBody
from labsim.wire.message import Message
from labsim.wire.opcodes import LDLM_CANCEL, LDLM_CONVERT

EPROTO = 71

LARGEST_REQUEST = 4096 - 512
"""A request with cancels fits in a page, with the headers of network and socket."""
HANDLE_BYTES = 8
MAX_HANDLES = 409
"""Locks given back in one LDLM_CANCEL (ldlm_format_handles_avail)."""


class Holdings(UnusedLocks):
    """Base of ClientNamespace: which locks there are, and how they go."""

    dirty_age_limit = Param.count(
        10, unit="s", help="a glimpse calls a write lock back that was unused for longer than this"
    )

    def __init__(self, host: Host, imp: Import, name: str) -> None:
        super().__init__(host, imp, name)
        self.locks: dict[int, ClientLock] = {}
        self._resources: dict[ResName, dict[int, ClientLock]] = {}
        self._leaving: list[ClientLock] = []

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
        yield from self._drop_cache(lock)
        self._leaving.append(lock)
        if len(self._leaving) == 1:
            yield self.env.timeout(0)  # those that leave at the same moment go together
            leaving, self._leaving = self._leaving, []
            yield from self._take_along(leaving)
            yield from self._tell(leaving)

    def _drop_cache(self, lock: ClientLock) -> Steps[None]:
        yield from self._let_go(lock, getattr(lock.policy, "bits", 0))
        self.drop(lock)

    def _take_along(self, leaving: list[ClientLock]) -> Steps[None]:
        """What else should go from the LRU goes with the same message (ldlm_cli_cancel)."""
        if not (self.packs_cancels and leaving[0].server_handle):
            return
        found = [(lock, lock.last_used_ns) for lock in self.excess(MAX_HANDLES - len(leaving))]
        for lock, last_used_ns in found:
            if lock in self.lru and lock.last_used_ns == last_used_ns:
                lock.state, lock.cancel_pending = LockState.CANCELING, True
                self.lru.remove(lock)
                yield from self._drop_cache(lock)
                leaving.append(lock)

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
        yield from self._send_cancels(known)
        for lock in locks:
            lock.state = LockState.GONE
            if lock.done is not None:
                lock.done.succeed()

    def _send_cancels(self, handles: list[int]) -> Steps[None]:
        """LDLM_CANCEL; one for each lock where the server knows no sets of them."""
        most = MAX_HANDLES if self.cancels_sets else 1
        while handles:
            now, handles = handles[:most], handles[most:]
            try:
                yield from self.imp.call(Request(LDLM_CANCEL, dlm_req=cancelling(now)))
            except LustreError as error:
                self.host.trace.emit("ldlm.cancel_failed", self.name, error.errno, len(now))

    def wait_gone(self, locks: Iterable[ClientLock]) -> Steps[None]:
        """Wait until locks that are on their way out are gone, and the server knows."""
        for lock in locks:
            if lock.state is LockState.GONE:
                continue
            if lock.done is None:
                lock.done = self.env.event()
            yield lock.done

    # ---- cancels that travel with other requests (early lock cancel)

    @property
    def packs_cancels(self) -> bool:
        """May requests carry cancels (ns_connect_cancelset)?"""
        return self.early_lock_cancel and self.cancels_sets

    def take_early(self, resource: ResName, mode: int, bits: int) -> list[int]:
        """Give up the unused locks that a lock of that mode on these inodebits would call back.

        Their server handles, for another request to carry (ldlm_cancel_resource_local). A lock
        whose cache cannot be dropped at once stays.
        """
        if not self.packs_cancels:
            return []
        wanted = Ibits(bits)
        locks = [
            lock for lock in self.of(resource)
            if lock in self.lru and conflict(lock.mode, lock.policy, mode, wanted)
        ]  # fmt: skip
        return self._dropped(locks)

    def _dropped(self, locks: Iterable[ClientLock]) -> list[int]:
        return [lock.server_handle for lock in locks if self.drop_at_once(lock)]

    def pack_cancels(self, request: Request, new: int = 0) -> None:
        """Have a request also carry what the LRU has too much, as far as there is room in it.

        What its dlm_req names already beyond that room goes in a message of its own
        (ldlm_prep_elc_req). `new` locks will come with the answer.
        """
        if not (self.packs_cancels and "dlm_req" in request.fields):
            return
        dlm_req: LdlmRequest = request.fields["dlm_req"]
        handles = list(dlm_req.lock_handle[: dlm_req.lock_count])
        if len(handles) <= LDLM_LOCKREQ_HANDLES and not self.has_surplus(new):
            return
        room = self._handles_avail(request)
        handles += self._dropped(self.surplus(room - len(handles), new))
        handles, rest = handles[:room], handles[room:]
        request.fields["dlm_req"] = dlm_req.replace(
            lock_count=len(handles), lock_handle=padded(handles)
        )
        if rest:
            self.env.process(self._send_cancels(rest))

    @staticmethod
    def _handles_avail(request: Request) -> int:
        """How many handles a request may name: what fits in a page, and never less than two."""
        size = Message(request.format, request.fields, PtlrpcBody()).wire_size
        more = len(request.fields["dlm_req"].lock_handle) - LDLM_LOCKREQ_HANDLES
        spare = (LARGEST_REQUEST - size) // HANDLE_BYTES + more
        return max(spare, 0) + LDLM_LOCKREQ_HANDLES

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

    # ---- parameters

    @Param.computed(unit="locks", help="locks in this namespace")
    def lock_count(self) -> int:
        """How many locks this client has or asks for."""
        return len(self.locks)

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

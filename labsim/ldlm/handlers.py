"""What clients ask of a target's locks: enqueue and cancel.

Knows requests and replies; queues are ServerNamespace's. Stands for ldlm_handle_enqueue0 and
ldlm_handle_cancel (ldlm_lockd.c), and for the glimpse in ofd_intent_policy (ofd_dlm.c).
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.ldlm import lvb, points
from labsim.ldlm.desc import (
    describe,
    first_handle,
    handles_of,
    intent_status,
    is_empty,
    name_of,
    policy_of,
    request_of,
)
from labsim.ldlm.extent import ExtentResource
from labsim.ldlm.flock import told
from labsim.ldlm.policy import Ibits, Policy
from labsim.ldlm.resource import ResName
from labsim.ldlm.server import NEVER_WAITS, ServerNamespace
from labsim.ldlm.server_lock import ServerLock
from labsim.net.ptlrpc import Export, Handlers, ServerRequest, handles
from labsim.runtime.ports import Steps
from labsim.runtime.sync import gather
from labsim.wire.constants import (
    ELDLM_LOCK_ABORTED,
    ELDLM_NO_LOCK_DATA,
    LCK_NL,
    LDLM_EXTENT,
    LDLM_FL_AST_SENT,
    LDLM_FL_BLOCK_GRANTED,
    LDLM_FL_BLOCK_WAIT,
    LDLM_FL_HAS_INTENT,
    LDLM_FL_LOCK_CHANGED,
    LDLM_FL_NO_EXPANSION,
    LDLM_FL_NO_TIMEOUT,
    LDLM_FL_REPLAY,
    LDLM_FL_TEST_LOCK,
    LDLM_FLOCK,
    OBD_CONNECT_LRU_RESIZE,
    OBD_CONNECT_LVB_TYPE,
)
from labsim.wire.ldlm import LdlmLockDesc, LdlmReply
from labsim.wire.message import Message
from labsim.wire.opcodes import LDLM_CANCEL, LDLM_CONVERT, LDLM_ENQUEUE

EINVAL, EPROTO, ENOTCONN, ESTALE = 22, 71, 107, 116


class LdlmHandlers(Handlers):
    """Mixin of targets: the lock requests. Needs `ldlm`; an OST's `lvb`, an MDT's `intent` too."""

    ldlm: ServerNamespace

    def intent(self, req: ServerRequest) -> Steps[Message]:
        """Execute the intent of an enqueue; the reply is made with `intent_reply`."""
        raise LustreError(EPROTO, f"{self.ldlm.name} executes no intents")
        yield

    def lvb(self, resource: Any) -> bytes:
        """The packed OstLvb of the object that an extent lock is on."""
        raise LustreError(EINVAL, f"{self.ldlm.name} has no objects")

    def touches(self, req: ServerRequest) -> tuple[ResName, Policy] | None:
        """What a request does I/O on; None where it does none."""
        return None

    def stamp(self, reply: Message, export: Export) -> None:
        """Tell a client that keeps locks by their volume what the volume is (pb_slv, pb_limit)."""
        if export.granted(OBD_CONNECT_LRU_RESIZE):
            pool = self.ldlm.reckoned()
            reply.body.slv, reply.body.limit = pool.volume, pool.limit

    # ---- enqueue

    @handles(LDLM_ENQUEUE)
    def enqueue(self, req: ServerRequest) -> Steps[Message]:
        """A client wants a lock, maybe with an operation on the way to it."""
        yield from self.ldlm.at(points.LDLM_ENQUEUE_NET)
        reply = yield from self._enqueue_lock(req)
        yield from self.ldlm.at(points.LDLM_REPLY)
        return reply

    def _enqueue_lock(self, req: ServerRequest) -> Steps[Message]:
        dlm_req = request_of(req.msg)
        if dlm_req.lock_count > 1:
            self.ldlm.cancel(req.export, handles_of(dlm_req, first=1))
        yield from self.ldlm.at(points.LDLM_ENQUEUE_BLOCKED)
        if dlm_req.lock_flags & LDLM_FL_HAS_INTENT and req.has("ldlm_intent"):
            return (yield from self._intended(req))
        yield from self.ldlm.at(points.LDLM_NEW_LOCK)
        if dlm_req.lock_desc.resource.type == LDLM_EXTENT:
            yield from self.ldlm.at(points.LDLM_ENQUEUE_EXTENT_ERR)
        lock = self._wanted_lock(req)
        yield from self.ldlm.contend(lock.resource)
        if dlm_req.lock_flags & LDLM_FL_REPLAY and self.ldlm.recovering:
            return self._replayed_lock(req, lock)
        if lock.resource.kind == LDLM_FLOCK:
            return self._flock(req, lock)
        if dlm_req.lock_flags & LDLM_FL_HAS_INTENT:
            return (yield from self._glimpse_lock(req, lock))
        if not lock.granted and not self._start_lock(lock):
            yield from self._race_with_eviction(req)
        if lock.resource.kind == LDLM_EXTENT:
            yield from self.ldlm.at(points.LDLM_BL_EVICT)
        yield from self.ldlm.at(points.LDLM_ENQUEUE_OLD_EXPORT)
        self._check_there(req, lock)
        return self._answer_lock(req, lock)

    def _check_there(self, req: ServerRequest, lock: ServerLock) -> None:
        """ENOTCONN where the client was evicted meanwhile."""
        if lock.gone or req.export.closed:
            raise LustreError(ENOTCONN, f"{self.ldlm.name}: the client has gone")

    def _intended(self, req: ServerRequest) -> Steps[Message]:
        """Execute the intent; an error after that costs the client its answer, and its lock."""
        reply = yield from self.intent(req)
        try:
            yield from self.ldlm.at(points.LDLM_ENQUEUE_INTENT_ERR)
        except LustreError:
            lock = self.ldlm.known(req.export, first_handle(request_of(req.msg)))
            if lock is not None:
                self.ldlm.remove(lock)
            raise
        return reply

    def _race_with_eviction(self, req: ServerRequest) -> Steps[None]:
        try:
            yield from self.ldlm.at(points.LDLM_OST_FAIL_RACE)
        except LustreError as error:
            req.export.evict(str(error))

    def _wanted_lock(self, req: ServerRequest) -> ServerLock:
        """The lock that a request describes: a new one, or the one that its first copy made."""
        dlm_req = request_of(req.msg)
        desc, cookie = dlm_req.lock_desc, first_handle(dlm_req)
        known = self.ldlm.known(req.export, cookie)
        if known is not None and known.resource.name == name_of(desc):
            return known
        if known is not None or not cookie:
            raise LustreError(EINVAL, f"{self.ldlm.name}: handle {cookie:#x} cannot be used")
        return self.ldlm.create(
            name_of(desc),
            desc.req_mode,
            policy_of(desc),
            export=req.export,
            client_cookie=cookie,
            flags=dlm_req.lock_flags,
        )

    def _start_lock(self, lock: ServerLock) -> bool:
        """Grant or queue a lock that its client will know as soon as this request is answered."""
        lock.handed = True
        waiting = lock.cookie in lock.resource.waiting
        return not waiting and self.ldlm.start(lock)

    def _replayed_lock(self, req: ServerRequest, lock: ServerLock) -> Message:
        """A client tells of a lock it has: what it says is so, whatever others say."""
        lock.handed = True
        if not lock.granted and lock.cookie not in lock.resource.waiting:
            flags = request_of(req.msg).lock_flags
            if flags & LDLM_FL_BLOCK_GRANTED:
                self.ldlm.restore(lock)
            elif flags & LDLM_FL_BLOCK_WAIT:
                lock.resource.wait(lock)
            else:
                self.ldlm.start(lock)
        return req.reply(dlm_rep=_reply_of(lock, 0 if lock.granted else LDLM_FL_BLOCK_GRANTED))

    def _flock(self, req: ServerRequest, lock: ServerLock) -> Message:
        """A process wants to lock part of a file, to give it back, or to know who has it."""
        name, mode = lock.resource.name, lock.mode
        if lock.flags & LDLM_FL_TEST_LOCK:
            found = self.ldlm.test_flock(lock)
            mode, policy = (found.mode, told(lock, found)) if found else (LCK_NL, lock.policy)
            rep = LdlmReply(
                lock_flags=LDLM_FL_LOCK_CHANGED, lock_desc=describe(name, mode, policy, mode)
            )
            return req.reply(dlm_rep=rep)
        lock.handed = True
        waiting = lock.cookie in lock.resource.waiting
        granted = lock.granted or (not waiting and self.ldlm.ask_flock(lock))
        desc = describe(name, mode, lock.policy, mode if granted else 0)
        flags = 0 if granted else LDLM_FL_BLOCK_GRANTED
        rep = LdlmReply(lock_flags=flags, lock_desc=desc, lock_handle=lock.cookie)
        return req.reply(dlm_rep=rep)

    def _answer_lock(self, req: ServerRequest, lock: ServerLock) -> Message:
        flags = lock.flags & LDLM_FL_NO_TIMEOUT
        if not lock.granted:
            flags |= LDLM_FL_BLOCK_GRANTED
        if lock.policy != lock.wanted:
            flags |= LDLM_FL_LOCK_CHANGED
        if lock.asked:
            flags |= LDLM_FL_AST_SENT
        fields: dict[str, Any] = {}
        if lock.resource.kind == LDLM_EXTENT:
            try:
                fields["dlm_lvb"] = self.ldlm.value_for(req.export, lock)
            except LustreError:
                self.ldlm.remove(lock)
                raise
        return req.reply(dlm_rep=_reply_of(lock, flags), **fields)

    # ---- glimpse

    def _glimpse_lock(self, req: ServerRequest, lock: ServerLock) -> Steps[Message]:
        """Somebody wants to know an object's size: the lock if it is free, else just the size.

        Who asks ahead (AGL) is told nothing then: whoever needs the size will have it asked for.
        """
        ahead = lock.flags & NEVER_WAITS
        refused = bool(ahead) and (yield from self._refused_ahead())
        self._check_there(req, lock)
        if lock.granted or (not refused and lock.resource.may_grant(lock)):
            if not lock.granted:
                self._start_lock(lock)
            return self._answer_lock(req, lock)
        name = lock.resource.name
        known = lvb.read(self.lvb(name))
        holders = [] if ahead else writers(lock, known.size)
        self.ldlm.remove(lock)
        yield from self.ldlm.at(points.LDLM_GLIMPSE)
        if holders:
            asked = [self.ldlm.glimpse(holder) for holder in holders]
            answers = yield from gather(self.ldlm.env, asked)
            known = lvb.newer(known, lvb.read(self.lvb(name)))  # the disk may have moved on
            for seen in answers:
                known = known if seen is None else lvb.newer(known, seen)
        block = lvb.packed(known, req.export.granted(OBD_CONNECT_LVB_TYPE))
        desc = describe(name, lock.mode, lock.wanted)
        return req.reply(
            status=ELDLM_LOCK_ABORTED, dlm_rep=LdlmReply(lock_desc=desc), dlm_lvb=block
        )

    def _refused_ahead(self) -> Steps[bool]:
        yield from self.ldlm.at(points.LDLM_AGL_DELAY)
        try:
            yield from self.ldlm.at(points.LDLM_AGL_NOLOCK)
        except LustreError:
            return True
        return False

    # ---- intents

    def intent_reply(
        self,
        req: ServerRequest,
        lock: ServerLock | None,
        disposition: int = 0,
        status: int = 0,
        **fields: Any,
    ) -> Message:
        """The reply to an enqueue with an intent, and the lock handed to the client.

        `status` is the operation's errno (0: it succeeded); without a lock the enqueue's own status
        is ELDLM_LOCK_ABORTED. `fields` are the other buffers of the reply (`mdt_body`, ...).
        """
        if lock is not None and is_empty(lock.policy):
            self.ldlm.release(lock)  # none of its optional bits was to be had
            lock = None
        result = {"lock_policy_res1": disposition, "lock_policy_res2": intent_status(status)}
        if lock is None:
            rep = LdlmReply(lock_desc=LdlmLockDesc(), **result)
            return req.reply(status=ELDLM_LOCK_ABORTED, dlm_rep=rep, **fields)
        if lock.gone:
            raise LustreError(ENOTCONN, f"{self.ldlm.name}: the client has gone")
        flags = LDLM_FL_LOCK_CHANGED
        lock.handed = True
        if lock.asked:
            flags |= LDLM_FL_AST_SENT
            self.ldlm.await_cancel(lock)
        return req.reply(dlm_rep=_reply_of(lock, flags).replace(**result), **fields)

    # ---- convert and cancel

    @handles(LDLM_CONVERT)
    def convert_lock(self, req: ServerRequest) -> Steps[Message]:
        """A client gives some inodebits of a lock back and keeps the others; EPROTO for more.

        ELDLM_NO_LOCK_DATA where it has no such lock.
        """
        yield from self.ldlm.at(points.LDLM_CONVERT_NET)
        dlm_req = request_of(req.msg)
        lock = self.ldlm.held(req.export, first_handle(dlm_req))
        if lock is None or not lock.granted:
            rep = LdlmReply(lock_flags=dlm_req.lock_flags)
            return req.reply(status=ELDLM_NO_LOCK_DATA, dlm_rep=rep)
        kept = policy_of(dlm_req.lock_desc)
        if not (isinstance(kept, Ibits) and isinstance(lock.policy, Ibits)):
            raise LustreError(EPROTO, f"{self.ldlm.name}: only inodebits can be converted")
        if kept.bits & ~lock.policy.bits:
            raise LustreError(EPROTO, f"{self.ldlm.name}: {kept} are not of {lock.policy}")
        self.ldlm.convert(lock, kept.bits)
        desc = describe(lock.resource.name, lock.mode, lock.policy, lock.mode)
        rep = LdlmReply(
            lock_flags=dlm_req.lock_flags, lock_desc=desc, lock_handle=lock.client_cookie
        )
        return req.reply(dlm_rep=rep)

    def before_cancel(self, req: ServerRequest, handles: tuple[int, ...]) -> Steps[None]:
        """Locks are about to be given back (l_blocking_ast with LDLM_CB_CANCELING)."""
        return
        yield

    @handles(LDLM_CANCEL)
    def cancel_locks(self, req: ServerRequest) -> Steps[Message]:
        """A client gives locks back; where it has none of them it is told so, which is no failure.

        LUSTRE_ESTALE is a positive status.
        """
        yield from self.ldlm.at(points.LDLM_CANCEL_NET)
        given = handles_of(request_of(req.msg))
        yield from self.before_cancel(req, given)
        if not self.ldlm.cancel(req.export, given, asked=True):
            return req.reply(status=ESTALE)
        return req.reply()


def _reply_of(lock: ServerLock, flags: int) -> LdlmReply:
    granted_mode = lock.mode if lock.granted else 0
    desc = describe(lock.resource.name, lock.mode, lock.policy, granted_mode)
    return LdlmReply(lock_flags=flags, lock_desc=desc, lock_handle=lock.cookie)


def writers(lock: ServerLock, size: int) -> list[ServerLock]:
    """Whom to ask for an object's size: who may write beyond what is known (ofd_intent_cb).

    Of each mode the highest lock, and those below it as long as they were not grown: a grown lock's
    holder writes the object's end.
    """
    found: list[ServerLock] = []
    if isinstance(lock.resource, ExtentResource):
        for highest in lock.resource.highest(size):
            for holder in highest:
                assert isinstance(holder, ServerLock)
                if holder.handed:
                    found.append(holder)
                if not holder.flags & LDLM_FL_NO_EXPANSION:
                    break
    return found

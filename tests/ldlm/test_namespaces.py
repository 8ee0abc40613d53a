"""Clients and a target: who gets a lock, who is called back, who is thrown out."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.ldlm.client_lock import LockState
from labsim.ldlm.desc import intent_result
from labsim.ldlm.resource import fid_resource
from labsim.net.ptlrpc import Request, State
from labsim.net.rules import Rule, partition
from labsim.wire.constants import (
    DISP_LOOKUP_NEG,
    DISP_LOOKUP_POS,
    ELDLM_LOCK_ABORTED,
    IT_LOOKUP,
    LCK_CR,
    LCK_EX,
    LCK_PR,
    LCK_PW,
    LDLM_FL_AST_DISCARD_DATA,
    LDLM_FL_BLOCK_NOWAIT,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_UPDATE,
)
from labsim.wire.ldlm import LdlmIntent, LdlmRequest
from labsim.wire.mdt import MdtBody
from labsim.wire.opcodes import (
    LDLM_BL_CALLBACK,
    LDLM_CANCEL,
    LDLM_CP_CALLBACK,
    LDLM_ENQUEUE,
    OBD_PING,
)

from .rig import S, World

DIR, FILE = fid_resource(Fid(0x200000401, 1)), fid_resource(Fid(0x200000401, 2))
LOOKUP, UPDATE = MDS_INODELOCK_LOOKUP, MDS_INODELOCK_UPDATE


def test_readers_share_and_a_second_use_costs_nothing() -> None:
    world = World()
    one, two = world.user(), world.user()
    first = one.take(DIR, LCK_PR, bits=LOOKUP | UPDATE)
    two.take(DIR, LCK_PR, bits=LOOKUP)
    assert world.granted() == [("c0", "PR", "0x3"), ("c1", "PR", "0x1")]
    assert first.state is LockState.GRANTED and first.server_handle
    again = one.ns.match(DIR, LCK_CR, bits=UPDATE)
    assert again is first and first.refs == 2
    assert one.ns.match(DIR, LCK_PW, bits=UPDATE) is None
    assert one.ns.match(FILE, LCK_CR, bits=UPDATE) is None
    assert world.sent(LDLM_ENQUEUE) == 2


def test_a_writer_calls_unused_locks_back() -> None:
    world = World()
    one, two = world.user(), world.user()
    lock = one.take(DIR, LCK_PR, bits=UPDATE)
    one.ns.put(lock)
    assert one.ns.lock_unused_count == 1
    two.take(DIR, LCK_EX, bits=UPDATE)
    assert one.called == [lock]
    assert world.granted() == [("c1", "EX", "0x2")]
    assert one.ns.lock_count == 0 and one.ns.resource_count == 0
    assert world.sent(LDLM_BL_CALLBACK) == world.sent(LDLM_CANCEL) == 1
    assert world.sent(LDLM_CP_CALLBACK) == 1


def test_a_lock_in_use_goes_back_after_its_last_user() -> None:
    world = World()
    one, two = world.user(), world.user()
    lock = one.take(DIR, LCK_PR, bits=UPDATE)
    waiting = world.start(two.lock(DIR, LCK_EX, bits=UPDATE))
    world.wait(5)
    assert not waiting.triggered and lock.cancel_pending
    assert one.ns.match(DIR, LCK_PR, bits=UPDATE) is None
    one.ns.put(lock)
    world.wait(1)
    assert waiting.value.state is LockState.GRANTED


def test_the_cache_is_written_back_before_the_server_is_told() -> None:
    world = World()
    one, two = world.user(), world.user()
    one.flush_ns = 2_000_000_000
    lock = one.take(DIR, LCK_PW, bits=UPDATE)
    one.ns.put(lock)
    before = world.env.now
    two.take(DIR, LCK_PR, bits=UPDATE)
    assert world.env.now - before >= 2_000_000_000


def test_the_server_takes_locks_of_its_own() -> None:
    world = World()
    user = world.user()
    lock = user.take(DIR, LCK_PR, bits=LOOKUP | UPDATE)
    user.ns.put(lock)
    ldlm = world.target.ldlm
    own = world.run(ldlm.acquire(DIR, LCK_EX, bits=UPDATE, flags=LDLM_FL_AST_DISCARD_DATA))
    assert lock.discard and user.called == [lock]
    waiting = world.start(user.lock(DIR, LCK_PR, bits=UPDATE))
    world.wait(1)
    assert not waiting.triggered
    ldlm.release(own)
    world.wait(1)
    assert waiting.value.state is LockState.GRANTED
    with pytest.raises(LustreError, match="EAGAIN"):
        world.run(ldlm.acquire(DIR, LCK_EX, bits=UPDATE, flags=LDLM_FL_BLOCK_NOWAIT))


def test_a_client_that_keeps_a_lock_too_long_is_evicted() -> None:
    world = World()
    one, two = world.user(), world.user()
    one.take(DIR, LCK_PR, bits=UPDATE)
    before = world.env.now
    two.take(DIR, LCK_EX, bits=UPDATE)
    assert world.env.now - before >= 50_000_000_000
    assert world.evictions() == ["lock callback timer expired after 50s"]
    assert world.target.ldlm.lock_timeouts == 1


def test_a_client_that_cannot_be_reached_is_evicted() -> None:
    world = World()
    one, two = world.user(), world.user()
    lock = one.take(DIR, LCK_PR, bits=UPDATE)
    one.ns.put(lock)
    one.rpc.lnet.rules.install(partition("cut", (one.rpc.lnet.nid,), ()))
    two.take(DIR, LCK_EX, bits=UPDATE)
    assert world.evictions() == ["lock callback was not answered"]
    assert world.granted() == [("c1", "EX", "0x2")]
    assert world.target.ldlm.lock_timeouts == 0  # nobody's time was up: it never heard


def test_a_lost_callback_is_sent_again() -> None:
    world = World()
    one, two = world.user(), world.user()
    lock = one.take(DIR, LCK_PR, bits=UPDATE)
    one.ns.put(lock)
    world.server.lnet.rules.install(Rule(name="lose", opc=LDLM_BL_CALLBACK, count=1))
    two.take(DIR, LCK_EX, bits=UPDATE)
    assert world.evictions() == []
    assert world.sent(LDLM_BL_CALLBACK) == 2


def test_an_evicted_client_drops_everything_and_starts_anew() -> None:
    world = World()
    user = world.user()
    idle = user.take(DIR, LCK_PR, bits=UPDATE)
    used = user.take(FILE, LCK_PR, bits=UPDATE)
    user.ns.put(idle)
    next(iter(world.target.exports)).evict("test")
    assert world.target.ldlm.lock_count == 0 and world.target.ldlm.resource_count == 0
    with pytest.raises(LustreError, match="EIO"):
        world.run(user.imp.call(Request(OBD_PING)))
    world.wait(1)
    assert user.imp.state is State.FULL
    assert user.called == [idle] and idle.discard
    assert user.ns.match(FILE, LCK_PR, bits=UPDATE) is None
    user.ns.put(used)
    world.wait(1)
    assert user.called == [idle, used]
    assert user.ns.lock_count == 0
    assert world.sent(LDLM_CANCEL) == 0
    assert user.take(DIR, LCK_PR, bits=UPDATE).state is LockState.GRANTED


def test_who_waits_for_a_lock_while_it_is_evicted_gets_eio() -> None:
    world = World()
    one, two = world.user(), world.user()
    one.take(DIR, LCK_EX, bits=UPDATE)
    waiting = world.start(two.lock(DIR, LCK_EX, bits=UPDATE))
    world.wait(1)
    list(world.target.exports)[1].evict("test")
    world.start(two.imp.call(Request(OBD_PING)))
    world.wait(1)
    assert isinstance(waiting.value, LustreError) and waiting.value.errno == 5
    assert two.ns.lock_count == 0


def test_locks_go_with_a_client_that_disconnects() -> None:
    world = World()
    one, two = world.user(), world.user()
    one.take(DIR, LCK_EX, bits=UPDATE)
    waiting = world.start(two.lock(DIR, LCK_EX, bits=UPDATE))
    world.run(one.imp.disconnect())
    one.ns.close()
    world.wait(1)
    assert waiting.value.state is LockState.GRANTED
    assert world.granted() == [("c1", "EX", "0x2")]


def test_locks_that_leave_together_travel_together() -> None:
    world = World()
    user = world.user()
    for number in range(500):
        lock = user.take(fid_resource(Fid(1, number + 1)), LCK_PR, bits=LOOKUP)
        user.ns.put(lock)
    world.run(user.ns.cancel_unused())
    assert user.ns.lock_count == 0 and world.target.ldlm.lock_count == 0
    assert world.sent(LDLM_CANCEL) == 2


def test_cancelling_one_resource_leaves_the_others() -> None:
    world = World()
    user = world.user()
    for resource in (DIR, FILE):
        user.ns.put(user.take(resource, LCK_PR, bits=LOOKUP))
    world.run(user.ns.cancel_unused(FILE))
    assert [lock["resource"] for lock in user.ns.snapshot()] == [list(DIR)]
    held = user.take(FILE, LCK_PR, bits=LOOKUP)
    world.run(user.ns.cancel(held))
    assert held.state is LockState.GRANTED and held.cancel_pending
    user.ns.put(held)
    world.run(user.ns.cancel(held))
    assert held.state is LockState.GONE
    world.run(user.ns.cancel(held))


def test_put_with_cancel_gives_the_lock_back() -> None:
    world = World()
    user = world.user()
    lock = user.take(DIR, LCK_PR, bits=LOOKUP)
    assert user.ns.hold(lock)
    user.ns.put(lock, cancel=True)
    assert lock.state is LockState.GRANTED and not user.ns.hold(lock)
    user.ns.put(lock)
    world.wait(1)
    assert world.target.ldlm.lock_count == 0


# ---- intents


def intent(user: Any, resource: Any = DIR) -> Any:
    return user.ns.enqueue(
        resource,
        LCK_CR,
        bits=LOOKUP,
        blocking=user.blocking,
        ldlm_intent=LdlmIntent(opc=IT_LOOKUP),
        mdt_body=MdtBody(fid1=Fid(1, 1)),
        name="x",
    )


def lookup(world: World, pause_ns: int = 0) -> Any:
    """An intent handler that finds FILE and locks it for the client."""

    def execute(req: Any) -> Any:
        ldlm = world.target.ldlm
        parent = yield from ldlm.acquire(DIR, LCK_PR, bits=UPDATE)
        lock = yield from ldlm.acquire(
            FILE, LCK_PR, bits=LOOKUP, export=req.export,
            client_cookie=req["dlm_req"].lock_handle[0],
        )  # fmt: skip
        yield world.env.timeout(pause_ns)
        ldlm.release(parent)
        return world.target.intent_reply(
            req, lock, DISP_LOOKUP_POS, mdt_body=MdtBody(fid1=Fid(0x200000401, 2))
        )

    return execute


def test_an_intent_returns_the_lock_of_what_it_found() -> None:
    world = World()
    user = world.user()
    world.target.on_intent = lookup(world)
    lock, reply = world.run(intent(user))
    assert lock.resource == FILE and lock.mode == LCK_PR
    assert intent_result(reply) == (DISP_LOOKUP_POS, 0)
    assert user.ns.match(FILE, LCK_PR, bits=LOOKUP) is lock
    assert user.ns.match(DIR, LCK_CR, bits=LOOKUP) is None
    assert world.granted() == [("c0", "PR", "0x1")]


def test_an_intent_that_fails_returns_no_lock() -> None:
    world = World()
    user = world.user()

    def execute(req: Any) -> Any:
        yield world.env.timeout(1)
        return world.target.intent_reply(req, None, DISP_LOOKUP_NEG, 2, mdt_body=MdtBody())

    world.target.on_intent = execute
    lock, reply = world.run(intent(user))
    assert lock is None and reply.status == ELDLM_LOCK_ABORTED
    assert intent_result(reply) == (DISP_LOOKUP_NEG, 2)
    assert user.ns.lock_count == 0


def test_an_intent_that_gets_none_of_its_optional_bits_returns_no_lock() -> None:
    world = World()
    one, two = world.user(), world.user()
    one.take(FILE, LCK_PR, bits=UPDATE)

    def execute(req: Any) -> Any:
        lock = yield from world.target.ldlm.acquire(
            FILE, LCK_EX, optional=UPDATE, export=req.export,
            client_cookie=req["dlm_req"].lock_handle[0],
        )  # fmt: skip
        return world.target.intent_reply(req, lock, DISP_LOOKUP_POS, mdt_body=MdtBody())

    world.target.on_intent = execute
    lock, reply = world.run(intent(two))
    assert lock is None and reply.status == ELDLM_LOCK_ABORTED
    assert intent_result(reply) == (DISP_LOOKUP_POS, 0)
    assert world.granted() == [("c0", "PR", "0x2")]


def test_an_intent_may_find_what_the_client_has_locked_already() -> None:
    world = World()
    user = world.user()
    old = user.take(FILE, LCK_PR, bits=LOOKUP | UPDATE)
    world.target.on_intent = lookup(world)
    new, _ = world.run(intent(user))
    twin = user.ns.twin(new)
    assert twin is old and old.refs == 2
    user.ns.put(new, cancel=True)
    world.wait(1)
    assert user.ns.lock_count == 1


def test_a_lock_wanted_before_it_is_handed_over_is_used_once() -> None:
    world = World()
    one, two = world.user(), world.user()
    world.target.on_intent = lookup(world, pause_ns=1_000_000_000)
    process = world.start(intent(one))
    world.wait(0.5)
    writer = world.start(two.lock(FILE, LCK_EX, bits=LOOKUP))
    world.wait(1)
    lock, _ = process.value
    assert lock.cancel_pending and world.sent(LDLM_BL_CALLBACK) == 0
    assert not writer.triggered
    one.ns.put(lock)
    world.wait(1)
    assert writer.value.state is LockState.GRANTED


def test_an_intent_whose_reply_was_lost_finds_its_lock_again() -> None:
    world = World()
    user = world.user()
    calls = []
    find = lookup(world)

    def execute(req: Any) -> Any:
        calls.append(req.xid)
        return (yield from find(req))

    world.target.on_intent = execute
    world.server.lnet.rules.install(Rule(name="lose", opc=LDLM_ENQUEUE, count=1))
    lock, _ = world.run(intent(user))
    assert lock.state is LockState.GRANTED
    assert world.granted() == [("c0", "PR", "0x1")]


# ---- messages from strangers


def answer(world: World, user: Any, opcode: int, **dlm: Any) -> int:
    """The errno that a request with this ldlm_request gets."""
    with pytest.raises(LustreError) as failure:
        world.run(user.imp.call(Request(opcode, dlm_req=LdlmRequest(**dlm))))
    return failure.value.errno


def test_cancels_of_unknown_or_foreign_locks_change_nothing() -> None:
    world = World()
    one, two = world.user(), world.user()
    lock = one.take(DIR, LCK_PR, bits=LOOKUP)
    handle = lock.server_handle
    for unknown in (handle, 12345):
        dlm_req = LdlmRequest(lock_count=1, lock_handle=(unknown, 0))
        reply = world.run(two.imp.call(Request(LDLM_CANCEL, dlm_req=dlm_req)))
        assert reply.status == 116, "LUSTRE_ESTALE is positive"
    assert answer(world, two, LDLM_CANCEL, lock_count=9, lock_handle=(12345, 0)) == 71
    assert world.granted() == [("c0", "PR", "0x1")]


def test_enqueues_that_make_no_sense_are_refused() -> None:
    world = World()
    user = world.user()
    from labsim.ldlm.desc import describe
    from labsim.ldlm.policy import Extent, Ibits, Plain

    good = describe(DIR, LCK_PR, Ibits(1))
    assert answer(world, user, LDLM_ENQUEUE, lock_desc=good, lock_handle=(0, 0)) == 22
    bad_mode = describe(DIR, LCK_PR | LCK_EX, Ibits(1))
    assert answer(world, user, LDLM_ENQUEUE, lock_desc=bad_mode, lock_handle=(1, 0)) == 14
    bad_type = good.replace(resource=good.resource.replace(type=9))
    assert answer(world, user, LDLM_ENQUEUE, lock_desc=bad_type, lock_handle=(1, 0)) == 14
    nothing = describe(DIR, LCK_PR, Ibits(0))
    assert answer(world, user, LDLM_ENQUEUE, lock_desc=nothing, lock_handle=(1, 0)) == 71
    reverse = describe(DIR, LCK_PR, Extent(9, 3))
    assert answer(world, user, LDLM_ENQUEUE, lock_desc=reverse, lock_handle=(1, 0)) == 71
    user.take(DIR, LCK_PR, bits=LOOKUP)
    other_type = describe(DIR, LCK_PR, Plain())
    assert answer(world, user, LDLM_ENQUEUE, lock_desc=other_type, lock_handle=(1, 0)) == 22
    assert world.target.ldlm.lock_count == 1 and world.target.ldlm.resource_count == 1
    with pytest.raises(LustreError, match="EPROTO"):
        world.run(user.imp.call(Request(LDLM_ENQUEUE)))


def test_callbacks_about_unknown_locks_are_answered_with_einval() -> None:
    world = World()
    user = world.user()
    export = next(iter(world.target.exports))
    for opcode in (LDLM_BL_CALLBACK, LDLM_CP_CALLBACK):
        request = Request(opcode, dlm_req=LdlmRequest(lock_handle=(77, 0)))
        with pytest.raises(LustreError, match="EINVAL"):
            world.run(export.reverse.call(request))
    with pytest.raises(LustreError, match="EPROTO"):
        world.run(export.reverse.call(Request(LDLM_BL_CALLBACK)))
    assert user.ns.lock_count == 0


def test_a_lock_that_the_client_does_not_know_is_dropped_on_its_word() -> None:
    world = World()
    one, two = world.user(), world.user()
    lock = one.take(DIR, LCK_PR, bits=UPDATE)
    one.ns.drop(lock)
    two.take(DIR, LCK_EX, bits=UPDATE)
    assert world.evictions() == []


def test_two_runs_are_alike() -> None:
    def once() -> str:
        world = World()
        users = [world.user() for _ in range(3)]
        for user in users:
            user.ns.put(user.take(DIR, LCK_PR, bits=UPDATE))
        for user in users:
            user.ns.put(user.take(DIR, LCK_EX, bits=UPDATE))
        return world.trace.hexdigest()

    assert once() == once()


def test_what_an_evicted_client_had_is_kept_from_others_until_the_disk_knows() -> None:
    world = World()
    one, two = world.user(), world.user()
    export = next(iter(world.target.exports))

    def saving(gone: Any) -> None:
        gone.forgetting = world.env.timeout(5 * S)

    export.on_close = (saving, *export.on_close)
    one.take(DIR, LCK_EX, bits=LOOKUP)
    waiting = world.start(two.lock(DIR, LCK_EX, bits=LOOKUP))
    world.wait(1)
    before = world.sent(LDLM_BL_CALLBACK)
    export.evict("for the test")
    third = world.start(world.user().lock(DIR, LCK_PR, bits=LOOKUP))
    world.wait(4)
    assert not waiting.triggered and not third.triggered
    assert world.sent(LDLM_BL_CALLBACK) == before
    world.wait(2)
    assert waiting.triggered

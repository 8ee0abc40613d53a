"""What happens when a message about locks is lost, late, or made of bytes."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.faults import FAIL_ONCE, Armed
from labsim.base.ids import Fid
from labsim.base.units import NS_PER_S
from labsim.ldlm import points
from labsim.ldlm.client_lock import LockState
from labsim.ldlm.desc import first_handle
from labsim.ldlm.lvb import read
from labsim.ldlm.policy import Extent
from labsim.ldlm.resource import fid_resource, ost_resource
from labsim.wire.constants import (
    LCK_EX,
    LCK_PR,
    LCK_PW,
    LDLM_FL_DENY_ON_CONTENTION,
    LDLM_FL_HAS_INTENT,
    MDS_INODELOCK_UPDATE,
)
from labsim.wire.ldlm import LdlmIntent
from labsim.wire.message import Message
from labsim.wire.opcodes import LDLM_BL_CALLBACK, LDLM_CANCEL
from labsim.wire.ost import OstLvb

from .rig import World

FILE = fid_resource(Fid(0x200000401, 2))
UPDATE = MDS_INODELOCK_UPDATE


def hand_over(world: World) -> None:
    """The first client's lock goes to the second."""
    one, two = world.users
    lock = one.ns.match(FILE, LCK_PR, bits=UPDATE) or one.take(FILE, LCK_PR, bits=UPDATE)
    one.ns.put(lock)
    two.ns.put(two.take(FILE, LCK_EX, bits=UPDATE))


@pytest.mark.parametrize(
    ("point", "where"),
    [
        (points.LDLM_ENQUEUE_NET, "s0"),
        (points.LDLM_REPLY, "s0"),
        (points.LDLM_CANCEL_NET, "s0"),
        (points.LDLM_BL_CALLBACK_NET, "c0"),
        (points.LDLM_CP_CALLBACK_NET, "c1"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_one_lost_message_evicts_nobody_and_leaves_no_lock_behind(point: Any, where: str) -> None:
    world = World()
    users = [world.user(), world.user()]
    hosts = {"s0": world.server.host} | {user.rpc.host.name: user.rpc.host for user in users}
    hosts[where].faults.set_fail_loc(FAIL_ONCE | point.number)
    hand_over(world)
    world.wait(300)
    assert "rpc.dropped" in [event.kind for event in world.trace.events]
    assert [owner for owner, _, _ in world.granted()] in (["c1"], [])
    assert world.target.ldlm.lock_count == sum(user.ns.lock_count for user in users)


def test_a_cancel_that_is_late_is_in_time() -> None:
    world = World()
    one, two = world.user(), world.user()
    faults = one.rpc.host.faults
    faults.set_fail_val(30)
    faults.set_fail_loc(FAIL_ONCE | points.LDLM_PAUSE_CANCEL.number)
    before = world.env.now
    hand_over(world)
    assert 30 <= (world.env.now - before) / NS_PER_S < 31
    assert world.evictions() == [] and two.ns.lock_count == 1


def test_a_cancel_that_is_too_late_evicts_its_client() -> None:
    world = World()
    one, _ = world.user(), world.user()
    one.rpc.host.faults.set_fail_val(70)
    one.rpc.host.faults.set_fail_loc(FAIL_ONCE | points.LDLM_PAUSE_CANCEL.number)
    hand_over(world)
    assert len(world.evictions()) == 1
    world.wait(60)
    again = one.take(FILE, LCK_PR, bits=UPDATE)
    assert again.state is LockState.GRANTED


def test_locks_travel_as_bytes_too() -> None:
    world = World()
    world.user(), world.user()
    carried = []
    carry = world.fabric.carry

    def as_bytes(port: Any, packet: Any, delay_ns: int) -> None:
        if isinstance(packet.payload, Message):
            packet = packet._replace(payload=packet.payload.encode())
            carried.append(len(packet.payload))
        carry(port, packet, delay_ns)

    world.fabric.carry = as_bytes  # type: ignore[method-assign]
    hand_over(world)
    world.wait(1)
    assert len(carried) >= 8
    assert world.granted() == [("c1", "EX", "0x2")]


def fail(rpc: Any, point: Any, val: int = 0) -> None:
    rpc.host.faults.set_fail_val(val)
    rpc.host.faults.set_fail_loc(FAIL_ONCE | point.number)


@pytest.mark.parametrize("point", [points.LDLM_NEW_LOCK, points.LDLM_ENQUEUE_EXTENT_ERR])
def test_an_error_of_the_server_is_told_and_leaves_nothing(point: Any) -> None:
    world = World("lustre-OST0000")
    user = world.user()
    fail(world.server, point)
    with pytest.raises(LustreError, match="ENOMEM"):
        user.take(ost_resource(7), LCK_PW, extent=Extent())
    assert world.target.ldlm.lock_count == user.ns.lock_count == 0


def test_an_intent_that_fails_after_it_was_done_leaves_no_lock() -> None:
    world = World()
    user = world.user()

    def intent(req: Any) -> Any:
        lock = yield from world.target.ldlm.acquire(
            FILE, LCK_PR, bits=UPDATE, export=req.export,
            client_cookie=first_handle(req["dlm_req"]),
        )  # fmt: skip
        return world.target.intent_reply(req, lock, 1)

    world.target.on_intent = intent
    fail(world.server, points.LDLM_ENQUEUE_INTENT_ERR)
    with pytest.raises(LustreError, match="ENOMEM"):
        user.take(FILE, LCK_PR, bits=UPDATE, ldlm_intent=LdlmIntent(opc=1))
    assert world.target.ldlm.lock_count == user.ns.lock_count == 0


def test_a_server_that_forgets_to_call_back_evicts_who_was_never_asked() -> None:
    world = World()
    world.user(), world.user()
    fail(world.server, points.LDLM_SRV_BL_AST)
    hand_over(world)
    assert len(world.evictions()) == 1 and world.sent(LDLM_BL_CALLBACK) == 0


def test_a_grant_that_is_not_told_is_found_when_the_lock_is_wanted_back() -> None:
    world = World()
    one, two, three = world.user(), world.user(), world.user()
    held = one.take(FILE, LCK_EX, bits=UPDATE)
    waiting = world.start(two.lock(FILE, LCK_EX, bits=UPDATE))
    world.wait(1)
    fail(world.server, points.LDLM_SRV_CP_AST)
    one.ns.put(held)
    world.wait(1)
    assert not waiting.triggered and [owner for owner, _, _ in world.granted()] == ["c1"]
    third = world.start(three.lock(FILE, LCK_EX, bits=UPDATE))
    world.wait(60)
    assert third.triggered and len(world.evictions()) == 1


def test_a_cancel_that_is_never_sent_is_made_good_by_the_next_callback() -> None:
    world = World()
    one, two = world.user(), world.user()
    one.ns.put(one.take(FILE, LCK_PR, bits=UPDATE))
    fail(one.rpc, points.LDLM_CANCEL_RACE)
    world.run(one.ns.cancel_unused())
    assert one.ns.lock_count == 0 and world.target.ldlm.lock_count == 1
    two.take(FILE, LCK_EX, bits=UPDATE)
    assert world.evictions() == [] and [owner for owner, _, _ in world.granted()] == ["c1"]


def test_a_lock_given_back_just_before_it_is_called_back() -> None:
    world = World()
    one, _ = world.user(), world.user()
    fail(one.rpc, points.LDLM_CANCEL_BL_CB_RACE)
    hand_over(world)
    assert world.evictions() == [] and world.sent(LDLM_CANCEL) == 1


def test_a_waiter_that_is_evicted_meanwhile_gets_nothing() -> None:
    world = World()
    one, two = world.user(), world.user()
    held = one.take(FILE, LCK_EX, bits=UPDATE)
    fail(world.server, points.LDLM_OST_FAIL_RACE)
    waiting = world.start(two.lock(FILE, LCK_PR, bits=UPDATE))
    world.wait(30)
    assert isinstance(waiting.value, LustreError) and waiting.value.errno == 5
    assert world.target.ldlm.lock_count == 1
    one.ns.put(held)


def test_an_object_may_be_said_to_be_contended() -> None:
    world = World("lustre-OST0000")
    one, two = world.user(), world.user()
    world.target.ldlm.max_nolock_bytes = 4096
    one.take(ost_resource(7), LCK_PW, extent=Extent(0, 4095))
    world.wait(1)
    fail(world.server, points.LDLM_SET_CONTENTION)
    with pytest.raises(LustreError) as refused:
        two.take(ost_resource(7), LCK_PW, extent=Extent(0, 4095), flags=LDLM_FL_DENY_ON_CONTENTION)
    assert refused.value.errno == 87


@pytest.mark.parametrize(
    "point",
    [points.LDLM_ENQUEUE_BLOCKED, points.LDLM_ENQUEUE_OLD_EXPORT],
    ids=lambda point: point.name,
)
def test_a_slow_server_loses_no_lock(point: Any) -> None:
    world = World()
    user = world.user()
    fail(world.server, point, 6)
    before = world.env.now
    user.take(FILE, LCK_PR, bits=UPDATE)
    assert 6 <= (world.env.now - before) / NS_PER_S < 7
    assert world.target.ldlm.lock_count == user.ns.lock_count == 1


def test_a_size_that_is_not_asked_for_is_that_of_the_disk() -> None:
    world = World("lustre-OST0000")
    one, two = world.user(), world.user()
    lvb = OstLvb(size=5000)
    one.take(ost_resource(7), LCK_PW, extent=Extent(0, 4095), glimpse=lambda _: lvb.pack())
    for point in (points.LDLM_SRV_GL_AST, points.LDLM_GLIMPSE):
        fail(world.server, point, 2)
        _, reply = world.run(
            two.ns.enqueue(ost_resource(7), LCK_PR, extent=Extent(), flags=LDLM_FL_HAS_INTENT)
        )
        forgotten = point is points.LDLM_SRV_GL_AST
        assert read(reply["dlm_lvb"]).size == (100 if forgotten else 5000)


def test_an_error_that_says_nothing_of_the_lock_leaves_it() -> None:
    """Only EINVAL means that there is no such lock."""
    world = World()
    one, two = world.user(), world.user()
    held = one.take(FILE, LCK_PR, bits=UPDATE)
    one.ns.put(held)
    number = points.LDLM_BL_CALLBACK_NET.number
    one.rpc.host.faults.arm(Armed(number, FAIL_ONCE, 0, "fail", 12))
    waiting = world.start(two.lock(FILE, LCK_EX, bits=UPDATE))
    world.wait(40)
    assert not waiting.triggered and world.target.ldlm.lock_count == 2
    world.wait(20)
    assert waiting.triggered and world.target.ldlm.lock_timeouts == 1

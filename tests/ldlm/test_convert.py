"""A client gives single inodebits of a lock back, and keeps the others."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.faults import FAIL_ONCE
from labsim.base.ids import Fid
from labsim.base.units import NS_PER_S
from labsim.ldlm import points
from labsim.ldlm.client_lock import ClientLock, LockState
from labsim.ldlm.desc import describe
from labsim.ldlm.policy import Extent, Ibits
from labsim.ldlm.resource import fid_resource, ost_resource
from labsim.net.ptlrpc import Request
from labsim.wire.constants import (
    ELDLM_NO_LOCK_DATA,
    LCK_EX,
    LCK_PR,
    LCK_PW,
    OBD_CONNECT2_LOCK_CONVERT,
)
from labsim.wire.ldlm import LdlmRequest
from labsim.wire.opcodes import LDLM_CANCEL, LDLM_CONVERT

from .rig import GRANTED, User, World
from .test_replay import recovered, replay, restart

FILE = fid_resource(Fid(0x200000401, 2))
LOOKUP, UPDATE, PERM = 1, 2, 16
CONVERT = OBD_CONNECT2_LOCK_CONVERT


def pair(flags2: int = CONVERT) -> tuple[World, User, User]:
    world = World()
    return world, world.user(flags2=flags2), world.user(flags2=flags2)


def cached(user: User, bits: int = LOOKUP | UPDATE | PERM) -> ClientLock:
    lock = user.take(FILE, LCK_PR, bits=bits)
    user.ns.put(lock)
    return lock


def change(user: User, bits: int) -> None:
    user.ns.put(user.take(FILE, LCK_EX, bits=bits), cancel=True)
    user.world.wait(1)


def test_only_the_wanted_bits_go() -> None:
    world, one, two = pair()
    lock = cached(one)
    going = []
    lock.blocking = lambda lock: going.append(lock.going)
    change(two, UPDATE)
    assert lock.state is LockState.GRANTED and lock.policy == Ibits(LOOKUP | PERM)
    assert going == [UPDATE] and world.sent(LDLM_CONVERT) == 1
    assert one.ns.match(FILE, LCK_PR, bits=LOOKUP) is lock
    one.ns.put(lock)
    assert world.granted() == [("c0", "PR", "0x11")]
    change(two, LOOKUP | PERM)
    assert lock.state is LockState.GONE and going == [UPDATE, LOOKUP | PERM]


def test_without_the_connect_flag_the_lock_goes() -> None:
    world, one, two = pair(0)
    lock = cached(one)
    change(two, UPDATE)
    assert lock.state is LockState.GONE and world.sent(LDLM_CONVERT) == 0


def test_what_another_lock_covers_is_not_worth_keeping() -> None:
    world, one, two = pair()
    lock = cached(one)
    other = cached(one, LOOKUP | PERM)
    change(two, UPDATE)
    assert lock.state is LockState.GONE and other.state is LockState.GRANTED
    assert world.sent(LDLM_CONVERT) == 0


def test_a_lock_in_use_gives_its_bits_back_when_it_is_put() -> None:
    world, one, two = pair()
    lock = one.take(FILE, LCK_PR, bits=LOOKUP | UPDATE)
    waiting = world.start(two.lock(FILE, LCK_EX, bits=UPDATE))
    world.wait(1)
    assert not waiting.triggered
    one.ns.put(lock)
    world.wait(1)
    assert waiting.triggered and lock.policy == Ibits(LOOKUP) and lock in one.ns.lru


def test_two_that_want_different_bits_get_both() -> None:
    world, one, two = pair()
    three = world.user(flags2=CONVERT)
    lock = cached(one)
    one.flush_ns = 3 * 10**9
    wishes = [world.start(two.lock(FILE, LCK_EX, bits=UPDATE))]
    world.wait(1)
    wishes.append(world.start(three.lock(FILE, LCK_EX, bits=PERM)))
    world.wait(30)
    assert all(wish.triggered for wish in wishes)
    assert lock.state is LockState.GRANTED and lock.policy == Ibits(LOOKUP)
    assert world.evictions() == []


@pytest.mark.parametrize("point", [points.LDLM_CONVERT_NET, points.LDLM_BL_CALLBACK_NET])
def test_a_lost_message_about_it_is_made_good(point: Any) -> None:
    """Without adaptive timeouts a lost convert is sent again after the client was evicted."""
    world, one, two = pair()
    lock = cached(one)
    where = world.server if point is points.LDLM_CONVERT_NET else one.rpc
    where.host.faults.set_fail_loc(FAIL_ONCE | point.number)
    change(two, UPDATE)
    world.wait(300)
    lost = point is points.LDLM_CONVERT_NET
    assert len(world.evictions()) == lost
    assert lock.state is (LockState.GONE if lost else LockState.GRANTED)
    assert world.target.ldlm.lock_count == one.ns.lock_count + two.ns.lock_count


def test_a_lock_that_the_server_has_no_more_goes_without_a_cancel() -> None:
    world, one, two = pair()
    lock = cached(one)
    held = next(iter(world.target.ldlm._locks.values()))
    lock.server_handle ^= 1
    world.start(two.lock(FILE, LCK_EX, bits=UPDATE))
    world.wait(1)
    assert lock.state is LockState.GONE and world.sent(LDLM_CANCEL) == 0
    world.target.ldlm.remove(held)


def test_a_convert_that_a_restart_overtakes_ends_in_a_cancel_by_the_new_handle() -> None:
    """It names the lock as the server knew it before; the lock was replayed meanwhile."""
    world, one, _ = pair()
    lock = cached(one)
    old, before = lock.server_handle, world.target.ldlm

    def slow(_: Any) -> Any:
        yield world.env.timeout(NS_PER_S)

    before.at = slow  # type: ignore[method-assign]
    lock.called_bits = UPDATE
    one.ns.start_cancel(lock)
    world.wait(0.5)
    restart(world)
    replay(world, one)
    recovered(world)
    world.wait(1)
    assert world.sent(LDLM_CONVERT) == 1 and world.sent(LDLM_CANCEL) == 1
    assert lock.state is LockState.GONE and lock.server_handle != old
    assert world.granted() == []


def convert(user: User, handle: int, resource: Any, policy: Any) -> Any:
    desc = describe(resource, LCK_PR, policy, LCK_PR)
    dlm_req = LdlmRequest(lock_count=1, lock_desc=desc, lock_handle=(handle, 0))
    return user.world.run(user.imp.call(Request(LDLM_CONVERT, dlm_req=dlm_req)))


def test_what_makes_no_sense_is_refused() -> None:
    world, one, _ = pair()
    lock = cached(one, LOOKUP)
    with pytest.raises(LustreError, match="EPROTO"):
        convert(one, lock.server_handle, FILE, Ibits(LOOKUP | UPDATE))
    assert convert(one, 77, FILE, Ibits(LOOKUP)).status == ELDLM_NO_LOCK_DATA
    assert world.granted() == [("c0", "PR", "0x1")]
    ost = World("lustre-OST0000")
    user = ost.user(GRANTED)
    held = user.take(ost_resource(5), LCK_PW, extent=Extent())
    with pytest.raises(LustreError, match="EPROTO"):
        convert(user, held.server_handle, ost_resource(5), Extent())

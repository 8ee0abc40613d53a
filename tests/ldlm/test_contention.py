"""Many clients on one object: contention, groups, locks that never wait."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.ldlm.client_lock import LockState
from labsim.ldlm.policy import Extent
from labsim.ldlm.resource import ost_resource
from labsim.wire.constants import (
    LCK_CW,
    LCK_GROUP,
    LCK_PR,
    LCK_PW,
    LDLM_FL_BLOCK_NOWAIT,
    LDLM_FL_DENY_ON_CONTENTION,
    LDLM_FL_NO_EXPANSION,
    LDLM_FL_SPECULATIVE,
)
from labsim.wire.opcodes import LDLM_BL_CALLBACK

from .rig import World

OBJECT = ost_resource(7)
PAGE = 4096


def page(number: int) -> Extent:
    return Extent(number * PAGE, number * PAGE + PAGE - 1)


def group(gid: int) -> Extent:
    return Extent(gid=gid)


def ost() -> World:
    return World("lustre-OST0000")


def readers(world: World, count: int) -> list[Any]:
    """Locks on the first page that do not grow, one for each of `count` clients."""
    return [
        world.user().take(OBJECT, LCK_PR, extent=page(0), flags=LDLM_FL_NO_EXPANSION)
        for _ in range(count)
    ]


def test_small_io_on_a_contended_object_is_told_to_do_without_a_lock() -> None:
    world = ost()
    ldlm = world.target.ldlm
    ldlm.contended_locks, ldlm.max_nolock_bytes = 3, PAGE
    readers(world, 4)
    writer = world.user()
    with pytest.raises(LustreError) as refused:
        writer.take(OBJECT, LCK_PW, extent=page(0), flags=LDLM_FL_DENY_ON_CONTENTION)
    assert refused.value.errno == 87
    assert ldlm.lock_count == 4 and world.sent(LDLM_BL_CALLBACK) == 0


def test_large_io_and_who_did_not_offer_wait_for_their_lock() -> None:
    world = ost()
    ldlm = world.target.ldlm
    ldlm.contended_locks, ldlm.max_nolock_bytes = 1, PAGE - 2
    readers(world, 3)
    writer = world.user()
    asked = world.start(writer.lock(OBJECT, LCK_PW, extent=page(0)))
    again = world.start(
        writer.lock(OBJECT, LCK_PW, extent=page(0), flags=LDLM_FL_DENY_ON_CONTENTION)
    )
    world.wait(1)
    assert not asked.triggered and not again.triggered


def test_contention_is_remembered_for_a_while() -> None:
    world = ost()
    ldlm = world.target.ldlm
    ldlm.contended_locks, ldlm.max_nolock_bytes = 3, PAGE
    locks = readers(world, 4)
    writer = world.user()
    flags = LDLM_FL_DENY_ON_CONTENTION
    for _ in range(2):
        with pytest.raises(LustreError):
            writer.take(OBJECT, LCK_PW, extent=page(0), flags=flags)
        for user, lock in zip(world.users, locks[:3], strict=False):
            user.ns.put(lock, cancel=True)
        locks = locks[3:]
        world.wait(1)
    world.wait(2)
    waiting = world.start(writer.lock(OBJECT, LCK_PW, extent=page(0), flags=flags))
    world.wait(1)
    assert not waiting.triggered  # one holder is no crowd, and the crowd is forgotten


@pytest.mark.parametrize(
    ("flag", "mode"),
    [(LDLM_FL_BLOCK_NOWAIT, LCK_GROUP), (LDLM_FL_SPECULATIVE, LCK_PW)],
)
def test_a_lock_that_must_not_wait_disturbs_nobody(flag: int, mode: int) -> None:
    world = ost()
    one, two = world.user(), world.user()
    one.take(OBJECT, mode, extent=Extent(gid=3) if mode == LCK_GROUP else page(0))
    with pytest.raises(LustreError, match="EAGAIN"):
        two.take(OBJECT, LCK_PR, extent=page(9), flags=flag)
    world.wait(1)
    assert world.sent(LDLM_BL_CALLBACK) == 0 and world.target.ldlm.lock_count == 1
    assert two.ns.lock_count == 0


def test_who_shall_not_wait_for_a_group_waits_for_a_writer_all_the_same() -> None:
    world = ost()
    one, two = world.user(), world.user()
    one.ns.put(one.take(OBJECT, LCK_PW, extent=page(0)))
    lock = two.take(OBJECT, LCK_GROUP, extent=group(4), flags=LDLM_FL_BLOCK_NOWAIT)
    assert lock.state is LockState.GRANTED and one.ns.lock_count == 0


def test_a_group_shares_an_object_and_keeps_all_others_out() -> None:
    world = ost()
    one, two, three = world.user(), world.user(), world.user()
    first = one.take(OBJECT, LCK_GROUP, extent=group(5))
    two.take(OBJECT, LCK_GROUP, extent=group(5))
    assert one.ns.match(OBJECT, LCK_GROUP, extent=Extent(0, 9, 5)) is first
    assert one.ns.match(OBJECT, LCK_GROUP, extent=Extent(0, 9, 6)) is None
    reading = world.start(three.lock(OBJECT, LCK_PR, extent=page(1)))
    world.wait(1)
    assert not reading.triggered and len(world.granted()) == 2


def test_a_group_waits_with_its_own_and_before_those_that_are_none() -> None:
    world = ost()
    users = [world.user() for _ in range(6)]
    held = users[0].take(OBJECT, LCK_GROUP, extent=group(1))
    wishes = [(LCK_PW, page(0)), (LCK_GROUP, group(2)), (LCK_GROUP, group(3)), (LCK_PR, page(0)),
              (LCK_GROUP, group(2))]  # fmt: skip
    asked = []
    for user, (mode, extent) in zip(users[1:], wishes, strict=True):
        asked.append(world.start(user.lock(OBJECT, mode, extent=extent)))
        world.wait(1)
    queue = next(iter(world.target.ldlm._resources.values())).waiting.values()
    assert [lock.policy.gid for lock in queue] == [2, 2, 3, 0, 0]
    users[0].ns.put(held, cancel=True)
    world.wait(1)
    assert [one.triggered for one in asked] == [False, True, False, False, True]
    for user in (users[2], users[5]):
        for lock in list(user.ns.locks.values()):
            user.ns.put(lock, cancel=True)
    world.wait(1)
    assert [one.triggered for one in asked] == [False, True, True, False, True]


def test_concurrent_writers_share_and_a_reader_waits_for_them() -> None:
    world = ost()
    one, two, three = world.user(), world.user(), world.user()
    locks = [user.take(OBJECT, LCK_CW, extent=page(0)) for user in (one, two)]
    reading = world.start(three.lock(OBJECT, LCK_PR, extent=page(0)))
    world.wait(1)
    assert not reading.triggered
    for user, lock in zip((one, two), locks, strict=True):
        user.ns.put(lock)
    world.wait(1)
    assert reading.value.state is LockState.GRANTED

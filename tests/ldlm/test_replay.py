"""A server that has started anew is told which locks its clients have."""

from __future__ import annotations

from typing import Any

from labsim.base.ids import Fid
from labsim.ldlm.client_lock import LockState
from labsim.ldlm.policy import Extent
from labsim.ldlm.resource import fid_resource, ost_resource
from labsim.ldlm.server import ServerNamespace
from labsim.net.ptlrpc import Request
from labsim.wire.constants import (
    LCK_EX,
    LCK_PR,
    LCK_PW,
    LDLM_FL_BLOCK_GRANTED,
    LDLM_FL_REPLAY,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_OPEN,
    MDS_INODELOCK_UPDATE,
)

from .rig import User, World

FILE = fid_resource(Fid(0x200000401, 2))
OBJECT = ost_resource(7)
CLAIM = LDLM_FL_REPLAY | LDLM_FL_BLOCK_GRANTED
UPDATE = MDS_INODELOCK_UPDATE


def restart(world: World) -> None:
    """The server's memory goes; its clients stay connected, and are expected to tell."""
    world.target.ldlm.close()
    world.target.ldlm = ServerNamespace(world.target)
    world.target.recovering = True


def replay(world: World, user: User) -> None:
    def send(request: Request) -> Any:
        return (yield from user.imp.call(request))

    for hook in user.imp.on_replay_locks:
        world.run(hook(send))


def recovered(world: World) -> None:
    world.target.recovering = False
    world.target.ldlm.reprocess()


def test_locks_in_use_come_back_with_new_handles() -> None:
    world = World()
    one, two = world.user(), world.user()
    mine = one.take(FILE, LCK_PR, bits=UPDATE)
    its = two.take(FILE, LCK_PR, bits=UPDATE)
    old = mine.server_handle
    restart(world)
    for user in (one, two):
        replay(world, user)
    recovered(world)
    assert mine.server_handle != old and mine.state is LockState.GRANTED
    assert [owner for owner, _, _ in world.granted()] == ["c0", "c1"]
    one.ns.put(mine)
    two.ns.put(its)
    two.ns.put(two.take(FILE, LCK_EX, bits=UPDATE))
    assert [(owner, mode) for owner, mode, _ in world.granted()] == [("c1", "EX")]


def test_who_waited_waits_on_until_all_have_told() -> None:
    world = World()
    one, two = world.user(), world.user()
    mine = one.take(FILE, LCK_EX, bits=UPDATE)
    asking = world.start(two.lock(FILE, LCK_EX, bits=UPDATE))
    world.wait(1)
    restart(world)
    replay(world, two)
    assert world.granted() == [] and world.target.ldlm.lock_count == 1
    replay(world, one)
    recovered(world)
    world.wait(1)
    assert world.granted() == [("c0", "EX", "0x2")] and mine.cancel_pending
    one.ns.put(mine)
    world.wait(1)
    assert asking.value.state is LockState.GRANTED
    assert [owner for owner, _, _ in world.granted()] == ["c1"]


def test_unused_locks_are_forgotten_unless_they_keep_a_file_open() -> None:
    world = World()
    user = world.user()
    user.ns.put(user.take(FILE, LCK_PR, bits=UPDATE))
    user.ns.put(user.take(fid_resource(Fid(0x200000401, 3)), LCK_PR, bits=MDS_INODELOCK_OPEN))
    restart(world)
    user.blocking = user.called.append  # type: ignore[method-assign]
    for lock in user.ns.locks.values():
        lock.blocking = user.blocking
    replay(world, user)
    recovered(world)
    assert len(user.called) == 1 and user.ns.lock_count == 1
    assert [policy for _, _, policy in world.granted()] == ["0x4"]


def test_unused_locks_are_kept_where_the_module_says_so() -> None:
    world = World()
    user = world.user()
    user.ns.put(user.take(FILE, LCK_PR, bits=MDS_INODELOCK_LOOKUP))
    user.params().set("ldlm.cancel_unused_locks_before_replay", "0")
    restart(world)
    replay(world, user)
    recovered(world)
    assert len(world.granted()) == user.ns.lock_count == 1


def test_extent_locks_keep_what_they_were_granted_and_go_if_nothing_is_cached() -> None:
    world = World("lustre-OST0000")
    one, two = world.user(), world.user()
    full = one.take(OBJECT, LCK_PW, extent=Extent(0, 4095))
    one.ns.put(full)
    two.ns.put(two.take(ost_resource(8), LCK_PR, extent=Extent(0, 4095)))
    one.ns.guards_nothing = two.ns.guards_nothing = lambda lock: lock is not full
    for lock in two.ns.locks.values():
        lock.blocking = None
    restart(world)
    for user in (one, two):
        replay(world, user)
    recovered(world)
    assert world.granted() == [("c0", "PW", "[0-EOF]")] and two.ns.lock_count == 0


def test_a_second_copy_of_a_replay_makes_no_second_lock() -> None:
    world = World()
    user = world.user()
    lock = user.take(FILE, LCK_PR, bits=UPDATE)
    restart(world)
    replay(world, user)
    first = lock.server_handle
    replay(world, user)
    assert lock.server_handle == first and world.target.ldlm.lock_count == 1


def test_a_claim_outside_of_recovery_is_a_wish_like_any_other() -> None:
    world = World()
    one, two = world.user(), world.user()
    one.take(FILE, LCK_EX, bits=UPDATE)
    lying = world.start(two.lock(FILE, LCK_EX, bits=UPDATE, flags=CLAIM))
    world.wait(1)
    assert not lying.triggered and [owner for owner, _, _ in world.granted()] == ["c0"]

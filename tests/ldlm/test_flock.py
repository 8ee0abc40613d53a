"""File locks: ranges against single bytes, both sides alike, circles, evictions, lost replies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.base.errors import LustreError
from labsim.base.faults import FAIL_ONCE, Armed
from labsim.base.ids import Fid
from labsim.ldlm import points
from labsim.ldlm.flock import FlockResource
from labsim.ldlm.policy import Flock
from labsim.ldlm.resource import Lock, flock_resource
from labsim.runtime.sync import Interruptible
from labsim.wire.constants import (
    LCK_NL,
    LCK_PR,
    LCK_PW,
    LDLM_FL_BLOCK_NOWAIT,
    LDLM_FL_TEST_LOCK,
    LDLM_FLOCK,
    OBD_CONNECT_FLOCK_DEAD,
)

from .rig import GRANTED, User, World

FILE = flock_resource(Fid(0x200000401, 2))
OTHER = flock_resource(Fid(0x200000401, 3))
END = 2**63 - 1


def ranges(user: User, owner: int, file: Any = FILE) -> list[tuple[int, int, int]]:
    """What a client thinks one of its owners has."""
    return sorted(
        (lock.policy.start, lock.policy.end, lock.mode)
        for lock in user.ns.of(file)
        if lock.policy.owner == owner
    )


def served(world: World, uuid: str, owner: int) -> list[tuple[int, int, int]]:
    """What the server thinks."""
    return sorted(
        (lock.policy.start, lock.policy.end, lock.mode)
        for lock in world.target.ldlm._locks.values()
        if lock.granted and lock.export.client_uuid == uuid and lock.policy.owner == owner
    )


def lock(user: User, mode: int, start: int, end: int, owner: int = 1, flags: int = 0,
         file: Any = FILE) -> Any:  # fmt: skip
    return user.ns.flock(file, mode, Flock(start, end, owner, 100 + owner), flags)


def now(user: User, *args: Any, **given: Any) -> Any:
    given.setdefault("flags", LDLM_FL_BLOCK_NOWAIT)
    return user.world.run(lock(user, *args, **given))


def test_neighbours_of_one_mode_become_one_and_a_hole_makes_two() -> None:
    world = World()
    user = world.user()
    now(user, LCK_PW, 0, 9)
    now(user, LCK_PW, 10, 19)
    assert ranges(user, 1) == served(world, "c0", 1) == [(0, 19, LCK_PW)]
    now(user, LCK_NL, 5, 9)
    now(user, LCK_PR, 12, 13)
    expected = [(0, 4, LCK_PW), (10, 11, LCK_PW), (12, 13, LCK_PR), (14, 19, LCK_PW)]
    assert ranges(user, 1) == served(world, "c0", 1) == expected
    now(user, LCK_NL, 0, END)
    assert user.ns.lock_count == world.target.ldlm.lock_count == 0
    assert world.target.ldlm.resource_count == 0


def test_who_is_in_the_way_is_told() -> None:
    world = World()
    one, two = world.user(), world.user()
    now(one, LCK_PW, 5, 9)
    flags = LDLM_FL_TEST_LOCK
    assert now(two, LCK_PR, 0, END, flags=flags) == (LCK_PW, Flock(5, 9, 1, 101))
    assert now(two, LCK_PR, 10, END, flags=flags)[0] == LCK_NL
    assert now(one, LCK_PW, 0, END, flags=flags)[0] == LCK_NL
    assert two.ns.lock_count == 0 and world.target.ldlm.lock_count == 1


def test_a_waiter_gets_its_lock_when_the_bytes_are_free() -> None:
    world = World()
    one, two = world.user(), world.user()
    now(one, LCK_PW, 0, 9)
    waiting = world.start(lock(two, LCK_PW, 5, 20))
    world.wait(600)
    assert not waiting.triggered and world.evictions() == []
    now(one, LCK_NL, 0, 4)
    world.wait(1)
    assert not waiting.triggered
    now(one, LCK_NL, 5, 9)
    world.wait(1)
    assert waiting.triggered and ranges(two, 1) == served(world, "c1", 1) == [(5, 20, LCK_PW)]


def test_a_granted_waiter_may_become_part_of_what_it_has() -> None:
    world = World()
    one, two = world.user(), world.user()
    now(one, LCK_PW, 10, 19)
    now(two, LCK_PW, 0, 9)
    waiting = world.start(lock(two, LCK_PW, 10, 14))
    world.wait(1)
    now(one, LCK_NL, 0, END)
    world.wait(1)
    assert waiting.triggered and ranges(two, 1) == served(world, "c1", 1) == [(0, 14, LCK_PW)]
    assert two.ns.lock_count == world.target.ldlm.lock_count == 1


def test_a_circle_of_three_is_found_by_who_closes_it() -> None:
    world = World()
    one, two, three = (world.user() for _ in range(3))
    now(one, LCK_PW, 1, 1)
    now(two, LCK_PW, 2, 2)
    now(three, LCK_PW, 3, 3)
    first = world.start(lock(one, LCK_PW, 2, 2))
    world.wait(1)
    second = world.start(lock(two, LCK_PW, 3, 3))
    world.wait(1)
    with pytest.raises(LustreError, match="EDEADLK"):
        now(three, LCK_PW, 1, 1, flags=0)
    assert ranges(three, 1) == [(3, 3, LCK_PW)]
    now(three, LCK_NL, 0, END)
    world.wait(1)
    assert second.triggered and not first.triggered


def test_a_circle_that_closes_while_all_wait_is_told_with_the_completion() -> None:
    """Two readers hold a byte; its writer waited for the first, and now waits for the second."""
    world = World()
    flags = GRANTED | OBD_CONNECT_FLOCK_DEAD
    world.target.exports._negotiate = lambda export, want: want
    one, two, three = (world.user(flags) for _ in range(3))
    now(one, LCK_PR, 1, 1)
    now(two, LCK_PR, 1, 1)
    now(three, LCK_PW, 2, 2)
    writer = world.start(lock(three, LCK_PW, 1, 1))
    world.wait(1)
    reader = world.start(lock(two, LCK_PW, 2, 2))
    world.wait(1)
    assert not writer.triggered and not reader.triggered
    now(one, LCK_NL, 0, END)
    world.wait(1)
    assert isinstance(writer.value, LustreError) and writer.value.errno == 35
    now(three, LCK_NL, 0, END)
    world.wait(1)
    assert reader.triggered and ranges(two, 1) == [(1, 1, LCK_PR), (2, 2, LCK_PW)]


def test_an_evicted_client_loses_its_locks_and_the_next_gets_them() -> None:
    world = World()
    one, two = world.user(), world.user()
    now(one, LCK_PW, 0, END)
    waiting = world.start(lock(two, LCK_PW, 0, 9))
    world.wait(1)
    next(iter(world.target.exports)).evict("for the test")
    world.wait(60)
    assert waiting.triggered and served(world, "c1", 1) == [(0, 9, LCK_PW)]
    assert one.ns.lock_count == 0


def test_a_lost_reply_changes_nothing() -> None:
    world = World()
    user = world.user()
    for mode, start, end in ((LCK_PW, 0, 9), (LCK_PW, 5, 20), (LCK_NL, 3, 6)):
        world.server.host.faults.set_fail_loc(FAIL_ONCE | points.LDLM_REPLY.number)
        now(user, mode, start, end)
    assert ranges(user, 1) == served(world, "c0", 1) == [(0, 2, LCK_PW), (7, 20, LCK_PW)]


def test_a_granted_lock_may_be_slow_to_reach_its_process() -> None:
    world = World()
    one, two = world.user(), world.user()
    now(one, LCK_PW, 0, 9)
    for point in (points.LDLM_CP_CB_WAIT, points.LDLM_CP_CB_WAIT2):
        two.rpc.host.faults.arm(Armed(point.number, FAIL_ONCE, 4))
    waiting = world.start(lock(two, LCK_PW, 0, 9))
    world.wait(1)
    now(one, LCK_NL, 0, END)
    world.wait(6)
    assert not waiting.triggered and served(world, "c1", 1) == [(0, 9, LCK_PW)]
    world.wait(3)
    assert waiting.triggered and ranges(two, 1) == [(0, 9, LCK_PW)]


owners = st.sampled_from([1, 2])
spots = st.integers(0, 12)
calls = st.lists(
    st.tuples(st.sampled_from([0, 1]), owners, st.sampled_from([LCK_PR, LCK_PW, LCK_NL]), spots,
              spots),
    max_size=25,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(calls)
def test_any_sequence_leaves_what_single_bytes_say(calls: list[tuple[int, ...]]) -> None:
    """The slow truth: for each byte the mode of each (client, owner)."""
    world = World()
    users = [world.user(), world.user()]
    truth: list[dict[tuple[int, int], int]] = [{} for _ in range(13)]
    for who, owner, mode, one, other in calls:
        start, end = min(one, other), max(one, other)
        key = (who, owner)
        held = [
            (other_key, other_mode)
            for at in range(start, end + 1)
            for other_key, other_mode in truth[at].items()
            if other_key != key
        ]
        written = any(other_mode == LCK_PW for _, other_mode in held)
        refused = (mode == LCK_PW and bool(held)) or (mode == LCK_PR and written)
        try:
            now(users[who], mode, start, end, owner=owner)
            assert not refused
        except LustreError:
            assert refused
            continue
        for at in range(start, end + 1):
            truth[at].pop(key, None)
            if mode != LCK_NL:
                truth[at][key] = mode
    for who, user in enumerate(users):
        for owner in (1, 2):
            mine = ranges(user, owner)
            assert mine == served(world, f"c{who}", owner)
            for at in range(13):
                modes = [mode for start, end, mode in mine if start <= at <= end]
                assert modes == ([truth[at][who, owner]] if (who, owner) in truth[at] else [])


def test_ranges_at_the_edges_of_64_bits_do_not_wrap() -> None:
    where = FlockResource(FILE, LDLM_FLOCK)

    class Mine(Lock):
        client = 0

    top = 2**64 - 1
    first = Mine(1, LCK_PW, Flock(0, 0))
    last = Mine(2, LCK_PW, Flock(top, top))
    for one in (first, last):
        where.take_in(one, lambda *_: pytest.fail("nothing to split"))
    assert len(list(where.granted)) == 2
    middle = Mine(3, LCK_PW, Flock(1, top - 1))
    where.take_in(middle, lambda *_: pytest.fail("nothing to split"))
    assert [lock.policy for lock in where.granted] == [Flock(0, top)]


def interrupted(user: User, *args: Any) -> tuple[Any, Interruptible]:
    """A lock that is being waited for, and its caller's signals."""
    caller = Interruptible(user.world.env)
    mode, start, end = args
    steps = user.ns.flock(FILE, mode, Flock(start, end, 1, 101), 0, caller)
    return user.world.start(steps), caller


def test_a_signal_ends_a_wait_and_the_grant_that_comes_is_not_taken() -> None:
    world = World()
    one, two, three = (world.user() for _ in range(3))
    now(one, LCK_PW, 0, 9)
    waiting, caller = interrupted(two, LCK_PW, 0, 9)
    world.wait(1)
    behind = world.start(lock(three, LCK_PW, 0, 9))
    world.wait(1)
    before = len(world.trace.events)
    caller.signal()
    world.wait(1)
    assert waiting.value.errno == 4 and two.ns.lock_count == 0
    assert not [event for event in world.trace.events[before:] if event.kind == "rpc.send"]
    assert world.target.ldlm.lock_count == 3  # it waits on, for nobody
    now(one, LCK_NL, 0, END)
    world.wait(1)
    assert behind.triggered and served(world, "c2", 1) == [(0, 9, LCK_PW)]
    assert world.target.ldlm.lock_count == 1 and world.evictions() == []


def test_a_signal_that_comes_after_the_grant_changes_nothing() -> None:
    world = World()
    one, two = world.user(), world.user()
    now(one, LCK_PW, 0, 9)
    two.rpc.host.faults.arm(Armed(points.LDLM_CP_CB_WAIT2.number, FAIL_ONCE, 4))
    waiting, caller = interrupted(two, LCK_PW, 0, 9)
    world.wait(1)
    now(one, LCK_NL, 0, END)
    world.wait(1)
    caller.signal()
    world.wait(3)
    assert waiting.ok and ranges(two, 1) == served(world, "c1", 1) == [(0, 9, LCK_PW)]


def test_a_signal_during_the_request_counts_when_it_has_to_wait() -> None:
    world = World()
    one, two = world.user(), world.user()
    now(one, LCK_PW, 0, 9)
    waiting, caller = interrupted(two, LCK_PW, 0, 9)
    caller.signal()
    world.wait(1)
    assert waiting.value.errno == 4 and world.target.ldlm.lock_count == 2
    waiting, caller = interrupted(two, LCK_PR, 20, 29)
    caller.signal()
    world.wait(1)
    assert waiting.ok and ranges(two, 1) == [(20, 29, LCK_PR)]

"""Many clients over few resources: nobody starves, nobody is evicted, no two conflict."""

from __future__ import annotations

from itertools import combinations
from random import Random
from typing import Any

import pytest

from labsim.ldlm.client_lock import ClientLock, LockState
from labsim.ldlm.policy import Extent, conflict
from labsim.ldlm.resource import ost_resource
from labsim.wire.constants import LCK_CR, LCK_EX, LCK_PR, LCK_PW

from .rig import User, World

US = 1000


def conflicts(locks: list[Any]) -> list[Any]:
    """Pairs of locks of different owners that must not be granted at the same time."""
    return [
        (one, other)
        for one, other in combinations(locks, 2)
        if one.resource == other.resource
        and conflict(one.mode, one.policy, other.mode, other.policy)
    ]


def in_use(world: World) -> list[ClientLock]:
    return [
        lock
        for user in world.users
        for lock in user.ns.locks.values()
        if lock.refs and lock.state is LockState.GRANTED
    ]


def work(world: World, user: User, rng: Random, extents: bool) -> Any:
    """Lock something, check, use it for a while, let it go; again and again."""
    for _ in range(40):
        resource = ost_resource(rng.randrange(3) + 1)
        mode = rng.choice([LCK_PR, LCK_PR, LCK_PW, LCK_EX, LCK_CR])
        first = rng.randrange(8)
        extent = Extent(first * 4096, (first + rng.randrange(1, 4)) * 4096 - 1) if extents else None
        bits = 0 if extents else rng.choice([1, 2, 3, 16, 19])
        user.flush_ns = rng.randrange(3) * 400 * US
        lock = user.ns.match(resource, mode, bits=bits, extent=extent)
        if lock is None:
            lock = yield from user.lock(resource, mode, bits=bits, extent=extent)
        assert not conflicts(in_use(world))
        yield world.env.timeout(rng.randrange(1, 900) * US)
        user.ns.put(lock, cancel=rng.random() < 0.2)
        if rng.random() < 0.3:
            yield world.env.timeout(rng.randrange(2000) * US)


@pytest.mark.parametrize("extents", [False, True], ids=["ibits", "extents"])
@pytest.mark.parametrize("seed", range(4))
def test_a_storm_passes(seed: int, extents: bool) -> None:
    world = World("lustre-OST0000" if extents else "lustre-MDT0000")
    users = [world.user() for _ in range(6)]
    rng = Random(seed)
    bodies = [world.env.process(work(world, user, Random(rng.random()), extents)) for user in users]
    world.env.run(world.env.all_of(bodies))
    assert world.evictions() == []
    world.wait(5)
    for user in users:
        assert all(lock.state is LockState.GRANTED and not lock.refs
                   for lock in user.ns.locks.values())  # fmt: skip
        world.run(user.ns.cancel_unused())
    assert world.target.ldlm.lock_count == 0 and world.target.ldlm.resource_count == 0

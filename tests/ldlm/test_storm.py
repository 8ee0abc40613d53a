"""Many clients over few resources: nobody starves, nobody is evicted, no two conflict."""

from __future__ import annotations

from itertools import combinations
from random import Random
from typing import Any

import pytest

from labsim.ldlm.client_lock import ClientLock, LockState
from labsim.ldlm.policy import Extent, conflict
from labsim.ldlm.resource import ost_resource
from labsim.wire.constants import (
    LCK_CR,
    LCK_CW,
    LCK_EX,
    LCK_GROUP,
    LCK_PR,
    LCK_PW,
    OBD_CONNECT2_LOCK_CONVERT,
)

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


MODES = {
    "ibits": [LCK_PR, LCK_PR, LCK_PW, LCK_EX, LCK_CR],
    "converted": [LCK_PR, LCK_PR, LCK_PR, LCK_EX],
    "extents": [LCK_PR, LCK_PR, LCK_PW, LCK_EX, LCK_CR],
    "groups": [LCK_PR, LCK_PW, LCK_CW, LCK_GROUP],
}


def some_extent(rng: Random, mode: int) -> Extent:
    if mode == LCK_GROUP:
        return Extent(gid=rng.randrange(2) + 1)
    first = rng.randrange(8)
    return Extent(first * 4096, (first + rng.randrange(1, 4)) * 4096 - 1)


def work(world: World, user: User, rng: Random, kind: str) -> Any:
    """Lock something, check, use it for a while, let it go; again and again."""
    extents = kind in ("extents", "groups")
    for _ in range(40):
        resource = ost_resource(rng.randrange(3) + 1)
        mode = rng.choice(MODES[kind])
        extent = some_extent(rng, mode) if extents else None
        bits = 0 if extents else rng.choice([1, 2, 3, 16, 19])
        user.flush_ns = rng.randrange(3) * 400 * US
        lock = user.ns.match(resource, mode, bits=bits, extent=extent)
        if lock is None:
            lock = yield from user.lock(resource, mode, bits=bits, extent=extent)
        assert not conflicts(in_use(world))
        yield world.env.timeout(rng.randrange(1, 900) * US)
        user.ns.put(lock, cancel=mode == LCK_GROUP or rng.random() < 0.2)
        if rng.random() < 0.3:
            yield world.env.timeout(rng.randrange(2000) * US)


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("seed", range(4))
def test_a_storm_passes(seed: int, kind: str) -> None:
    world = World("lustre-OST0000" if kind in ("extents", "groups") else "lustre-MDT0000")
    flags2 = OBD_CONNECT2_LOCK_CONVERT if kind == "converted" else 0
    users = [world.user(flags2=flags2) for _ in range(6)]
    rng = Random(seed)
    bodies = [world.env.process(work(world, user, Random(rng.random()), kind)) for user in users]
    world.env.run(world.env.all_of(bodies))
    assert world.evictions() == []
    world.wait(5)
    for user in users:
        assert all(lock.state is LockState.GRANTED and not lock.refs
                   for lock in user.ns.locks.values())  # fmt: skip
        world.run(user.ns.cancel_unused())
    assert world.target.ldlm.lock_count == 0 and world.target.ldlm.resource_count == 0

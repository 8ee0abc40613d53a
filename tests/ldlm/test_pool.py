"""Lock volume: how a server asks for fewer locks without naming any, and which ones then go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labsim.base.ids import Fid
from labsim.ldlm.pool import HOST_LIMIT, MAX_AGE_S, Pool
from labsim.ldlm.resource import fid_resource
from labsim.wire.constants import LCK_PR, MDS_INODELOCK_UPDATE

from .rig import User, World

UPDATE = MDS_INODELOCK_UPDATE


def cache(user: User, count: int, first: int = 2) -> None:
    """That many locks that nobody uses."""
    for oid in range(first, first + count):
        user.ns.put(user.take(fid_resource(Fid(0x200000401, oid)), LCK_PR, bits=UPDATE))


def test_an_idle_pool_is_at_its_maximum_and_stays_there() -> None:
    pool = Pool(server=True, now_s=0)
    assert pool.volume == HOST_LIMIT * MAX_AGE_S
    pool.turn(10**9)
    assert pool.volume == HOST_LIMIT * MAX_AGE_S and pool.plan == HOST_LIMIT // 100


def test_a_full_pool_loses_volume_and_an_empty_one_regains_it() -> None:
    pool = Pool(server=True, now_s=0)
    pool.limit = 100
    for _ in range(120):
        pool.granted_one()
    pool.turn(1)
    assert pool.volume == 100 * MAX_AGE_S and pool.plan == 120
    pool.turn(2)
    assert pool.volume == 100 * MAX_AGE_S  # as planned: nobody took more
    for _ in range(30):
        pool.granted_one()
    before = pool.volume
    pool.turn(3)
    assert pool.volume == before * (70 * 1024 // 100) >> 10
    for _ in range(150):
        pool.cancelled_one()
    pool.turn(10_000)
    assert pool.volume == 100 * MAX_AGE_S


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(-30, 30)), max_size=20))
def test_many_turns_at_once_are_as_good_as_one_by_one(script: list[tuple[int, int]]) -> None:
    lazy, eager = Pool(server=True, now_s=0), Pool(server=True, now_s=0)
    lazy.limit = eager.limit = 50
    now = 0
    for seconds, change in script:
        for at in range(now + 1, now + seconds + 1):
            eager.turn(at)
        now += seconds
        lazy.turn(now)
        assert (lazy.volume, lazy.plan) == (eager.volume, eager.plan)
        for _ in range(max(change, -lazy.granted), 0):
            lazy.cancelled_one()
            eager.cancelled_one()
        for _ in range(change):
            lazy.granted_one()
            eager.granted_one()


def test_replies_tell_the_volume_and_both_sides_count_alike() -> None:
    world = World()
    user = world.user()
    cache(user, 3)
    server = world.target.ldlm.pool
    assert (user.ns.pool.volume, user.ns.pool.limit) == (HOST_LIMIT * MAX_AGE_S, HOST_LIMIT)
    assert user.ns.pool.granted == server.granted == 3
    world.run(user.ns.cancel_unused())
    assert user.ns.pool.granted == server.granted == 0


def test_who_cannot_resize_its_lru_is_told_nothing() -> None:
    world = World()
    user = world.user(0)
    cache(user, 1)
    assert user.ns.pool.volume == 0


def test_locks_that_weigh_too_much_go_the_oldest_first() -> None:
    world = World()
    user = world.user()
    cache(user, 10)
    world.wait(100)
    user.imp.pooled = None  # the server would say something else
    user.ns.pool.told(2000, 100)  # ten locks may be 200 s old, or five 400
    user.ns.shrink()
    cache(user, 1, first=50)
    world.wait(85)
    assert user.ns.lock_count == 11
    world.wait(20)
    assert 1 < user.ns.lock_count < 11
    survivors = [lock.resource for lock in user.ns.lru]
    assert survivors[-1] == fid_resource(Fid(0x200000401, 50))
    assert user.ns.pool.client_volume < 2000


def test_a_higher_factor_makes_them_go_sooner() -> None:
    world = World()
    user = world.user()
    cache(user, 10)
    user.ns.pool.told(10_000, 100)
    user.params().set("ldlm.namespaces.*.pool.lock_volume_factor", "10")
    user.imp.pooled = None
    world.wait(90)
    assert user.ns.lock_count == 10
    world.wait(20)
    assert user.ns.lock_count < 10


def test_the_files_of_a_pool() -> None:
    world = World()
    user = world.user()
    cache(user, 2)
    server = world.server.host.params
    path = "ldlm.namespaces.mdt-lustre-MDT0000_UUID.pool"
    assert server.get(f"{path}.granted")[0][1] == "2\n"
    assert server.get(f"{path}.state")[0][1] == (
        f"LDLM pool state (mdt-lustre-MDT0000_UUID):\n  SLV: {HOST_LIMIT * MAX_AGE_S}\n"
        f"  CLV: 0\n  LVF: 1\n  GSP: 1%\n  GP:  {HOST_LIMIT * 30 // 100}\n"
        f"  GR:  2\n  CR:  0\n  GS:  2\n  G:   2\n  L:   {HOST_LIMIT}\n"
    )
    world.wait(1)
    assert server.get(f"{path}.grant_rate")[0][1] == "0\n"
    server.set(f"{path}.limit", "1")
    assert server.get(f"{path}.limit")[0][1] == "1\n"
    assert "GSP" not in user.params().get("ldlm.namespaces.*.pool.state")[0][1]

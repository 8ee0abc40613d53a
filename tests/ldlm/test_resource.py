"""Who is granted a lock on a resource, and when."""

from hypothesis import given
from hypothesis import strategies as st

from labsim.base.ids import Fid
from labsim.ldlm.extent import ExtentResource
from labsim.ldlm.policy import Extent, Ibits, Policy
from labsim.ldlm.resource import (
    Lock,
    Resource,
    config_resource,
    entry_resource,
    fid_resource,
    ost_resource,
    resource_fid,
    resource_ost,
)
from labsim.ldlm.server import KINDS
from labsim.wire.constants import LCK_CR, LCK_EX, LCK_PR, LCK_PW, LDLM_EXTENT, LDLM_IBITS

FID = Fid(0x200000401, 7, 2)


def resource() -> Resource:
    return Resource(fid_resource(FID), LDLM_IBITS)


def take(where: Resource, lock: Lock) -> bool:
    if where.may_grant(lock):
        where.grant(lock)
        return True
    where.wait(lock)
    return False


def advance(where: Resource) -> list[int]:
    granted = []
    while (lock := where.next_granted()) is not None:
        granted.append(lock.cookie)
    return granted


def test_names_of_resources() -> None:
    assert fid_resource(FID) == (0x200000401, 2 << 32 | 7, 0, 0)
    assert resource_fid(fid_resource(FID)) == FID
    assert entry_resource(FID, 99) == (0x200000401, 2 << 32 | 7, 0, 99)
    assert ost_resource(12) == (12, 0, 0, 0)
    assert ost_resource(12, 0x280000400) == (0x280000400, 12, 0, 0)
    assert resource_ost(ost_resource(12)) == (12, 0)
    assert resource_ost(ost_resource(12, 0x280000400)) == (12, 0x280000400)
    assert config_resource("lustre") == (int.from_bytes(b"lustre", "little"), 0, 0, 0)


def test_readers_share_and_a_writer_waits_for_all_of_them() -> None:
    where = resource()
    assert take(where, Lock(1, LCK_PR, Ibits(2)))
    assert take(where, Lock(2, LCK_PR, Ibits(2)))
    writer = Lock(3, LCK_EX, Ibits(2))
    assert not take(where, writer)
    assert [lock.cookie for lock in where.conflicting(writer)] == [1, 2]
    first, second = where.granted
    where.remove(first)
    assert advance(where) == []
    where.remove(second)
    assert advance(where) == [3]


def test_nobody_overtakes_who_waits_for_the_same_thing() -> None:
    where = resource()
    reader = Lock(1, LCK_PR, Ibits(2))
    take(where, reader)
    assert not take(where, Lock(2, LCK_EX, Ibits(2)))
    assert not take(where, Lock(3, LCK_PR, Ibits(2)))
    assert take(where, Lock(4, LCK_PR, Ibits(4)))
    where.remove(reader)
    assert advance(where) == [2]


def test_who_wants_another_part_passes_a_waiting_lock() -> None:
    where = resource()
    take(where, Lock(1, LCK_PR, Ibits(1)))
    assert not take(where, Lock(2, LCK_EX, Ibits(1)))
    assert not take(where, Lock(3, LCK_EX, Ibits(3)))
    assert take(where, Lock(4, LCK_EX, Ibits(4)))


def test_the_first_waiter_that_a_new_grant_is_in_the_way_of() -> None:
    where = resource()
    reader = Lock(1, LCK_PR, Ibits(2))
    take(where, reader)
    take(where, Lock(2, LCK_EX, Ibits(2)))
    take(where, Lock(3, LCK_EX, Ibits(2)))
    where.remove(reader)
    granted = where.next_granted()
    assert granted is not None and granted.cookie == 2
    waiter = where.waiting_for(granted)
    assert waiter is not None and waiter.cookie == 3


def test_optional_bits_are_given_where_nobody_minds() -> None:
    where = resource()
    take(where, Lock(1, LCK_EX, Ibits(8)))
    lock = Lock(2, LCK_CR, Ibits(1, optional=8 | 16))
    assert take(where, lock)
    assert lock.policy == Ibits(1 | 16)


def test_a_resource_without_locks_is_idle() -> None:
    where = resource()
    assert where.idle
    lock = Lock(1, LCK_PR, Ibits(1))
    take(where, lock)
    assert not where.idle
    where.remove(lock)
    assert where.idle


class GrowingLock(Lock):
    @property
    def growable(self) -> bool:
        return True


def test_an_extent_is_granted_larger_than_it_was_asked_for() -> None:
    where = ExtentResource(ost_resource(3), LDLM_EXTENT)
    first = GrowingLock(1, LCK_PW, Extent(0, 4095))
    take(where, first)
    assert first.policy == Extent()
    assert first.wanted == Extent(0, 4095)
    short = Lock(2, LCK_PW, Extent(4096, 8191))
    assert not take(where, short)
    where.remove(first)
    assert advance(where) == [2]
    assert short.policy == Extent(4096, 8191)


modes = st.sampled_from([LCK_EX, LCK_PW, LCK_PR, LCK_CR])
bits = st.builds(Ibits, st.integers(1, 7), st.integers(0, 7))
extents = st.builds(
    lambda a, n: Extent(a * 4096, (a + n) * 4096 - 1), st.integers(0, 8), st.integers(1, 4)
)


def check(kind: int, wishes: list[tuple[int, Policy]], leaving: list[int]) -> None:
    """However locks come and go: no conflict among the granted, and all are served in the end."""
    where = KINDS.get(kind, Resource)((1, 0, 0, 0), kind)
    held: dict[int, Lock] = {}
    for cookie, (mode, policy) in enumerate(wishes, start=1):
        lock = held[cookie] = GrowingLock(cookie, mode, policy)
        take(where, lock)
        if cookie in leaving:
            where.remove(held.pop(cookie - 1, lock))
            advance(where)
        granted = list(where.granted)
        for one in granted:
            assert not any(one.conflicts(other) for other in granted if other is not one)
    while (lock := next(where.granted, None)) is not None:
        where.remove(lock)
        advance(where)
    assert where.idle, "somebody was never granted"


@given(st.lists(st.tuples(modes, bits), max_size=20), st.lists(st.integers(1, 20)))
def test_inode_bit_locks_stay_consistent(
    wishes: list[tuple[int, Policy]], leaving: list[int]
) -> None:
    check(LDLM_IBITS, wishes, leaving)


@given(st.lists(st.tuples(modes, extents), max_size=20), st.lists(st.integers(1, 20)))
def test_extent_locks_stay_consistent(wishes: list[tuple[int, Policy]], leaving: list[int]) -> None:
    check(LDLM_EXTENT, wishes, leaving)

"""The order of unused locks, and which of them have to go."""

from labsim.ldlm.lru import Lru, next_tick


class Unused:
    def __init__(self, cookie: int) -> None:
        self.cookie = cookie
        self.last_used_ns = 0


def filled(count: int) -> Lru[Unused]:
    lru: Lru[Unused] = Lru()
    for number in range(count):
        lru.add(Unused(number), now_ns=number * 100)
    return lru


def cookies(locks: list[Unused]) -> list[int]:
    return [lock.cookie for lock in locks]


def test_the_oldest_come_first() -> None:
    lru = filled(3)
    first = lru.oldest
    assert first is not None and first.cookie == 0
    lru.add(first, now_ns=1000)
    assert cookies(list(lru)) == [1, 2, 0]
    assert first in lru and first.last_used_ns == 1000
    lru.remove(first)
    assert first not in lru and len(lru) == 2


def test_what_is_over_a_limit() -> None:
    lru = filled(5)
    assert cookies(lru.over(3)) == [0, 1]
    assert lru.over(5) == []
    assert cookies(lru.over(0)) == [0, 1, 2, 3, 4]


def test_who_was_passed_over_is_fresh_again_when_used() -> None:
    lru = filled(3)
    first = lru.candidate
    assert first is not None and first is lru.oldest
    lru.pass_over(first)
    assert cookies(list(lru.fresh)) == [1, 2] and cookies(list(lru)) == [0, 1, 2]
    assert lru.candidate is not first and lru.oldest is first
    lru.add(first, now_ns=1000)
    assert cookies(list(lru.fresh)) == [1, 2, 0]
    lru.remove(first)
    assert cookies(list(lru.fresh)) == [1, 2]


def test_ticks_come_after_the_time_given() -> None:
    assert next_tick(0, start_ns=0, period_ns=10) == 10
    assert next_tick(9, start_ns=0, period_ns=10) == 10
    assert next_tick(10, start_ns=0, period_ns=10) == 20
    assert next_tick(12, start_ns=5, period_ns=10) == 15

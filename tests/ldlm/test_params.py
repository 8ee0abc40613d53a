"""What lctl sees of lock namespaces, and how unused locks go."""

from __future__ import annotations

import pytest

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.overlay import Kit, Overlay
from labsim.base.units import NS_PER_S
from labsim.ldlm.namespace import Namespace
from labsim.ldlm.resource import fid_resource
from labsim.wire.constants import LCK_PR, MDS_INODELOCK_LOOKUP, OBD_CONNECT_VERSION
from labsim.wire.opcodes import LDLM_CANCEL

from .rig import User, World

S = NS_PER_S
LOOKUP = MDS_INODELOCK_LOOKUP


def use(user: User, count: int, start: int = 1) -> None:
    """Take `count` locks and let them go."""
    for number in range(start, start + count):
        user.ns.put(user.take(fid_resource(Fid(1, number)), LCK_PR, bits=LOOKUP))


def show(user: User, file: str) -> str:
    text = getattr(user.ns, "show_" + file)()
    assert isinstance(text, str)
    return text


def store(user: User, file: str, text: str) -> None:
    steps = getattr(user.ns, "store_" + file)(text)
    if steps is not None:
        user.world.run(steps)


def test_where_the_files_are() -> None:
    world = World()
    user = world.user()
    names = user.params().list("ldlm.namespaces.*.*")
    stem = "ldlm.namespaces.lustre-MDT0000-mdc-ffff000000000000."
    for file in ("lru_size", "lru_max_age", "lock_count", "lock_unused_count", "resource_count",
                 "early_lock_cancel", "dirty_age_limit", "pool.recalc_period"):  # fmt: skip
        assert stem + file in user.params().list("ldlm.namespaces.*." + file), names
    server = world.server.host.params
    stem = "ldlm.namespaces.mdt-lustre-MDT0000_UUID."
    for file in ("contended_locks", "contention_seconds", "max_nolock_bytes", "ctime_age_limit",
                 "max_parallel_ast", "lock_timeouts", "lru_size", "lru_max_age"):  # fmt: skip
        assert server.list("ldlm.namespaces.*." + file) == [stem + file]
    ost = World("lustre-OST0001").server.host.params
    assert ost.list("ldlm.namespaces.*.lock_count") == [
        "ldlm.namespaces.filter-lustre-OST0001_UUID.lock_count"
    ]


def test_counts() -> None:
    world = World()
    user = world.user()
    use(user, 3)
    user.take(fid_resource(Fid(1, 1)), LCK_PR, bits=2)
    assert (show(user, "lock_count"), show(user, "lock_unused_count")) == ("4\n", "3\n")
    assert show(user, "resource_count") == "3\n"
    assert world.target.ldlm.show_lock_count() == "4\n"  # type: ignore[attr-defined]


def test_a_dynamic_lru_shows_how_many_locks_are_unused() -> None:
    user = World().user()
    assert show(user, "lru_size") == "0\n"
    use(user, 3)
    assert show(user, "lru_size") == "3\n"


def test_a_fixed_lru_keeps_the_last_locks() -> None:
    world = World()
    user = world.user()
    use(user, 5)
    store(user, "lru_size", "2\n")
    world.wait(1)
    assert show(user, "lru_size") == "2\n"
    assert [lock["resource"][1] for lock in user.ns.snapshot()] == [4, 5]
    use(user, 2, start=10)
    world.wait(1)
    assert [lock["resource"][1] for lock in user.ns.snapshot()] == [10, 11]
    store(user, "lru_size", "0")
    use(user, 4, start=20)
    assert show(user, "lru_size") == "6\n"


def test_a_number_shrinks_a_dynamic_lru_once() -> None:
    world = World()
    user = world.user()
    use(user, 5)
    store(user, "lru_size", "0")
    world.wait(1)
    assert show(user, "lock_unused_count") == "0\n"


def test_clear_cancels_what_is_unused_before_it_returns() -> None:
    world = World()
    user = world.user()
    use(user, 5)
    user.take(fid_resource(Fid(2, 1)), LCK_PR, bits=LOOKUP)
    store(user, "lru_size", "clear\n")
    assert show(user, "lock_count") == "1\n"
    assert world.target.ldlm.lock_count == 1
    assert world.sent(LDLM_CANCEL) == 1


def test_without_lru_resize_the_limit_is_lustres_default() -> None:
    world = World()
    user = world.user(flags=OBD_CONNECT_VERSION)
    use(user, 103)
    world.wait(1)
    assert show(user, "lru_size") == "100\n"
    assert user.ns.lock_unused_count == 100


@pytest.mark.parametrize("text", ["", "many", "-1", "3 locks"])
def test_lru_size_refuses_what_is_no_number(text: str) -> None:
    user = World().user()
    with pytest.raises(LustreError, match="EINVAL"):
        store(user, "lru_size", text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("600000", "600000\n"), ("600000\n", "600000\n"), ("600s", "600000\n"), ("250ms\n", "250\n")],
)
def test_lru_max_age_is_in_milliseconds(text: str, shown: str) -> None:
    user = World().user()
    assert show(user, "lru_max_age") == "3900000\n"
    store(user, "lru_max_age", text)
    assert show(user, "lru_max_age") == shown


@pytest.mark.parametrize("text", ["", "s", "ms", "long", "5m", "-5"])
def test_lru_max_age_refuses_what_is_no_age(text: str) -> None:
    user = World().user()
    with pytest.raises(LustreError, match="EINVAL"):
        store(user, "lru_max_age", text)


def test_old_locks_go_at_a_turn_of_the_pool() -> None:
    world = World()
    user = world.user()
    store(user, "lru_max_age", "15s")
    use(user, 2)
    world.wait(8)
    use(user, 1, start=9)
    world.wait(12.5)
    assert user.ns.lock_unused_count == 1
    assert user.called[0].resource == fid_resource(Fid(1, 1))
    world.wait(9)
    assert user.ns.lock_unused_count == 1
    world.wait(2)
    assert user.ns.lock_unused_count == 0


def test_a_lock_that_is_used_again_stays_young() -> None:
    world = World()
    user = world.user()
    store(user, "lru_max_age", "15s")
    use(user, 1)
    for _ in range(5):
        world.wait(10)
        lock = user.ns.match(fid_resource(Fid(1, 1)), LCK_PR, bits=LOOKUP)
        assert lock is not None
        user.ns.put(lock)
    world.wait(31)
    assert user.ns.lock_count == 0


def test_a_new_age_or_pace_counts_at_once() -> None:
    world = World()
    user = world.user()
    use(user, 1)
    world.wait(100)
    assert user.ns.lock_count == 1
    store(user, "lru_max_age", "60000")
    world.wait(10)
    assert user.ns.lock_count == 0
    use(user, 1)
    store(user, "pool_recalc_period", "1")
    world.wait(62)
    assert user.ns.lock_count == 0


def test_a_fixed_lru_knows_no_age() -> None:
    world = World()
    user = world.user()
    store(user, "lru_size", "100")
    store(user, "lru_max_age", "1s")
    use(user, 1)
    world.wait(60)
    assert user.ns.lock_count == 1


class Glued(Overlay, of=Namespace):
    because = "a test"

    def show_lru_size(self) -> str:
        return str(super().show_lru_size().removesuffix("\n"))  # type: ignore[misc]


class RawJiffies(Overlay, of=Namespace):
    because = "a test"

    def default_lru_max_age(self) -> int:
        return 3900 * self.host.clock.hz  # type: ignore[attr-defined, no-any-return]

    def max_age_ns(self) -> int:
        return self.lru_max_age * S // self.host.clock.hz  # type: ignore[attr-defined, no-any-return]

    def store_lru_max_age(self, text: str) -> None:
        self.lru_max_age = int(text)
        self.age_changed()  # type: ignore[attr-defined]


def test_the_rules_can_be_replaced() -> None:
    world = World()
    user = world.user(kit=Kit([Glued, RawJiffies]))
    assert show(user, "lru_size") == "0"
    user.rpc.host.clock.hz = 250
    store(user, "lru_max_age", "5000")
    use(user, 1)
    world.wait(19)
    assert user.ns.lock_count == 1
    world.wait(12)
    assert user.ns.lock_count == 0


def test_the_number_of_parallel_callbacks_can_change() -> None:
    world = World()
    users = [world.user() for _ in range(5)]
    world.target.ldlm.store_max_parallel_ast("1")  # type: ignore[attr-defined]
    for user in users:
        use(user, 1)
    use(users[0], 1)
    from labsim.wire.constants import LCK_EX

    users[0].take(fid_resource(Fid(1, 1)), LCK_EX, bits=LOOKUP)
    assert world.target.ldlm.lock_count == 1


def test_a_dump_tells_of_every_namespace() -> None:
    world = World()
    user = world.user()
    user.take(fid_resource(Fid(0x200000401, 2)), LCK_PR, bits=2)
    user.params().set("ldlm.dump_namespaces", "1")
    told = [event.fields for event in world.trace.events if event.kind == "ldlm.dump"]
    assert told == [(f"ldlm.namespaces.{user.ns.name}.lock_count", 1)]

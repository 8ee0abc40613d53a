"""Cancels of unused locks that travel with other requests."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.ids import Fid
from labsim.ldlm.desc import cancelling
from labsim.ldlm.holdings import LARGEST_REQUEST, MAX_HANDLES
from labsim.ldlm.policy import Extent
from labsim.ldlm.resource import fid_resource, ost_resource
from labsim.net.ptlrpc import Import, Request
from labsim.wire.constants import (
    LCK_EX,
    LCK_PR,
    LCK_PW,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_OPEN,
    OBD_CONNECT_CANCELSET,
    REINT_SETXATTR,
)
from labsim.wire.mdt import MdtRecSetxattr
from labsim.wire.opcodes import LDLM_CANCEL, LDLM_ENQUEUE, MDS_REINT
from tests.ldlm.rig import GRANTED, User, World

EXTENT = Extent(0, 4095)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every request that a client's import was given."""
    seen: list[Any] = []
    call = Import.call

    def noting(self: Any, request: Any) -> Any:
        seen.append(request)
        return call(self, request)

    monkeypatch.setattr(Import, "call", noting)
    return seen


def counts(sent: list[Any], opcode: int) -> list[int]:
    return [one.fields["dlm_req"].lock_count for one in sent if one.opcode == opcode]


def cache(user: User, count: int, first: int = 1, bits: int = MDS_INODELOCK_LOOKUP) -> None:
    for number in range(first, first + count):
        lock = user.take(fid_resource(Fid(0x200000401, number)), LCK_PR, bits=bits)
        user.ns.put(lock)


def keep(user: User, size: str) -> None:
    user.params().set("ldlm.namespaces.*.lru_size", size)


def test_old_locks_go_with_the_next_enqueue(sent: list[Any]) -> None:
    world = World()
    user = world.user()
    user.params().set("ldlm.namespaces.*.pool.recalc_period", "3600")
    user.params().set("ldlm.namespaces.*.lru_max_age", "5s")
    cache(user, 3)
    world.wait(4)
    cache(user, 1, first=10)
    world.wait(3)
    cache(user, 1, first=11)
    assert counts(sent, LDLM_ENQUEUE) == [1, 1, 1, 1, 4] and counts(sent, LDLM_CANCEL) == []
    assert user.ns.lock_count == world.target.ldlm.lock_count == 2
    assert len(user.called) == 3


def test_above_a_limit_each_enqueue_makes_room_for_its_own_lock(sent: list[Any]) -> None:
    world = World()
    user = world.user()
    keep(user, "3")
    cache(user, 6)
    assert counts(sent, LDLM_ENQUEUE) == [1, 1, 1, 2, 2, 2] and counts(sent, LDLM_CANCEL) == []
    assert user.ns.lock_unused_count == world.target.ldlm.lock_count == 3


def test_locks_that_take_time_stay_until_a_cancel_takes_them_along(sent: list[Any]) -> None:
    world = World("lustre-OST0000")
    one, two = world.user(), world.user()
    keep(one, "2")
    one.ns.guards_nothing = lambda lock: False
    for number in range(5):
        one.ns.put(one.take(ost_resource(number + 1), LCK_PW, extent=EXTENT))
    assert one.ns.lock_unused_count == 5 and len(list(one.ns.lru.fresh)) == 1
    two.take(ost_resource(5), LCK_PR, extent=EXTENT)
    world.wait(1)
    assert counts(sent, LDLM_CANCEL) == [3] and one.ns.lock_unused_count == 2
    assert [lock.resource for lock in one.ns.lru] == [ost_resource(3), ost_resource(4)]


def test_open_locks_are_not_given_up_in_passing(sent: list[Any]) -> None:
    world = World()
    user = world.user()
    keep(user, "1")
    cache(user, 2, bits=MDS_INODELOCK_OPEN)
    cache(user, 2, first=5)
    assert counts(sent, LDLM_ENQUEUE) == [1, 1, 1, 2]
    assert user.ns.lock_unused_count == 3


def test_a_request_carries_what_fits_in_a_page(sent: list[Any]) -> None:
    world = World()
    user = world.user()
    user.params().set("ldlm.namespaces.*.lru_max_age", "3600s")
    cache(user, 500)
    user.ns.lru_max_age = 0
    world.wait(1)
    cache(user, 1, first=1000)
    request = next(one for one in reversed(sent) if one.opcode == LDLM_ENQUEUE)
    handles = request.fields["dlm_req"].lock_handle
    assert len(handles) == request.fields["dlm_req"].lock_count == MAX_HANDLES
    fixed = 32 + 8 + 184 + 104 - 16
    assert fixed + 8 * len(handles) == LARGEST_REQUEST
    assert user.ns.lock_count == world.target.ldlm.lock_count == 501 - (MAX_HANDLES - 1)


def test_what_does_not_fit_goes_in_a_message_of_its_own(sent: list[Any]) -> None:
    world = World()
    user = world.user()
    resource = fid_resource(Fid(0x200000401, 1))
    for _ in range(420):
        user.ns.put(user.take(resource, LCK_PR, bits=MDS_INODELOCK_LOOKUP))
    early = user.ns.take_early(resource, LCK_EX, MDS_INODELOCK_LOOKUP)
    assert len(early) == 420
    user.take(resource, LCK_EX, bits=MDS_INODELOCK_LOOKUP, early=early)
    world.wait(1)
    assert counts(sent, LDLM_ENQUEUE)[-1] == MAX_HANDLES
    assert counts(sent, LDLM_CANCEL) == [420 - (MAX_HANDLES - 1)]
    assert world.target.ldlm.lock_count == 1


def test_a_long_request_carries_hardly_any(sent: list[Any]) -> None:
    world = World()
    user = world.user()
    cache(user, 20)
    handles = [lock.server_handle for lock in user.ns.lru]
    request = Request(
        MDS_REINT, rec_reint=MdtRecSetxattr(opcode=REINT_SETXATTR), name="user.a",
        eadata=bytes(4000), dlm_req=cancelling(handles),
    )  # fmt: skip
    user.ns.pack_cancels(request)
    world.wait(1)
    assert request.fields["dlm_req"].lock_count == 2 and counts(sent, LDLM_CANCEL) == [18]


def test_without_cancelset_each_lock_goes_alone(sent: list[Any]) -> None:
    world = World()
    user = world.user(GRANTED & ~OBD_CONNECT_CANCELSET)
    keep(user, "3")
    cache(user, 5)
    world.wait(1)
    assert set(counts(sent, LDLM_ENQUEUE)) == {1} and counts(sent, LDLM_CANCEL) == [1, 1]
    world.run(user.ns.cancel_unused())
    assert counts(sent, LDLM_CANCEL) == [1] * 5 and world.target.ldlm.lock_count == 0


def test_it_can_be_switched_off(sent: list[Any]) -> None:
    world = World()
    user = world.user()
    user.params().set("ldlm.namespaces.*.early_lock_cancel", "0")
    keep(user, "3")
    cache(user, 5)
    assert set(counts(sent, LDLM_ENQUEUE)) == {1} and counts(sent, LDLM_CANCEL) == []
    assert user.ns.lock_unused_count == 5

"""What happens when a message about locks is lost, late, or made of bytes."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.faults import FAIL_ONCE
from labsim.base.ids import Fid
from labsim.base.units import NS_PER_S
from labsim.ldlm import points
from labsim.ldlm.client_lock import LockState
from labsim.ldlm.resource import fid_resource
from labsim.wire.constants import LCK_EX, LCK_PR, MDS_INODELOCK_UPDATE
from labsim.wire.message import Message

from .rig import World

FILE = fid_resource(Fid(0x200000401, 2))
UPDATE = MDS_INODELOCK_UPDATE


def hand_over(world: World) -> None:
    """The first client's lock goes to the second."""
    one, two = world.users
    lock = one.ns.match(FILE, LCK_PR, bits=UPDATE) or one.take(FILE, LCK_PR, bits=UPDATE)
    one.ns.put(lock)
    two.ns.put(two.take(FILE, LCK_EX, bits=UPDATE))


@pytest.mark.parametrize(
    ("point", "where"),
    [
        (points.LDLM_ENQUEUE_NET, "s0"),
        (points.LDLM_REPLY, "s0"),
        (points.LDLM_CANCEL_NET, "s0"),
        (points.LDLM_BL_CALLBACK_NET, "c0"),
        (points.LDLM_CP_CALLBACK_NET, "c1"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_one_lost_message_evicts_nobody_and_leaves_no_lock_behind(point: Any, where: str) -> None:
    world = World()
    users = [world.user(), world.user()]
    hosts = {"s0": world.server.host} | {user.rpc.host.name: user.rpc.host for user in users}
    hosts[where].faults.set_fail_loc(FAIL_ONCE | point.number)
    hand_over(world)
    world.wait(300)
    assert "rpc.dropped" in [event.kind for event in world.trace.events]
    assert [owner for owner, _, _ in world.granted()] in (["c1"], [])
    assert world.target.ldlm.lock_count == sum(user.ns.lock_count for user in users)


def test_a_cancel_that_is_late_is_in_time() -> None:
    world = World()
    one, two = world.user(), world.user()
    faults = one.rpc.host.faults
    faults.set_fail_val(30)
    faults.set_fail_loc(FAIL_ONCE | points.LDLM_PAUSE_CANCEL.number)
    before = world.env.now
    hand_over(world)
    assert 30 <= (world.env.now - before) / NS_PER_S < 31
    assert world.evictions() == [] and two.ns.lock_count == 1


def test_a_cancel_that_is_too_late_evicts_its_client() -> None:
    world = World()
    one, _ = world.user(), world.user()
    one.rpc.host.faults.set_fail_val(70)
    one.rpc.host.faults.set_fail_loc(FAIL_ONCE | points.LDLM_PAUSE_CANCEL.number)
    hand_over(world)
    assert len(world.evictions()) == 1
    world.wait(60)
    again = one.take(FILE, LCK_PR, bits=UPDATE)
    assert again.state is LockState.GRANTED


def test_locks_travel_as_bytes_too() -> None:
    world = World()
    world.user(), world.user()
    carried = []
    carry = world.fabric.carry

    def as_bytes(port: Any, packet: Any, delay_ns: int) -> None:
        if isinstance(packet.payload, Message):
            packet = packet._replace(payload=packet.payload.encode())
            carried.append(len(packet.payload))
        carry(port, packet, delay_ns)

    world.fabric.carry = as_bytes  # type: ignore[method-assign]
    hand_over(world)
    world.wait(1)
    assert len(carried) >= 8
    assert world.granted() == [("c1", "EX", "0x2")]

"""Extent locks between clients and an OST: growth, value blocks, glimpses."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.faults import FAIL_ONCE
from labsim.ldlm import lvb, points
from labsim.ldlm.client_lock import LockState
from labsim.ldlm.policy import Extent
from labsim.ldlm.resource import ost_resource
from labsim.net.ptlrpc import State
from labsim.net.rules import partition
from labsim.wire.constants import (
    ELDLM_LOCK_ABORTED,
    LCK_GROUP,
    LCK_PR,
    LCK_PW,
    LDLM_FL_BLOCK_NOWAIT,
    LDLM_FL_HAS_INTENT,
    LDLM_FL_NO_EXPANSION,
    LDLM_FL_SPECULATIVE,
    OBD_CONNECT_VERSION,
)
from labsim.wire.opcodes import LDLM_BL_CALLBACK, LDLM_GL_CALLBACK
from labsim.wire.ost import OstLvb

from .rig import User, World

OBJECT = ost_resource(7)
PAGE = 4096
FIRST, SECOND, WHOLE = Extent(0, PAGE - 1), Extent(PAGE, 2 * PAGE - 1), Extent()


def ost() -> World:
    return World("lustre-OST0000")


def stat(user: User, flags: int = 0) -> Any:
    return user.world.run(
        user.ns.enqueue(OBJECT, LCK_PR, extent=WHOLE, flags=LDLM_FL_HAS_INTENT | flags)
    )


def writer(user: User, extent: Extent, size: int, flags: int = 0) -> Any:
    return user.take(
        OBJECT, LCK_PW, extent=extent, flags=flags,
        glimpse=lambda lock: OstLvb(size=size, mtime=9, blocks=1).pack(),
    )  # fmt: skip


def test_a_lock_on_one_page_covers_the_object_while_nobody_minds() -> None:
    world = ost()
    user = world.user()
    lock = user.take(OBJECT, LCK_PW, extent=FIRST)
    assert lock.policy == WHOLE and lock.wanted == FIRST
    assert lvb.read(lock.lvb) == OstLvb(size=100, mtime=5, blocks=8)
    assert user.ns.match(OBJECT, LCK_PR, extent=SECOND) is lock
    assert world.granted() == [("c0", "PW", "[0-EOF]")]


def test_two_writers_divide_the_object() -> None:
    world = ost()
    one, two = world.user(), world.user()
    one.ns.put(one.take(OBJECT, LCK_PW, extent=FIRST))
    lower = two.take(OBJECT, LCK_PW, extent=SECOND)
    assert lower.policy == WHOLE  # the first had to go, for it covered everything
    back = world.start(one.lock(OBJECT, LCK_PW, extent=FIRST))
    two.ns.put(lower)
    world.wait(1)
    assert back.value.state is LockState.GRANTED


def test_the_completion_callback_brings_extent_and_value_block() -> None:
    world = ost()
    one, two = world.user(), world.user()
    lock = one.take(OBJECT, LCK_PW, extent=FIRST)
    waiting = world.start(two.lock(OBJECT, LCK_PW, extent=SECOND))
    world.wait(1)
    world.target.block = OstLvb(size=PAGE)
    one.ns.put(lock)
    world.wait(1)
    assert waiting.value.policy == WHOLE
    assert lvb.read(waiting.value.lvb).size == PAGE


def test_stat_takes_the_lock_where_nobody_writes() -> None:
    world = ost()
    user = world.user()
    lock, reply = stat(user)
    assert lock.policy == WHOLE and reply.status == 0
    assert world.sent(LDLM_GL_CALLBACK) == 0


def test_stat_asks_the_writer_and_leaves_it_its_lock() -> None:
    world = ost()
    one, two = world.user(), world.user()
    held = writer(one, FIRST, size=5000)
    lock, reply = stat(two)
    assert lock is None and reply.status == ELDLM_LOCK_ABORTED
    seen = lvb.read(reply["dlm_lvb"])
    assert (seen.size, seen.mtime, seen.blocks) == (5000, 9, 8)
    assert held.state is LockState.GRANTED and not held.cancel_pending
    assert (world.sent(LDLM_GL_CALLBACK), world.sent(LDLM_BL_CALLBACK)) == (1, 0)
    assert world.target.ldlm.lock_count == 1


def test_a_writer_that_has_nothing_to_say_leaves_what_the_disk_says() -> None:
    world = ost()
    one, two = world.user(), world.user()
    one.take(OBJECT, LCK_PW, extent=FIRST)
    _, reply = stat(two)
    assert lvb.read(reply["dlm_lvb"]).size == 100


def test_only_who_may_write_beyond_the_known_size_is_asked() -> None:
    world = ost()
    one, two, three = world.user(), world.user(), world.user()
    world.target.block = OstLvb(size=3 * PAGE)
    writer(one, FIRST, size=9, flags=LDLM_FL_NO_EXPANSION)
    writer(two, SECOND, size=9, flags=LDLM_FL_NO_EXPANSION)
    _, reply = stat(three)
    assert world.sent(LDLM_GL_CALLBACK) == 0
    world.target.block = OstLvb(size=10)
    _, reply = stat(three)
    assert world.sent(LDLM_GL_CALLBACK) == 2
    assert lvb.read(reply["dlm_lvb"]).size == 10


def test_a_glimpse_that_must_not_wait_does_not_ask() -> None:
    world = ost()
    one, two = world.user(), world.user()
    writer(one, FIRST, size=5000)
    lock, _ = stat(two, LDLM_FL_BLOCK_NOWAIT)
    assert lock is None and world.sent(LDLM_GL_CALLBACK) == 0
    with pytest.raises(LustreError, match="EAGAIN"):
        two.take(OBJECT, LCK_PR, extent=WHOLE, flags=LDLM_FL_SPECULATIVE)


def test_a_size_that_is_asked_ahead_may_be_late_or_refused() -> None:
    world = ost()
    user = world.user()
    faults = world.server.host.faults
    faults.set_fail_loc(points.LDLM_AGL_NOLOCK.number)
    assert stat(user, LDLM_FL_BLOCK_NOWAIT)[0] is None and world.target.ldlm.lock_count == 0
    assert stat(user)[0] is not None
    faults.set_fail_loc(FAIL_ONCE | points.LDLM_AGL_DELAY.number)
    before = world.env.now
    assert stat(user, LDLM_FL_BLOCK_NOWAIT)[0] is not None
    assert world.env.now > before


def test_a_write_lock_idle_for_long_goes_when_somebody_looks() -> None:
    world = ost()
    one, two = world.user(), world.user()
    held = writer(one, FIRST, size=5000)
    one.ns.put(held)
    stat(two)
    world.wait(1)
    assert held.state is LockState.GRANTED
    world.wait(11)
    stat(two)
    world.wait(1)
    assert held.state is LockState.GONE


def test_a_writer_that_does_not_answer_a_glimpse_is_evicted() -> None:
    world = ost()
    one, two = world.user(), world.user()
    writer(one, FIRST, size=5000)
    one.rpc.lnet.rules.install(partition("cut", (one.rpc.lnet.nid,), ()))
    _, reply = stat(two)
    assert lvb.read(reply["dlm_lvb"]).size == 100
    assert world.evictions() == ["glimpse callback was not answered"]


def test_writers_are_asked_side_by_side() -> None:
    world = ost()
    users = [world.user() for _ in range(5)]
    for number, user in enumerate(users[:4]):
        extent = Extent(number * PAGE, (number + 1) * PAGE - 1)
        writer(user, extent, size=number * PAGE + 9, flags=LDLM_FL_NO_EXPANSION)
    world.target.block = OstLvb(size=1)
    before = len(world.trace.events)
    _, reply = stat(users[4])
    sent = [
        event.time_ns for event in world.trace.events[before:]
        if event.kind == "rpc.send" and event.fields[0] == LDLM_GL_CALLBACK
    ]  # fmt: skip
    assert len(sent) == 4 and len(set(sent)) == 1
    assert lvb.read(reply["dlm_lvb"]).size == 3 * PAGE + 9


def test_a_writer_that_knows_no_such_lock_has_lost_it() -> None:
    world = ost()
    one, two = world.user(), world.user()
    one.ns.drop(writer(one, FIRST, size=5000))
    stat(two)
    assert world.target.ldlm.lock_count == 0 and world.evictions() == []


def test_an_old_client_gets_the_short_value_block() -> None:
    world = ost()
    user = world.user(flags=OBD_CONNECT_VERSION)
    lock = user.take(OBJECT, LCK_PR, extent=FIRST)
    assert len(lock.lvb) == 40 and lvb.read(lock.lvb).size == 100


def test_an_object_without_value_block_refuses_the_lock() -> None:
    world = ost()
    user = world.user()

    def gone(resource: Any) -> bytes:
        raise LustreError(2, "no object")

    world.target.lvb = gone  # type: ignore[method-assign]
    with pytest.raises(LustreError, match="ENOENT"):
        user.take(OBJECT, LCK_PR, extent=FIRST)
    assert world.target.ldlm.lock_count == 0 and user.ns.lock_count == 0


def test_io_under_a_lock_that_was_called_back_keeps_the_client_alive() -> None:
    world = ost()
    one, two = world.user(), world.user()
    lock = one.take(OBJECT, LCK_PW, extent=FIRST)
    waiting = world.start(two.lock(OBJECT, LCK_PW, extent=FIRST))
    export = next(iter(world.target.exports))
    for _ in range(4):
        world.wait(30)
        world.target.ldlm.prolong(export, OBJECT, FIRST)
    assert world.evictions() == [] and not waiting.triggered
    one.ns.put(lock)
    world.wait(1)
    assert waiting.triggered


def reconnects(user: User) -> int:
    """How often a client gave its connection up."""
    return sum(
        event.kind == "import.lost" and event.fields[0] == user.imp.name
        for event in user.world.trace.events
    )


@pytest.mark.parametrize(("mode", "gid", "doubts"), [(LCK_PW, 0, 1), (LCK_GROUP, 7, 0)])
def test_who_waits_for_long_connects_anew_once(mode: int, gid: int, doubts: int) -> None:
    """Unless it waits for a group, which may take as long as it likes."""
    world = ost()
    one, two = world.user(), world.user()
    lock = one.take(OBJECT, mode, extent=Extent(gid=gid))
    waiting = world.start(two.lock(OBJECT, LCK_PW, extent=FIRST))
    export = next(iter(world.target.exports))
    for _ in range(8):
        world.wait(40)
        world.target.ldlm.prolong(export, OBJECT, WHOLE)
    assert reconnects(two) == doubts and two.imp.state is State.FULL
    assert not waiting.triggered and world.evictions() == []
    one.ns.put(lock)
    world.wait(1)
    assert waiting.ok and reconnects(one) == 0


def test_time_is_not_up_while_the_server_is_at_work_under_the_lock() -> None:
    world = ost()
    one, two = world.user(), world.user()
    one.take(OBJECT, LCK_PW, extent=FIRST)
    waiting = world.start(two.lock(OBJECT, LCK_PW, extent=FIRST))
    export = next(iter(world.target.exports))
    export.running = {1: object()}
    world.target.touches = lambda req: (OBJECT, SECOND)  # type: ignore[method-assign]
    world.wait(300)
    assert world.evictions() == [] and not waiting.triggered
    export.running = {}
    world.wait(50)
    assert waiting.triggered and world.target.ldlm.lock_timeouts == 1


def test_value_blocks_only_grow() -> None:
    known = OstLvb(size=10, mtime=5, mtime_ns=7, blocks=3)
    assert lvb.newer(known, OstLvb(size=4, mtime=5, mtime_ns=9, atime=1)) == OstLvb(
        size=10, mtime=5, mtime_ns=9, atime=1, blocks=3
    )

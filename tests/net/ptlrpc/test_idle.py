"""Imports that nobody needs, tags of modifying requests, and the fault points of ptlrpc."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.faults import FAIL_ONCE, Armed, Point
from labsim.base.payload import tobytes
from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc import Request, State, Tags, points
from labsim.wire.opcodes import OST_READ, OST_SETATTR, OST_STATFS, OST_WRITE
from labsim.wire.ost import NiobufRemote, ObdIoobj, Obdo, OstBody

from .journal import JournalWorld
from .rig import World, kinds

IDLE_NS = 20 * NS_PER_S


@pytest.fixture
def world() -> JournalWorld:
    made = JournalWorld()
    made.imp.idle_timeout_ns = IDLE_NS
    made.came_through()
    return made


def poke(world: World) -> None:
    world.run(world.imp.call(Request(OST_STATFS)))


# ---- idle imports


def test_an_import_that_nobody_needs_disconnects_and_comes_back(world: JournalWorld) -> None:
    told: list[int] = []
    world.imp.on_idle = lambda: told.append(world.env.now)
    poke(world)
    world.env.run(30 * NS_PER_S)
    assert world.came_through() == ["CONNECTING", "IDLE"]
    assert (len(world.toy.exports), len(told)) == (0, 1)
    poke(world)
    assert world.came_through() == ["CONNECTING", "FULL"]
    assert world.imp.generation == 0, "it was not evicted"


def test_what_is_held_keeps_an_import_from_idling(world: JournalWorld) -> None:
    world.imp.locks = ["a lock"]
    world.env.run(99 * NS_PER_S)
    assert world.imp.state is State.FULL
    world.imp.locks = []
    world.env.run(130 * NS_PER_S)
    assert world.imp.state is State.IDLE
    world.change(1)
    world.env.run(300 * NS_PER_S)
    assert world.imp.state is State.FULL, "the change is not committed"
    world.toy.commit()
    world.env.run(400 * NS_PER_S)
    assert world.imp.state is State.IDLE


def test_a_request_in_the_middle_of_going_idle_connects_again(world: JournalWorld) -> None:
    world.client.faults.arm(Armed(points.PTLRPC_DROP_RPC.number, FAIL_ONCE))
    world.env.run(26 * NS_PER_S)
    assert world.imp.state is State.CONNECTING, "its goodbye was lost"
    poke(world)
    assert world.imp.state is State.FULL


def test_even_one_without_patience_waits_for_the_connection_it_wakes(world: JournalWorld) -> None:
    world.env.run(30 * NS_PER_S)
    assert world.imp.state is State.IDLE
    world.run(world.imp.call(Request(OST_STATFS, no_delay=True)))
    assert world.imp.state is State.FULL


def test_an_idle_client_leaves_without_a_word(world: JournalWorld) -> None:
    world.env.run(30 * NS_PER_S)
    sent = kinds(world, "rpc.send")
    world.run(world.imp.disconnect())
    assert (world.imp.state, kinds(world, "rpc.send")) == (State.CLOSED, sent)


def test_an_import_that_is_switched_off_and_on_starts_from_nothing(world: JournalWorld) -> None:
    told: list[str] = []
    world.imp.on_evicted += (lambda: told.append("dropped"),)
    world.change(1)
    world.imp.deactivate()
    with pytest.raises(LustreError, match="not connected"):
        poke(world)
    assert (told, world.imp.replay_list) == (["dropped"], [])
    world.imp.activate()
    poke(world)
    assert world.came_through() == ["DISCON", "CONNECTING", "EVICTED", "RECOVER", "FULL"]
    assert not world.imp.invalid


# ---- tags


def test_tags_are_the_lowest_that_are_free_and_a_close_has_one_more() -> None:
    world = World()
    tags = Tags(world.env, 2)
    order: list[tuple[str, int]] = []

    def user(name: str, seconds: int, close: bool = False) -> Any:
        tag = yield from tags.take(close)
        order.append((name, tag))
        yield world.env.timeout(seconds * NS_PER_S)
        tags.give(tag, close)

    for name, seconds, close in [
        ("a", 5, False), ("b", 2, False), ("c", 1, False), ("close", 9, True), ("close2", 1, True),
    ]:  # fmt: skip
        world.env.process(user(name, seconds, close))
    world.env.run(NS_PER_S)
    assert order == [("a", 1), ("b", 2), ("close", 3)]
    world.env.run(4 * NS_PER_S)
    assert order[3:] == []
    tags.resize(3)
    world.env.run(20 * NS_PER_S)
    assert order[3:] == [("c", 2), ("close2", 1)]
    assert tags.taken == 0


# ---- fault points


def brw(opcode: int, data: bytes) -> Request:
    bulk: dict[str, Any] = {"bulk_out": data} if opcode == OST_WRITE else {"bulk_in": len(data)}
    return Request(
        opcode,
        ost_body=OstBody(oa=Obdo()),
        obd_ioobj=[ObdIoobj(bufcnt=1)],
        niobuf_remote=[NiobufRemote(len=len(data))],
        **bulk,
    )


@pytest.mark.parametrize(
    ("point", "server"),
    [
        (points.PTLRPC_DROP_RPC, False),
        (points.PTLRPC_DELAY_SEND, False),
        (points.PTLRPC_BULK_GET_NET, False),
        (points.PTLRPC_BULK_PUT_NET, True),
        (points.PTLRPC_DROP_BULK, True),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
def test_a_bulk_that_is_lost_once_is_done_again(point: Point, server: bool) -> None:
    world = World()
    world.run(world.imp.connect())
    (world.server if server else world.client).faults.arm(Armed(point.number, FAIL_ONCE))
    world.run(world.imp.call(brw(OST_WRITE, b"x" * 5000)))
    assert tobytes(world.toy.kept) == b"x" * 5000
    assert kinds(world, "rpc.timeout") == 1
    assert world.imp.timeouts == 1


def test_a_bulk_that_the_network_failed_is_an_error() -> None:
    world = World()
    world.run(world.imp.connect())
    world.client.faults.arm(Armed(points.PTLRPC_CLIENT_BULK_CB.number, FAIL_ONCE))
    with pytest.raises(LustreError) as failed:
        world.run(world.imp.call(brw(OST_READ, b"")))
    assert failed.value.name == "EIO"


def test_requests_of_one_opcode_are_dropped(world: JournalWorld) -> None:
    world.server.faults.arm(Armed(points.PTLRPC_DROP_REQ_OPC.number, FAIL_ONCE, val=OST_SETATTR))
    poke(world)
    assert kinds(world, "rpc.timeout") == 0
    world.change(1)
    assert kinds(world, "rpc.timeout") == 1
    assert world.toy.done == {1: 1}


@pytest.mark.parametrize("point", points.UNLINKS, ids=lambda one: one.name)
def test_a_slow_network_holds_a_request_up(world: JournalWorld, point: Point) -> None:
    world.client.faults.arm(Armed(point.number, FAIL_ONCE, val=OST_STATFS))
    poke(world)
    assert world.env.now >= points.LONG_UNLINK_NS


@pytest.mark.parametrize("server", [True, False])
def test_pauses(world: JournalWorld, server: bool) -> None:
    point = points.PTLRPC_PAUSE_REQ if server else points.PTLRPC_PAUSE_REP
    (world.server if server else world.client).faults.arm(Armed(point.number, FAIL_ONCE, val=3))
    started_ns = world.env.now
    poke(world)
    assert 3 * NS_PER_S <= world.env.now - started_ns < 4 * NS_PER_S

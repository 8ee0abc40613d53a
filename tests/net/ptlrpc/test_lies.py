"""What a service answers to a request that does not fit, one kind of lie at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labsim.base.ids import Nid
from labsim.net.lnet import Lnet, Packet
from labsim.net.ptlrpc import Request
from labsim.wire.message import Message
from labsim.wire.opcodes import OST_GETATTR, OST_STATFS

from .rig import CLIENT, SERVER, World, kinds


@pytest.fixture
def world() -> World:
    made = World()
    made.run(made.imp.connect())
    made.run(made.imp.call(Request(OST_STATFS)))
    return made


def lie(
    world: World,
    change: Callable[[Message], None] = lambda message: None,
    raw: Callable[[bytearray], None] | None = None,
    xid: int | None = None,
    source: Nid = CLIENT,
    portal: int = 7,
) -> list[Any]:
    """Send a changed OST_STATFS; the replies to it."""
    request = Request(OST_STATFS)
    world.imp.conn_cnt += 0
    match = world.client.next_xid() if xid is None else xid
    body = world.imp._body(request, 10**10)
    body.last_xid = match - 1 if xid is None else body.last_xid
    message = Message(request.format, {}, body)
    change(message)
    payload: Any = message
    if raw is not None:
        data = bytearray(message.encode())
        raw(data)
        payload = bytes(data)
    lnet = world.client.lnet
    if source != CLIENT:
        lnet = Lnet(source)
        world.fabric.attach(lnet)
    answers: list[Any] = []
    lnet.post(4, match, answers.append)
    length = len(payload) if raw else message.wire_size
    assert lnet.lnd is not None
    lnet.lnd.send(Packet(1, source, SERVER, portal, match, 0, payload, length))
    world.env.run(world.env.now + 10**9)
    return [answer.payload for answer in answers]


def status(world: World, **given: Any) -> list[int]:
    return [answer.status for answer in lie(world, **given)]


def body(**values: int) -> Callable[[Message], None]:
    def change(message: Message) -> None:
        message.body = message.body.replace(**values)

    return change


def at(offset: int, value: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[offset : offset + 4] = value.to_bytes(4, "little")

    return change


def test_the_truth_is_answered(world: World) -> None:
    assert status(world) == [0]


@pytest.mark.parametrize(
    ("what", "offset", "value"),
    [("bufcount", 0, 0), ("bufcount", 0, 40), ("secflvr", 4, 7), ("magic", 8, 0x0BD00BD0),
     ("swabbed", 8, 0xD30BD00B), ("length", 32, 1 << 31), ("length", 32, 8), ("type", 48, 4713)],
)  # fmt: skip
def test_what_is_no_message_gets_no_answer(
    world: World, what: str, offset: int, value: int
) -> None:
    assert status(world, raw=at(offset, value)) == []
    assert world.server.refused == 1
    assert status(world) == [0]


def test_a_wrong_class_of_version_is_invalid(world: World) -> None:
    assert status(world, change=body(version=0x00050003)) == [-22]


@pytest.mark.parametrize("handle", [0, 1, (1 << 64) - 1])
def test_an_unknown_handle_is_not_connected(world: World, handle: int) -> None:
    assert status(world, change=body(handle=handle)) == [-107]


def test_another_node_does_not_get_in_with_a_stolen_handle(world: World) -> None:
    assert status(world, source=Nid.parse("10.0.1.66@tcp")) == [-107]
    assert world.toy.count == 1


def test_an_old_connection_gets_no_answer(world: World) -> None:
    assert status(world, change=body(conn_cnt=0)) == []
    assert kinds(world, "rpc.stale") == 1


def test_an_xid_that_was_replied_to_is_a_breach(world: World) -> None:
    assert status(world) == [0]
    assert status(world, xid=16) == [-71]
    assert status(world, xid=0) == [-71]
    assert status(world, change=body(last_xid=1 << 63)) == [-71]
    assert status(world) == [0]  # the false last_xid was not believed


def test_a_second_reply_to_one_request_finds_nobody(world: World) -> None:
    lnet = world.client.lnet
    arrived, take = [], lnet.receive

    def receive(packet: Any) -> None:
        arrived.append(packet)
        take(packet)

    port = next(port for port in world.fabric._ports.values() if port.nid == CLIENT)
    port.receive = receive
    world.run(world.imp.call(Request(OST_STATFS)))
    dropped = lnet.counters.drop_count
    for _ in range(2):
        take(arrived[-1])
    assert lnet.counters.drop_count == dropped + 2
    assert world.run(world.imp.call(Request(OST_STATFS))).status == 0


def test_an_opcode_that_this_target_does_not_know(world: World) -> None:
    assert status(world, change=body(opc=OST_GETATTR)) == [-524]


def test_a_connect_to_nobody(world: World) -> None:
    assert world.toy.count == 1
    assert len(world.toy.exports) == 1
    assert lie(world, portal=33) == []

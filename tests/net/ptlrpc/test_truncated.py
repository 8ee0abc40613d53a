"""Replies longer than the buffer that was posted for them (rq_reply_truncated)."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.net.ptlrpc import Request, State, handles
from labsim.wire.constants import (
    MDC_REPLY_PORTAL,
    MSG_RESENT,
    OBD_CONNECT_AT,
    OBD_CONNECT_VERSION,
    OST_REQUEST_PORTAL,
)
from labsim.wire.mdt import MdtBody
from labsim.wire.opcodes import MDS_GETXATTR

from .rig import CLIENT, Toy, World, kinds


class Wordy(Toy):
    """Says more than it was asked for."""

    def __init__(self, rpc: Any, says: int) -> None:
        super().__init__(rpc)
        self.says = says
        self.heard: list[tuple[int, int]] = []

    @handles(MDS_GETXATTR)
    def getxattr(self, req: Any) -> Any:
        self.heard.append((req.xid, req.body.flags))
        return req.reply(mdt_body=MdtBody(eadatasize=self.says), eadata=b"x" * self.says)


def wordy(says: int, flags: int = OBD_CONNECT_VERSION) -> World:
    world = World(flags)
    world.toy = Wordy(world.server, says)
    world.run(world.imp.connect())
    return world


def ask(world: World, room: int, **how: Any) -> Any:
    request = Request(
        MDS_GETXATTR, portal=OST_REQUEST_PORTAL, mdt_body=MdtBody(eadatasize=room), name="user.a",
        **how,
    )  # fmt: skip
    return world.run(world.imp.call(request))


@pytest.mark.parametrize("flags", [OBD_CONNECT_VERSION, OBD_CONNECT_VERSION | OBD_CONNECT_AT])
def test_a_reply_that_does_not_fit_is_asked_for_again(flags: int) -> None:
    world = wordy(3000, flags)
    assert len(ask(world, 100)["eadata"]) == 3000
    (first, unflagged), (second, flagged) = world.toy.heard
    assert (first, unflagged, flagged) == (second, 0, MSG_RESENT)
    assert kinds(world, "rpc.truncated") == 1
    assert world.imp.conn_cnt == 1


def test_the_rounded_buffer_has_room_for_a_little_more() -> None:
    world = wordy(250)
    assert len(ask(world, 100)["eadata"]) == 250
    assert len(world.toy.heard) == 1


def test_what_must_not_be_resent_fails() -> None:
    world = wordy(3000)
    with pytest.raises(LustreError) as failed:
        ask(world, 100, no_resend=True)
    assert failed.value.name == "EOVERFLOW"
    assert len(world.toy.heard) == 1


def test_a_reply_that_grows_is_asked_for_until_it_fits() -> None:
    world = wordy(3000)

    def grow(packet: Any) -> None:
        if world.toy.heard and len(world.toy.heard) < 3:
            world.toy.says = 3000 * (1 + len(world.toy.heard))

    world.server.lnet.taps.append(grow)
    assert len(ask(world, 100)["eadata"]) == 9000
    assert [flags for _, flags in world.toy.heard] == [0] + 3 * [MSG_RESENT]


def test_without_a_connection_it_waits_for_the_next() -> None:
    world = wordy(3000)
    answer = world.client.lnet.receive

    def receive(packet: Any) -> None:
        if packet.portal == MDC_REPLY_PORTAL and packet.length > 3000 and len(world.toy.heard) == 1:
            world.imp.lost("test")
        answer(packet)

    next(port for port in world.fabric._ports.values() if port.nid == CLIENT).receive = receive
    assert len(ask(world, 100)["eadata"]) == 3000
    assert len(world.toy.heard) == 2
    assert world.imp.conn_cnt == 2
    assert world.imp.state is State.FULL

"""Imports and exports over the simulated network: connect, resend, duplicates, eviction, bulk."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.payload import Fill, tobytes
from labsim.base.units import MIB, NS_PER_S
from labsim.net.ptlrpc import Request, State
from labsim.wire.constants import OBD_CONNECT_FID, OBD_CONNECT_VERSION, OSC_REPLY_PORTAL
from labsim.wire.opcodes import OST_GETATTR, OST_READ, OST_STATFS, OST_SYNC, OST_WRITE
from labsim.wire.ost import NiobufRemote, ObdIoobj, Obdo, OstBody

from .rig import CLIENT, SERVER, World, kinds


@pytest.fixture
def world() -> World:
    made = World()
    made.run(made.imp.connect())
    return made


def test_connect_negotiates_and_disconnect_forgets(world: World) -> None:
    assert world.imp.state is State.FULL
    assert world.imp.granted(OBD_CONNECT_VERSION)
    assert not world.imp.granted(OBD_CONNECT_FID)
    assert len(world.toy.exports) == 1
    world.run(world.imp.disconnect())
    assert world.imp.state is State.CLOSED
    assert len(world.toy.exports) == 0


def test_xids_are_multiples_of_sixteen_and_committed_travels(world: World) -> None:
    world.run(world.imp.call(Request(OST_STATFS)))
    sent = [event.fields[1] for event in world.trace.events if event.kind == "rpc.send"]
    assert sent == sorted(sent)
    assert all(xid % 16 == 0 and xid >> 20 >= 1_500_000_000 for xid in sent)
    assert world.imp.committed == 7


def test_an_error_travels_as_status(world: World) -> None:
    body = OstBody(oa=Obdo())
    with pytest.raises(LustreError) as failed:
        world.run(world.imp.call(Request(OST_SYNC, ost_body=body)))
    assert failed.value.name == "ENOSPC"
    with pytest.raises(LustreError) as failed:
        world.run(world.imp.call(Request(OST_GETATTR, ost_body=body)))
    assert failed.value.name == "ENOTSUPP"


def test_a_lost_request_is_sent_again_after_a_reconnect(world: World) -> None:
    world.drop(1, 7, SERVER)
    reply = world.run(world.imp.call(Request(OST_STATFS)))
    assert reply["obd_statfs"].blocks == 1
    assert world.toy.count == 1
    assert kinds(world, "rpc.timeout") == 1
    assert world.imp.conn_cnt == 2
    assert 100 * NS_PER_S <= world.env.now < 101 * NS_PER_S


def test_what_changes_nothing_is_done_again_when_its_reply_was_lost(world: World) -> None:
    world.drop(1, OSC_REPLY_PORTAL, CLIENT)
    reply = world.run(world.imp.call(Request(OST_STATFS)))
    assert reply["obd_statfs"].blocks == 2
    assert world.toy.count == 2


def test_a_copy_of_what_is_running_is_dropped(world: World) -> None:
    world.toy.sleep_s = 150
    reply = world.run(world.imp.call(Request(OST_STATFS)))
    assert reply["obd_statfs"].blocks == 1
    assert world.toy.count == 1
    assert kinds(world, "rpc.duplicate") == 1


def test_what_must_not_be_resent_times_out(world: World) -> None:
    world.drop(1, 7, SERVER)
    with pytest.raises(LustreError) as failed:
        world.run(world.imp.call(Request(OST_STATFS, no_resend=True)))
    assert failed.value.name == "ETIMEDOUT"


def test_an_evicted_client_gets_eio_and_comes_back(world: World) -> None:
    lost = []
    world.imp.on_evicted += (lambda: lost.append(world.env.now),)
    next(iter(world.toy.exports)).evict("test")
    with pytest.raises(LustreError) as failed:
        world.run(world.imp.call(Request(OST_STATFS)))
    assert failed.value.name == "EIO"
    assert len(lost) == 1
    assert world.imp.state is State.FULL
    assert world.run(world.imp.call(Request(OST_STATFS)))["obd_statfs"].blocks == 1


def test_pings_keep_an_idle_client_and_silence_loses_one(world: World) -> None:
    world.env.run(1000 * NS_PER_S)
    assert len(world.toy.exports) == 1
    world.client.lnet.close()
    world.env.run(1400 * NS_PER_S)
    assert len(world.toy.exports) == 0


@pytest.mark.parametrize("data", [b"x" * 5000, Fill(4 * MIB, 3), b""])
def test_bulk_both_ways(world: World, data: Any) -> None:
    def brw(opcode: int, **bulk: Any) -> Request:
        return Request(
            opcode,
            ost_body=OstBody(oa=Obdo()),
            obd_ioobj=[ObdIoobj(bufcnt=1)],
            niobuf_remote=[NiobufRemote(len=len(data))],
            **bulk,
        )

    world.run(world.imp.call(brw(OST_WRITE, bulk_out=data)))
    assert tobytes(world.toy.kept) == tobytes(data)
    read = brw(OST_READ, bulk_in=4 * MIB)
    reply = world.run(world.imp.call(read))
    assert reply.status == len(data)
    assert tobytes(read.data) == tobytes(data)
    assert not world.client.lnet._posted
    assert not world.client.lnet._exposed


def test_a_failed_bulk_gets_no_reply_so_the_write_comes_again(world: World) -> None:
    data = b"y" * 100
    request = Request(
        OST_WRITE,
        bulk_out=data,
        ost_body=OstBody(oa=Obdo()),
        obd_ioobj=[ObdIoobj(bufcnt=1)],
        niobuf_remote=[NiobufRemote(len=100)],
    )
    real = world.client.lnet.receive
    port = next(p for p in world.fabric._ports.values() if p.nid == CLIENT)
    lost = []

    def receive(packet: Any) -> None:
        if packet.kind == 2 and not lost:
            lost.append(packet)
            return
        real(packet)

    port.receive = receive
    world.run(world.imp.call(request))
    assert lost
    assert world.toy.count == 2
    assert tobytes(world.toy.kept) == data

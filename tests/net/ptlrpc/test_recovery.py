"""The recovery window of a target, with clients that speak bare protocol."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from labsim.base.faults import Faults
from labsim.base.ids import Nid
from labsim.base.trace import Trace
from labsim.base.units import NS_PER_S
from labsim.net.lnd_sim import Fabric
from labsim.net.lnet import Lnet
from labsim.net.ptlrpc import Exports, Handlers, PtlRpc, Recovery, Service, handles
from labsim.nodes import recovery_files
from labsim.runtime.ports import Clock, Host
from labsim.runtime.sim import environment
from labsim.wire.constants import (
    MSG_CONNECT_INITIAL,
    MSG_CONNECT_RECONNECT,
    MSG_CONNECT_RECOVERING,
    MSG_CONNECT_TRANSNO,
    MSG_LOCK_REPLAY_DONE,
    MSG_REPLAY,
    MSG_REQ_REPLAY_DONE,
    MSG_RESENT,
    MSGHDR_AT_SUPPORT,
    OBD_CONNECT_AT,
    OBD_CONNECT_LIGHTWEIGHT,
    OBD_CONNECT_MDS_MDS,
    OBD_CONNECT_VERSION,
    OSC_REPLY_PORTAL,
    OST_REQUEST_PORTAL,
    PTL_RPC_MSG_REQUEST,
)
from labsim.wire.formats import format_of
from labsim.wire.lustre_msg import ObdConnectData, PtlrpcBody
from labsim.wire.message import Message
from labsim.wire.opcodes import (
    OBD_PING,
    OST_CONNECT,
    OST_DISCONNECT,
    OST_PUNCH,
    OST_STATFS,
    pb_version,
)
from labsim.wire.ost import Obdo, ObdStatfs, OstBody

SERVER = Nid.parse("10.0.0.2@tcp")
DONE = MSG_REQ_REPLAY_DONE | MSG_LOCK_REPLAY_DONE
EBUSY, EAGAIN, EALREADY, ENOTCONN, ENODEV = 16, 11, 114, 107, 19
ADAPTIVE = OBD_CONNECT_VERSION | OBD_CONNECT_AT


class Toy(Handlers):
    """A target that notes the order in which punches are done."""

    name = "lustre-OST0000"
    last_committed = 100
    recovery_time_soft = 300
    recovery_time_hard = 900

    def __init__(self, rpc: PtlRpc, known: int) -> None:
        self.rpc = rpc
        self.exports = Exports(rpc, self, self.negotiate, replayable=True)
        self.done: list[int] = []
        self.ended: list[int] = []
        rpc.targets["lustre-OST0000_UUID"] = self
        for number in range(known):
            self.exports.remember(f"c{number}")
        self.recovery = Recovery(rpc, self, 101, self.at, self.on_end)
        self.exports.recovery = self.recovery
        rpc.env.process(self.recovery.run())

    def at(self, point: Any) -> Any:
        return
        yield

    def on_end(self) -> Any:
        self.ended.append(self.rpc.env.now // NS_PER_S)
        return
        yield

    def negotiate(self, export: Any, want: ObdConnectData) -> ObdConnectData:
        return want

    @handles(OST_CONNECT)
    def connect(self, req: Any) -> Any:
        return self.exports.connect(req)

    @handles(OST_DISCONNECT)
    def disconnect(self, req: Any) -> Any:
        self.exports.remove(req.export)
        return req.reply()

    @handles(OBD_PING)
    def ping(self, req: Any) -> Any:
        return req.reply()

    @handles(OST_PUNCH)
    def punch(self, req: Any) -> Any:
        self.done.append(req.body.transno)
        req.transno = req.body.transno
        return req.reply(ost_body=req["ost_body"])

    @handles(OST_STATFS)
    def statfs(self, req: Any) -> Any:
        return req.reply(obd_statfs=ObdStatfs())


class Peer:
    """One client: it connects and sends what it is told to."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.uuid = f"c{number}"
        self.lnet = Lnet(Nid.parse(f"10.0.1.{number + 1}@tcp"))
        world.fabric.attach(self.lnet)
        self.handle = 0
        self.conn_cnt = 1
        """It was connected once, before the target went down."""
        self.xid = 1 << 40

    def connect(self, transno: int = 0, fresh: bool = False, flags: int = ADAPTIVE) -> Any:
        """The reply to a connect; `transno` is what it wants to replay first."""
        self.conn_cnt += 1
        op_flags = MSG_CONNECT_TRANSNO if transno else 0
        op_flags |= MSG_CONNECT_INITIAL if fresh else 0
        data = ObdConnectData(connect_flags=flags, transno=transno)
        answers = self.send(
            OST_CONNECT, op_flags=op_flags, tgtuuid="lustre-OST0000_UUID", cluuid=self.uuid,
            conn=0, connect_data=data,
        )  # fmt: skip
        reply = answers[-1]
        if reply.status == 0:
            self.handle = reply.body.handle
        return reply

    def send(
        self, opcode: int, transno: int = 0, flags: int = 0, op_flags: int = 0, again: bool = False,
        timeout: int = 100, **fields: Any,
    ) -> list[Any]:  # fmt: skip
        """Send a request; the replies to it, now and later, come into the list."""
        if not again:
            self.xid += 16
        body = PtlrpcBody(
            handle=self.handle, type=PTL_RPC_MSG_REQUEST, version=pb_version(opcode), opc=opcode,
            conn_cnt=self.conn_cnt, transno=transno, flags=flags, op_flags=op_flags,
            timeout=timeout,
        )  # fmt: skip
        lm_flags = 0 if opcode == OST_CONNECT else MSGHDR_AT_SUPPORT
        message = Message(format_of(opcode, fields), fields, body, flags=lm_flags)
        answers: list[Any] = []
        self.lnet.post(OSC_REPLY_PORTAL, self.xid, lambda one: answers.append(one.payload))
        self.lnet.put(SERVER, OST_REQUEST_PORTAL, self.xid, message)
        self.world.run(1)
        return answers

    def replay(self, transno: int, **more: Any) -> list[Any]:
        """Replay a punch."""
        flags = MSG_REPLAY | more.pop("flags", 0)
        return self.send(OST_PUNCH, transno, flags, ost_body=OstBody(oa=Obdo()), **more)

    def locks_done(self) -> list[Any]:
        """The last ping."""
        return self.send(OBD_PING, flags=DONE)


class World:
    """A target that knows some clients, and these."""

    def __init__(self, clients: int = 2, known: int | None = None) -> None:
        self.env = environment()
        self.trace = Trace(lambda: self.env.now)
        self.fabric = Fabric(self.env)
        lnet = Lnet(SERVER)
        self.fabric.attach(lnet)
        clock = Clock(self.env, 1_500_000_000 * NS_PER_S)
        self.rpc = PtlRpc(Host("oss0", self.env, lnet, {}, Random(1), None,
                               Faults(self.env, Random(2)), self.trace.of("oss0"), clock, None))  # type: ignore[arg-type]  # fmt: skip
        self.toy = Toy(self.rpc, clients if known is None else known)
        self.service = Service(self.rpc, "ost", OST_REQUEST_PORTAL, OSC_REPLY_PORTAL)
        self.peers = [Peer(self, number) for number in range(clients)]

    def run(self, seconds: int) -> None:
        """Let time pass."""
        self.env.run(self.env.now + seconds * NS_PER_S)

    def status(self) -> dict[str, str]:
        """The file recovery_status."""
        lines = recovery_files.status(self.toy.recovery, announced=False).splitlines()
        return dict(line.split(": ", 1) for line in lines)


def statuses(answers: list[Any]) -> list[int]:
    """Of the real replies, without early ones."""
    return [one.status for one in answers if one.bufcount > 1 or not one.cksum]


def test_replays_are_done_in_the_order_of_their_transnos() -> None:
    world = World()
    one, two = world.peers
    assert world.status() == {"status": "WAITING_FOR_CLIENTS"}
    assert one.connect(transno=102).body.op_flags & MSG_CONNECT_RECOVERING
    first = one.replay(102)
    assert world.toy.done == []
    assert world.status()["connected_clients"] == "1/2"
    reply = two.connect(transno=101)
    assert not reply.body.op_flags & MSG_CONNECT_RECONNECT
    assert world.toy.done == []
    second = two.replay(101)
    assert world.toy.done == [101, 102]
    assert statuses(first) == statuses(second) == [0]
    assert first[0].body.transno == 102
    held = one.locks_done()
    assert statuses(held) == []
    assert world.status()["completed_clients"] == "1"
    assert statuses(two.locks_done()) == [0]
    assert statuses(held) == [0]
    assert world.status() == {
        "status": "COMPLETE", "recovery_start": "1500000000", "recovery_duration": "5",
        "completed_clients": "2/2", "replayed_requests": "2", "last_transno": "102",
        "VBR": "DISABLED", "IR": "DISABLED",
    }  # fmt: skip


def test_a_gap_is_skipped_when_everybody_waits() -> None:
    world = World()
    one, two = world.peers
    one.connect(transno=105)
    two.connect(transno=109)
    one.replay(105)
    assert world.toy.done == []
    two.replay(109)
    assert world.toy.done == [105]
    assert world.status()["queued_requests"] == "1"
    one.locks_done()
    assert world.toy.done == [105, 109]
    two.locks_done()
    assert world.status()["last_transno"] == "109"


def test_what_is_committed_is_replayed_at_once() -> None:
    world = World()
    one, _ = world.peers
    one.connect()
    assert statuses(one.replay(50)) == [0]
    assert world.toy.done == [50]


def test_a_transno_that_two_claim_is_done_once() -> None:
    world = World()
    one, two = world.peers
    one.connect(transno=103)
    two.connect(transno=103)
    kept, claimed = one.replay(103), two.replay(103)
    assert world.toy.done == []
    assert statuses(kept) == statuses(claimed) == []
    two.send(OBD_PING, flags=MSG_REQ_REPLAY_DONE)
    assert world.toy.done == [103]
    assert statuses(claimed) == []


def test_a_replay_that_comes_again_is_done_once() -> None:
    world = World()
    one, two = world.peers
    one.connect(transno=102)
    one.replay(102)
    answers = one.replay(102, again=True, flags=MSG_RESENT)
    two.connect()
    two.locks_done()
    assert world.toy.done == [102]
    assert statuses(answers) == [0]


def test_who_comes_again_while_recovery_lasts_is_told_both() -> None:
    world = World()
    one, _ = world.peers
    assert one.connect().body.op_flags & 3 == MSG_CONNECT_RECOVERING
    assert one.connect().body.op_flags & 3 == MSG_CONNECT_RECOVERING | MSG_CONNECT_RECONNECT
    assert world.status()["connected_clients"] == "1/2"


def test_a_client_that_stays_away_is_evicted_at_the_end_of_the_window() -> None:
    world = World()
    one, _ = world.peers
    one.connect(transno=102)
    answers = one.replay(102)
    world.run(290)
    assert statuses(answers) == []
    assert world.status()["time_remaining"] == "9"
    world.run(10)
    assert statuses(answers) == [0]
    assert world.status()["evicted_clients"] == "1"
    one.locks_done()
    assert world.status()["completed_clients"] == "1/2"
    assert world.status()["VBR"] == "ENABLED"
    assert [export.client_uuid for export in world.toy.exports] == ["c0"]


def test_a_client_that_falls_silent_while_replaying_is_evicted() -> None:
    world = World()
    one, two = world.peers
    one.connect(transno=101)
    two.connect()
    one.replay(101)
    two.locks_done()
    while not world.toy.ended:
        world.run(10)
    assert [export.client_uuid for export in world.toy.exports] == ["c1"]
    assert 300 <= world.toy.ended[0] <= 900


def test_clients_that_go_on_extend_the_window_up_to_the_hard_limit() -> None:
    world = World()
    one, two = world.peers
    one.connect(transno=101)
    two.connect()
    transno = 101
    while not world.toy.ended and transno < 200:
        one.replay(transno, timeout=400)
        transno += 1
        world.run(90)
    assert 900 <= world.toy.ended[0] <= 1000
    assert len(world.toy.exports) == 0


def test_a_new_client_has_to_wait() -> None:
    world = World(3, known=2)
    world.peers[0].connect()
    assert world.peers[2].connect(fresh=True).status == -EBUSY
    world.peers[0].locks_done()
    world.peers[1].connect()
    world.peers[1].locks_done()
    assert world.peers[2].connect(fresh=True).status == 0


def test_a_new_client_starts_the_window_too() -> None:
    world = World(2, known=1)
    world.run(1000)
    assert world.status() == {"status": "WAITING_FOR_CLIENTS"}
    assert world.peers[1].connect(fresh=True).status == -EBUSY
    assert world.status()["status"] == "RECOVERING"
    world.run(301)
    assert world.status()["completed_clients"] == "0/1"


@pytest.mark.parametrize("flags", [OBD_CONNECT_LIGHTWEIGHT, OBD_CONNECT_MDS_MDS])
def test_some_new_clients_may_come_meanwhile(flags: int) -> None:
    world = World(2, known=1)
    assert world.peers[1].connect(fresh=True, flags=ADAPTIVE | flags).status == 0


def test_what_is_not_permitted_meanwhile_is_to_be_tried_again() -> None:
    world = World()
    one, _ = world.peers
    one.connect()
    assert statuses(one.send(OST_STATFS)) == [-EAGAIN]
    assert statuses(one.send(OBD_PING)) == [0]
    assert statuses(one.send(OST_DISCONNECT)) == [0]
    assert world.status()["evicted_clients"] == "1"


def test_abort_evicts_who_is_not_through() -> None:
    world = World(3)
    one, two, _ = world.peers
    one.connect(transno=103)
    two.connect()
    answers = one.replay(103)
    last = two.locks_done()
    world.toy.recovery.abort()
    world.run(1)
    assert statuses(answers) == [-ENOTCONN]
    assert statuses(last) == [0]
    assert world.status()["completed_clients"] == "1/3"
    assert [export.client_uuid for export in world.toy.exports] == ["c1"]
    assert statuses(one.replay(103)) == [-ENOTCONN]


def test_a_replay_when_nobody_recovers_costs_the_connection() -> None:
    world = World(1)
    one = world.peers[0]
    one.connect()
    one.locks_done()
    assert statuses(one.send(OBD_PING)) == [0]
    assert statuses(one.replay(101)) == [-ENODEV]
    assert statuses(one.send(OBD_PING)) == [-ENOTCONN]
    reply = one.connect()
    assert not reply.body.op_flags & 3


def test_a_transno_from_the_future_without_a_replay_flag_too() -> None:
    world = World(1)
    one = world.peers[0]
    one.connect()
    one.locks_done()
    assert statuses(one.send(OBD_PING, transno=1 << 60)) == [-ENODEV]
    assert len(world.toy.exports) == 0


def test_who_waits_is_asked_for_more_time() -> None:
    world = World()
    one, _ = world.peers
    one.connect(transno=102)
    answers = one.replay(102, timeout=40)
    world.run(250)
    early = [one for one in answers if one.cksum]
    assert 4 <= len(early) <= 12
    assert not statuses(answers)


def test_a_newer_last_ping_takes_the_place_of_the_older() -> None:
    world = World()
    one, two = world.peers
    one.connect()
    older, newer = one.locks_done(), one.locks_done()
    two.connect()
    two.locks_done()
    assert statuses(older) == []
    assert statuses(newer) == [0]


def test_a_target_that_stops_keeps_everybody_for_the_next_start() -> None:
    world = World()
    one, _ = world.peers
    one.connect(transno=102)
    answers = one.replay(102)
    world.toy.recovery.stop()
    world.run(2000)
    assert statuses(answers) == []
    assert not world.toy.ended
    assert len(world.toy.exports) == 2

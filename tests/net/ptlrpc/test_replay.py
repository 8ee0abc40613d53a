"""What an import keeps, lets go and replays, against a server that loses what is not committed."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.faults import FAIL_ONCE, Armed
from labsim.base.payload import Fill
from labsim.base.units import MIB, NS_PER_S
from labsim.net.ptlrpc import Request, State, points
from labsim.wire.constants import (
    MSG_LOCK_REPLAY_DONE,
    MSG_REPLAY,
    MSG_REQ_REPLAY_DONE,
    MSG_RESENT,
)
from labsim.wire.opcodes import LDLM_ENQUEUE, OST_STATFS

from .journal import JournalWorld
from .rig import kinds

RECOVERY = [
    "DISCON", "CONNECTING", "REPLAY", "REPLAY_LOCKS", "REPLAY_WAIT", "RECOVER", "FULL",
]  # fmt: skip


@pytest.fixture
def world() -> JournalWorld:
    made = JournalWorld()
    made.came_through()
    return made


def poke(world: JournalWorld) -> None:
    """Any request; it finds out that the server has restarted."""
    world.run(world.imp.call(Request(OST_STATFS)))


# ---- keeping


def test_a_change_is_kept_until_a_reply_says_that_it_is_committed(world: JournalWorld) -> None:
    told: list[int] = []
    requests = [world.setattr(number) for number in (1, 2, 3)]
    for number, request in enumerate(requests, start=1):
        request.on_commit.append(lambda number=number: told.append(number))
        world.run(world.imp.call(request))
    assert [one.transno for one in world.imp.replay_list] == [1, 2, 3]
    world.toy.commit(2)
    poke(world)
    assert (told, world.imp.committed) == ([1, 2], 2)
    assert world.imp.replay_list == requests[2:]


def test_what_changed_nothing_is_committed_at_once(world: JournalWorld) -> None:
    told: list[str] = []
    request = Request(OST_STATFS)
    request.on_commit.append(lambda: told.append("now"))
    world.run(world.imp.call(request))
    assert told == ["now"]
    assert world.imp.replay_list == []


def test_a_ping_comes_soon_while_something_is_uncommitted(world: JournalWorld) -> None:
    """PING_INTERVAL_SHORT after the last reply; later ones at the usual pace."""
    world.change(1)
    at_ns = world.env.now
    world.env.run(at_ns + 6 * NS_PER_S)
    assert ("ping", 0, 0) not in world.toy.seen
    world.toy.commit()
    world.env.run(at_ns + 8 * NS_PER_S)
    assert world.toy.seen.count(("ping", 0, 0)) == 1
    assert world.imp.replay_list == []
    world.env.run(at_ns + 31 * NS_PER_S)
    assert world.toy.seen.count(("ping", 0, 0)) == 1
    world.env.run(at_ns + 33 * NS_PER_S)
    assert world.toy.seen.count(("ping", 0, 0)) == 2


def test_data_is_counted_while_it_is_kept(world: JournalWorld) -> None:
    world.run(world.imp.call(world.write(Fill(MIB, 7))))
    world.run(world.imp.call(world.write(b"x" * 5000)))
    assert world.imp.uncommitted_bytes == MIB + 5000
    world.toy.commit(1)
    poke(world)
    assert world.imp.uncommitted_bytes == 5000


def test_an_open_is_kept_when_it_is_committed_and_until_it_is_forgotten(
    world: JournalWorld,
) -> None:
    opened = world.setattr(1)
    opened.keep = True
    world.run(world.imp.call(opened))
    world.change(2)
    world.toy.commit()
    poke(world)
    assert world.imp.replay_list == [opened]
    assert world.imp.first_transno == 1
    world.imp.forget(opened)
    assert world.imp.replay_list == []
    plain = world.setattr(3)
    plain.keep = True
    world.run(world.imp.call(plain))
    world.imp.forget(plain, unneeded=True)
    assert world.imp.replay_list == [], "it made nothing that could be lost"


# ---- replaying


def test_what_the_server_lost_is_played_again_in_order(world: JournalWorld) -> None:
    world.change(1, 2)
    world.toy.commit()
    world.run(world.imp.call(world.write(b"data" * 2000)))
    requests = world.change(4)
    world.toy.restart()
    assert sorted(world.toy.done) == [1, 2]
    world.toy.seen.clear()
    poke(world)
    assert world.came_through() == RECOVERY
    assert bytes(world.toy.done[3]) == b"data" * 2000
    assert (world.toy.done[4], world.toy.last_transno) == (4, 4)
    assert [(what, n) for what, n, _ in world.toy.seen] == [
        ("write", 3), ("setattr", 4), ("ping", 0), ("statfs", 0),
    ]  # fmt: skip
    assert world.toy.seen[2][2] == MSG_LOCK_REPLAY_DONE | MSG_REQ_REPLAY_DONE
    assert world.toy.seen[3][2] == MSG_RESENT
    assert world.toy.versions == [(2, 0, 0, 0), (3, 0, 0, 0)]
    assert world.toy.asked[-1] == 3, "the connect says where the replay will begin"
    assert world.imp.replay_list[-1] is requests[0], "still not committed"
    world.toy.commit()
    poke(world)
    assert world.imp.replay_list == []


def test_committed_opens_come_first(world: JournalWorld) -> None:
    opened = world.setattr(1)
    opened.keep = True
    told: list[int] = []
    opened.on_replay = lambda reply: told.append(reply.body.transno)
    world.run(world.imp.call(opened))
    world.toy.commit()
    world.change(2)
    world.toy.restart()
    poke(world)
    assert world.seen() == [("setattr", 1), ("setattr", 2)]
    assert told == [1]


def test_a_call_made_during_recovery_waits_and_one_without_patience_does_not(
    world: JournalWorld,
) -> None:
    world.change(1)
    world.toy.restart()
    world.toy.hold = world.env.event()
    late: list[Any] = []

    def caller() -> Any:
        yield world.env.timeout(2 * NS_PER_S)
        assert world.imp.state is State.REPLAY_WAIT
        with pytest.raises(LustreError, match="REPLAY_WAIT"):
            yield from world.imp.call(Request(OST_STATFS, no_delay=True))
        world.env.process(let_go())
        late.append((yield from world.imp.call(world.setattr(9))).body.transno)

    def let_go() -> Any:
        yield world.env.timeout(NS_PER_S)
        world.toy.hold.succeed()

    world.env.process(world.imp.call(Request(OST_STATFS)))
    world.run(caller())
    assert late == [2]
    assert world.imp.state is State.FULL


def test_the_xid_told_as_replied_stays_below_what_is_replayed(world: JournalWorld) -> None:
    requests = world.change(1, 2)
    world.toy.restart()
    told: list[tuple[int, int]] = []
    world.server.lnet.taps.append(
        lambda packet: told.append((packet.payload.body.flags, packet.payload.body.last_xid))
        if getattr(packet.payload, "request", False) else None
    )  # fmt: skip
    poke(world)
    replays = [last_xid for flags, last_xid in told if flags & MSG_REPLAY]
    assert replays == [requests[0].xid - 1, requests[1].xid - 1]


def test_locks_are_told_between_the_requests_and_the_last_ping(world: JournalWorld) -> None:
    def locks(send: Any) -> Any:
        reply = yield from send(Request(LDLM_ENQUEUE))
        assert reply.status == 0

    world.imp.on_replay_locks += (locks,)
    world.change(1)
    world.toy.restart()
    world.toy.seen.clear()
    poke(world)
    assert [(what, flags) for what, _, flags in world.toy.seen] == [
        ("setattr", MSG_REPLAY), ("lock", MSG_REQ_REPLAY_DONE),
        ("ping", MSG_LOCK_REPLAY_DONE | MSG_REQ_REPLAY_DONE), ("statfs", MSG_RESENT),
    ]  # fmt: skip


# ---- when recovery fails


def test_a_replay_that_is_lost_is_resumed_where_it_was(world: JournalWorld) -> None:
    world.change(1, 2, 3)
    world.toy.restart()
    world.server.faults.arm(Armed(points.PTLRPC_DROP_RPC.number))
    dropped = Armed(points.PTLRPC_DROP_RPC.number, FAIL_ONCE)
    replies = iter(range(10))

    def watch(reply: Any) -> None:
        if next(replies) == 0:
            world.client.faults.arm(dropped)

    for request in world.imp.replay_list:
        request.on_replay = watch
    world.server.faults.disarm(points.PTLRPC_DROP_RPC.number)
    world.toy.seen.clear()
    poke(world)
    assert world.came_through() == [*RECOVERY[:3], "CONNECTING", *RECOVERY[2:]]
    flags = [(n, flags) for what, n, flags in world.toy.seen if what == "setattr"]
    assert flags == [(1, MSG_REPLAY), (2, MSG_REPLAY | MSG_RESENT), (3, MSG_REPLAY)]
    assert sorted(world.toy.done) == [1, 2, 3]


def test_a_server_that_restarts_while_replaying_gets_everything_again(world: JournalWorld) -> None:
    first, second, _ = world.change(1, 2, 3)
    world.toy.restart()

    def again(reply: Any) -> None:
        second.on_replay = None
        world.toy.restart()

    second.on_replay = again
    poke(world)
    assert world.came_through() == [*RECOVERY[:3], "CONNECTING", *RECOVERY[2:]]
    assert world.seen() == [("setattr", n) for n in (1, 2, 1, 2, 3)]
    assert sorted(world.toy.done) == [1, 2, 3]
    assert world.imp.replay_list[0] is first


def test_a_lost_connection_at_the_end_asks_only_for_the_end_again(world: JournalWorld) -> None:
    world.change(1)
    world.toy.restart()
    world.client.faults.arm(Armed(points.PTLRPC_DROP_RPC.number, FAIL_ONCE))
    world.imp.replay_list[0].on_replay = lambda reply: world.client.faults.arm(
        Armed(points.PTLRPC_DROP_RPC.number, FAIL_ONCE)
    )
    world.client.faults.disarm(points.PTLRPC_DROP_RPC.number)
    poke(world)
    assert world.came_through() == [*RECOVERY[:5], "CONNECTING", *RECOVERY[3:]]
    assert world.seen() == [("setattr", 1)]


def test_a_version_that_does_not_fit_ends_in_eviction(world: JournalWorld) -> None:
    lost: list[int] = []
    for request in world.change(1, 2):
        request.on_lost = lambda one: lost.append(one.transno)
    world.toy.restart()
    world.toy.refuse[1] = 75

    def evict(reply: Any) -> None:
        world.toy.restart(forget=True)

    world.imp.replay_list[1].on_replay = evict
    with pytest.raises(LustreError, match="evicted"):
        poke(world)
    assert kinds(world, "import.vbr_failed") == 1
    assert world.came_through()[-3:] == ["EVICTED", "RECOVER", "FULL"]
    assert (lost, world.imp.generation, world.imp.vbr_failed) == ([1, 2], 1, False)
    assert world.imp.replay_list == []
    poke(world)


def test_another_status_than_before_is_noted_and_recovery_goes_on(world: JournalWorld) -> None:
    world.change(1, 2)
    world.toy.restart()
    world.toy.refuse[1] = 2
    poke(world)
    assert kinds(world, "import.replay_status") == 1
    assert world.came_through() == RECOVERY
    assert sorted(world.toy.done) == [2]


def test_a_server_that_does_not_know_us_evicts(world: JournalWorld) -> None:
    told: list[str] = []
    world.imp.on_evicted += (lambda: told.append("caches"),)
    request = world.setattr(1)
    request.on_commit.append(lambda: told.append("committed"))
    request.on_lost = lambda one: told.append("lost")
    world.run(world.imp.call(request))
    world.toy.restart(forget=True)
    with pytest.raises(LustreError, match="evicted"):
        poke(world)
    assert told == ["lost", "caches"]
    assert world.came_through() == ["DISCON", "CONNECTING", "EVICTED", "RECOVER", "FULL"]


def test_a_server_that_lost_its_disk_went_back_in_time(world: JournalWorld) -> None:
    world.change(1, 2)
    world.toy.commit()
    poke(world)
    world.toy.commit(1)
    world.toy.restart()
    poke(world)
    told = [e.fields[1:] for e in world.trace.events if e.kind == "import.back_in_time"]
    assert told == [(2, 1)]


def test_a_reply_from_before_the_restart_counts_no_more(world: JournalWorld) -> None:
    """It says that a change was made which the server has lost: the change is made again."""
    kept: list[Any] = []
    lnet = world.client.lnet
    port = next(p for p in world.fabric._ports.values() if p.nid == lnet.nid)

    def receive(packet: Any) -> None:
        body = getattr(packet.payload, "body", None)
        if body is not None and body.transno and not kept:
            kept.append(packet)
            return
        lnet.receive(packet)

    port.receive = receive
    call = world.env.process(world.imp.call(world.setattr(1)))
    world.env.run(NS_PER_S)
    world.toy.restart()
    world.env.process(world.imp.call(Request(OST_STATFS)))
    world.toy.hold = world.env.event()
    world.env.run(2 * NS_PER_S)
    assert world.imp.state is State.REPLAY_WAIT
    lnet.receive(kept[0])
    world.toy.hold.succeed()
    world.env.run(call)
    assert world.toy.done == {1: 1}
    assert world.seen(MSG_RESENT) == [("setattr", 0), ("statfs", 0)]
    assert kinds(world, "rpc.last_life") == 1


def test_a_client_that_does_not_say_it_is_done_goes_on(world: JournalWorld) -> None:
    world.change(1)
    world.toy.restart()
    world.client.faults.arm(Armed(points.PTLRPC_FINISH_REPLAY.number, FAIL_ONCE))
    world.toy.seen.clear()
    poke(world)
    assert "ping" not in [what for what, _, _ in world.toy.seen]
    assert world.came_through() == RECOVERY

"""Adaptive timeouts: the estimates, what travels, early replies, and what they save."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.units import NS_PER_S
from labsim.net.lnet import PUT
from labsim.net.ptlrpc import Request, State
from labsim.net.ptlrpc.timeouts import DefaultTimeouts, Estimate, PeerTimes, timeout_of
from labsim.wire.constants import (
    MSGHDR_AT_SUPPORT,
    OBD_CONNECT_AT,
    OBD_CONNECT_VERSION,
    OSC_REPLY_PORTAL,
)
from labsim.wire.message import Message, body_checksum
from labsim.wire.opcodes import OST_STATFS

from .rig import CLIENT, SERVER, World, kinds

LIMITS = DefaultTimeouts()
S = NS_PER_S


@pytest.fixture
def world() -> World:
    made = World(OBD_CONNECT_VERSION | OBD_CONNECT_AT)
    made.run(made.imp.connect())
    return made


def packets(world: World) -> list[Any]:
    """Every PUT that reaches the client from now on."""
    seen: list[Any] = []
    world.client.lnet.taps.append(
        lambda packet: seen.append(packet) if packet.kind == PUT and packet.dst == CLIENT else None
    )
    return seen


# ---- the numbers


def test_the_first_value_replaces_the_guess_and_zero_says_nothing() -> None:
    estimate = Estimate(10, 1000)
    estimate.measured(0, 1000, LIMITS)
    assert estimate.get(LIMITS) == 10
    estimate.measured(2, 1001, LIMITS)
    assert (estimate.get(LIMITS), estimate.bins, estimate.worst) == (2, [2, 0, 0, 0], 2)


def test_the_worst_is_remembered_for_the_history_and_no_longer() -> None:
    estimate = Estimate(10, 1000)
    for now, value, current, bins in (
        (1000, 40, 40, [40, 0, 0, 0]),
        (1100, 3, 40, [40, 0, 0, 0]),
        (1150, 5, 40, [5, 40, 0, 0]),
        (1300, 6, 40, [6, 5, 40, 0]),
        (1599, 2, 40, [2, 6, 5, 40]),
        (1600, 1, 6, [1, 2, 6, 5]),
        (9000, 4, 4, [4, 0, 0, 0]),
    ):
        estimate.measured(value, now, LIMITS)
        assert (estimate.current, estimate.bins) == (current, bins), now
    assert (estimate.worst, estimate.worst_at_s) == (40, 1000)


def test_a_portal_believes_the_last_value_only() -> None:
    times = PeerTimes(LIMITS, 1000)
    assert times.timeout_s(6, 1000) == timeout_of(5) == 11
    for value, wait in ((40, 55), (1, 6), (600, 755), (9999, 755)):
        times.learn_service(6, value, 1000)
        assert times.timeout_s(6, 1000) == wait
    assert times.timeout_s(7, 1000) == 11
    assert times.services_s() == 600


def test_limits_hold() -> None:
    narrow = DefaultTimeouts()
    narrow.at_min, narrow.at_max, narrow.at_history = 20, 50, 4
    estimate = Estimate(10, 0)
    assert estimate.get(narrow) == 20
    estimate.measured(90, 10, narrow)
    assert estimate.current == 50
    estimate.measured(1, 14, narrow)
    assert estimate.current == 20


def test_the_network_is_what_the_service_did_not_take() -> None:
    times = PeerTimes(LIMITS, 1000)
    times.learn_network(1000, 1, 1000)
    assert times.latency_s() == 1
    times.learn_network(1000, 4, 1010)
    assert times.latency_s() == 7
    times.learn_network(1000, 50, 1010)
    assert times.latency_s() == 7  # that is the service time of an earlier copy


# ---- what travels


def test_both_sides_say_so_and_replies_go_behind_the_room_for_early_ones(world: World) -> None:
    seen = packets(world)
    sent: list[Message] = []
    world.server.lnet.taps.append(
        lambda packet: sent.append(packet.payload) if packet.kind == PUT else None
    )
    world.run(world.imp.call(Request(OST_STATFS)))
    assert [packet.offset for packet in seen] == [192]
    assert sent[0].flags == 3
    assert sent[0].body.timeout == 11
    reply = seen[0].payload
    assert (reply.body.timeout, reply.body.service_time) == (1, 1)
    world.run(world.imp.call(Request(OST_STATFS)))
    assert sent[2].body.timeout == 6


def test_without_the_flag_all_is_as_it_was() -> None:
    world = World()
    world.run(world.imp.connect())
    assert not world.imp.adaptive
    seen = packets(world)
    world.toy.sleep_s = 95
    world.run(world.imp.call(Request(OST_STATFS)))
    assert {packet.offset for packet in seen} == {0}
    assert kinds(world, "rpc.early") == 0


def test_a_lost_request_is_resent_within_seconds(world: World) -> None:
    world.run(world.imp.call(Request(OST_STATFS)))
    start = world.env.now
    world.drop(1, 7, SERVER)
    assert world.run(world.imp.call(Request(OST_STATFS)))["obd_statfs"].blocks == 2
    assert 7 * S <= world.env.now - start < 8 * S
    assert world.imp.conn_cnt == 2


# ---- early replies


@pytest.mark.parametrize("minutes", [1, 3, 9])
def test_a_handler_of_minutes_costs_no_reconnect(world: World, minutes: int) -> None:
    world.toy.sleep_s = 60 * minutes
    seen = packets(world)
    assert world.run(world.imp.call(Request(OST_STATFS)))["obd_statfs"].blocks == 1
    assert kinds(world, "rpc.timeout") == 0
    assert (world.imp.conn_cnt, world.imp.state) == (1, State.FULL)
    early, reply = [one for one in seen[:-1] if one.match == seen[-1].match], seen[-1]
    assert 2 <= len(early) <= 3 * minutes
    assert kinds(world, "rpc.more_time") == len(early)
    for packet in early:
        message = packet.payload
        assert (packet.offset, packet.length, len(message.encode())) == (0, 192, 192)
        assert message.flags == MSGHDR_AT_SUPPORT
        assert message.cksum == body_checksum(message.body)
        assert Message.decode_reply(message.encode(), message.fmt) == message
    assert reply.offset == 192
    assert reply.payload.body.service_time == 60 * minutes


def test_early_replies_come_a_margin_before_the_deadline(world: World) -> None:
    world.toy.sleep_s = 50
    start = world.env.now
    world.run(world.imp.call(Request(OST_STATFS)))
    asked = [e.time_ns - start for e in world.trace.events if e.kind == "rpc.early"]
    told = [e.fields[3] for e in world.trace.events if e.kind == "rpc.early"]
    assert [at // S for at in asked] == [6, 31]  # 11 s less 5, then 36 less 5
    assert told == [36, 61]


def test_at_max_is_the_end_of_patience(world: World) -> None:
    world.server.timeouts = LIMITS.__class__()
    world.server.timeouts.at_max = 60
    world.toy.sleep_s = 100
    assert world.run(world.imp.call(Request(OST_STATFS)))["obd_statfs"].blocks == 1
    assert kinds(world, "rpc.timeout") >= 1
    assert world.toy.count == 1


def test_at_max_zero_turns_it_off_where_it_is_set(world: World) -> None:
    limits = DefaultTimeouts()
    limits.at_max = 0
    world.client.timeouts = limits
    start = world.env.now
    world.drop(1, 7, SERVER)
    world.run(world.imp.call(Request(OST_STATFS)))
    assert world.env.now - start >= 100 * S


def test_a_damaged_early_reply_is_as_none(world: World) -> None:
    def damage(packet: Any) -> None:
        if packet.offset == 0 and packet.kind == PUT and packet.portal == OSC_REPLY_PORTAL:
            packet.payload.cksum ^= 1

    world.client.lnet.taps.append(damage)
    world.toy.sleep_s = 60
    with pytest.raises(LustreError) as failed:
        world.run(world.imp.call(Request(OST_STATFS, no_resend=True)))
    assert failed.value.name == "ETIMEDOUT"
    assert kinds(world, "rpc.more_time") == 0


def test_who_waits_for_a_thread_is_told_as_well(world: World) -> None:
    world.toy.sleep_s = 40
    for service in world.services:
        service.threads = 1
    calls = [world.env.process(world.imp.call(Request(OST_STATFS))) for _ in range(3)]
    world.env.run(world.env.all_of(calls))
    assert world.toy.count == 3
    assert kinds(world, "rpc.timeout") == 0
    assert 120 * S <= world.env.now < 121 * S


def test_nothing_is_left_behind(world: World) -> None:
    world.toy.sleep_s = 20
    world.run(world.imp.call(Request(OST_STATFS)))
    world.env.run(world.env.now + 200 * S)
    early = kinds(world, "rpc.early")
    world.env.run(world.env.now + 2000 * S)
    assert kinds(world, "rpc.early") == early
    assert all(not service.times._timed for service in world.services)

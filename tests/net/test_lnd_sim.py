"""The simulated network: when packets arrive."""

import pytest

from labsim.base.ids import Nid
from labsim.base.payload import Fill
from labsim.net.lnd_sim import PRESETS, Fabric, Link
from labsim.net.lnet import HEADER_SIZE, Lnet
from labsim.runtime.sim import environment

LATENCY, US_PER_BYTE = 10_000, 1_000_000
LINK = Link(latency_ns=LATENCY, bandwidth=US_PER_BYTE, overhead_ns=0)
"""A byte takes 1000 ns."""
TAKES = HEADER_SIZE * 1000


@pytest.fixture
def env():
    return environment()


@pytest.fixture
def fabric(env):
    return Fabric(env, LINK)


def node(fabric, number, **kwargs):
    lnet = Lnet(Nid.parse(f"10.0.0.{number}@tcp"))
    fabric.attach(lnet, **kwargs)
    return lnet


def arrivals(env, lnet, portal=8):
    log = []
    lnet.serve(portal, lambda packet: log.append((env.now, packet.match)))
    return log


def test_a_packet_takes_latency_and_its_bytes(env, fabric):
    a, b = node(fabric, 1), node(fabric, 2)
    log = arrivals(env, b)
    a.put(b.nid, 8, 1, Fill(1000))
    env.run()
    assert log == [(LATENCY + TAKES + 1_000_000, 1)]


def test_packets_queue_at_their_sender(env, fabric):
    a, b, c = (node(fabric, n) for n in (1, 2, 3))
    logs = arrivals(env, b), arrivals(env, c)
    for match in range(3):
        a.put((b if match != 1 else c).nid, 8, match, b"")
    env.run()
    assert logs[0] == [(LATENCY + TAKES, 0), (LATENCY + 3 * TAKES, 2)]
    assert logs[1] == [(LATENCY + 2 * TAKES, 1)]


def test_packets_from_many_queue_at_their_receiver(env, fabric):
    target = node(fabric, 9)
    log = arrivals(env, target)
    for number in range(1, 5):
        node(fabric, number).put(target.nid, 8, number, b"")
    env.run()
    assert log == [(LATENCY + n * TAKES, n) for n in range(1, 5)]


def test_an_idle_link_costs_no_queueing(env, fabric):
    a, b = node(fabric, 1), node(fabric, 2)
    log = arrivals(env, b)

    def sender():
        for match in range(3):
            a.put(b.nid, 8, match, b"")
            yield env.timeout(1_000_000)

    env.run(env.process(sender()))
    assert [at for at, _ in log] == [n * 1_000_000 + LATENCY + TAKES for n in range(3)]


def test_the_slower_of_two_links_counts(env, fabric):
    a, b = node(fabric, 1), node(fabric, 2, link=LINK._replace(bandwidth=US_PER_BYTE // 4))
    log = arrivals(env, b)
    a.put(b.nid, 8, 1, b"")
    env.run()
    assert log == [(LATENCY + 4 * TAKES, 1)]


def test_a_delayed_packet_is_overtaken(env, fabric):
    a, b = node(fabric, 1), node(fabric, 2)
    log = arrivals(env, b)
    put = lambda match: a.put(b.nid, 8, match, b"")  # noqa: E731
    from labsim.net.rules import Rule

    a.rules.install(Rule(name="slow", action="delay", delay_ns=10**9))
    put(1)
    a.rules.clear()
    put(2)
    env.run()
    assert [match for _, match in log] == [2, 1]
    assert log[1][0] >= 10**9


def test_a_nodes_own_packets_take_no_time_but_a_step(env, fabric):
    a = node(fabric, 1)
    log = arrivals(env, a)
    a.put(a.nid, 8, 1, b"")
    assert log == []
    env.run()
    assert log == [(0, 1)]


def test_who_left_gets_nothing_and_a_successor_does(env, fabric):
    a, b = node(fabric, 1), node(fabric, 2)
    log = arrivals(env, b)
    a.put(b.nid, 8, 1, b"")
    b.close()
    env.run()
    assert (log, fabric.undeliverable) == ([], 1)
    successor = node(fabric, 2)
    log = arrivals(env, successor)
    b.close()
    a.put(b.nid, 8, 2, b"")
    env.run()
    assert [match for _, match in log] == [2]


def test_payloads_travel_as_they_are(env, fabric):
    a, b = node(fabric, 1), node(fabric, 2)
    got = []
    b.serve(8, got.append)
    payload = Fill(1 << 20, seed=3)
    a.put(b.nid, 8, 1, payload)
    env.run()
    assert got[0].payload is payload


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_whole_numbers(name):
    assert all(type(value) is int for value in PRESETS[name])


def test_one_event_per_packet(env, fabric):
    a, b = node(fabric, 1), node(fabric, 2)
    log = arrivals(env, b)
    for match in range(100):
        a.put(b.nid, 8, match, b"")
    env.run()
    assert len(log) == 100
    assert env.steps == 100

"""One conversation over LNet, simulated and live: the same packets with the same content."""

import shutil
import tempfile

import pytest

from labsim.base.ids import Nid
from labsim.base.payload import Chain, Fill, digest, tobytes
from labsim.net.lnd_sim import Fabric
from labsim.net.lnd_zmq import ZmqLnd
from labsim.net.lnet import GET, PUT, REPLY, Lnet
from labsim.net.rules import Rule
from labsim.runtime.live import LiveEnvironment
from labsim.runtime.sim import environment

A, B = Nid.parse("10.0.0.1@tcp"), Nid.parse("10.0.0.2@tcp")


def shown(packet):
    """All that the wire carries: an ACK names no portal, a REPLY no match bits either."""
    portal = packet.portal if packet.kind in (PUT, GET) else 0
    match = packet.match if packet.kind != REPLY else 0
    return (packet.kind, str(packet.src), str(packet.dst), portal, match, packet.offset,
            digest(tobytes(packet.payload)).hex(), packet.length, packet.hdr_data)  # fmt: skip


def conversation(env, a, b):
    """Everything LNet does, one thing after the other; returns what each side saw."""
    seen = {"a": [], "b": []}
    a.taps.append(lambda packet: seen["a"].append(shown(packet)))
    b.taps.append(lambda packet: seen["b"].append(shown(packet)))

    def answered(ask, *args, **kwargs):
        event = env.event()
        ask(*args, event.succeed, **kwargs)
        return event

    def put(payload, portal=12, match=1, **kwargs):
        event = env.event()
        a.put(B, portal, match, payload, ack=event.succeed, **kwargs)
        return event

    b.serve(12, lambda packet: b.put(A, 10, packet.match, tobytes(packet.payload)[::-1]))
    yield put(b"request", hdr_data=3)
    reply = answered(lambda handler: a.post(10, 2, handler, once=True))
    yield put(b"request", match=2, offset=192)
    yield reply
    for payload in (b"", Fill(70_000, seed=3), Chain((b"left", memoryview(b"right")))):
        yield put(payload, match=5)
    b.expose(8, 7, Fill(1 << 20, seed=1))
    for offset, length in ((0, 1 << 20), (100, 10), (1 << 20, 5)):
        yield answered(lambda h, o=offset, n=length: a.get(B, 8, 7, n, h, offset=o))
    a.put(B, 60, 1, b"nobody is there")
    a.get(B, 8, 99, 10, lambda packet: None)
    a.rules.install(Rule(name="half", rate=0.5, seed=11, portal=12))
    for match in range(40):
        a.put(B, 12, 100 + match, b"maybe")
    a.rules.clear()
    yield put(b"last", match=3)
    yield env.timeout(50_000_000)
    return seen, a.counters.snapshot(), b.counters.snapshot()


def simulated():
    env = environment()
    fabric = Fabric(env)
    lnets = [Lnet(A), Lnet(B)]
    for lnet in lnets:
        fabric.attach(lnet)
    return env.run(env.process(conversation(env, *lnets)))


def live():
    env = LiveEnvironment()
    directory = tempfile.mkdtemp(prefix="labsim-test-")
    endpoints = {nid: f"ipc://{directory}/{nid}" for nid in (A, B)}
    lnets = [Lnet(A), Lnet(B)]
    for lnet in lnets:
        ZmqLnd(env, lnet, endpoints)
    try:
        return env.run(env.process(conversation(env, *lnets)))
    finally:
        for lnet in lnets:
            lnet.close()
        env.close()
        shutil.rmtree(directory)


def test_the_same_bits_meet_the_same_fate_on_both_networks():
    in_simulation, on_sockets = simulated(), live()
    assert on_sockets[1:] == in_simulation[1:]
    for side in "ab":
        assert sorted(on_sockets[0][side]) == sorted(in_simulation[0][side])


@pytest.mark.parametrize("run", [simulated])
def test_a_simulation_repeats_itself(run):
    assert run() == run()

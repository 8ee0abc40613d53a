"""LNet's matching, over a wire that delivers at once."""

import pytest

from labsim.base.ids import Nid
from labsim.base.payload import Fill, tobytes
from labsim.net.lnet import GET, HEADER_SIZE, LNET_MTU, PUT, REPLY, Lnet, Packet
from labsim.net.rules import Rule

A, B, C = (Nid.parse(f"10.0.0.{n}@tcp") for n in (1, 2, 3))


class Wire:
    """An LND that queues until `pump` is called."""

    def __init__(self):
        self.nodes, self.queue, self.delays = {}, [], []

    def node(self, nid, **kwargs):
        lnet = Lnet(nid, **kwargs)
        lnet.lnd = self
        self.nodes[nid] = lnet
        return lnet

    def send(self, packet, delay_ns=0):
        self.delays.append(delay_ns)
        self.queue.append(packet)

    def close(self):
        self.closed = True

    def pump(self):
        while self.queue:
            packet = self.queue.pop(0)
            self.nodes[packet.dst].receive(packet)


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def pair(wire):
    return wire.node(A), wire.node(B)


def test_a_put_reaches_whoever_serves_the_portal(wire, pair):
    a, b = pair
    got = []
    b.serve(12, got.append)
    a.put(B, 12, 0x50, b"hello", hdr_data=9, offset=3)
    wire.pump()
    assert got == [Packet(PUT, A, B, 12, 0x50, 3, b"hello", 5, 9)]
    assert got[0].wire_size == HEADER_SIZE + 5
    assert str(got[0]) == "PUT 10.0.0.1@tcp -> 10.0.0.2@tcp portal 12 match 0x50 5 B"


def test_a_match_entry_comes_before_the_service(wire, pair):
    a, b = pair
    posted, served = [], []
    b.serve(10, served.append)
    entry = b.post(10, 7, posted.append)
    assert entry.linked
    for match in (7, 8, 7):
        a.put(B, 10, match, b"")
    wire.pump()
    assert [p.match for p in posted] == [7, 7]
    assert [p.match for p in served] == [8]
    entry.unlink()
    entry.unlink()
    assert not entry.linked
    a.put(B, 10, 7, b"")
    wire.pump()
    assert [p.match for p in served] == [8, 7]


def test_once_and_peer_limit_a_match_entry(wire, pair):
    a, b = pair
    c = wire.node(C)
    got = []
    b.post(10, 7, got.append, once=True, peer=A)
    for sender in (c, a, a):
        sender.put(B, 10, 7, b"")
    wire.pump()
    assert [p.src for p in got] == [A]
    assert b.counters.drop_count == 2


def test_a_newer_entry_of_the_same_bits_survives_the_unlink_of_the_old(wire, pair):
    a, b = pair
    got = []
    old = b.post(10, 7, lambda packet: got.append("old"))
    b.post(10, 7, lambda packet: got.append("new"))
    old.unlink()
    a.put(B, 10, 7, b"")
    wire.pump()
    assert got == ["new"]


def test_what_nobody_waits_for_is_counted_and_dropped(wire, pair):
    a, b = pair
    a.put(B, 10, 7, b"12345")
    a.get(B, 8, 7, 100, lambda packet: pytest.fail("there is nothing to get"))
    wire.pump()
    assert (b.counters.drop_count, b.counters.drop_length) == (2, 105)
    assert b.counters.snapshot()["recv_count"] == 2
    assert a.counters.snapshot()["send_length"] == 105


def test_an_ack_says_how_much_was_taken(wire, pair):
    a, b = pair
    acks = []
    b.serve(8, lambda packet: None)
    entry = a.put(B, 8, 3, Fill(1000), ack=acks.append)
    assert entry is not None and entry.linked
    wire.pump()
    assert [(p.portal, p.match, p.length) for p in acks] == [(8, 3, 1000)]
    assert not entry.linked
    assert a.put(B, 8, 3, b"") is None


def test_what_does_not_fit_is_dropped_or_announced(wire, pair):
    a, b = pair
    got, acks = [], []
    b.post(8, 1, got.append, room=4)
    a.put(B, 8, 1, b"12345", ack=acks.append)
    a.put(B, 8, 1, b"1234", offset=1, ack=acks.append)
    wire.pump()
    assert (got, acks, b.counters.drop_count) == ([], [], 2)
    b.post(8, 1, got.append, room=4, truncate=True)
    a.put(B, 8, 1, b"12345", offset=1, ack=acks.append)
    a.put(B, 8, 1, b"123", offset=1)
    wire.pump()
    assert [(packet.payload, packet.offset, packet.length) for packet in got] == [
        (None, 1, 5), (b"123", 1, 3),
    ]  # fmt: skip
    assert [packet.length for packet in acks] == [3]


def test_no_ack_for_what_was_dropped(wire, pair):
    a, _ = pair
    a.put(B, 8, 3, b"x", ack=lambda packet: pytest.fail("nobody took it"))
    wire.pump()


def test_a_get_fetches_what_is_exposed(wire, pair):
    a, b = pair
    replies, served = [], []
    b.expose(8, 5, b"0123456789", served.append)
    a.get(B, 8, 5, 4, replies.append)
    a.get(B, 8, 5, 4, replies.append, offset=8)
    a.get(B, 8, 5, 100, replies.append)
    wire.pump()
    assert [tobytes(p.payload) for p in replies] == [b"0123", b"89", b"0123456789"]
    assert all((p.kind, p.portal, p.match) == (REPLY, 8, 5) for p in replies)
    assert [p.kind for p in served] == [GET] * 3


def test_an_exposed_fill_is_never_made(wire, pair):
    a, b = pair
    replies = []
    data = Fill(LNET_MTU, seed=5)
    b.expose(8, 5, data, once=True)
    a.get(B, 8, 5, LNET_MTU, replies.append)
    wire.pump()
    assert replies[0].payload is data
    a.get(B, 8, 5, LNET_MTU, replies.append)
    wire.pump()
    assert len(replies) == 1


def test_a_reply_that_comes_too_late_is_dropped(wire, pair):
    a, b = pair
    b.expose(8, 5, b"late")
    entry = a.get(B, 8, 5, 4, lambda packet: pytest.fail("nobody waits any more"))
    entry.unlink()
    wire.pump()
    assert a.counters.drop_count == 1


def test_a_reply_meant_for_the_dead_does_not_reach_its_successor(wire, pair):
    a, b = pair
    b.expose(8, 5, b"data")
    a.get(B, 8, 5, 4, lambda packet: pytest.fail("that node has died"))
    successor = wire.node(A, incarnation=2)
    successor.get(B, 8, 5, 4, lambda packet: None)
    wire.pump()
    assert successor.counters.drop_count == 1


def test_an_answer_from_a_stranger_is_dropped(wire, pair):
    a, b = pair
    b.serve(8, lambda packet: None)
    a.put(B, 8, 3, b"x", ack=lambda packet: pytest.fail("it came from somebody else"))
    put = wire.queue.pop()
    a.receive(put._replace(kind=0, src=C, dst=A))
    assert a.counters.drop_count == 1


def test_rules_drop_and_delay(wire, pair):
    a, b = pair
    b.serve(8, lambda packet: None)
    a.rules.install(Rule(name="slow", action="delay", delay_ns=50))
    a.put(B, 8, 1, b"")
    a.rules.install(Rule(name="cut"))
    a.put(B, 8, 2, b"xyz")
    wire.pump()
    assert wire.delays == [50]
    assert (a.counters.drop_count, a.counters.drop_length) == (1, 3)
    assert b.counters.recv_count == 1


def test_a_duplicate_is_sent_twice(wire, pair):
    a, b = pair
    got = []
    b.serve(8, got.append)
    a.rules.install(Rule(name="twice", action="duplicate", delay_ns=50))
    a.put(B, 8, 1, b"xyz")
    wire.pump()
    assert len(got) == 2
    assert wire.delays == [0, 50]


def test_reset_forgets_and_close_is_silent(wire, pair):
    a, b = pair
    b.serve(8, lambda packet: pytest.fail("forgotten"))
    b.reset()
    a.put(B, 8, 1, b"")
    wire.pump()
    a.close()
    a.close()
    assert wire.closed
    a.put(B, 8, 1, b"")
    assert not wire.queue


def test_taps_see_both_ways(wire, pair):
    a, b = pair
    seen = []
    a.taps.append(seen.append)
    b.serve(8, lambda packet: b.put(A, 9, 1, b""))
    a.put(B, 8, 1, b"")
    wire.pump()
    assert [(p.src, p.portal) for p in seen] == [(A, 8), (B, 9)]

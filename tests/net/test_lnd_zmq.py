"""The live network: real sockets, in one process."""

import os
import random
import shutil
import tempfile

import pytest
import zmq

from labsim.base.errors import InputError
from labsim.base.ids import Nid
from labsim.base.payload import Chain, Fill, tobytes
from labsim.net.frame import encode_header
from labsim.net.lnd_zmq import LARGEST_PART, ZmqLnd, check_endpoint
from labsim.net.lnet import LNET_MTU, PUT, Lnet, Packet
from labsim.net.rules import Rule
from labsim.runtime.live import LiveEnvironment

pytestmark = pytest.mark.live

A, B, C = (Nid.parse(f"10.0.0.{n}@tcp") for n in (1, 2, 3))
MS = 1_000_000


class Net:
    """An environment and the nodes on it."""

    def __init__(self, transport):
        self.env = LiveEnvironment()
        self.directory = tempfile.mkdtemp(prefix="labsim-test-")
        self.refused = []
        self.lnets = []
        if transport == "ipc":
            self.endpoints = {nid: f"ipc://{self.directory}/{nid}" for nid in (A, B, C)}
        else:
            ports = [self.env.free_port() for _ in range(3)]
            self.endpoints = dict(
                zip((A, B, C), (f"tcp://127.0.0.1:{port}" for port in ports), strict=True)
            )

    def node(self, nid, **kwargs):
        lnet = Lnet(nid, **kwargs)
        ZmqLnd(self.env, lnet, self.endpoints, self.refused.append)
        self.lnets.append(lnet)
        return lnet

    def wait(self, condition, seconds=5):
        """Run until the condition holds."""

        def waiting():
            limit = self.env.now + seconds * 1000 * MS
            while not condition():
                assert self.env.now < limit, "it did not happen in time"
                yield self.env.timeout(1 * MS)

        self.env.run(self.env.process(waiting()))

    def rest(self, ms=50):
        self.env.run(self.env.timeout(ms * MS))

    def close(self):
        for lnet in self.lnets:
            lnet.close()
        self.env.close()
        shutil.rmtree(self.directory)


@pytest.fixture(params=["ipc", "tcp"])
def net(request):
    net = Net(request.param)
    yield net
    net.close()


@pytest.fixture
def ipc():
    net = Net("ipc")
    yield net
    net.close()


def test_put_get_ack(net):
    a, b = net.node(A), net.node(B)
    puts, acks, replies = [], [], []
    b.serve(12, puts.append)
    b.expose(8, 5, b"0123456789")
    a.put(B, 12, 0x50, b"hello", hdr_data=9, offset=3, ack=acks.append)
    a.get(B, 8, 5, 4, replies.append, offset=2)
    net.wait(lambda: puts and acks and replies)
    assert puts == [Packet(PUT, A, B, 12, 0x50, 3, b"hello", 5, 9, puts[0].handle)]
    assert (acks[0].portal, acks[0].match, acks[0].length) == (12, 0x50, 5)
    assert tobytes(replies[0].payload) == b"2345"
    assert net.refused == []


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 65536, LNET_MTU])
def test_payloads_of_every_kind_arrive_whole(ipc, size):
    a, b = ipc.node(A), ipc.node(B)
    got = []
    b.serve(8, got.append)
    data = os.urandom(size)
    half = size // 2
    sent = [data, bytearray(data), memoryview(data), Fill(size, seed=4),
            Chain((memoryview(data)[:half], Fill(size - half, seed=2)))]  # fmt: skip
    for match, payload in enumerate(sent):
        a.put(B, 8, match, payload)
    ipc.wait(lambda: len(got) == len(sent))
    assert [p.match for p in got] == list(range(len(sent)))
    assert [tobytes(p.payload) for p in got] == [tobytes(p) for p in sent]


def test_many_packets_keep_their_order_and_travel_in_batches(ipc):
    a, b = ipc.node(A), ipc.node(B)
    got = []
    b.serve(8, lambda packet: got.append(packet.match))
    for match in range(2000):
        a.put(B, 8, match, b"x" * (match % 300))
    ipc.wait(lambda: len(got) == 2000)
    assert got == list(range(2000))


def test_sockets_are_private(ipc):
    ipc.node(A)
    path = ipc.endpoints[A].removeprefix("ipc://")
    assert os.stat(path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "endpoint", ["tcp://0.0.0.0:9", "tcp://10.0.0.1:9", "tcp://*:9", "udp://x"]
)
def test_nothing_listens_off_this_machine(endpoint):
    with pytest.raises(InputError, match="loopback"):
        check_endpoint(endpoint)


def test_a_node_talks_to_itself(ipc):
    a = ipc.node(A)
    got = []
    a.serve(8, got.append)
    a.put(A, 8, 1, b"me")
    ipc.wait(lambda: got)


def test_rules_work_on_the_live_network(ipc):
    a, b = ipc.node(A), ipc.node(B)
    got = []
    b.serve(8, lambda packet: got.append(packet.match))
    a.rules.install(Rule(name="slow", action="delay", delay_ns=30 * MS))
    a.put(B, 8, 1, b"")
    a.rules.clear()
    a.put(B, 8, 2, b"")
    a.rules.install(Rule(name="cut"))
    a.put(B, 8, 3, b"")
    ipc.wait(lambda: len(got) == 2)
    ipc.rest()
    assert got == [2, 1]
    assert a.counters.drop_count == 1


def test_packets_wait_a_little_for_a_peer_that_starts_later(ipc):
    a = ipc.node(A)
    a.put(B, 8, 1, b"early")
    ipc.rest(20)
    got = []
    ipc.node(B).serve(8, got.append)
    ipc.wait(lambda: got)


def test_what_is_meant_for_the_dead_is_lost_and_its_successor_is_reached(ipc):
    a, b = ipc.node(A), ipc.node(B)
    got = []
    b.serve(8, got.append)
    a.put(B, 8, 1, b"")
    ipc.wait(lambda: got)
    b.close()
    ipc.rest(100)
    a.put(B, 8, 2, b"")
    ipc.wait(lambda: a.counters.drop_count == 1)
    successor, later = ipc.node(B, incarnation=2), []
    successor.serve(8, lambda packet: later.append(packet.match))
    ipc.rest(200)
    a.put(B, 8, 3, b"")
    ipc.wait(lambda: later)
    assert later == [3]


def test_a_nid_that_is_nowhere_is_a_drop(ipc):
    a = ipc.node(A)
    a.put(Nid.parse("10.9.9.9@tcp"), 8, 1, b"")
    assert a.counters.drop_count == 1


# ---- what must not harm


class Attacker:
    """A ZeroMQ client that says what it likes to B."""

    def __init__(self, net, identity=b"10.0.0.3@tcp"):
        self.socket = net.env.context.socket(zmq.DEALER)
        self.socket.linger = 0
        if identity is not None:
            self.socket.setsockopt(zmq.ROUTING_ID, identity)
        self.socket.connect(net.endpoints[B])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def say(self, *parts):
        self.socket.send_multipart(parts)


def frame(src=C, dst=B, payload=b"", **changes):
    packet = Packet(PUT, src, dst, 8, 1, 0, payload, len(payload))._replace(**changes)
    return encode_header(packet)


BROKEN = {
    "empty": [b""],
    "short": [b"\xc1" * 50],
    "truncated payload": [frame(payload=b"12345") + b"123"],
    "longer than said": [frame(payload=b"123") + b"12345"],
    "missing part": [frame(payload=b"x" * 9000)],
    "oversized": [frame(length=LNET_MTU + 1)],
    "length of four GiB": [frame(length=0xFFFFFFFF)],
    "another's NID": [frame(src=A)],
    "not for this node": [frame(dst=A)],
    "no such portal": [frame(portal=64)],
    "text": [b"GET / HTTP/1.1\r\nHost: lustre\r\n\r\n" * 4],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_frame_is_refused_counted_and_told(ipc, name):
    a, b = ipc.node(A), ipc.node(B)
    got = []
    b.serve(8, lambda packet: got.append(packet.src))
    with Attacker(ipc) as attacker:
        attacker.say(*BROKEN[name])
        ipc.wait(lambda: b.lnd.refused == 1)
        attacker.say(frame())
        ipc.wait(lambda: got)
    a.put(B, 8, 1, b"")
    ipc.wait(lambda: len(got) == 2)
    assert got == [C, A]
    assert len(ipc.refused) == 1


@pytest.mark.parametrize("identity", [b"nobody", b"\xff\xfe", None])
def test_who_does_not_say_its_nid_is_refused(ipc, identity):
    b = ipc.node(B)
    b.serve(8, lambda packet: pytest.fail("it came from nobody"))
    with Attacker(ipc, identity) as attacker:
        attacker.say(frame())
        ipc.wait(lambda: b.lnd.refused == 1)
    assert "no NID" in ipc.refused[0]


def test_random_frames_never_stop_a_node(ipc):
    a, b = ipc.node(A), ipc.node(B)
    got = []
    b.serve(8, lambda packet: got.append(packet.match))
    rng = random.Random(20)
    with Attacker(ipc) as attacker:
        for _ in range(500):
            parts = []
            for _ in range(rng.randrange(1, 4)):
                if rng.random() < 0.5:
                    parts.append(rng.randbytes(rng.randrange(300)))
                else:
                    header = bytearray(frame(payload=b"x" * rng.randrange(20)))
                    header[rng.randrange(len(header))] = rng.randrange(256)
                    parts.append(bytes(header) + b"x" * rng.randrange(20))
            attacker.say(*parts)
        ipc.wait(lambda: b.lnd.refused > 400)
    ipc.rest()
    got.clear()
    a.put(B, 8, 77, b"still here")
    ipc.wait(lambda: 77 in got)
    assert len(ipc.refused) == b.lnd.refused


def test_a_huge_message_does_not_harm(ipc):
    a, b = ipc.node(A), ipc.node(B)
    got = []
    b.serve(8, lambda packet: got.append(packet.src))
    with Attacker(ipc) as attacker:
        attacker.say(b"x" * (LARGEST_PART + 1))
        ipc.rest(100)
        a.put(B, 8, 1, b"")
        ipc.wait(lambda: got)
    assert got == [A]

"""Messages that are garbled on their way, from and to one client: no node stops, others go on.

Simulated, so that the same garbage comes again: what leaves or reaches c1 is made into bytes, some
of them are changed, cut off or added, and who reads them must refuse them or make the best of it.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.payload import tobytes
from labsim.base.units import NS_PER_S
from labsim.net import frame
from labsim.net.lnd_sim import Port
from labsim.net.lnet import Packet
from labsim.scenario import checkers
from labsim.scenario.cluster import Cluster
from labsim.wire.message import Message

from . import storm
from .rig import Process

OWN_FAULT = (
    "nothing_is_refused",
    "nothing_is_left_open",
    "grants_are_conserved",
)
"""What garbage may break: a handle or a sum that was changed on its way means something else."""


class Garbler:
    """Spoils one in `rarely` messages that c1 sends, or gets."""

    def __init__(self, seed: int, way: str, rarely: int = 6) -> None:
        self.rng = Random(seed)
        self.way = way
        self.rarely = rarely
        self.victim = -1
        self.spoilt = 0

    def spoil(self, packet: Packet) -> Packet:
        at = packet.src if self.way == "sent" else packet.dst
        if at != self.victim or not isinstance(packet.payload, Message):
            return packet
        if self.rng.randrange(self.rarely):
            return packet
        self.spoilt += 1
        data = bytearray(tobytes(frame.encode(packet)[1]))
        rng = self.rng
        kind = rng.randrange(int(os.environ.get("LABSIM_GARBAGE", "6")))
        if kind == 0:
            del data[rng.randrange(len(data)) :]
        elif kind == 1:
            data += rng.randbytes(rng.randrange(1, 64))
        elif kind == 2:
            at = rng.randrange(len(data))
            data[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8)))
        else:
            for _ in range(kind - 2):
                data[rng.randrange(len(data))] = rng.randrange(256)
        return packet._replace(payload=bytes(data), length=len(data))


@pytest.mark.parametrize("way", ["sent", "received"])
@pytest.mark.parametrize("seed", range(int(os.environ.get("LABSIM_GARBAGE", "6"))))
def test_garbage(seed: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    garbler = Garbler(seed, way)
    send = Port.send
    monkeypatch.setattr(
        Port, "send", lambda port, packet, delay=0: send(port, garbler.spoil(packet), delay)
    )
    with Cluster(clients=2, oss=2, osts=2, seed=seed, trace_keep=0) as cluster:
        env = cluster.env
        root = Process(cluster, 0)
        root.mkdir("own")
        garbler.victim = cluster._nids["c1"]
        noise = env.process(storm.user(cluster, 1, seed, 120))
        lost = 0
        for number in range(40):
            try:
                root.put(f"own/{number}", b"%d" % number * 1000)
                assert root.get(f"own/{number}") == b"%d" % number * 1000
            except OSError as error:
                assert error.errno == 5, error
                lost += 1
            cluster.run(env.timeout(NS_PER_S))
        cluster.run(env.any_of([noise, env.timeout(3000 * NS_PER_S)]))
        assert garbler.spoilt > 5
        garbler.victim = -1
        cluster.run(noise)
        cluster.run(env.timeout(600 * NS_PER_S))
        assert lost == 0
        names = root.names("own")
        assert names == sorted(str(number) for number in range(40))
        seen: dict[str, Any] = cluster.run(cluster.snapshots())
        broken = checkers.check([seen])
        assert any(one.startswith("nothing_is_refused") for one in broken), "it was noticed"
        assert [one for one in broken if not one.startswith(OWN_FAULT) and "c1" not in one] == []
        assert Process(cluster, 1).get("own/7") == b"7" * 1000


def test_a_client_that_cannot_be_understood_still_gets_an_errno() -> None:
    """Its every request is spoilt: calls fail or hang, and work again when it is over."""
    with (
        Cluster(clients=1, oss=1, osts=1, trace_keep=0) as cluster,
        pytest.MonkeyPatch.context() as patch,
    ):
        garbler = Garbler(1, "sent", rarely=1)
        send = Port.send
        patch.setattr(Port, "send", lambda port, packet, d=0: send(port, garbler.spoil(packet), d))
        process = Process(cluster, 0)
        process.put("f", b"before")
        garbler.victim = cluster._nids["c0"]
        env = cluster.env

        def attempt() -> Any:
            try:
                yield from process.vfs.mkdir("d")
            except LustreError as error:
                return error.errno
            return 0

        call = env.process(attempt())
        cluster.run(env.any_of([call, env.timeout(200 * NS_PER_S)]))
        garbler.victim = -1
        cluster.run(call)
        cluster.run(env.timeout(200 * NS_PER_S))
        assert process.get("f") == b"before"

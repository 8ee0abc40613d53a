"""A peer that lies to real processes: changed frames on the sockets of a live MDS and OSS.

As a program: `python -m tests.nodes.hostile_live SEED COUNT` sends that many and says what came of
it. The liar is client c0, whose node runs in this process: it connects as any client does, so that
its lies come over connections that the servers know. An honest client works beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.payload import Payload
from labsim.base.trace import Trace
from labsim.base.units import NS_PER_MS, NS_PER_S
from labsim.net import frame
from labsim.net.lnd_zmq import ZmqLnd
from labsim.net.lnet import Lnet, Packet
from labsim.net.ptlrpc import Request, State
from labsim.scenario.cluster import Cluster
from labsim.scenario.machine import Machine
from labsim.wire.opcodes import OBD_PING

from .hostile import Mutator

PATIENCE = {"timeout": "6", "at_max": "0", "bulk_timeout": "3"}
"""Without adaptive timeouts a client has half of `timeout` to give a lock back. With them it would
have 100 s, and whoever lies about locks could keep the others waiting for most of the time."""
SERVERS = ("mgs", "mds0", "oss0")
PAUSE_NS = 50 * NS_PER_MS
"""How long the liar waits for each of the servers after each hundred lies."""
HONEST_NS = 120 * NS_PER_S
"""How long one work of the honest client may take, with all the locks that a liar can hold."""


class Lie(bytes):
    """A payload that is a lie; one in ten has a header that lies as well."""


class LiveLiar:
    """Client c0 of a live cluster is a liar, c1 is honest."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.cluster = Cluster(clients=2, osts=2, seed=seed, runtime="live", params=PATIENCE)
        self.cluster.__enter__()
        self.env = self.cluster.env
        self.honest = self.cluster.client(1)
        self.cluster.run(self.cluster.client(0).kill())
        self.machine = Machine(
            self.cluster.client(0).spec, self.env, self._attach, {},
            Trace(lambda: self.env.now, 100), lambda: None, lambda _info: None, 2,
        )  # fmt: skip
        self.cluster.run(self.machine.boot(self.cluster.fs, 2))
        self.lies = Mutator(self.rng, self.machine.node, self.cluster.run)
        self.works = self.good = self.heard = 0
        self.slowest_s = 0.0
        self.ended = self.cut = False

    def _attach(self, lnet: Lnet) -> None:
        endpoints = self.cluster._room.endpoints
        self.lnd = ZmqLnd(self.env, lnet, endpoints, None, self._encode)

    def _encode(self, packet: Packet) -> tuple[bytes, Payload]:
        """Header and payload; sometimes the header of a lie is changed too."""
        header, payload = frame.encode(packet)
        if isinstance(packet.payload, Lie) and not self.rng.randrange(10):
            changed = bytearray(header)
            changed[self.rng.randrange(len(changed))] ^= 1 << self.rng.randrange(8)
            header = bytes(changed)
            self.cut = True
        return header, payload

    def close(self) -> None:
        """End the liar, then the cluster."""
        self.machine.lnet.close()
        self.cluster.__exit__(None, None, None)

    # ---- the two clients

    def storm(self, count: int, every: int = 100) -> Any:
        """Generator: `count` lies, as fast as the servers take them."""
        back = None
        while self.lies.sent < count:
            for _ in range(every):
                lied = self.lies.lie()
                self.lnd.send(lied._replace(payload=Lie(lied.payload)))
                if self.cut:
                    self.lnd._flush()  # what follows a broken frame in one message is lost
                    self.cut = False
            yield self.env.timeout(0)
            if back is None or back.triggered:
                back = self.env.process(self.lies.revive())
            for imp in self.lies.imports():
                ping = self.env.process(self._ping(imp))
                yield self.env.any_of([ping, self.env.timeout(PAUSE_NS)])
            self.heard += every * all(imp.state is State.FULL for imp in self.lies.imports())
        self.ended = True

    def _ping(self, imp: Any) -> Any:
        """Come back when the server has got to the end of what was sent before."""
        try:
            yield from imp.call(Request(OBD_PING, no_resend=True, no_delay=True))
        except LustreError:
            return

    def received(self) -> dict[str, int]:
        """Messages that each server has got, from anybody."""
        seen = self.cluster.run(self.cluster.snapshots())
        return {name: seen[name]["lnet"]["recv_count"] for name in SERVERS}

    def work(self) -> Any:
        """Generator: files are written and read back until the storm is over."""
        while not self.ended:
            number = self.works
            started = monotonic()
            name, text = f"own{number % 50}", f"{number} " * (1 + number % 3000)
            done = yield self.honest.command(f"echo '{text}' > {name}")
            read = yield self.honest.command(f"cat {name}")
            self.slowest_s = max(self.slowest_s, monotonic() - started)
            self.works += 1
            self.good += done.status == 0 and read.stdout == f"{text}\n"

    def memory(self) -> dict[str, int]:
        """Bytes of each server that are its own."""
        return {name: _anonymous(self.cluster.node(name).pid) for name in SERVERS}

    def run(self, count: int) -> None:
        """The storm and the work; raises when a process dies or the honest client hangs."""
        storm = self.env.process(self.storm(count))
        work = self.env.process(self.work())
        self.cluster.run(storm)
        over = self.env.timeout(HONEST_NS)
        self.cluster.run(self.env.any_of([work, over]))
        assert work.triggered, "the honest client hangs"


def _anonymous(pid: int | None) -> int:
    """RssAnon of a process: what it has allocated, without the pages of its disk."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"no RssAnon of {pid}")


def main(seed: int, count: int, reports: int = 20) -> None:
    """Run the storm in slices and print after each how large the servers are."""
    liar = LiveLiar(seed)
    started = monotonic()
    try:
        for number in range(1, reports + 1):
            liar.ended = False
            liar.run(count * number // reports)
            sizes = " ".join(f"{name} {size >> 20}" for name, size in liar.memory().items())
            print(
                f"{monotonic() - started:6.0f} s  {liar.lies.sent} lies, {liar.heard} while"
                f" connected; {liar.good} of {liar.works} works done, the slowest in"
                f" {liar.slowest_s:.1f} s; MiB: {sizes}",
                flush=True,
            )
        liar.cluster.run(liar.env.timeout(20 * NS_PER_S))
        print("at rest, MiB:", {name: size >> 20 for name, size in liar.memory().items()})
        print("messages received:", liar.received())
    finally:
        liar.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

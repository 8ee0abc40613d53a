"""A peer that lies: valid requests, recorded, then changed and sent again as if by their client.

As a program: `python tests/nodes/hostile.py SEED COUNT` sends that many, and says what came of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from struct import pack_into, unpack_from
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.payload import tobytes
from labsim.base.units import NS_PER_S
from labsim.net import frame
from labsim.net.lnet import PUT, Packet
from labsim.net.ptlrpc import State
from labsim.scenario.cluster import Cluster
from labsim.wire.message import Message

HEADER = ((0, "<I"), (4, "<I"), (8, "<I"), (12, "<I"), (16, "<I"), (20, "<I"), (32, "<I"))
"""lustre_msg_v2: bufcount, secflvr, magic, repsize, cksum, flags, the first length."""
BODY = (
    (0, "<Q"), (8, "<I"), (12, "<I"), (16, "<I"), (20, "<I"), (24, "<Q"), (32, "<H"), (40, "<Q"),
    (48, "<Q"), (56, "<I"), (60, "<I"), (64, "<I"), (68, "<I"), (112, "<Q"),
)  # fmt: skip
"""ptlrpc_body: handle, type, version, opc, status, last_xid, tag, last_committed, transno, flags,
op_flags, conn_cnt, timeout, mbits."""
RESTING = (State.FULL, State.DISCON, State.IDLE)
"""Where an import is after a long time, whatever was sent in its name."""
ODD = (0, 1, 2, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)


class Mutator:
    """A client's wire, in the hands of somebody who means harm.

    `client` is a node that runs in this process, and `run` runs its environment.
    """

    def __init__(self, rng: Random, client: Any, run: Callable[[Any], Any]) -> None:
        self.rng = rng
        self.client = client
        self.lnet = client.host.lnet
        self.frames: list[tuple[Packet, bytes]] = []
        self.xid = 1 << 60
        self.sent = 0
        self.lnet.taps.append(self._record)
        run(self._tour())
        self.lnet.taps.clear()

    def _record(self, packet: Packet) -> None:
        message = packet.payload
        if packet.kind == PUT and isinstance(message, Message) and message.request:
            self.frames.append((packet, tobytes(frame.encode(packet)[1])))

    def _tour(self) -> Any:
        """A bit of everything that a client sends."""
        vfs = self.client.vfs
        yield from vfs.mkdir("d")
        file = yield from vfs.open("d/f", 0o102, 0o644)
        yield from vfs.write(file, b"x" * 100, 0)
        yield from vfs.write(file, b"y" * 100_000, 0)
        yield from vfs.read(file, 100_000, 0)
        yield from vfs.read(file, 100, 0)
        yield from vfs.fsync(file)
        yield from vfs.close(file)
        yield from vfs.truncate("d/f", 10)
        yield from vfs.setxattr("d/f", "user.a", b"value", 0)
        yield from vfs.getxattr("d/f", "user.a")
        yield from vfs.listxattr("d/f")
        yield from vfs.chmod("d/f", 0o600)
        yield from vfs.utimens("d/f", 1, 2)
        yield from vfs.link("d/f", "d/g")
        yield from vfs.rename("d/g", "d/h")
        yield from vfs.symlink("f", "d/s")
        yield from vfs.readlink("d/s")
        yield from vfs.readdir("d")
        yield from vfs.unlink("d/h")
        yield from vfs.statfs(".")
        yield from vfs.stat("d/f")

    # ---- lying

    def lie(self) -> Packet:
        """One changed request; who calls sends it."""
        rng = self.rng
        packet, raw = rng.choice(self.frames)
        data = bytearray(raw)
        at = 32 + (4 * unpack_from("<I", data, 0)[0] + 7 & ~7)
        for imp in self.imports():
            if imp.peer == packet.dst and unpack_from("<Q", data, at)[0]:
                pack_into("<Q", data, at, imp.handle)
                pack_into("<I", data, at + 64, imp.conn_cnt)
        match, portal = packet.match, packet.portal
        if rng.random() < 0.9:
            self.xid += 16
            match = self.xid
        if rng.random() < 0.03:
            portal = rng.randrange(34)
        self._change(data, at)
        self.sent += 1
        return packet._replace(payload=bytes(data), length=len(data), match=match, portal=portal)

    def imports(self) -> list[Any]:
        return [self.client.mdcs[0].imp, *(osc.imp for osc in self.client.oscs.values())]

    def _change(self, data: bytearray, at: int) -> None:
        rng = self.rng
        kind = rng.randrange(12)
        if kind == 0:
            self._set(data, 0, rng.choice(HEADER))
        elif kind <= 2:
            self._set(data, at, rng.choice(BODY))
        elif kind == 3:
            del data[rng.randrange(len(data)) :]
        elif kind == 4:
            data += rng.randbytes(rng.randrange(1, 64))
        elif kind <= 8:
            for _ in range(rng.choice((1, 1, 2, 8))):
                where = rng.randrange(at + 184, max(len(data), at + 185))
                if where < len(data):
                    data[where] = rng.randrange(256)
        elif kind <= 10:
            where = rng.randrange(at + 184, max(len(data), at + 185)) & ~7
            if where + 8 <= len(data):
                pack_into("<Q", data, where, rng.choice(ODD))
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)

    def _set(self, data: bytearray, base: int, field: tuple[int, str]) -> None:
        offset, code = field
        limit = {"<I": 32, "<Q": 64, "<H": 16}[code]
        value = self.rng.choice((*ODD, self.rng.getrandbits(limit))) & (1 << limit) - 1
        pack_into(code, data, base + offset, value)

    def revive(self) -> Any:
        """Have the liar's own node come back from what was done to it."""
        try:
            yield from self.client.vfs.statfs(".")
            yield from self.client.vfs.stat("d/f")
        except LustreError:
            return


class Liar:
    """Client c0 of a simulated cluster is a liar, c1 is honest."""

    def __init__(self, seed: int) -> None:
        self.cluster = Cluster(clients=2, oss=1, osts=2, seed=seed, trace_keep=0)
        self.cluster.__enter__()
        self.env = self.cluster.env
        self.honest = self.cluster.node("c1").machine.node
        self.lies = Mutator(Random(seed), self.cluster.node("c0").machine.node, self.run)
        for name in ("mds0", "oss0"):
            self.cluster.node(name).machine.lnet.taps.append(_made_into_bytes)
        self.works = 0
        self.good = 0
        """Of the honest client's works those that found what was expected: a changed request may
        well name another file or object, and who is a client may write to it."""

    def run(self, steps: Any) -> Any:
        return self.cluster.run(steps)

    def close(self) -> None:
        self.cluster.__exit__(None, None, None)

    def lie(self) -> None:
        """Send one changed request."""
        lied = self.lies.lie()
        if self.lies.lnet.lnd is not None:
            self.lies.lnet.lnd.send(lied)

    def check(self) -> None:
        """The honest client works; the liar's own node comes back from what was done to it."""
        number = self.works = self.works + 1

        def work() -> Any:
            vfs = self.honest.vfs
            name = f"own{number % 50}"
            try:
                file = yield from vfs.open(name, 0o1102, 0o644)
                yield from vfs.write(file, b"%d" % number, 0)
                yield from vfs.close(file)
                return (yield from vfs.stat(name)).size == len(b"%d" % number)
            except LustreError:
                return False

        done = self.env.process(work())
        self.run(self.env.any_of([done, self.env.timeout(2000 * NS_PER_S)]))
        assert done.triggered, "the honest client hangs"
        self.good += done.value
        self.env.process(self.lies.revive())
        self.run(self.env.timeout(NS_PER_S))

    def left_behind(self) -> dict[str, int]:
        """After everything has timed out: requests that still run, by service; none."""
        self.run(self.env.timeout(1500 * NS_PER_S))
        found = {}
        for name in ("mds0", "oss0"):
            node = self.cluster.node(name).machine.node
            for service in node.services:
                if service.busy or service.queued:
                    found[f"{name} {service.name}"] = service.busy + service.queued
        return found


def _made_into_bytes(packet: Packet) -> None:
    """What a server says to a liar fits its message: a simulation alone would not try."""
    if isinstance(packet.payload, Message):
        frame.encode(packet)


def storm(seed: int, count: int, every: int = 50) -> Liar:
    """`count` lies, and a check after each `every`."""
    liar = Liar(seed)
    try:
        while liar.lies.sent < count:
            for _ in range(every):
                liar.lie()
            liar.check()
        assert liar.left_behind() == {}
        assert liar.good > liar.works * 0.8, f"{liar.good} of {liar.works}"
        assert all(imp.state in RESTING for imp in liar.lies.imports())
    finally:
        liar.close()
    return liar


if __name__ == "__main__":
    done = storm(int(sys.argv[1]), int(sys.argv[2]))
    print(
        f"{done.lies.sent} lies, {done.good} of {done.works} works done:"
        " nothing died, nothing is left"
    )

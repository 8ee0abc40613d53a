"""Real processes: killed in the middle of things, sent nonsense, and filled up.

Single nodes, signals and what is left behind are in `tests/net/test_lnd_zmq.py` and
`tests/scenario/test_cluster_live.py`; verdicts are compared in `tests/test_scenarios.py`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zmq

from labsim.base.ids import Nid
from labsim.base.payload import tobytes
from labsim.base.units import MIB, NS_PER_MS, NS_PER_S
from labsim.net import frame
from labsim.net.lnet import LNET_MTU, PUT, Packet
from labsim.scenario import checkers
from labsim.scenario.cluster import Cluster
from labsim.scenario.steps.context import Result

pytestmark = pytest.mark.live

NAMES = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a"]
STRANGER = Nid.parse("10.9.9.9@tcp")


@pytest.fixture(scope="module")
def live() -> Iterator[Cluster]:
    with Cluster(clients=2, oss=2, osts=2, runtime="live") as cluster:
        yield cluster


def ok(result: Result) -> str:
    assert result.status == 0, result.output
    return result.stdout


def wait(cluster: Cluster, ns: int) -> None:
    cluster.run(cluster.env.timeout(ns))


def settled(cluster: Cluster) -> list[str]:
    """What does not hold once a cluster has had time to come to rest."""
    broken: list[str] = []
    for _ in range(60):
        broken = checkers.check([cluster.run(cluster.snapshots())])
        if not broken:
            break
        wait(cluster, NS_PER_S)
    return broken


# ---- the same as simulated


def program(seed: int, length: int) -> list[tuple[int, str]]:
    """Random command lines, and the client that each is for."""
    rng = Random(seed)
    lines = []
    for _ in range(length):
        one, two = (f"w/{rng.choice(NAMES)}" for _ in range(2))
        some = [
            f"mkdir {one}",
            f"rmdir {one}",
            f"rm {one}",
            f"mv {one} {two}",
            f"ln {one} {two}",
            f"ln -s {two} {one}",
            f"echo {rng.randrange(10**9)} > {one}",
            f"cp {one} {two}",
            f"dd if=/dev/zero of={one} bs={rng.randrange(1, 70000)} count={rng.randrange(1, 9)}"
            f" seek={rng.randrange(5)} conv=notrunc status=none",
            f"truncate -s {rng.randrange(300_000)} {one}",
            f"cat {one}",
            f"chmod {rng.choice(('644', '755', 'u+x', '600'))} {one}",
            f"setfattr -n user.{rng.choice('xy')} -v {rng.randrange(999)} {one}",
            f"getfattr -d {one}",
            f"setfattr -x user.x {one}",
            f"stat -c '%F %a %h %s' {one}",
            f"lfs setstripe -c {rng.randrange(1, 3)} -S 64k {one}",
            f"ls {one}",
            f"sys readlink {one}",
        ]
        lines.append((rng.randrange(2), rng.choice(some)))
    return lines


def perform(cluster: Cluster, lines: list[tuple[int, str]]) -> list[Any]:
    found: list[Any] = []
    for client, line in lines:
        result = cluster.client(client).run(line)
        found.append((client, line, result.status, result.errno_name, result.chunks))
    result = cluster.client(1).run("ls -R w")
    found.append((1, "ls -R w", result.status, result.chunks))
    names = [f"w/{name}" for name in NAMES]
    for line in (
        f"stat -c '%n %F %a %u:%g %h %s' {' '.join(names)}",
        *map("getfattr -d {}".format, names),
    ):
        result = cluster.client(1).run(line)
        found.append((1, line, result.status, result.chunks))
    return found


def test_a_program_does_the_same_live_as_simulated(live: Cluster) -> None:
    """200 random commands on two clients: status, errno and every byte of output."""
    lines = [(0, "mkdir w"), (1, "mkdir w/d"), *program(11, 200)]
    with Cluster(clients=2, oss=2, osts=2) as simulated:
        expected = perform(simulated, lines)
    assert sum(1 for one in expected if one[2] == 0) > 60
    for mine, theirs in zip(perform(live, lines), expected, strict=True):
        assert mine == theirs
    assert settled(live) == []


# ---- what listens


def test_what_listens_is_private(live: Cluster) -> None:
    directory = Path(live._room.directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    sockets = [entry for entry in directory.rglob("*") if entry.is_socket()]
    assert len(sockets) >= len(live.nodes)
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in sockets} == {0o600}
    assert {entry.stat().st_uid for entry in sockets} == {os.getuid()}
    for endpoint in live._room.endpoints.values():
        assert endpoint.startswith("ipc://")


# ---- nonsense on a socket


def recorded() -> list[tuple[str, bytes]]:
    """(node, message) of everything that clients ask servers in a small simulated run."""
    found: list[tuple[str, bytes]] = []
    with Cluster(clients=1, oss=1, osts=1) as cluster:

        def tap(name: str) -> Any:
            def record(packet: Packet) -> None:
                if packet.kind == PUT and packet.dst == cluster._nids[name]:
                    found.append((name, tobytes(frame.encode(packet)[1])))

            return record

        for name in ("mds0", "oss0"):
            cluster.node(name).machine.lnet.taps.append(tap(name))
        for line in (
            "mkdir d", "echo x > d/f", "cat d/f", "setfattr -n user.a -v 1 d/f", "getfattr -d d/f",
            "ln d/f d/g", "mv d/f d/h", "ls -l d", "truncate -s 5 d/g", "chmod 600 d/g", "df",
            "rm -r d", "sync",
        ):  # fmt: skip
            cluster.client(0).run(line)
        cluster.run(cluster.client(0).umount())
    return found


class Stranger:
    """A process on this machine that may open the sockets and says what it likes."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.context = zmq.Context()
        self.sockets: dict[str, Any] = {}

    def say(self, node: str, *parts: bytes) -> None:
        socket = self.sockets.get(node)
        if socket is None:
            socket = self.sockets[node] = self.context.socket(zmq.DEALER)
            socket.linger = 2000
            socket.setsockopt(zmq.ROUTING_ID, str(STRANGER).encode())
            socket.connect(self.cluster._room.endpoints[self.cluster._nids[node]])
        socket.send_multipart(parts)

    def packet(self, node: str, portal: int, payload: bytes, **changes: Any) -> bytes:
        """A header that fits the payload, unless `changes` says otherwise."""
        dst = self.cluster._nids[node]
        packet = Packet(PUT, STRANGER, dst, portal, 16, 0, payload, len(payload))
        return frame.encode_header(packet._replace(**changes))

    def close(self) -> None:
        for socket in self.sockets.values():
            socket.close()
        self.context.term()


@pytest.fixture
def stranger(live: Cluster) -> Iterator[Stranger]:
    made = Stranger(live)
    yield made
    made.close()


PORTALS = {"mds0": (12, 23, 17), "oss0": (28, 6, 17)}


def refusals(cluster: Cluster, node: str) -> int:
    seen = cluster.run(cluster.node(node).snapshot())
    return int(seen["refused"] + seen["lnet"]["refused"])


def test_broken_frames_are_refused_counted_and_logged(live: Cluster, stranger: Stranger) -> None:
    for node in ("mds0", "oss0"):
        before = refusals(live, node)
        head = stranger.packet(node, 12, b"x" * 100)
        nonsense = [
            (b"",),
            (b"\0" * 10,),
            (head,),
            (head + b"x" * 99,),
            (head + b"x" * 101,),
            (stranger.packet(node, 12, b"", length=LNET_MTU + 1), b"x" * 100),
            (stranger.packet(node, 99, b""),),
            (stranger.packet(node, 12, b"", src=live._nids["c0"]),),
            (b"GET / HTTP/1.1\r\n\r\n",),
        ]
        for parts in nonsense:
            stranger.say(node, *parts)
        for _ in range(100):
            if refusals(live, node) >= before + len(nonsense):
                break
            wait(live, 20 * NS_PER_MS)
        assert refusals(live, node) == before + len(nonsense)
        assert live.node(node).log().count("refused: ") >= len(nonsense)
    assert ok(live.client(0).run("lfs df")).count("[OST:") == 2


def test_random_messages_harm_nobody(live: Cluster, stranger: Stranger) -> None:
    """Real requests with bytes changed, cut off or added, while a client goes on working."""
    rng = Random(5)
    messages = recorded()
    before = {node: refusals(live, node) for node in PORTALS}
    ok(live.client(0).run("mkdir honest"))
    for number in range(600):
        node, message = rng.choice(messages)
        data = bytearray(message)
        for _ in range(rng.choice((0, 1, 1, 2, 8))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        way = rng.random()
        if way < 0.2:
            del data[rng.randrange(len(data)) :]
        elif way < 0.3:
            data += rng.randbytes(rng.randrange(64))
        elif way < 0.4:
            data[:] = rng.randbytes(len(data))
        header = stranger.packet(node, rng.choice(PORTALS[node]), bytes(data))
        stranger.say(node, header + bytes(data))
        if number % 100 == 0:
            ok(live.client(0).run(f"echo {number} > honest/{number}"))
    for number in range(0, 600, 100):
        assert ok(live.client(1).run(f"cat honest/{number}")) == f"{number}\n"
    for node in PORTALS:
        assert refusals(live, node) > before[node]
    ok(live.client(0).run("rm -r honest"))


# ---- kill -9


def fingerprint(cluster: Cluster, folder: str) -> dict[str, str]:
    names = ok(cluster.client(1).run(f"ls {folder}")).split()
    return {name: ok(cluster.client(1).run(f"cat {folder}/{name}")) for name in names}


@pytest.mark.parametrize("victim", ["oss0", "mds0"])
def test_kill_9_loses_nothing_that_was_synced(victim: str) -> None:
    """Killed in the middle of writing, twice over."""
    quick = {"timeout": "4", "at_min": "1", "at_max": "4"}
    with Cluster(clients=2, oss=1, osts=2, runtime="live", params=quick) as cluster:
        c0 = cluster.client(0)
        ok(c0.run("mkdir kept"))
        ok(c0.run("lfs setstripe -c 2 -S 64k kept"))
        synced: dict[str, str] = {}
        for turn in range(2):
            for number in range(5):
                text = f"{turn}-{number} " * 30_000
                ok(c0.run(f"echo '{text}' > kept/{turn}.{number}"))
                synced[f"{turn}.{number}"] = text + "\n"
            ok(c0.run("sync"))
            if victim == "oss0":
                busy = c0.command(f"dd if=/dev/zero of=big{turn} bs=1M count=400")
            else:
                busy = c0.command(f"createmany -o lost{turn}- 4000")
            wait(cluster, 150 * NS_PER_MS)
            cluster.run(cluster.node(victim).kill())
            cluster.run(cluster.node(victim).start())
            result: Result = cluster.run(busy)
            assert result.status in (0, 1), result
            if result.status:
                assert result.errno_name in {"EIO", "ENOENT", "ESTALE"}, result
            for _ in range(60):
                if not cluster.client(1).run("ls kept").status:
                    break
                wait(cluster, NS_PER_S)
            for name in ("c0", "c1"):
                for _ in range(60):
                    if not cluster.node(name).run(f"cat kept/{turn}.0").status:
                        break
                    wait(cluster, NS_PER_S)
            assert fingerprint(cluster, "kept") == synced
        assert ok(c0.run("echo after > kept/after")) == ""
        assert ok(cluster.client(1).run("cat kept/after")) == "after\n"


# ---- full


def test_a_full_ost_says_enospc_and_can_be_emptied() -> None:
    with Cluster(clients=2, oss=1, osts=1, runtime="live", capacity=48 * MIB) as cluster:
        c0, c1 = cluster.client(0), cluster.client(1)
        ok(c0.run("echo precious > precious"))
        written = 0
        for number in range(60):
            result = c0.run(f"dd if=/dev/zero of=f{number} bs=1M count=1 status=none")
            if result.status:
                break
            written += 1
        assert result.errno_name == "ENOSPC", result
        assert 20 < written < 60
        again = c1.run("dd if=/dev/zero of=g bs=1M count=9 status=none")
        assert again.errno_name == "ENOSPC"
        assert ok(c1.run("cat precious")) == "precious\n"
        for number in range(written):
            assert ok(c1.run(f"stat -c %s f{number}")) == f"{MIB}\n"
            if number % 5 == 0:
                assert ok(c1.run(f"cat f{number}")) == "\0" * MIB
        ok(c1.run("rm " + " ".join(f"f{number}" for number in range(written))))
        ok(c0.run("sync"))
        for _ in range(60):
            if not c0.run("dd if=/dev/zero of=later bs=1M count=9 status=none").status:
                break
            wait(cluster, NS_PER_S)
        assert ok(c1.run("stat -c %s later")) == f"{9 * MIB}\n"
        assert ok(c0.run("cat precious")) == "precious\n"


def test_a_full_mdt_says_enospc_and_can_be_emptied() -> None:
    with Cluster(clients=1, oss=1, osts=1, runtime="live", capacity=2 * MIB) as cluster:
        c0 = cluster.client(0)
        ok(c0.run("mkdir d"))
        result = c0.run("createmany -m d/f 20000")
        assert result.errno_name == "ENOSPC", result
        made = len(ok(c0.run("ls d")).split())
        assert made > 100
        assert c0.run("mkdir more").errno_name == "ENOSPC"
        ok(c0.run(f"unlinkmany d/f {made}"))
        ok(c0.run("sync"))
        ok(c0.run("mkdir more"))
        ok(c0.run("createmany -m more/f 50"))
        assert settled(cluster) == []

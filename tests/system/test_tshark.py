"""Captures, read by Wireshark's dissector, which was written without us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labsim.base.ids import Nid
from labsim.base.payload import Payload
from labsim.base.units import NS_PER_S
from labsim.net import frame
from labsim.net.lnet import Packet
from labsim.scenario import kits, load, runner
from labsim.scenario.cluster import Cluster
from labsim.wire.message import Message

from . import specimens
from .tshark import (
    DEFECTS,
    Rpc,
    complaints,
    needs_tshark,
    oddities,
    rpcs,
    unexplained,
)

pytestmark = needs_tshark

SCENARIOS = {load.load(path).name: path for path in load.everything()}
RUNS = [(name, tree) for name in SCENARIOS for tree in kits.around(load.load(SCENARIOS[name]))]

TOUR = """
    touch f; mkdir -p d/e; ln f hard; ln -s f soft; ls -l; stat f; chmod 600 f; chown 1000:1000 f
    dd if=/dev/zero of=g bs=1M count=3; dd if=g of=/dev/null bs=1M; truncate -s 100 g; cat g
    setfattr -n user.a -v 1 f; setfattr -n user.a -v 2 f; getfattr -d f; setfattr -x user.a f
    mv f h; mv h d/f; rmdir d/e; rm g; df; lfs df; sync; lfs setstripe -c 2 s; lfs getstripe d/f
    cat nosuch; setfattr -n trusted.x -v 1 d; createmany -o x%d 5; unlinkmany x%d 5
"""
"""What makes a client send most kinds of RPCs that there are."""


class Log:
    """The requests and replies that a simulated cluster says it has sent."""

    def __init__(self, cluster: Cluster) -> None:
        self.rpcs: list[Rpc] = []
        self._addresses = {node.name: _address(node.spec.nid) for node in cluster.nodes.values()}
        cluster.trace.listeners.append(self._heard)

    def _heard(self, event: Any) -> None:
        if event.kind in ("rpc.send", "rpc.reply", "rpc.early"):
            opcode, xid, peer = event.fields[:3]
            here, there = self._addresses[event.node], Nid(peer).address
            if here != there:
                self.rpcs.append(Rpc(here, there, event.kind == "rpc.send", opcode, xid))


def _address(nid: str) -> str:
    return Nid.parse(nid).address


@pytest.fixture(autouse=True)
def decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message that a simulation captures is decoded again, and must be what was sent."""
    encode = frame.encode

    def checked(packet: Packet) -> tuple[bytes, Payload]:
        header, raw = encode(packet)
        if isinstance(packet.payload, Message):
            sent = packet.payload
            again = Message.decode(raw, sent.request, sent.fmt)
            assert again == sent
            assert again.encode() == raw
            assert sent.wire_size == len(raw)
        return header, raw

    monkeypatch.setattr(frame, "encode", checked)


def check(path: Path, log: Log) -> None:
    assert rpcs(path) == log.rpcs
    assert unexplained(path) == []


@pytest.mark.parametrize(("name", "tree"), RUNS)
def test_a_scenario_reads_as_it_was_sent(name: str, tree: str, tmp_path: Path) -> None:
    path = tmp_path / "run.pcap"
    scenario = load.load(SCENARIOS[name])
    cluster = runner.cluster_of(scenario, tree, pcap=str(path))
    log = Log(cluster)
    with cluster:
        cluster.run(runner.Runner(cluster, scenario, runner.Listener()).everything())
    check(path, log)


def tour(cluster: Cluster) -> None:
    """Two clients do everything, get in each other's way, wait for pings, leave and come back."""
    for command in TOUR.replace("\n", ";").split(";"):
        for client in (0, 1):
            cluster.client(client).run(command.strip() or "true")
    cluster.run(cluster.env.timeout(60 * NS_PER_S))
    cluster.run(cluster.client(0).umount())
    cluster.run(cluster.client(0).mount())


def test_everything_that_a_client_does_reads_as_it_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "tour.pcap"
    cluster = Cluster(clients=2, oss=2, osts=4, pcap=str(path))
    log = Log(cluster)
    with cluster:
        tour(cluster)
    check(path, log)
    assert oddities(path) == set()
    assert len({rpc.opcode for rpc in log.rpcs}) > 25


def test_what_is_lost_and_sent_again_reads_as_it_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "lost.pcap"
    cluster = Cluster(clients=1, oss=1, osts=1, pcap=str(path))
    log = Log(cluster)
    with cluster:
        client = cluster.client()
        for action in ("drop", "delay"):
            rule = cluster.rule(action, action, dst=["mds0"], count=2, delay_ns=40 * NS_PER_S)
            cluster.run(cluster.net(rule))
            client.run(f"touch {action}")
        cluster.run(cluster.heal())
        cluster.run(cluster.node("mds0").kill())
        cluster.run(cluster.node("mds0").start())
        client.run("touch again")
        cluster.run(cluster.env.timeout(300 * NS_PER_S))
    check(path, log)
    assert oddities(path) == set()
    assert len(set(log.rpcs)) < len(log.rpcs)


@pytest.mark.live
def test_a_live_cluster_sends_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "live.pcap"
    with Cluster(clients=2, oss=1, osts=2, runtime="live", pcap=str(path)) as cluster:
        for command in TOUR.replace("\n", ";").split(";"):
            cluster.client(0).run(command.strip() or "true")
        cluster.run(cluster.node("oss0").kill())
        cluster.run(cluster.node("oss0").start())
        cluster.client(1).run("cat s")
    assert unexplained(path) == []
    assert len({rpc.opcode for rpc in rpcs(path)}) > 20
    assert oddities(path) == set()


def test_every_format_reads_well_but_for_the_known_defects(tmp_path: Path) -> None:
    path = tmp_path / "specimens.pcap"
    names = specimens.write(path)
    assert len(rpcs(path)) == 2 * len(names) - 1, "all but OUT_UPDATE's request are read"
    assert unexplained(path) == []


def test_every_known_defect_is_there(tmp_path: Path) -> None:
    path = tmp_path / "specimens.pcap"
    specimens.write(path)
    met = {
        one
        for _, what, text in complaints(path)
        for one in DEFECTS
        if what == one.what and one.shows in text
    }
    assert set(DEFECTS) - met == set()


@pytest.mark.parametrize(
    ("name", "shows"),
    [
        ("cut off", "Malformed Packet (Exception occurred)"),
        ("short names", "Capture:"),
        ("reply without request", "Mismatched"),
        ("no such opcode", "BAD OPCODE"),
    ],
)
def test_what_is_wrong_is_found(name: str, shows: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.pcap"
    specimens.write_wrong(path, name)
    assert any(shows in text for text in unexplained(path)), unexplained(path)

"""Captures, read by Wireshark's dissector, which was written without us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labsim.base.ids import Nid
from labsim.scenario import kits, load, runner
from labsim.scenario.cluster import Cluster

from .tshark import Rpc, needs_tshark, rpcs, unexplained

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
        if event.kind in ("rpc.send", "rpc.reply"):
            opcode, xid, peer = event.fields[:3]
            here, there = self._addresses[event.node], Nid(peer).address
            if here != there:
                self.rpcs.append(Rpc(here, there, event.kind == "rpc.send", opcode, xid))


def _address(nid: str) -> str:
    return Nid.parse(nid).address


def check(path: Path, log: Log) -> None:
    assert rpcs(path) == log.rpcs
    assert unexplained(path) == []


@pytest.mark.parametrize(("name", "tree"), RUNS)
def test_a_scenario_reads_as_it_was_sent(name: str, tree: str, tmp_path: Path) -> None:
    path = tmp_path / "run.pcap"
    scenario = load.load(SCENARIOS[name])
    with runner.cluster_of(scenario, tree, pcap=str(path)) as cluster:
        log = Log(cluster)
        cluster.run(runner.Runner(cluster, scenario, runner.Listener()).everything())
    check(path, log)

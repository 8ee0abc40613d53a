"""Imperative recovery on the MGS: states, what the file says, and what servers are told."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.nodes.mgs.imperative import Imperative
from labsim.nodes.mgs.nidtbl import NidTable
from labsim.scenario.cluster import Cluster

S = 10**9


def test_a_young_mgs_becomes_full_or_partial() -> None:
    one, other = Imperative(NidTable(), True), Imperative(NidTable(), True)
    one.graduate(young=True)
    assert one.state == "startup"
    other.attach(7)
    for system in (one, other):
        system.graduate(young=False)
    assert (one.state, other.state) == ("full", "partial")


def test_a_client_that_does_not_follow_the_table_makes_it_partial_while_it_stays() -> None:
    system = Imperative(NidTable(), False)
    system.attach(7)
    system.attach(8)
    system.command("state=full")
    assert system.state == "partial"
    system.detach(7)
    system.detach(8)
    assert system.state == "full"


def test_commands() -> None:
    system = Imperative(NidTable(), False)
    system.told(1_500_000_000)
    system.told(500_000_000)
    assert "notify_duration_total: 2.000000\n    notify_duation_max: 1.500000" in system.text()
    system.command("state=disabled;0\n")
    assert system.state == "disabled"
    assert "notify_count: 0" in system.text()
    for bad in ("state=on", "timeout=3", ""):
        with pytest.raises(LustreError) as raised:
            system.command(bad)
        assert raised.value.name == "EINVAL"


def said(cluster: Cluster, node: str, line: str) -> str:
    result = cluster.node(node).run(line)
    assert result.status == 0, result
    text: str = result.stdout
    return text


def test_the_state_of_a_file_system_and_the_recovery_window() -> None:
    with Cluster(clients=1) as cluster:
        assert "state: startup" in said(cluster, "mgs", "lctl get_param -n mgs.MGS.live.lustre")
        assert said(cluster, "mgs", "lctl get_param -n mgs.MGS.ir_timeout") == "400\n"
        assert window(cluster) == "300\n"
        said(cluster, "mgs", "lctl set_param -n mgs.MGS.ir_timeout=10")
        cluster.run(cluster.env.timeout(11 * S))
        assert "state: full" in said(cluster, "mgs", "lctl get_param -n mgs.MGS.live.lustre")
        assert window(cluster) == "150\n"
        ofd(cluster).store_ir_factor("10")
        refused = cluster.node("oss0").run("lctl set_param obdfilter.*.ir_factor=11")
        assert refused.errno_name == "EINVAL"


def ofd(cluster: Cluster) -> Any:
    return cluster.node("oss0").machine.node.targets[0]  # type: ignore[attr-defined]


def window(cluster: Cluster) -> str:
    """The soft limit of an OST that has just lost its power."""
    cluster.run(cluster.node("oss0").kill())
    cluster.run(cluster.node("oss0").start())
    shown = said(cluster, "oss0", "lctl get_param -n obdfilter.*.recovery_time_soft")
    cluster.run(cluster.env.timeout(60 * S))
    return shown


def test_a_client_without_imperative_recovery_is_counted() -> None:
    with Cluster(clients=1, mount=[False]) as cluster:
        client = cluster.client(0)
        mgs = cluster.node("mgs").machine.node.target  # type: ignore[attr-defined]
        mgs.supported &= ~(1 << 40)  # OBD_CONNECT_IMP_RECOV: as if no client asked for it
        said(cluster, "mgs", "lctl set_param -n mgs.MGS.live.lustre=state=full")
        cluster.run(client.start())
        live = said(cluster, "mgs", "lctl get_param -n mgs.MGS.live.lustre")
        assert "state: partial\n    nonir_clients: 1" in live
        told = said(cluster, "c0", "lctl get_param mgc.*.ir_state")
        assert "imperative_recovery: DISABLED" in told
        cluster.run(client.stop())
        live = said(cluster, "mgs", "lctl get_param -n mgs.MGS.live.lustre")
        assert "state: full\n    nonir_clients: 0" in live

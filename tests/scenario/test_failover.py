"""Targets that move between servers, simulated and live: what moves with them, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labsim.base.errors import InputError, LustreError
from labsim.scenario.cluster import Cluster

S = 10**9


@pytest.fixture(params=["sim", "live"])
def cluster(request: Any) -> Iterator[Cluster]:
    with Cluster(
        clients=2, oss=2, osts=4, failover="pairs", runtime=request.param,
        mgc_requeue_timeout_min=0,
    ) as made:  # fmt: skip
        yield made


@pytest.fixture
def sim() -> Iterator[Cluster]:
    with Cluster(clients=2, oss=2, failover="pairs", mgc_requeue_timeout_min=0) as made:
        yield made


def said(cluster: Cluster, node: str, line: str) -> str:
    result = cluster.node(node).run(line)
    assert result.status == 0, result
    text: str = result.stdout
    return text


def served(cluster: Cluster, node: str) -> list[str]:
    """The targets that a server has mounted."""
    kinds = ("obdfilter", "mdt")
    lines = said(cluster, node, "lctl dl").splitlines()
    return sorted(line.split()[3][-7:] for line in lines if line.split()[2] in kinds)


def test_targets_go_to_the_partner_and_back_with_their_data(cluster: Cluster) -> None:
    said(cluster, "c0", "lfs setstripe -c 4 f")
    said(cluster, "c0", "dd if=/dev/urandom of=f bs=1M count=4 status=none")
    before = said(cluster, "c1", "dd if=f bs=1M count=4 status=none")
    cluster.run(cluster.fail_over("oss0", "oss1"))
    assert served(cluster, "oss1") == ["OST0000", "OST0001", "OST0002", "OST0003"]
    assert served(cluster, "oss0") == []
    assert said(cluster, "c1", "dd if=f bs=1M count=4 status=none") == before
    cluster.run(cluster.node("oss0").kill())
    cluster.run(cluster.node("oss0").start())
    assert served(cluster, "oss0") == [], "it starts without what its partner has"
    cluster.run(cluster.fail_back("oss0"))
    assert served(cluster, "oss0") == ["OST0000", "OST0002"]
    assert said(cluster, "c0", "dd if=f bs=1M count=4 status=none") == before


def test_the_mdt_of_a_server_without_power_starts_on_the_spare(cluster: Cluster) -> None:
    assert served(cluster, "mds1") == []
    said(cluster, "c0", "mkdir d")
    cluster.run(cluster.node("mds0").kill())
    cluster.run(cluster.fail_over("mds0", "mds1"))
    assert served(cluster, "mds1") == ["MDT0000"]
    said(cluster, "c1", "touch d/f")
    assert said(cluster, "c0", "ls d") == "f\n"
    cluster.run(cluster.fail_back("mds0"))
    assert (served(cluster, "mds0"), served(cluster, "mds1")) == (["MDT0000"], [])
    said(cluster, "c0", "rm d/f")


def test_a_disk_is_never_in_two_machines(cluster: Cluster) -> None:
    """mmp: who does not answer may still write; its power has to go first."""
    info = cluster.node("oss0").spec.targets[0]
    with pytest.raises(LustreError) as raised:
        cluster.run(cluster.node("oss1").add_target(info))
    assert raised.value.name == "EBUSY"
    assert served(cluster, "oss1") == ["OST0001", "OST0003"]
    cluster.run(cluster.node("oss0").stop())
    with pytest.raises(LustreError):
        cluster.run(cluster.node("oss1").add_target(info))
    cluster.run(cluster.node("oss0").kill())
    cluster.run(cluster.fail_over("oss0", "oss1", [info.name]))
    assert served(cluster, "oss1") == ["OST0000", "OST0001", "OST0003"]


@pytest.mark.parametrize("kind", ["pairs", "service"])
def test_a_target_starts_first_on_its_own_node_unless_it_has_service_nodes(kind: Any) -> None:
    """The MGS refuses a --failnode that comes first; with --servicenode none of them does."""
    with Cluster(clients=1, oss=2, failover=kind, mgc_requeue_timeout_min=0) as made:
        info = made.topology.next_ost(made.node("oss0").spec)
        assert info.failover == (("10.0.2.2@tcp",) if kind == "pairs" else
                                 ("10.0.2.1@tcp", "10.0.2.2@tcp"))  # fmt: skip
        if kind == "pairs":
            with pytest.raises(LustreError, match="EADDRNOTAVAIL"):
                made.run(made.node("oss1").add_target(info))
            return
        made.run(made.node("oss1").add_target(info))
        log = said(made, "mgs", "lctl llog_print lustre-client")
        mine = [line for line in log.splitlines() if "OST0002-osc" in line and "add_conn" in line]
        assert [line.partition("node: ")[2].split(" ")[0] for line in mine] == [
            "10.0.2.1@tcp", "10.0.2.2@tcp"]  # fmt: skip
        made.run(made.env.timeout(5 * S))
        shown = said(made, "c0", "lctl get_param -n osc.*OST0002*.import")
        assert "failover_nids: [ 10.0.2.2@tcp, 10.0.2.1@tcp ]" in shown
        assert "state: FULL" in shown
        made.run(made.fail_over("oss0", "oss1"))
        assert served(made, "oss1") == ["OST0000", "OST0001", "OST0002"]


def test_what_may_not_be(sim: Cluster) -> None:
    with pytest.raises(InputError, match="no partner"):
        sim.run(sim.fail_over("oss0", "mds0"))
    sim.run(sim.node("oss1").stop())
    with pytest.raises(LustreError) as raised:
        sim.run(sim.fail_over("oss0", "oss1"))
    assert raised.value.name == "EHOSTDOWN"
    assert served(sim, "oss0") == ["OST0000"], "nothing has happened"
    with Cluster(clients=0, oss=2) as alone, pytest.raises(InputError, match="no partner"):
        alone.run(alone.fail_over("oss0", "oss1"))
    with pytest.raises(InputError, match="no kind of failover"):
        Cluster(failover="triples")  # type: ignore[arg-type]


def test_a_target_that_leaves_takes_its_files_along(sim: Cluster) -> None:
    names = said(sim, "mds0", "lctl list_param -R *")
    assert "mdt.lustre-MDT0000" in names
    sim.run(sim.fail_over("mds0", "mds1"))
    assert "MDT0000" not in said(sim, "mds0", "lctl list_param -R *")
    sim.run(sim.fail_back("mds0"))
    sim.run(sim.env.timeout(30 * S))  # its clients, which have files there too, come back
    assert said(sim, "mds0", "lctl list_param -R *") == names


def test_requests_that_run_are_finished_before_a_target_leaves(sim: Cluster) -> None:
    said(sim, "c0", "lfs setstripe -i 0 f")
    sim.run(sim.node("oss0").fault(0x214, reaction="delay", value=S // 2))  # OST_BRW_PAUSE_BULK
    writing = sim.client(0).command("dd if=/dev/zero of=f bs=1M count=1 oflag=sync status=none")
    sim.run(sim.env.timeout(S // 10))
    begun = sim.env.now
    sim.run(sim.fail_over("oss0", "oss1"))
    assert S // 3 < sim.env.now - begun < S
    assert sim.run(writing).status == 0
    generation = said(sim, "c0", "lctl get_param -n osc.*OST0000*.import")
    assert "generation: 0" in generation


def test_umount_f_forgets_the_clients(sim: Cluster) -> None:
    said(sim, "c0", "lfs setstripe -i 0 f")
    info = sim.node("oss0").spec.targets[0]
    sim.run(sim.node("oss0").drop_target(info.name, failover=False))
    sim.run(sim.node("oss1").add_target(info))
    sim.run(sim.env.timeout(60 * S))
    assert "generation: 1" in said(sim, "c0", "lctl get_param -n osc.*OST0000*.import")


def test_a_target_that_starts_asks_who_comes_to_come_again(sim: Cluster) -> None:
    ofd = sim.node("oss0").machine.node.targets[0]  # type: ignore[attr-defined]
    sim.run(sim.client(0).stop())
    ofd.starting = True
    started = sim.client(0).start()
    sim.run(sim.env.timeout(2 * S))
    refusals = [e.fields[3] for e in sim.trace.events if e.kind == "rpc.reply" and e.node == "oss0"]
    assert refusals[-1] == -11
    ofd.starting = False
    sim.run(started)
    sim.run(sim.env.timeout(10 * S))
    shown = said(sim, "c0", "lctl get_param -n osc.*OST0000*.import")
    assert "current_connection: 10.0.2.1@tcp" in shown, "it stayed with the node"
    assert "connection_attempts: 2" in shown

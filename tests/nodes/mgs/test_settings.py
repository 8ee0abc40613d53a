"""What an administrator sets for good, takes back, looks at and tidies up, on the MGS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labsim.nodes.mgs import config_text
from labsim.scenario.cluster import Cluster
from labsim.scenario.steps.context import Result
from labsim.wire import config_log


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(clients=1, oss=2, failover="pairs", mgc_requeue_timeout_min=0) as made:
        yield made


def on(cluster: Cluster, node: str, line: str) -> Result:
    return cluster.node(node).run(line)


def test_a_setting_that_was_taken_back_does_not_come_back(cluster: Cluster) -> None:
    on(cluster, "mgs", "lctl set_param -P osc.*.max_dirty_mb=48 timeout=77")
    on(cluster, "c0", "sleep 2")
    assert on(cluster, "c0", "lctl get_param -n osc.*.max_dirty_mb").stdout == "48\n48\n"
    assert on(cluster, "mgs", "lctl set_param -P -d osc.*.max_dirty_mb").status == 0
    on(cluster, "c0", "sleep 2")
    assert on(cluster, "c0", "lctl get_param -n osc.*.max_dirty_mb").stdout == "48\n48\n"
    cluster.run(cluster.node("c0").stop())
    cluster.run(cluster.node("c0").start())
    shown = on(cluster, "c0", "lctl get_param -n osc.*.max_dirty_mb timeout").stdout
    assert shown == "32\n32\n77\n"
    refused = on(cluster, "mgs", "lctl set_param -P -d osc.*.max_dirty_mb")
    assert (refused.status, refused.errno_name) == (2, "ENOENT")


def test_conf_param_is_taken_back(cluster: Cluster) -> None:
    on(cluster, "mgs", "lctl conf_param lustre-OST0001.osc.max_dirty_mb=48")
    assert on(cluster, "mgs", "lctl conf_param -d lustre-OST0001.osc.max_dirty_mb").status == 0
    cluster.run(cluster.node("c0").stop())
    cluster.run(cluster.node("c0").start())
    assert on(cluster, "c0", "lctl get_param -n osc.*.max_dirty_mb").stdout == "32\n32\n"


def test_a_log_shows_where_a_target_is_and_may_be(cluster: Cluster) -> None:
    shown = on(cluster, "mgs", "lctl llog_print lustre-client").stdout.splitlines()
    assert [line for line in shown if 18 <= int(line.split()[3].strip(",")) <= 23] == [
        "- { index: 18, event: add_uuid, nid: 10.0.2.2@tcp(0x200000a000202), node: 10.0.2.2@tcp }",
        "- { index: 19, event: attach, device: lustre-OST0001-osc, type: osc, "
        "UUID: lustre-clilov_UUID }",
        "- { index: 20, event: setup, device: lustre-OST0001-osc, UUID: lustre-OST0001_UUID, "
        "node: 10.0.2.2@tcp }",
        "- { index: 21, event: add_uuid, nid: 10.0.2.1@tcp(0x200000a000201), node: 10.0.2.1@tcp }",
        "- { index: 22, event: add_conn, device: lustre-OST0001-osc, node: 10.0.2.1@tcp }",
        "- { index: 23, event: add_osc, device: lustre-clilov, ost: lustre-OST0001_UUID, "
        "index: 1, gen: 1 }",
    ]
    on(cluster, "mgs", "lctl set_param -P osc.*.max_dirty_mb=48")
    assert on(cluster, "mgs", "lctl llog_print params").stdout == (
        "- { index: 2, event: set_param, device: general, parameter: osc.*.max_dirty_mb, "
        "value: 48 }\n"
    )
    refused = on(cluster, "mgs", "lctl llog_print nobody")
    assert (refused.stdout, refused.errno_name) == ("", "ENOENT")


def test_a_log_is_tidied_up_when_nobody_reads_it(cluster: Cluster) -> None:
    on(cluster, "mgs", "lctl conf_param lustre-OST0001.osc.max_dirty_mb=48")
    on(cluster, "mgs", "lctl conf_param lustre-OST0001.osc.max_dirty_mb=64")
    assert on(cluster, "mgs", "lctl clear_conf lustre").errno_name == "EBUSY"
    for node in ("c0", "mds0", "mds1", "oss0", "oss1"):
        cluster.run(cluster.node(node).stop())
    before = on(cluster, "mgs", "lctl llog_print lustre-client").stdout
    assert on(cluster, "mgs", "lctl clear_conf lustre").status == 0
    after = on(cluster, "mgs", "lctl llog_print lustre-client").stdout
    assert (before.count("max_dirty_mb"), after.count("max_dirty_mb")) == (2, 1)
    for node in ("oss0", "oss1", "mds0", "c0"):
        cluster.run(cluster.node(node).start())
    assert on(cluster, "c0", "lctl get_param -n osc.*.max_dirty_mb").stdout == "32\n64\n"
    assert on(cluster, "mgs", "lctl clear_conf nobody").status != 0


def test_markers_are_not_shown() -> None:
    assert config_text.line(1, config_log.marker(1, 1, "lustre-OST0000", "add osc", 0, 0)) == ""


def test_one_more_node_for_a_target_reaches_who_is_mounted(cluster: Cluster) -> None:
    line = "lctl conf_param lustre-OST0000.failover.node=10.0.2.7@tcp:10.0.2.8@tcp"
    assert on(cluster, "mgs", line).status == 0
    assert (
        on(cluster, "mgs", "lctl conf_param lustre-MDT0000.failover.node=10.0.1.7@tcp").status == 0
    )
    on(cluster, "c0", "sleep 2")
    shown = on(cluster, "c0", "lctl get_param *.*.import").stdout
    ost = "failover_nids: [ 10.0.2.1@tcp, 10.0.2.2@tcp, 10.0.2.7@tcp, 10.0.2.8@tcp ]"
    assert shown.count(ost) == 1
    assert "failover_nids: [ 10.0.1.1@tcp, 10.0.1.2@tcp, 10.0.1.7@tcp ]" in shown
    assert cluster.run(cluster.add_ost()) == "lustre-OST0002"
    told = on(cluster, "mgs", "lctl llog_print lustre-client").stdout
    assert told.count("event: add_conn, device: lustre-OST0000-osc") == 3
    refused = on(cluster, "mgs", "lctl conf_param lustre-OST0000.failover.node=oss9")
    assert refused.errno_name == "EINVAL"
    assert on(cluster, "mgs", "lctl conf_param -d lustre-OST0000.failover.node").status == 0
    cluster.run(cluster.node("c0").stop())
    cluster.run(cluster.node("c0").start())
    shown = on(cluster, "c0", "lctl get_param osc.*OST0000*.import").stdout
    assert "failover_nids: [ 10.0.2.1@tcp, 10.0.2.2@tcp ]" in shown

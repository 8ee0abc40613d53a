"""Nodes that know nothing but their MGS: mounting, settings for all, targets added later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.net.ptlrpc import Request
from labsim.scenario.cluster import Cluster
from labsim.wire.llog import LlogdBody, LlogLogid
from labsim.wire.mgs import MgsConfigBody, MgsSendParam, MgsTargetInfo
from labsim.wire.opcodes import (
    LLOG_ORIGIN_HANDLE_CREATE,
    LLOG_ORIGIN_HANDLE_NEXT_BLOCK,
    LLOG_ORIGIN_HANDLE_PREV_BLOCK,
    LLOG_ORIGIN_HANDLE_READ_HEADER,
    MGS_CONFIG_READ,
    MGS_SET_INFO,
    MGS_TARGET_REG,
    opcode_name,
)
from labsim.wire.schema import OstId


@pytest.fixture(params=["sim", "live"])
def cluster(request: Any) -> Iterator[Cluster]:
    with Cluster(
        clients=2, oss=2, osts=2, runtime=request.param, mgc_requeue_timeout_min=0
    ) as made:
        yield made


@pytest.fixture
def sim() -> Iterator[Cluster]:
    with Cluster(clients=2, oss=2, osts=2, mgc_requeue_timeout_min=0) as made:
        yield made


def said(cluster: Cluster, node: str, command: str) -> str:
    result = cluster.node(node).run(command)
    assert result.status == 0, result
    text: str = result.stdout
    return text


def until(cluster: Cluster, node: str, line: str, text: str) -> None:
    """Ask again until the answer holds `text`; the news take their time to get around."""
    for _ in range(300):
        if text in said(cluster, node, line):
            return
        said(cluster, "c0", "sleep 0.1")
    raise AssertionError(f"{node}: {line} never said {text!r}")


def opcodes(cluster: Cluster, node: str) -> list[str]:
    events = cluster.trace.events
    return [opcode_name(e.fields[0]) for e in events if e.node == node and e.kind == "rpc.send"]


def test_a_mount_reads_the_log_before_it_connects(sim: Cluster) -> None:
    sent = opcodes(sim, "c0")
    assert sent[:5] == [
        "MGS_CONNECT", "LDLM_ENQUEUE", "LLOG_ORIGIN_HANDLE_CREATE",
        "LLOG_ORIGIN_HANDLE_READ_HEADER", "LLOG_ORIGIN_HANDLE_NEXT_BLOCK",
    ]  # fmt: skip
    assert sent.index("MGS_CONFIG_READ") < sent.index("MDS_CONNECT") < sent.index("OST_CONNECT")


def test_a_server_registers_and_reports_when_it_is_up(sim: Cluster) -> None:
    assert opcodes(sim, "oss0").count("MGS_TARGET_REG") == 2
    told = said(sim, "mgs", "lctl get_param -n mgs.MGS.live.lustre")
    assert "lustre-MDT0000\nlustre-OST0000\nlustre-OST0001\n" in told
    assert "nidtbl_version: 5" in told
    assert "nidtbl_version: 5" in said(sim, "c0", "lctl get_param -n mgc.*.ir_state")


def test_set_param_for_all_reaches_every_node_and_lasts(cluster: Cluster) -> None:
    said(cluster, "mgs", "lctl set_param -P timeout=77 osc.*.max_dirty_mb=48")
    for node in ("c0", "c1", "mds0", "oss0", "oss1", "mgs"):
        until(cluster, node, "lctl get_param -n timeout", "77\n")
    until(cluster, "c1", "lctl get_param -n osc.*.max_dirty_mb", "48\n48\n")
    cluster.run(cluster.client(0).stop())
    cluster.run(cluster.node("mgs").kill())
    cluster.run(cluster.node("mgs").start())
    cluster.run(cluster.client(0).start())
    assert said(cluster, "c0", "lctl get_param -n osc.*.max_dirty_mb") == "48\n48\n"


def test_conf_param_is_for_one_target(cluster: Cluster) -> None:
    said(cluster, "mgs", "lctl conf_param lustre-OST0001.osc.max_dirty_mb=48")
    said(cluster, "mgs", "lctl conf_param lustre-MDT0000.lov.stripesize=4194304")
    said(cluster, "mgs", "lctl conf_param lustre.llite.max_read_ahead_mb=7")
    until(cluster, "c0", "lctl get_param -n osc.*.max_dirty_mb", "32\n48\n")
    until(cluster, "mds0", "lctl get_param lod.*.stripesize", "stripesize=4194304")
    until(cluster, "c1", "lctl get_param -n llite.*.max_read_ahead_mb", "7")
    refused = cluster.node("mgs").run("lctl conf_param lustre-OST0009.osc.active=0")
    assert refused.status == 22
    assert "Invalid argument" in refused.stderr


def test_an_ost_added_later_appears(cluster: Cluster) -> None:
    assert cluster.run(cluster.add_ost()) == "lustre-OST0002"
    for node in ("c0", "c1"):
        until(cluster, node, "lfs df", "lustre-OST0002_UUID")
    until(cluster, "mds0", "lctl get_param -n lod.*.activeobd", "3\n")
    said(cluster, "c0", "lfs setstripe -c -1 wide")
    said(cluster, "c0", "dd if=/dev/urandom of=wide bs=1M count=6")
    assert "lmm_stripe_count:  3" in said(cluster, "c1", "lfs getstripe wide")
    said(cluster, "c1", "dd if=wide of=/dev/null bs=1M count=6")
    server = cluster.node("oss0")
    cluster.run(server.stop())
    cluster.run(server.start())
    assert said(cluster, "oss0", "lctl dl").count("obdfilter") == 2
    for _ in range(2):  # it learns of its eviction by one OST, then by the other
        cluster.client(1).run("dd if=wide of=/dev/null bs=1M count=6")
    said(cluster, "c1", "dd if=wide of=/dev/null bs=1M count=6")


def test_an_mgs_that_is_away_keeps_nobody_from_working(sim: Cluster) -> None:
    sim.run(sim.node("mgs").kill())
    said(sim, "c0", "dd if=/dev/zero of=f bs=1M count=2")
    assert "2097152" in said(sim, "c1", "ls -l f")
    sim.run(sim.client(1).stop())
    sim.run(sim.node("mgs").start())
    sim.run(sim.client(1).start())
    assert "2097152" in said(sim, "c1", "ls -l f")
    sim.run(sim.env.timeout(300 * 10**9))
    said(sim, "mgs", "lctl set_param -P osc.*.max_dirty_mb=48")
    until(sim, "c0", "lctl get_param -n osc.*.max_dirty_mb", "48\n48\n")


def test_a_client_that_is_away_does_not_hold_up_the_others(sim: Cluster) -> None:
    sim.run(sim.client(1).kill())
    said(sim, "mgs", "lctl set_param -P osc.*.max_dirty_mb=48")
    sim.run(sim.env.timeout(300 * 10**9))
    assert said(sim, "c0", "lctl get_param -n osc.*.max_dirty_mb") == "48\n48\n"


def test_an_unknown_file_system_is_not_mounted() -> None:
    with Cluster(clients=1, mount=[False]) as cluster:
        client = cluster.client(0)
        cluster.fs = cluster.fs.__class__("other", cluster.fs.mgs)
        with pytest.raises(LustreError) as raised:
            cluster.run(client.start())
        assert raised.value.name == "ENOENT"


def test_the_mgs_answers_lies_with_errnos(sim: Cluster) -> None:
    mgc = sim.client(0).machine.node.mgc

    def errno(opcode: int, **fields: Any) -> str:
        with pytest.raises(LustreError) as raised:
            sim.run(mgc.imp.call(Request(opcode, **fields)))
        return raised.value.name

    body = LlogdBody(len=8192)
    assert errno(LLOG_ORIGIN_HANDLE_CREATE, llogd_body=body, name="../etc") == "ENOENT"
    for opcode in (
        LLOG_ORIGIN_HANDLE_READ_HEADER, LLOG_ORIGIN_HANDLE_NEXT_BLOCK,
        LLOG_ORIGIN_HANDLE_PREV_BLOCK,
    ):  # fmt: skip
        assert errno(opcode, llogd_body=body) == "EINVAL"
        missing = LlogLogid(oi=OstId(10, 99))
        assert errno(opcode, llogd_body=body.replace(logid=missing)) == "ENOENT"
    opened = sim.run(
        mgc.imp.call(Request(LLOG_ORIGIN_HANDLE_CREATE, llogd_body=body, name="lustre-client"))
    )["llogd_body"]
    assert errno(LLOG_ORIGIN_HANDLE_NEXT_BLOCK, llogd_body=opened.replace(len=2**31)) == "EINVAL"
    beyond = opened.replace(index=10_000, cur_offset=8192)
    assert errno(LLOG_ORIGIN_HANDLE_NEXT_BLOCK, llogd_body=beyond) == "EIO"
    assert errno(MGS_TARGET_REG, mgs_target_info=MgsTargetInfo(svname="x")) == "EINVAL"
    assert errno(MGS_SET_INFO, mgs_send_param=MgsSendParam(param="nothing")) == "EINVAL"
    for kind, name in ((4, "lustre-cliir"), (2, "other-cliir")):
        request = MgsConfigBody(name=name, type=kind, bits=12, units=4)
        assert errno(MGS_CONFIG_READ, mgs_config_body=request, bulk_in=16384) in (
            "EINVAL",
            "ENOENT",
        )


def test_any_node_may_set_a_parameter_for_all(sim: Cluster) -> None:
    mgc = sim.client(0).machine.node.mgc
    param = MgsSendParam(param="osc.*.max_dirty_mb=48")
    sim.run(mgc.imp.call(Request(MGS_SET_INFO, mgs_send_param=param)))
    until(sim, "c1", "lctl get_param -n osc.*.max_dirty_mb", "48\n48\n")

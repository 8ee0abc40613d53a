"""Nodes whose MGS is away, slow, or loses messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.payload import tobytes
from labsim.scenario.cluster import Cluster

S = 10**9


@pytest.fixture
def sim() -> Iterator[Cluster]:
    with Cluster(clients=2, oss=2) as made:
        yield made


def said(cluster: Cluster, node: str, line: str) -> str:
    result = cluster.node(node).run(line)
    assert result.status == 0, result
    text: str = result.stdout
    return text


def kinds(cluster: Cluster, node: str) -> list[str]:
    return [e.kind for e in cluster.trace.events if e.node == node]


def test_a_server_that_was_here_before_starts_without_an_mgs(sim: Cluster) -> None:
    said(sim, "mgs", "lctl set_param -P obdfilter.*.degraded=1 timeout=60")
    sim.run(sim.env.timeout(15 * S))
    sim.run(sim.node("mgs").kill())
    sim.run(sim.node("oss0").kill())
    begun = sim.env.now
    sim.run(sim.node("oss0").start())
    assert 15 * S < sim.env.now - begun < 40 * S
    assert kinds(sim, "oss0").count("mgc.local_copy") == 2
    assert said(sim, "oss0", "lctl get_param -n timeout") == "60\n"
    said(sim, "c0", "dd if=/dev/zero of=f bs=1M count=2 oflag=sync status=none")
    sim.run(sim.node("mgs").start())
    sim.run(sim.env.timeout(120 * S))
    said(sim, "mgs", "lctl set_param -P timeout=70")
    sim.run(sim.env.timeout(15 * S))
    assert said(sim, "oss0", "lctl get_param -n timeout") == "70\n", "it follows the log again"


def test_the_copy_is_the_mgss_file_byte_for_byte(sim: Cluster) -> None:
    said(sim, "mgs", "lctl conf_param lustre-OST0000.ost.degraded=1")
    said(sim, "mgs", "lctl conf_param lustre-OST0000.ost.degraded=0")
    sim.run(sim.env.timeout(15 * S))
    mgt: Any = sim.node("mgs").machine.node.target  # type: ignore[attr-defined]
    ofd: Any = sim.node("oss0").machine.node.targets[0]  # type: ignore[attr-defined]
    original = mgt.configs.logs["lustre-OST0000"]
    theirs = tobytes(sim.run(mgt.osd.read(original.fid, 0, 1 << 20)))
    (fid,) = [fid for fid in ofd.osd.objects() if fid.seq == 0x200000003 and fid.oid == 3]
    assert tobytes(sim.run(ofd.osd.read(fid, 0, 1 << 20))) == theirs


def test_a_new_target_and_a_client_need_the_mgs(sim: Cluster) -> None:
    sim.run(sim.client(1).stop())
    sim.run(sim.node("mgs").kill())
    begun = sim.env.now
    with pytest.raises(LustreError) as raised:
        sim.run(sim.client(1).start())
    assert raised.value.name == "EIO"
    assert 25 * S < sim.env.now - begun < 200 * S
    begun = sim.env.now
    with pytest.raises(LustreError) as raised:
        sim.run(sim.add_ost())
    assert raised.value.name == "ETIMEDOUT"
    assert sim.env.now - begun < 61 * S
    assert "OST0002" not in said(sim, "oss0", "lctl dl")


@pytest.mark.parametrize(
    ("number", "name"),
    [(0x906, "MGS_CONNECT_NET"), (0x90C, "MGS_CONFIG_READ_NET"), (0x901, "MGS_ALL_REQUEST_NET"),
     (0x902, "MGS_ALL_REPLY_NET"), (0x1302, "CREATE"), (0x1304, "HEADER"), (0x1305, "BLOCK")],
)  # fmt: skip
def test_a_mount_survives_what_gets_lost_once(sim: Cluster, number: int, name: str) -> None:
    sim.run(sim.client(1).stop())
    sim.run(sim.node("mgs").fault(number, bits=0x80000000))
    sim.run(sim.client(1).start())
    said(sim, "c1", "touch f")
    sim.run(sim.env.timeout(200 * S))
    assert "nidtbl_version: 5" in said(sim, "c1", "lctl get_param -n mgc.*.ir_state"), name


def test_a_slow_registration_and_a_slow_reader(sim: Cluster) -> None:
    sim.run(sim.node("mgs").fault(0x905, bits=0x80000000, reaction="delay", value=3 * S))
    begun = sim.env.now
    sim.run(sim.add_ost())
    assert sim.env.now - begun >= 3 * S
    sim.run(sim.client(0).fault(0x903, bits=0x80000000, reaction="delay", value=20 * S))
    said(sim, "mgs", "lctl set_param -P osc.*.max_dirty_mb=48")
    sim.run(sim.env.timeout(15 * S))
    assert "48" not in said(sim, "c0", "lctl get_param -n osc.*.max_dirty_mb")
    sim.run(sim.env.timeout(20 * S))
    assert said(sim, "c0", "lctl get_param -n osc.*.max_dirty_mb") == "48\n" * 3


def test_news_are_read_after_five_to_ten_seconds(sim: Cluster) -> None:
    said(sim, "mgs", "lctl set_param -P osc.*.max_dirty_mb=48")
    sim.run(sim.env.timeout(4 * S))
    for client in ("c0", "c1"):
        assert said(sim, client, "lctl get_param -n osc.*.max_dirty_mb") == "32\n32\n"
    sim.run(sim.env.timeout(7 * S))
    for client in ("c0", "c1"):
        assert said(sim, client, "lctl get_param -n osc.*.max_dirty_mb") == "48\n48\n"

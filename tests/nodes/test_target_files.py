"""The files of targets, disks, services and client devices that an administrator looks at most."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labsim.base.units import MIB, NS_PER_S
from labsim.scenario.cluster import Cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(clients=1, oss=1, osts=2, capacity=256 * MIB) as made:
        yield made


def shown(cluster: Cluster, node: str, pattern: str) -> str:
    said = cluster.node(node).run(f"lctl get_param -n {pattern}")
    assert said.status == 0, said.stderr
    return said.stdout


def told(cluster: Cluster, node: str, setting: str) -> str:
    """The errno's name of a set_param, empty where it is taken."""
    return cluster.node(node).run(f"lctl set_param -n {setting}").errno_name


def test_space_of_a_target_and_of_its_disk(cluster: Cluster) -> None:
    total, free, avail = (
        int(shown(cluster, "oss0", f"osd-ldiskfs.*OST0000.kbytes{what}"))
        for what in ("total", "free", "avail")
    )
    assert total == 256 << 10 and total > free >= avail
    assert shown(cluster, "oss0", "obdfilter.*OST0000.kbytestotal") == f"{total}\n"
    c0 = cluster.client(0)
    c0.run("lfs setstripe -i 0 f")
    c0.run("dd if=/dev/zero of=f bs=1M count=4")
    dirty = int(shown(cluster, "oss0", "obdfilter.*OST0000.tot_dirty"))
    now = int(shown(cluster, "oss0", "obdfilter.*OST0000.kbytesavail"))
    pending = int(shown(cluster, "oss0", "obdfilter.*OST0000.tot_pending"))
    disk = int(shown(cluster, "oss0", "osd-ldiskfs.*OST0000.kbytesavail"))
    assert now == disk - (dirty + pending) // 1024
    files = shown(cluster, "mds0", "osd-ldiskfs.*.filesfree")
    c0.run("touch g")
    assert int(shown(cluster, "mds0", "osd-ldiskfs.*.filesfree")) == int(files) - 1
    assert shown(cluster, "mds0", "osd-ldiskfs.*.fstype") == "ldiskfs\n"
    assert shown(cluster, "oss0", "osd-ldiskfs.*OST0001.mntdev").endswith("lustre-OST0001\n")


def test_force_sync_commits(cluster: Cluster) -> None:
    cluster.client(0).run("touch f")
    mdt = cluster.node("mds0").machine.node.targets[0]  # type: ignore[attr-defined]
    assert mdt.last_committed < mdt.last_transno
    assert told(cluster, "mds0", "osd-ldiskfs.*.force_sync=1") == ""
    assert mdt.last_committed == mdt.last_transno


def test_brw_stats_are_those_of_the_disk(cluster: Cluster) -> None:
    cluster.client(0).run("dd if=/dev/zero of=f bs=1M count=4 conv=fsync")
    both = [shown(cluster, "oss0", f"{kind}.*.brw_stats") for kind in ("obdfilter", "osd-ldiskfs")]
    assert both[0] == both[1] and "1M:" in both[0]
    assert told(cluster, "oss0", "osd-ldiskfs.*.brw_stats=0") == ""
    assert "1M:" not in shown(cluster, "oss0", "obdfilter.*.brw_stats")


def test_a_degraded_ost_gets_no_new_objects_while_there_are_others(cluster: Cluster) -> None:
    assert told(cluster, "oss0", "obdfilter.*OST0000.degraded=1") == ""
    cluster.run(cluster.env.timeout(20 * NS_PER_S))
    c0 = cluster.client(0)
    for number in range(6):
        c0.run(f"touch f{number}")
    found = c0.run("lfs getstripe -i f0 f1 f2 f3 f4 f5").stdout.split()
    assert set(found) == {"1"}


def test_a_smaller_brw_size_holds_for_who_connects_from_then_on(cluster: Cluster) -> None:
    assert shown(cluster, "oss0", "obdfilter.*OST0000.brw_size") == "4\n"
    assert told(cluster, "oss0", "obdfilter.*.brw_size=8") == "ERANGE"
    assert told(cluster, "oss0", "obdfilter.*.brw_size=1M") == ""
    c0 = cluster.client(0)
    assert shown(cluster, "c0", "osc.*OST0000*.max_pages_per_rpc") == "1024\n"
    cluster.run(c0.stop())
    cluster.run(c0.start())
    assert shown(cluster, "c0", "osc.*OST0000*.max_pages_per_rpc") == "256\n"


def test_services_have_statistics_and_threads(cluster: Cluster) -> None:
    cluster.client(0).run("dd if=/dev/zero of=f bs=1M count=1 conv=fsync")
    assert "ost_write" in shown(cluster, "oss0", "ost.OSS.ost_io.stats")
    assert "mgs_config_read" in shown(cluster, "mgs", "mgs.MGS.mgs.stats")
    assert told(cluster, "oss0", "ost.OSS.ost_io.threads_max=1") == "ERANGE"
    assert told(cluster, "oss0", "ost.OSS.ost_io.threads_max=2") == ""
    assert shown(cluster, "oss0", "ost.OSS.ost_io.threads_started") == "2\n"
    assert told(cluster, "oss0", "ost.OSS.ost_io.threads_min=3") == "ERANGE"
    assert shown(cluster, "mds0", "mds.MDS.mdt.threads_max") == "64\n"


def test_the_last_object_by_sequence(cluster: Cluster) -> None:
    last = cluster.node("oss0").machine.node.targets[0].last_id  # type: ignore[attr-defined]
    assert shown(cluster, "oss0", "obdfilter.*OST0000.last_id") == f"0x0:{last}\n"


def test_a_clients_lov(cluster: Cluster) -> None:
    assert shown(cluster, "c0", "lov.*.numobd") == "2\n"
    assert shown(cluster, "c0", "lov.*.stripesize") == "1048576\n"
    assert told(cluster, "c0", "osc.*OST0001*.active=0") == ""
    assert shown(cluster, "c0", "lov.*.activeobd") == "1\n"
    assert shown(cluster, "c0", "lov.*.target_obd") == (
        "0: lustre-OST0000_UUID ACTIVE\n1: lustre-OST0001_UUID INACTIVE\n"
    )


def test_connect_flags_and_lnet_stats(cluster: Cluster) -> None:
    rows = shown(cluster, "c0", "mdc.*.connect_flags").splitlines()
    assert rows[0].startswith("flags=0x") and rows[1] == "flags2=0x80"
    assert rows[-1] == "lock_convert" and "multi_mod_rpcs" in rows
    assert "imp_recov" in shown(cluster, "c0", "mgc.*.connect_flags")
    assert "state: FULL" in shown(cluster, "oss0", "mgc.*.import")
    numbers = shown(cluster, "c0", "stats").split()
    assert len(numbers) == 11 and int(numbers[3]) > 5
    assert told(cluster, "c0", "stats=0") == ""
    assert shown(cluster, "c0", "stats").split() == ["0"] * 11


def test_the_interfaces_of_a_node(cluster: Cluster) -> None:
    assert shown(cluster, "oss0", "nis") == (
        "nid                      status alive refs peer  rtr   max    tx   min\n"
        "0@lo                         up     0    2    0    0     0     0     0\n"
        "10.0.2.1@tcp                 up    -1    1    8    0   256   256   256\n"
    )
    assert told(cluster, "oss0", "nis=0") == ""


def test_an_import_tells_what_was_agreed_and_how_fast_bulk_went(cluster: Cluster) -> None:
    cluster.client(0).run("dd if=/dev/zero of=f bs=1M count=4 conv=fsync")
    text = shown(cluster, "c0", "osc.*OST0000*.import")
    agreed = text.partition("connect_data:\n")[2].partition("    import_flags")[0]
    assert [row.strip().partition(":")[0] for row in agreed.splitlines()] == [
        "flags", "instance", "target_version", "initial_grant", "target_index", "max_brw_size",
        "grant_block_size", "grant_inode_size", "grant_max_extent_size", "grant_extent_tax",
        "cksum_types", "max_object_bytes",
    ]  # fmt: skip
    assert "grant_extent_tax: 24576" in agreed and "cksum_types: 0xf7" in agreed
    both = text + shown(cluster, "c0", "osc.*OST0001*.import")
    assert "    write_data_averages:\n       bytes_per_rpc: 4194304\n" in both
    assert "MB_per_sec: " in both and "read_data_averages" not in both
    stats = shown(cluster, "c0", "osc.*.stats")
    assert "write_bytes               1 samples [bytes] 4194304 4194304 4194304 17592" in stats
    assert "rpcs:" not in shown(cluster, "c0", "mgc.*.import")


def test_ping_and_pinger_recov(cluster: Cluster) -> None:
    imp = cluster.client(0).machine.node.oscs[0].imp  # type: ignore[attr-defined]
    told(cluster, "c0", "osc.*.idle_timeout=0")
    seen = cluster.node("oss0").machine.host.lnet.counters  # type: ignore[attr-defined]
    before = seen.recv_count
    assert told(cluster, "c0", "osc.*OST0000*.ping=1") == ""
    assert seen.recv_count == before + 1
    assert told(cluster, "c0", "osc.*.pinger_recov=2") == "EINVAL"
    assert told(cluster, "c0", "osc.*.pinger_recov=0") == ""
    cluster.run(cluster.node("oss0").kill())
    imp.reconnect()
    cluster.run(cluster.env.timeout(60 * NS_PER_S))
    attempts = imp.conn_cnt
    cluster.run(cluster.node("oss0").start())
    cluster.run(cluster.env.timeout(60 * NS_PER_S))
    assert imp.conn_cnt == attempts
    assert told(cluster, "c0", "osc.*OST0000*.ping=1") == "EAGAIN"
    assert told(cluster, "c0", "osc.*.pinger_recov=1") == ""
    cluster.run(cluster.env.timeout(60 * NS_PER_S))
    assert imp.conn_cnt > attempts and imp.state.name == "FULL"

"""lfs, lctl and sys on a simulated cluster: golden output."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labsim.base.errors import InputError
from labsim.scenario.cluster import Cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(clients=2, oss=2, osts=4) as made:
        yield made


def said(cluster: Cluster, *commands: str) -> str:
    """What the last of some commands on c0 prints."""
    output = ""
    for command in commands:
        output = cluster.client(0).run(command).output
    return output


def test_lfs_getstripe(cluster: Cluster) -> None:
    shown = said(cluster, "lfs setstripe -c 2 -S 2M -i 1 f", "lfs getstripe f")
    assert shown == (
        "f\n"
        "lmm_stripe_count:  2\n"
        "lmm_stripe_size:   2097152\n"
        "lmm_pattern:       raid0\n"
        "lmm_layout_gen:    0\n"
        "lmm_stripe_offset: 1\n"
        "\tobdidx\t\t objid\t\t objid\t\t group\n"
        "\t     1\t             1\t          0x1\t             0\t\n"
        "\t     2\t             1\t          0x1\t             0\t\n"
        "\n"
    )
    assert said(cluster, "lfs getstripe -c -S -i f") == "2\n2097152\n1\n"


def test_lfs_on_directories(cluster: Cluster) -> None:
    plain = "stripe_count:  1 stripe_size:   1048576 pattern:       raid0 stripe_offset: -1\n"
    assert said(cluster, "mkdir d", "lfs getstripe d") == f"d\n{plain}\n"
    wide = plain.replace("count:  1", "count:  -1")
    assert said(cluster, "lfs setstripe -c -1 d", "lfs getstripe -d d") == f"d\n{wide}\n"
    assert said(cluster, "touch d/f", "lfs getstripe -c d/f") == "4\n"


def test_lfs_failures(cluster: Cluster) -> None:
    client = cluster.client(0)
    client.run("lfs setstripe f")
    result = client.run("lfs setstripe -c 2 f")
    assert result.output == "lfs setstripe: setstripe error for 'f': stripe already set\n"
    assert result.errno_name == "EEXIST"
    result = client.run("lfs path2fid nope")
    assert result.output == "lfs path2fid: can't get fid for nope: No such file or directory\n"
    assert client.run("lfs getstripe nope").errno_name == "ENOENT"


def test_lfs_path2fid(cluster: Cluster) -> None:
    assert said(cluster, "touch f", "lfs path2fid f") == "[0x200000401:0x1:0x0]\n"
    assert said(cluster, "mkdir d", "lfs path2fid f d").splitlines() == [
        "f: [0x200000401:0x1:0x0]",
        "d: [0x200000401:0x2:0x0]",
    ]


def test_lfs_df_has_a_row_for_each_target_and_a_sum(cluster: Cluster) -> None:
    lines = said(cluster, "lfs df").splitlines()
    head = "UUID                   1K-blocks        Used   Available Use% Mounted on"
    assert lines[0] == head
    assert [line.split()[-1] for line in lines[1:6]] == [
        "/mnt/lustre[MDT:0]", *(f"/mnt/lustre[OST:{n}]" for n in range(4)),
    ]  # fmt: skip
    total = sum(int(line.split()[1]) for line in lines[2:6])
    assert lines[6:] == ["", lines[7], ""]
    assert lines[7].split()[:2] == ["filesystem_summary:", str(total)]


def test_df_shows_the_mount(cluster: Cluster) -> None:
    head, row = said(cluster, "df").splitlines()
    assert head.split() == ["Filesystem", "1K-blocks", "Used", "Available", "Use%", "Mounted", "on"]
    assert row.startswith("10.0.0.1@tcp:/lustre ")
    assert row.endswith(" /mnt/lustre")
    assert said(cluster, "df --output=target").splitlines() == ["Mounted on", "/mnt/lustre"]


def test_lctl_speaks_through_the_shell(cluster: Cluster) -> None:
    instance = said(cluster, "lctl get_param -N osc.*OST0000*").strip()
    assert said(cluster, f"lctl get_param {instance}.active") == f"{instance}.active=1\n"
    assert said(cluster, "lctl get_param -n osc.*.max_rpcs_in_flight") == "8\n" * 4
    result = cluster.client(0).run("lctl set_param osc.*.max_rpcs_in_flight=9999")
    assert result.errno_name == "ERANGE"
    assert result.output.endswith(": Numerical result out of range\n")


def test_a_permanent_parameter_is_set_on_the_mgs_for_every_node(cluster: Cluster) -> None:
    cluster.node("mgs").run("lctl set_param -P osc.*.max_dirty_mb=64")
    cluster.client(0).run("sleep 11")  # longer than any node waits before it reads on
    for client in (cluster.client(0), cluster.client(1)):
        assert client.run("lctl get_param -n osc.*OST0000*.max_dirty_mb").stdout == "64\n"
    with pytest.raises(InputError, match="runs on the mgs, not on c0"):
        cluster.client(0).run("lctl set_param -P osc.*.max_dirty_mb=64")


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("sys setxattr f user.a one XATTR_CREATE", "-1 EEXIST (File exists)\n"),
        ("sys setxattr f user.b one XATTR_REPLACE", "-1 ENODATA (No data available)\n"),
        ("sys getxattr f user.a", "one\n"),
        ("sys getxattr f user.a 0", "3\n"),
        ("sys getxattr f user.a 2", "-1 ERANGE (Numerical result out of range)\n"),
        ("sys listxattr f 1", "-1 ERANGE (Numerical result out of range)\n"),
        ("sys removexattr f user.a", "0\n"),
        ("sys open f O_WRONLY|O_CREAT|O_EXCL", "-1 EEXIST (File exists)\n"),
        ("sys open f O_RDONLY", "3\n"),
        ("sys creat g 0600", "3\n"),
        ("sys pwrite f hello 3", "5\n"),
        ("sys pread f 4", "text\n"),
        ("sys truncate f 2", "0\n"),
        ("sys mkdir d 0700", "0\n"),
        ("sys rmdir f", "-1 ENOTDIR (Not a directory)\n"),
        ("sys unlink nope", "-1 ENOENT (No such file or directory)\n"),
        ("sys rename f h", "0\n"),
        ("sys link f l", "0\n"),
        ("sys symlink f s", "0\n"),
        ("sys readlink f", "-1 EINVAL (Invalid argument)\n"),
        ("sys mknod p 010644", "0\n"),
        ("sys stat f", "0\n"),
        ("sys lstat nope", "-1 ENOENT (No such file or directory)\n"),
        ("sys chmod f 0600", "0\n"),
        ("sys chown f 1 2", "0\n"),
        ("sys utime f 5 6", "0\n"),
        ("sys statfs .", "0\n"),
        ("sys fsync f", "0\n"),
    ],
)
def test_one_system_call(cluster: Cluster, call: str, answer: str) -> None:
    cluster.client(0).run("echo -n text > f")
    cluster.client(0).run("sys setxattr f user.a one")
    result = cluster.client(0).run(call)
    assert result.output == answer
    assert result.status == int(answer.startswith("-1 "))


def test_dd_writes_patterns_and_counts(cluster: Cluster) -> None:
    shown = said(cluster, "dd if=/dev/zero of=f bs=1M count=4")
    assert shown.startswith(
        "4+0 records in\n4+0 records out\n4194304 bytes (4.2 MB, 4.0 MiB) copied, "
    )
    assert said(cluster, "dd if=/dev/urandom of=g bs=1000 count=3 status=noxfer") == (
        "3+0 records in\n3+0 records out\n"
    )
    assert said(cluster, "stat -c %s f g").split() == ["4194304", "3000"]


def test_a_file_is_the_same_on_every_client(cluster: Cluster) -> None:
    said(cluster, "dd if=/dev/urandom of=f bs=64k count=40 status=none", "lfs setstripe -c 4 g")
    said(cluster, "cp f g")
    assert cluster.client(1).run("cat f").chunks == cluster.client(0).run("cat g").chunks


def test_dropping_caches_and_syncing(cluster: Cluster) -> None:
    said(cluster, "touch f", "stat f")
    assert said(cluster, "sysctl vm.drop_caches=3") == "vm.drop_caches = 3\n"
    assert said(cluster, "echo 2 > /proc/sys/vm/drop_caches") == ""
    assert (
        said(cluster, "echo 9 > /proc/sys/vm/drop_caches") == "sh: write error: Invalid argument\n"
    )
    assert said(cluster, "sync") == ""


def test_a_redirection_that_cannot_be_opened_runs_nothing(cluster: Cluster) -> None:
    result = cluster.client(0).run("mkdir d > nodir/x")
    assert result.output == "sh: nodir/x: No such file or directory\n"
    assert said(cluster, "ls") == ""
    assert said(cluster, "ls > /dev/null") == ""

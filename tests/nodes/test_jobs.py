"""Job ids: what a node sends, and what its targets count by it."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.nodes.jobs import KERNEL, Task, job_of
from labsim.scenario.cluster import Cluster

TASK = Task("ior", 77, 500, 600, (("SLURM_JOB_ID", "4711"), ("LONG", "y" * 40)), "night")
CODES = "eghjpu"


@pytest.mark.parametrize(
    ("var", "name", "codes", "job"),
    [("disable", "a", CODES, ""), ("nodelocal", "dump.7", CODES, "dump.7"),
     ("nodelocal", "%h-%%x y", CODES, "c0.lab-xy"), ("nodelocal", "%H %e", CODES, "ior"),
     ("nodelocal", "%H.%e", "eghHjpu", "c0.ior"), ("nodelocal", "%g.%p%", CODES, "600.77"),
     ("nodelocal", "x" * 40, CODES, "x" * 31), ("nodelocal", "", CODES, ""),
     ("nodelocal", "%e.%u", "", "%e.%u"), ("procname_uid", "", CODES, "ior.500"),
     ("SLURM_JOB_ID", "a", CODES, "4711"), ("SLURM_JOB_ID", "%j:%u", CODES, "4711:500"),
     ("LONG", "a", CODES, "y" * 31), ("PBS_JOBID", "%e.%u", CODES, "ior.500"),
     ("PBS_JOBID", "%e.%u", "", ""), ("session", "%e.%u", CODES, "ior.500")],
)  # fmt: skip
def test_which_job(var: str, name: str, codes: str, job: str) -> None:
    assert job_of(var, name, TASK, "c0.lab", codes, False) == job


def test_the_job_of_a_session() -> None:
    assert job_of("session", "%e.%u", TASK, "c0", CODES, True) == "night"
    assert job_of("session", "%j-%p", TASK, "c0", CODES, True) == "night"
    assert job_of("session", "%e", TASK._replace(session=""), "c0", CODES, True) == "ior"


def test_what_is_sent_for_nobody_has_no_job() -> None:
    assert job_of("SLURM_JOB_ID", "%e.%u", KERNEL, "c0", CODES, False) == ""
    assert job_of("procname_uid", "", KERNEL, "c0", CODES, False) == "ptlrpcd_00_00.0"


def jobs_of(cluster: Cluster) -> dict[str, list[str]]:
    """What the MDT counted: by job the names of the operations."""
    found: dict[str, list[str]] = {}
    for line in cluster.node("mds0").run("lctl get_param -n mdt.*.job_stats").stdout.splitlines():
        name, _, rest = line.strip().partition(":")
        if name == "- job_id":
            jobs = found.setdefault(rest.strip(), [])
        elif "samples:" in rest and "samples:           0" not in rest:
            jobs.append(name)
    return found


def test_jobs_come_from_processes() -> None:
    """The environment, the user and the name of who asks; where there is none, jobid_name."""
    with Cluster(clients=1, oss=1, osts=1, client_trees=["2.15.0"]) as cluster:
        c0 = cluster.client(0)
        for line in (
            "lctl set_param jobid_var=SLURM_JOB_ID",
            "SLURM_JOB_ID=17 mkdir d",
            "SLURM_JOB_ID=18 OTHER=x runas -u 500 stat d",
            "chmod 777 d",
            "lctl set_param jobid_var=procname_uid",
            "runas -u 500 -g 600 mkdir d/e",
            "lctl set_param jobid_var=nodelocal jobid_name=%H-%u",
            "mkdir d/f",
            "lctl set_param jobid_var=session",
            "lctl set_param jobid_this_session=nightly",
            "rmdir d/f",
            "lctl set_param jobid_var=SLURM_JOB_ID",
            "SLURM_JOB_ID=99 dd if=/dev/zero of=d/data bs=1M count=2",
            "sync",
        ):
            result = c0.run(line)
            assert result.status == 0, (line, result.output)
        assert c0.run("lctl get_param -n jobid_this_session").stdout == "nightly\n"
        shown = cluster.node("oss0").run("lctl get_param -n obdfilter.*.job_stats").stdout
        text = shown.partition("job_id:          99\n")[2]
        writes = next(line for line in text.splitlines() if "write_bytes" in line)
        assert writes.endswith("sum:         2097152 }")
        found = jobs_of(cluster)
        expected = {
            "17": "mkdir", "chmod.0": "setattr", "mkdir.500": "mkdir", "c0-0": "mkdir",
            "nightly": "rmdir",
        }  # fmt: skip
        for name, operation in expected.items():
            assert operation in found[name]


def test_targets_count_by_job() -> None:
    with Cluster(clients=1, oss=1, osts=1) as cluster:
        client = cluster.node("c0").machine.node
        mdt = cluster.node("mds0").machine.node.host.params
        ost = cluster.node("oss0").machine.node.host.params

        def shown(params: Any, name: str) -> list[str]:
            return next(text for _, text in params.get(name)).splitlines()

        def work(name: str) -> Any:
            vfs = client.vfs
            file = yield from vfs.open(name, 0o102, 0o644)
            yield from vfs.write(file, b"x" * 5000, 0)
            yield from vfs.fsync(file)
            yield from vfs.write(file, b"x" * 100_000, 0)
            yield from vfs.fsync(file)
            yield from vfs.close(file)
            yield from vfs.mkdir(name + ".d")
            yield from vfs.rename(name, name + ".d/f")
            yield from vfs.unlink(name + ".d/f")

        cluster.run(work("silent"))
        assert shown(mdt, "mdt.*.job_stats") == ["job_stats:"]
        client.host.params.set("jobid_var", "nodelocal")
        client.host.params.set("jobid_name", "ior.1000")
        cluster.run(work("told"))
        lines = shown(mdt, "mdt.*.job_stats")
        assert lines[:2] == ["job_stats:", "- job_id:          ior.1000"]
        assert lines[2].startswith("  snapshot_time:   15")
        for line in (
            "  open:            { samples:           1, unit:  reqs }",
            "  close:           { samples:           1, unit:  reqs }",
            "  mkdir:           { samples:           1, unit:  reqs }",
            "  unlink:          { samples:           1, unit:  reqs }",
            "  rename:          { samples:           1, unit:  reqs }",
            "  crossdir_rename: { samples:           1, unit:  reqs }",
            "  rmdir:           { samples:           0, unit:  reqs }",
        ):
            assert line in lines
        assert (
            "  write_bytes:     { samples:           2, unit: bytes, min:    5000, max:  100000,"
            " sum:          105000 }"
        ) in shown(ost, "obdfilter.*.job_stats")
        with pytest.raises(LustreError):
            mdt.set("mdt.*.job_stats", "nobody")
        mdt.set("mdt.*.job_stats", "ior.1000")
        ost.set("obdfilter.*.job_stats", "clear")
        assert shown(mdt, "mdt.*.job_stats") == shown(ost, "obdfilter.*.job_stats")

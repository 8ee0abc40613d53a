"""Job ids: what a node sends, and what its targets count by it."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.nodes.jobs import job_of
from labsim.scenario.cluster import Cluster


@pytest.mark.parametrize(
    ("var", "name", "job"),
    [("disable", "a", ""), ("nodelocal", "dump.7", "dump.7"), ("nodelocal", "%h-%%x", "c0-%x"),
     ("nodelocal", "x" * 40, "x" * 31), ("SLURM_JOB_ID", "a", ""), ("nodelocal", "", "")],
)  # fmt: skip
def test_which_job(var: str, name: str, job: str) -> None:
    assert job_of(var, name, "c0") == job


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
            yield from vfs.write(file, b"x" * 100_000, 0)
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

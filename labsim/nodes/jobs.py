"""Jobs: which one a client works for, and what a target did for each.

Does not know processes: a job's name is that of the node, as jobid_name has it. Stands for
jobid.c and lprocfs_jobstats.c (obdclass).
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.base.params import Param
from labsim.net.ptlrpc import PtlRpc, ServerRequest
from labsim.wire.message import Message

JOBID_SIZE = 32
"""LUSTRE_JOBID_SIZE: what pb_jobid has room for, with its closing NUL."""


def job_of(var: str, name: str, node: str) -> str:
    """The job that requests are sent for, by jobid_var and jobid_name; empty: none.

    `nodelocal` takes the name, with %h the node's and %% a percent sign. Processes have neither a
    name nor variables here, so whatever else jobid_var says leads to no job.
    """
    if var != "nodelocal":
        return ""
    text = name.replace("%%", "\0").replace("%h", node).replace("\0", "%")
    return text[: JOBID_SIZE - 1]


class Tally:
    """One counter of one job: samples, and of bytes the least, the most and the sum."""

    __slots__ = ("high", "low", "samples", "total")

    def __init__(self) -> None:
        self.samples = self.low = self.high = self.total = 0

    def add(self, value: int) -> None:
        """One more."""
        self.low = min(self.low, value) if self.samples else value
        self.high = max(self.high, value)
        self.samples += 1
        self.total += value


class Job:
    """What a target did for one job."""

    __slots__ = ("last_s", "tallies")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.last_s = 0
        self.tallies = {name: Tally() for name in names}


class JobStats(Component):
    """Mixin of targets: counts by job. `JOB_COUNTERS` are the lines of each job, in order."""

    rpc: PtlRpc
    JOB_COUNTERS: tuple[str, ...] = ()

    job_cleanup_interval = Param.seconds(
        600, help="a job that was idle for so long is forgotten; 0: never"
    )
    _jobs: dict[str, Job] | None = None

    def job_counters(self, req: ServerRequest, reply: Message) -> dict[str, int]:
        """What a request that succeeded counts as: values by counter."""
        raise NotImplementedError

    def count_job(self, req: ServerRequest, reply: Message) -> None:
        """A request of a job has been done."""
        if self._jobs is None:
            self._jobs = {}
        name = req.body.jobid
        job = self._jobs.get(name)
        if job is None:
            self._forget_idle()
            job = self._jobs[name] = Job(self.JOB_COUNTERS)
        job.last_s = self.rpc.now_s
        for counter, value in self.job_counters(req, reply).items():
            job.tallies[counter].add(value)

    def _forget_idle(self) -> None:
        if self.job_cleanup_interval and self._jobs:
            limit_s = self.rpc.now_s - self.job_cleanup_interval
            for name in [name for name, job in self._jobs.items() if job.last_s < limit_s]:
                del self._jobs[name]

    @Param.computed(access="rw", help="what was done for each job")
    def job_stats(self) -> str:
        """YAML as lprocfs_jobstats_seq_show writes it."""
        self._forget_idle()
        lines = ["job_stats:\n"]
        for name, job in (self._jobs or {}).items():
            lines += [f"- {'job_id:':<16} {_printable(name)}\n",
                      f"  {'snapshot_time:':<16} {job.last_s}\n"]  # fmt: skip
            lines += [_line(counter, tally) for counter, tally in job.tallies.items()]
        return "".join(lines)

    def store_job_stats(self, text: str) -> None:
        """Forget the job of that name, or with "clear" all; EINVAL where there is none."""
        name = text.strip()
        if name == "clear":
            self._jobs = None
        elif self._jobs is None or self._jobs.pop(name, None) is None:
            raise LustreError(errno.EINVAL, f"job {name}")


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in name)


def _line(name: str, tally: Any) -> str:
    bytes_ = name.endswith("_bytes")
    unit = "bytes" if bytes_ else "reqs"
    text = f"  {name + ':':<16} {{ samples: {tally.samples:11}, unit: {unit:>5}"
    if bytes_:
        text += f", min:{tally.low:8}, max:{tally.high:8}, sum:{tally.total:16}"
    return text + " }\n"

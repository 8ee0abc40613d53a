"""Jobs: which one a client works for, and what a target did for each.

Does not know who starts processes. Stands for jobid.c and lprocfs_jobstats.c (obdclass).
"""

from __future__ import annotations

import errno
from typing import Any, NamedTuple

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.base.params import Param
from labsim.net.ptlrpc import PtlRpc, ServerRequest
from labsim.wire.message import Message

JOBID_SIZE = 32
"""LUSTRE_JOBID_SIZE: what pb_jobid has room for, with its closing NUL."""
COMM_SIZE = 16
"""TASK_COMM_LEN: a process's name, with its closing NUL."""
KERNEL_THREADS = (
    "ll_ping", "ptlrpc", "ldlm", "ll_sa", "kworker", "kswapd", "writeback", "irq", "ksoftirq",
)  # fmt: skip
"""Names that begin so work for nobody (jobid_name_is_valid)."""


class Task(NamedTuple):
    """A process as jobid.c sees it."""

    comm: str = "ptlrpcd_00_00"
    pid: int = 0
    uid: int = 0
    gid: int = 0
    variables: tuple[tuple[str, str], ...] = ()
    session: str = ""
    """What jobid_this_session says in its session."""


KERNEL = Task()
"""Who sends what no process asked for."""


def job_of(var: str, name: str, task: Task, node: str, codes: str, sessions: bool) -> str:
    """The job that a request is sent for (lustre_get_jobid); empty: none.

    `var` and `name` are jobid_var and jobid_name, `codes` the letters that a release replaces
    behind a percent sign (before 2.12 none: the name is taken as it is), `sessions` tells
    whether it knows jobid_this_session (since 2.13).
    """
    if var == "disable":
        return ""
    if var == "nodelocal":
        found = expand(name, var, task, node, codes) if codes else name
    elif var == "procname_uid":
        found = f"{task.comm}.{task.uid}"
    elif sessions and var == "session":
        found = task.session or expand(name, var, task, node, codes)
    elif task.comm.startswith(KERNEL_THREADS):
        found = ""
    else:
        found = dict(task.variables).get(var, "") if "%j" not in name or not codes else ""
        if not found and codes:
            found = expand(name, var, task, node, codes)
    return found[: JOBID_SIZE - 1]


def expand(name: str, var: str, task: Task, node: str, codes: str) -> str:
    """jobid_name with its codes replaced; blanks and unknown codes go (jobid_interpret_string)."""
    values = {
        "e": task.comm,
        "g": str(task.gid),
        "h": node,
        "H": node.partition(".")[0],
        "j": task.session if var == "session" else dict(task.variables).get(var, ""),
        "p": str(task.pid),
        "u": str(task.uid),
    }
    found, letters = [], iter(name)
    for letter in letters:
        if letter == "%":
            code = next(letters, "")
            found.append(values[code] if code and code in codes else "")
        elif not letter.isspace():
            found.append(letter)
    return "".join(found)


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
        """A request of a job has been done; what no line counts leaves no trace."""
        counts = self.job_counters(req, reply)
        if not counts:
            return
        if self._jobs is None:
            self._jobs = {}
        name = req.body.jobid
        job = self._jobs.get(name)
        if job is None:
            self._forget_idle()
            job = self._jobs[name] = Job(self.JOB_COUNTERS)
        job.last_s = self.rpc.now_s
        for counter, value in counts.items():
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

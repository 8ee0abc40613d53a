"""The parameters that belong to a node as a whole: timeouts, fault injection, what it is.

Does not know what the node serves. Stands for obd_sysfs.c (obdclass), for the tables of libcfs and
LNet under /proc/sys or debugfs, and for `lctl dl`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from labsim.base.errors import LustreError
from labsim.base.ids import Nid
from labsim.base.params import Param
from labsim.base.units import MIB
from labsim.nodes.debug_files import DebugFiles
from labsim.nodes.debug_mask import DEBUG_WORDS, SUBSYSTEM_WORDS, mask_of, words_of
from labsim.nodes.jobs import KERNEL, Task, job_of
from labsim.runtime.ports import Host, Steps

T = TypeVar("T")

SOCKLND_CREDITS = (8, 0, 256, 256, 256)
"""peer_credits, those of routers, credits of socklnd (its module's defaults); left; least left."""
RAM_MB = 8192
"""The memory that a node is taken to have; half of it may hold dirty or cached pages."""
UINT_MAX = 2**32 - 1
JOBID_VAR_LENGTH = 20
"""JOBSTATS_JOBID_VAR_MAX_LEN."""
JOBID_NAME_LENGTH = 32
"""LUSTRE_JOBID_SIZE."""
FIRST_PID = 1000
"""Where the numbers of processes begin: what started with the machine has those below."""
DEBUG_DEFAULT = "ioctl neterror warning error emerg ha config console lfsck"
PRINTK_DEFAULT = "warning error emerg console"


class Device(NamedTuple):
    """One obd device, as `lctl dl` lists it."""

    kind: str
    """mgc, lov, lmv, osc, mdc, mdt, mdd, lod, osp, obdfilter, ost ..."""
    name: str
    uuid: str
    references: int = 4
    status: str = "UP"
    """UP; IN inactive, ST stopping, AT attached, -- else."""


class Globals(DebugFiles, tree=""):
    """What a node has once; mounted at the root of the parameter tree."""

    timeout = Param.seconds(100, low=1, help="obd_timeout: the RPC timeout without history")
    at_min = Param.seconds(0, help="the shortest adaptive timeout")
    at_max = Param.seconds(600, help="the longest adaptive timeout; 0 turns them off")
    at_history = Param.seconds(600, help="how long a service time is remembered")
    at_early_margin = Param.seconds(5, help="an early reply is due so long before the deadline")
    at_extra = Param.seconds(30, help="how much time an early reply asks for")
    ldlm_timeout = Param.seconds(20, help="a client has so long to answer a blocking AST")
    bulk_timeout = Param.seconds(100, help="a server waits so long for bulk data")
    max_dirty_bytes = Param.size_mb(
        RAM_MB // 2 * MIB, low=4, high=RAM_MB * 9 // 10, help="dirty data of all OSCs of the node"
    )
    dump_on_eviction = Param.flag(False, help="dump the debug log when a client was evicted")
    panic_on_lbug = Param.flag(False, help="an LBUG stops the node")
    debug_mb = Param.count(5, unit="MiB", low=1, help="memory of the debug log")
    fail_loc = Param.count(0, unit="fault point", high=UINT_MAX, help="the armed fault point")
    fail_val = Param.count(0, unit="depends on the point", high=UINT_MAX, help="its argument")
    fail_err = Param.count(0, unit="errno", low=-4095, help="the error a fault point answers with")
    jobid_var = Param.text("disable", length=JOBID_VAR_LENGTH, help="where a job's name is found")
    jobid_name = Param.text("", length=JOBID_NAME_LENGTH, help="the job's name, or its pattern")

    def __init__(self, host: Host, list_devices: Callable[[], list[Device]] = list) -> None:
        self.host = host
        self.list_devices = list_devices
        self.dirty_bytes = 0
        """Dirty data of all OSCs of the node (obd_dirty_pages)."""
        self.keep_no_files()
        self._tasks: dict[Any, Task] = {}
        self._sessions: dict[int, str] = {}
        self._pids = FIRST_PID
        self.jobid_name = "%e.%u" if host.kit.traits.jobid_codes else ""
        self.sick: list[str] = []
        """Names of devices that report themselves unhealthy."""
        self.debug_mask = mask_of(DEBUG_DEFAULT, 0, DEBUG_WORDS)
        self.subsystem_mask = UINT_MAX
        self.printk_mask = mask_of(PRINTK_DEFAULT, 0, DEBUG_WORDS)

    # ---- what it is

    @property
    def release(self) -> str:
        """The version this node says it is, as three numbers."""
        version = self.host.kit.traits.ocd_version
        return ".".join(str(version >> shift & 255) for shift in (24, 16, 8))

    @Param.computed(help="the version of Lustre this node runs")
    def version(self) -> str:
        """The version's text; procfs trees put it between others."""
        style = self.style_of("version")
        if style == "lines":
            return f"lustre: {self.release}\nkernel: patchless_client\nbuild:  {self.release}\n"
        return f"lustre: {self.release}" if style == "labelled" else self.release

    @Param.computed(help="whether every device of this node is well")
    def health_check(self) -> str:
        """healthy, or NOT HEALTHY; procfs trees tell which devices."""
        if not self.sick:
            return "healthy"
        lines = [f"device {name} reported unhealthy\n" for name in self.sick]
        told = "".join(lines) if self.style_of("health_check") == "lines" else ""
        return f"{told}NOT HEALTHY"

    @Param.computed(help="whether clients ping their servers")
    def pinger(self) -> str:
        """Always on: the pinger is part of every node."""
        return "on"

    @Param.computed(help="the obd devices of this node, as lctl dl lists them")
    def devices(self) -> str:
        """A line for each: index, status, type, name, uuid, references."""
        return "".join(
            f"{index:3} {d.status} {d.kind} {d.name} {d.uuid} {d.references}\n"
            for index, d in enumerate(self.list_devices())
        )

    def style_of(self, attr: str) -> str:
        """The form of a file's text that this node's dialect names."""
        mounted = self.mounted
        return mounted.rule(self.declared[attr]).style if mounted is not None else ""

    @Param.computed(file="stats", access="rw", help="what LNet has sent, received and dropped")
    def lnet_stats(self) -> str:
        """Messages now, at most, failed; sent, received, routed, dropped; then their bytes."""
        seen = self.host.lnet.counters
        return (
            f"0 0 0 {seen.send_count} {seen.recv_count} 0 {seen.drop_count} "
            f"{seen.send_length} {seen.recv_length} 0 {seen.drop_length}"
        )

    def store_stats(self, text: str) -> None:
        """Any write clears them."""
        self.host.lnet.counters.clear()

    @Param.computed(access="rw", help="the node's interfaces, and the credits that are left")
    def nis(self) -> str:
        """A line for each (proc_lnet_nis); what an LND takes, it takes at once: none is in use."""
        rows = [("nid", "status", "alive", "refs", "peer", "rtr", "max", "tx", "min"),
                ("0@lo", "up", 0, 2, 0, 0, 0, 0, 0),
                (Nid(self.host.lnet.nid), "up", -1, 1, *SOCKLND_CREDITS)]  # fmt: skip
        widths = (6, 5, 4, 4, 4, 5, 5, 5)
        return "".join(
            f"{nid!s:<24}" + "".join(f" {one:>{n}}" for n, one in zip(widths, rest, strict=True))
            + "\n"
            for nid, *rest in rows
        )  # fmt: skip

    def store_nis(self, text: str) -> None:
        """Any write makes the least that was left what is left now."""

    # ---- fault injection

    def set_fail_loc(self, value: int) -> None:
        """Arm what the number names, with Lustre's bits."""
        self.host.faults.set_fail_loc(value)

    def show_fail_loc(self) -> str:
        """The number as it stands, in decimal (proc_doulongvec_minmax)."""
        return f"{self.host.faults.fail_loc}\n"

    def set_fail_val(self, value: int) -> None:
        """The argument of what is armed now or next."""
        self.host.faults.set_fail_val(value)

    def show_fail_val(self) -> str:
        """The argument, in decimal."""
        return f"{self.host.faults.fail_val}\n"

    # ---- debug masks

    @Param.computed(access="rw", help="what goes into the debug log, as words")
    def debug(self) -> str:
        """The words of the mask."""
        return words_of(self.debug_mask, DEBUG_WORDS)

    def store_debug(self, text: str) -> None:
        """Words, +word, -word or a number."""
        self.debug_mask = mask_of(text, self.debug_mask, DEBUG_WORDS)

    @Param.computed(access="rw", help="which subsystems may write into the debug log, as words")
    def subsystem_debug(self) -> str:
        """The words of the mask."""
        return words_of(self.subsystem_mask, SUBSYSTEM_WORDS)

    def store_subsystem_debug(self, text: str) -> None:
        """Words, +word, -word or a number."""
        self.subsystem_mask = mask_of(text, self.subsystem_mask, SUBSYSTEM_WORDS)

    @Param.computed(access="rw", help="what goes to the console too, as words")
    def printk(self) -> str:
        """The words of the mask."""
        return words_of(self.printk_mask, DEBUG_WORDS)

    def store_printk(self, text: str) -> None:
        """Words, +word, -word or a number."""
        self.printk_mask = mask_of(text, self.printk_mask, DEBUG_WORDS)

    # ---- processes and their jobs

    def acting(self, task: Task, steps: Steps[T]) -> Steps[T]:
        """Run `steps` as a process of that name, user and environment."""
        process = self.host.env.active_process
        before = self._tasks.get(process, KERNEL)
        self._tasks[process] = task
        try:
            return (yield from steps)
        finally:
            if before is KERNEL:
                del self._tasks[process]
            else:
                self._tasks[process] = before

    def next_pid(self) -> int:
        """The number of a new process."""
        self._pids += 1
        return self._pids

    @property
    def task(self) -> Task:
        """Who runs just now."""
        return self._tasks.get(self.host.env.active_process, KERNEL)

    def job(self) -> str:
        """The job that a request sent now is for (lustre_get_jobid)."""
        var, traits, task = self.jobid_var, self.host.kit.traits, self.task
        if var == "disable":
            return ""
        task = task._replace(session=self._sessions.get(task.uid, ""))
        codes, sessions = traits.jobid_codes, traits.jobid_sessions
        return job_of(var, self.jobid_name, task, self.host.name, codes, sessions)

    @Param.computed(access="rw", help="the job of the session that reads or writes it")
    def jobid_this_session(self) -> str:
        """ENOENT where it was not set; a user has one session on a node."""
        name = self._sessions.get(self.task.uid)
        if name is None:
            raise LustreError(errno.ENOENT, "jobid_this_session")
        return f"{name}\n"

    def store_jobid_this_session(self, text: str) -> None:
        """Up to the first blank."""
        if not text or len(text) > JOBID_NAME_LENGTH:
            raise LustreError(errno.EINVAL, "jobid_this_session")
        self._sessions[self.task.uid] = (text.split() or [""])[0]

    def set_jobid_var(self, value: str) -> None:
        """An empty name is none."""
        if not value:
            raise LustreError(errno.EINVAL, "jobid_var is empty")
        self.jobid_var = value

"""The files of a service: statistics of its requests, how many threads it has.

Knows what a service tells after each request; which service it is, a subclass says with its
place in the parameter tree. Stands for ptlrpc_lprocfs_register and the counters of
ptlrpc/lproc_ptlrpc.c.
"""

from __future__ import annotations

from labsim.base.component import Component
from labsim.base.params import Param
from labsim.base.units import NS_PER_US
from labsim.net.ptlrpc.service import Service
from labsim.wire.opcodes import opcode_name


class ServiceFiles(Component):
    """One service's files; it observes the service from when it is made."""

    stats = Param.stats(help="requests by opcode, with the time they took and how long they waited")

    threads_min = Param.count(
        2, low=1, high=lambda self: self.threads_max, unit="threads", help="started at once"
    )
    threads_max = Param.count(
        64, low=lambda self: self.threads_min, high=512, unit="threads", help="started when needed"
    )

    def __init__(self, service: Service) -> None:
        self.service = service
        self.threads_max = service.threads
        service.observe = self.observe

    def set_threads_max(self, value: int) -> None:
        """So many requests are handled at a time, from the next one on."""
        self.threads_max = self.service.threads = value

    @Param.computed(unit="threads", help="threads of this service")
    def threads_started(self) -> int:
        """How many requests it handles at a time."""
        return self.service.threads

    def observe(self, opcode: int, wait_ns: int, service_ns: int) -> None:
        """One request has been handled."""
        self.stats.add("req_waittime", wait_ns // NS_PER_US)
        self.stats.add("req_qdepth", self.service.queued, "reqs")
        self.stats.add("req_active", self.service.busy, "reqs")
        self.stats.add(opcode_name(opcode).lower(), service_ns // NS_PER_US)

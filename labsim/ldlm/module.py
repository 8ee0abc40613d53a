"""What the lock manager of a node has once, whichever namespaces there are.

Knows parameters and services, not locks. Stands for the files of ldlm_resource.c under ldlm/ and
of the ptlrpc services that ldlm_lockd.c starts, under ldlm/services/.
"""

from __future__ import annotations

from labsim.base.component import Component
from labsim.base.params import Param
from labsim.net.ptlrpc import ServiceFiles
from labsim.runtime.ports import Host


class LdlmModule(Component, tree="ldlm"):
    """The module's own files; mounted when a node is made."""

    cancel_unused_locks_before_replay = Param.flag(
        True, help="locks that nobody uses are forgotten when a server has restarted"
    )

    def __init__(self, host: Host) -> None:
        self.host = host
        host.params.mount(self)

    @Param.trigger(help="note in the trace how many locks each namespace has")
    def dump_namespaces(self, text: str) -> None:
        """Any text will do."""
        for name, count in self.host.params.get("ldlm.namespaces.*.lock_count"):
            self.host.trace.emit("ldlm.dump", name, int(count))


class LdlmService(ServiceFiles, tree="ldlm.services.{name}"):
    """The statistics of ldlm_cbd or ldlm_canceld."""

"""The MGS: the node that every other one asks what its file system is made of.

Knows its services, and which parameters are its own too. Stands for lustre/mgs.
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.errors import LustreError
from labsim.net.ptlrpc import ServiceFiles
from labsim.nodes.config import NodeConfig
from labsim.nodes.globals import Device
from labsim.nodes.mgs.fsdb import PARAMS
from labsim.nodes.mgs.mgt import MgsTarget
from labsim.nodes.node import Node
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import (
    LDLM_CANCEL_REPLY_PORTAL,
    LDLM_CANCEL_REQUEST_PORTAL,
    MGC_REPLY_PORTAL,
    MGS_REQUEST_PORTAL,
)


class MgsService(ServiceFiles, tree="mgs.MGS.mgs"):
    """The files of the service."""


class Mgs(Node):
    """A management server."""

    kind = "mgs"

    def __init__(self, host: Host, config: NodeConfig) -> None:
        super().__init__(host, config)
        (info,) = config.targets
        self.target: MgsTarget = self.make(MgsTarget, self, info)

    def devices(self) -> list[Device]:
        """What `lctl dl` lists."""
        return [Device("mgs", "MGS", "MGS", 2 * len(self.target.exports) + 5)]

    def start(self) -> Steps[None]:
        """Read the logs, then open the portals; a new MGT gets the parameters of mkfs."""
        yield from super().start()
        target = self.target
        yield from target.start()
        if PARAMS not in target.configs.logs:
            for name, value in self.config.fs.params:
                yield from target.set_param(name, value)
        for name, value in (yield from target.configs.settings(PARAMS)):
            self.apply(name, value)
        service = self.serve("mgs", MGS_REQUEST_PORTAL, MGC_REPLY_PORTAL)
        self.show_service(service, self.make(MgsService, service))
        self.serve("ldlm_canceld", LDLM_CANCEL_REQUEST_PORTAL, LDLM_CANCEL_REPLY_PORTAL)

    def stop(self) -> Steps[None]:
        """Close the portals, write back, let the nodes go."""
        yield from super().stop()
        yield from self.target.stop()

    # ---- what an administrator says

    def set_param(self, name: str, value: str) -> Steps[None]:
        """`lctl set_param -P NAME=VALUE`; the others take it when they have read their logs.

        An empty value takes back what was set for good (-d); what runs keeps it. ENOENT.
        """
        self.host.trace.emit("mgs.set_param", name, value)
        yield from self.target.set_param(name, value)
        if value:
            self.apply(name, value)

    def conf_param(self, where: str, name: str, value: str) -> Steps[None]:
        """`lctl conf_param WHERE.NAME=VALUE`; EINVAL where there is no such target.

        An empty value takes it back (-d).
        """
        self.host.trace.emit("mgs.conf_param", where, name, value)
        yield from self.target.conf_param(where, name, value)

    def clear_conf(self, name: str) -> Steps[None]:
        """`lctl clear_conf FSNAME | LOG`: drop what is skipped from logs; EBUSY in use.

        For that every other node has to be unmounted (mgs_clear_configs).
        """
        if len(self.target.exports):
            raise LustreError(errno.EBUSY, "somebody is connected to the MGS")
        yield from self.target.configs.clear(name)

    def llog_print(self, name: str) -> Steps[str]:
        """`lctl llog_print LOG`: what a log says, as YAML; ENOENT."""
        return (yield from self.target.configs.printed(name))

    def apply(self, name: str, value: str) -> None:
        """Take a parameter here; most are of other nodes."""
        try:
            self.host.params.set(name, value)
        except LustreError as error:
            self.host.trace.emit("param.refused", name, value, error.errno)

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return super().snapshot() | {"mgt": self.target.snapshot()}

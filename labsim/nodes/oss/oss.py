"""The OSS: a node that serves one or more OSTs.

Knows which services an OSS runs, not what they do. Stands for lustre/ost (ost_handler.c).
"""

from __future__ import annotations

from typing import Any

from labsim.nodes.config import NodeConfig, TargetInfo
from labsim.nodes.globals import Device
from labsim.nodes.mgc import PARAMS, Mgc
from labsim.nodes.node import Node
from labsim.nodes.oss.brw import Ofd
from labsim.nodes.setup import Setup
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import (
    LDLM_CANCEL_REPLY_PORTAL,
    LDLM_CANCEL_REQUEST_PORTAL,
    LDLM_CB_REPLY_PORTAL,
    LDLM_CB_REQUEST_PORTAL,
    OSC_REPLY_PORTAL,
    OST_CREATE_PORTAL,
    OST_IO_PORTAL,
    OST_REQUEST_PORTAL,
)

PLACES = {"ost": "obdfilter.{device}", "obdfilter": "obdfilter.{device}"}
"""Where the parameters of a device in the log are on an OSS."""


class Oss(Node):
    """An object storage server."""

    kind = "oss"

    def __init__(self, host: Host, config: NodeConfig) -> None:
        super().__init__(host, config)
        self.mgc: Mgc = self.make(Mgc, self, config.fs.mgs)
        self.targets: list[Ofd] = []

    def devices(self) -> list[Device]:
        """What `lctl dl` lists."""
        return [
            self.mgc.device,
            Device("ost", "OSS", "OSS_uuid", 3),
            *(
                Device("obdfilter", target.name, target.uuid, 2 * len(target.exports) + 3)
                for target in self.targets
            ),
        ]

    def start(self) -> Steps[None]:
        """Bring the OSTs up, open the portals, then tell the MGS."""
        yield from super().start()
        self.serve("ldlm_cbd", LDLM_CB_REQUEST_PORTAL, LDLM_CB_REPLY_PORTAL)
        yield from self.mgc.start()
        for info in self.config.targets:
            yield from self._prepare(info)
        yield from self.mgc.follow(PARAMS, self.make(Setup, self.host, PLACES))
        for target in self.targets:
            yield from target.start()
        self.serve("ost", OST_REQUEST_PORTAL, OSC_REPLY_PORTAL)
        self.serve("ost_io", OST_IO_PORTAL, OSC_REPLY_PORTAL)
        self.serve("ost_create", OST_CREATE_PORTAL, OSC_REPLY_PORTAL, threads=2)
        self.serve("ldlm_canceld", LDLM_CANCEL_REQUEST_PORTAL, LDLM_CANCEL_REPLY_PORTAL)
        for target in self.targets:
            yield from self._ready(target)

    def _prepare(self, info: TargetInfo) -> Steps[Ofd]:
        """Register an OST and read its log; it does not run yet."""
        target = self.make(Ofd, self, info)
        self.targets.append(target)
        self.host.params.mount(target, name=target.name)
        yield from self.mgc.register(self.config.fs.fsname, info)
        yield from self.mgc.follow(info.name, self.make(Setup, self.host, PLACES))
        return target

    def _ready(self, target: Ofd) -> Steps[None]:
        mounts = target.last_rcvd.mount_count
        yield from self.mgc.ready(self.config.fs.fsname, target.info, mounts)

    def add_target(self, info: TargetInfo) -> Steps[None]:
        """A new OST on a running OSS."""
        target = yield from self._prepare(info)
        yield from target.start()
        yield from self._ready(target)

    def stop(self) -> Steps[None]:
        """Close the portals, write back, let the clients go."""
        yield from super().stop()
        for target in self.targets:
            yield from target.stop()
        yield from self.mgc.stop()

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return super().snapshot() | {"targets": [target.snapshot() for target in self.targets]}

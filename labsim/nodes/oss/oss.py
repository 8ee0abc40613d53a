"""The OSS: a node that serves one or more OSTs.

Knows which services an OSS runs, not what they do. Stands for lustre/ost (ost_handler.c).
"""

from __future__ import annotations

from typing import Any

from labsim.nodes.config import NodeConfig
from labsim.nodes.globals import Device
from labsim.nodes.node import Node
from labsim.nodes.oss.brw import Ofd
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import (
    LDLM_CANCEL_REPLY_PORTAL,
    LDLM_CANCEL_REQUEST_PORTAL,
    OSC_REPLY_PORTAL,
    OST_CREATE_PORTAL,
    OST_IO_PORTAL,
    OST_REQUEST_PORTAL,
)


class Oss(Node):
    """An object storage server."""

    kind = "oss"

    def __init__(self, host: Host, config: NodeConfig) -> None:
        super().__init__(host, config)
        self.targets: list[Ofd] = [self.make(Ofd, self, info) for info in config.targets]
        for target in self.targets:
            host.params.mount(target, name=target.name)

    def devices(self) -> list[Device]:
        """What `lctl dl` lists."""
        return [
            Device("ost", "OSS", "OSS_uuid", 3),
            *(
                Device("obdfilter", target.name, target.uuid, 2 * len(target.exports) + 3)
                for target in self.targets
            ),
        ]

    def start(self) -> Steps[None]:
        """Bring the OSTs up, then open the portals."""
        yield from super().start()
        self.configure()
        for target in self.targets:
            yield from target.start()
        self.serve("ost", OST_REQUEST_PORTAL, OSC_REPLY_PORTAL)
        self.serve("ost_io", OST_IO_PORTAL, OSC_REPLY_PORTAL)
        self.serve("ost_create", OST_CREATE_PORTAL, OSC_REPLY_PORTAL, threads=2)
        self.serve("ldlm_canceld", LDLM_CANCEL_REQUEST_PORTAL, LDLM_CANCEL_REPLY_PORTAL)

    def stop(self) -> Steps[None]:
        """Close the portals, write back, let the clients go."""
        yield from super().stop()
        for target in self.targets:
            yield from target.stop()

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return super().snapshot() | {"targets": [target.snapshot() for target in self.targets]}

"""The OSS: a node that serves OSTs.

Knows which services an OSS runs, not what they do. Stands for lustre/ost (ost_handler.c).
"""

from __future__ import annotations

from labsim.net.ptlrpc import ServiceFiles
from labsim.nodes.config import TargetInfo
from labsim.nodes.globals import Device
from labsim.nodes.oss.brw import Ofd
from labsim.nodes.server import Server
from labsim.wire.constants import (
    LDLM_CANCEL_REPLY_PORTAL,
    LDLM_CANCEL_REQUEST_PORTAL,
    OSC_REPLY_PORTAL,
    OST_CREATE_PORTAL,
    OST_IO_PORTAL,
    OST_REQUEST_PORTAL,
)

SERVICES = (
    ("ost", OST_REQUEST_PORTAL, 64),
    ("ost_io", OST_IO_PORTAL, 64),
    ("ost_create", OST_CREATE_PORTAL, 2),
)
"""(name, request portal, threads)."""


class OssService(ServiceFiles, tree="ost.OSS.{name}"):
    """One service's files."""


class Oss(Server):
    """An object storage server."""

    kind = "oss"
    places = {"ost": "obdfilter.{device}", "obdfilter": "obdfilter.{device}"}
    """Where the parameters of a device in the log are on an OSS."""

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

    def make_target(self, info: TargetInfo) -> Ofd:
        """An OST."""
        target: Ofd = self.make(Ofd, self, info)
        self.host.params.mount(target, name=target.name)
        return target

    def open_portals(self) -> None:
        """The services of an OSS."""
        for name, portal, threads in SERVICES:
            service = self.serve(name, portal, OSC_REPLY_PORTAL, threads)
            self.show_service(service, self.make(OssService, service))
        self.serve("ldlm_canceld", LDLM_CANCEL_REQUEST_PORTAL, LDLM_CANCEL_REPLY_PORTAL)

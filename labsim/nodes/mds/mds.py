"""The MDS: a node that serves MDTs.

Knows which services an MDS runs, not what they do. Stands for lustre/mdt/mdt_mds.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.net.ptlrpc import ServiceFiles
from labsim.nodes.config import TargetInfo
from labsim.nodes.globals import Device
from labsim.nodes.mds.mdt import Mdt
from labsim.nodes.server import Server
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    FLD_REQUEST_PORTAL,
    LDLM_CANCEL_REPLY_PORTAL,
    LDLM_CANCEL_REQUEST_PORTAL,
    MDC_REPLY_PORTAL,
    MDS_READPAGE_PORTAL,
    MDS_REQUEST_PORTAL,
    SEQ_CONTROLLER_PORTAL,
    SEQ_METADATA_PORTAL,
)

SERVICES = (
    ("mdt", MDS_REQUEST_PORTAL, MDC_REPLY_PORTAL),
    ("mdt_readpage", MDS_READPAGE_PORTAL, MDC_REPLY_PORTAL),
    ("mdt_seqs", SEQ_METADATA_PORTAL, MDC_REPLY_PORTAL),
    ("mdt_seqm", SEQ_CONTROLLER_PORTAL, MDC_REPLY_PORTAL),
    ("mdt_fld", FLD_REQUEST_PORTAL, MDC_REPLY_PORTAL),
    ("ldlm_canceld", LDLM_CANCEL_REQUEST_PORTAL, LDLM_CANCEL_REPLY_PORTAL),
)
"""(name, request portal, reply portal); closes go to mdt_readpage and never wait for locks."""


class MdsService(ServiceFiles, tree="mds.MDS.{name}"):
    """One service's files."""


class Mds(Server):
    """A metadata server."""

    kind = "mds"
    places = {
        "osc": "osp.{device}", "lov": "lod.{device}", "mdt": "mdt.{device}", "mdd": "mdd.{device}",
    }  # fmt: skip
    """Where the parameters of a device in the log are on an MDS."""

    def devices(self) -> list[Device]:
        """What `lctl dl` lists."""
        found = [self.mgc.device, Device("mds", "MDS", "MDS_uuid", 3)]
        for target in self.targets:
            fsname, _, letters = target.name.partition("-")
            lod = f"{target.name}-mdtlov"
            found += [
                Device("lod", lod, f"{lod}_UUID"),
                Device("mdt", target.name, target.uuid, 2 * len(target.exports) + 3),
                Device("mdd", f"{fsname}-{letters.replace('MDT', 'MDD')}", f"{lod}_UUID"),
            ]
            found += [Device("osp", osp.name, f"{lod}_UUID") for osp in target.lod.osps.values()]
            found += target.links.devices()
        return found

    def client_devices(self) -> list[Any]:
        """The ways of its MDTs to OSTs."""
        return [osp for target in self.targets for osp in target.lod.osps.values()]

    def make_target(self, info: TargetInfo) -> Mdt:
        """An MDT."""
        target: Mdt = self.make(Mdt, self, info)
        return target

    def make_device(self, target: Mdt) -> Callable[[str, TargetInfo], Any]:
        """The way to an OST, or to MDT0000."""
        return target.add_target

    def open_portals(self) -> None:
        """The services of an MDS."""
        for name, portal, reply_portal in SERVICES:
            service = self.serve(name, portal, reply_portal)
            if name.startswith("mdt"):
                self.show_service(service, self.make(MdsService, service))

    def _follow(self, target: Mdt, copies: Any) -> Steps[None]:
        """An MDT also hears where OSTs come up."""
        yield from super()._follow(target, copies)
        fsname = self.config.fs.fsname
        log = yield from self.mgc.follow_recover(fsname, target.name, target.moved)
        self._logs[target.name].append(log)

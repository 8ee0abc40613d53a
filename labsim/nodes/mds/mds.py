"""The MDS: a node that serves one or more MDTs.

Knows which services an MDS runs, not what they do. Stands for lustre/mdt/mdt_mds.c.
"""

from __future__ import annotations

from typing import Any

from labsim.base.component import Component
from labsim.base.params import Param
from labsim.base.units import NS_PER_US
from labsim.net.ptlrpc import Service
from labsim.nodes.config import NodeConfig
from labsim.nodes.globals import Device
from labsim.nodes.mds.mdt import Mdt
from labsim.nodes.mgc import PARAMS, Mgc
from labsim.nodes.node import Node
from labsim.nodes.setup import Setup
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import (
    FLD_REQUEST_PORTAL,
    LDLM_CANCEL_REPLY_PORTAL,
    LDLM_CANCEL_REQUEST_PORTAL,
    LDLM_CB_REPLY_PORTAL,
    LDLM_CB_REQUEST_PORTAL,
    MDC_REPLY_PORTAL,
    MDS_READPAGE_PORTAL,
    MDS_REQUEST_PORTAL,
    SEQ_CONTROLLER_PORTAL,
    SEQ_METADATA_PORTAL,
)
from labsim.wire.opcodes import opcode_name

SERVICES = (
    ("mdt", MDS_REQUEST_PORTAL, MDC_REPLY_PORTAL),
    ("mdt_readpage", MDS_READPAGE_PORTAL, MDC_REPLY_PORTAL),
    ("mdt_seqs", SEQ_METADATA_PORTAL, MDC_REPLY_PORTAL),
    ("mdt_seqm", SEQ_CONTROLLER_PORTAL, MDC_REPLY_PORTAL),
    ("mdt_fld", FLD_REQUEST_PORTAL, MDC_REPLY_PORTAL),
    ("ldlm_canceld", LDLM_CANCEL_REQUEST_PORTAL, LDLM_CANCEL_REPLY_PORTAL),
)
"""(name, request portal, reply portal); closes go to mdt_readpage and never wait for locks."""

PLACES = {
    "osc": "osp.{device}", "lov": "lod.{device}", "mdt": "mdt.{device}", "mdd": "mdd.{device}",
}  # fmt: skip
"""Where the parameters of a device in the log are on an MDS."""


class MdsService(Component, tree="mds.MDS.{name}"):
    """One service's files."""

    stats = Param.stats(help="requests by opcode, with the time they took and how long they waited")

    def __init__(self, service: Service) -> None:
        self.service = service
        service.observe = self.observe

    def observe(self, opcode: int, wait_ns: int, service_ns: int) -> None:
        """One request has been handled."""
        self.stats.add("req_waittime", wait_ns // NS_PER_US)
        self.stats.add("req_qdepth", self.service.queued, "reqs")
        self.stats.add("req_active", self.service.busy, "reqs")
        self.stats.add(opcode_name(opcode).lower(), service_ns // NS_PER_US)

    @Param.computed(unit="threads", help="threads of this service")
    def threads_started(self) -> int:
        """How many requests it handles at a time."""
        return self.service.threads


class Mds(Node):
    """A metadata server."""

    kind = "mds"

    def __init__(self, host: Host, config: NodeConfig) -> None:
        super().__init__(host, config)
        self.mgc: Mgc = self.make(Mgc, self, config.fs.mgs)
        self.targets: list[Mdt] = [self.make(Mdt, self, info) for info in config.targets]

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
        return found

    def start(self) -> Steps[None]:
        """Bring the MDTs up, open the portals, tell the MGS; the way to the OSTs takes longer."""
        yield from super().start()
        self.serve("ldlm_cbd", LDLM_CB_REQUEST_PORTAL, LDLM_CB_REPLY_PORTAL)
        yield from self.mgc.start()
        fsname = self.config.fs.fsname
        for target in self.targets:
            yield from self.mgc.register(fsname, target.info)
            setup = self.make(Setup, self.host, PLACES, target.add_target)
            yield from self.mgc.follow(target.name, setup)
        yield from self.mgc.follow(PARAMS, self.make(Setup, self.host, PLACES))
        for target in self.targets:
            yield from target.start()
        for name, portal, reply_portal in SERVICES:
            service = self.serve(name, portal, reply_portal)
            if name.startswith("mdt"):
                self.host.params.mount(self.make(MdsService, service), name=name)
        for target in self.targets:
            yield from self.mgc.ready(fsname, target.info, target.last_rcvd.mount_count)

    def stop(self) -> Steps[None]:
        """Close the portals, write back, let the clients go."""
        yield from super().stop()
        for target in self.targets:
            yield from target.stop()
        yield from self.mgc.stop()

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return super().snapshot() | {"targets": [target.snapshot() for target in self.targets]}

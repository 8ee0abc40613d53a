"""A toy target and one client over the real ptlrpc and the simulated network."""

from __future__ import annotations

from random import Random
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.faults import Faults
from labsim.base.ids import Nid
from labsim.base.trace import Trace
from labsim.base.units import NS_PER_S
from labsim.net.lnd_sim import Fabric
from labsim.net.lnet import PUT, Lnet
from labsim.net.ptlrpc import Exports, Handlers, Import, PtlRpc, Service, handles
from labsim.runtime.ports import Clock, Host
from labsim.runtime.sim import environment
from labsim.wire.constants import (
    OBD_CONNECT_AT,
    OBD_CONNECT_FID,
    OBD_CONNECT_VERSION,
    OSC_REPLY_PORTAL,
    OST_IO_PORTAL,
    OST_REQUEST_PORTAL,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.opcodes import (
    OBD_PING,
    OST_CONNECT,
    OST_DISCONNECT,
    OST_READ,
    OST_STATFS,
    OST_SYNC,
    OST_WRITE,
)
from labsim.wire.ost import ObdStatfs

SERVER, CLIENT = Nid.parse("10.0.0.2@tcp"), Nid.parse("10.0.1.1@tcp")


class Toy(Handlers):
    """A target that counts, sleeps and keeps bytes."""

    recovering = False
    name = "lustre-OST0000"
    last_committed = 7

    def __init__(self, rpc: PtlRpc) -> None:
        self.rpc = rpc
        self.grants = OBD_CONNECT_VERSION | OBD_CONNECT_AT
        self.exports = Exports(rpc, self, self.negotiate)
        self.count = 0
        self.kept: Any = b""
        self.sleep_s = 0
        rpc.targets["lustre-OST0000_UUID"] = self

    def negotiate(self, export: Any, want: ObdConnectData) -> ObdConnectData:
        export.last_committed = self.last_committed
        return want.replace(connect_flags=want.connect_flags & self.grants)

    @handles(OST_CONNECT)
    def connect(self, req: Any) -> Any:
        return self.exports.connect(req)

    @handles(OST_DISCONNECT)
    def disconnect(self, req: Any) -> Any:
        self.exports.remove(req.export)
        return req.reply()

    @handles(OBD_PING)
    def ping(self, req: Any) -> Any:
        return req.reply()

    @handles(OST_STATFS)
    def statfs(self, req: Any) -> Any:
        self.count += 1
        yield self.rpc.env.timeout(self.sleep_s * NS_PER_S)
        return req.reply(obd_statfs=ObdStatfs(blocks=self.count))

    @handles(OST_SYNC)
    def sync(self, req: Any) -> Any:
        raise LustreError(28, "full")

    @handles(OST_WRITE)
    def write(self, req: Any) -> Any:
        self.count += 1
        self.kept = yield from req.pull(req["niobuf_remote"][0].len)
        return req.reply(ost_body=req["ost_body"], rcs=[0])

    @handles(OST_READ)
    def read(self, req: Any) -> Any:
        yield from req.push(self.kept)
        return req.reply(status=len(self.kept), ost_body=req["ost_body"])


class World:
    """One client, one server, a network."""

    def __init__(self, flags: int = OBD_CONNECT_VERSION | OBD_CONNECT_FID) -> None:
        self.env = environment()
        self.trace = Trace(lambda: self.env.now)
        self.fabric = Fabric(self.env)
        self.server = PtlRpc(self.host("oss0", SERVER))
        self.client = PtlRpc(self.host("c0", CLIENT))
        self.toy = Toy(self.server)
        self.services = [
            Service(self.server, "ost", portal, OSC_REPLY_PORTAL)
            for portal in (OST_REQUEST_PORTAL, OST_IO_PORTAL, 7)
        ]
        self.imp = Import(
            self.client,
            name="lustre-OST0000-osc-ffff880000000001",
            target_uuid="lustre-OST0000_UUID",
            client_uuid="c0-uuid",
            nids=[SERVER],
            portals=(OST_REQUEST_PORTAL, OSC_REPLY_PORTAL),
            opcodes=(OST_CONNECT, OST_DISCONNECT),
            want=lambda: ObdConnectData(connect_flags=flags),
            callback_cookie=99,
        )

    def host(self, name: str, nid: Nid) -> Host:
        lnet = Lnet(nid)
        self.fabric.attach(lnet)
        faults = Faults(self.env, Random(name))
        return Host(name, self.env, lnet, {}, Random(name), None, faults, self.trace.of(name),
                    Clock(self.env, 1_500_000_000 * NS_PER_S), None)  # type: ignore[arg-type]  # fmt: skip

    def run(self, steps: Any) -> Any:
        return self.env.run(self.env.process(steps))

    def drop(self, count: int, portal: int, nid: Nid) -> None:
        """Lose the next `count` PUTs that `nid` would take on a portal."""
        lnet = (self.server if nid == SERVER else self.client).lnet
        port = next(p for p in self.fabric._ports.values() if p.nid == nid)
        left = [count]

        def receive(packet: Any) -> None:
            if left[0] and packet.kind == PUT and packet.portal == portal:
                left[0] -= 1
                return
            lnet.receive(packet)

        port.receive = receive


def kinds(world: World, kind: str) -> int:
    """How often something happened."""
    return sum(event.kind == kind for event in world.trace.events)

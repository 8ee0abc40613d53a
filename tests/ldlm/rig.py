"""One target and any number of clients over the real ptlrpc and the simulated network."""

from __future__ import annotations

from random import Random
from typing import Any

from labsim.base.faults import Faults
from labsim.base.ids import Nid
from labsim.base.overlay import Kit
from labsim.base.param_tree import ParamTree
from labsim.base.trace import Trace
from labsim.base.units import NS_PER_S
from labsim.ldlm.client import ClientNamespace
from labsim.ldlm.client_lock import ClientLock
from labsim.ldlm.handlers import LdlmHandlers
from labsim.ldlm.module import LdlmModule
from labsim.ldlm.resource import fid_resource
from labsim.ldlm.server import ServerNamespace
from labsim.net.lnd_sim import Fabric
from labsim.net.lnet import Lnet
from labsim.net.ptlrpc import Exports, Import, PtlRpc, Service, handles
from labsim.runtime.ports import Clock, Host
from labsim.runtime.sim import environment
from labsim.wire.constants import (
    LDLM_CANCEL_REPLY_PORTAL,
    LDLM_CANCEL_REQUEST_PORTAL,
    LDLM_CB_REPLY_PORTAL,
    LDLM_CB_REQUEST_PORTAL,
    MDC_REPLY_PORTAL,
    MDS_REQUEST_PORTAL,
    OBD_CONNECT_CANCELSET,
    OBD_CONNECT_LRU_RESIZE,
    OBD_CONNECT_LVB_TYPE,
    OBD_CONNECT_VERSION,
    OSC_REPLY_PORTAL,
    OST_REQUEST_PORTAL,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.opcodes import MDS_CONNECT, MDS_DISCONNECT, OBD_PING, OST_CONNECT, OST_DISCONNECT
from labsim.wire.ost import OstLvb

SERVER = Nid.parse("10.0.0.2@tcp")
GRANTED = (
    OBD_CONNECT_VERSION | OBD_CONNECT_LVB_TYPE | OBD_CONNECT_LRU_RESIZE | OBD_CONNECT_CANCELSET
)
S = NS_PER_S


class Toy(LdlmHandlers):
    """A target with locks; intents lock what `found` says and count."""

    last_committed = 0

    def __init__(self, rpc: PtlRpc, name: str) -> None:
        self.rpc = rpc
        self.host = rpc.host
        self.name = name
        self.exports = Exports(rpc, self, self.negotiate)
        self.ldlm = ServerNamespace(self)
        self.block = OstLvb(size=100, mtime=5, blocks=8)
        self.on_intent: Any = None
        rpc.targets[name + "_UUID"] = self

    @staticmethod
    def negotiate(export: Any, want: ObdConnectData) -> ObdConnectData:
        return want.replace(connect_flags=want.connect_flags & GRANTED)

    @handles(MDS_CONNECT, OST_CONNECT)
    def connect(self, req: Any) -> Any:
        return self.exports.connect(req)

    @handles(MDS_DISCONNECT, OST_DISCONNECT)
    def disconnect(self, req: Any) -> Any:
        self.exports.remove(req.export)
        return req.reply()

    @handles(OBD_PING)
    def ping(self, req: Any) -> Any:
        return req.reply()

    def lvb(self, resource: Any) -> bytes:
        return self.block.pack()

    def intent(self, req: Any) -> Any:
        return (yield from self.on_intent(req))


class Node:
    """What a component is given of its node."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.ldlm_module = LdlmModule(host)


class User:
    """One client: its import, its locks, and what was asked of it."""

    def __init__(self, world: World, number: int, flags: int, kit: Kit, flags2: int = 0) -> None:
        self.world = world
        self.rpc = PtlRpc(world.host(f"c{number}", Nid.parse(f"10.0.1.{number + 1}@tcp"), kit))
        self.service = Service(self.rpc, "ldlm_cbd", LDLM_CB_REQUEST_PORTAL, LDLM_CB_REPLY_PORTAL)
        self.called: list[ClientLock] = []
        self.flush_ns = 0
        ost = "-OST" in world.target.name
        name = f"{world.target.name}-{'osc' if ost else 'mdc'}-ffff{number:012x}"
        self.imp = Import(
            self.rpc,
            name=name,
            target_uuid=world.target.name + "_UUID",
            client_uuid=f"c{number}",
            nids=[SERVER],
            portals=(OST_REQUEST_PORTAL, OSC_REPLY_PORTAL) if ost
            else (MDS_REQUEST_PORTAL, MDC_REPLY_PORTAL),
            opcodes=(OST_CONNECT, OST_DISCONNECT) if ost else (MDS_CONNECT, MDS_DISCONNECT),
            want=lambda: ObdConnectData(connect_flags=flags, connect_flags2=flags2),
        )  # fmt: skip
        self.ns = kit.build(ClientNamespace)(Node(self.rpc.host), self.imp, name)
        world.run(self.imp.connect())

    def blocking(self, lock: ClientLock) -> Any:
        self.called.append(lock)
        return self._flush() if self.flush_ns else None

    def _flush(self) -> Any:
        yield self.world.env.timeout(self.flush_ns)

    def lock(self, resource: Any, mode: int, **given: Any) -> Any:
        """Enqueue, as a process body; returns the lock."""
        lock, _ = yield from self.ns.enqueue(resource, mode, blocking=self.blocking, **given)
        return lock

    def take(self, resource: Any, mode: int, **given: Any) -> ClientLock:
        """Enqueue, now."""
        lock: ClientLock = self.world.run(self.lock(resource, mode, **given))
        return lock

    def params(self) -> ParamTree:
        tree: ParamTree = self.rpc.host.params
        return tree


class World:
    """A server with one target, a network, and clients as they are asked for."""

    def __init__(self, target: str = "lustre-MDT0000") -> None:
        self.env = environment()
        self.trace = Trace(lambda: self.env.now)
        self.fabric = Fabric(self.env)
        self.server = PtlRpc(self.host("s0", SERVER))
        self.target = Toy(self.server, target)
        self.users: list[User] = []
        for portal, reply in (
            (OST_REQUEST_PORTAL, OSC_REPLY_PORTAL),
            (MDS_REQUEST_PORTAL, MDC_REPLY_PORTAL),
            (LDLM_CANCEL_REQUEST_PORTAL, LDLM_CANCEL_REPLY_PORTAL),
        ):
            Service(self.server, "server", portal, reply)

    def host(self, name: str, nid: Nid, kit: Kit | None = None, hz: int = 1000) -> Host:
        lnet = Lnet(nid)
        self.fabric.attach(lnet)
        clock = Clock(self.env, 1_500_000_000 * S, hz)
        faults = Faults(self.env, Random(1))
        return Host(name, self.env, lnet, {}, Random(name), ParamTree(), faults,
                    self.trace.of(name), clock, kit or Kit())  # fmt: skip

    def user(self, flags: int = GRANTED, kit: Kit | None = None, flags2: int = 0) -> User:
        user = User(self, len(self.users), flags, kit or Kit(), flags2)
        self.users.append(user)
        return user

    def run(self, steps: Any) -> Any:
        return self.env.run(self.env.process(steps))

    def start(self, steps: Any) -> Any:
        """Run it beside everything else; `.value` has its result once it is over."""
        process = self.env.process(steps)
        process.defused = True
        return process

    def wait(self, seconds: float) -> None:
        self.env.run(self.env.now + int(seconds * S))

    def sent(self, opcode: int) -> int:
        """How many requests of that opcode went out, from anybody."""
        return sum(
            1
            for event in self.trace.events
            if event.kind == "rpc.send" and event.fields[0] == opcode
        )

    def evictions(self) -> list[str]:
        return [event.fields[2] for event in self.trace.events if event.kind == "export.evict"]

    def granted(self) -> list[tuple[str, str, str]]:
        """(owner, mode, policy) of everything that the target has granted."""
        return [
            (lock["owner"], lock["mode"], lock["policy"])
            for lock in self.target.ldlm.snapshot()
            if lock["state"] == "GRANTED"
        ]


def name_of(fid: Any) -> Any:
    return fid_resource(fid)

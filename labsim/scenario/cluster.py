"""A cluster: the one place that decides which runtime the nodes get.

    with Cluster(clients=2, oss=2, osts=4) as cluster:
        cluster.client(0).run("touch f")

Does not know scenario files. Stands for a whole file system with its clients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import GeneratorType
from typing import Any, Literal

import msgspec

from labsim.base.errors import InputError, LustreError
from labsim.base.ids import Nid
from labsim.base.units import NS_PER_S
from labsim.net.lnd_sim import DEFAULT, PRESETS, Link
from labsim.net.rules import Rule
from labsim.nodes.config import MGC_TIMEOUT_MIN_SECONDS, FsConfig
from labsim.runtime.memory import seldom_collecting
from labsim.runtime.ports import Steps
from labsim.scenario.handles import EHOSTDOWN, Handle
from labsim.scenario.record import Archive
from labsim.scenario.topology import (
    DEFAULT_HZ,
    DEFAULT_TREE,
    DISK,
    EPOCH_NS,
    KITS,
    SHELL,
    Partners,
    Plan,
)

Runtime = Literal["sim", "live"]


class Cluster:
    """One MGS, MDSs, OSSs and clients, simulated or live, from `with` to the end of its block.

    `osts` are dealt out to the OSSs in turn (one each when not given). `client_trees`, `hz` and
    `mount` say what differs for the first clients. `params` are set as `lctl set_param -P` would.
    `overlays` are the overlay files (.py) of single nodes by name. `capacity` is the size of each
    target's disk in bytes. `failover="pairs"` or "service" makes partners of the servers (see
    topology.Plan). `mgc_requeue_timeout_min` is mgc's module parameter, in seconds. With `record`
    what processes ask of the file system is noted in `archive`. `epoch` is the date (seconds since
    1970) at which the run starts. `pcap` is a file for a capture of the network; a live cluster
    writes it when it closes. Simulated only: `link` names a preset of `net.lnd_sim` or is a Link,
    `latency_ns` and `bandwidth` (bytes per second) replace parts of it; `trace_keep` bounds the
    events that stay readable. Live only: `directory` keeps the cluster's state after it has closed,
    `tcp` uses loopback TCP in place of Unix sockets; the nodes share as many CPUs as there are
    clients (waking up another CPU costs more than a small RPC does), or `cpus` of them.
    """

    def __init__(
        self,
        clients: int = 1,
        oss: int = 1,
        osts: int | None = None,
        mds: int = 1,
        runtime: Runtime = "sim",
        seed: int = 0,
        tree: str = DEFAULT_TREE,
        client_trees: Sequence[str] = (),
        hz: Sequence[int] = (),
        mount: Sequence[bool] = (),
        fsname: str = "lustre",
        params: Mapping[str, str] | None = None,
        epoch: int | None = None,
        server_hz: int = DEFAULT_HZ,
        overlays: Mapping[str, Sequence[str]] | None = None,
        link: str | Link = DEFAULT,
        latency_ns: int | None = None,
        bandwidth: int | None = None,
        trace_keep: int | None = None,
        directory: str | None = None,
        tcp: bool = False,
        cpus: int | None = None,
        made_of: Mapping[str, str] | None = None,
        kits: str = KITS,
        shell: str = SHELL,
        disk: str = DISK,
        capacity: int | None = None,
        pcap: str | None = None,
        failover: Partners = "",
        mgc_requeue_timeout_min: int = MGC_TIMEOUT_MIN_SECONDS,
        mount_options: Sequence[str] = (),
        record: bool = False,
    ) -> None:
        plan = Plan(
            clients=clients, mds=mds, oss=oss, osts=osts, fsname=fsname, seed=seed, tree=tree,
            epoch_ns=EPOCH_NS if epoch is None else epoch * NS_PER_S, client_trees=client_trees,
            hz=hz, mount=mount, server_hz=server_hz, params=params or {}, overlays=overlays or {},
            made_of=made_of or {}, kits=kits, shell=shell, disk=disk, capacity=capacity,
            failover=failover, mgc_requeue_timeout_min=mgc_requeue_timeout_min,
            mount_options=mount_options,
        )  # fmt: skip
        self.topology = plan.topology()
        self.fs: FsConfig = self.topology.fs
        self.runtime = runtime
        self.seed = seed
        self.archive = Archive() if record else None
        self.rules: dict[str, Rule] = {}
        """The packet rules in force, by name; a machine that is powered on obeys them."""
        if runtime not in ("sim", "live"):
            raise InputError(f"'{runtime}' is no runtime; sim or live")
        link = _link(link, latency_ns, bandwidth)
        self._room = self._make_room(link, trace_keep, directory, tcp, pcap, cpus)
        self.env: Any = self._room.env
        self._hash = ""
        self._nids = self.topology.nids()
        self.nodes: dict[str, Handle] = {
            spec.name: self._room.handle(self, spec) for spec in self.topology.nodes
        }

    def _make_room(
        self, link: Link, keep: int | None, directory: str | None, tcp: bool, pcap: str | None,
        cpus: int | None,
    ) -> Any:  # fmt: skip
        if self.runtime == "sim":
            from labsim.scenario.sim_cluster import SimRoom

            return SimRoom(link, keep, pcap, self.topology.nodes[0].epoch_ns)
        from labsim.scenario.live_cluster import LiveRoom

        return LiveRoom(self.topology, directory, tcp, pcap, cpus)

    # ---- life

    def __enter__(self) -> Cluster:
        try:
            self._room.open()
            self.run(self.start())
        except BaseException:
            self.close(orderly=False)
            raise
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.close(orderly=kind is None)

    def start(self) -> Steps[None]:
        """Power everything on; mount what others connect to before who connects."""
        handles = list(self.nodes.values())
        yield self._all(handle.power_on() for handle in handles)
        for roles in (("mgs",), ("oss",), ("mds",), ("client",)):
            ready = [h for h in handles if h.role in roles and h.spec.mount]
            if ready:
                yield self.env.all_of([handle.start() for handle in ready])

    def close(self, orderly: bool = True) -> None:
        """End it; a live cluster leaves no process, socket or file behind."""
        self._hash = self.hash
        self._room.close(orderly)

    def run(self, what: Any) -> Any:
        """Run the cluster until an event has happened or a generator has returned; its value."""
        if isinstance(what, GeneratorType):
            what = self.env.process(what)
        with seldom_collecting():
            return self.env.run(what)

    def _all(self, generators: Iterable[Steps[None]]) -> Any:
        return self.env.all_of([self.env.process(generator) for generator in generators])

    # ---- who is there

    def node(self, name: str) -> Handle:
        """The node of that name; InputError when there is none."""
        try:
            return self.nodes[name]
        except KeyError:
            known = ", ".join(list(self.nodes)[:12])
            raise InputError(f"no node '{name}' in this cluster; there are {known}") from None

    def client(self, index: int = 0) -> Handle:
        """Client number `index`."""
        return self.node(f"c{index}")

    @property
    def trace(self) -> Any:
        """The run's trace; None live, where each node keeps its own."""
        return getattr(self._room, "trace", None)

    @property
    def hash(self) -> str:
        """The hash of all that happened; empty live."""
        if self._hash:
            return self._hash
        return self.trace.hexdigest() if self.trace is not None else ""

    # ---- what concerns everybody

    def rule(
        self,
        name: str,
        action: Literal["drop", "delay", "duplicate", "reorder"] = "drop",
        src: Iterable[str] = (),
        dst: Iterable[str] = (),
        **match: Any,
    ) -> Rule:
        """A packet rule between nodes or NIDs; `match` are other fields of net.rules.Rule."""
        senders = tuple(self._nid(name) for name in src)
        receivers = tuple(self._nid(name) for name in dst)
        match.setdefault("seed", self.seed)
        return Rule(name=name, action=action, src=senders, dst=receivers, **match)

    def _nid(self, name: str) -> int:
        return Nid.parse(name) if "@" in name else self._nids[self.node(name).name]

    def net(self, rule: Rule) -> Any:
        """Event: every node obeys a packet rule."""
        self.rules[rule.name] = rule
        return self._everyone(lambda handle: handle.install(rule))

    def partition(
        self, side: Iterable[str], other: Iterable[str], one_way: bool = False, name: str = ""
    ) -> Any:
        """Event: nothing passes between two groups of nodes (one way: from the first)."""
        side, other = list(side), list(other)
        name = name or f"partition {' '.join(side)} | {' '.join(other)}"
        return self.net(self.rule(name, "drop", side, other, both_ways=not one_way))

    def heal(self, name: str = "") -> Any:
        """Event: a packet rule is gone, or without a name all of them."""
        if name:
            self.rules.pop(name, None)
        else:
            self.rules.clear()
        return self._everyone(lambda handle: handle.remove(name))

    def set_param(self, pattern: str, text: str) -> Any:
        """Event: a parameter is set for the whole file system, now and at each mount to come.

        Its value is the Result of `lctl set_param -P` on the MGS.
        """
        return self.node("mgs").command(f"lctl set_param -P {pattern}={text}")

    def add_ost(self) -> Any:
        """Event: there is one more OST, on the OSS that has the fewest; its value is its name.

        Those who have mounted the file system hear of it from the MGS, a little later.
        """
        return self.env.process(self._add_ost())

    def _add_ost(self) -> Steps[str]:
        servers = [handle for handle in self.nodes.values() if handle.role == "oss"]
        server = min(servers, key=lambda handle: len(handle.spec.targets))
        info = self.topology.next_ost(server.spec)
        self.topology = msgspec.structs.replace(
            self.topology, targets=(*self.topology.targets, info)
        )
        yield server.add_target(info)
        return info.name

    def fail_over(self, node: str, to: str, targets: Iterable[str] = ()) -> Any:
        """Event: the targets of a server (by name, or all) run on another, with their clients.

        A server that has power unmounts them first; one that has none is left alone. InputError
        where a target may not run there, EHOSTDOWN where Lustre is not up.
        """
        return self.env.process(self._fail_over(self.node(node), self.node(to), tuple(targets)))

    def _fail_over(self, giver: Handle, taker: Handle, names: tuple[str, ...]) -> Steps[None]:
        moving = [one for one in giver.spec.targets if not names or one.name in names]
        for info in moving:
            if taker.spec.nid not in (info.nid, *info.failover):
                raise InputError(f"{info.name} may not run on {taker.name}: it is no partner")
        if not taker.mounted:
            raise LustreError(EHOSTDOWN, f"Lustre is not up on {taker.name}")
        yield self.env.all_of([giver.drop_target(info.name) for info in moving])
        yield self.env.all_of([taker.add_target(info) for info in moving])

    def fail_back(self, node: str) -> Any:
        """Event: a server is up, and has again the targets that are its own by the plan."""
        return self.env.process(self._fail_back(self.node(node)))

    def _fail_back(self, home: Handle) -> Steps[None]:
        if not home.mounted:
            yield home.start()
        for giver in self.nodes.values():
            own = [one.name for one in giver.spec.targets if one.nid == home.spec.nid]
            if giver is not home and own:
                yield from self._fail_over(giver, home, tuple(own))

    def snapshots(self) -> Any:
        """Event: {name: snapshot} of all machines that have power."""
        return self.env.process(self._snapshots())

    def _snapshots(self) -> Steps[dict[str, Any]]:
        found = {}
        for name, handle in self.nodes.items():
            if handle.powered:
                found[name] = yield handle.snapshot()
        return found

    def collect(self) -> None:
        """Have in the archive what all machines with power have noted; those without are there."""
        for handle in self.nodes.values():
            if handle.powered and self.archive is not None:
                self.archive.add(handle.recorded())

    def _everyone(self, ask: Any) -> Any:
        return self.env.all_of([ask(h) for h in self.nodes.values() if h.powered])


def _link(link: str | Link, latency_ns: int | None, bandwidth: int | None) -> Link:
    """The link of every node, from a preset and what replaces parts of it."""
    if isinstance(link, str):
        if link not in PRESETS:
            raise InputError(f"no link '{link}'; there are {', '.join(PRESETS)}")
        link = PRESETS[link]
    if latency_ns is not None:
        link = link._replace(latency_ns=latency_ns)
    return link if bandwidth is None else link._replace(bandwidth=bandwidth)

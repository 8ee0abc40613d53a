"""Who is in a cluster: nodes, their names and NIDs, and which server has which target.

Does not know any runtime; plain data made from a few counts. Stands for the administrator's plan of
a file system.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeVar, get_args

import msgspec

from labsim.base.errors import InputError
from labsim.base.ids import Nid
from labsim.base.units import NS_PER_S
from labsim.nodes.config import MGC_TIMEOUT_MIN_SECONDS, FsConfig, TargetInfo

T = TypeVar("T")
Role = Literal["client", "mds", "oss", "mgs"]
Kind = Literal["mdt", "ost"]
Partners = Literal["", "pairs", "service"]

CLASSES: Mapping[str, str] = {
    "client": "labsim.nodes.client.client:Client",
    "mds": "labsim.nodes.mds.mds:Mds",
    "oss": "labsim.nodes.oss.oss:Oss",
    "mgs": "labsim.nodes.mgs.mgs:Mgs",
}
"""What each role's nodes are made of, as "module:Class"."""
KITS = "labsim.scenario.kits:kit"
"""What makes the kit of a node from its NodeSpec, as "module:function"."""
SHELL = "labsim.scenario.steps.shell:execute"
"""What runs a command line on a node, as "module:function"."""
DISK = "labsim.storage.osd_lmdb:OsdLmdb"
"""What a live target's OSD is made of, as "module:Class"; called with (env, path, offload)."""

DEFAULT_TREE = "2.12.0"
EPOCH_NS = 1_577_836_800 * NS_PER_S
"""The date at which a run starts unless told otherwise: 2020-01-01 00:00:00 UTC."""
DEFAULT_HZ = 1000

_FIRST = {"mgs": "10.0.0.1@tcp", "mds": "10.0.1.1@tcp", "oss": "10.0.2.1@tcp"}
_FIRST_CLIENT = "10.1.0.1@tcp"


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One node as it is planned; plain data that may cross a process boundary."""

    name: str
    """c0, mds0, oss3, mgs."""
    role: Role
    index: int
    nid: str
    tree: str = DEFAULT_TREE
    hz: int = DEFAULT_HZ
    seed: int = 0
    epoch_ns: int = EPOCH_NS
    targets: tuple[TargetInfo, ...] = ()
    made_of: str = ""
    """ "module:Class" of the node."""
    kits: str = KITS
    shell: str = SHELL
    disk: str = DISK
    capacity: int | None = None
    """Bytes that each target's disk holds; the OSD's own default when not given."""
    overlays: tuple[str, ...] = ()
    """Files (.py) whose overlays are mixed in."""
    mount: bool = True
    """Lustre is up on it once the cluster has started."""


class Topology(msgspec.Struct, frozen=True):
    """A whole cluster as it is planned."""

    fs: FsConfig
    targets: tuple[TargetInfo, ...]
    """MDTs first, then OSTs, each by index."""
    nodes: tuple[NodeSpec, ...]
    """In the order in which they start: mgs, MDSs, OSSs, clients."""

    def of(self, role: str) -> Iterator[NodeSpec]:
        """The nodes of one role, by index."""
        return (node for node in self.nodes if node.role == role)

    def next_ost(self, server: NodeSpec) -> TargetInfo:
        """The OST that comes next, on a server."""
        index = sum(target.kind == "ost" for target in self.targets)
        info = target_of(self.fs.fsname, "ost", index, server.nid)
        paired = any(target.failover for target in self.targets)
        service = any(target.service for target in self.targets)
        kind = "service" if service else "pairs" if paired else ""
        return moving(info, "oss", server.index, kind)

    def nids(self) -> dict[str, int]:
        """Each node's NID by its name."""
        return {node.name: Nid.parse(node.nid) for node in self.nodes}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The counts and choices that a topology is made from."""

    clients: int = 1
    mds: int = 1
    oss: int = 1
    osts: int | None = None
    """Dealt out to the OSSs in turn; one each when not given."""
    fsname: str = "lustre"
    seed: int = 0
    epoch_ns: int = EPOCH_NS
    tree: str = DEFAULT_TREE
    client_trees: Sequence[str] = ()
    """The first clients' trees, where they differ from `tree`."""
    hz: Sequence[int] = ()
    """The first clients' HZ; the rest have 1000."""
    server_hz: int = DEFAULT_HZ
    mount: Sequence[bool] = ()
    """Which of the first clients are mounted at the start; the rest are."""
    params: Mapping[str, str] = {}
    made_of: Mapping[str, str] = {}
    """Replaces some of `CLASSES`."""
    kits: str = KITS
    shell: str = SHELL
    disk: str = DISK
    capacity: int | None = None
    overlays: Mapping[str, Sequence[str]] = {}
    """By node name: the files (.py) whose overlays are mixed in there."""
    failover: Partners = ""
    """ "pairs": oss0 and oss1, oss2 and oss3 ... may serve each other's targets, and so may MDSs;
    the last of an odd number gets a spare node without targets. "service": the same, but targets
    are made with --servicenode in place of --failnode: they may start on either the first time."""
    mgc_requeue_timeout_min: int = MGC_TIMEOUT_MIN_SECONDS
    mount_options: Sequence[str] = ()
    """What every client's mount -o is told."""

    def topology(self) -> Topology:
        """Names, NIDs and targets for all of it; InputError when the counts make no cluster."""
        osts = self.oss if self.osts is None else self.osts
        self._check(osts)
        name = self.fsname
        mdts = [self._target(name, "mdt", i, i) for i in range(self.mds)]
        ost_list = [self._target(name, "ost", i, i % self.oss) for i in range(osts)]
        mgs = address("mgs", 0)
        fs = FsConfig(
            self.fsname, mgs, tuple(self.params.items()), self.mgc_requeue_timeout_min,
            tuple(self.mount_options),
        )  # fmt: skip
        nodes = [self._node("mgs", "mgs", 0, (TargetInfo("MGS", "MGS", "mgt", 0, mgs),))]
        nodes += [
            self._node("mds", f"mds{i}", i, tuple(mdts[i : i + 1]))
            for i in range(self._servers(self.mds))
        ]
        nodes += [
            self._node("oss", f"oss{i}", i, tuple(ost_list[i :: self.oss]) if i < self.oss else ())
            for i in range(self._servers(self.oss))
        ]
        nodes += [self._node("client", f"c{i}", i) for i in range(self.clients)]
        return Topology(fs, (*mdts, *ost_list), tuple(nodes))

    def _servers(self, count: int) -> int:
        """How many nodes serve the targets of `count`: with partners an even number."""
        return count + count % 2 if self.failover else count

    def _target(self, fsname: str, kind: Kind, index: int, server: int) -> TargetInfo:
        """One target, and where it may move."""
        role = "mds" if kind == "mdt" else "oss"
        info = target_of(fsname, kind, index, address(role, server))
        return moving(info, role, server, self.failover)

    def _check(self, osts: int) -> None:
        if self.mds < 1 or self.oss < 1 or osts < 1 or self.clients < 0:
            raise InputError("a cluster needs at least one MDS, one OSS and one OST")
        if self.failover not in get_args(Partners):
            what = f"'{self.failover}' is no kind of failover; there are pairs and service"
            raise InputError(what)
        if not 0 < len(self.fsname) <= 8 or not self.fsname.replace("_", "").isalnum():
            raise InputError(f"'{self.fsname}' is no file system name: up to 8 letters and digits")
        for what, given in (("trees", self.client_trees), ("HZ", self.hz), ("mounts", self.mount)):
            if len(given) > self.clients:
                raise InputError(f"{len(given)} {what} for {self.clients} clients")

    def _node(
        self, role: Role, name: str, index: int, targets: tuple[TargetInfo, ...] = ()
    ) -> NodeSpec:
        client = role == "client"
        return NodeSpec(
            name=name,
            role=role,
            index=index,
            nid=address(role, index),
            tree=_nth(self.client_trees, index, self.tree) if client else self.tree,
            hz=_nth(self.hz, index, DEFAULT_HZ) if client else self.server_hz,
            seed=self.seed,
            epoch_ns=self.epoch_ns,
            targets=targets,
            made_of=self.made_of.get(role, CLASSES[role]),
            kits=self.kits,
            shell=self.shell,
            disk=self.disk,
            capacity=self.capacity,
            overlays=tuple(self.overlays.get(name, ())),
            mount=_nth(self.mount, index, True) if client else True,
        )


def target_of(fsname: str, kind: Kind, index: int, nid: str) -> TargetInfo:
    """One target, named as Lustre does."""
    name = f"{fsname}-{kind.upper()}{index:04x}"
    return TargetInfo(name, f"{name}_UUID", kind, index, nid)


def moving(info: TargetInfo, role: str, server: int, failover: str) -> TargetInfo:
    """The target with the nodes that it may run on beside its own, or with all of them."""
    if not failover:
        return info
    service, partner = failover == "service", address(role, server ^ 1)
    nodes = (info.nid, partner) if service else (partner,)
    return msgspec.structs.replace(info, failover=nodes, service=service)


def _nth(values: Sequence[T], index: int, otherwise: T) -> T:
    return values[index] if index < len(values) else otherwise


def address(role: str, index: int) -> str:
    """The NID of the node number `index` of its role."""
    return str(Nid(Nid.parse(_FIRST.get(role, _FIRST_CLIENT)) + index))

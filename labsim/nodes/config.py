"""What a node is told when it is built: the file system it belongs to and its own part in it.

Plain data without rules, so that it can cross a process boundary. Stands for what mkfs.lustre and
mount.lustre are told; everything else a node learns from the MGS.

A node is built as `Client(host, config)`, `Mds(host, config)` or `Oss(host, config)`. The host of a
server carries one OSD per target: `host.osd[target.name]`; a client's `host.osd` is empty.
"""

from __future__ import annotations

from typing import Literal

import msgspec

MGC_TIMEOUT_MIN_SECONDS = 5


class TargetInfo(msgspec.Struct, frozen=True):
    """One MDT, OST or MGT ("MGS"), as configuration logs name it."""

    name: str
    """"lustre-MDT0000", "lustre-OST0003": the file system, the kind, the index in hex."""
    uuid: str
    """"lustre-OST0003_UUID"."""
    kind: Literal["mdt", "ost", "mgt"]
    index: int
    nid: str
    """The NID of the server it runs on: "10.0.0.3@tcp"; read it with `Nid.parse`."""
    failover: tuple[str, ...] = ()
    """NIDs of the servers that it may run on instead (mkfs.lustre --failnode)."""
    service: bool = False
    """`failover` names all servers that it may run on, and none comes first (--servicenode)."""


class FsConfig(msgspec.Struct, frozen=True):
    """One file system: its name, and where to ask for the rest."""

    fsname: str
    mgs: str
    """The NID of the MGS: "10.0.0.1@tcp"."""
    params: tuple[tuple[str, str], ...] = ()
    """For the MGS: (pattern, text) to begin with, as if given to `lctl set_param -P` in turn."""
    mgc_requeue_timeout_min: int = MGC_TIMEOUT_MIN_SECONDS
    """Seconds after which a node reads a log that has changed, at the earliest; as much again at
    random on top (a module parameter of mgc)."""
    mount_options: tuple[str, ...] = ()
    """What every client's mount -o is told: flock, localflock, noflock."""


class NodeConfig(msgspec.Struct, frozen=True):
    """What one node is: which file system, which instance of it, which targets it serves."""

    fs: FsConfig
    index: int = 0
    """0 for c0, mds0, oss0; counts within the kind of node."""
    targets: tuple[TargetInfo, ...] = ()
    """What this node serves; empty for a client."""
    incarnation: int = 1
    """1 at the first start, one more at each restart."""

"""What the records of configuration logs say about a target, and how they are found again.

Pure functions: words in, commands out. Does not know logs or storage. Stands for mgs_write_log_mdt0
and its kin (mgs_llog.c).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from labsim.base.errors import InputError, LustreError
from labsim.base.ids import Nid
from labsim.wire import config_log
from labsim.wire.config_log import Command
from labsim.wire.llog_flags import (
    LCFG_ADD_CONN,
    LCFG_ADD_MDC,
    LCFG_ADD_UUID,
    LCFG_LOV_ADD_OBD,
    LCFG_SETUP,
    LDD_F_NO_PRIMNODE,
    LDD_F_SV_TYPE_MDT,
    LDD_F_SV_TYPE_OST,
)
from labsim.wire.lov import LmvDesc, LovDesc
from labsim.wire.mgs import MgsTargetInfo

PARAMS = "params"
"""PARAMS_FILENAME: the log of `lctl set_param -P`."""
FAILOVER_NODE = "failover.node"
"""PARAM_FAILNODE."""
STRIPE_SIZE = 1 << 20


class Section(NamedTuple):
    """Commands between two markers: what they are about, in two words."""

    target: str
    comment: str
    commands: tuple[Command, ...]


class Known(NamedTuple):
    """A target as a log names it."""

    name: str
    uuid: str
    index: int
    nids: tuple[int, ...]
    partners: tuple[tuple[int, ...], ...] = ()
    """The NIDs of each node that it may be on instead."""


def client_log(fsname: str) -> str:
    """The log that every mount of the file system follows."""
    return f"{fsname}-client"


def is_mdt(info: MgsTargetInfo) -> bool:
    """Whether an MDT registers."""
    return bool(info.flags & LDD_F_SV_TYPE_MDT)


def partners_of(info: MgsTargetInfo) -> tuple[tuple[int, ...], ...]:
    """The failover nodes in a target's parameters: "failover.node=10.0.0.2@tcp,10.1.0.2@o2ib".

    One node's NIDs are parted by commas, nodes by colons, or named one by one; EINVAL.
    """
    found: list[tuple[int, ...]] = []
    for word in info.params.split():
        name, _, value = word.partition("=")
        if name != FAILOVER_NODE:
            continue
        found += _nodes(value)
    return tuple(found)


def _nodes(text: str) -> list[tuple[int, ...]]:
    """The NIDs of each node; EINVAL."""
    try:
        return [tuple(map(Nid.parse, node.split(","))) for node in text.split(":")]
    except InputError:
        raise LustreError(errno.EINVAL, text) from None


def check_primary(info: MgsTargetInfo) -> None:
    """EADDRNOTAVAIL where a target comes from a failover node first (mgs_check_failover_reg)."""
    own = set(info.nids[: info.nid_count])
    if not info.flags & LDD_F_NO_PRIMNODE and any(own & set(node) for node in partners_of(info)):
        raise LustreError(errno.EADDRNOTAVAIL, f"{info.svname} comes from its failover node")


def check(info: MgsTargetInfo) -> None:
    """LustreError EINVAL for what is no target of a file system."""
    kind = "MDT" if is_mdt(info) else "OST"
    named = f"{info.fsname}-{kind}{info.stripe_index:04x}"
    typed = info.flags & (LDD_F_SV_TYPE_MDT | LDD_F_SV_TYPE_OST)
    if not info.fsname or not typed or info.svname != named or not 0 < info.nid_count <= 32:
        raise LustreError(errno.EINVAL, f"target {info.svname!r}")


def lov_setup(device: str) -> Section:
    """A lov: what files are striped over."""
    desc = LovDesc(
        default_stripe_count=1, pattern=1, default_stripe_size=STRIPE_SIZE,
        default_stripe_offset=-1, qos_maxage=5, uuid=f"{device}_UUID",
    )  # fmt: skip
    commands = (
        config_log.attach(device, "lov", f"{device}_UUID"),
        config_log.setup(device, desc=desc.pack()),
    )
    return Section(device, "lov setup", commands)


def lmv_setup(device: str) -> Section:
    """An lmv: what directories are spread over."""
    desc = LmvDesc(uuid=f"{device}_UUID")
    commands = (
        config_log.attach(device, "lmv", f"{device}_UUID"),
        config_log.setup(device, desc=desc.pack()),
    )
    return Section(device, "lmv setup", commands)


def new_client_log(fsname: str) -> list[Section]:
    """What a client's log begins with."""
    return [lov_setup(f"{fsname}-clilov"), lmv_setup(f"{fsname}-clilmv")]


def mount_options(fsname: str) -> Section:
    """Which devices a mount uses."""
    name = client_log(fsname)
    command = config_log.mount_option(name, f"{fsname}-clilov", f"{fsname}-clilmv")
    return Section(name, "mount opts", (command,))


def add_mdc(info: MgsTargetInfo) -> Section:
    """A client's way to an MDT."""
    device, lmv = f"{info.svname}-mdc", f"{info.fsname}-clilmv"
    mdt = known_of(info)
    commands = (
        *_way(mdt, device, "mdc", lmv),
        config_log.mdc_add(lmv, mdt.uuid, mdt.index, f"{device}_UUID"),
    )
    return Section(info.svname, "add mdc", commands)


def add_osc(ost: Known, lov: str, device: str) -> Section:
    """A client's or an MDT's way to an OST."""
    commands = (
        *_way(ost, device, "osc", lov),
        config_log.lov_add(lov, ost.uuid, ost.index),
    )
    return Section(ost.name, "add osc", commands)


def _way(target: Known, device: str, kind: str, parent: str) -> list[Command]:
    """A device that leads to a target: where that is, and where it may be instead.

    The order tells the two apart: the NIDs before SETUP are of its own node, those behind it of
    failover nodes (mgs_steal_client_llog_handler).
    """
    return [
        *_node(target.nids),
        config_log.attach(device, kind, f"{parent}_UUID"),
        config_log.setup(device, target.uuid, str(Nid(target.nids[0]))),
        *(
            command
            for partner in target.partners
            for command in (*_node(partner), config_log.add_conn(device, str(Nid(partner[0]))))
        ),
    ]


def add_failnid(target: str, device: str, text: str) -> Section:
    """More nodes that a target may be on, for a device that leads there (conf_param)."""
    commands = [
        command
        for node in (_nodes(text) if text else [])
        for command in (*_node(node), config_log.add_conn(device, str(Nid(node[0]))))
    ]
    return Section(target, "add failnid", tuple(commands))


def _node(nids: Iterable[int]) -> list[Command]:
    """A node by its first NID, and where it can be reached."""
    nids = tuple(nids)
    return [config_log.add_uuid(str(Nid(nids[0])), nid) for nid in nids]


def client_osc(fsname: str, ost: Known) -> Section:
    """The same for clients."""
    return add_osc(ost, f"{fsname}-clilov", f"{ost.name}-osc")


def mdt_osc(mdt: str, ost: Known) -> Section:
    """The same for an MDT."""
    return add_osc(ost, f"{mdt}-mdtlov", f"{ost.name}-osc-{mdt.rsplit('-', 1)[1]}")


def add_ost(info: MgsTargetInfo) -> Section:
    """An OST's own log."""
    commands = (
        config_log.attach(info.svname, "obdfilter", info.uuid),
        config_log.setup(info.svname, "dev", "type", "f"),
    )
    return Section(info.svname, "add ost", commands)


def add_mdt(info: MgsTargetInfo) -> list[Section]:
    """An MDT's own log, but for its OSTs."""
    lov = f"{info.svname}-mdtlov"
    commands = (
        config_log.attach(info.svname, "mdt", info.uuid),
        config_log.mount_option(info.svname, lov),
        config_log.setup(info.svname, info.uuid, str(info.stripe_index), lov, "f"),
    )
    return [lov_setup(lov), Section(info.svname, "add mdt", commands)]


def mdt_osp(mdt: str, other: Known) -> Section:
    """An MDT's way to another MDT."""
    lov = f"{mdt}-mdtlov"
    device = f"{other.name}-osp-{mdt.rsplit('-', 1)[1]}"
    commands = (
        *_way(other, device, "osp", lov),
        config_log.mdc_add(lov, other.uuid, other.index, f"{device}_UUID"),
    )
    return Section(other.name, "add osp", commands)


def known_of(info: MgsTargetInfo) -> Known:
    """A registering target."""
    nids = info.nids[: info.nid_count]
    return Known(info.svname, info.uuid, info.stripe_index, nids, partners_of(info))


def known_in(commands: Iterable[Command], kind: int) -> list[Known]:
    """The targets that a client's log names (mgs_steal_llog_for_mdt_from_client).

    `kind` is LCFG_LOV_ADD_OBD for the OSTs, LCFG_ADD_MDC for the MDTs.
    """
    found: list[Known] = []
    nids: tuple[int, ...] = ()
    own: tuple[int, ...] = ()
    partners: list[tuple[int, ...]] = []
    for command in commands:
        if command.command == LCFG_ADD_UUID:
            nids += (command.nid,)
        elif command.command == LCFG_SETUP:
            own, nids, partners = nids, (), []
        elif command.command == LCFG_ADD_CONN:
            partners.append(nids)
            nids = ()
        elif command.command in (LCFG_LOV_ADD_OBD, LCFG_ADD_MDC):
            uuid = command.text(1)
            name = uuid.removesuffix("_UUID")
            if command.command == kind:
                found.append(Known(name, uuid, int(command.text(2)), own, tuple(partners)))
            own, partners = (), []
    return found


def places(where: str, kind: str, mdts: Sequence[str], targets: Sequence[str]) -> dict[str, str]:
    """Which logs a parameter of `where` goes to, and the device each names (mgs_write_log_param).

    `where` is a file system or one of its targets; EINVAL for a kind it has no parameters of.
    """
    fsname, _, label = where.partition("-")
    clients = client_log(fsname)
    if kind == "sys":
        return dict.fromkeys((clients, *targets), fsname)
    if kind == "llite" and not label:
        return {clients: fsname}
    if kind == "osc" and label.startswith("OST"):
        on_mdts = {mdt: f"{where}-osc-{mdt.rsplit('-', 1)[1]}" for mdt in mdts}
        return {clients: f"{where}-osc", **on_mdts}
    if kind == "mdc" and label.startswith("MDT"):
        return {clients: f"{where}-mdc"}
    if kind == "lov" and label.startswith("MDT"):
        return {where: f"{where}-mdtlov"}
    if (label.startswith("MDT") and kind in ("mdt", "mdd")) or (
        label.startswith("OST") and (kind in ("ost", "obdfilter"))
    ):
        return {where: where}
    raise LustreError(errno.EINVAL, f"{where}.{kind}")

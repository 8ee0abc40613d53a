"""What a node makes of the commands in its configuration log: devices and parameters.

Does not know where the commands come from, nor what a device does. Stands for class_process_config
(obd_config.c): ATTACH and SETUP make devices, ADD_UUID says where a server is, PARAM and SET_PARAM
set parameters where they stand in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import Nid
from labsim.nodes.config import TargetInfo
from labsim.runtime.ports import Host
from labsim.wire.config_log import Command
from labsim.wire.llog_flags import (
    LCFG_ADD_CONN,
    LCFG_ADD_UUID,
    LCFG_ATTACH,
    LCFG_PARAM,
    LCFG_SET_PARAM,
    LCFG_SETUP,
)

ENOENT = 2
LABELS: Mapping[str, Any] = {"mdc": "mdt", "osc": "ost", "osp": "mdt"}
"""Which kind of target a kind of device leads to."""

Make = Callable[[str, TargetInfo], Any]


class Setup:
    """Carries out a log on one node.

    `make(kind, info)` makes a device of the kind "mdc", "osc" or "osp" and returns it. `places`
    says where the parameters of a kind are: {"osc": "osc.{device}-*"}.
    """

    def __init__(self, host: Host, places: Mapping[str, str], make: Make | None = None) -> None:
        self.host = host
        self.places = places
        self.make = make
        self._nids: dict[str, list[int]] = {}
        self._kinds: dict[str, str] = {}
        self._made: dict[str, Any] = {}

    def __call__(self, command: Command) -> None:
        """Carry out one command; what this node has no use for is passed over."""
        what = command.command
        if what == LCFG_ATTACH:
            self._kinds[command.text(0)] = command.text(1)
        elif what == LCFG_ADD_UUID:
            self._nids.setdefault(command.text(1), []).append(command.nid)
        elif what == LCFG_SETUP:
            self._setup(command)
        elif what == LCFG_ADD_CONN:
            self._connection(command)
        elif what == LCFG_PARAM:
            self._param(command)
        elif what == LCFG_SET_PARAM:
            name, _, value = command.text(1).partition("=")
            self.set(name, value)

    def _setup(self, command: Command) -> None:
        device = command.text(0)
        kind = self._kinds.get(device, "")
        if self.make is None or kind not in LABELS or device in self._made:
            return
        node = command.text(2)
        nids = self._nids.get(node) or [Nid.parse(node)]
        made = self._made[device] = self.make(kind, _target(kind, command.text(1), nids[0]))
        made.imp.conns.add(*nids)

    def _connection(self, command: Command) -> None:
        """One more node on which the target of a device may be."""
        made = self._made.get(command.text(0))
        if made is not None:
            known = self._nids.get(command.text(1), [])
            made.imp.conns.add(*known)

    def _param(self, command: Command) -> None:
        """A parameter of one device: "osc.max_dirty_mb=64" of "lustre-OST0000-osc"."""
        name, _, value = command.text(1).partition("=")
        kind, _, file = name.partition(".")
        if kind == "sys":
            self.set(file, value)
        elif kind in self.places:
            where = self.places[kind].format(device=command.text(0))
            self.set(f"{where}.{file}", value)

    def set(self, pattern: str, value: str) -> None:
        """Set a parameter; others may have one that we lack."""
        try:
            self.host.params.set(pattern, value)
        except LustreError as error:
            if error.errno != ENOENT:
                self.host.trace.emit("param.refused", pattern, value, error.errno)


@lru_cache(maxsize=4096)
def _target(kind: str, uuid: str, nid: int) -> TargetInfo:
    """The target that a device leads to, by its uuid: "lustre-OST0003_UUID"."""
    name = uuid.removesuffix("_UUID")
    return TargetInfo(name, uuid, LABELS[kind], int(name[-4:], 16), str(Nid(nid)))

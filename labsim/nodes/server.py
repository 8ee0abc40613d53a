"""A node that serves targets: they are there when it starts, come later, and leave for another.

Knows in which order a target registers, reads its log, starts and is announced; not what it serves.
Stands for obd_mount_server.c (server_start_targets, server_put_super).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.units import NS_PER_MS
from labsim.nodes.config import NodeConfig, TargetInfo
from labsim.nodes.config_copy import ConfigCopies
from labsim.nodes.config_reader import PARAMS, Followed
from labsim.nodes.mgc import Mgc
from labsim.nodes.node import Node
from labsim.nodes.setup import Setup
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import LDLM_CB_REPLY_PORTAL, LDLM_CB_REQUEST_PORTAL

DRAIN_NS = 10 * NS_PER_MS
"""How often a target that stops looks whether its requests are done."""
DRAIN_TIMES = 100


class Server(Node):
    """Base of the MDS and the OSS.

    A subclass makes targets (`make_target`), says what their logs may set up (`make_device`) and
    where the parameters of a log are (`places`), and opens its portals when the first target has
    come (`open_portals`); they close when the last one has left.
    """

    places: Mapping[str, str] = {}

    def __init__(self, host: Host, config: NodeConfig) -> None:
        super().__init__(host, config)
        requeue_min_s = config.fs.mgc_requeue_timeout_min
        self.mgc: Mgc = self.make(Mgc, self, config.fs.mgs, requeue_min_s)
        self.targets: list[Any] = []
        self._logs: dict[str, list[Followed]] = {}
        self._opened = False

    def make_target(self, info: TargetInfo) -> Any:
        """The target, its parameters mounted."""
        raise NotImplementedError

    def make_device(self, target: Any) -> Callable[[str, TargetInfo], Any] | None:
        """What makes the devices that the target's log names."""
        return None

    def open_portals(self) -> None:
        """There is a target now."""

    # ---- life

    def start(self) -> Steps[None]:
        """Bring the targets up, open the portals, then tell the MGS."""
        yield from super().start()
        self.serve("ldlm_cbd", LDLM_CB_REQUEST_PORTAL, LDLM_CB_REPLY_PORTAL)
        self.mgc.start()
        for info in self.config.targets:
            yield from self._prepare(info)
        for target in self.targets:
            yield from target.start()
        if self.targets:
            self._open()
        for target in self.targets:
            yield from self._announce(target)

    def stop(self) -> Steps[None]:
        """Unmount all: what clients have here is kept for when the targets start again."""
        for target in list(self.targets):
            yield from self.drop_target(target.name)
        yield from super().stop()
        yield from self.mgc.stop()

    # ---- targets

    def add_target(self, info: TargetInfo) -> Steps[None]:
        """One more target, new or from another server; EALREADY where it is here."""
        if any(target.name == info.name for target in self.targets):
            raise LustreError(errno.EALREADY, f"{info.name} is mounted")
        target = yield from self._prepare(info)
        yield from target.start()
        self._open()
        yield from self._announce(target)

    def _open(self) -> None:
        """Open the portals, unless they are."""
        if not self._opened:
            self._opened = True
            self.open_portals()

    def _prepare(self, info: TargetInfo) -> Steps[Any]:
        """Register a target and read its log; it does not run yet.

        Who comes to it before it has started is asked to come again: EAGAIN.
        """
        target = self.make_target(info)
        target.starting = True
        self.targets.append(target)
        copies = ConfigCopies(target.osd)
        try:
            yield from self.mgc.register(self.config.fs.fsname, info, copies)
            yield from self._follow(target, copies)
        except LustreError:
            self._forget(target)
            raise
        self.rpc.targets[target.uuid] = target
        return target

    def _follow(self, target: Any, copies: ConfigCopies) -> Steps[None]:
        setup = self.make(Setup, self.host, self.places, self.make_device(target))
        logs = self._logs[target.name] = []
        logs.append((yield from self.mgc.follow(target.name, setup, copies)))
        logs.append((yield from self.mgc.follow(PARAMS, setup, copies)))

    def _announce(self, target: Any) -> Steps[None]:
        instance = target.last_rcvd.mount_count
        fsname = self.config.fs.fsname
        target.starting = False
        target.announce((yield from self.mgc.ready(fsname, target.info, instance)))

    def drop_target(self, name: str, failover: bool = True) -> Steps[None]:
        """A target leaves: umount, or with `failover` False umount -f, that evicts its clients.

        When this returns nothing of it runs here any more, and all of it is on its disk.
        """
        target = self.target(name)
        target.failing = True
        yield from self._drained(target)
        yield from target.stop(failover)
        self._forget(target)

    def _drained(self, target: Any) -> Steps[None]:
        """Let requests that run finish; those that came later are refused with ENODEV."""
        for _ in range(DRAIN_TIMES):
            if not any(export.running for export in target.exports):
                return
            yield self.host.env.timeout(DRAIN_NS)

    def _forget(self, target: Any) -> None:
        for log in self._logs.pop(target.name, []):
            self.mgc.leave(log)
        self.targets.remove(target)
        self.rpc.targets.pop(target.uuid, None)
        target.unmount()
        if not self.targets:
            self._opened = False
            for service in list(self.services):
                if service.name != "ldlm_cbd":
                    self.close_service(service)

    def target(self, name: str) -> Any:
        """The target of that name; ENODEV."""
        for target in self.targets:
            if target.name == name:
                return target
        raise LustreError(errno.ENODEV, f"{name} is not on {self.host.name}")

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return super().snapshot() | {"targets": [target.snapshot() for target in self.targets]}

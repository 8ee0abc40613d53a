"""What every node is: a host, its ptlrpc, its global parameters.

Does not know which node. Stands for a booted kernel with Lustre's modules loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from labsim.base.errors import LustreError
from labsim.net.ptlrpc import PtlRpc, Service
from labsim.nodes.config import NodeConfig
from labsim.nodes.globals import Device, Globals
from labsim.runtime.ports import Host, Steps

T = TypeVar("T")

ENOENT = 2


def _nothing(*_ignored: Any) -> None:
    """What happens on a node that is on no machine."""


class Node:
    """Base of the client and the servers.

    `make(Component, ...)` builds a part with the overlays of this node's kit. `start` and `stop`
    are generators; `snapshot` tells, as plain data, what the invariants need to see.
    """

    kind = "node"

    def __init__(self, host: Host, config: NodeConfig) -> None:
        self.host = host
        self.config = config
        self.on_crash: Callable[[], None] = _nothing
        """Set by the machine the node is on: called when a fault point takes its power."""
        self.on_set_param: Callable[[str, str], Any] = _nothing
        """Likewise: called with (pattern, text) to set a parameter on every node for good."""
        self.services: list[Service] = []
        self.globals = self.make(Globals, host, self.devices)
        host.params.mount(self.globals)
        self.rpc = PtlRpc(host, self.globals)

    def make(self, component: type[T], *args: Any, **kwargs: Any) -> T:
        """An instance of `component`, with the kit's overlays mixed in."""
        return self.host.kit.build(component)(*args, **kwargs)

    def serve(self, name: str, portal: int, reply_portal: int, threads: int = 64) -> Service:
        """Open a request portal."""
        service = Service(self.rpc, name, portal, reply_portal, threads, on_crash=self._power_lost)
        self.services.append(service)
        return service

    def _power_lost(self) -> None:
        self.on_crash()

    def devices(self) -> list[Device]:
        """The obd devices of the node, as `lctl dl` lists them."""
        return []

    def configure(self) -> None:
        """Apply what was set for good (LCFG_PARAM); others may have a parameter that we lack.

        A node calls it once its devices are set up. A client's are not connected then, as while
        it reads its configuration log.
        """
        for pattern, text in self.config.fs.params:
            try:
                self.host.params.set(pattern, text)
            except LustreError as error:
                if error.errno != ENOENT:
                    self.host.trace.emit("param.refused", pattern, text, error.errno)

    def start(self) -> Steps[None]:
        """Bring the node up; returns when it is usable."""
        return
        yield

    def stop(self) -> Steps[None]:
        """Shut the node down in order."""
        for service in self.services:
            service.stop()
        return
        yield

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants: numbers, strings, lists and dicts with string keys."""
        return {
            "name": self.host.name,
            "kind": self.kind,
            "refused": self.rpc.refused,
            "running": sum(service.busy for service in self.services),
        }

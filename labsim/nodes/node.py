"""What every node is: a host, its ptlrpc, its global parameters.

Does not know which node. Stands for a booted kernel with Lustre's modules loaded.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, TypeVar

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.ldlm.module import LdlmModule, LdlmService
from labsim.net.ptlrpc import PtlRpc, Service
from labsim.nodes.config import NodeConfig
from labsim.nodes.globals import Device, Globals
from labsim.runtime.ports import Host, Steps

T = TypeVar("T")


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
        self.services: list[Service] = []
        self._service_files: dict[Service, Component] = {}
        self.globals = self.make(Globals, host, self.devices)
        host.params.mount(self.globals)
        self.ldlm_module = self.make(LdlmModule, host)
        self.rpc = PtlRpc(host, self.globals)
        self.rpc.jobid = self.globals.job

    def make(self, component: type[T], *args: Any, **kwargs: Any) -> T:
        """An instance of `component`, with the kit's overlays mixed in."""
        return self.host.kit.build(component)(*args, **kwargs)

    def serve(self, name: str, portal: int, reply_portal: int, threads: int = 64) -> Service:
        """Open a request portal."""
        service = Service(self.rpc, name, portal, reply_portal, threads, on_crash=self._power_lost)
        self.services.append(service)
        if name.startswith("ldlm_"):
            self.show_service(service, self.make(LdlmService, service))
        return service

    def show_service(self, service: Service, files: Component) -> None:
        """Mount the files of a service, until it is closed."""
        self._service_files[service] = files
        self.host.params.mount(files, name=service.name)

    def close_service(self, service: Service) -> None:
        """Close a request portal: what comes is not answered any more."""
        service.stop()
        self.services.remove(service)
        files = self._service_files.pop(service, None)
        if files is not None:
            self.host.params.unmount(files)

    def _power_lost(self) -> None:
        self.on_crash()

    def devices(self) -> list[Device]:
        """The obd devices of the node, as `lctl dl` lists them."""
        return []

    def client_device(self, name: str) -> Any:
        """The osc, mdc or osp of that name; ENODEV."""
        for device in self.client_devices():
            if device.name == name:
                return device
        raise LustreError(errno.ENODEV, f"{name} is not on {self.host.name}")

    def client_devices(self) -> list[Any]:
        """The devices of the node that have an import which may be switched off."""
        return []

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

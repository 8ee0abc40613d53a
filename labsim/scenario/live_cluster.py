"""The live cluster: one process per node, real bytes, real disks, the wall clock.

Does not know scenarios. Stands for a machine room: power, network, disks. All of it stands in one
directory (mode 0700) with the sockets (0600), the logs and the disks; when the cluster closes, no
process is left, and no file unless the directory was asked for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from time import monotonic_ns
from typing import Any

import msgspec

from labsim.base.errors import InputError, ProtocolError
from labsim.base.units import NS_PER_S
from labsim.net.pcap import PcapFile
from labsim.net.wire_log import merge
from labsim.runtime.live import LiveEnvironment, Switchboard
from labsim.runtime.ports import Steps
from labsim.runtime.processes import Child, Processes, choose_cpus
from labsim.scenario import control, tape
from labsim.scenario.handles import Handle
from labsim.scenario.live_node import CONTROL
from labsim.scenario.record import Log
from labsim.scenario.steps.context import Result
from labsim.scenario.topology import NodeSpec, Topology

LONGEST_DIRECTORY = 72
"""A Unix socket's path has 107 bytes at most."""
HELLO_NS = 30 * NS_PER_S
TAPE = ".tape"
"""How the files end that the nodes note in what happened."""


class LiveRoom:
    """Directory, processes and control line of a live cluster."""

    def __init__(
        self,
        topology: Topology,
        directory: str | None = None,
        tcp: bool = False,
        pcap: str | None = None,
        cpus: int | None = None,
    ) -> None:
        self._topology = topology
        clients = sum(1 for _ in topology.of("client"))
        self._cpus = choose_cpus(max(clients, 1) if cpus is None else cpus)
        self._keep = directory is not None
        self._tcp = tcp
        self.directory = directory or ""
        self.env = LiveEnvironment(monotonic_ns())
        self.processes: Processes | None = None
        self.endpoints: dict[int, str] = {}
        self._line: Switchboard | None = None
        self._handles: dict[str, LiveHandle] = {}
        self._finalizer: Any = None
        self._pcap = pcap
        self._capture: PcapFile | None = None
        self._logs: list[str] = []

    def handle(self, cluster: Any, spec: NodeSpec) -> LiveHandle:
        """A node of this cluster, still off."""
        handle = self._handles[spec.name] = LiveHandle(cluster, spec, self)
        return handle

    def open(self) -> None:
        """Make the directory, the addresses and the control line."""
        self._capture = PcapFile(self._pcap) if self._pcap is not None else None
        self.directory = _directory(self.directory)
        os.makedirs(os.path.join(self.directory, "disks"), mode=0o700, exist_ok=True)
        self.processes = Processes(self.directory, _preload(self._topology))
        self._finalizer = weakref.finalize(
            self, _clean_up, self.processes, None if self._keep else self.directory
        )
        self.endpoints = {int(nid): self._endpoint(nid) for nid in self._topology.nids().values()}
        path = os.path.join(self.directory, CONTROL)
        self._line = Switchboard(self.env, path, self._heard)

    def _endpoint(self, nid: Any) -> str:
        if self._tcp:
            return f"tcp://127.0.0.1:{self.env.free_port()}"
        return f"ipc://{os.path.join(self.directory, f'lnet-{nid}')}"

    def spawn(self, spec: NodeSpec, incarnation: int) -> Child:
        """Start a node's process."""
        assert self.processes is not None
        birth = control.Birth(
            spec,
            self.directory,
            self.endpoints,
            self.env.origin_ns,
            incarnation,
            self._log_of(spec, incarnation),
            self._cpus,
        )
        function = "labsim.scenario.live_node:main"
        return self.processes.start(spec.name, function, control.encode(birth))

    def _log_of(self, spec: NodeSpec, incarnation: int) -> str:
        """The file for what a node sends, where a capture is wanted."""
        if self._capture is None:
            return ""
        self._logs.append(os.path.join(self.directory, f"{spec.name}.{incarnation}.wire"))
        return self._logs[-1]

    def say(self, name: str, ask: control.Ask) -> None:
        """Send an order to a node."""
        assert self._line is not None
        self._line.send(name, control.encode(ask))

    def _heard(self, name: str, data: bytes) -> None:
        handle = self._handles.get(name)
        if handle is None:
            return
        try:
            handle.heard(control.decode_word(data))
        except ProtocolError as error:
            raise control.NodeFault(f"{name}: {error}") from error

    def log(self, name: str) -> str:
        """What a node's processes have printed."""
        try:
            with open(os.path.join(self.directory, f"{name}.log"), errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def close(self, orderly: bool) -> None:
        """End all processes and remove what the cluster made.

        `orderly`: what is on the disks shall last, so the nodes are stopped in order first.
        """
        try:
            if orderly and self._keep:
                self._stop_all()
        finally:
            for handle in self._handles.values():
                handle.forget()
            self._write_capture()
            if self._finalizer is not None:
                self._finalizer()
            if self._line is not None:
                self._line.close()
                self._line = None
            self.env.close()

    def _write_capture(self) -> None:
        """Make one capture of what the nodes have written."""
        capture, self._capture = self._capture, None
        if capture is None:
            return
        if self.processes is not None:
            self.processes.close()
        epoch_ns = self._topology.nodes[0].epoch_ns
        logs = [path for path in self._logs if os.path.exists(path)]
        try:
            merge(logs, capture, epoch_ns)
        finally:
            capture.close()
            for path in logs:
                os.unlink(path)
                os.unlink(f"{path}.data")

    def _stop_all(self) -> None:
        """Clients first, then servers, each in order."""
        for handle in reversed(list(self._handles.values())):
            if handle.mounted:
                self.env.run(handle.stop())
            if handle.powered:
                handle.quit()
        assert self.processes is not None
        self.processes.close(grace_s=5.0)


def _preload(topology: Topology) -> tuple[str, ...]:
    """What the fork server imports once, so that a node need not."""
    names = ["labsim.scenario.live_node"]
    for spec in topology.nodes:
        names += [spec.made_of, spec.kits, spec.shell, spec.disk]
    return tuple(dict.fromkeys(name.partition(":")[0] for name in names))


def _directory(asked: str) -> str:
    """The cluster's directory: the one asked for, or a temporary one with a short enough name."""
    if asked:
        path = os.path.abspath(asked)
        os.makedirs(path, mode=0o700, exist_ok=True)
        os.chmod(path, 0o700)
    else:
        path = tempfile.mkdtemp(prefix="labsim-")
        if len(path) > LONGEST_DIRECTORY:
            os.rmdir(path)
            path = tempfile.mkdtemp(prefix="labsim-", dir="/tmp")
    if len(path) > LONGEST_DIRECTORY:
        raise InputError(f"the path of a cluster has {LONGEST_DIRECTORY} characters at most", path)
    return path


def _clean_up(processes: Processes, directory: str | None) -> None:
    processes.close()
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)
        return
    for name in os.listdir(processes.directory):
        if name == CONTROL or name.startswith("lnet-") or name.endswith(TAPE):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(processes.directory, name))


class LiveHandle(Handle):
    """A live node: its process, and what was asked of it."""

    def __init__(self, cluster: Any, spec: NodeSpec, room: LiveRoom) -> None:
        super().__init__(cluster, spec)
        self._room = room
        self._child: Child | None = None
        self._hello: Any = None
        self._ended: Any = None
        self._quitting = False
        self._births = 0
        """How many processes there were; a process may boot several times, or not at all."""

    @property
    def pid(self) -> int | None:
        """The process id while it has power."""
        return self._child.pid if self._child is not None else None

    def log(self) -> str:
        """What its processes have printed."""
        return self._room.log(self.name)

    def _power_on(self) -> Steps[None]:
        self._hello = self.env.event()
        self._ended = self.env.event()
        self._quitting = False
        self._births += 1
        self._child = self._room.spawn(self.spec, self.boots + 1)
        self.env.watch(self._child.sentinel, self._exited)
        yield self.env.any_of([self._hello, self.env.timeout(HELLO_NS)])
        if not self._hello.triggered:
            raise control.NodeFault(f"{self.name} does not come up\n{self.log()}")

    def heard(self, word: control.Word) -> None:
        """Take what the node says."""
        match word:
            case control.Hello():
                if self._hello is not None and not self._hello.triggered:
                    self._hello.succeed()
            case control.Answer(number, value):
                order, _ = self._pending.get(number, (None, None))
                kind = Result if isinstance(order, control.Command) else Any
                self._answered(number, msgspec.msgpack.decode(value, type=kind))
            case control.Failed(number):
                self._failed(number, control.error_of(word, self.name))

    def _send(self, number: int, order: control.Order) -> None:
        self._room.say(self.name, control.Ask(number, order))

    def _tape(self) -> str:
        return os.path.join(self._room.directory, f"{self.name}.{self._births}{TAPE}")

    def recorded(self) -> Log:
        """What was noted here since it was powered on, also by a process that is gone."""
        return tape.read(self._tape())

    def kill(self) -> Any:
        """Event: the process is gone, by kill -9."""
        if self._child is None:
            return self.env.timeout(0)
        self._quitting = True
        self._child.kill()
        return self._ended

    def quit(self) -> None:
        """Ask the process to end by itself."""
        self._quitting = True
        self._send(0, control.Quit())

    def _exited(self) -> None:
        """The process has ended: as it was told to, or because something is wrong."""
        child = self._child
        assert child is not None
        self.forget()
        child.wait(1.0)
        expected = self._quitting or child.status == control.POWER_LOSS_STATUS
        if self.cluster.archive is not None:
            self.cluster.archive.add(self.recorded())
        self._gone()
        self._ended.succeed()
        if not expected:
            words = self.log()[-4000:]
            raise control.NodeFault(f"{self.name} died (status {child.status})\n{words}")

    def forget(self) -> None:
        """Look after the process no more."""
        if self._child is not None:
            self.env.unwatch(self._child.sentinel)
            self._child = None

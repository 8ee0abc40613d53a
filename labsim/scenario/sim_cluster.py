"""The simulated cluster: every machine in one process, in virtual time.

Does not know scenarios. Stands for a machine room: power, network, disks. A disk outlives the
machine it is in; what was not committed when the power went is gone.
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.base.faults import Crash
from labsim.base.trace import Trace
from labsim.net.capture import Capture, NoCapture, Watcher
from labsim.net.lnd_sim import Fabric, Link
from labsim.net.lnet import Lnet
from labsim.nodes.config import TargetInfo
from labsim.runtime.ports import Steps
from labsim.runtime.sim import NodeEnvironment, environment
from labsim.scenario.control import Order
from labsim.scenario.handles import Handle
from labsim.scenario.machine import Machine, carry_out
from labsim.scenario.record import Log
from labsim.scenario.topology import NodeSpec
from labsim.storage.osd_mem import OsdMem

EBUSY = 16


class SimRoom:
    """Environment, network, disks and machines of a simulated cluster."""

    def __init__(
        self, link: Link, trace_keep: int | None, pcap: str | None = None, epoch_ns: int = 0
    ) -> None:
        self.env: Any = environment()
        self.trace = Trace(lambda: self.env.now, trace_keep)
        self.fabric = Fabric(self.env, link)
        self._handles: list[SimHandle] = []
        self._shelf: dict[str, OsdMem] = {}
        """Every disk there is, by its target's name."""
        self._pcap = pcap
        self._epoch_ns = epoch_ns
        self._watcher: Watcher = NoCapture()

    def handle(self, cluster: Any, spec: NodeSpec) -> SimHandle:
        """A node of this cluster, still off."""
        handle = SimHandle(cluster, spec, self)
        self._handles.append(handle)
        return handle

    def disk(self, info: TargetInfo, taker: SimHandle) -> OsdMem:
        """A target's disk for a machine; EBUSY while another one with power has it (MMP)."""
        for handle in self._handles:
            if handle is not taker and info.name in handle.disks:
                if handle.powered:
                    raise LustreError(EBUSY, f"{info.name} is in use on {handle.name}")
                del handle.disks[info.name]
        disk = self._shelf.get(info.name)
        if disk is None:
            capacity = taker.spec.capacity
            size: dict[str, Any] = {} if capacity is None else {"nbytes": capacity}
            disk = OsdMem(self.env, **size)
        else:
            disk = disk.handed_over()
        self._shelf[info.name] = disk
        return disk

    def open(self) -> None:
        """Begin the capture, if there shall be one."""
        if self._pcap is not None:
            self._watcher = Capture(self._pcap, lambda: self.env.now, self._epoch_ns)

    def attach(self, lnet: Lnet) -> None:
        """Connect a machine that has just been powered on to the network."""
        self.fabric.attach(lnet)
        self._watcher.watch(lnet)

    def close(self, orderly: bool) -> None:
        """Stop all processes where they stand; nothing else is left behind by a simulation."""
        for handle in self._handles:
            handle.power_off()
        self._watcher.close()


class SimHandle(Handle):
    """A simulated node: its machine, its disks, its power switch."""

    def __init__(self, cluster: Any, spec: NodeSpec, room: SimRoom) -> None:
        super().__init__(cluster, spec)
        self._room = room
        self._power: NodeEnvironment | None = None
        self.disks = {target.name: self._new_disk(target) for target in spec.targets}
        self.machine: Machine | None = None
        """The machine while it has power: tests and benchmarks look inside."""

    def _power_on(self) -> Steps[None]:
        power = self._power = NodeEnvironment(self._room.env, self._crash)
        self.machine = Machine(
            self.spec,
            power,
            self._room.attach,
            self.disks,
            self._room.trace,
            self._crash,
            self._new_disk,
            self.boots + 1,
        )
        return
        yield

    def _new_disk(self, info: TargetInfo) -> OsdMem:
        return self._room.disk(info, self)

    def _send(self, number: int, order: Order) -> None:
        assert self._power is not None
        self._power.process(self._carry_out(number, order))

    def _carry_out(self, number: int, order: Order) -> Steps[None]:
        assert self.machine is not None
        try:
            value = yield from carry_out(self.machine, order)
        except Crash:
            self._crash()
        except Exception as error:
            self._failed(number, error)
        else:
            self._answered(number, value)

    def _crash(self) -> None:
        """A fault point takes the power: cut the network now, stop all else as soon as we may."""
        machine = self.machine
        if machine is None or machine.lnet.lnd is None:
            return
        machine.lnet.close()
        timer = self.env.timeout(0, machine)
        timer.callbacks.append(self._crashed)

    def _crashed(self, timer: Any) -> None:
        if self.machine is timer.value:
            self.kill()

    def recorded(self) -> Log:
        """What was noted here since it was powered on."""
        recorder = self.machine.recorder if self.machine is not None else None
        kept = recorder.keeper if recorder is not None else None
        return kept if isinstance(kept, Log) else Log()

    def kill(self) -> Any:
        """Event: the power is gone, with everything that was not on disk."""
        machine = self.machine
        if machine is not None:
            if self.cluster.archive is not None:
                self.cluster.archive.add(self.recorded())
            self.power_off()
            for name in sorted(self.disks):
                self.disks[name].crash()
            machine.trace.emit("node.kill")
            self._gone()
        return self.env.timeout(0)

    def power_off(self) -> None:
        """Stop every process of the machine where it stands."""
        if self.machine is not None and self._power is not None:
            self.machine.lnet.close()
            self._power.power_off()
            self.machine = self._power = None

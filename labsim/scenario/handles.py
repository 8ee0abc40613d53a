"""A node as a scenario sees it: the same face whether it is simulated or a process.

Does not know what is behind `_ask` and the power switch. Stands for the console and the power
button of a machine. Every operation returns an event of the cluster's environment, so that one
scenario runner drives both runtimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from labsim.base.errors import LustreError
from labsim.nodes.config import TargetInfo
from labsim.runtime.ports import Steps
from labsim.scenario.control import (
    AddTarget,
    Arm,
    Boot,
    Command,
    DiskTrouble,
    DropTarget,
    Install,
    Meet,
    Order,
    Remove,
    SetClock,
    Shutdown,
    Snapshot,
    Watch,
)
from labsim.scenario.record import Log
from labsim.scenario.steps.context import Result
from labsim.scenario.topology import NodeSpec

EHOSTDOWN = 112
KILLED_STATUS = 137
"""What a shell reports for a command that SIGKILL ended: 128 + 9."""


class Handle:
    """One node: runs commands, is mounted and unmounted, killed and started."""

    def __init__(self, cluster: Any, spec: NodeSpec) -> None:
        self.cluster = cluster
        self.env = cluster.env
        self.spec = spec
        self.name = spec.name
        self.role = spec.role
        self.powered = False
        self.mounted = False
        self.boots = 0
        """How often Lustre was started here."""
        self._pending: dict[int, tuple[Order, Any]] = {}
        self._number = 0

    # ---- what a scenario asks

    def command(self, text: str, values: Mapping[str, str] | None = None, user: str = "") -> Any:
        """Event: one command line, run here; its value is a Result, also of a killed command."""
        return self._ask(Command(text, dict(values or {}), user))

    def run(self, text: str, values: Mapping[str, str] | None = None, user: str = "") -> Result:
        """Run one command line and wait for its Result; not from inside the environment."""
        result: Result = self.cluster.run(self.command(text, values, user))
        return result

    def snapshot(self) -> Any:
        """Event: what the invariants need to see, as plain data."""
        return self._ask(Snapshot())

    def recorded(self) -> Log:
        """What was noted here since it was powered on."""
        raise NotImplementedError

    def fault(
        self, number: int, bits: int = 0, val: int = 0, reaction: str | None = None, value: int = 0
    ) -> Any:
        """Event: a fault point is armed; with reaction "off" it is disarmed."""
        return self._ask(Arm(number, bits, val, reaction, value))

    def race(self, first: int, second: int) -> Any:
        """Event: two processes will meet at two fault points; `fault(.., "off")` takes it back."""
        return self._ask(Meet(first, second))

    def disk_trouble(self, targets: list[str], state: str, delay_ns: int = 0) -> Any:
        """Event: the disks of these targets (none: all) are slow, full, eio, readonly or ok."""
        return self._ask(DiskTrouble(targets, state, delay_ns))

    def set_clock(self, by_ns: int) -> Any:
        """Event: the date has been set forwards or backwards, also for boots to come."""
        self.spec = msgspec.structs.replace(self.spec, epoch_ns=self.spec.epoch_ns + by_ns)
        return self._ask(SetClock(by_ns))

    def add_target(self, info: TargetInfo) -> Any:
        """Event: this server serves one more target, now and at each start to come."""
        return self.env.process(self._add_target(info))

    def _add_target(self, info: TargetInfo) -> Steps[None]:
        yield self._ask(AddTarget(info))
        self.spec = msgspec.structs.replace(self.spec, targets=(*self.spec.targets, info))

    def drop_target(self, name: str, failover: bool = True) -> Any:
        """Event: this server has let go of a target, which another may take now.

        Without power it only is not to start it again. `failover` keeps the target's clients;
        else it forgets them, as after umount -f.
        """
        return self.env.process(self._drop_target(name, failover))

    def _drop_target(self, name: str, failover: bool) -> Steps[None]:
        if self.powered:
            yield self._ask(DropTarget(name, failover))
        left = tuple(info for info in self.spec.targets if info.name != name)
        self.spec = msgspec.structs.replace(self.spec, targets=left)

    def install(self, rule: Any) -> Any:
        """Event: this node obeys a packet rule."""
        return self._ask(Install(rule))

    def remove(self, name: str) -> Any:
        """Event: this node has forgotten a packet rule, or with an empty name all."""
        return self._ask(Remove(name))

    def start(self) -> Any:
        """Event: power on, if it is off, and Lustre mounted."""
        return self.env.process(self._start())

    mount = start
    """The same in the words of who mounts."""

    def power_cycle(self) -> Any:
        """Event: the power went and came back, and Lustre is mounted again."""
        return self.env.process(self._power_cycle())

    def stop(self) -> Any:
        """Event: Lustre unmounted in order; the power stays on."""
        return self.env.process(self._stop())

    umount = stop

    def kill(self) -> Any:
        """Event: the power is gone, with everything that was not on disk."""
        raise NotImplementedError

    # ---- how

    def _start(self) -> Steps[None]:
        if self.mounted:
            raise LustreError(16, f"{self.name} is up already")
        yield from self.power_on()
        self.boots += 1
        yield self._ask(Boot(self.cluster.fs, self.boots))
        self.mounted = True

    def _power_cycle(self) -> Steps[None]:
        yield self.kill()
        yield from self._start()

    def _stop(self) -> Steps[None]:
        yield self._ask(Shutdown())
        self.mounted = False

    def power_on(self) -> Steps[None]:
        """Return when the machine is on and obeys the packet rules that are in force."""
        if self.powered:
            return
        yield from self._power_on()
        self.powered = True
        if self.cluster.archive is not None:
            yield self._ask(Watch(self._tape()))
        for rule in self.cluster.rules.values():
            yield self.install(rule)

    def _power_on(self) -> Steps[None]:
        raise NotImplementedError

    def _tape(self) -> str:
        """The file that what happens here is noted in; empty: memory."""
        return ""

    def _ask(self, order: Order) -> Any:
        """Event: the machine has carried out an order."""
        event = self.env.event()
        if not self.powered:
            event.fail(LustreError(EHOSTDOWN, f"{self.name} is off"))
            return event
        self._number += 1
        self._pending[self._number] = order, event
        self._send(self._number, order)
        return event

    def _send(self, number: int, order: Order) -> None:
        raise NotImplementedError

    def _answered(self, number: int, value: Any) -> None:
        """The machine is done with an order."""
        _, event = self._pending.pop(number, (None, None))
        if event is not None:
            event.succeed(value)

    def _failed(self, number: int, error: BaseException) -> None:
        _, event = self._pending.pop(number, (None, None))
        if event is not None:
            event.fail(error)

    def _gone(self) -> None:
        """The power went: who waits here hears of it."""
        self.powered = self.mounted = False
        if self.cluster.archive is not None:
            self.cluster.archive.power_off(self.spec, self.env.now)
        pending, self._pending = self._pending, {}
        for order, event in pending.values():
            if isinstance(order, Command):
                event.succeed(Result(status=KILLED_STATUS, chunks=[(2, b"Killed\n")]))
            else:
                event.fail(LustreError(EHOSTDOWN, f"{self.name} lost its power"))

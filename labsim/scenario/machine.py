"""One machine of a cluster: the only place where a Host is made and a node is put on it.

Does not know which runtime it runs in: it is handed an environment, a network to attach to and its
disks. Stands for a server or client computer from power-on to power-off; on it, Lustre is mounted
and unmounted. The simulated cluster holds many of these, a live node's process exactly one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import msgspec

from labsim.base.draws import Draws
from labsim.base.errors import LustreError
from labsim.base.faults import Armed, Faults, Point
from labsim.base.ids import Nid
from labsim.base.param_tree import ParamTree
from labsim.base.trace import Trace
from labsim.net.lnet import Lnet
from labsim.net.rules import Rule, Rules
from labsim.nodes.config import FsConfig, NodeConfig, TargetInfo
from labsim.runtime.ports import Clock, Env, Host, Steps
from labsim.scenario import control
from labsim.scenario.control import Order
from labsim.scenario.record import Log, Recorder
from labsim.scenario.tape import Tape
from labsim.scenario.topology import NodeSpec

ENODEV = 19


def load(name: str) -> Any:
    """What "package.module:attribute" names."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


class Machine:
    """A computer with power. `boot` mounts Lustre on it, `shutdown` unmounts.

    `attach(lnet)` connects it to the network; `disks` are its OSDs by target name; `on_crash` is
    called when a fault point asks for its power to go. `new_disk(info)` puts a disk for one more
    target into it.
    """

    def __init__(
        self,
        spec: NodeSpec,
        env: Env,
        attach: Callable[[Lnet], Any],
        disks: dict[str, Any],
        trace: Trace,
        on_crash: Callable[[], None],
        new_disk: Callable[[TargetInfo], Any],
        incarnation: int = 1,
    ) -> None:
        self.spec = spec
        self.env = env
        self.disks = disks
        self.trace = trace.of(spec.name)
        self.rules = Rules()
        self.lnet = Lnet(Nid.parse(spec.nid), self.rules, self.trace, incarnation)
        self.refused: list[str] = []
        """The last frames from the network that were refused, and why."""
        self.node: Any = None
        self.mounted = False
        """The node has been started to the end."""
        self.host: Host | None = None
        self.recorder: Recorder | None = None
        self._events = trace
        self._on_crash = on_crash
        self._new_disk = new_disk
        attach(self.lnet)

    # ---- mounting

    def boot(self, fs: FsConfig, incarnation: int) -> Steps[None]:
        """Make the node and start it; returns when it is usable."""
        assert self.node is None, f"{self.spec.name} is up already"
        self.host = self._host(incarnation)
        config = NodeConfig(fs, self.spec.index, self.spec.targets, incarnation)
        node = load(self.spec.made_of)(self.host, config)
        node.on_crash = self._on_crash
        self.node = node
        yield from node.start()
        self.mounted = True

    def shutdown(self) -> Steps[None]:
        """Stop the node in order and forget it."""
        if self.node is not None:
            yield from self.node.stop()
        self.node = None
        self.mounted = False
        self.host = None
        self.lnet.reset()

    def _host(self, incarnation: int) -> Host:
        spec, env = self.spec, self.env
        clock = Clock(env, spec.epoch_ns, spec.hz)
        rng = Draws(f"{spec.seed}:{spec.name}:{incarnation}")
        kit = load(spec.kits)(spec)
        faults = Faults(env, rng, self._hit)
        params = ParamTree(kit.dialect, clock.wall_ns, spec.hz, self._console)
        return Host(
            spec.name, env, self.lnet, self.disks, rng, params, faults, self.trace, clock, kit
        )

    def _hit(self, point: Point) -> None:
        self.trace.emit("fault", point.number, point.name)

    def _console(self, text: str) -> None:
        self.trace.emit("console", text)

    def refuse(self, what: str) -> None:
        """Note a frame that the network refused."""
        self.refused = [*self.refused[-9:], what]
        self.trace.emit("lnet.refused", what)

    # ---- what a scenario does to it

    def command(
        self, text: str, values: Mapping[str, str] | None = None, user: str = ""
    ) -> Steps[Any]:
        """Run one command line here, as `user`, with the scenario's variables; a Result."""
        if self.node is None or self.host is None:
            raise LustreError(ENODEV, f"Lustre is not mounted on {self.spec.name}")
        execute = load(self.spec.shell)
        recorder = self.recorder if self.mounted else None
        node = self.node if recorder is None else recorder.over(self.node)
        return (yield from execute(node, self.host, self.spec.role, text, values or {}, user))

    def watch(self, tape: str) -> None:
        """Note from now on what processes ask of the file system, in memory or in a file."""
        keeper = Tape(tape) if tape else Log()
        self.recorder = Recorder(self.spec.name, lambda: self.env.now, keeper)
        self._events.listeners.append(self.recorder.hear)

    def add_target(self, info: TargetInfo) -> Steps[None]:
        """One more disk, new or from another server; its target is mounted if the others are.

        EBUSY where another machine has it.
        """
        if info.name not in self.disks:
            self.disks[info.name] = self._new_disk(info)
        if self.node is not None:
            try:
                yield from self.node.add_target(info)
            except LustreError:
                yield from self.disks.pop(info.name).close()
                raise
        self.spec = msgspec.structs.replace(self.spec, targets=(*self.spec.targets, info))

    def drop_target(self, name: str, failover: bool) -> Steps[None]:
        """Unmount a target, if it is mounted, and let go of its disk."""
        if self.node is not None:
            yield from self.node.drop_target(name, failover)
        left = tuple(info for info in self.spec.targets if info.name != name)
        self.spec = msgspec.structs.replace(self.spec, targets=left)
        yield from self.disks.pop(name).close()

    def fault(
        self, number: int, bits: int = 0, val: int = 0, reaction: str | None = None, value: int = 0
    ) -> None:
        """Arm a fault point, or with reaction "off" disarm it."""
        faults = self._faults()
        if reaction == "off":
            faults.disarm(number)
        else:
            faults.arm(Armed(number, bits, val, reaction, value))

    def _faults(self) -> Faults:
        if self.host is None:
            raise LustreError(ENODEV, f"Lustre is not mounted on {self.spec.name}")
        return self.host.faults

    def race(self, first: int, second: int) -> None:
        """Have two processes meet at two fault points."""
        self._faults().race(first, second)

    def disk_trouble(self, targets: list[str], state: str, delay_ns: int) -> None:
        """Have disks be slow, full, failing ("eio") or well again ("ok"); all if none is named."""
        for name, disk in self.disks.items():
            if not targets or name.rpartition("-")[2] in targets:
                disk.trouble(state, delay_ns)
        self.trace.emit("disk", state, delay_ns, *targets)

    def set_clock(self, by_ns: int) -> None:
        """Set the date; nothing that runs by the monotonic clock notices."""
        self.spec = msgspec.structs.replace(self.spec, epoch_ns=self.spec.epoch_ns + by_ns)
        if self.host is not None:
            self.host.clock.epoch_ns += by_ns
        self.trace.emit("clock.jump", by_ns)

    def install(self, rule: Rule) -> None:
        """Obey a packet rule."""
        self.rules.install(rule)
        self.trace.emit("net.rule", rule.name, rule.action)

    def remove(self, name: str) -> None:
        """Forget a packet rule; all of them when the name is empty."""
        if name:
            self.rules.remove(name)
        else:
            self.rules.clear()
        self.trace.emit("net.heal", name)

    def snapshot(self) -> dict[str, Any]:
        """What the invariants need to see, as plain data."""
        seen: dict[str, Any] = self.node.snapshot() if self.node is not None else {}
        lnet = self.lnet.counters.snapshot()
        refused = getattr(self.lnet.lnd, "refused", 0)
        return seen | {
            "node": self.spec.name,
            "role": self.spec.role,
            "mounted": self.node is not None,
            "lnet": lnet | {"refused": refused},
            "rules": self.rules.hits(),
        }


def carry_out(machine: Machine, order: Order) -> Steps[Any]:
    """Do what a controller asks of a machine; returns what the order is answered with."""
    match order:
        case control.Boot(fs, incarnation):
            yield from machine.boot(fs, incarnation)
        case control.Shutdown():
            yield from machine.shutdown()
        case control.Command(text, values, user):
            return (yield from machine.command(text, values, user))
        case control.AddTarget(info):
            yield from machine.add_target(info)
        case control.DropTarget(name, failover):
            yield from machine.drop_target(name, failover)
        case control.Arm(number, bits, val, reaction, value):
            machine.fault(number, bits, val, reaction, value)
        case control.Meet(first, second):
            machine.race(first, second)
        case control.DiskTrouble(targets, state, delay_ns):
            machine.disk_trouble(targets, state, delay_ns)
        case control.SetClock(by_ns):
            machine.set_clock(by_ns)
        case control.Install(rule):
            machine.install(rule)
        case control.Remove(name):
            machine.remove(name)
        case control.Watch(tape):
            machine.watch(tape)
        case control.Snapshot():
            return machine.snapshot()
    return None

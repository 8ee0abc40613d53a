"""What the steps that are no commands do to a cluster: wait, net, faults, disks, clocks, power.

Does not know which runtime there is, nor what a run amounts to. Each act is a generator that
returns what went wrong in one sentence, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from labsim.base.units import NS_PER_MS, format_duration
from labsim.scenario import model
from labsim.scenario.checkers import Snapshots
from labsim.scenario.cluster import Cluster
from labsim.scenario.verdict import matches

Steps = Generator[Any, Any, Any]

POLL_NS = 50 * NS_PER_MS
"""How often a wait for a state looks."""


def import_states(text: str) -> dict[str, str]:
    """The states in some `import` files, by target."""
    states: dict[str, str] = {}
    target = ""
    for line in text.splitlines():
        name, _, value = line.strip().partition(": ")
        if name == "target":
            target = value.removesuffix("_UUID")
        elif name == "state":
            states[target] = value
    return states


class Acts:
    """Carries out steps on a cluster, and takes back what they broke.

    `values` are the scenario's variables; `history` takes a snapshot of each node that is killed.
    """

    def __init__(
        self, cluster: Cluster, values: Mapping[str, str], history: list[Snapshots]
    ) -> None:
        self.cluster = cluster
        self.env = cluster.env
        self.values = values
        self.history = history
        self.background: dict[str, Any] = {}
        """The processes of background steps by name."""
        self._cures: dict[tuple[str, int], None] = {}
        self._disks: dict[str, None] = {}
        self._acts: dict[type[model.Step], Callable[[Any], Steps]] = {
            model.Wait: self._wait,
            model.Net: self._net,
            model.Fault: self._fault,
            model.Race: self._race,
            model.Disk: self._disk,
            model.ClockJump: self._clock,
            model.Failover: self._fail,
            model.Power: self._power,
        }

    def act(self, step: model.AnyStep) -> Steps:
        """Carry out one step."""
        return (yield from self._acts[type(step)](step))

    def cure(self) -> Steps:
        """Take back every fault, sick disk and network rule that is still there."""
        yield self.cluster.heal()
        for node in list(self._disks):
            if self.cluster.node(node).powered:
                yield self.cluster.node(node).disk_trouble([], "ok")
        for node, number in list(self._cures):
            if self.cluster.node(node).mounted:
                yield self.cluster.node(node).fault(number, reaction="off")

    # ---- waiting

    def _wait(self, step: model.Wait) -> Steps:
        if step.background:
            error = yield self.background.pop(step.background)
            if error is not None:
                raise error
            return ""
        if step.time_ns:
            yield self.env.timeout(step.time_ns)
            return ""
        until = self.env.now + step.within_ns
        while True:
            seen = yield from (self._imports(step) if step.import_ else self._texts(step))
            wanted = step.import_ or step.shows
            if seen and all(matches(wanted, text, self.values) for text in seen.values()):
                return ""
            if self.env.now >= until:
                listed = ", ".join(f"{name} is {text.strip()}" for name, text in seen.items())
                return f"not within {format_duration(step.within_ns)}: {listed or 'nothing there'}"
            yield self.env.timeout(min(POLL_NS, until - self.env.now))

    def _imports(self, step: model.Wait) -> Steps:
        """The states of a node's imports by target."""
        command = f"lctl get_param -n *.{step.target or '*'}-*.import"
        result = yield self.cluster.node(step.on).command(command)
        states = import_states(result.stdout)
        if step.import_ == "FULL":  # one that is idle connects when it is needed
            return {target: state.replace("IDLE", "FULL") for target, state in states.items()}
        return states

    def _texts(self, step: model.Wait) -> Steps:
        """The texts of a node's parameters by name."""
        result = yield self.cluster.node(step.on).command(f"lctl get_param {step.param}")
        pairs = (line.partition("=") for line in result.stdout.splitlines())
        return {name: text for name, _, text in pairs}

    # ---- breaking

    def _net(self, step: model.Net) -> Steps:
        if step.action == "heal":
            yield self.cluster.heal()
            return
        rule = self.cluster.rule(
            step.text,
            "drop" if step.action == "partition" else step.action,
            step.src,
            step.dst,
            both_ways=step.both_ways,
            delay_ns=step.delay_ns,
            **step.match,
        )
        yield self.cluster.net(rule)

    def _fault(self, step: model.Fault) -> Steps:
        handle = self.cluster.node(step.on)
        if step.cure:
            self._cures.pop((step.on, step.at), None)
            yield handle.fault(step.at, reaction="off")
            return
        self._cures[step.on, step.at] = None
        yield handle.fault(step.at, step.bits, step.val, step.do or None, step.value)

    def _race(self, step: model.Race) -> Steps:
        for number in step.at:
            self._cures[step.on, number] = None
        yield self.cluster.node(step.on).race(*step.at)

    def _disk(self, step: model.Disk) -> Steps:
        self._disks[step.node] = None
        handle = self.cluster.node(step.node)
        if self.cluster.archive is not None:
            self.cluster.archive.disk(handle.spec, step.targets, step.state, self.env.now)
        yield handle.disk_trouble(step.targets, step.state, step.delay_ns)

    def _clock(self, step: model.ClockJump) -> Steps:
        yield self.cluster.node(step.node).set_clock(step.by_ns)

    # ---- power

    def _fail(self, step: model.Failover) -> Steps:
        if step.to:
            yield self.cluster.fail_over(step.node, step.to)
        else:
            yield self.cluster.fail_back(step.node)

    def _power(self, step: model.Power) -> Steps:
        handle = self.cluster.node(step.node)
        action = step.action.replace("kill -9", "kill").replace("-", "_")
        if action in ("kill", "power_cycle") and handle.mounted:
            self.history.append({step.node: (yield handle.snapshot())})
        yield getattr(handle, action)()

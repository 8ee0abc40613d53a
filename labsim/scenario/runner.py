"""The runner: one scenario on one tree, simulated or live, step by step.

Does not know which runtime there is: it is a generator on the cluster's environment that drives
node handles, and every handle does its work through events. What a step must show is in `verdict`.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Generator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from labsim.base.errors import InputError, LabsimError, LustreError
from labsim.base.units import NS_PER_MS, format_duration
from labsim.scenario import checkers, kits, model
from labsim.scenario.cluster import Cluster, Runtime
from labsim.scenario.steps.context import Result
from labsim.scenario.verdict import EXPECTED, Shown, Verdict, judge, matches, verdict_of

Steps = Generator[Any, Any, Any]

SETTLE_NS = 200 * NS_PER_MS
SETTLE_TIMES = 5
"""Locks may still be on their way back when the last step is done."""

POLL_NS = 50 * NS_PER_MS
"""How often a wait for a state looks."""

DEFAULT_SEED = 1


class Run(msgspec.Struct, kw_only=True):
    """One scenario as it went on one tree."""

    scenario: str
    ticket: str
    covers: list[str] = []
    tree: str
    runtime: Runtime = "sim"
    seed: int = DEFAULT_SEED
    verdict: Verdict = "unknown"
    expected: Verdict = "unknown"
    hash: str = ""
    virtual_ns: int = 0
    wall_ms: int = 0
    steps: list[Shown] = []
    broken: list[str] = []
    """Invariants that did not hold, or why the run was cut short."""
    skipped: str = ""
    """Why nothing was run: nobody knows what to expect."""

    @property
    def ok(self) -> bool:
        """True when the verdict is the one that the tree's history demands."""
        return self.verdict == self.expected

    def plain(self) -> dict[str, Any]:
        """What `run --json` prints of it."""
        plain = {name: getattr(self, name) for name in PLAIN}
        return plain | ({"covers": self.covers} if self.covers else {})


PLAIN = (
    "scenario", "ticket", "tree", "runtime", "seed", "verdict", "expected", "hash", "virtual_ns",
    "wall_ms",
)  # fmt: skip


class Listener:
    """Hears how runs go; this one does nothing with it."""

    def scenario(self, scenario: model.Scenario) -> None:
        """A scenario begins."""

    def tree(self, tree: str) -> None:
        """Its run on a tree begins."""

    def step(self, shown: Shown) -> None:
        """A step is done."""

    def run(self, made: Run) -> None:
        """The run is done."""

    def summary(self, runs: Sequence[Run]) -> None:
        """All runs are done."""


class CutShort(LabsimError):
    """A step did not end, so that what follows would mean nothing."""


def run(
    scenario: model.Scenario,
    tree: str,
    runtime: Runtime = "sim",
    seed: int = DEFAULT_SEED,
    listener: Listener | None = None,
    pcap: str | None = None,
) -> Run:
    """Run a scenario on a tree; where nobody knows whether it has the bug, nothing is run.

    `pcap` is a file for a capture of its network.
    """
    listener = listener or Listener()
    presence = kits.presence(scenario, tree)
    made = Run(
        scenario=scenario.name,
        ticket=scenario.ticket,
        covers=list(scenario.covers),
        tree=tree,
        runtime=runtime,
        seed=seed,
        expected=EXPECTED[presence],
    )
    listener.tree(tree)
    if presence == "unknown":
        made.skipped = "not run: its history does not tell whether it has the bug"
    elif runtime == "live" and scenario.virtual_time:
        made.skipped, made.expected = "not run: it needs virtual time", "unknown"
    else:
        _timed(made, scenario, listener, pcap)
        made.verdict = verdict_of(made.steps, presence, bool(made.broken))
    listener.run(made)
    return made


def _timed(made: Run, scenario: model.Scenario, listener: Listener, pcap: str | None) -> None:
    """Do it, and note how long it took or what stopped it."""
    started = perf_counter()
    try:
        _perform(made, scenario, listener, pcap)
    except InputError:
        raise
    except Exception as error:
        made.broken.append(defect(error, made.seed))
    made.wall_ms = round((perf_counter() - started) * 1000)


def _perform(made: Run, scenario: model.Scenario, listener: Listener, pcap: str | None) -> None:
    """Build the cluster, take every step, and note in `made` what came out."""
    with cluster_of(scenario, made.tree, made.runtime, made.seed, pcap) as cluster:
        runner = Runner(cluster, scenario, listener)
        made.steps, made.broken = runner.shown, runner.broken
        try:
            cluster.run(runner.everything())
        except AssertionError as error:
            error.add_note(f"at {cluster.env.now} ns, event {getattr(cluster.env, 'steps', '?')}")
            raise
        finally:
            made.hash = cluster.hash
            made.virtual_ns = runner.ended_ns


def capture_file(pcap: str | None, scenario: model.Scenario, tree: str, runs: int) -> str | None:
    """The capture of one run: the file that was asked for, or one of several named after it."""
    if pcap is None:
        return None
    wanted = Path(pcap).absolute()
    if not os.access(wanted.parent, os.W_OK):
        raise InputError("its folder is not there, or cannot be written", pcap)
    if runs == 1:
        return str(wanted)
    name = f"{wanted.stem}-{scenario.name.strip('/').replace('/', '-')}-{tree}"
    return str(wanted.with_name(name + (wanted.suffix or ".pcap")))


def defect(error: Exception, seed: int) -> str:
    """What stopped the run: an assertion that failed is labsim's own defect."""
    lines = "".join(traceback.format_exception(error))
    return f"{type(error).__name__}: {error} (seed {seed})\n{lines}"


def cluster_of(
    scenario: model.Scenario,
    tree: str,
    runtime: Runtime = "sim",
    seed: int = DEFAULT_SEED,
    pcap: str | None = None,
) -> Cluster:
    """The cluster that a scenario describes, with `tree` where it says under-test."""
    spec = scenario.cluster

    def named(text: str) -> str:
        return tree if text == model.UNDER_TEST else text

    clients = [named(client.tree) for client in spec.clients]
    return Cluster(
        clients=len(clients),
        oss=spec.oss,
        osts=spec.ost_count,
        runtime=runtime,
        seed=seed,
        tree=named(spec.servers.tree),
        client_trees=clients,
        hz=[client.hz or spec.hz for client in spec.clients],
        mount=[client.mount for client in spec.clients],
        server_hz=spec.servers.hz or spec.hz,
        overlays={f"c{n}": kits.overlay_files(scenario, name) for n, name in enumerate(clients)},
        trace_keep=0,
        pcap=pcap,
    )


class Runner:
    """One run in progress."""

    def __init__(self, cluster: Cluster, scenario: model.Scenario, listener: Listener) -> None:
        self.cluster = cluster
        self.env = cluster.env
        self.scenario = scenario
        self.listener = listener
        self.values: dict[str, str] = {}
        self.shown: list[Shown] = []
        self.broken: list[str] = []
        self.history: list[checkers.Snapshots] = []
        self.ended_ns = 0
        self._number = 0
        self._cures: dict[tuple[str, int], model.Fault] = {}
        self._started_ns = 0

    def everything(self) -> Steps:
        """All steps, the cures of what they left broken, and the invariants."""
        self._started_ns = self.env.now
        try:
            for number, step in enumerate(self.scenario.steps, start=1):
                self._number = number
                yield from self.step(step)
        except CutShort as error:
            self.broken.append(str(error))
            return
        finally:
            self.ended_ns = self.env.now - self._started_ns
        yield from self.cure()
        yield from self.check()

    def check(self) -> Steps:
        """The invariants, once what is under way has settled."""
        found: list[str] = []
        for _ in range(SETTLE_TIMES):
            yield self.env.timeout(SETTLE_NS)
            final = yield self.cluster.snapshots()
            found = checkers.check([*self.history, final])
            if not found:
                return
        self.broken += found

    def cure(self) -> Steps:
        """Take back every fault and network rule that is still there."""
        yield self.cluster.heal()
        for node, number in list(self._cures):
            if self.cluster.node(node).mounted:
                yield self.cluster.node(node).fault(number, reaction="off")

    def step(self, step: model.AnyStep) -> Steps:
        """One step of any kind."""
        started = self.env.now
        if isinstance(step, model.Command):
            yield from self._command(step)
            return
        if isinstance(step, model.Parallel):
            yield self.env.all_of([self.env.process(self._command(one)) for one in step.steps])
            return
        act: Any = {
            model.Wait: self._wait,
            model.Net: self._net,
            model.Fault: self._fault,
            model.Power: self._power,
        }[type(step)]
        differs = ""
        try:
            differs = (yield from act(step)) or ""
        except LustreError as error:
            differs = str(error)
        self._show(step, started, fixed=not differs, buggy=None, differs=differs)

    # ---- commands

    def _command(self, step: model.Command) -> Steps:
        started = self.env.now
        result = yield from self._result(step)
        if step.save:
            self.values[step.save] = result.stdout.rstrip("\n")
        fixed, buggy, differs = judge(step.shows, step.buggy, result, self.values)
        if self.cluster.trace is not None:
            fields = (self._number, result.status, result.errno_name, result.output)
            self.cluster.trace.emit(step.node, "scenario.result", fields)
        self._show(step, started, fixed, buggy, differs, result.output)

    def _result(self, step: model.Command) -> Steps:
        limit_ns = model.STEP_TIMEOUT_NS if step.within_ns is None else step.within_ns
        limit = self.env.timeout(limit_ns)
        done = self.cluster.node(step.node).command(step.text, self.values, step.user)
        try:
            yield self.env.any_of([done, limit])
        except LustreError as error:
            message = f"{step.node}: {error.what or error.message}\n".encode()
            return Result(status=1, errno=error.errno, chunks=[(2, message)])
        if not done.triggered:
            what = f"line {step.line}: '{step.label}' took longer than {format_duration(limit_ns)}"
            self._show(step, self.env.now - limit_ns, False, None, "it did not end")
            raise CutShort(what)
        return done.value

    def _show(
        self,
        step: model.AnyStep,
        started: int,
        fixed: bool,
        buggy: bool | None,
        differs: str = "",
        output: str = "",
    ) -> None:
        shown = Shown(
            label=step.label,
            line=step.line,
            at_ns=started - self._started_ns,
            took_ns=self.env.now - started,
            fixed=fixed,
            buggy=buggy,
            output=output,
            differs=differs,
            step=self._number,
        )
        self.shown.append(shown)
        self.listener.step(shown)

    # ---- the other steps; each returns what went wrong, or nothing

    def _wait(self, step: model.Wait) -> Steps:
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
        states: dict[str, str] = {}
        target = ""
        for line in result.stdout.splitlines():
            name, _, text = line.strip().partition(": ")
            if name == "target":
                target = text.removesuffix("_UUID")
            elif name == "state":
                states[target] = text
        return states

    def _texts(self, step: model.Wait) -> Steps:
        """The texts of a node's parameters by name."""
        result = yield self.cluster.node(step.on).command(f"lctl get_param {step.param}")
        pairs = (line.partition("=") for line in result.stdout.splitlines())
        return {name: text for name, _, text in pairs}

    def _net(self, step: model.Net) -> Steps:
        if step.action == "heal":
            yield self.cluster.heal()
            return
        rule = self.cluster.rule(
            step.text,
            "delay" if step.action == "delay" else "drop",
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
        self._cures[step.on, step.at] = step
        yield handle.fault(step.at, step.bits, step.val, step.do or None, step.value)

    def _power(self, step: model.Power) -> Steps:
        handle = self.cluster.node(step.node)
        if step.action == "kill" and handle.mounted:
            self.history.append({step.node: (yield handle.snapshot())})
        yield getattr(handle, step.action)()

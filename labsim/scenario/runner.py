"""The runner: one scenario on one tree, simulated or live, step by step.

Does not know which runtime there is: it is a generator on the cluster's environment that drives
node handles, and every handle does its work through events. What a step must show is in `verdict`.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Generator, Sequence
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from labsim.base.errors import InputError, LabsimError, LustreError
from labsim.base.units import MIB, NS_PER_MS, NS_PER_S, format_duration
from labsim.scenario import checkers, kits, model, oracle, stuck
from labsim.scenario.acts import Acts
from labsim.scenario.cluster import Cluster, Runtime
from labsim.scenario.steps.context import Result
from labsim.scenario.verdict import EXPECTED, Shown, Verdict, judge, verdict_of

Steps = Generator[Any, Any, Any]

SETTLE_NS = (*[200 * NS_PER_MS] * 5, *[6000 * NS_PER_MS] * 3)
"""Locks may still be on their way back when the last step is done; some things wait for a commit,
and objects are destroyed after another one."""

NOTICED_NS = 90 * NS_PER_S
"""After so long every client knows of a server that was restarted: it pings every 25 s."""

LOOK_NS = 500 * NS_PER_MS
"""How often invariants are looked at all the time."""

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
    undecided: bool = False
    """Too much was in doubt for the reference model to say whether all calls were right."""
    skipped: str = ""
    """Why nothing was run: nobody knows what to expect."""

    @property
    def ok(self) -> bool:
        """True when the verdict is the one that the tree's history demands."""
        return self.verdict == self.expected

    @property
    def wrong(self) -> list[str]:
        """What is not as it must be: broken invariants, steps that did not do what they should."""
        steps = [f"{one.label}: {one.differs}" for one in self.steps if one.differs]
        return [*self.broken, *steps]

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
    check: bool = False,
) -> Run:
    """Run a scenario on a tree; where nobody knows whether it has the bug, nothing is run.

    `pcap` is a file for a capture of its network. With `check` the invariants that hold at any time
    are looked at all the time.
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
        _timed(made, scenario, listener, pcap, check)
        made.verdict = verdict_of(made.steps, presence, bool(made.broken))
    listener.run(made)
    return made


def _timed(
    made: Run, scenario: model.Scenario, listener: Listener, pcap: str | None, check: bool
) -> None:
    """Do it, and note how long it took or what stopped it."""
    started = perf_counter()
    try:
        _perform(made, scenario, listener, pcap, check)
    except InputError:
        raise
    except Exception as error:
        made.broken.append(defect(error, made.seed))
    made.wall_ms = round((perf_counter() - started) * 1000)


def _perform(
    made: Run, scenario: model.Scenario, listener: Listener, pcap: str | None, check: bool
) -> None:
    """Build the cluster, take every step, and note in `made` what came out."""
    with cluster_of(scenario, made.tree, made.runtime, made.seed, pcap) as cluster:
        runner = Runner(cluster, scenario, listener)
        made.steps, made.broken = runner.shown, runner.broken
        try:
            if check:
                cluster.env.process(runner.look())
            cluster.run(runner.in_time())
            if made.expected == "pass" and cluster.archive is not None:
                made.broken += oracle.posix(cluster.archive)
                made.undecided = cluster.archive.undecided
                if "flock" in scenario.cluster.options:
                    made.broken += oracle.locks(cluster.archive)
                made.broken += oracle.causes(cluster.archive) if scenario.strict else []
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
        mds=spec.mds,
        oss=spec.oss,
        osts=spec.ost_count,
        failover=spec.failover,
        capacity=spec.capacity_mb * MIB or None,
        runtime=runtime,
        seed=seed,
        tree=named(spec.servers.tree),
        client_trees=clients,
        hz=[client.hz or spec.hz for client in spec.clients],
        mount_options=spec.options,
        mount=[client.mount for client in spec.clients],
        server_hz=spec.servers.hz or spec.hz,
        overlays={f"c{n}": kits.overlay_files(scenario, name) for n, name in enumerate(clients)},
        trace_keep=0,
        pcap=pcap,
        record=True,
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
        self.acts = Acts(cluster, self.values, self.history)
        self.ended_ns = 0
        self._doing: dict[int, stuck.Doing] = {}
        self._begun = count()
        self._number = 0
        self._started_ns = 0

    def in_time(self) -> Steps:
        """Everything, or as much of it as the scenario has time for."""
        limit_ns = self.scenario.limit_ns
        work = self.env.process(self.everything())
        yield self.env.any_of([work, *([self.env.timeout(limit_ns)] if limit_ns else [])])
        if not work.triggered:
            lines = yield from stuck.told(self.cluster, self._doing.values())
            about = f"stuck: not over after {format_duration(limit_ns)}"
            self.broken.append("\n".join([about, *(f"  {line}" for line in lines)]))
            self.cluster.collect()

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
        yield from self.acts.cure()
        yield from self.check()
        self.cluster.collect()

    def look(self) -> Steps:
        """The invariants that hold at any time, again and again until one does not."""
        while not self.broken:
            yield self.env.timeout(LOOK_NS)
            try:
                seen = yield self.cluster.snapshots()
            except LustreError:
                continue  # a machine lost its power while it was asked
            at = format_duration(self.env.now - self._started_ns)
            self.broken += (f"at {at}: {what}" for what in checkers.check_any_time(seen))

    def check(self) -> Steps:
        """The invariants, once what is under way has settled."""
        found: list[str] = []
        for settle_ns in SETTLE_NS:
            yield self.env.timeout(settle_ns)
            final = yield self.cluster.snapshots()
            found = checkers.check([*self.history, final])
            if not found:
                break
        if not found and self.history and self.cluster.runtime == "sim":
            yield self.env.timeout(NOTICED_NS)
            found = checkers.check([*self.history, (yield self.cluster.snapshots())], noticed=True)
        self.broken += found

    def step(self, step: model.AnyStep) -> Steps:
        """One step of any kind."""
        number = self._number
        if isinstance(step, model.Parallel):
            begun = [self.env.process(self._beside(number, one)) for one in step.steps]
            yield self.env.all_of(begun)
            for error in filter(None, (one.value for one in begun)):
                raise error
        elif isinstance(step, (model.Command, model.Sequence)) and step.background:
            self.acts.background[step.background] = self.env.process(self._beside(number, step))
        else:
            yield from self._one(number, step)

    def _beside(self, number: int, step: Any) -> Steps:
        """The same beside other steps: what cut it short is for who waits for it to raise."""
        try:
            yield from self._one(number, step)
        except CutShort as error:
            return error
        return None

    def _one(self, number: int, step: Any) -> Steps:
        """One step, or a sequence of them."""
        if isinstance(step, model.Sequence):
            until = self.env.now + step.for_ns if step.for_ns else None
            for one in step.steps:
                if until is None or self.env.now < until:
                    yield from self._one(number, one)
            return
        begun = next(self._begun)
        self._doing[begun] = step, self.env.now
        try:
            yield from self._single(number, step)
        finally:
            del self._doing[begun]

    def _single(self, number: int, step: Any) -> Steps:
        """One command or act, from its start to what it shows."""
        if isinstance(step, model.Command):
            yield from self._command(number, step)
            return
        started = self.env.now
        differs = ""
        try:
            differs = (yield from self.acts.act(step)) or ""
        except LustreError as error:
            differs = str(error)
        self._show(number, step, started, fixed=not differs, buggy=None, differs=differs)

    # ---- commands

    def _command(self, number: int, step: model.Command) -> Steps:
        started = self.env.now
        result = yield from self._result(number, step)
        if step.save:
            self.values[step.save] = result.stdout.rstrip("\n")
        fixed, buggy, differs = judge(step.shows, step.buggy, result, self.values)
        if step.whatever:
            fixed, differs = True, ""
        if self.cluster.trace is not None:
            fields = (number, result.status, result.errno_name, result.output)
            self.cluster.trace.emit(step.node, "scenario.result", fields)
        output = "" if step.whatever else result.output
        self._show(number, step, started, fixed, buggy, differs, output)

    def _result(self, number: int, step: model.Command) -> Steps:
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
            self._show(number, step, self.env.now - limit_ns, False, None, "it did not end")
            raise CutShort(what)
        return done.value

    def _show(
        self,
        number: int,
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
            step=number,
        )
        self.shown.append(shown)
        self.listener.step(shown)

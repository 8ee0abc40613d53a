"""Random runs: calls of several clients and troubles, made from a seed, checked by all oracles.

Does not know how a run is made. A random run is a scenario that was not written by hand, so that a
failing one can be made smaller step by step (`shrink`) and printed as a file (`write_yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import msgspec

from labsim.base.units import NS_PER_S
from labsim.scenario import model
from labsim.scenario.nemesis import QUIET_NS, TROUBLES, USUAL, Nemesis, Pace
from labsim.scenario.workload import DIRECTORIES, Workload, everything, whatever

FAILOVER = "failover"
"""The kind of trouble that needs partners; a cluster has them if it may come."""
CLIENT = "client"
ALL = tuple(TROUBLES)
"""Every kind of trouble."""

NAME = "stress/random"
EXIT = "proc p exit"
"""The end of a client's calls, so that nobody waits for a lock of its for good."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a random run consists of: `calls` of each client, so many `troubles` of some kinds."""

    clients: int = 4
    mds: int = 1
    oss: int = 2
    osts: int = 0
    calls: int = 60
    troubles: int = 4
    faults: tuple[str, ...] = ALL
    live: bool = False
    """For real processes: what takes virtual time is left out."""
    for_ns: int = 0
    """Nothing is begun after so long; 0: everything is."""


LIVE = (*["power"] * 7, CLIENT)
"""What breaks on real processes: of eight that are killed one is a client."""
LIVE_PACE = Pace(pause=(1000, 8000), outage=(100, 5000))
LIVE_TIMEOUT = "lctl set_param -P timeout=20"
"""As in Lustre's own tests: with 100 s the servers wait most of the time for a client that died."""
LIVE_QUIET_NS = 45 * NS_PER_S
LIVE_PATIENCE_NS = 300 * NS_PER_S
"""How long calls may go on when nothing breaks any more: several recoveries, one after the other,
each until a client that died is given up, on a busy machine."""
CALLS_A_MINUTE, TROUBLES_A_MINUTE = 600, 60
"""More than there is time for."""


def for_minutes(plan: Plan, minutes: float) -> Plan:
    """The plan with something to do for so many minutes, and no longer."""
    return msgspec.structs.replace(
        plan, calls=max(int(minutes * CALLS_A_MINUTE), 1),
        troubles=max(int(minutes * TROUBLES_A_MINUTE), 1), for_ns=int(minutes * 60 * NS_PER_S),
    )  # fmt: skip


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a random run: calls of each client by name, and troubles, one by one."""

    live: bool = False
    for_ns: int = 0
    cluster: model.ClusterSpec
    clients: Mapping[str, list[list[model.AnyStep]]]
    troubles: list[list[model.AnyStep]]


def script(plan: Plan, seed: int) -> Script:
    """The random run of a seed, in parts."""
    cluster = model.ClusterSpec(
        clients=[model.ClientSpec(tree=model.REFERENCE_TREE)] * plan.clients, mds=plan.mds,
        oss=plan.oss, osts=plan.osts, options=["flock"],
        failover="pairs" if FAILOVER in plan.faults else "",
    )  # fmt: skip
    names = [f"c{number}" for number in range(plan.clients)]
    work = {
        name: Workload(name, Random(f"{seed}:{name}"), not plan.for_ns).steps(plan.calls)
        for name in names
    }
    pace = LIVE_PACE if plan.live else USUAL
    nemesis = Nemesis(cluster, Random(f"{seed}:nemesis"), pace)
    troubles = nemesis.troubles(plan.faults, plan.troubles)
    return Script(
        live=plan.live, for_ns=plan.for_ns, cluster=cluster, clients=work, troubles=troubles
    )


def scenario(plan: Plan, seed: int) -> model.Scenario:
    """The random run of a seed."""
    return assembled(script(plan, seed), f"a random run, seed {seed}")


def assembled(parts: Script, title: str) -> model.Scenario:
    """A scenario of all parts at once, and a look at everything afterwards."""
    sequences = [
        model.Sequence(
            steps=[*(step for call in calls for step in call), whatever(name, EXIT)],
            background=name,
            for_ns=parts.for_ns,
        )
        for name, calls in parts.clients.items()
        if calls
    ]
    broken = [step for trouble in parts.troubles for step in trouble]
    if parts.for_ns:  # each trouble is gone through to its end
        broken = [model.Sequence(steps=one, background="trouble") for one in parts.troubles]
    if broken:
        sequences.append(model.Sequence(steps=broken, background="nemesis", for_ns=parts.for_ns))
    steps: list[model.AnyStep] = [whatever("c0", f"mkdir {' '.join(DIRECTORIES)}")]
    if parts.live:
        steps.insert(0, model.Command(node="mgs", text=LIVE_TIMEOUT))
    steps += sequences
    steps += [model.Wait(background=one.background) for one in sequences]
    if parts.for_ns:
        steps += [whatever(name, EXIT) for name, calls in parts.clients.items() if calls]
    if broken:
        steps += [
            model.Net(text="heal", action="heal"),
            model.Wait(time_ns=model.Nanoseconds(LIVE_QUIET_NS if parts.live else QUIET_NS)),
        ]
    for number in range(len(parts.cluster.clients)):
        name = f"c{number}"
        steps += [whatever(name, "ls -lR"), whatever(name, f"cat {' '.join(everything())}")]
    return model.Scenario(
        title=title, cluster=parts.cluster, steps=steps, virtual_time=not parts.live, strict=True,
        limit_ns=parts.for_ns + LIVE_QUIET_NS + LIVE_PATIENCE_NS if parts.live else 0, name=NAME,
    )  # fmt: skip

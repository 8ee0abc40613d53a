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
from labsim.scenario.nemesis import QUIET_NS, TROUBLES, Nemesis
from labsim.scenario.workload import DIRECTORIES, Workload, everything, whatever

ALL = tuple(TROUBLES)
"""Every kind of trouble."""

NAME = "stress/random"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a random run consists of: `calls` of each client, so many `troubles` of some kinds."""

    clients: int = 4
    oss: int = 2
    osts: int = 0
    calls: int = 60
    troubles: int = 4
    faults: tuple[str, ...] = ALL
    live: bool = False
    """For real processes: what takes virtual time is left out."""


LIVE_QUIET_NS = 45 * NS_PER_S
CALLS_A_MINUTE, TROUBLES_A_MINUTE = 240, 12


def for_minutes(plan: Plan, minutes: float) -> Plan:
    """The plan with about as much to do as fills so many minutes of real time."""
    return msgspec.structs.replace(
        plan, calls=int(minutes * CALLS_A_MINUTE), troubles=int(minutes * TROUBLES_A_MINUTE)
    )


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a random run: calls of each client by name, and troubles, one by one."""

    live: bool = False
    cluster: model.ClusterSpec
    clients: Mapping[str, list[list[model.AnyStep]]]
    troubles: list[list[model.AnyStep]]


def script(plan: Plan, seed: int) -> Script:
    """The random run of a seed, in parts."""
    cluster = model.ClusterSpec(
        clients=[model.ClientSpec(tree=model.REFERENCE_TREE)] * plan.clients, oss=plan.oss,
        osts=plan.osts,
    )  # fmt: skip
    names = [f"c{number}" for number in range(plan.clients)]
    work = {name: Workload(name, Random(f"{seed}:{name}")).steps(plan.calls) for name in names}
    nemesis = Nemesis(cluster, Random(f"{seed}:nemesis"))
    return Script(
        live=plan.live,
        cluster=cluster,
        clients=work,
        troubles=nemesis.troubles(plan.faults, plan.troubles),
    )


def scenario(plan: Plan, seed: int) -> model.Scenario:
    """The random run of a seed."""
    return assembled(script(plan, seed), f"a random run, seed {seed}")


def assembled(parts: Script, title: str) -> model.Scenario:
    """A scenario of all parts at once, and a look at everything afterwards."""
    sequences = [
        model.Sequence(
            steps=[*(step for call in calls for step in call), whatever(name, "proc p exit")],
            background=name,
        )
        for name, calls in parts.clients.items()
        if calls
    ]
    broken = [step for trouble in parts.troubles for step in trouble]
    if broken:
        sequences.append(model.Sequence(steps=broken, background="nemesis"))
    steps: list[model.AnyStep] = [whatever("c0", f"mkdir {' '.join(DIRECTORIES)}")]
    steps += sequences
    steps += [model.Wait(background=one.background) for one in sequences]
    if broken:
        steps += [
            model.Net(text="heal", action="heal"),
            model.Wait(time_ns=model.Nanoseconds(LIVE_QUIET_NS if parts.live else QUIET_NS)),
        ]
    for number in range(len(parts.cluster.clients)):
        name = f"c{number}"
        steps += [whatever(name, "ls -lR"), whatever(name, f"cat {' '.join(everything())}")]
    return model.Scenario(
        title=title, cluster=parts.cluster, steps=steps, virtual_time=not parts.live, name=NAME
    )

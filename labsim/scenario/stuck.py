"""Who keeps a run from ending: what is under way, and how connections and recoveries stand.

Does not know runtimes. Stands for the administrator who looks at `import` and `recovery_status` of
every node; one that does not answer is told as well.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.units import NS_PER_S, format_duration
from labsim.scenario import model
from labsim.scenario.acts import import_states
from labsim.scenario.cluster import Cluster

Steps = Generator[Any, Any, Any]
Doing = tuple[model.AnyStep, int]
"""A step, and when it was begun."""

PATIENCE_NS = 5 * NS_PER_S
"""How long a node may take to answer."""
CONNECTED = ("FULL", "IDLE")


def told(cluster: Cluster, doing: Iterable[Doing]) -> Steps:
    """A line for each step under way, and for each node that is not as it should be."""
    now = cluster.env.now
    lines = [
        f"{step.label}: for {format_duration((now - begun) // NS_PER_S * NS_PER_S)}"
        for step, begun in doing
        if not isinstance(step, model.Wait)
    ]
    for name, handle in cluster.nodes.items():
        if not handle.powered:
            lines.append(f"{name} is off")
        elif not handle.mounted:
            lines.append(f"{name}: Lustre is not up")
        else:
            lines += [f"{name}: {what}" for what in (yield from _node(cluster, handle))]
    return lines


def _node(cluster: Cluster, handle: Any) -> Steps:
    """What is not in order on a node."""
    imports = yield from _answer(cluster, handle, "lctl get_param -n *.*.import")
    if imports is None:
        return ["does not answer"]
    found = [
        f"import of {target} is {state}"
        for target, state in import_states(imports).items()
        if state not in CONNECTED
    ]
    status = yield from _answer(cluster, handle, "lctl get_param *.*.recovery_status")
    for text in (status or "").split("recovery_status=")[1:]:
        fields = [line.strip() for line in text.splitlines() if ": " in line]
        if fields and fields[0].partition(": ")[2] not in ("COMPLETE", "INACTIVE"):
            found.append(f"recovery: {', '.join(fields)}")
    return found


def _answer(cluster: Cluster, handle: Any, text: str) -> Steps:
    """What a command prints; None where the node does not answer."""
    done = handle.command(text)
    try:
        yield cluster.env.any_of([done, cluster.env.timeout(PATIENCE_NS)])
    except LustreError:
        return None
    return done.value.stdout if done.triggered else None

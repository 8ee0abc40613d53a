"""A thousand clients that all want the same page of one file, while a hundred of them die.

Drives a simulated cluster from outside. What is measured is the simulator: RPCs that servers and
clients answer per second of this machine, from the first open to the last close.
"""

from __future__ import annotations

from random import Random
from time import perf_counter
from typing import Any

from labsim.base.payload import Fill
from labsim.base.units import NS_PER_MS, NS_PER_S
from labsim.perf.bench import Measured, below, bench
from labsim.runtime.ports import Steps

CLIENTS, DYING, ROUNDS = 1000, 100, 3
PAGE = 4096
APART_NS = 2 * NS_PER_MS
"""The longest time between one death and the next."""


@bench("RPC/s", below(60, "run_s"))
def sim_contention() -> Measured:
    """Simulated: 1000 clients write, read and stat one page in turn; 100 are powered off."""
    return crowd(CLIENTS, DYING)


def crowd(clients: int, dying: int) -> Measured:
    """The RPC rate, with the seconds it took to mount and to run, and the virtual seconds."""
    from labsim.scenario.cluster import Cluster

    started = perf_counter()
    with Cluster(clients=clients, oss=2, osts=2, trace_keep=0) as cluster:
        mounted = perf_counter()
        cluster.run(_create(cluster.client(0).machine.node.vfs))
        victims = Random(1).sample(range(1, clients), dying)
        work = {
            number: cluster.env.process(_work(cluster.client(number).machine.node.vfs))
            for number in range(clients)
        }
        cluster.env.process(_kill(cluster, victims))
        before = _answered(cluster)
        began_ns = cluster.env.now
        cluster.run(cluster.env.all_of([work[n] for n in work if n not in victims]))
        ended = perf_counter()
        answered = _answered(cluster) - before
        virtual_s = (cluster.env.now - began_ns) / NS_PER_S
    parts = {"rpcs": answered, "mount_s": round(mounted - started, 1),
             "run_s": round(ended - mounted, 1), "virtual_s": round(virtual_s, 1)}  # fmt: skip
    return Measured(answered / (ended - mounted), parts)


def _create(vfs: Any) -> Steps[None]:
    file = yield from vfs.open("f", 0o102, 0o644)
    yield from vfs.close(file)


def _work(vfs: Any) -> Steps[None]:
    file = yield from vfs.open("f", 2)
    for _ in range(ROUNDS):
        yield from vfs.write(file, Fill(PAGE, 1), 0)
        yield from vfs.read(file, PAGE, 0)
        yield from vfs.stat("f")
    yield from vfs.close(file)


def _kill(cluster: Any, victims: list[int]) -> Steps[None]:
    random = Random(2)
    for number in victims:
        yield cluster.env.timeout(random.randrange(APART_NS))
        cluster.client(number).kill()


def _answered(cluster: Any) -> int:
    """Requests that all nodes which are up have handled."""
    up = [handle.machine.node for handle in cluster.nodes.values() if handle.machine]
    return sum(service.handled for node in up if node for service in node.services)

"""The benchmark of captures: what --pcap takes from the speed of a live cluster.

Does not know how captures are made. Two clusters stand side by side, one with a capture; they are
given the same commands in turn, so that what else the machine does meets both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from labsim.perf.bench import Measured, below, bench

ROUNDS = 21


def _per_second(text: str) -> Callable[[Any], float]:
    def read(result: Any) -> float:
        found = re.search(text, result.stdout + result.stderr)
        assert found, result
        return float(found.group(1))

    return read


_creates = _per_second(r"([\d.]+) ops/second")
_seconds = _per_second(r"copied, ([\d.e-]+) s")
WORK: dict[str, tuple[str, Callable[[Any], float]]] = {
    "creates": ("createmany -o f{n}.%d 200", _creates),
    "writes": ("dd if=/dev/zero of=w bs=1M count=32", lambda result: 1 / _seconds(result)),
    "reads": ("dd if=g of=/dev/null bs=1M", lambda result: 1 / _seconds(result)),
}
"""A command each, and the speed that its output tells."""


@bench("%", below(15))
def live_pcap_cost() -> Measured:
    """Live: how much slower a cluster is with a capture; the worst of creates, writes and reads."""
    from labsim.scenario.cluster import Cluster

    with TemporaryDirectory(prefix="labsim-bench-") as directory:
        file = str(Path(directory) / "bench.pcap")
        plain = Cluster(clients=1, oss=1, osts=1, runtime="live")
        captured = Cluster(clients=1, oss=1, osts=1, runtime="live", pcap=file)
        with plain, captured:
            clients = plain.client(0), captured.client(0)
            for client in clients:
                client.run("createmany -o warm 200")
                client.run("dd if=/dev/zero of=g bs=1M count=32")
            losses = {name: _loss(clients, *work) for name, work in WORK.items()}
    return Measured(max(losses.values()), losses)


def _loss(clients: tuple[Any, Any], command: str, speed: Callable[[Any], float]) -> float:
    """Per cent that the second client is slower, by the median of many pairs."""
    ratios = []
    for n in range(ROUNDS):
        order = clients if n % 2 else clients[::-1]
        seen = {client: speed(client.run(command.format(n=n))) for client in order}
        ratios.append(seen[clients[1]] / seen[clients[0]])
    return round(100 * (1 - median(ratios)), 1)

"""Benchmarks of whole clusters: simulated RPCs, live creates and bytes, memory of a client.

Drives clusters from outside, as a user would; every number is made in this run. A throughput is
the median of its rounds. Simulated rates are of this machine, not of the modelled cluster.
"""

from __future__ import annotations

import gc
import re
import tracemalloc
from collections.abc import Callable
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from labsim.base.payload import Fill
from labsim.base.units import MIB
from labsim.perf.bench import at_least, below, bench
from labsim.runtime.ports import Steps

ROUNDS = 5

DROP = "echo 3 > /proc/sys/vm/drop_caches"


def _count_rpcs(cluster: Any) -> int:
    return sum(event.kind == "rpc.reply" for event in cluster.trace.events)


def _simulated_rpcs(work: Callable[[Any], Steps[None]]) -> float:
    """RPCs that the servers of a small simulated cluster answer per second of this machine."""
    from labsim.scenario.cluster import Cluster

    rates = []
    with Cluster(clients=1, oss=1, osts=1) as cluster:
        vfs = cluster.client(0).machine.node.vfs
        cluster.run(_prepare(vfs))
        for _ in range(ROUNDS):
            before = _count_rpcs(cluster)
            started = perf_counter()
            cluster.run(work(vfs))
            elapsed = perf_counter() - started
            rates.append((_count_rpcs(cluster) - before) / elapsed)
    return median(rates)


def _prepare(vfs: Any) -> Steps[None]:
    file = yield from vfs.open("f", 0o102, 0o644)
    yield from vfs.close(file)


@bench("RPC/s", at_least(5000))
def sim_setxattr() -> float:
    """Simulated: one client sets an xattr over and over, through the whole stack."""

    def work(vfs: Any) -> Steps[None]:
        for number in range(1000):
            yield from vfs.setxattr("f", "user.a", b"%d" % number, 0)

    return _simulated_rpcs(work)


@bench("calls/s")
def sim_write_1m() -> float:
    """Simulated: one client writes 1 MiB at a time and has it all written back in the end."""
    return _simulated_calls(1000, MIB)


@bench("calls/s")
def sim_write_4k() -> float:
    """Simulated: one client writes 4 KiB at a time and has it all written back in the end."""
    return _simulated_calls(20_000, 4096)


def _simulated_calls(count: int, size: int) -> float:
    """Write calls per second of this machine, until all is on the OST of a small cluster."""
    from labsim.scenario.cluster import Cluster

    def work(vfs: Any) -> Steps[None]:
        file = yield from vfs.open("f", 1)
        for number in range(count):
            yield from vfs.write(file, Fill(size, 1), number % 64 * size)
        yield from vfs.fsync(file)
        yield from vfs.close(file)

    rates = []
    with Cluster(clients=1, oss=1, osts=1) as cluster:
        vfs = cluster.client(0).machine.node.vfs
        cluster.run(_prepare(vfs))
        for _ in range(ROUNDS):
            started = perf_counter()
            cluster.run(work(vfs))
            rates.append(count / (perf_counter() - started))
    return median(rates)


@bench("creates/s", at_least(800))
def live_creates() -> float:
    """Live: one client opens, creates and closes files (createmany -o)."""
    from labsim.scenario.cluster import Cluster

    with Cluster(clients=1, oss=1, osts=2, runtime="live") as cluster:
        client = cluster.client(0)
        client.run("createmany -o warm 200")
        return median(_rate(client.run(f"createmany -o r{n}f%d 1000")) for n in range(ROUNDS))


def _rate(result: Any) -> float:
    found = re.search(r"([\d.]+) ops/second", result.stdout)
    assert found, result
    return float(found.group(1))


@bench("MB/s")
def host_write_1m() -> float:
    """No labsim: what this machine takes in a new file, 1 MiB at a time; bounds live_write_1m."""
    block = bytes(MIB)
    rates = []
    with TemporaryDirectory(prefix="labsim-bench-") as directory:
        for number in range(ROUNDS):
            started = perf_counter()
            with open(f"{directory}/{number}", "wb", buffering=0) as file:
                for _ in range(256):
                    file.write(block)
            rates.append(256 * MIB / (perf_counter() - started) / 1e6)
    return median(rates)


@bench("MB/s", at_least(500))
def live_write_1m() -> float:
    """Live: one client writes new files, 1 MiB at a time (dd bs=1M count=256)."""
    return _live_dd("dd if=/dev/zero of=g{n} bs=1M count=256")


@bench("MB/s")
def live_rewrite_1m() -> float:
    """Live: one client writes over the same file, so that the host has its pages already."""
    write = "dd if=/dev/zero of=g0 bs=1M count=256 conv=notrunc"
    return _live_dd(write, write)


@bench("MB/s", at_least(900))
def live_read_1m() -> float:
    """Live: one client reads 1 MiB at a time what is not in its cache (dd bs=1M)."""
    write = "dd if=/dev/urandom of=g0 bs=1M count=256 conv=fsync"
    return _live_dd("dd if=g0 of=/dev/null bs=1M", write, DROP)


@bench("MB/s", at_least(900))
def live_read_cached_1m() -> float:
    """Live: one client reads 1 MiB at a time what is in its cache as real bytes (dd bs=1M)."""
    write = "dd if=/dev/urandom of=g0 bs=1M count=256 conv=fsync"
    return _live_dd("dd if=g0 of=/dev/null bs=1M", write, f"{DROP}; dd if=g0 of=/dev/null bs=1M")


@bench("calls/s", at_least(60_000))
def live_write_4k() -> float:
    """Live: one client writes new files, 4 KiB at a time (dd bs=4k count=32768)."""
    return _live_dd("dd if=/dev/urandom of=g{n} bs=4k count=32768") * 1e6 / 4096


@bench("calls/s", at_least(60_000))
def live_read_4k() -> float:
    """Live: one client reads 4 KiB at a time what is not in its cache (dd bs=4k)."""
    write = "dd if=/dev/urandom of=g0 bs=1M count=128 conv=fsync"
    return _live_dd("dd if=g0 of=/dev/null bs=4k", write, DROP) * 1e6 / 4096


def _live_dd(command: str, first: str = "", before: str = "") -> float:
    """Bandwidth of a dd; `first` is done once, `before` before each round."""
    from labsim.scenario.cluster import Cluster

    with Cluster(clients=1, oss=1, osts=1, runtime="live") as cluster:
        client = cluster.client(0)
        if first:
            client.run(first)
        client.run("dd if=/dev/zero of=warm bs=1M count=64")
        rates = []
        for number in range(ROUNDS):
            for line in filter(None, before.split("; ")):
                client.run(line)
            rates.append(_bandwidth(client.run(command.format(n=number))))
        return median(rates)


def _bandwidth(result: Any) -> float:
    found = re.search(r"(\d+) bytes .* copied, ([\d.e-]+) s", result.stderr)
    assert found, result
    return int(found.group(1)) / float(found.group(2)) / 1e6


@bench("KB", below(60))
def sim_client_memory() -> float:
    """Memory of one more mounted client in a simulated cluster of 1 MDS, 2 OSS and 4 OSTs."""
    from labsim.scenario.cluster import Cluster

    sizes = []
    with Cluster(clients=1, oss=2, osts=4):
        pass  # what is made once for all is not a client's
    for clients in (10, 110):
        gc.collect()
        tracemalloc.start()
        with Cluster(clients=clients, oss=2, osts=4, trace_keep=0) as cluster:
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
            assert cluster.nodes
        tracemalloc.stop()
    return (sizes[1] - sizes[0]) / 100 / 1000

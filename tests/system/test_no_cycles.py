"""What a call leaves behind is freed at once: no cycles, which the collector would have to find."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from labsim.base.payload import Fill
from labsim.base.units import MIB
from labsim.scenario.cluster import Cluster


def create(vfs: Any) -> Any:
    for number in range(20):
        file = yield from vfs.open(f"n{number}", 0o102, 0o644)
        yield from vfs.close(file)


def set_xattrs(vfs: Any) -> Any:
    for number in range(20):
        yield from vfs.setxattr("f", "user.a", b"%d" % number, 0)


def write(vfs: Any) -> Any:
    file = yield from vfs.open("f", 1)
    for number in range(20):
        yield from vfs.write(file, Fill(MIB, 1), number * MIB)
        yield from vfs.write(file, b"x" * 4096, number * 4096)
    yield from vfs.fsync(file)
    yield from vfs.close(file)


def read(vfs: Any) -> Any:
    file = yield from vfs.open("f", 0)
    for number in range(20):
        yield from vfs.read(file, MIB, number * MIB)
    yield from vfs.close(file)


def remove(vfs: Any) -> Any:
    for number in range(20):
        yield from vfs.stat(f"n{number}")
        yield from vfs.unlink(f"n{number}")


@pytest.fixture
def collector_off() -> Any:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_calls_leave_no_cycles(collector_off: Any) -> None:
    with Cluster(clients=2, oss=1, osts=1) as cluster:
        ours, theirs = (cluster.node(name).machine.node.process() for name in ("c0", "c1"))

        def make(vfs: Any) -> Any:
            file = yield from vfs.open("f", 0o102, 0o644)
            yield from vfs.close(file)

        cluster.run(make(ours))
        steps = (create, ours), (set_xattrs, ours), (write, ours), (read, theirs), (remove, theirs)
        for calls, vfs in steps:
            gc.disable()
            cluster.run(calls(vfs))
            cluster.run(cluster.env.timeout(10_000_000_000))
            gc.disable()
            assert gc.collect() < 20, calls.__name__

"""Read-ahead on a cluster: few requests for who reads on, none too many for who jumps."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from labsim.base.payload import Fill, tobytes
from labsim.base.units import MIB
from tests.nodes.client.world import World

SIZE = 32 * MIB


@pytest.fixture(params=[1, 2])
def world(request: pytest.FixtureRequest) -> Any:
    """c1 wrote a file on so many OSTs; nobody has locks on it."""
    made = World(osts=request.param)
    made.cluster.client(1).run(f"lfs setstripe -c {request.param} f")

    def fill() -> Any:
        vfs = made.vfs[1]
        file = yield from vfs.open("f", 0o101, 0o644)
        for at in range(0, SIZE, 4 * MIB):
            yield from vfs.write(file, Fill(4 * MIB, 3, at))
        yield from vfs.fsync(file)
        yield from vfs.close(file)

    made.run(fill())
    made.cluster.client(1).run("lctl set_param ldlm.namespaces.*.lru_size=clear")
    made.settle()
    yield made
    made.close()


def reads(world: World, places: Any, length: int) -> dict[str, int]:
    """What is sent for these reads, which all see the right bytes."""

    def steps() -> Any:
        vfs = world.vfs[0]
        file = yield from vfs.open("f")
        for at in places:
            data = yield from vfs.read(file, length, at)
            size = min(length, SIZE - at)
            assert len(data) == size
            assert tobytes(data)[:64] == tobytes(Fill(min(64, size), 3, at))
            assert tobytes(data)[-64:] == tobytes(Fill(min(64, size), 3, at + max(size - 64, 0)))
        yield from vfs.close(file)

    return world.rpcs(steps())


def stat(world: World, name: str) -> int:
    return world.nodes[0].llite.read_ahead_stats.count(name)


@pytest.mark.parametrize("length", [4096, 10000, MIB])
def test_sequential_reads_need_few_requests(world: World, length: int) -> None:
    osts = len(world.nodes[0].oscs)
    sent = reads(world, range(0, SIZE, length), length)
    assert sent["OST_READ"] <= (10 if osts == 1 else 40)
    assert stat(world, "misses") <= 4 * osts
    assert stat(world, "hits") >= SIZE // 4096 - 4 * osts
    assert world.nodes[0].data.readahead.current == 0


def test_random_reads_fetch_what_they_need(world: World) -> None:
    rng = Random(3)
    reads(world, [rng.randrange(SIZE // 4096) * 4096 for _ in range(100)], 4096)
    cached = sum(
        obj.bytes.total for osc in world.nodes[0].oscs.values() for obj in osc.objects.values()
    )
    assert cached <= 100 * 4096
    assert stat(world, "readpage not consecutive") > 90


def test_switched_off_each_read_asks(world: World) -> None:
    world.nodes[0].host.params.set("llite.*.max_read_ahead_mb", "0")
    sent = reads(world, range(0, 64 * 4096, 4096), 4096)
    assert sent["OST_READ"] == 64
    assert world.nodes[0].llite.read_ahead_stats.items() == []


def test_what_was_read_ahead_goes_with_its_lock(world: World) -> None:
    """c1 overwrites what c0 has ahead of its reader: c0 reads the new bytes."""

    def steps() -> Any:
        vfs = world.vfs[0]
        file = yield from vfs.open("f")
        for at in range(0, 8 * 4096, 4096):
            yield from vfs.read(file, 4096, at)
        yield world.env.timeout(100_000_000)
        other = yield from world.vfs[1].open("f", 1)
        yield from world.vfs[1].write(other, b"new" * 1000, 9 * 4096)
        yield from world.vfs[1].close(other)
        data = b""
        for at in range(8 * 4096, 12 * 4096, 4096):
            data += tobytes((yield from vfs.read(file, 4096, at)))
        assert data[4096:7096] == b"new" * 1000
        assert data[:4096] == tobytes(Fill(4096, 3, 8 * 4096))
        assert data[7096:] == tobytes(Fill(len(data) - 7096, 3, 8 * 4096 + 7096))
        yield from vfs.close(file)

    world.run(steps())
    assert world.nodes[0].data.readahead.current == 0


def test_a_stride_is_read_ahead(world: World) -> None:
    places = range(0, SIZE, 200 * 4096)
    sent = reads(world, places, 4 * 4096)
    assert stat(world, "hits") > 2 * len(places)
    cached = sum(
        obj.bytes.total for osc in world.nodes[0].oscs.values() for obj in osc.objects.values()
    )
    assert cached <= 6 * 4096 * (len(places) + 1)
    assert sent["OST_READ"] <= len(places) * 2

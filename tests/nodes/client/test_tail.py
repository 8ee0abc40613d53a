"""Small writes that follow one another: what was taken stays as it is, whoever looks at it."""

from __future__ import annotations

from random import Random
from typing import Any

from labsim.base.payload import Fill, pattern, piece, tobytes
from labsim.base.units import MIB
from labsim.nodes.client.tail import Tail
from tests.nodes.client.world import World


def test_what_follows_lies_in_one_buffer() -> None:
    tail = Tail()
    buffers = []
    for number in range(300):
        offset = tail.put(number * 4096, bytes([number % 251]) * 4096)
        if not buffers or buffers[-1][1] is not tail.buffer:
            buffers.append((number, tail.buffer))
        first, buffer = buffers[-1]
        assert offset == (number - first) * 4096
        assert buffer[offset : offset + 4096] == bytes([number % 251]) * 4096
    assert [number for number, _ in buffers] == [0, 1, 256]


def test_a_write_on_its_own_is_not_copied() -> None:
    tail, data = Tail(), b"x" * 100
    for at in (0, 500, 200):
        assert tail.put(at, data) == 0
        assert tail.buffer is data


def test_nobody_can_change_what_was_taken() -> None:
    tail, mine = Tail(), bytearray(b"abcd")
    tail.put(0, mine)
    mine[:] = b"wxyz"
    assert tail.buffer == b"abcd"
    tail.put(4, b"efgh")
    seen = piece(tail.buffer, 0, 4)
    assert tail.put(8, b"ijkl") == 0
    assert tobytes(seen) == b"efgh"
    assert len(seen) == 4


def test_fills_that_fit_together_are_of_one_pattern() -> None:
    rng = Random(3)
    whole = Fill(100_000, 5, 17)
    parts = [(at, whole[at : at + 700]) for at in range(0, 100_000, 700)]
    rng.shuffle(parts)
    assert len({id(pattern(part, 300 + at)) for at, part in parts}) == 1
    for at, part in parts[:20]:
        assert piece(pattern(part, 300 + at), 300 + at, 300 + at + len(part)) == part
    assert pattern(Fill(10, 5, 18), 300) is not pattern(whole, 300)
    assert pattern(Fill(10), 1) is pattern(Fill(4096), 5000)


def test_small_writes_and_reads_in_any_order(world: World) -> None:
    rng, model = Random(11), bytearray()
    world.make("f")

    def content(vfs: Any) -> Any:
        file = yield from vfs.open("f")
        data = yield from vfs.read(file, len(model))
        yield from vfs.close(file)
        return tobytes(data)

    def steps(vfs: Any) -> Any:
        file = yield from vfs.open("f", 2)
        held, at = [], 0
        for number in range(1200):
            at = at if rng.random() < 0.9 else rng.randrange(len(model) + 5000)
            size = rng.choice((10, 100, 4096, 5000, 70_000))
            data = Fill(size, 2, number) if rng.random() < 0.2 else bytearray(rng.randbytes(size))
            yield from vfs.write(file, data, at)
            model.extend(bytes(max(at + size - len(model), 0)))
            model[at : at + size] = tobytes(data)
            if isinstance(data, bytearray):
                data[:] = b"!" * size
            at += size
            if rng.random() < 0.3:
                start = rng.choice((at - size, rng.randrange(at)))
                got = yield from vfs.read(file, at - start, start)
                held = [*held[-3:], (got, bytes(model[start:at]))]
            if rng.random() < 0.01:
                yield from vfs.fsync(file)
            assert all(tobytes(got) == wanted for got, wanted in held[-1:])
        assert all(tobytes(got) == wanted for got, wanted in held)
        yield from vfs.close(file)

    world.run(steps(world.vfs[0]))
    assert len(model) > MIB
    assert world.run(content(world.vfs[0])) == model
    assert world.run(content(world.vfs[1])) == model

"""The page cache of several clients against an array of bytes, with lock callbacks in between."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from labsim.base.payload import Fill, tobytes
from labsim.base.units import KIB, MIB, NS_PER_S, PAGE_SIZE

from .test_data_path import World

END = 300 * KIB


class Model:
    """One file on several clients, and what it must hold."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(seed)
        self.world = World(3, rng.choice((1, 2, 3)), rng.choice((64 * KIB, MIB)))
        self.data = bytearray()
        for number in range(3):
            params = self.world.client(number).host.params
            params.set("osc.*.max_pages_per_rpc", str(rng.choice((4, 16, 1024))))
            params.set("osc.*.max_dirty_mb", str(rng.choice((1, 32))))
            self.world.client(number).data.lru.set_limit(rng.choice((64 * KIB, MIB, 4096 * MIB)))

    # ---- what one client does

    def offset(self) -> int:
        return self.rng.choice(
            (0, PAGE_SIZE, 64 * KIB - 3, self.rng.randrange(END), self.rng.randrange(END))
        )

    def payload(self) -> Any:
        size = self.rng.choice((1, 100, PAGE_SIZE, 3 * PAGE_SIZE, self.rng.randrange(1, 100_000)))
        if self.rng.random() < 0.3:
            return Fill(size, self.rng.randrange(1, 4))
        return self.rng.randbytes(size)

    def write(self, client: int, direct: bool = False) -> None:
        offset, payload = self.offset(), self.payload()
        if direct:
            offset -= offset % PAGE_SIZE
            payload = self.rng.randbytes(self.rng.randrange(1, 20) * PAGE_SIZE)
        self.run(client, "write", offset, payload, direct)
        self.put(offset, tobytes(payload))

    def put(self, offset: int, data: bytes) -> None:
        self.data += bytes(max(offset - len(self.data), 0))
        self.data[offset : offset + len(data)] = data

    def append(self, client: int) -> None:
        payload = self.payload()
        self.run(client, "write", None, payload)
        self.data += tobytes(payload)

    def truncate(self, client: int) -> None:
        size = self.offset()
        self.run(client, "truncate", size)
        self.data = self.data[:size] + bytes(max(size - len(self.data), 0))

    def read(self, client: int, direct: bool = False) -> None:
        offset, length = self.offset(), self.rng.choice((1, 5000, END))
        if direct:
            offset, length = offset - offset % PAGE_SIZE, length * PAGE_SIZE
        got = tobytes(self.run(client, "read", offset, length, None, direct))
        assert got == bytes(self.data[offset : offset + length])

    def size(self, client: int) -> None:
        assert self.run(client, "glimpse").size == len(self.data)

    def step(self) -> None:
        client = self.rng.randrange(3)
        name = self.rng.choices(
            ("write", "read", "append", "truncate", "size", "flush", "drop", "cancel", "wait"),
            (30, 30, 6, 6, 10, 4, 4, 4, 3),
        )[0]
        if name in ("write", "read"):
            getattr(self, name)(client, self.rng.random() < 0.1)
        elif name in ("flush", "drop"):
            self.run(client, name)
        elif name == "cancel":
            for osc in self.world.client(client).oscs.values():
                self.world.run(osc.ldlm.clear())
        elif name == "wait":
            self.world.run(self.world.env.timeout(self.rng.choice((1, 40)) * NS_PER_S))
        else:
            getattr(self, name)(client)

    def run(self, client: int, call: str, *args: Any) -> Any:
        node = self.world.client(client)
        inode = self.world.inodes[client]
        cached = call == "write" and args[0] is not None and not any(args[2:])
        if cached and node.data.put(inode, args[0], args[1]):
            return None
        if call == "read" and not args[3]:
            found = node.data.get(inode, args[0], args[1], None)
            if found is not None:
                return found
        return self.world.run(getattr(node.data, call)(inode, *args))

    # ---- what must hold at any moment

    def check(self) -> None:
        for number in range(3):
            node = self.world.client(number)
            used = 0
            for osc in node.oscs.values():
                dirty = sum(obj.dirty.bytes for obj in osc.objects.values())
                assert osc.grant.dirty == dirty
                assert osc.grant.avail >= 0
                assert osc.grant.lost >= 0
                for obj in osc.objects.values():
                    used += obj.bytes.total
                    self.covered(obj.snapshot())
            assert node.data.lru.used == used

    def covered(self, told: dict[str, Any]) -> None:
        """Each cached range lies under locks, each dirty one is cached."""
        locks = sorted((start, end) for _, start, end in told["locks"])
        for low, high in told["cached"]:
            for start, end in locks:
                if start <= low < end:
                    low = end
            assert low >= high, told
        for low, high in told["dirty"]:
            assert any(start <= low and high <= end for start, end in told["cached"]), told


@pytest.mark.parametrize("seed", range(12))
def test_caches_agree_with_an_array_of_bytes(seed: int) -> None:
    model = Model(seed)
    for _ in range(120):
        model.step()
        model.check()
    for client in range(3):
        model.run(client, "flush")
        model.read(client)
    quiet(model.world)


def quiet(world: World) -> None:
    """When nothing is dirty any more, clients and OSTs agree on who was granted what."""
    for node in ("oss0", "oss1"):
        for ofd in world.node(node).targets:
            for export in ofd.exports:
                for client in range(len(world.inodes)):
                    for osc in world.client(client).oscs.values():
                        if osc.info.name == ofd.name and osc.imp.client_uuid == export.client_uuid:
                            assert osc.grant.dirty == 0
                            account = ofd.grants.account(export.cookie)
                            assert osc.grant.held == account.granted


class Owner:
    """A process that reads and writes only bytes of its own, in pages that it shares with all."""

    SLOT = 1000

    def __init__(self, model: Model, client: int, number: int, count: int, seed: int) -> None:
        self.rng = Random(seed * 100 + number)
        self.node = model.world.client(client)
        self.inode = model.world.inodes[client]
        self.env = model.world.env
        self.number = number
        self.count = count
        self.mine: dict[int, bytes] = {}

    def work(self) -> Any:
        for _ in range(40):
            slot = self.rng.randrange(60) * self.count + self.number
            if self.rng.random() < 0.6:
                yield from self.write(slot)
            elif slot in self.mine:
                yield from self.read(slot)
            if self.rng.random() < 0.2:
                yield self.env.timeout(self.rng.randrange(2_000_000))
            if self.rng.random() < 0.03:
                yield from self.node.data.flush(self.inode)
            if self.rng.random() < 0.03:
                yield from self.node.data.drop(self.inode)

    def write(self, slot: int) -> Any:
        data = self.rng.randbytes(self.SLOT)
        if not self.node.data.put(self.inode, slot * self.SLOT, data):
            yield from self.node.data.write(self.inode, slot * self.SLOT, data)
        self.mine[slot] = data

    def read(self, slot: int) -> Any:
        got = self.node.data.get(self.inode, slot * self.SLOT, self.SLOT, None)
        if got is None:
            got = yield from self.node.data.read(self.inode, slot * self.SLOT, self.SLOT)
        assert tobytes(got) == self.mine[slot]


@pytest.mark.parametrize("seed", range(6))
def test_processes_that_share_pages_keep_what_is_theirs(seed: int) -> None:
    model = Model(seed)
    owners = [Owner(model, number % 3, number, 6, seed) for number in range(6)]
    world = model.world
    world.run(world.env.all_of([world.env.process(owner.work()) for owner in owners]))
    model.check()
    for client in range(3):
        world.flush(client)
    for owner in owners:
        for slot, data in owner.mine.items():
            assert world.read(2, slot * Owner.SLOT, Owner.SLOT) == data
    quiet(world)

"""When dirty pages go to the OSTs, what waits for that, and who hears of what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.faults import FAIL_ONCE, Armed
from labsim.base.payload import Fill, tobytes
from labsim.base.units import KIB, MIB, NS_PER_MS, NS_PER_S, PAGE_SIZE
from labsim.ldlm.policy import Extent
from labsim.scenario.cluster import Cluster
from labsim.wire.constants import OBD_OBJECT_EOF
from labsim.wire.opcodes import OST_WRITE

O_RDWR, O_CREAT, O_TRUNC, O_APPEND = 0o2, 0o100, 0o1000, 0o2000
O_DSYNC, O_SYNC, O_DIRECT = 0o10000, 0o4010000, 0o40000


class World:
    """Two clients, one OST."""

    def __init__(self, **options: Any) -> None:
        self.cluster = Cluster(clients=2, oss=1, osts=1, trace_keep=0, **options)
        self.cluster.__enter__()
        self.env = self.cluster.env
        self.nodes = [self.cluster.client(number).machine.node for number in range(2)]
        self.oss = self.cluster.node("oss0").machine.node
        self.ofd = self.oss.targets[0]
        self.osc = self.nodes[0].oscs[0]
        self.brws: list[list[tuple[int, int]]] = []
        self.nodes[0].host.lnet.taps.append(self._tap)
        self.file = self.open("f", O_RDWR | O_CREAT)

    def _tap(self, packet: Any) -> None:
        message = packet.payload
        if getattr(message, "opcode", 0) == OST_WRITE and message.request:
            self.brws.append([(one.offset, one.len) for one in message["niobuf_remote"]])

    def run(self, steps: Any) -> Any:
        return self.cluster.run(steps)

    def wait(self, seconds: float) -> None:
        self.run(self.env.timeout(int(seconds * NS_PER_S)))

    def open(self, path: str, flags: int = O_RDWR, client: int = 0) -> Any:
        return self.run(self.nodes[client].vfs.open(path, flags, 0o644))

    def write(self, data: Any, offset: int | None = None, file: Any = None) -> int:
        return self.run(self.nodes[0].vfs.write(file or self.file, data, offset))

    def call(self, name: str, *args: Any, client: int = 0) -> Any:
        return self.run(getattr(self.nodes[client].vfs, name)(*args))

    def read(self, offset: int, length: int, client: int = 0) -> bytes:
        file = self.file if client == 0 else self.open("f", client=client)
        data = tobytes(self.run(self.nodes[client].vfs.read(file, length, offset)))
        if client:
            self.call("close", file, client=client)
        return data

    def on_ost(self) -> bytes:
        """The file's bytes as the OST has them."""
        ((name, _),) = [(oid, one) for oid, one in self.osc.objects.items()]
        oi = self.osc.objects[name].oi
        from labsim.nodes.oss.objects import object_fid

        return tobytes(self.run(self.ofd.osd.read(object_fid(oi, 0), 0, 64 * MIB)))

    def fails(self, name: str, *args: Any) -> str:
        with pytest.raises(LustreError) as failed:
            self.call(name, *args)
        return failed.value.name

    def set(self, param: str, value: str) -> None:
        self.nodes[0].host.params.set(param, value)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.cluster.__exit__(None, None, None)


# ---- when


def test_a_write_returns_before_the_ost_has_it_and_so_does_close(world: World) -> None:
    world.write(b"hello", 0)
    assert world.osc.grant.dirty == PAGE_SIZE
    world.call("close", world.file)
    world.wait(20)
    assert world.brws == []
    assert world.on_ost() == b""
    world.wait(20)
    assert world.brws == [[(0, 5)]]
    assert world.on_ost() == b"hello"
    assert world.osc.grant.dirty == 0


def test_a_full_brw_goes_out_at_once(world: World) -> None:
    for number in range(1024):
        world.write(bytes([number % 256]) * PAGE_SIZE)
    world.write(b"rest")
    world.wait(1)
    assert world.brws == [[(0, 4 * MIB)]]
    world.call("fsync", world.file)
    assert world.brws == [[(0, 4 * MIB)], [(4 * MIB, 4)]]


def test_scattered_pages_share_a_brw(world: World) -> None:
    for number in (5, 1, 3, 9):
        world.write(b"x" * 100, number * 10_000)
    world.call("fsync", world.file)
    assert world.brws == [[(10_000, 100), (30_000, 100), (50_000, 100), (90_000, 100)]]


def test_what_touches_becomes_one_range(world: World) -> None:
    for start in (8192, 0, 4096, 100):
        world.write(b"y" * 4096, start)
    assert world.osc.grant.dirty == 3 * PAGE_SIZE
    world.call("fsync", world.file)
    assert world.brws == [[(0, 12288)]]


def test_an_rpc_carries_max_pages_per_rpc_from_a_multiple_of_it(world: World) -> None:
    world.set("osc.*.max_pages_per_rpc", "16")
    world.write(Fill(200 * KIB, 1), 60 * KIB)
    world.call("fsync", world.file)
    assert sorted(world.brws) == [
        [(60 * KIB, 4 * KIB), (256 * KIB, 4 * KIB)], [(64 * KIB, 64 * KIB)],
        [(128 * KIB, 64 * KIB)], [(192 * KIB, 64 * KIB)],
    ]  # fmt: skip


def test_at_most_max_rpcs_in_flight(world: World) -> None:
    world.set("osc.*.max_pages_per_rpc", "16")
    world.set("osc.*.max_rpcs_in_flight", "3")
    world.write(Fill(MIB, 1), 0)
    world.call("fsync", world.file)
    assert len(world.brws) == 16
    table = world.osc.show_rpc_stats().split("rpcs in flight")[-1].split("offset")[0]
    assert "3:" in table
    assert "4:" not in table


def test_who_has_dirtied_max_dirty_mb_waits(world: World) -> None:
    world.set("osc.*.max_dirty_mb", "1")
    most = 0

    def watch() -> Any:
        nonlocal most
        while True:
            most = max(most, world.osc.grant.dirty)
            yield world.env.timeout(NS_PER_MS // 10)

    world.env.process(watch())
    world.write(Fill(20 * MIB, 1), 0)
    assert 0 < most <= MIB
    assert world.read(0, 20 * MIB) == tobytes(Fill(20 * MIB, 1))


# ---- locks that are called back


def test_another_reader_has_it_written(world: World) -> None:
    world.write(b"news", 10)
    assert world.read(0, 100, client=1) == bytes(10) + b"news"
    assert world.brws == [[(10, 4)]]
    world.write(b"more", 14)
    assert world.read(0, 100, client=1) == bytes(10) + b"newsmore"


def test_a_glimpse_leaves_it_dirty(world: World) -> None:
    world.write(b"news", 10)
    assert world.call("stat", "f", client=1).size == 14
    assert world.brws == []
    assert world.osc.grant.dirty == PAGE_SIZE


def test_part_of_an_object_under_a_lock_says_nothing_of_its_size(world: World) -> None:
    world.write(b"start", 0)
    (obj,) = world.osc.objects.values()
    assert obj.size_is_known()
    (lock,) = obj.locks()
    lock.policy = Extent(0, MIB - 1)
    assert not obj.size_is_known()
    lock.policy = Extent(PAGE_SIZE, OBD_OBJECT_EOF)
    assert not obj.size_is_known()
    lock.policy = Extent(0, OBD_OBJECT_EOF)


def test_who_takes_long_to_write_back_is_not_evicted_as_long_as_it_writes(world: World) -> None:
    world.set("osc.*.max_pages_per_rpc", "16")
    world.set("osc.*.max_rpcs_in_flight", "1")
    for number in range(10):
        world.write(bytes([number]) * 100, number * 64 * KIB)
        world.write(bytes([number]) * 65000, number * 64 * KIB)
    world.oss.host.faults.arm(Armed(0x214, reaction="delay", value=30 * NS_PER_S))
    started = world.env.now
    expected = b"".join(bytes([number]) * 65000 + bytes(536) for number in range(10))[:-536]
    assert world.read(0, MIB, client=1) == expected
    assert world.env.now - started > 250 * NS_PER_S
    world.oss.host.faults.disarm(0x214)
    world.call("fsync", world.file)


def test_what_is_unlinked_is_not_written(world: World) -> None:
    world.write(Fill(MIB, 3), 0)
    world.call("close", world.file)
    world.call("unlink", "f")
    world.wait(60)
    assert world.brws == []
    assert world.osc.grant.dirty == 0
    assert not world.osc.objects


def test_a_page_written_again_on_its_way_ends_up_new(world: World) -> None:
    world.write(b"a" * 4 * MIB, 0)
    world.write(b"b" * 100, 50)
    world.write(b"c" * 10, 55)
    world.call("fsync", world.file)
    assert [len(one) for one in world.brws] == [1, 1]
    expected = bytearray(b"a" * 4 * MIB)
    expected[50:150] = b"b" * 100
    expected[55:65] = b"c" * 10
    assert world.on_ost() == expected


# ---- truncate


def test_what_is_cut_off_is_not_written(world: World) -> None:
    world.write(Fill(MIB, 3), 0)
    world.call("ftruncate", world.file, 5000)
    assert world.osc.grant.dirty == 2 * PAGE_SIZE
    assert world.osc.grant.lost == MIB - 2 * PAGE_SIZE
    world.call("fsync", world.file)
    assert world.brws == [[(0, 5000)]]
    assert world.on_ost() == tobytes(Fill(5000, 3))
    assert world.osc.grant.lost == 0
    account = {
        export.client_uuid: world.ofd.grants.account(export.cookie) for export in world.ofd.exports
    }[world.osc.imp.client_uuid]
    assert world.osc.grant.held == account.granted


def test_a_truncate_waits_for_what_is_on_its_way(world: World) -> None:
    world.oss.host.faults.set_fail_val(1)
    world.oss.host.faults.set_fail_loc(0x214 | FAIL_ONCE)
    world.write(b"a" * 4 * MIB, 0)
    world.call("ftruncate", world.file, 10)
    assert world.brws == [[(0, 4 * MIB)]]
    assert world.on_ost() == b"a" * 10
    world.write(b"b" * 4 * MIB, 4 * MIB)
    world.call("truncate", "f", 5 * MIB, client=1)
    assert world.read(5 * MIB - 2, 10) == b"bb"
    assert len(world.on_ost()) == 5 * MIB


def test_grown_over_dirty_pages_there_are_zeros(world: World) -> None:
    world.write(b"abc", 0)
    world.call("ftruncate", world.file, 2)
    world.call("ftruncate", world.file, 6)
    assert world.read(0, 10) == b"ab\0\0\0\0"
    assert world.read(0, 10, client=1) == b"ab\0\0\0\0"


def test_open_with_trunc_throws_dirty_pages_away(world: World) -> None:
    world.write(Fill(MIB, 3), 0)
    world.open("f", O_RDWR | O_TRUNC)
    assert world.osc.grant.dirty == 0
    world.wait(60)
    assert world.brws == []


# ---- O_SYNC, O_DIRECT, O_APPEND


@pytest.mark.parametrize("flag", [O_SYNC, O_DSYNC])
def test_a_sync_write_is_on_disk_when_it_returns(world: World, flag: int) -> None:
    file = world.open("f", O_RDWR | flag)
    world.write(b"now", 0, file)
    assert len(world.brws) == 1
    world.cluster.node("oss0").kill()
    world.wait(1)
    assert world.osc.grant.dirty == 0


def test_direct_io_takes_whole_pages_only(world: World) -> None:
    file = world.open("f", O_RDWR | O_DIRECT)
    assert world.write(b"x" * PAGE_SIZE, PAGE_SIZE, file) == PAGE_SIZE
    assert world.fails("write", file, b"x" * 100, 0) == "EINVAL"
    assert world.fails("write", file, b"x" * PAGE_SIZE, 100) == "EINVAL"
    assert world.fails("read", file, 100, 0) == "EINVAL"
    assert not world.osc.objects[next(iter(world.osc.objects))].bytes.total


def test_direct_and_cached_io_agree(world: World) -> None:
    direct = world.open("f", O_RDWR | O_DIRECT)
    world.write(b"a" * 3 * PAGE_SIZE, 0)
    world.write(b"b" * PAGE_SIZE, PAGE_SIZE, direct)
    expected = b"a" * PAGE_SIZE + b"b" * PAGE_SIZE + b"a" * PAGE_SIZE
    assert world.read(0, 1 << 20) == expected
    world.write(b"c" * 10, 0)
    got = world.run(world.nodes[0].vfs.read(direct, PAGE_SIZE, 0))
    assert tobytes(got) == b"c" * 10 + b"a" * (PAGE_SIZE - 10)


def test_appends_are_cached_until_somebody_else_appends(world: World) -> None:
    mine = world.open("f", O_RDWR | O_APPEND)
    other = world.open("f", O_RDWR | O_APPEND, client=1)
    for _ in range(3):
        world.write(b"mine", file=mine)
    assert world.brws == []
    world.run(world.nodes[1].vfs.write(other, b"other"))
    assert len(world.brws) == 1
    world.write(b"again", file=mine)
    assert mine.pos == 22
    assert world.read(0, 100, client=1) == b"mineminemineotheragain"


# ---- what goes wrong


def lose_writes(world: World) -> None:
    """Every write is answered with EIO."""
    world.set("osc.*.resend_count", "1")
    world.oss.host.faults.set_fail_loc(0x20E)


def test_fsync_tells_of_a_write_that_failed_and_tells_once(world: World) -> None:
    world.call("fsync", world.file)
    lose_writes(world)
    world.write(b"lost", 0)
    assert world.fails("fsync", world.file) == "EIO"
    assert world.read(0, 10) == bytes(4), "the size stays as long as the lock does"
    world.oss.host.faults.set_fail_loc(0)
    world.call("fsync", world.file)
    world.call("close", world.file)


def test_close_tells_of_it_where_nobody_has(world: World) -> None:
    lose_writes(world)
    world.write(b"lost", 0)
    world.wait(60)
    assert world.fails("close", world.file) == "EIO"


def test_after_an_error_writes_wait_for_the_ost_until_one_goes_well(world: World) -> None:
    lose_writes(world)
    world.write(b"lost", 0)
    world.wait(60)
    assert world.fails("write", world.file, b"next", 0) == "EIO"
    world.call("close", world.file)
    world.oss.host.faults.set_fail_loc(0)
    file = world.open("f")
    before = len(world.brws)
    world.write(b"good", 0, file)
    assert len(world.brws) == before + 1
    world.write(b"cached", 0, file)
    assert len(world.brws) == before + 1
    assert tobytes(world.run(world.nodes[0].vfs.read(file, 10, 0))) == b"cached"


def test_who_is_evicted_loses_what_was_dirty_and_hears_of_it(world: World) -> None:
    world.write(b"lost", 0)
    world.write(b"kept", 4096)
    uuid = world.osc.imp.client_uuid
    (export,) = [one for one in world.ofd.exports if one.client_uuid == uuid]
    export.evict("a test")
    world.wait(120)
    assert world.fails("fsync", world.file) == "EIO"
    assert world.osc.grant.dirty == 0
    assert world.read(0, 10) == b""
    world.write(b"new", 0)
    world.call("fsync", world.file)
    assert world.on_ost() == b"new"


def test_a_quota_is_told_as_it_is_to_who_waits_and_as_eio_to_fsync(world: World) -> None:
    world.call("fsync", world.file)
    world.oss.host.faults.arm(Armed(0x215, reaction="fail", value=122))
    world.write(b"lost", 0)
    assert world.fails("fsync", world.file) == "EIO"
    assert world.fails("write", world.file, b"next", 0) == "EDQUOT"
    world.oss.host.faults.disarm(0x215)
    assert world.write(b"good", 0) == 4
    world.call("fsync", world.file)


def test_who_writes_on_keeps_the_lock_in_use(world: World) -> None:
    world.write(b"text")
    (lock,) = next(iter(world.osc.objects.values())).locks()
    world.wait(5)
    assert world.env.now - lock.last_used_ns >= 5 * NS_PER_S
    world.write(b"more")
    assert lock.last_used_ns == world.env.now
    assert lock.refs == 0


def test_without_fast_read_a_read_looks_for_its_lock(world: World) -> None:
    world.write(b"text", 0)
    (lock,) = next(iter(world.osc.objects.values())).locks()
    before = lock.last_used_ns
    world.wait(5)
    assert world.read(0, 4) == b"text"
    assert lock.last_used_ns == before
    world.set("llite.*.fast_read", "0")
    assert world.read(0, 4) == b"text"
    assert lock.last_used_ns > before


def test_an_osc_that_is_switched_off_loses_what_was_dirty(world: World) -> None:
    world.write(b"kept", 0)
    world.call("fsync", world.file)
    world.write(b"lost", 0)
    world.set("osc.*.active", "0")
    assert world.osc.grant.dirty == 0
    assert world.fails("fsync", world.file) == "EIO"
    assert world.fails("fsync", world.file) == "ESHUTDOWN"
    world.set("osc.*.active", "1")
    world.wait(30)
    assert world.read(0, 10) == b"kept"
    world.write(b"good", 0)
    world.call("fsync", world.file)
    assert world.read(0, 10, client=1) == b"good"


def test_without_grant_a_write_goes_out_at_once(world: World) -> None:
    world.nodes[0].host.faults.set_fail_loc(0x411)
    world.write(b"sync", 0)
    assert world.brws == [[(0, 4)]]
    assert world.osc.grant.dirty == 0
    world.nodes[0].host.faults.set_fail_loc(0)
    world.write(b"more", 4)
    assert len(world.brws) == 1


def test_a_full_ost_is_told_to_the_writer_in_time() -> None:
    world = World(capacity=48 * MIB)
    written = 0
    with pytest.raises(LustreError) as failed:
        while True:
            written += world.write(Fill(MIB, 1, written), written)
    assert failed.value.name == "ENOSPC"
    assert written > 20 * MIB
    world.call("fsync", world.file)
    assert world.read(0, written) == tobytes(Fill(written, 1))
    world.call("close", world.file)
    world.cluster.__exit__(None, None, None)


# ---- what is cached


def test_no_more_is_cached_than_max_cached_mb(world: World) -> None:
    world.set("llite.*.max_cached_mb", "4")
    world.write(Fill(16 * MIB, 7), 0)
    world.call("fsync", world.file)
    assert world.read(0, 16 * MIB) == tobytes(Fill(16 * MIB, 7))
    world.read(0, 10)
    assert world.nodes[0].data.lru.used <= 4 * MIB
    shown = world.nodes[0].host.params.get("llite.*.max_cached_mb")
    assert "max_cached_mb: 4\n" in shown[0][1]
    for number in range(8):
        world.write(Fill(4 * MIB, number), number * 4 * MIB)
    assert world.nodes[0].data.lru.used <= 36 * MIB, "what is dirty, and what may be cached"
    world.call("fsync", world.file)
    world.set("llite.*.max_cached_mb", "0")
    assert world.nodes[0].data.lru.used == 0


def test_osc_cached_mb_shrinks_its_part(world: World) -> None:
    world.write(Fill(8 * MIB, 7), 0)
    world.call("fsync", world.file)
    assert world.osc.osc_cached_mb.startswith("used_mb: 8\nbusy_cnt: 0\n")
    world.set("osc.*.osc_cached_mb", "2")
    assert world.osc.osc_cached_mb.startswith("used_mb: 2\n")


def test_drop_caches_keeps_what_is_dirty(world: World) -> None:
    world.write(b"a" * PAGE_SIZE, 0)
    world.call("fsync", world.file)
    world.write(b"b" * 10, PAGE_SIZE)
    world.call("drop_caches", 3)
    (obj,) = world.osc.objects.values()
    assert obj.snapshot()["cached"] == [[PAGE_SIZE, PAGE_SIZE + 10]]
    assert world.read(PAGE_SIZE - 1, 3) == b"abb"


def test_many_writers_share_little_room(world: World) -> None:
    world.set("osc.*.max_dirty_mb", "1")
    files = [world.open(f"w{number}", O_RDWR | O_CREAT) for number in range(6)]

    def work(number: int) -> Any:
        for at in range(0, 3 * MIB, 300_000):
            yield from world.nodes[0].vfs.write(files[number], Fill(300_000, number + 1, at), at)

    works = [world.env.process(work(number)) for number in range(6)]
    world.run(world.env.all_of(works))
    assert world.osc.grant.dirty <= MIB
    for number, file in enumerate(files):
        got = tobytes(world.run(world.nodes[1].vfs.read(
            world.open(f"w{number}", client=1), 4 * MIB, 0)))  # fmt: skip
        assert got == tobytes(Fill(len(got), number + 1))
        assert len(got) >= 3 * MIB
        world.call("close", file)


def test_eviction_wakes_who_waits_for_room(world: World) -> None:
    world.set("osc.*.max_dirty_mb", "1")
    world.oss.host.faults.arm(Armed(0x214, reaction="hold"))
    failed: list[str] = []

    def work() -> Any:
        try:
            yield from world.nodes[0].vfs.write(world.file, Fill(8 * MIB, 1), 0)
        except LustreError as error:
            failed.append(error.name)

    done = world.env.process(work())
    world.wait(5)
    (export,) = [one for one in world.ofd.exports if one.client_uuid == world.osc.imp.client_uuid]
    export.evict("a test")
    world.oss.host.faults.disarm(0x214)
    world.run(done)
    world.wait(60)
    assert world.osc.grant.dirty == 0
    assert world.fails("fsync", world.file) == "EIO"
    world.write(b"after", 0)
    world.call("fsync", world.file)
    account = {
        export.client_uuid: world.ofd.grants.account(export.cookie) for export in world.ofd.exports
    }[world.osc.imp.client_uuid]
    assert world.osc.grant.held == account.granted

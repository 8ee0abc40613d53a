"""Bulk writes and reads of an OST: what may go wrong with them, and what its statistics say."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.faults import FAIL_ONCE, FAIL_SOME, Armed
from labsim.base.payload import Fill, tobytes
from labsim.base.units import KIB, MIB, NS_PER_MS, NS_PER_S
from labsim.net.ptlrpc import Request
from labsim.nodes.oss.brw_stats import BrwStats, contiguous
from labsim.wire.constants import (
    OBD_BRW_ASYNC,
    OBD_BRW_FROM_GRANT,
    OBD_BRW_SOFT_SYNC,
    OBD_MD_FLGROUP,
    OBD_MD_FLID,
)
from labsim.wire.opcodes import OST_WRITE
from labsim.wire.ost import NiobufRemote, ObdIoobj, Obdo, OstBody
from tests.nodes.client.world import World
from tests.nodes.oss.test_grant_flow import balanced, fsync, ost, write


@pytest.fixture
def world() -> Any:
    made = World(clients=1, osts=1)
    made.run(write(made, 0, "f", 0, b"before"))
    made.run(fsync(made, 0, "f"))
    yield made
    made.close()


def arm(world: World, number: int, bits: int = FAIL_ONCE, **how: Any) -> None:
    world.cluster.node("oss0").machine.host.faults.arm(Armed(number, bits, **how))


def oi(world: World) -> Any:
    """The object of f."""
    (obj,) = world.nodes[0].oscs[0].objects.values()
    return obj.oi


def brw(world: World, ranges: list[tuple[int, int, int]], data: Any) -> Any:
    """An OST_WRITE of (offset, length, flags), past the cache; its reply."""
    oa = Obdo(valid=OBD_MD_FLID | OBD_MD_FLGROUP, oi=oi(world))
    request = Request(
        OST_WRITE,
        ost_body=OstBody(oa=oa),
        obd_ioobj=[ObdIoobj(oid=oa.oi, max_brw=0, bufcnt=len(ranges))],
        niobuf_remote=[NiobufRemote(offset=at, len=n, flags=f) for at, n, f in ranges],
        bulk_out=data,
    )
    return world.run(world.nodes[0].oscs[0].imp.call(request))


@pytest.mark.parametrize("number", [0x20E, 0x216, 0x226, 0x230, 0x228])
def test_what_may_pass_is_tried_again(world: World, number: int) -> None:
    """EIO, EROFS, ENOMEM, EINPROGRESS of the OST, ENOSPC of its disk: no writer hears of them."""
    arm(world, number)
    world.run(write(world, 0, "f", 0, b"after!"))
    world.run(fsync(world, 0, "f"))
    assert world.read("f") == b"after!"
    world.settle()
    balanced(world)


def test_not_for_ever(world: World) -> None:
    """resend_count times: then fsync says so, once."""
    arm(world, 0x20E, 0)
    world.nodes[0].host.params.set("osc.*.resend_count", "3")
    world.run(write(world, 0, "f", 0, b"after!"))
    start = world.env.now
    with pytest.raises(LustreError, match="EIO"):
        world.run(fsync(world, 0, "f"))
    assert 6 * NS_PER_S <= world.env.now - start < 7 * NS_PER_S
    world.run(fsync(world, 0, "f"))
    balanced(world)


@pytest.mark.parametrize(("number", "name"), [(0x215, "ENOSPC"), (0x217, "EIO")])
def test_what_will_not_pass_is_told(world: World, number: int, name: str) -> None:
    arm(world, number)
    world.run(write(world, 0, "f", 0, b"after!"))
    with pytest.raises(LustreError, match=name):
        world.run(fsync(world, 0, "f"))
    world.settle()
    balanced(world)


def test_a_disk_without_blocks_is_asked_four_times(world: World) -> None:
    arm(world, 0x228, FAIL_SOME, val=4)
    world.run(write(world, 0, "f", 0, b"after!"))
    with pytest.raises(LustreError, match="ENOSPC"):
        world.run(fsync(world, 0, "f"))
    assert world.cluster.node("oss0").machine.host.faults._armed[0x228].hits == 4


def test_each_range_has_its_own_answer(world: World) -> None:
    """Without grant and room: ranges that are allocated already are written, others ENOSPC."""
    world.run(write(world, 0, "f", 0, Fill(64 * KIB, 1)))
    world.run(fsync(world, 0, "f"))
    ofd = ost(world)
    ofd.osd.trouble("full")
    reply = brw(world, [(0, 4096, 0), (4 * MIB, 4096, 0), (60 * KIB, 8192, 0)], Fill(16384, 7))
    assert list(reply["rcs"]) == [0, -28, -28]
    world.nodes[0].host.params.set("llite.*.max_read_ahead_mb", "0")
    data = tobytes(world.run(ofd.osd.read(ofd.fid(reply["ost_body"].oa), 0, 1 << 30)))
    assert data[:4096] == tobytes(Fill(4096, 7))
    assert data[4096:] == tobytes(Fill(64 * KIB, 1))[4096:]


def test_a_sick_disk_reaches_the_client(world: World) -> None:
    ofd = ost(world)
    ofd.osd.trouble("eio")
    world.nodes[0].host.params.set("osc.*.resend_count", "2")
    world.run(world.vfs[0].drop_caches(3))
    with pytest.raises(LustreError, match="EIO"):
        world.read("f")
    ofd.osd.trouble("ok")
    assert world.read("f") == b"before"
    ofd.osd.trouble("slow", 300 * NS_PER_MS)
    world.run(world.vfs[0].drop_caches(3))
    start = world.env.now
    assert world.read("f") == b"before"
    assert world.env.now - start > 300 * NS_PER_MS


def test_writes_without_async_are_on_disk_when_they_are_answered(world: World) -> None:
    """As Lustre has it: cached writes say ASYNC, all others are committed first."""
    ofd = ost(world)
    brw(world, [(0, 4096, OBD_BRW_FROM_GRANT | OBD_BRW_ASYNC)], Fill(4096, 1))
    assert ofd.last_committed < ofd.last_transno
    brw(world, [(0, 4096, OBD_BRW_FROM_GRANT)], Fill(4096, 1))
    assert ofd.last_committed == ofd.last_transno


def test_soft_syncs_begin_a_commit(world: World) -> None:
    ofd = ost(world)
    world.cluster.node("oss0").run("lctl set_param obdfilter.*.soft_sync_limit=3")
    flags = OBD_BRW_FROM_GRANT | OBD_BRW_ASYNC
    for soft in (1, 1, 0, 1, 1):
        brw(world, [(0, 4096, flags | OBD_BRW_SOFT_SYNC * soft)], Fill(4096, 1))
        world.run(world.env.timeout(NS_PER_MS))
        assert ofd.last_committed < ofd.last_transno
    brw(world, [(0, 4096, flags | OBD_BRW_SOFT_SYNC)], Fill(4096, 1))
    world.run(world.env.timeout(NS_PER_MS))
    assert ofd.last_committed == ofd.last_transno


def test_brw_stats(world: World) -> None:
    oss = world.cluster.node("oss0")
    oss.run("lctl set_param obdfilter.*.brw_stats=0")
    world.run(write(world, 0, "f", 0, Fill(4 * MIB, 1)))
    world.run(fsync(world, 0, "f"))
    world.run(world.vfs[0].drop_caches(3))
    world.nodes[0].host.params.set("llite.*.max_read_ahead_mb", "0")
    world.read("f")
    text = oss.run("lctl get_param -n obdfilter.*.brw_stats").stdout
    assert text.startswith("snapshot_time:         ")
    titles = [line.split("  ")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert titles == [
        "snapshot_time:", "pages per bulk r/w", "discontiguous pages", "discontiguous blocks",
        "disk fragmented I/Os", "disk I/Os in flight", "I/O time (1/1000s)", "disk I/O size",
    ]  # fmt: skip
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "256: 1 100 100 | 0 0 0" in rows
    assert "1K: 0 0 100 | 1 100 100" in rows
    assert "4: 0 0 100 | 1 100 100" in rows
    assert "1M: 1 100 100 | 4 100 100" in rows


def test_runs_of_pages() -> None:
    assert contiguous([(0, 4096), (4096, 100), (8192, 1), (100_000, 5)]) == [
        (0, 12288), (98304, 102400),
    ]  # fmt: skip
    stats = BrwStats()
    assert stats.begin(True, [(0, 4 * MIB), (64 * MIB, 4096)]) == 5
    assert stats.begin(True, [(0, 1)]) == 1
    stats.end(True, 5, 3 * NS_PER_MS)
    stats.end(True, 1, 0)
    assert "4:\t\t         0   0   0   |    5  83 100" in stats.text()
    stats.clear(5)
    assert stats.since_ns == 5


def test_job_stats_count_what_was_done(world: World) -> None:
    c0, oss = world.cluster.client(0), world.cluster.node("oss0")
    c0.run("lctl set_param jobid_var=nodelocal jobid_name=job.%h")
    world.run(write(world, 0, "g", 0, Fill(5 * MIB, 1)))
    world.run(fsync(world, 0, "g"))
    world.run(world.vfs[0].truncate("g", 10))
    c0.run("lctl set_param ldlm.namespaces.*.lru_size=clear")
    world.read("g")
    text = " ".join(oss.run("lctl get_param -n obdfilter.*.job_stats").stdout.split())
    assert "job_id: job.c0" in text
    assert "write_bytes: { samples: 2, unit: bytes, min: 1048576, max: 4194304, sum:" in text
    assert "punch: { samples: 1, unit: reqs }" in text
    assert "read_bytes: { samples: 1, unit: bytes, min: 10, max: 10, sum: 10 }" in text


def test_stats_count_what_was_done_for_anybody(world: World) -> None:
    oss = world.cluster.node("oss0")
    oss.run("lctl set_param obdfilter.*.stats=0")
    world.run(write(world, 0, "g", 0, Fill(MIB, 1)))
    world.run(fsync(world, 0, "g"))
    world.run(world.vfs[0].truncate("g", 10))
    world.run(world.vfs[0].statfs())
    lines = oss.run("lctl get_param -n obdfilter.*.stats").stdout.splitlines()[1:]
    assert [" ".join(line.split()) for line in lines] == [
        "write_bytes 1 samples [bytes] 1048576 1048576 1048576",
        "punch 1 samples [reqs]",
        "sync 1 samples [reqs]",
        "statfs 1 samples [reqs]",
    ]

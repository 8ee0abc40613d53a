"""What an OST has after its power was gone, with clients that replay to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.payload import tobytes
from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc import Request
from labsim.wire.constants import OBD_MD_FLDATAVERSION, OBD_MD_FLGROUP, OBD_MD_FLID
from labsim.wire.opcodes import OST_GETATTR
from labsim.wire.ost import Obdo, OstBody
from tests.nodes.client.world import World

O_RDWR, O_CREAT = 2, 0o100
NEVER_NS = 10**15


@pytest.fixture
def world() -> Iterator[World]:
    """Two clients that have been there for a while: their slots are on disk."""
    made = World(clients=2, osts=1)
    for node in made.nodes:
        node.host.params.set("osc.*.idle_timeout", "0")
    later(made, 10)
    yield made
    made.close()


def later(world: World, seconds: int) -> None:
    world.env.run(world.env.now + seconds * NS_PER_S)


def ost(world: World) -> Any:
    return world.cluster.node("oss0").machine.node.targets[0]


def mdt(world: World) -> Any:
    return world.cluster.node("mds0").machine.node.targets[0]


def power_cycle(world: World) -> None:
    world.run(world.cluster.node("oss0").kill())
    world.run(world.cluster.node("oss0").start())


def put(world: World, name: str, data: bytes, client: int = 0) -> None:
    def steps() -> Any:
        vfs = world.vfs[client]
        file = yield from vfs.open(name, O_RDWR | O_CREAT, 0o644)
        yield from vfs.write(file, data)
        yield from vfs.close(file)

    world.run(steps())


def get(world: World, name: str, client: int = 1) -> bytes:
    def steps() -> Any:
        vfs = world.vfs[client]
        file = yield from vfs.open(name, O_RDWR)
        data = yield from vfs.read(file, 1 << 20)
        yield from vfs.close(file)
        return tobytes(data)

    return bytes(world.run(steps()))


def test_objects_that_went_with_the_power_are_there_for_their_replays(world: World) -> None:
    target = ost(world)
    target.osd.journal.interval_ns = NEVER_NS
    committed, first = target.last_committed, target.last_id
    contents = {f"f{number}": f"this is {number}".encode() * 100 for number in range(3 * first)}
    for name, data in contents.items():
        put(world, name, data)
    later(world, 40)
    assert target.last_committed == committed < target.last_transno
    assert target.last_id > 2 * first
    power_cycle(world)
    assert ost(world).last_id == first
    later(world, 60)
    assert ost(world).recovery_status.startswith("status: COMPLETE")
    assert {name: get(world, name) for name in contents} == contents
    later(world, 60)
    assert mdt(world).osps[0].last_created == ost(world).last_id
    there = {fid.oid for fid in ost(world).osd.objects() if fid.seq >> 32 == 1 and fid.oid}
    assert len(there - set(mdt(world).osps[0].free)) == len(contents)


def test_cuts_and_dates_are_replayed_like_data(world: World) -> None:
    put(world, "f", b"0123456789" * 1000)
    later(world, 60)
    ost(world).osd.journal.interval_ns = NEVER_NS
    world.run(world.vfs[0].truncate("f", 12))
    put(world, "f", b"abc")
    later(world, 40)
    power_cycle(world)
    assert get(world, "f") == b"abc345678901"
    assert "replayed_requests: 0" not in ost(world).recovery_status


def test_what_another_client_has_seen_is_on_disk(world: World) -> None:
    """sync_lock_cancel=blocking: the lock of who wrote is given to who reads after a commit."""
    target = ost(world)
    target.osd.journal.interval_ns = NEVER_NS
    put(world, "f", b"seen")
    before = target.last_committed
    assert get(world, "f") == b"seen"
    assert before < target.last_committed == target.last_transno
    world.cluster.node("oss0").machine.host.params.set("obdfilter.*.sync_lock_cancel", "never")
    put(world, "g", b"seen")
    assert get(world, "g") == b"seen"
    assert target.last_committed < target.last_transno


def test_a_synchronous_journal(world: World) -> None:
    params = world.cluster.node("oss0").machine.host.params
    params.set("obdfilter.*.sync_journal", "1")
    target = ost(world)
    target.osd.journal.interval_ns = NEVER_NS
    assert target.sync_lock_cancel == "never"
    put(world, "f", b"1" * 5000)
    later(world, 40)
    assert target.last_committed == target.last_transno
    with pytest.raises(LustreError):
        target.store_sync_lock_cancel("sometimes")


def test_clients_of_an_ost_survive_its_restart_but_not_their_eviction(world: World) -> None:
    power_cycle(world)
    later(world, 60)
    assert len(ost(world).exports) == 3
    victim = world.nodes[1].uuid
    ost(world).evict_client(victim)
    later(world, 6)
    power_cycle(world)
    known = {slot.uuid for slot in ost(world).last_rcvd.clients}
    assert victim not in known
    assert len(known) == 2


def test_an_eviction_is_on_disk_before_what_comes_after_it(world: World) -> None:
    ost(world).osd.journal.interval_ns = NEVER_NS
    put(world, "f", b"x" * 5000, client=0)
    victim = world.nodes[1].uuid
    ost(world).evict_client(victim)
    put(world, "f", b"y" * 5000, client=0)
    later(world, 20)
    power_cycle(world)
    assert victim not in {slot.uuid for slot in ost(world).last_rcvd.clients}


def test_who_was_evicted_is_noted_when_it_uses_its_new_connection(world: World) -> None:
    victim = world.nodes[1].uuid
    ost(world).evict_client(victim)
    while (export := ost(world).exports.find(victim)) is None:
        world.env.step()
    assert export.unaware
    later(world, 40)
    assert not export.unaware
    power_cycle(world)
    assert victim in {slot.uuid for slot in ost(world).last_rcvd.clients}


def test_last_committed_goes_on_growing_over_restarts(world: World) -> None:
    seen = [ost(world).last_committed]
    for round_ in range(3):
        put(world, f"f{round_}", b"x" * 5000)
        later(world, 40)
        seen.append(ost(world).last_committed)
        power_cycle(world)
        seen.append(ost(world).last_committed)
        later(world, 60)
    assert seen == sorted(seen)
    assert seen[-1] >> 32 == 3


def versions(world: World) -> list[int]:
    """Of the objects that files have, as OST_GETATTR tells them."""
    found = []
    for obj in world.nodes[0].oscs[0].objects.values():
        oa = Obdo(valid=OBD_MD_FLID | OBD_MD_FLGROUP, oi=obj.oi)
        request = Request(OST_GETATTR, ost_body=OstBody(oa=oa))
        told = world.run(world.nodes[0].oscs[0].imp.call(request))["ost_body"].oa
        assert told.valid & OBD_MD_FLDATAVERSION
        found.append(told.data_version)
    return found


def test_writes_and_cuts_are_new_versions_of_an_object(world: World) -> None:
    put(world, "f", b"0123456789")
    later(world, 40)
    imp = world.nodes[0].oscs[0].imp
    ost(world).osd.journal.interval_ns = NEVER_NS
    assert versions(world) == [ost(world).last_transno]
    world.run(world.vfs[0].truncate("f", 12))
    cut = imp.replay_list[-1]
    assert versions(world) == [cut.transno]
    world.run(world.vfs[0].utimens("f", 5, 5))
    assert versions(world) == [cut.transno] != [ost(world).last_transno]
    assert all(one.pre_versions == (0, 0, 0, 0) for one in imp.replay_list), "none is told"


def test_a_replay_that_brings_a_version_is_held_to_it(world: World) -> None:
    put(world, "f", b"0123456789")
    later(world, 40)
    imp = world.nodes[0].oscs[0].imp
    (before,) = versions(world)
    ost(world).osd.journal.interval_ns = NEVER_NS
    world.run(world.vfs[0].truncate("f", 12))
    imp.replay_list[-1].pre_versions = (before, 0, 0, 0)
    power_cycle(world)
    assert get(world, "f", 0) == b"0123456789\0\0"
    world.run(world.vfs[0].truncate("f", 3))
    imp.replay_list[-1].pre_versions = (7, 0, 0, 0)
    power_cycle(world)
    later(world, 900)
    assert get(world, "f") != b"012", "who changed what another one lost is evicted"
    assert imp.generation == 1

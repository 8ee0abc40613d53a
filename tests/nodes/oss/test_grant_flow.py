"""Grants between clients and an OST: the same on both sides, and enough for what was taken."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.faults import FAIL_ONCE, Armed
from labsim.base.payload import Fill, tobytes
from labsim.base.units import KIB, MIB, NS_PER_S
from labsim.wire.ost import Obdo
from tests.nodes.client.world import World

PAGE = 4096


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Any:
    made = World(**{"osts": 1, **getattr(request, "param", {})})
    for node in made.nodes:
        if node.host.kit.traits.osc_idle_s:
            node.host.params.set("osc.*.idle_timeout", "0")
    yield made
    made.close()


def account(world: World, node: Any) -> Any:
    cookies = (one.cookie for one in ost(world).exports if one.client_uuid == node.uuid)
    return ost(world).grants.account(next(cookies))


def small(mib: int) -> Any:
    return pytest.mark.parametrize("world", [{"capacity": mib * MIB}], indirect=True)


def ost(world: World) -> Any:
    return world.cluster.node("oss0").machine.node.targets[0]


def balanced(world: World) -> None:
    """Each client counts as the OST does, and the OST's sums are right."""
    ofd = ost(world)
    told = ofd.snapshot()["grants"]
    rows = [*told["clients"].values(), told["own"], told["gone"]]
    granted, dirty, pending = (sum(column) for column in zip(*rows, strict=True))
    assert told["tot"] == [granted + pending, dirty, pending]
    for node in world.nodes:
        given = told["clients"].get(node.uuid, [0])[0]
        assert node.oscs[0].grant.held == given, node.uuid


def write(world: World, client: int, name: str, offset: int, data: Any, flags: int = 0o101) -> Any:
    def steps() -> Any:
        vfs = world.vfs[client]
        file = yield from vfs.open(name, flags, 0o644)
        try:
            return (yield from vfs.write(file, data, offset))
        finally:
            yield from vfs.close(file)

    return steps()


def fsync(world: World, client: int, name: str) -> Any:
    def steps() -> Any:
        vfs = world.vfs[client]
        file = yield from vfs.open(name, 1)
        try:
            yield from vfs.fsync(file)
        finally:
            yield from vfs.close(file)

    return steps()


@pytest.mark.parametrize("seed", range(3))
def test_both_sides_count_alike(world: World, seed: int) -> None:
    """Writes of any size at any place, cut and synced, by two clients on the same files."""
    rng = Random(seed)
    for _ in range(60):
        client, name = rng.randrange(2), f"f{rng.randrange(3)}"
        what = rng.randrange(6)
        if what < 4:
            size = rng.choice([1, 100, PAGE, 3 * PAGE + 7, MIB, 5 * MIB])
            world.run(write(world, client, name, rng.randrange(8 * MIB), Fill(size, 1)))
        elif what == 4:
            world.run(world.vfs[client].sync())
        else:
            world.run(write(world, client, name, 0, b"x", 0o1101))
        if not rng.randrange(4):
            world.run(world.vfs[0].sync())
            world.run(world.vfs[1].sync())
            world.settle()
            balanced(world)
    world.run(world.env.timeout(60 * NS_PER_S))
    balanced(world)
    assert ost(world).grants.tot_pending == 0


@pytest.mark.parametrize(
    "world", [{"client_trees": ["2.8.0", "2.12.0"], "capacity": 24 * MIB}], indirect=True
)
@pytest.mark.parametrize("seed", range(2))
def test_clients_of_two_releases_on_a_small_ost_that_fails(world: World, seed: int) -> None:
    rng = Random(seed)
    host = world.cluster.node("oss0").machine.host
    for _ in range(40):
        client, name = rng.randrange(2), f"f{rng.randrange(3)}"
        place, size = rng.randrange(8 * MIB), rng.choice([1, 100, 3 * PAGE + 7, MIB, 5 * MIB])
        steps = rng.choice([
            write(world, client, name, place, Fill(size, 1)),
            write(world, client, name, place, Fill(size, 1)),
            write(world, client, name, 0, b"x", 0o1101),
            world.vfs[client].truncate(name, place),
            world.vfs[client].sync(),
        ])  # fmt: skip
        if not rng.randrange(4):
            number = rng.choice([0x20A, 0x20E, 0x215, 0x216, 0x226, 0x228, 0x230])
            host.faults.arm(Armed(number, FAIL_ONCE))
        world.all(steps)
        if not rng.randrange(5):
            world.all(world.vfs[0].sync(), world.vfs[1].sync())
            world.run(world.env.timeout(10 * NS_PER_S))
            balanced(world)


@pytest.mark.parametrize("number", [0x20A, 0x20E, 0x211])
def test_nothing_leaks_when_requests_or_replies_are_lost(world: World, number: int) -> None:
    host = world.cluster.node("oss0").machine.host
    for place in range(4):
        host.faults.arm(Armed(number, FAIL_ONCE, reaction="drop"))
        world.run(write(world, 0, "f", place * MIB, Fill(MIB - 100, 2)))
        world.run(fsync(world, 0, "f"))
        world.run(world.env.timeout(5 * NS_PER_S))
        balanced(world)


def test_nothing_leaks_when_a_client_is_evicted(world: World) -> None:
    ofd = ost(world)
    world.run(write(world, 0, "f", 0, Fill(3 * MIB, 2)))
    for export in ofd.exports:
        if export.client_uuid == world.nodes[0].uuid:
            export.evict("test")
    told = ofd.snapshot()["grants"]
    assert world.nodes[0].uuid not in told["clients"]
    world.run(world.env.timeout(60 * NS_PER_S))
    world.all(world.vfs[0].statfs(), fsync(world, 0, "f"))
    world.make("g", b"x" * 10)
    world.run(fsync(world, 0, "g"))
    world.settle()
    balanced(world)


@small(64)
def test_acknowledged_pages_never_meet_enospc(world: World) -> None:
    """Two clients fill an OST: a write is refused or it is kept; fsync never fails."""
    taken: dict[tuple[int, int], int] = {}
    for number in range(80):
        for client in (0, 1):
            try:
                done = world.run(
                    write(world, client, f"f{client}", number * MIB, Fill(MIB, client))
                )
            except LustreError as error:
                assert error.name == "ENOSPC"
                continue
            taken[client, number] = done
    for client in (0, 1):
        world.run(fsync(world, client, f"f{client}"))
    whole = sum(taken.values())
    assert 50 * MIB < whole <= 64 * MIB
    for (client, number), length in taken.items():

        def look(client: int = client, number: int = number, length: int = length) -> Any:
            vfs = world.vfs[1 - client]
            file = yield from vfs.open(f"f{client}")
            data = yield from vfs.read(file, length, number * MIB)
            yield from vfs.close(file)
            return tobytes(data) == tobytes(Fill(length, client))

        assert world.run(look()), (client, number)
    world.run(ost(world).osd.sync())
    world.settle()
    balanced(world)


@small(32)
def test_a_full_ost_still_takes_what_overwrites(world: World) -> None:
    world.run(write(world, 0, "f", 0, Fill(4 * MIB, 1)))
    world.run(fsync(world, 0, "f"))
    ost(world).osd.trouble("full")
    world.run(world.env.timeout(6 * NS_PER_S))
    world.nodes[0].oscs[0].grant.avail = 0
    ost(world).grants.shrink(account(world, world.nodes[0]), 1 << 40, 0)
    world.run(write(world, 0, "f", PAGE, Fill(MIB, 9)))
    world.run(fsync(world, 0, "f"))
    assert world.read("f", 1)[PAGE : PAGE + 100] == tobytes(Fill(100, 9))


@small(96)
def test_grant_is_given_back_where_space_is_scarce(world: World) -> None:
    osc = world.nodes[0].oscs[0]
    c0 = world.cluster.client(0)
    before = osc.grant.avail
    assert before > 4 * MIB
    c0.run("lctl set_param osc.*.cur_grant_bytes=1M")
    c0.run("lctl set_param osc.*.cur_grant_bytes=0")
    assert osc.grant.avail == 4 * MIB
    balanced(world)


def test_grant_is_not_given_back_where_there_is_plenty(world: World) -> None:
    osc = world.nodes[0].oscs[0]
    before = osc.grant.avail
    world.cluster.client(0).run("lctl set_param osc.*.cur_grant_bytes=0")
    assert osc.grant.avail == before
    balanced(world)


@pytest.mark.parametrize("world", [{"client_trees": ["2.8.0", "2.12.0"]}], indirect=True)
def test_who_does_not_know_the_terms_gets_no_more_grant_if_so_set(world: World) -> None:
    """grant_compat_disable: nothing for clients from before OBD_CONNECT_GRANT_PARAM (2.9)."""
    world.cluster.node("oss0").run("lctl set_param obdfilter.*.grant_compat_disable=1")
    for node in world.nodes:
        node.oscs[0].grant.avail = 0
        ost(world).grants.shrink(account(world, node), 1 << 40, 0)
    sent = world.rpcs(write(world, 0, "f", 0, Fill(10 * KIB, 1)))
    assert sent["OST_WRITE"] == 1
    assert world.param("osc.*.cur_grant_bytes") == "0\n"
    world.run(write(world, 1, "g", 0, Fill(10 * KIB, 1)))
    assert int(world.param("osc.*.cur_grant_bytes", 1)) > 8 * MIB
    balanced(world)


@pytest.mark.parametrize("world", [{"client_trees": ["2.8.0", "2.9.0"]}], indirect=True)
def test_an_extent_costs_its_tax_since_2_9(world: World) -> None:
    old, new = (node.oscs[0].grant for node in world.nodes)
    assert (old.tax, new.tax) == (0, 24 * KIB)
    assert not account(world, world.nodes[0]).terms
    assert account(world, world.nodes[1]).terms
    for client, grant in enumerate((old, new)):
        before = grant.avail
        for place in (0, 2, 10):
            world.run(write(world, client, f"f{client}", place * PAGE, b"x" * 100))
        assert grant.dirty == 3 * PAGE
        assert grant.dirty_grant == 3 * (PAGE + grant.tax) == before - grant.avail
        world.run(write(world, client, f"f{client}", 100, b"y" * (3 * PAGE - 200)))
        assert grant.dirty == 4 * PAGE
        assert grant.dirty_grant == 4 * PAGE + 2 * grant.tax, "two became one"
        told = world.param("osc.*.cur_dirty_grant_bytes", client) if client else "16384\n"
        assert told == f"{grant.dirty_grant}\n"
        world.run(fsync(world, client, f"f{client}"))
        assert grant.dirty == grant.dirty_grant == 0
    world.run(ost(world).osd.sync())
    world.settle()
    balanced(world)


@pytest.mark.parametrize(
    "world", [{"tree": "2.8.0", "client_trees": ["2.12.0", "2.12.0"]}], indirect=True
)
def test_an_old_ost_has_no_terms(world: World) -> None:
    grant = world.nodes[0].oscs[0].grant
    assert grant.tax == 0 and not account(world, world.nodes[0]).terms
    world.run(write(world, 0, "f", 0, Fill(3 * MIB, 2)))
    assert grant.dirty == grant.dirty_grant == 3 * MIB
    world.run(fsync(world, 0, "f"))
    world.run(ost(world).osd.sync())
    world.settle()
    balanced(world)


def test_the_tax_of_what_is_cut_comes_back_with_it(world: World) -> None:
    grant = world.nodes[0].oscs[0].grant
    held = grant.held
    for place in range(4):
        world.run(write(world, 0, "f", 2 * place * PAGE, b"x" * PAGE))
    assert grant.dirty_grant == 4 * (PAGE + grant.tax)
    world.run(world.vfs[0].truncate("f", 3 * PAGE))
    assert grant.dirty_grant == 2 * (PAGE + grant.tax)
    assert grant.lost == 2 * (PAGE + grant.tax)
    world.run(fsync(world, 0, "f"))
    assert grant.lost == 0
    assert grant.held >= held - 4 * (PAGE + grant.tax)
    world.run(ost(world).osd.sync())
    world.settle()
    balanced(world)


def test_a_client_wants_grant_for_the_tax_of_its_extents(world: World) -> None:
    """o_undirty: 64 MiB need one extent of 64 MiB on the OST."""
    osc = world.nodes[0].oscs[0]
    world.cluster.client(0).run("lctl set_param osc.*.max_dirty_mb=100")
    assert osc.announced(Obdo()).undirty == 100 * MIB + 2 * 24 * KIB
    world.run(write(world, 0, "f", 0, b"x" * PAGE))
    world.cluster.client(0).run("lctl set_param osc.*.max_dirty_mb=1")
    world.run(write(world, 0, "f", 0, Fill(MIB, 1)))
    osc.max_dirty_bytes = PAGE
    assert osc.announced(Obdo()).undirty == 0, "more is dirty than may be"


def test_a_restarted_ost_believes_its_clients(world: World) -> None:
    world.run(world.env.timeout(10 * NS_PER_S))
    world.run(write(world, 0, "f", 0, Fill(3 * MIB, 2)))
    before = [node.oscs[0].grant.held for node in world.nodes]
    world.run(world.cluster.node("oss0").kill())
    world.cluster.run(world.cluster.node("oss0").start())
    world.run(world.env.timeout(200 * NS_PER_S))
    world.run(fsync(world, 0, "f"))
    world.settle()
    assert world.nodes[1].oscs[0].grant.held == before[1]
    balanced(world)


def test_who_leaves_because_he_is_idle_takes_no_grant_along(world: World) -> None:
    world.nodes[1].host.params.set("osc.*.idle_timeout", "20")
    world.run(write(world, 1, "f", 0, Fill(3 * MIB, 2)))
    world.cluster.client(1).run("lctl set_param ldlm.namespaces.*.lru_size=clear")
    world.run(world.env.timeout(120 * NS_PER_S))
    assert world.nodes[1].uuid not in ost(world).snapshot()["grants"]["clients"]
    assert world.nodes[1].oscs[0].grant.held == 0
    balanced(world)
    assert world.run(write(world, 1, "g", 0, Fill(MIB, 2))) == MIB
    world.run(fsync(world, 1, "g"))
    balanced(world)


def test_precreated_objects_have_their_grant(world: World) -> None:
    world.make("f")
    assert (
        int(world.cluster.node("oss0").run("lctl get_param -n obdfilter.*.grant_precreate").stdout)
        > 100_000
    )


@pytest.mark.parametrize("world", [{"osts": 2}], indirect=True)
def test_all_oscs_of_a_node_share_what_may_be_dirty(world: World) -> None:
    """max_dirty_mb of the node (obd_max_dirty_pages): who has nothing to write writes at once."""
    c0, node = world.cluster.client(0), world.nodes[0]
    assert c0.run("lctl get_param max_dirty_mb").stdout == "max_dirty_mb=4096\n"
    for bad in ("3", "8000"):
        assert c0.run(f"lctl set_param max_dirty_mb={bad}").errno_name == "EINVAL"
    c0.run("lctl set_param max_dirty_mb=4")
    c0.run("lfs setstripe -c 1 -i 0 a")
    c0.run("lfs setstripe -c 1 -i 1 b")
    first, second = node.oscs[0].grant, node.oscs[1].grant
    world.run(write(world, 0, "a", 0, Fill(3 * MIB, 1)))
    assert (first.dirty, node.globals.dirty_bytes) == (3 * MIB, 3 * MIB)
    sent = world.rpcs(write(world, 0, "b", 0, Fill(2 * MIB, 1)))
    assert sent["OST_WRITE"] >= 1
    assert first.dirty == 3 * MIB
    assert node.globals.dirty_bytes == first.dirty + second.dirty <= 4 * MIB
    node.globals.max_dirty_bytes = MIB
    assert node.oscs[0].announced(Obdo()).undirty == 0
    node.globals.max_dirty_bytes = 4 * MIB
    world.all(*(write(world, 0, name, 8 * MIB, Fill(9 * MIB, 3)) for name in "ab"))
    assert node.globals.dirty_bytes <= 4 * MIB
    world.run(world.vfs[0].sync())
    assert node.globals.dirty_bytes == 0
    world.run(write(world, 0, "a", 0, b"x"))
    c0.run("lctl set_param osc.*.active=0")
    assert node.globals.dirty_bytes == 0

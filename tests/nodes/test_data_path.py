"""A client's data path against real OSTs over the simulated network, without an MDS."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.payload import Fill, join, tobytes
from labsim.base.units import KIB, MIB
from labsim.net.ptlrpc import Request
from labsim.nodes.client.fileio import FileData
from labsim.nodes.client.inode import Inode
from labsim.nodes.client.osc import Osc
from labsim.nodes.config import TargetInfo
from labsim.nodes.mgc import Mgc
from labsim.nodes.node import Node
from labsim.nodes.setup import Setup
from labsim.scenario.cluster import Cluster
from labsim.wire.constants import (
    LDLM_CB_REPLY_PORTAL,
    LDLM_CB_REQUEST_PORTAL,
    LOV_MAGIC_V1,
    LOV_PATTERN_RAID0,
    OBD_MD_FLGROUP,
    OBD_MD_FLID,
)
from labsim.wire.lov import LovMdsMdV1, LovOstDataV1
from labsim.wire.opcodes import OST_CREATE, OST_DESTROY
from labsim.wire.ost import Obdo, OstBody
from labsim.wire.schema import OstId

FID = Fid(0x200000400, 1)


class Idle(Node):
    """Stands where an MDS would."""


class DataClient(Node):
    """A client with OSCs and nothing else."""

    kind = "client"

    def start(self) -> Any:
        self.serve("ldlm_cbd", LDLM_CB_REQUEST_PORTAL, LDLM_CB_REPLY_PORTAL)
        self.oscs = {}
        self.mgc = self.make(Mgc, self, self.config.fs.mgs)
        self.mgc.start()
        fsname = self.config.fs.fsname
        yield from self.mgc.follow(f"{fsname}-client", Setup(self.host, {}, self.device))
        for osc in self.oscs.values():
            yield from osc.imp.connect()
        self.data = FileData(self, self.oscs)

    def device(self, kind: str, info: TargetInfo) -> Osc:
        name = f"{info.name}-{kind}-ffff880000000001"
        osc = self.oscs[info.index] = self.make(Osc, self, info, name, self.host.name + "-uuid")
        self.host.params.mount(osc, name=name)
        return osc


class World:
    """A cluster whose clients have a striped file each may use."""

    def __init__(
        self, clients: int, stripes: int, stripe_size: int = MIB, capacity: int | None = None
    ) -> None:
        here = __name__
        self.cluster = Cluster(
            clients=clients,
            oss=2,
            osts=max(stripes, 2),
            capacity=capacity,
            made_of={"client": f"{here}:DataClient", "mds": f"{here}:Idle"},
        )
        self.cluster.__enter__()
        self.env = self.cluster.env
        self.ea = LovMdsMdV1(
            magic=LOV_MAGIC_V1,
            pattern=LOV_PATTERN_RAID0,
            stripe_size=stripe_size,
            stripe_count=stripes,
            objects=tuple(LovOstDataV1(ost_oi=OstId(1, 0), ost_idx=n) for n in range(stripes)),
        ).pack()
        for osc in self.client(0).oscs.values():
            oa = Obdo(valid=OBD_MD_FLID | OBD_MD_FLGROUP, oi=OstId(4, 0))
            self.run(osc.imp.call(Request(OST_CREATE, ost_body=OstBody(oa=oa))))
        self.inodes = [self.inode() for _ in range(clients)]

    def node(self, name: str) -> Any:
        return self.cluster.node(name).machine.node

    def client(self, index: int) -> Any:
        return self.node(f"c{index}")

    def inode(self) -> Inode:
        inode = Inode(FID, 0o100644)
        inode.layout = self.ea
        return inode

    def run(self, steps: Any) -> Any:
        return self.cluster.run(steps)

    def read(self, client: int, offset: int, length: int) -> bytes:
        return tobytes(self.run(self.client(client).data.read(self.inodes[client], offset, length)))

    def write(self, client: int, offset: int | None, data: Any) -> int:
        return self.run(self.client(client).data.write(self.inodes[client], offset, data))[1]

    def flush(self, client: int) -> None:
        self.run(self.client(client).data.flush(self.inodes[client]))

    def size(self, client: int) -> int:
        return self.run(self.client(client).data.glimpse(self.inodes[client])).size

    def counter(self, client: int, name: str) -> int:
        return sum(osc.stats.count(name) for osc in self.client(client).oscs.values())


def test_bytes_come_back_over_stripes() -> None:
    world = World(1, 3, 64 * KIB)
    data = join([Fill(300_000, 5), b"tail", Fill(777, 6)])
    assert world.write(0, 1000, data) == 1000 + len(data)
    assert world.read(0, 1000, len(data)) == tobytes(data)
    assert world.read(0, 0, 1000) == bytes(1000)
    assert world.read(0, 1000 + len(data) - 5, 100) == tobytes(data)[-5:]
    assert world.read(0, 1 << 30, 10) == b""
    assert world.size(0) == 1000 + len(data)


def test_another_client_sees_it_at_once_and_the_size_too() -> None:
    world = World(2, 2)
    world.write(0, 0, b"one")
    assert world.size(1) == 3
    assert world.read(1, 0, 10) == b"one"
    world.write(1, 3, b"two")
    assert world.read(0, 0, 10) == b"onetwo"
    assert world.size(0) == 6


def test_appends_of_two_clients_do_not_meet() -> None:
    world = World(2, 2, 64 * KIB)

    def many(client: int, letter: bytes) -> Any:
        for _ in range(20):
            yield from world.client(client).data.write(world.inodes[client], None, letter * 7000)

    both = [world.env.process(many(0, b"a")), world.env.process(many(1, b"b"))]
    world.run(world.env.all_of(both))
    whole = world.read(0, 0, 1 << 20)
    assert len(whole) == 40 * 7000
    assert sorted({whole[at : at + 7000] for at in range(0, len(whole), 7000)}) == [
        b"a" * 7000,
        b"b" * 7000,
    ]
    assert whole.count(b"a") == 20 * 7000


def test_truncate_cuts_and_grows() -> None:
    world = World(2, 3, 64 * KIB)
    world.write(0, 0, Fill(400_000, 9))
    world.run(world.client(1).data.truncate(world.inodes[1], 100_000))
    assert world.size(0) == 100_000
    assert world.read(0, 0, 1 << 20) == tobytes(Fill(100_000, 9))
    world.run(world.client(0).data.truncate(world.inodes[0], 200_000))
    assert world.size(1) == 200_000
    assert world.read(1, 100_000, 1 << 20) == bytes(100_000)


def test_a_large_write_goes_out_in_brws_of_four_mib() -> None:
    world = World(1, 1)
    world.write(0, 0, Fill(10 * MIB, 1))
    world.flush(0)
    assert world.counter(0, "ost_write") == 3
    world.client(0).host.params.set("osc.*.max_pages_per_rpc", "256")
    world.write(0, 0, Fill(10 * MIB, 1))
    world.flush(0)
    assert world.counter(0, "ost_write") == 13


def test_grant_moves_and_comes_back() -> None:
    world = World(1, 1)
    ofd = world.node("oss0").targets[0]
    osc = world.client(0).oscs[0]
    (account,) = [
        ofd.grants.account(one.cookie)
        for one in ofd.exports
        if one.client_uuid == osc.imp.client_uuid
    ]
    assert account.granted == osc.grant.avail > 0
    for _ in range(5):
        world.write(0, 0, Fill(4 * MIB + 100, 2))
        assert osc.grant.dirty == 4 * MIB + 4096
        assert account.granted >= osc.grant.held
        world.run(osc.flush(*osc.objects.values(), 0, 1 << 30))
        assert osc.grant.dirty == 0
        assert account.granted == osc.grant.held
    assert account.pending == ofd.grants.tot_pending > 0
    world.run(ofd.osd.sync())
    assert account.pending == ofd.grants.tot_pending == 0


def test_a_full_ost_says_so_and_keeps_what_it_has() -> None:
    world = World(1, 1, capacity=64 * MIB)
    osd = world.node("oss0").targets[0].osd
    world.write(0, 0, b"kept")
    room = osd.statfs()
    size = room.bavail * room.bsize + 4096
    end = world.write(0, 4096, Fill(size, 1))
    assert size - 32 * MIB < end < size
    with pytest.raises(LustreError) as failed:
        world.write(0, end, Fill(4 * MIB, 1))
    assert failed.value.name == "ENOSPC"
    assert world.read(0, 0, 4) == b"kept"


def test_destroying_an_object_takes_its_locks_away() -> None:
    world = World(1, 1)
    world.write(0, 0, b"gone")
    osc = world.client(0).oscs[0]
    assert len(osc.ldlm.locks) == 1
    oa = Obdo(valid=OBD_MD_FLID | OBD_MD_FLGROUP, oi=OstId(1, 0))
    world.run(osc.imp.call(Request(OST_DESTROY, ost_body=OstBody(oa=oa))))
    assert len(osc.ldlm.locks) == 0
    with pytest.raises(LustreError) as failed:
        world.read(0, 0, 4)
    assert failed.value.name == "ENOENT"


def test_statfs_adds_up_and_leaves_out_who_is_silent() -> None:
    world = World(1, 2)
    one = world.node("oss0").targets[0].osd.statfs()
    assert world.run(world.client(0).data.statfs()).blocks == 2 * one.blocks
    world.run(world.cluster.partition(["c0"], ["oss1"]))
    assert world.run(world.client(0).data.statfs()).blocks == one.blocks

"""Checksums and short I/O between an OSC and an OST: negotiated, verified, damaged, repeated."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.faults import FAIL_ONCE
from labsim.base.payload import Fill, tobytes
from labsim.base.units import MIB, NS_PER_S
from labsim.net.lnet import GET, PUT
from labsim.scenario.cluster import Cluster
from labsim.wire import cksum
from labsim.wire.constants import (
    OBD_CKSUM_ADLER,
    OBD_CKSUM_ALL,
    OBD_CKSUM_CRC32C,
    OBD_CONNECT_SHORTIO,
    OBD_FL_RECOV_RESEND,
    OBD_FL_SHORT_IO,
    OBD_MD_FLCKSUM,
)
from labsim.wire.opcodes import OST_READ, OST_WRITE


class World:
    """One mount, a file, and what goes over the wire."""

    def __init__(self, tree: str = "") -> None:
        self.cluster = Cluster(clients=1, oss=1, osts=1, **({"tree": tree} if tree else {}))
        self.cluster.__enter__()
        self.client = self.cluster.node("c0").machine.node
        self.oss = self.cluster.node("oss0").machine.node
        self.osc = self.client.oscs[0]
        self.params = self.client.host.params
        self.packets: list[Any] = []
        self.client.host.lnet.taps.append(self.packets.append)
        self.file = self.run(self.client.vfs.open("f", 0o102, 0o644))
        self.packets.clear()

    def run(self, steps: Any) -> Any:
        return self.cluster.run(steps)

    def write(self, offset: int, data: Any) -> None:
        """Into the cache, and on to the OST."""
        self.run(self.client.vfs.write(self.file, data, offset))
        self.run(self.client.vfs.fsync(self.file))

    def read(self, offset: int, length: int) -> bytes:
        """From the OST, not from the cache."""
        self.run(self.client.data.drop(self.file.inode))
        return tobytes(self.run(self.client.vfs.read(self.file, length, offset)))

    def brws(self, opcode: int, reply: bool = False) -> list[Any]:
        found = [packet.payload for packet in self.packets if hasattr(packet.payload, "opcode")]
        return [one for one in found if one.opcode == opcode and one.request is not reply]

    def bulks(self) -> int:
        return sum(
            packet.portal == 8 and packet.kind in (GET, PUT) and packet.dst == packet_client(self)
            for packet in self.packets
        )

    def arm(self, node: Any, number: int) -> None:
        node.host.faults.set_fail_loc(number)

    def damaged(self) -> int:
        return sum(event.kind == "osc.damaged" for event in self.cluster.trace.events)


def packet_client(world: World) -> int:
    return world.client.host.lnet.nid


@pytest.fixture
def world() -> World:
    return World()


BIG = Fill(MIB, 5)


def test_both_ways_carry_the_checksum_that_was_negotiated(world: World) -> None:
    assert world.osc.imp.connect_data.cksum_types == OBD_CKSUM_ALL
    world.write(0, BIG)
    sent = world.brws(OST_WRITE)[0]["ost_body"].oa
    assert sent.valid & OBD_MD_FLCKSUM
    assert sent.flags & 0xF000 == cksum.to_flags(OBD_CKSUM_CRC32C)
    assert sent.nlink == cksum.checksum(OBD_CKSUM_CRC32C, BIG)
    assert world.brws(OST_WRITE, reply=True)[0]["ost_body"].oa.nlink == sent.nlink
    assert world.read(0, MIB) == tobytes(BIG)
    assert world.brws(OST_READ, reply=True)[0]["ost_body"].oa.nlink == sent.nlink


KINDS = "crc32 adler crc32c t10ip512 t10ip4K t10crc512 t10crc4K \n"


@pytest.mark.parametrize(("name", "kind"), cksum.NAMES.items())
def test_checksum_type_is_a_choice(world: World, name: str, kind: int) -> None:
    world.params.set("osc.*.checksum_type", name)
    assert world.osc.show_checksum_type() == KINDS.replace(f"{name} ", f"[{name}] ", 1)
    data = bytes(range(256)) * 40
    world.write(100, data)
    sent = world.brws(OST_WRITE)[0]["ost_body"].oa
    value = cksum.checksum(kind, data, [(100, len(data))])
    assert (sent.flags & 0xF000, sent.nlink) == (cksum.to_flags(kind), value)
    assert world.read(0, 20_000)[100:] == data
    sent = world.brws(OST_READ, reply=True)[0]["ost_body"].oa
    value = cksum.checksum(kind, bytes(100) + data, [(0, 10_340)])
    assert (sent.flags & 0xF000, sent.nlink) == (cksum.to_flags(kind), value)
    assert world.damaged() == 0


@pytest.mark.parametrize(("number", "kinds"), [(0x40B, 0), (0x40C, OBD_CKSUM_ADLER)])
def test_who_connects_with_fewer_checksums_uses_adler(
    world: World, number: int, kinds: int
) -> None:
    world.arm(world.client, number)
    world.osc.imp.reconnect()
    world.run(world.osc.imp.reached())
    assert world.osc.imp.connect_data.cksum_types == kinds
    assert world.osc.show_checksum_type() == "[adler] \n"
    world.write(0, b"abc")
    sent = world.brws(OST_WRITE)[0]["ost_body"].oa
    assert sent.flags & 0xF000 == cksum.to_flags(OBD_CKSUM_ADLER)
    assert sent.nlink == cksum.checksum(OBD_CKSUM_ADLER, b"abc")


def test_t10_checksums_came_with_2_12() -> None:
    world = World("2.10.0")
    assert world.osc.imp.connect_data.cksum_types == 7
    assert world.osc.show_checksum_type() == "crc32 adler [crc32c] \n"
    with pytest.raises(LustreError) as failed:
        world.params.set("osc.*.checksum_type", "t10ip512")
    assert failed.value.name == "EINVAL"
    world.cluster.close()


@pytest.mark.parametrize(
    "param", ["osc.*.checksums", "llite.*.checksum_pages", "llite.*.checksums"]
)
def test_without_checksums_damage_passes(world: World, param: str) -> None:
    world.params.set(param, "0")
    world.arm(world.oss, 0x21A)
    world.write(0, BIG)
    assert not world.brws(OST_WRITE)[0]["ost_body"].oa.valid & OBD_MD_FLCKSUM
    assert world.read(0, MIB) == tobytes(BIG)  # the points are in the checksum's code
    assert world.damaged() == 0


@pytest.mark.parametrize(
    ("side", "number", "opcode"),
    [("oss", 0x21A, OST_WRITE), ("oss", 0x21B, OST_READ), ("client", 0x408, OST_READ)],
)
def test_checksum_dump_keeps_what_was_damaged(
    world: World, side: str, number: int, opcode: int
) -> None:
    """As sanity 77c: a file on either side, one what was sent and one what came."""
    c0, oss0 = world.cluster.client(0), world.cluster.node("oss0")
    assert c0.run("lctl get_param -n debug_path").stdout == "/tmp/lustre-log\n"
    c0.run("lctl set_param osc.*.checksum_dump=1")
    oss0.run("lctl set_param obdfilter.*.checksum_dump=1")
    fid = world.file.inode.fid
    if opcode == OST_READ:
        world.write(4096, b"x" * 6000)
    world.arm(getattr(world, side), number | FAIL_ONCE)
    if opcode == OST_READ:
        assert world.read(4096, 6000) == b"x" * 6000
    else:
        world.write(4096, b"x" * 6000)
    bad, good = (cksum.checksum(OBD_CKSUM_CRC32C, data + b"x" * 5996)
                 for data in (b"bad3" if opcode == OST_WRITE else
                              b"bad4" if side == "oss" else b"bad1", b"xxxx"))  # fmt: skip
    ours, theirs = (good, bad) if opcode == OST_WRITE else (bad, good)
    last = 10095 if opcode == OST_WRITE else 12287
    name = f"/tmp/lustre-log-checksum_dump-%s-{fid}:[4096-{last}]-{ours:x}-{theirs:x}"
    assert c0.run("ls /tmp").stdout == name.rpartition("/")[2] % "osc" + "\n"
    ((path, kept),) = world.oss.globals.files.items()
    assert path == name % "ost"
    mine, its = c0.run(f"cat '{name % 'osc'}'").stdout, tobytes(kept).decode()
    assert mine[4:6000] == its[4:] == "x" * 5996
    assert mine[6000:] == "\0" * (last - 10095)
    assert (mine[:4] == "xxxx") is (opcode == OST_WRITE)
    assert (its[:4] == "xxxx") is (opcode == OST_READ)


@pytest.mark.parametrize("size", [100, MIB])
@pytest.mark.parametrize(
    ("side", "number", "opcode"),
    [("oss", 0x21A, OST_WRITE), ("client", 0x409, OST_WRITE),
     ("oss", 0x21B, OST_READ), ("client", 0x408, OST_READ)],
)  # fmt: skip
def test_what_was_damaged_is_sent_again(
    world: World, side: str, number: int, opcode: int, size: int
) -> None:
    data = Fill(size, 6)
    if opcode == OST_READ:
        world.write(0, data)
    before = world.osc.grant.avail
    start = world.cluster.env.now
    world.arm(getattr(world, side), number | FAIL_ONCE)
    if opcode == OST_WRITE:
        world.write(0, data)
    assert world.read(0, size) == tobytes(data)
    assert world.damaged() == 1
    first, again = world.brws(opcode)[:2] if opcode == OST_WRITE else world.brws(opcode)[-2:]
    assert not first["ost_body"].oa.flags & OBD_FL_RECOV_RESEND
    assert again["ost_body"].oa.flags & OBD_FL_RECOV_RESEND
    assert NS_PER_S <= world.cluster.env.now - start < 2 * NS_PER_S
    assert before <= world.osc.grant.avail + size + 4096
    ofd = world.oss.targets[0]
    held = world.osc.grant.avail + world.osc.grant.reserved + world.osc.grant.lost
    assert held == ofd.grants.account(next(iter(
        one.cookie for one in ofd.exports if one.client_uuid == world.client.uuid
    ))).granted  # fmt: skip


def test_a_line_that_always_damages_ends_in_eio(world: World) -> None:
    world.params.set("osc.*.resend_count", "2")
    world.arm(world.oss, 0x21A)
    with pytest.raises(LustreError) as failed:
        world.write(0, BIG)
    assert failed.value.name == "EIO"
    assert len(world.brws(OST_WRITE)) == 3


# ---- short I/O


def test_little_data_travels_inside_the_rpc(world: World) -> None:
    assert world.osc.imp.granted(OBD_CONNECT_SHORTIO)
    world.write(0, b"x" * 16384)
    sent = world.brws(OST_WRITE)[0]
    assert sent["ost_body"].oa.flags & OBD_FL_SHORT_IO
    assert sent["obd_ioobj"][0].max_brw == 0
    assert tobytes(sent["short_io"]) == b"x" * 16384
    assert world.read(0, 16384) == b"x" * 16384
    reply = world.brws(OST_READ, reply=True)[0]
    assert (reply.status, len(reply["short_io"])) == (16384, 16384)
    assert world.bulks() == 0
    world.write(0, b"y" * 16385)
    assert world.bulks() == 1


def test_reads_past_the_end_and_of_holes_are_short(world: World) -> None:
    world.write(5000, b"end")
    assert world.read(0, 9000) == bytes(5000) + b"end"
    assert world.read(5003, 100) == b""
    assert world.bulks() == 0


def test_short_io_bytes_is_the_limit(world: World) -> None:
    world.params.set("osc.*.short_io_bytes", "0")
    world.write(0, b"abc")
    assert world.read(0, 3) == b"abc"
    assert world.bulks() == 2
    with pytest.raises(LustreError):
        world.params.set("osc.*.short_io_bytes", "65537")


@pytest.mark.parametrize("tree", ["2.10.0", "staging-4.16", "2.7.0"])
def test_older_clients_never_heard_of_it(tree: str) -> None:
    world = World(tree)
    assert not world.osc.wanted().connect_flags & OBD_CONNECT_SHORTIO
    world.write(0, b"abc")
    assert world.read(0, 3) == b"abc"
    assert world.bulks() == 2

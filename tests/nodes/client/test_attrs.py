"""Attributes through the whole stack: who may change them, and that nobody sees old ones."""

from __future__ import annotations

import stat

import pytest

from labsim.base.units import NS_PER_S
from labsim.nodes.client.vfs_attrs import UTIME_NOW

EPOCH = 1_577_836_800


def test_mode_owner_and_times_reach_other_clients(world) -> None:
    vfs, other = world.vfs
    world.make("f", b"x")
    world.run(other.stat("f"))
    world.run(vfs.chmod("f", 0o4711))
    assert world.run(other.stat("f")).mode == stat.S_IFREG | 0o4711
    world.run(vfs.chown("f", 500, 600))
    found = world.run(other.stat("f"))
    assert (found.uid, found.gid, found.mode) == (500, 600, stat.S_IFREG | 0o711)
    world.run(vfs.chown("f", gid=700))
    assert world.run(other.stat("f"))[3:5] == (500, 700)


@pytest.mark.parametrize("writer", [0, 1])
def test_times_can_be_set_to_the_past_and_stay(world, writer: int) -> None:
    vfs, other = world.vfs
    world.make("f", b"x", client=writer)
    world.run(other.stat("f"))
    world.run(vfs.utimens("f", 1000 * NS_PER_S, 2000 * NS_PER_S + 999))
    for one in world.vfs:
        found = world.run(one.stat("f"))
        assert (found.atime, found.mtime, found.ctime) == (1000, 2000, EPOCH)
    world.run(vfs.utimens("f", None, 3000 * NS_PER_S))
    assert world.run(other.stat("f"))[9:11] == (1000, 3000)
    world.run(vfs.utimens("f", UTIME_NOW, UTIME_NOW))
    assert world.run(other.stat("f"))[9:11] == (EPOCH, EPOCH)


def test_writing_moves_mtime(world) -> None:
    vfs, other = world.vfs
    world.make("f", b"x")
    world.run(vfs.utimens("f", NS_PER_S, NS_PER_S))
    world.cluster.run(world.env.timeout(5 * NS_PER_S))
    file = world.run(other.open("f", 1))
    world.run(other.write(file, b"yy"))
    world.run(other.close(file))
    for one in world.vfs:
        found = world.run(one.stat("f"))
        assert found.size == 2
        assert found.mtime >= EPOCH + 5


def test_reading_moves_atime_at_close(world) -> None:
    vfs, other = world.vfs
    world.make("f", b"x")
    world.cluster.run(world.env.timeout(100 * NS_PER_S))
    assert world.read("f") == b"x"
    assert world.run(vfs.stat("f")).atime >= EPOCH + 100
    assert world.run(other.stat("f")).atime >= EPOCH + 100


def test_a_directory_notices_new_names(world) -> None:
    vfs, other = world.vfs
    world.run(vfs.mkdir("d"))
    before = world.run(other.stat("d"))
    world.cluster.run(world.env.timeout(3 * NS_PER_S))
    world.make("d/f")
    after = world.run(other.stat("d"))
    assert after.mtime >= before.mtime + 3
    world.run(vfs.mkdir("d/e"))
    assert world.run(other.stat("d")).nlink == 3


def test_permissions_of_others(world) -> None:
    world.run(world.vfs[0].mkdir("open", 0o777))
    world.run(world.vfs[0].chmod("open", 0o777))
    world.run(world.vfs[0].mkdir("shut", 0o700))
    world.make("shut/f")
    world.make("open/mine", b"x")
    user = world.nodes[1].process(500, 500)
    assert world.errno(user.stat("shut/f")) == "EACCES"
    assert world.errno(user.readdir("shut")) == "EACCES"
    assert world.errno(user.mkdir("d")) == "EACCES"
    assert world.errno(user.open("new", 0o101)) == "EACCES"
    assert world.errno(user.open("open/mine", 1)) == "EACCES"
    assert world.errno(user.open("open/mine", 0o101)) == "EACCES"
    assert world.errno(user.unlink("open")) == "EACCES"
    assert world.errno(user.chmod("open/mine", 0o777)) == "EPERM"
    assert world.errno(user.chown("open/mine", 500)) == "EPERM"
    assert world.errno(user.utimens("open/mine", 0, 0)) == "EPERM"
    assert world.errno(user.utimens("open/mine", UTIME_NOW, UTIME_NOW)) == "EACCES"
    assert world.errno(user.truncate("open/mine", 0)) == "EACCES"
    assert world.errno(user.mknod("open/null", 0o020666, 0x103)) == "EPERM"
    assert world.errno(user.mkdir("open/mine")) == "EEXIST"
    file = world.run(user.open("open/own", 0o101, 0o666))
    world.run(user.close(file))
    found = world.run(user.stat("open/own"))
    assert (found.uid, found.gid, found.mode & 0o777) == (500, 500, 0o644)
    world.run(user.chmod("open/own", 0o400))
    assert world.errno(user.open("open/own", 1)) == "EACCES"
    world.run(user.unlink("open/mine"))


def test_the_sticky_bit(world) -> None:
    root = world.vfs[0]
    world.run(root.mkdir("tmp"))
    world.run(root.chmod("tmp", 0o1777))
    one, two = world.nodes[0].process(500, 500), world.nodes[1].process(600, 600)
    file = world.run(one.open("tmp/f", 0o101, 0o666))
    world.run(one.close(file))
    assert world.errno(two.unlink("tmp/f")) == "EPERM"
    assert world.errno(two.rename("tmp/f", "tmp/g")) == "EPERM"
    assert world.errno(two.setxattr("tmp", "user.a", b"1")) == "EPERM"
    world.run(one.unlink("tmp/f"))


def test_supplementary_groups_count(world) -> None:
    root = world.vfs[0]
    world.run(root.mkdir("g"))
    world.run(root.chown("g", 0, 77))
    world.run(root.chmod("g", 0o770))
    inside = world.nodes[1].process(500, 500, (77,))
    world.run(inside.mkdir("g/d"))
    assert world.errno(world.nodes[1].process(500, 500).stat("g/d")) == "EACCES"


def test_a_read_only_file_can_be_written_by_who_creates_it(world) -> None:
    world.run(world.vfs[0].chmod("/", 0o777))
    user = world.nodes[1].process(500, 500)
    file = world.run(user.open("f", 0o101, 0o400))
    assert world.run(user.write(file, b"x")) == 1
    world.run(user.close(file))
    assert world.errno(user.open("f", 1)) == "EACCES"


def test_devices_and_fifos(world) -> None:
    vfs, other = world.vfs
    world.run(vfs.mknod("null", 0o020666, 0x103))
    found = world.run(other.stat("null"))
    assert stat.S_ISCHR(found.mode) and found.rdev == 0x103
    world.run(vfs.mknod("pipe", 0o010600))
    assert stat.S_ISFIFO(world.run(other.stat("pipe")).mode)
    world.run(vfs.mknod("plain", 0o600))
    assert stat.S_ISREG(world.run(other.stat("plain")).mode)
    world.run(other.unlink("null"))


def test_stat_blocksize_and_inode_numbers(world) -> None:
    world.make("f", b"x")
    vfs = world.vfs[0]
    assert world.run(vfs.stat("f")).blksize == 4 << 20
    assert world.run(vfs.stat("/")).blksize == 4096
    world.nodes[0].host.params.set("llite.*.stat_blocksize", "65536")
    assert world.run(vfs.stat("f")).blksize == 65536
    assert world.run(vfs.stat("f")).ino == (0x200000401 << 24) + 1


def test_statfs_adds_up_the_osts(world) -> None:
    vfs = world.vfs[0]
    found = world.run(vfs.statfs())
    assert found.bavail <= found.bfree <= found.blocks
    sent = world.rpcs(vfs.statfs())
    assert sent == {}
    world.cluster.run(world.env.timeout(2 * NS_PER_S))
    assert world.rpcs(vfs.statfs()) == {"MDS_STATFS": 1, "OST_STATFS": 2}
    world.cluster.run(world.env.timeout(2 * NS_PER_S))
    world.sent.clear()
    answers = world.all(*(vfs.statfs() for _ in range(6)))
    assert len(set(map(repr, answers))) == 1
    assert len([name for _, name in world.sent if name == "MDS_STATFS"]) == 1


def test_umasks(world) -> None:
    strict = world.nodes[0].process(umask=0o077)
    world.run(strict.close(world.run(strict.open("f", 0o101, 0o666))))
    world.run(strict.mkdir("d"))
    world.run(world.nodes[0].process(umask=0).mkdir("open", 0o777))
    modes = [world.run(world.vfs[1].stat(path)).mode & 0o777 for path in ("f", "d", "open")]
    assert modes == [0o600, 0o700, 0o777]

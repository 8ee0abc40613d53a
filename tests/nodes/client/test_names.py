"""Paths and names through the whole stack: what a program sees, and what it gets for mistakes."""

from __future__ import annotations

import stat

import pytest

from labsim.base.ids import Fid
from labsim.nodes.client.llite_files import O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDWR


def test_a_tree_of_names(world) -> None:
    vfs = world.vfs[0]
    world.run(vfs.mkdir("a"))
    world.run(vfs.mkdir("a/b", 0o700))
    world.make("a/b/f", b"text")
    assert world.run(vfs.stat("a/b")).mode == stat.S_IFDIR | 0o700
    found = world.run(vfs.stat("/mnt/lustre/a/../a/./b//f"))
    assert (found.size, found.nlink, found.uid) == (4, 1, 0)
    assert found.mode == stat.S_IFREG | 0o644
    assert world.run(vfs.stat("a")).nlink == 3
    names = world.run(world.vfs[1].readdir("a/b"))
    assert sorted(name for name, _, _ in names) == [".", "..", "f"]
    kinds = {name: kind for name, kind, _ in names}
    assert kinds["f"] == stat.S_IFREG and kinds["."] == stat.S_IFDIR
    assert {n: i for n, _, i in names}["f"] == found.ino


def test_the_first_fid_of_a_client(world) -> None:
    world.make("f")
    assert world.run(world.vfs[0].path2fid("f")) == Fid(0x200000401, 1)
    world.make("g", client=1)
    assert world.run(world.vfs[0].path2fid("g")) == Fid(0x200000402, 1)


def test_links(world) -> None:
    vfs, other = world.vfs
    world.run(vfs.mkdir("d"))
    world.make("d/f", b"one")
    world.run(vfs.link("d/f", "hard"))
    assert world.run(other.stat("hard")).nlink == 2
    world.run(vfs.symlink("d/f", "soft"))
    world.run(vfs.symlink("/mnt/lustre/d", "to-d"))
    assert world.run(other.readlink("soft")) == "d/f"
    assert world.read("to-d/f", client=1) == b"one"
    assert world.run(other.stat("soft", follow=False)).mode == stat.S_IFLNK | 0o777
    assert world.run(other.stat("soft", follow=False)).size == 3
    world.run(vfs.unlink("d/f"))
    assert world.errno(other.stat("soft")) == "ENOENT"
    assert world.run(other.stat("hard")).nlink == 1


def test_link_errors(world) -> None:
    vfs = world.vfs[0]
    world.run(vfs.symlink("loop", "loop"))
    assert world.errno(vfs.stat("loop")) == "ELOOP"
    for number in range(45):
        world.run(vfs.symlink(f"l{number}", f"l{number + 1}"))
    world.make("l0")
    world.run(vfs.stat("l40"))
    assert world.errno(vfs.stat("l41")) == "ELOOP"
    assert world.errno(vfs.readlink("l0")) == "EINVAL"
    assert world.errno(vfs.symlink("", "x")) == "ENOENT"
    world.run(vfs.mkdir("d"))
    assert world.errno(vfs.link("d", "e")) == "EPERM"
    assert world.errno(vfs.link("l0", "d/")) == "EEXIST"
    world.run(vfs.link("l1", "also-a-link"))
    assert world.run(vfs.readlink("also-a-link")) == "l0"


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        ("", "ENOENT"),
        ("nope", "ENOENT"),
        ("nope/x", "ENOENT"),
        ("f/x", "ENOTDIR"),
        ("f/", "ENOTDIR"),
        ("f/.", "ENOTDIR"),
        ("n" * 256, "ENAMETOOLONG"),
        ("ä" * 128, "ENAMETOOLONG"),
        ("d/" * 2048, "ENAMETOOLONG"),
    ],
)
def test_path_errors(shared, path: str, errno: str) -> None:
    assert shared.errno(shared.vfs[0].stat(path)) == errno


def test_the_longest_name(shared) -> None:
    shared.make("n" * 255)
    assert shared.run(shared.vfs[1].stat("n" * 255)).size == 0


@pytest.mark.parametrize(
    ("call", "arguments", "errno"),
    [
        ("mkdir", ("d",), "EEXIST"),
        ("mkdir", (".",), "EEXIST"),
        ("mkdir", ("/",), "EEXIST"),
        ("mkdir", ("nope/x",), "ENOENT"),
        ("mkdir", ("f/x",), "ENOTDIR"),
        ("rmdir", ("f",), "ENOTDIR"),
        ("rmdir", ("d/.",), "EINVAL"),
        ("rmdir", ("d/..",), "ENOTEMPTY"),
        ("rmdir", ("/",), "EBUSY"),
        ("rmdir", ("full",), "ENOTEMPTY"),
        ("unlink", ("d",), "EISDIR"),
        ("unlink", ("d/",), "EISDIR"),
        ("unlink", ("f/",), "ENOTDIR"),
        ("unlink", ("nope",), "ENOENT"),
        ("unlink", ("d/..",), "EISDIR"),
        ("mknod", ("f", 0o100644), "EEXIST"),
        ("mknod", ("x/", 0o100644), "ENOENT"),
        ("mknod", ("x", 0o040755), "EPERM"),
        ("mknod", ("x", 0o120777), "EINVAL"),
        ("rename", ("nope", "x"), "ENOENT"),
        ("rename", ("d", "d/inside"), "EINVAL"),
        ("rename", ("full/file", "full"), "ENOTEMPTY"),
        ("rename", ("f", "d"), "EISDIR"),
        ("rename", ("d", "f"), "ENOTDIR"),
        ("rename", ("f", "g/"), "ENOTDIR"),
        ("rename", ("d", "full"), "ENOTEMPTY"),
        ("rename", (".", "x"), "EBUSY"),
        ("rename", ("f", "d/.."), "EBUSY"),
        ("truncate", ("d", 0), "EISDIR"),
        ("truncate", ("f", -1), "EINVAL"),
        ("truncate", ("fifo", 0), "EINVAL"),
        ("readdir", ("f",), "ENOTDIR"),
        ("open", ("d", O_RDWR), "EISDIR"),
        ("open", ("d", O_CREAT), "EISDIR"),
        ("open", ("d/", O_CREAT), "EISDIR"),
        ("open", ("x/", O_CREAT), "EISDIR"),
        ("open", ("f", O_DIRECTORY), "ENOTDIR"),
        ("open", ("f", O_CREAT | O_EXCL), "EEXIST"),
        ("open", ("dangling", O_CREAT | O_EXCL), "EEXIST"),
        ("open", ("soft", O_NOFOLLOW), "ELOOP"),
        ("open", ("fifo", O_RDWR), "ENXIO"),
        ("open", ("nope",), "ENOENT"),
    ],
)
@pytest.mark.parametrize("client", [0, 1], ids=["cold", "warm"])
def test_call_errors(shared, client: int, call: str, arguments: tuple, errno: str) -> None:
    assert shared.errno(getattr(shared.vfs[client], call)(*arguments)) == errno


@pytest.fixture(scope="module")
def shared():
    from tests.nodes.client.world import World

    made = World()
    vfs = made.vfs[0]
    made.make("f", b"12345")
    made.run(vfs.mkdir("d"))
    made.run(vfs.mkdir("full"))
    made.make("full/file")
    made.run(vfs.symlink("f", "soft"))
    made.run(vfs.symlink("nowhere", "dangling"))
    made.run(vfs.mknod("fifo", 0o010644))
    made.run(made.vfs[1].readdir("/"))
    for name in ("f", "d", "full", "full/file", "soft", "fifo"):
        made.run(made.vfs[1].stat(name))
    yield made
    made.close()


def test_rename_moves_and_replaces(world) -> None:
    vfs, other = world.vfs
    world.run(vfs.mkdir("a"))
    world.run(vfs.mkdir("b"))
    world.make("a/f", b"new")
    world.make("b/f", b"old one")
    world.run(other.stat("b/f"))
    world.run(vfs.rename("a/f", "b/f"))
    assert world.errno(other.stat("a/f")) == "ENOENT"
    assert world.read("b/f", client=1) == b"new"
    world.run(vfs.rename("b", "a/moved"))
    assert world.read("a/moved/f", client=1) == b"new"
    assert world.read("a/moved/f", client=0) == b"new"
    assert world.run(vfs.stat("a")).nlink == 3
    world.run(vfs.link("a/moved/f", "same"))
    world.run(vfs.rename("same", "a/moved/f"))
    assert world.run(vfs.stat("same")).nlink == 2


def test_a_moved_working_directory_knows_its_new_parent(world) -> None:
    vfs = world.vfs[0]
    world.run(vfs.mkdir("a"))
    world.run(vfs.mkdir("a/b"))
    world.run(vfs.chdir("a/b"))
    assert vfs.cwd == "/a/b"
    root = world.nodes[0].process()
    world.run(root.rename("a/b", "c"))
    assert vfs.cwd == "/c"
    world.make("f", b"x")
    assert world.run(root.stat("c/f")).size == 1
    assert world.run(vfs.stat("../c/f")).size == 1


def test_an_open_file_survives_its_name(world) -> None:
    vfs, other = world.vfs
    world.make("f", b"still here")
    file = world.run(vfs.open("f", O_RDWR))
    world.run(other.unlink("f"))
    assert world.errno(vfs.stat("f")) == "ENOENT"
    assert world.run(vfs.fstat(file)).nlink == 0
    assert bytes(world.run(vfs.read(file, 5))) == b"still"
    assert world.errno(other.stat("f")) == "ENOENT"
    world.run(vfs.close(file))
    assert world.errno(vfs.read(file, 1)) == "EBADF"
    assert not world.nodes[0].snapshot()["open_files"]


def test_an_unlinked_inode_is_forgotten(world) -> None:
    vfs = world.vfs[0]
    for number in range(20):
        world.make(f"f{number}", b"x")
        world.run(vfs.unlink(f"f{number}"))
    assert len(world.nodes[0].llite.inodes.inodes) == 1


def test_large_directories_come_in_many_transfers(world, monkeypatch) -> None:
    monkeypatch.setattr("labsim.nodes.client.mdc.READPAGE_BYTES", 4096)
    vfs, other = world.vfs
    wanted = {f"file-with-a-rather-long-name-{number:04}" for number in range(300)}
    for name in sorted(wanted):
        world.run(vfs.mknod(name, 0o100644))
    names = [name for name, _, _ in world.run(other.readdir("."))]
    assert len(names) == len(set(names)) == 302
    assert wanted < set(names)
    sent = world.rpcs(other.readdir("."), "c1")
    assert "MDS_READPAGE" not in sent


def test_open_modes_and_positions(world) -> None:
    vfs = world.vfs[0]
    file = world.run(vfs.open("f", O_CREAT | 1, 0o600))
    assert world.errno(vfs.read(file, 1)) == "EBADF"
    assert world.run(vfs.write(file, b"hello")) == 5
    assert world.run(vfs.write(file, b"J", 0)) == 1
    assert file.pos == 5
    assert world.run(vfs.lseek(file, -2, 2)) == 3
    assert world.errno(vfs.lseek(file, -9, 1)) == "EINVAL"
    world.run(vfs.write(file, b"LO!"))
    world.run(vfs.close(file))
    assert world.errno(vfs.close(file)) == "EBADF"
    assert world.read("f", client=1) == b"JelLO!"
    appending = world.run(world.vfs[1].open("f", 0o2000 | 1))
    world.run(world.vfs[1].write(appending, b"++"))
    world.run(world.vfs[1].close(appending))
    assert world.read("f") == b"JelLO!++"
    reading = world.run(vfs.open("f"))
    assert world.errno(vfs.write(reading, b"x")) == "EBADF"
    assert world.errno(vfs.ftruncate(reading, 0)) == "EINVAL"
    world.run(vfs.fsync(reading))
    world.run(vfs.close(reading))
    world.make("f", b"cut")
    assert world.read("f", client=1) == b"cut"
    world.run(vfs.truncate("f", 5))
    assert world.read("f", client=1) == b"cut\0\0"


def test_reading_a_directory_as_a_file(world) -> None:
    file = world.run(world.vfs[0].open("/"))
    assert world.errno(world.vfs[0].read(file, 1)) == "EISDIR"
    world.run(world.vfs[0].close(file))


def test_truncating_a_file_without_objects(world) -> None:
    vfs = world.vfs[0]
    world.run(vfs.mknod("f", 0o100644))
    assert world.errno(vfs.lov_getstripe("f")) == "ENODATA"
    assert world.read("f") == b""
    world.run(vfs.truncate("f", 1000))
    assert world.run(world.vfs[1].stat("f")).size == 1000


def test_objects_made_by_another_client_are_noticed(world) -> None:
    vfs, other = world.vfs
    world.run(vfs.mknod("f", 0o100644))
    file = world.run(other.open("f"))
    assert bytes(world.run(other.read(file, 10))) == b""
    assert world.run(other.fstat(file)).size == 0
    world.make("f", b"now there")
    assert bytes(world.run(other.read(file, 10))) == b"now there"
    assert world.run(other.fstat(file)).size == 9
    world.run(other.close(file))

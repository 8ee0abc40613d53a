"""POSIX as two clients of one cluster see it: every call with its errnos, and coherence."""

from __future__ import annotations

import errno
import stat
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labsim.base.units import KIB, NS_PER_S
from labsim.nodes.client.cred import Cred
from labsim.scenario import checkers
from labsim.scenario.cluster import Cluster

from .rig import (
    O_APPEND,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_NOFOLLOW,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    Process,
    fails,
)

XATTR_CREATE, XATTR_REPLACE = 1, 2
ALICE, BOB = Cred(1000, 1000, (1000, 2000)), Cred(1001, 1001, (1001,))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(clients=2, oss=2, osts=4, seed=3, trace_keep=0) as made:
        yield made
        made.run(made.env.timeout(60 * NS_PER_S))
        assert checkers.check([made.run(made.snapshots())]) == []


@pytest.fixture
def home(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """A directory for one test that everybody may write to."""
    root = Process(cluster, 0)
    path = f"/{request.node.name.replace('/', '_')[:100]}"
    root.mkdir(path)
    root.chmod(path, 0o777)
    return path


@pytest.fixture
def a(cluster: Cluster, home: str) -> Process:
    """Root on the first client."""
    process = Process(cluster, 0)
    process.chdir(home)
    return process


@pytest.fixture
def b(cluster: Cluster, home: str) -> Process:
    """Root on the second."""
    process = Process(cluster, 1)
    process.chdir(home)
    return process


@pytest.fixture
def alice(cluster: Cluster, home: str) -> Process:
    process = Process(cluster, 0, ALICE)
    process.chdir(home)
    return process


@pytest.fixture
def bob(cluster: Cluster, home: str) -> Process:
    process = Process(cluster, 1, BOB)
    process.chdir(home)
    return process


# ---- what fails, and how

LONG = "n" * 256
FAR = "/".join("x" for _ in range(2100))


def furnish(root: Process) -> None:
    """What the table of failures is about."""
    root.put("file", b"data")
    root.mkdir("dir")
    root.mkdir("full")
    root.put("full/kept")
    root.symlink("file", "link")
    root.symlink("nowhere", "dangling")
    root.symlink("loop2", "loop1")
    root.symlink("loop1", "loop2")
    root.symlink("full", "dirlink")
    root.mknod("fifo", stat.S_IFIFO | 0o666)


FAILURES: list[tuple[str, tuple[Any, ...], int]] = [
    ("open", ("gone",), errno.ENOENT),
    ("open", ("",), errno.ENOENT),
    ("open", ("gone/file", O_RDWR | O_CREAT), errno.ENOENT),
    ("open", ("file/x",), errno.ENOTDIR),
    ("open", ("file/",), errno.ENOTDIR),
    ("open", ("new/", O_RDWR | O_CREAT), errno.EISDIR),
    ("open", ("file", O_WRONLY | O_CREAT | O_EXCL), errno.EEXIST),
    ("open", ("dangling", O_WRONLY | O_CREAT | O_EXCL), errno.EEXIST),
    ("open", ("link", O_RDONLY | O_NOFOLLOW), errno.ELOOP),
    ("open", ("loop1",), errno.ELOOP),
    ("open", ("dir", O_WRONLY), errno.EISDIR),
    ("open", ("dir", O_RDONLY | O_CREAT), errno.EISDIR),
    ("open", ("dir", O_RDONLY | O_TRUNC), errno.EISDIR),
    ("open", ("file", O_RDONLY | O_DIRECTORY), errno.ENOTDIR),
    ("open", (LONG, O_WRONLY | O_CREAT), errno.ENAMETOOLONG),
    ("open", (FAR,), errno.ENAMETOOLONG),
    ("stat", ("gone",), errno.ENOENT),
    ("stat", ("dangling",), errno.ENOENT),
    ("stat", ("file/..",), errno.ENOTDIR),
    ("stat", ("loop1/x",), errno.ELOOP),
    ("mkdir", ("dir",), errno.EEXIST),
    ("mkdir", ("file",), errno.EEXIST),
    ("mkdir", ("dangling",), errno.EEXIST),
    ("mkdir", ("gone/x",), errno.ENOENT),
    ("mkdir", ("file/x",), errno.ENOTDIR),
    ("mkdir", ("/",), errno.EEXIST),
    ("mkdir", (LONG,), errno.ENAMETOOLONG),
    ("rmdir", ("gone",), errno.ENOENT),
    ("rmdir", ("file",), errno.ENOTDIR),
    ("rmdir", ("dirlink",), errno.ENOTDIR),
    ("rmdir", ("full",), errno.ENOTEMPTY),
    ("rmdir", ("dir/.",), errno.EINVAL),
    ("rmdir", ("dir/..",), errno.ENOTEMPTY),
    ("rmdir", ("/",), errno.EBUSY),
    ("unlink", ("gone",), errno.ENOENT),
    ("unlink", ("dir",), errno.EISDIR),
    ("unlink", ("file/",), errno.ENOTDIR),
    ("unlink", ("file/x",), errno.ENOTDIR),
    ("rename", ("gone", "x"), errno.ENOENT),
    ("rename", ("file", "dir"), errno.EISDIR),
    ("rename", ("dir", "file"), errno.ENOTDIR),
    ("rename", ("dir", "full"), errno.ENOTEMPTY),
    ("rename", ("full", "full/below"), errno.EINVAL),
    ("rename", ("full", "full/gone/x"), errno.ENOENT),
    ("rename", ("full/kept", "full"), errno.ENOTEMPTY),
    ("rename", ("file", "gone/x"), errno.ENOENT),
    ("rename", ("file", "x/"), errno.ENOTDIR),
    ("rename", (".", "x"), errno.EBUSY),
    ("rename", ("file", LONG), errno.ENAMETOOLONG),
    ("link", ("gone", "x"), errno.ENOENT),
    ("link", ("dir", "x"), errno.EPERM),
    ("link", ("file", "dir"), errno.EEXIST),
    ("link", ("file", "file"), errno.EEXIST),
    ("link", ("file", "gone/x"), errno.ENOENT),
    ("symlink", ("x", "file"), errno.EEXIST),
    ("symlink", ("", "x"), errno.ENOENT),
    ("symlink", ("x" * 4096, "x"), errno.ENAMETOOLONG),
    ("readlink", ("file",), errno.EINVAL),
    ("readlink", ("gone",), errno.ENOENT),
    ("readdir", ("file",), errno.ENOTDIR),
    ("readdir", ("gone",), errno.ENOENT),
    ("mknod", ("file", stat.S_IFREG | 0o644), errno.EEXIST),
    ("mknod", ("x", stat.S_IFDIR | 0o755), errno.EPERM),
    ("mknod", ("x", 0o150000), errno.EINVAL),
    ("truncate", ("gone", 0), errno.ENOENT),
    ("truncate", ("dir", 0), errno.EISDIR),
    ("truncate", ("file", -1), errno.EINVAL),
    ("truncate", ("fifo", 0), errno.EINVAL),
    ("chmod", ("gone", 0o644), errno.ENOENT),
    ("chdir", ("file",), errno.ENOTDIR),
    ("getxattr", ("file", "user.none"), errno.ENODATA),
    ("getxattr", ("file", ""), errno.ERANGE),
    ("getxattr", ("file", "user." + LONG), errno.ERANGE),
    ("getxattr", ("file", "user."), errno.EINVAL),
    ("getxattr", ("file", "nonsense"), errno.EOPNOTSUPP),
    ("setxattr", ("file", "user.x", b"v", XATTR_REPLACE), errno.ENODATA),
    ("setxattr", ("file", "user.x", b"v", 8), errno.EINVAL),
    ("setxattr", ("file", "user.x", b"v" * 65537), errno.E2BIG),
    ("setxattr", ("link", "user.x", b"v", 0, False), errno.EPERM),
    ("setxattr", ("fifo", "user.x", b"v"), errno.EPERM),
    ("removexattr", ("file", "user.none"), errno.ENODATA),
    ("setxattr", ("file", "system.posix_acl_default", b"\2\0\0\0" + b"\1\0\7\0" + b"\xff" * 4),
     errno.EINVAL),
]  # fmt: skip


def test_what_fails_and_how(a: Process, b: Process) -> None:
    """Each call on both clients: one has all in its caches, the other asks."""
    furnish(a)
    wrong = []
    for name, args, wanted in FAILURES:
        for process in (a, b, b):
            try:
                getattr(process, name)(*args)
                got = "done"
            except OSError as error:
                got = errno.errorcode[error.errno or 0]
            if got != errno.errorcode[wanted]:
                told = tuple(str(arg)[:20] for arg in args)
                wrong.append(f"{name}{told} on c{process.client}: {got}")
    assert wrong == []
    assert a.get("file") == b"data"
    assert b.names() == sorted(
        ["file", "dir", "full", "link", "dangling", "loop1", "loop2", "dirlink", "fifo"]
    )


def test_calls_on_files_that_are_not_open_so(a: Process) -> None:
    a.put("f", b"abc")
    reader, writer = a.open("f"), a.open("f", O_WRONLY)
    with fails(errno.EBADF):
        a.write(reader, b"x")
    with fails(errno.EBADF):
        a.read(writer, 1)
    with fails(errno.EINVAL):
        a.ftruncate(reader, 0)
    with fails(errno.EINVAL):
        a.lseek(reader, -1)
    with fails(errno.EINVAL):
        a.lseek(reader, 0, 17)
    with fails(errno.EINVAL):
        a.read(reader, 1, -1)
    with fails(errno.EINVAL):
        a.write(writer, b"xy", 2**63 - 2)
    folder = a.open(".", O_RDONLY | O_DIRECTORY)
    with fails(errno.EISDIR):
        a.read(folder, 1)
    for file in (reader, writer, folder):
        a.close(file)
        with fails(errno.EBADF):
            a.close(file)
        with fails(errno.EBADF):
            a.read(file, 1)


# ---- opening


def test_exclusive_creation_has_one_winner(cluster: Cluster, a: Process, b: Process) -> None:
    """Both clients open O_CREAT|O_EXCL at the same moment, a hundred times."""
    env = cluster.env

    def attempt(process: Process, name: str, won: list[str]) -> Any:
        try:
            file = yield from process.vfs.open(name, O_WRONLY | O_CREAT | O_EXCL)
        except Exception as error:
            assert getattr(error, "errno", None) == errno.EEXIST, error
            return
        won.append(name)
        yield from process.vfs.close(file)

    won: list[str] = []
    for number in range(100):
        racers = [env.process(attempt(one, f"f{number}", won)) for one in (a, b)]
        cluster.run(env.all_of(racers))
    assert won == [f"f{number}" for number in range(100)]


def test_append_of_two_clients_at_once(cluster: Cluster, a: Process, b: Process) -> None:
    """No record is lost, torn or doubled, over stripes of 64 KiB."""
    a.setstripe("log", count=4, size=64 * KIB)
    env = cluster.env

    def run(process: Process, letter: bytes) -> Any:
        file = yield from process.vfs.open("log", O_WRONLY | O_APPEND)
        for _ in range(40):
            yield from process.vfs.write(file, letter * 3001)
        yield from process.vfs.close(file)

    cluster.run(env.all_of([env.process(run(a, b"a")), env.process(run(b, b"b"))]))
    data = b.get("log")
    records = [data[at : at + 3001] for at in range(0, len(data), 3001)]
    assert sorted(records) == [b"a" * 3001] * 40 + [b"b" * 3001] * 40
    assert a.stat("log").size == 80 * 3001


def test_truncation_and_append_flags(a: Process, b: Process) -> None:
    a.put("f", b"0123456789")
    file = b.open("f", O_WRONLY | O_APPEND)
    b.lseek(file, 2)
    assert b.write(file, b"ab", 0) == 2, "pwrite of an append file goes to the end, as on Linux"
    b.close(file)
    assert a.get("f") == b"0123456789ab"
    a.close(a.open("f", O_RDWR | O_TRUNC))
    assert (b.stat("f").size, b.get("f")) == (0, b"")


def test_a_link_is_followed_to_create_its_target(a: Process, b: Process) -> None:
    a.symlink("target", "link")
    b.put("link", b"through")
    assert a.get("target") == b"through"
    assert a.readlink("link") == "target"


def test_chains_of_links(a: Process, b: Process) -> None:
    """Forty links may be followed, not one more."""
    a.put("end", b"end")
    a.symlink("end", "l0")
    for number in range(1, 41):
        a.symlink(f"l{number - 1}", f"l{number}")
    assert b.get("l39") == b"end"
    with fails(errno.ELOOP):
        b.get("l40")


# ---- data


def test_holes_and_cuts_over_stripes(a: Process, b: Process) -> None:
    """A file of 4 stripes of 64 KiB, written with holes, cut and grown on alternating clients."""
    a.setstripe("f", count=4, size=64 * KIB)
    model = bytearray()

    def check() -> None:
        for process in (a, b):
            assert process.stat("f").size == len(model)
            assert process.get("f") == bytes(model)

    for number, (offset, length) in enumerate([(0, 10), (300_000, 5), (65_535, 2), (700_001, 99)]):
        process = (a, b)[number % 2]
        file = process.open("f", O_RDWR)
        process.write(file, bytes([65 + number]) * length, offset)
        process.close(file)
        model.extend(bytes(max(0, offset + length - len(model))))
        model[offset : offset + length] = bytes([65 + number]) * length
        check()
    for number, size in enumerate([650_000, 65_536, 65_537, 500_000, 1, 0, 262_144]):
        (a, b)[number % 2].truncate("f", size)
        del model[size:]
        model.extend(bytes(size - len(model)))
        check()


def test_writes_of_two_clients_to_the_same_blocks(cluster: Cluster, a: Process, b: Process) -> None:
    """Neighbouring records within one page from different clients: none spoils another."""
    a.setstripe("f", count=2, size=64 * KIB)
    env = cluster.env

    def run(process: Process, first: int) -> Any:
        file = yield from process.vfs.open("f", O_RDWR)
        for number in range(first, 200, 2):
            yield from process.vfs.write(file, b"%07d\n" % number, number * 700)
        yield from process.vfs.close(file)

    cluster.run(env.all_of([env.process(run(a, 0)), env.process(run(b, 1))]))
    for process in (a, b):
        data = process.get("f")
        assert [data[n * 700 : n * 700 + 8] for n in range(200)] == [
            b"%07d\n" % n for n in range(200)
        ]


def test_a_full_ost_says_so() -> None:
    with Cluster(clients=1, oss=1, osts=1, capacity=64 * 1024 * KIB, trace_keep=0) as cluster:
        a = Process(cluster, 0)
        file = a.open("big", O_RDWR | O_CREAT)
        written = 0
        with fails(errno.ENOSPC):
            while written < 128 * 1024 * KIB:
                written += a.write(file, bytes(1024 * KIB), written)
        assert written > 30 * 1024 * KIB
        assert len(a.read(file, 1024 * KIB, written - 1024 * KIB)) == 1024 * KIB
        a.close(file)
        a.unlink("big")
        cluster.run(cluster.env.timeout(30 * NS_PER_S))
        a.put("next", bytes(8 * 1024 * KIB))
        assert a.stat("next").size == 8 * 1024 * KIB


# ---- names


def test_links_and_their_count(a: Process, b: Process) -> None:
    a.put("f", b"1")
    for number in range(10):
        (a, b)[number % 2].link("f", f"l{number}")
        assert a.stat("f").nlink == b.stat(f"l{number}").nlink == number + 2
    b.put("l3", b"through a link")
    assert a.get("f") == b"through a link"
    for number in range(10):
        (b, a)[number % 2].unlink(f"l{number}")
    assert a.stat("f").nlink == b.stat("f").nlink == 1


def test_links_of_directories(a: Process, b: Process) -> None:
    a.mkdir("d")
    for name in ("d/x", "d/y", "d/y/z"):
        b.mkdir(name)
    assert (a.stat("d").nlink, a.stat("d/y").nlink) == (4, 3)
    b.rename("d/y/z", "d/z")
    assert (a.stat("d").nlink, a.stat("d/y").nlink) == (5, 2)
    b.rmdir("d/z")
    assert a.stat("d").nlink == b.stat("d").nlink == 4


def test_rename_over_what_is_there(a: Process, b: Process) -> None:
    a.put("one", b"1")
    a.put("two", b"2")
    number = a.stat("one").ino
    b.rename("one", "two")
    assert (a.names(), a.get("two"), a.stat("two").ino) == (["two"], b"1", number)
    a.mkdir("d1")
    a.put("d1/f", b"in")
    a.mkdir("d2")
    b.rename("d1", "d2")
    assert (a.names(), b.get("d2/f"), a.get("d2/f")) == (["d2", "two"], b"in", b"in")


def test_rename_of_one_file_to_another_of_its_names_does_nothing(a: Process, b: Process) -> None:
    a.put("one", b"1")
    a.link("one", "two")
    b.rename("one", "two")
    assert a.names() == ["one", "two"]


def test_directories_that_would_swallow_one_another(
    cluster: Cluster, a: Process, b: Process
) -> None:
    """c0 moves x into y while c1 moves y into x: one of them must fail, or both are lost."""
    env = cluster.env

    def move(process: Process, old: str, new: str, failed: list[int]) -> Any:
        try:
            yield from process.vfs.rename(old, new)
        except Exception as error:
            failed.append(error.errno)

    for number in range(20):
        x, y = f"x{number}", f"y{number}"
        a.mkdir(x)
        b.mkdir(y)
        failed: list[int] = []
        cluster.run(env.all_of([
            env.process(move(a, x, f"{y}/{x}", failed)),
            env.process(move(b, y, f"{x}/{y}", failed)),
        ]))  # fmt: skip
        assert failed in ([errno.EINVAL], [errno.ENOENT], [errno.ENOTEMPTY])
        names = [name for name in a.names() if name in (x, y)]
        assert len(names) == 1
        assert a.names(names[0]) == b.names(names[0]) != []


def test_many_entries(cluster: Cluster, a: Process, b: Process) -> None:
    """3000 names in several pages: each once, in the order of their hashes, on both clients."""
    a.mkdir("big")

    def fill() -> Any:
        for number in range(3000):
            yield from a.vfs.mknod(f"big/a-rather-long-name-of-a-file-{number:05d}", 0o100644)

    cluster.run(fill())
    entries = b.readdir("big")
    names = [name for name, _, _ in entries]
    assert len(names) == 3002
    assert set(names) == {".", ".."} | {
        f"a-rather-long-name-of-a-file-{n:05d}" for n in range(3000)
    }
    assert a.readdir("big") == entries
    mdt = cluster.node("mds0").machine.node.targets[0]
    hashes = [mdt.mdd.name_hash(name.encode()) for name in names if name not in (".", "..")]
    assert hashes == sorted(hashes)
    numbers = {name: number for name, _, number in entries}
    name = names[1234]
    assert b.stat(f"big/{name}").ino == numbers[name]
    with fails(errno.ENOTEMPTY):
        b.rmdir("big")
    for name in names[2:2002]:
        b.unlink(f"big/{name}")
    assert len(a.names("big")) == 1000


# ---- files without a name


def test_a_file_lives_until_its_last_close(cluster: Cluster, a: Process, b: Process) -> None:
    mdt = cluster.node("mds0").machine.node.targets[0]
    a.put("f", b"still here")
    one, two = a.open("f", O_RDWR), b.open("f", O_RDONLY)
    b.unlink("f")
    assert a.names() == b.names() == []
    assert a.fstat(one).nlink == b.fstat(two).nlink == 0
    a.write(one, b"more", 10)
    assert b.read(two, 100) == b"still heremore"
    assert len(mdt.snapshot()["orphans"]) == 1
    b.close(two)
    assert a.read(one, 100, 0) == b"still heremore"
    a.close(one)
    assert mdt.snapshot()["orphans"] == []


def test_a_replaced_file_lives_on_too(cluster: Cluster, a: Process, b: Process) -> None:
    a.put("old", b"old")
    a.put("new", b"new")
    file = b.open("old")
    a.rename("new", "old")
    assert b.read(file, 10) == b"old"
    assert b.get("old") == b"new"
    b.close(file)
    assert cluster.node("mds0").machine.node.targets[0].snapshot()["orphans"] == []


def test_orphans_of_a_client_that_dies_go_with_it() -> None:
    with Cluster(clients=2, oss=1, osts=2, trace_keep=0) as cluster:
        a, b = Process(cluster, 0), Process(cluster, 1)
        a.put("f", bytes(100_000))
        fid = str(a.stat("f").fid)
        held = a.open("f")
        b.unlink("f")
        mdt = cluster.node("mds0").machine.node.targets[0]
        assert mdt.snapshot()["orphans"] == [fid]
        assert held
        cluster.run(cluster.client(0).kill())
        b.put("g", b"life goes on")
        cluster.run(cluster.client(0).start())
        cluster.run(cluster.env.timeout(600 * NS_PER_S))
        assert b.get("g") == b"life goes on"
        seen = cluster.run(cluster.snapshots())
        assert seen["mds0"]["targets"][0]["orphans"] == []
        assert checkers.check([seen]) == []


# ---- permissions


def test_who_may_do_what(a: Process, alice: Process, bob: Process) -> None:
    alice.put("f", b"mine", 0o640)
    alice.mkdir("d", 0o700)
    alice.put("d/inside", b"x")
    assert a.stat("f").mode == 0o100640
    assert (a.stat("f").uid, a.stat("f").gid) == (1000, 1000)
    attempts: list[tuple[Callable[..., Any], tuple[Any, ...], int]] = [
        (bob.open, ("f",), errno.EACCES),
        (bob.open, ("f", O_WRONLY), errno.EACCES),
        (bob.truncate, ("f", 0), errno.EACCES),
        (bob.chmod, ("f", 0o777), errno.EPERM),
        (bob.chown, ("f", 1001), errno.EPERM),
        (alice.chown, ("f", 1001), errno.EPERM),
        (alice.chown, ("f", -1, 3000), errno.EPERM),
        (bob.utimens, ("f", 0, 0), errno.EPERM),
        (bob.utimens, ("f", -1, -1), errno.EACCES),
        (bob.stat, ("d/inside",), errno.EACCES),
        (bob.readdir, ("d",), errno.EACCES),
        (bob.mkdir, ("d/x",), errno.EACCES),
        (bob.unlink, ("d/inside",), errno.EACCES),
        (bob.rename, ("f", "d/f"), errno.EACCES),
        (bob.link, ("f", "d/f"), errno.EACCES),
        (bob.symlink, ("f", "d/f"), errno.EACCES),
        (bob.chdir, ("d",), errno.EACCES),
        (bob.setxattr, ("f", "user.x", b"1"), errno.EACCES),
        (bob.getxattr, ("f", "user.x"), errno.EACCES),
        (bob.setxattr, ("f", "trusted.x", b"1"), errno.EPERM),
        (bob.getxattr, ("f", "trusted.x"), errno.ENODATA),
        (bob.mknod, ("dev", stat.S_IFCHR | 0o666, 0x103), errno.EPERM),
    ]
    for call, args, wanted in attempts:
        with fails(wanted):
            call(*args)
    alice.chown("f", -1, 2000)
    assert a.stat("f").gid == 2000
    a.chmod("d", 0o711)
    assert bob.stat("d/inside").size == 1
    with fails(errno.EACCES):
        bob.readdir("d")
    a.chmod("d", 0o000)
    with fails(errno.EACCES):
        alice.get("d/inside")
    assert a.get("d/inside") == b"x"


def test_a_mode_counts_from_the_next_open_on(a: Process, alice: Process, bob: Process) -> None:
    alice.put("f", b"shared", 0o666)
    a.chmod("f", 0o666)
    file = bob.open("f", O_RDWR)
    alice.chmod("f", 0o600)
    assert bob.read(file, 6) == b"shared"
    bob.write(file, b"S", 0)
    bob.ftruncate(file, 3)
    bob.close(file)
    with fails(errno.EACCES):
        bob.open("f")
    assert alice.get("f") == b"Sha"


def test_who_makes_a_file_may_write_it_whatever_its_mode(alice: Process) -> None:
    file = alice.open("f", O_RDWR | O_CREAT, 0o400)
    alice.write(file, b"written")
    alice.ftruncate(file, 5)
    alice.close(file)
    assert alice.get("f") == b"writt"
    with fails(errno.EACCES):
        alice.open("f", O_WRONLY)


def test_sticky_directories(a: Process, alice: Process, bob: Process) -> None:
    a.mkdir("tmp")
    a.chmod("tmp", 0o1777)
    alice.put("tmp/hers", b"", 0o666)
    with fails(errno.EPERM):
        bob.unlink("tmp/hers")
    with fails(errno.EPERM):
        bob.rename("tmp/hers", "tmp/his")
    bob.put("tmp/his")
    with fails(errno.EPERM):
        bob.rename("tmp/his", "tmp/hers")
    a.chown("tmp", 1001)
    bob.unlink("tmp/hers")
    assert a.names("tmp") == ["his"]


def test_setgid_directories(a: Process, alice: Process) -> None:
    a.mkdir("group")
    a.chown("group", 0, 2000)
    a.chmod("group", 0o2777)
    alice.put("group/f")
    alice.mkdir("group/d")
    alice.put("group/d/g")
    assert [a.stat(f"group/{name}").gid for name in ("f", "d", "d/g")] == [2000] * 3
    assert a.stat("group/d").mode & stat.S_ISGID
    assert not a.stat("group/f").mode & stat.S_ISGID


def test_set_id_bits_go_with_a_change(a: Process, alice: Process) -> None:
    def fresh() -> None:
        a.put("f", b"program")
        a.chown("f", 1000, 1000)
        a.chmod("f", 0o6777)

    def mode() -> int:
        found: int = a.stat("f").mode & 0o7777
        return found

    fresh()
    file = alice.open("f", O_WRONLY)
    alice.write(file, b"x")
    alice.close(file)
    assert mode() == 0o777
    fresh()
    alice.truncate("f", 0)
    assert mode() == 0o777
    fresh()
    alice.chown("f", -1, 2000)
    assert mode() == 0o777
    fresh()
    a.truncate("f", 1)
    assert mode() == 0o6777, "root keeps them"


def test_umask(cluster: Cluster, home: str) -> None:
    process = Process(cluster, 0, Cred(0, 0, (), 0o027))
    process.chdir(home)
    process.put("f", b"", 0o666)
    process.mkdir("d", 0o777)
    process.mknod("p", stat.S_IFIFO | 0o666)
    modes = [process.stat(name).mode & 0o777 for name in ("f", "d", "p")]
    assert modes == [0o640, 0o750, 0o640]


# ---- extended attributes


def test_sizes_of_xattrs(a: Process, b: Process) -> None:
    """Size 0 asks for the length; a buffer too small is ERANGE, on either client."""
    a.put("f")
    a.setxattr("f", "user.a", b"12345")
    a.setxattr("f", "user.bc", b"")
    for process in (a, b):
        assert process.getxattr("f", "user.a", 0) == 5
        assert process.getxattr("f", "user.a", 5) == b"12345"
        assert process.getxattr("f", "user.bc") == b""
        assert process.getxattr("f", "user.bc", 0) == 0
        with fails(errno.ERANGE):
            process.getxattr("f", "user.a", 4)
        names = process.listxattr("f")
        user = sorted(name for name in names.split(b"\0") if name.startswith(b"user."))
        assert user == [b"user.a", b"user.bc"]
        assert process.listxattr("f", 0) == len(names)
        assert process.listxattr("f", len(names)) == names
        with fails(errno.ERANGE):
            process.listxattr("f", len(names) - 1)


def test_flags_of_setxattr(a: Process, b: Process) -> None:
    a.put("f")
    with fails(errno.ENODATA):
        b.setxattr("f", "user.x", b"1", XATTR_REPLACE)
    a.setxattr("f", "user.x", b"1", XATTR_CREATE)
    with fails(errno.EEXIST):
        b.setxattr("f", "user.x", b"2", XATTR_CREATE)
    b.setxattr("f", "user.x", b"2", XATTR_REPLACE)
    assert a.getxattr("f", "user.x") == b"2"
    a.removexattr("f", "user.x")
    with fails(errno.ENODATA):
        b.removexattr("f", "user.x")
    with fails(errno.ENODATA):
        b.getxattr("f", "user.x")


def test_xattrs_are_coherent(a: Process, b: Process) -> None:
    a.mkdir("d")
    for number in range(20):
        value = b"%d" % number
        (a, b)[number % 2].setxattr("d", "user.x", value)
        assert a.getxattr("d", "user.x") == b.getxattr("d", "user.x") == value
    big = bytes(range(256)) * 12
    a.setxattr("d", "trusted.big", big)
    assert b.getxattr("d", "trusted.big") == big
    assert b.getxattr("d", "trusted.big", 0) == len(big)


USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def acl(*entries: tuple[int, int, int]) -> bytes:
    """A POSIX ACL as the xattr has it: (tag, permissions, id)."""
    packed = [struct.pack("<HHI", *entry) for entry in entries]
    return struct.pack("<I", 2) + b"".join(packed)


NOBODY = 0xFFFFFFFF
FOR_BOB = acl(
    (USER_OBJ, 6, NOBODY), (USER, 4, 1001), (GROUP_OBJ, 0, NOBODY), (MASK, 4, NOBODY),
    (OTHER, 0, NOBODY),
)  # fmt: skip


def test_an_acl_lets_somebody_in(a: Process, alice: Process, bob: Process) -> None:
    alice.put("f", b"secret", 0o600)
    with fails(errno.EACCES):
        bob.get("f")
    alice.setxattr("f", ACCESS, FOR_BOB)
    assert bob.get("f") == b"secret"
    with fails(errno.EACCES):
        bob.open("f", O_WRONLY)
    assert a.stat("f").mode & 0o777 == 0o640, "the mask is what the group bits show"
    alice.chmod("f", 0o600)
    with fails(errno.EACCES):
        bob.get("f")
    assert alice.getxattr("f", ACCESS) == acl(
        (USER_OBJ, 6, NOBODY), (USER, 4, 1001), (GROUP_OBJ, 0, NOBODY), (MASK, 0, NOBODY),
        (OTHER, 0, NOBODY),
    )  # fmt: skip
    alice.removexattr("f", ACCESS)
    with fails(errno.ENODATA):
        bob.getxattr("f", ACCESS)


def test_an_acl_that_a_mode_can_say_is_no_acl(a: Process, b: Process) -> None:
    a.put("f", b"", 0o644)
    a.setxattr("f", ACCESS, acl((USER_OBJ, 7, NOBODY), (GROUP_OBJ, 5, NOBODY), (OTHER, 1, NOBODY)))
    assert b.stat("f").mode & 0o777 == 0o751
    with fails(errno.ENODATA):
        b.getxattr("f", ACCESS)
    with fails(errno.EINVAL):
        a.setxattr("f", ACCESS, acl((USER_OBJ, 7, NOBODY)))


def test_a_default_acl_is_inherited(a: Process, alice: Process, bob: Process) -> None:
    a.mkdir("d", 0o755)
    a.chmod("d", 0o777)
    a.setxattr("d", DEFAULT, FOR_BOB)
    alice.put("d/f", b"x", 0o666)
    alice.mkdir("d/sub", 0o777)
    assert a.stat("d/f").mode & 0o777 == 0o640
    assert bob.get("d/f") == b"x"
    assert a.getxattr("d/sub", DEFAULT) == FOR_BOB
    a.removexattr("d", DEFAULT)
    alice.put("d/g", b"x", 0o640)
    with fails(errno.EACCES):
        bob.get("d/g")


# ---- coherence


def test_names_and_attributes_are_coherent(a: Process, b: Process) -> None:
    """What one client does the other sees at once, also where it had cached the opposite."""
    with fails(errno.ENOENT):
        b.stat("f")
    a.put("f", b"1")
    assert b.stat("f").size == 1
    a.chmod("f", 0o600)
    a.chown("f", 5, 6)
    a.utimens("f", 7 * NS_PER_S, 8 * NS_PER_S)
    seen = b.stat("f")
    assert (seen.mode, seen.uid, seen.gid, seen.atime, seen.mtime) == (0o100600, 5, 6, 7, 8)
    assert b.names() == ["f"]
    b.rename("f", "g")
    with fails(errno.ENOENT):
        a.stat("f")
    assert a.names() == ["g"]
    a.unlink("g")
    with fails(errno.ENOENT):
        b.open("g")
    assert b.names() == []
    b.mkdir("f")
    assert stat.S_ISDIR(a.stat("f").mode)


def test_data_is_coherent(a: Process, b: Process) -> None:
    a.setstripe("f", count=3, size=64 * KIB)
    one, two = a.open("f", O_RDWR), b.open("f", O_RDWR)
    for number in range(30):
        writer, reader = ((a, one), (b, two))[:: 1 if number % 2 else -1]
        data = bytes([number]) * 1000
        writer[0].write(writer[1], data, number * 20_000)
        assert reader[0].read(reader[1], 1000, number * 20_000) == data
        assert reader[0].fstat(reader[1]).size == number * 20_000 + 1000
    a.close(one)
    b.close(two)


def test_a_directory_moved_away_under_a_process(a: Process, b: Process) -> None:
    a.mkdir("here")
    a.mkdir("there")
    a.put("here/f", b"f")
    b.chdir("here")
    a.rename("here", "there/here")
    assert b.get("f") == b"f"
    b.put("g", b"g")
    assert a.names("there/here") == ["f", "g"]


def test_a_directory_removed_under_a_process(a: Process, b: Process) -> None:
    a.mkdir("d")
    b.chdir("d")
    a.rmdir("d")
    with fails(errno.ENOENT):
        b.put("f")
    with fails(errno.ENOENT):
        b.mkdir("sub")


def test_statfs_sees_what_is_used(cluster: Cluster, a: Process, b: Process) -> None:
    cluster.run(cluster.env.timeout(60 * NS_PER_S))
    before = b.statfs(".")
    a.setstripe("big", count=4)
    file = a.open("big", O_RDWR)
    a.write(file, bytes(8 * 1024 * KIB))
    a.fsync(file)
    a.close(file)
    cluster.run(cluster.env.timeout(10 * NS_PER_S))
    after = b.statfs(".")
    used = (before.bfree - after.bfree) * before.bsize
    assert 8 * 1024 * KIB <= used < 9 * 1024 * KIB
    assert before.blocks == after.blocks
    assert after.files >= after.ffree > 0

"""System calls that lock files: fcntl, flock, group locks, and when their locks go."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from labsim.nodes.client.flock import (
    F_GETLK,
    F_RDLCK,
    F_SETLK,
    F_SETLKW,
    F_UNLCK,
    F_WRLCK,
    Told,
)
from labsim.nodes.client.vfs_locks import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN

from .world import World

RDWR, RDONLY, WRONLY = 2, 0, 1


@pytest.fixture(params=["flock", "localflock"])
def one(request: pytest.FixtureRequest) -> Iterator[World]:
    """One client; its processes lock alike, whoever keeps the locks."""
    world = World(1, 1, mount_options=(request.param,))
    world.make("f")
    yield world
    world.close()


@pytest.fixture
def two() -> Iterator[World]:
    world = World(2, 1, mount_options=("flock",))
    world.make("f")
    yield world
    world.close()


def test_ranges_of_two_processes(one: World) -> None:
    mine, its = one.vfs[0], one.nodes[0].process()
    a, b = one.run(mine.open("f", RDWR)), one.run(its.open("f", RDWR))
    one.run(mine.fcntl(a, F_SETLK, F_WRLCK, 10, 10))
    assert one.errno(its.fcntl(b, F_SETLK, F_RDLCK, 0, 0)) == "EAGAIN"
    assert one.run(its.fcntl(b, F_GETLK, F_RDLCK)) == Told(F_WRLCK, 10, 10, mine.pid)
    assert one.run(mine.fcntl(a, F_GETLK, F_RDLCK)) == Told(F_UNLCK)
    one.run(its.fcntl(b, F_SETLK, F_WRLCK, 10, -10))
    one.run(mine.fcntl(a, F_SETLK, F_WRLCK, 20, 0))
    assert one.run(its.fcntl(b, F_GETLK, F_RDLCK, 20)) == Told(F_WRLCK, 10, 0, mine.pid)


def test_closing_any_descriptor_takes_the_fcntl_locks_of_the_process(one: World) -> None:
    mine, its = one.vfs[0], one.nodes[0].process()
    a, again, b = (one.run(p.open("f", RDWR)) for p in (mine, mine, its))
    one.run(mine.fcntl(a, F_SETLK, F_WRLCK))
    one.run(mine.close(again))
    one.run(its.fcntl(b, F_SETLK, F_WRLCK))
    one.run(mine.close(a))
    assert one.errno(mine.fcntl(a, F_SETLK, F_UNLCK)) == "EBADF"
    one.run(its.close(b))


def test_flock_is_of_the_open_file(one: World) -> None:
    vfs = one.vfs[0]
    a, b = one.run(vfs.open("f", RDONLY)), one.run(vfs.open("f", RDONLY))
    one.run(vfs.flock(a, LOCK_EX))
    assert one.errno(vfs.flock(b, LOCK_SH | LOCK_NB)) == "EAGAIN"
    one.run(vfs.flock(a, LOCK_SH))
    one.run(vfs.flock(b, LOCK_SH | LOCK_NB))
    one.run(vfs.flock(a, LOCK_UN))
    one.run(vfs.flock(b, LOCK_EX | LOCK_NB))
    one.run(vfs.close(b))
    one.run(vfs.flock(a, LOCK_EX | LOCK_NB))


def test_who_waits_goes_on_when_the_file_is_closed(one: World) -> None:
    mine, its = one.vfs[0], one.nodes[0].process()
    a, b = one.run(mine.open("f", RDWR)), one.run(its.open("f", RDWR))
    one.run(mine.fcntl(a, F_SETLK, F_WRLCK, 0, 5))
    waiting = one.env.process(its.fcntl(b, F_SETLKW, F_WRLCK, 4, 5))
    one.settle()
    assert not waiting.triggered
    one.run(mine.close(a))
    one.settle()
    assert waiting.triggered


def test_what_makes_no_sense_is_refused(one: World) -> None:
    vfs = one.vfs[0]
    reader, writer = one.run(vfs.open("f", RDONLY)), one.run(vfs.open("f", WRONLY))
    assert one.errno(vfs.fcntl(reader, F_SETLK, F_WRLCK)) == "EBADF"
    assert one.errno(vfs.fcntl(writer, F_SETLK, F_RDLCK)) == "EBADF"
    one.run(vfs.fcntl(reader, F_SETLK, F_UNLCK))
    for start, length in ((-1, 0), (2, -3), (2**63, 1), (2**63 - 1, 2)):
        assert one.errno(vfs.fcntl(writer, F_SETLK, F_WRLCK, start, length)) == "EINVAL"
    assert one.errno(vfs.fcntl(writer, 99, F_WRLCK)) == "EINVAL"
    assert one.errno(vfs.fcntl(writer, F_GETLK, F_UNLCK)) == "EINVAL"
    assert one.errno(vfs.flock(writer, LOCK_SH | LOCK_EX)) == "EINVAL"


def test_an_unmount_leaves_no_lock_behind(two: World) -> None:
    a = two.run(two.vfs[0].open("f", RDWR))
    two.run(two.vfs[0].fcntl(a, F_SETLK, F_WRLCK))
    two.cluster.run(two.cluster.node("c0").stop())
    b = two.run(two.vfs[1].open("f", RDWR))
    two.run(two.vfs[1].fcntl(b, F_SETLK, F_WRLCK))
    two.run(two.vfs[1].close(b))
    assert not [
        lock for lock in two.cluster.node("mds0").machine.node.targets[0].ldlm.snapshot()
        if lock["kind"] == 12
    ]  # fmt: skip


def test_a_restarted_server_hears_of_file_locks_again(two: World) -> None:
    a, b = (two.run(vfs.open("f", RDWR)) for vfs in two.vfs)
    two.run(two.vfs[0].fcntl(a, F_SETLK, F_WRLCK, 0, 10))
    two.run(two.vfs[0].fcntl(a, F_SETLK, F_UNLCK, 3, 2))
    waiting = two.env.process(two.vfs[1].fcntl(b, F_SETLKW, F_WRLCK, 0, 1))
    two.settle()
    mds = two.cluster.node("mds0")
    two.run(mds.kill())
    two.run(mds.start())
    two.run(two.vfs[0].stat("f"))
    two.run(two.vfs[1].fcntl(b, F_SETLK, F_WRLCK, 3, 2))
    assert two.errno(two.vfs[1].fcntl(b, F_SETLK, F_WRLCK, 9, 1)) == "EAGAIN"
    assert not waiting.triggered
    two.run(two.vfs[0].close(a))
    two.settle()
    assert waiting.triggered
    two.run(two.vfs[1].close(b))


@pytest.mark.parametrize("seed", [3, 7])
def test_any_calls_across_restarts_leave_what_single_bytes_say(seed: int) -> None:
    """Three clients lock and unlock at random; now and then the MDS loses its power."""
    rng = Random(seed)
    world = World(3, 1, mount_options=("flock",))
    world.make("f")
    files = [world.run(vfs.open("f", RDWR)) for vfs in world.vfs]
    truth: list[dict[int, int]] = [{} for _ in range(12)]
    for _ in range(50):
        who, first = rng.randrange(3), rng.randrange(12)
        last, kind = rng.randrange(first, 12), rng.choice([F_RDLCK, F_WRLCK, F_UNLCK, F_UNLCK])
        if rng.random() < 0.08:
            world.run(world.cluster.node("mds0").kill())
            world.run(world.cluster.node("mds0").start())
        part = truth[first : last + 1]
        others = [mode for one in part for owner, mode in one.items() if owner != who]
        refused = (kind == F_WRLCK and others) or (kind == F_RDLCK and F_WRLCK in others)
        call = world.vfs[who].fcntl(files[who], F_SETLK, kind, first, last - first + 1)
        if refused:
            assert world.errno(call) == "EAGAIN"
            continue
        world.run(call)
        for one in part:
            one.pop(who, None)
            if kind != F_UNLCK:
                one[who] = kind
    world.cluster.run(world.env.timeout(10**10))
    served = world.cluster.node("mds0").machine.node.targets[0].ldlm.snapshot()
    for node in world.nodes:
        mine = [lock for lock in node.mdcs[0].ldlm.snapshot() if lock["kind"] == 12]
        its = [one for one in served if one["owner"] == node.uuid and one["kind"] == 12]
        assert sorted((one["mode"], one["policy"]) for one in mine) == sorted(
            (one["mode"], one["policy"]) for one in its
        )
    world.close()

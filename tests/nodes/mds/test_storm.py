"""Many clients do everything at once; afterwards names, links, objects and locks agree."""

from __future__ import annotations

import errno
import stat
from random import Random
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.ids import ROOT_FID, Fid
from labsim.net.rules import Rule
from labsim.nodes.mds import layout
from labsim.wire.constants import DISP_OPEN_OPEN, IT_GETATTR, MDS_ATTR_MODE

from .rig import CREATE, RawClient, World

NAMES = ("a", "b", "c", "d")
EXPECTED = frozenset(
    {
        errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EINVAL,
        errno.EPERM, errno.ESTALE, errno.EBUSY, errno.EIO,
    }
)  # fmt: skip


def work(client: RawClient, rng: Random, folders: list[Fid], count: int, pace_ns: int = 0) -> Any:
    """One client's part: random operations on few names in few directories."""
    opened: list[int] = []
    for _ in range(count):
        name, folder = rng.choice(NAMES), rng.choice(folders)
        other, target = rng.choice(NAMES), rng.choice(folders)
        operation = rng.randrange(11)
        if pace_ns:
            yield client.host.env.timeout(rng.randrange(pace_ns))
        try:
            if operation in (0, 1):
                found = yield from client.open(name, CREATE, parent=folder)
                if found.has(DISP_OPEN_OPEN):
                    opened.append(found.body.open_handle)
            elif operation == 2:
                folders.append((yield from client.mkdir(name, parent=folder)))
            elif operation == 3:
                yield from client.unlink(name, folder)
            elif operation == 4:
                yield from client.unlink(name, folder, folder=True)
            elif operation in (5, 6):
                yield from client.rename(name, other, folder, target)
            elif operation == 7:
                found = yield from client.look(name, folder)
                if found.lock is not None:
                    yield from client.link(found.body.fid1, other, target)
            elif operation == 8:
                found = yield from client.look(name, folder, IT_GETATTR)
                if found.lock is not None:
                    yield from client.setattr(found.body.fid1, MDS_ATTR_MODE, mode=0o755)
            elif operation == 9:
                yield from client.readdir(folder)
            elif opened:
                yield from client.close(opened.pop(rng.randrange(len(opened))))
        except LustreError as error:
            if error.errno not in EXPECTED:
                raise
    for handle in opened:
        try:
            yield from client.close(handle)
        except LustreError as error:
            assert error.errno in (errno.ESTALE, errno.EIO)


def check_namespace(world: World) -> None:
    """Every object has as many names as it counts, and every name an object."""
    mdt = world.mdt
    names: dict[Fid, list[tuple[Fid, bytes]]] = {}
    folders: dict[Fid, int] = {}
    pending = [ROOT_FID]
    while pending:
        folder = pending.pop()
        folders[folder] = 0
        for entry in mdt.mdd.entries(folder, 0):
            if entry.name in (b".", b".."):
                continue
            attrs = mdt.osd.attrs(entry.fid)
            assert stat.S_IFMT(attrs.mode) == entry.type
            names.setdefault(entry.fid, []).append((folder, entry.name))
            if stat.S_ISDIR(attrs.mode):
                folders[folder] += 1
                assert mdt.mdd.parent(entry.fid) == folder
                pending.append(entry.fid)
    for fid, places in names.items():
        assert sorted(places) == sorted(mdt.mdd.links(fid)), fid
        if fid not in folders:
            assert mdt.osd.attrs(fid).nlink == len(places)
    for fid, below in folders.items():
        assert mdt.osd.attrs(fid).nlink == 2 + below
    kept = {fid for fid in mdt.osd.objects() if fid.seq >= 0x200000400}
    assert kept == set(names)
    assert mdt.mdd.orphans() == []


def check_objects(world: World) -> None:
    """Every object on an OST belongs to one file, waits for one, or is about to go."""
    mdt = world.mdt
    owned: dict[int, set[int]] = {index: set() for index in mdt.osps}
    for fid in mdt.osd.objects():
        for stripe in mdt.lod.stripes(fid) if stat.S_ISREG(mdt.osd.attrs(fid).mode) else []:
            assert stripe.oid not in owned[stripe.ost]
            owned[stripe.ost].add(stripe.oid)
    for name in ("oss0", "oss1"):
        for target in world.node(name).targets:
            snapshot = target.snapshot()
            osp = mdt.osps[snapshot["index"]]
            there = {int(one) & 0xFFFFFFFF for one in snapshot["objects"]}
            assert there == owned[osp.index] | set(osp.free)
            assert not osp.reserved


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lossy", [False, True])
def test_a_storm(seed: int, lossy: bool) -> None:
    world = World(4, osts=2, oss=2, seed=seed)
    world.mdt.host.params.set("lod.*.stripecount", "-1")
    folders = [ROOT_FID]
    if lossy:
        for name in world.cluster.nodes:
            world.run(world.cluster.node(name).install(Rule(name="lossy", kind=1, rate=0.01)))
    jobs = [
        world.env.process(work(world.node(f"c{number}"), Random(seed * 10 + number), folders, 80))
        for number in range(4)
    ]
    for job in jobs:
        world.run(job)
    for name in world.cluster.nodes if lossy else ():
        world.run(world.cluster.node(name).remove(""))
    world.later(400 * 10**9)
    assert len(world.mdt.opens) == 0
    check_namespace(world)
    check_objects(world)
    for number in range(4):
        world.run(world.node(f"c{number}").imp.disconnect())
    assert world.mdt.ldlm.lock_count == 0, "no lock is left behind"
    world.cluster.close()


def test_what_a_crash_leaves_is_whole() -> None:
    world = World(3, osts=2, oss=2, seed=7)
    folders = [ROOT_FID]
    for number in range(3):
        steps = work(world.node(f"c{number}"), Random(number), folders, 400, 50_000_000)
        world.env.process(quietly(steps))
    world.later(7 * 10**9)
    durable, done = world.mdt.last_committed, world.mdt.last_transno
    assert durable < done
    world.power_cycle("mds0")
    world.later(700 * 10**9)
    assert world.mdt.last_transno >> 32 == (done >> 32) + 1
    for number in range(3):  # these clients do not learn of the new handles of what they replay
        world.run(world.node(f"c{number}").imp.disconnect())
    world.later(100 * 10**9)
    assert len(world.mdt.opens) == 0
    check_namespace(world)
    check_objects(world)
    for fid in world.mdt.osd.objects():
        if stat.S_ISREG(world.mdt.osd.attrs(fid).mode) and world.mdt.ea(fid):
            assert layout.parse(world.mdt.ea(fid))[1]
    world.cluster.close()


def quietly(steps: Any) -> Any:
    """Let a client's work end early when its server is gone."""
    try:
        yield from steps
    except LustreError as error:
        assert error.errno in (errno.EIO, errno.ETIMEDOUT, errno.ENOTCONN, errno.ESHUTDOWN)

"""Opens: creating, what may be opened how, handles, layouts, orphans."""

from __future__ import annotations

import errno
import stat
from typing import Any

import pytest

from labsim.base.ids import ROOT_FID, Fid
from labsim.net.ptlrpc import Request
from labsim.nodes.mds import layout, objects, points
from labsim.nodes.mds.layout import Wanted
from labsim.wire.constants import (
    DISP_LOOKUP_NEG,
    DISP_LOOKUP_POS,
    DISP_OPEN_CREATE,
    DISP_OPEN_LOCK,
    DISP_OPEN_OPEN,
    ELDLM_LOCK_ABORTED,
    IT_GETATTR,
    LCK_CR,
    LCK_PR,
    MDS_ATTR_ATIME,
    MDS_ATTR_MODE,
    MDS_ATTR_SIZE,
    MDS_FMODE_EXEC,
    MDS_FMODE_READ,
    MDS_FMODE_WRITE,
    MDS_INODELOCK_LAYOUT,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_OPEN,
    MDS_INODELOCK_PERM,
    MDS_INODELOCK_UPDATE,
    MDS_OPEN_APPEND,
    MDS_OPEN_BY_FID,
    MDS_OPEN_CREAT,
    MDS_OPEN_DELAY_CREATE,
    MDS_OPEN_DIRECTORY,
    MDS_OPEN_EXCL,
    MDS_OPEN_LOCK,
    OBD_MD_FLDIREA,
    OBD_MD_FLEASIZE,
    OBD_MD_FLSIZE,
)
from labsim.wire.opcodes import MDS_SYNC

from .rig import CREATE, World

CACHED = MDS_INODELOCK_LOOKUP | MDS_INODELOCK_UPDATE | MDS_INODELOCK_PERM | MDS_INODELOCK_LAYOUT


def stripes_of(answer: Any) -> list[layout.Stripe]:
    return layout.parse(bytes(answer.reply["mdt_md"]))[1]


def objects_on_osts(world: World) -> dict[int, set[int]]:
    """Object ids on each OST that were not merely made in advance."""
    found = {}
    for name in ("oss0", "oss1"):
        if name in world.cluster.nodes:
            for target in world.node(name).targets:
                snapshot = target.snapshot()
                free = set(world.mdt.osps[snapshot["index"]].free)
                ids = {int(one) & 0xFFFFFFFF for one in snapshot["objects"]}
                found[snapshot["index"]] = ids - free
    return found


def test_creating_by_open(world: World) -> None:
    made = world.run(world.c0.open("f", CREATE))
    assert made.has(DISP_OPEN_CREATE | DISP_OPEN_OPEN | DISP_LOOKUP_NEG)
    assert made.body.open_handle
    assert made.body.mode == stat.S_IFREG | 0o644
    assert made.reply.body.transno
    assert (made.bits, made.lock.mode) == (CACHED, LCK_PR)
    assert not made.body.valid & OBD_MD_FLSIZE, "the objects know the size"
    assert made.body.valid & OBD_MD_FLEASIZE
    again = world.run(world.c0.open("f", CREATE))
    assert again.body.fid1 == made.body.fid1
    assert again.has(DISP_OPEN_OPEN | DISP_LOOKUP_POS)
    assert not again.has(DISP_OPEN_CREATE)
    assert again.body.open_handle != made.body.open_handle


def test_opens_that_fail(world: World) -> None:
    folder = world.run(world.c0.mkdir("d"))
    fid = world.run(world.c0.create("f"))

    def status(name: str, flags: int, **more: Any) -> int:
        answer = world.run(world.c0.open(name, flags, **more))
        assert answer.lock is None
        assert answer.reply.status == ELDLM_LOCK_ABORTED
        assert answer.reply.body.transno == 0
        assert not answer.has(DISP_OPEN_OPEN)
        return answer.status

    assert status("x", MDS_FMODE_READ) == 0, "an absent name is told by the disposition"
    assert world.run(world.c0.open("x", MDS_FMODE_READ)).has(DISP_LOOKUP_NEG)
    assert status("f", CREATE | MDS_OPEN_EXCL) == errno.EEXIST
    assert status("d", MDS_FMODE_WRITE) == errno.EISDIR
    assert status("d", MDS_FMODE_READ | MDS_OPEN_CREAT) == errno.EISDIR
    assert status("f", MDS_FMODE_READ | MDS_OPEN_DIRECTORY) == errno.ENOTDIR
    assert status("x", CREATE, parent=fid) == errno.ENOTDIR
    assert status("x", CREATE, parent=Fid(0x200000401, 99)) == errno.ENOENT
    assert status("n" * 256, CREATE) == errno.ENAMETOOLONG
    gone = MDS_FMODE_READ | MDS_OPEN_BY_FID
    assert status("", gone, fid=Fid(0x200000401, 99)) in (0, errno.ENOENT)
    assert len(world.mdt.opens) == 0
    assert world.run(world.c0.open("d", MDS_FMODE_READ | MDS_OPEN_DIRECTORY)).body.fid1 == folder


def test_permissions(world: World) -> None:
    world.run(world.c0.create("f", stat.S_IFREG | 0o640))
    folder = world.run(world.c0.mkdir("d", 0o777))
    world.c0.uid = world.c0.gid = 5

    def status(name: str, flags: int, parent: Fid = ROOT_FID, perm: int = 0o644) -> int:
        return world.run(world.c0.open(name, flags, perm, parent)).status

    assert status("f", MDS_FMODE_READ) == errno.EACCES
    assert status("x", CREATE) == errno.EACCES
    assert status("mine", CREATE, folder, 0o400) == 0, "who makes it may write it"
    assert status("mine", MDS_FMODE_WRITE, folder) == errno.EACCES
    assert status("mine", MDS_FMODE_READ, folder) == 0
    assert status("mine", MDS_FMODE_EXEC, folder) == errno.EACCES


def test_symlinks_and_devices_are_not_opened(world: World) -> None:
    world.run(world.c0.create("s", stat.S_IFLNK | 0o777, target="x"))
    world.run(world.c0.create("p", stat.S_IFIFO | 0o666))
    for name in ("s", "p"):
        found = world.run(world.c0.open(name, MDS_FMODE_READ))
        assert found.status == 0
        assert found.has(DISP_LOOKUP_POS)
        assert not found.has(DISP_OPEN_OPEN)
    assert len(world.mdt.opens) == 0


def test_append_only_files(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    world.run(world.c0.setattr(fid, 0x400, attr_flags=0x20))
    assert world.run(world.c0.open("f", MDS_FMODE_WRITE)).status == errno.EPERM
    assert world.run(world.c0.open("f", MDS_FMODE_WRITE | MDS_OPEN_APPEND)).status == 0


def test_an_open_lock(world: World) -> None:
    world.run(world.c0.open("f", CREATE))
    found = world.run(world.c0.open("f", MDS_FMODE_READ | MDS_OPEN_LOCK))
    assert found.has(DISP_OPEN_LOCK)
    assert found.bits == MDS_INODELOCK_OPEN | MDS_INODELOCK_LOOKUP | MDS_INODELOCK_LAYOUT
    assert found.lock.mode == LCK_CR


def test_without_layout_there_is_no_lock(world: World) -> None:
    world.run(world.c0.create("f"))
    found = world.run(world.c0.open("f", MDS_FMODE_READ))
    assert (found.status, found.lock) == (0, None)
    assert found.has(DISP_OPEN_OPEN)
    assert found.body.valid & OBD_MD_FLSIZE


def test_open_by_fid(world: World) -> None:
    made = world.run(world.c0.open("f", CREATE))
    found = world.run(world.c0.open("", MDS_FMODE_READ | MDS_OPEN_BY_FID, fid=made.body.fid1))
    assert found.body.fid1 == made.body.fid1
    assert found.has(DISP_OPEN_OPEN | DISP_LOOKUP_POS)


# ---- handles


def test_closing(world: World) -> None:
    made = world.run(world.c0.open("f", CREATE))
    world.run(world.c0.close(made.body.open_handle, valid=MDS_ATTR_ATIME, atime=1 << 32))
    body = world.run(world.c0.getattr(made.body.fid1))["mdt_body"]
    assert body.atime == 1 << 32
    again = world.run(world.c0.close(made.body.open_handle))
    assert (again.body.status, again.body.transno) == (0, 0), "nobody is told that it was closed"


def test_a_handle_is_good_for_its_client_only(two: World) -> None:
    made = two.run(two.c0.open("f", CREATE))
    assert two.run(two.c1.close(made.body.open_handle)).body.transno == 0
    assert len(two.mdt.opens) == 1
    assert two.run(two.c0.close(made.body.open_handle)).body.transno


def test_an_open_whose_reply_is_lost_is_one_open(world: World) -> None:
    world.fault(points.MDS_LDLM_REPLY_NET)
    made = world.run(world.c0.open("f", CREATE))
    assert made.has(DISP_OPEN_CREATE)
    assert [file.handle for file in world.mdt.opens] == [made.body.open_handle]
    assert world.mdt.ldlm.lock_count == 1


def test_a_close_whose_reply_is_lost(world: World) -> None:
    made = world.run(world.c0.open("f", CREATE))
    world.fault(points.MDS_CLOSE_NET_REP)
    world.run(world.c0.close(made.body.open_handle))
    assert len(world.mdt.opens) == 0


# ---- orphans


def test_an_open_file_outlives_its_name(world: World) -> None:
    made = world.run(world.c0.open("f", CREATE))
    fid = made.body.fid1
    assert world.run(world.c0.unlink("f"))["mdt_body"].nlink == 0
    assert world.run(world.c0.getattr(fid))["mdt_body"].nlink == 0
    assert world.mdt.mdd.orphans() == [fid]
    stripe = stripes_of(made)[0]
    world.run(world.c0.close(made.body.open_handle))
    assert world.mdt.mdd.orphans() == []
    assert not world.mdt.osd.exists(fid)
    world.later(20 * 10**9)
    assert stripe.oid not in objects_on_osts(world)[stripe.ost]


def test_the_last_of_two_openers_ends_it(two: World) -> None:
    one, other = two.run(two.c0.open("f", CREATE)), two.run(two.c1.open("f"))
    two.run(two.c0.unlink("f"))
    two.run(two.c0.close(one.body.open_handle))
    assert two.mdt.osd.exists(one.body.fid1)
    two.run(two.c1.close(other.body.open_handle))
    assert not two.mdt.osd.exists(one.body.fid1)


def test_rename_over_an_open_file(world: World) -> None:
    made = world.run(world.c0.open("f", CREATE))
    world.run(world.c0.create("g"))
    world.run(world.c0.rename("g", "f"))
    assert world.mdt.mdd.orphans() == [made.body.fid1]
    world.run(world.c0.close(made.body.open_handle))
    assert world.mdt.mdd.orphans() == []


@pytest.mark.parametrize("how", ["disconnect", "evict"])
def test_an_orphan_ends_with_its_client(two: World, how: str) -> None:
    made = two.run(two.c0.open("f", CREATE))
    two.run(two.c1.unlink("f"))
    if how == "disconnect":
        two.run(two.c0.imp.disconnect())
    else:
        two.mdt.host.params.set("mdt.*.evict_client", "c0-uuid")
        two.later(10**9)
    assert not two.mdt.osd.exists(made.body.fid1)
    assert len(two.mdt.opens) == 0


def test_an_orphan_ends_with_the_server(world: World) -> None:
    made = world.run(world.c0.open("f", CREATE))
    world.run(world.c0.unlink("f"))
    world.cluster.run(world.cluster.node("mds0").stop())
    world.cluster.run(world.cluster.node("mds0").start())
    assert world.mdt.osd.exists(made.body.fid1), "its client may come back and open it again"
    world.later(60 * 10**9)
    assert not world.mdt.osd.exists(made.body.fid1)
    assert world.mdt.mdd.orphans() == []


# ---- layouts


def test_files_go_round_robin_over_the_osts(two: World) -> None:
    firsts = [stripes_of(two.run(two.c0.open(f"f{number}", CREATE)))[0].ost for number in range(6)]
    assert sorted(firsts) == [0, 0, 1, 1, 2, 2]
    assert firsts[:3] == firsts[3:]


def test_a_layout_that_was_asked_for(two: World) -> None:
    asked = layout.pack_default(Wanted(count=2, size=1 << 16, offset=2))
    made = two.run(two.c0.open("f", CREATE, eadata=asked))
    size, stripes = layout.parse(bytes(made.reply["mdt_md"]))
    assert (size, [one.ost for one in stripes]) == (1 << 16, [2, 0])
    with_layout = two.run(two.c0.open("f", MDS_FMODE_WRITE, eadata=asked))
    assert with_layout.status == errno.EEXIST
    wrong = layout.pack_default(Wanted(offset=9))
    assert two.run(two.c0.open("g", CREATE, eadata=wrong)).status == errno.EINVAL
    assert two.run(two.c0.look("g")).has(DISP_LOOKUP_NEG)


def test_all_stripes(two: World) -> None:
    asked = layout.pack_default(Wanted(count=0xFFFF))
    made = two.run(two.c0.open("f", CREATE, eadata=asked))
    assert sorted(one.ost for one in stripes_of(made)) == [0, 1, 2]


def test_a_directorys_default_is_inherited(two: World) -> None:
    folder = two.run(two.c0.mkdir("d"))
    two.run(two.c0.setattr(folder, 0, layout.pack_user(folder, Wanted(3, 1 << 17))))
    below = two.run(two.c0.mkdir("e", parent=folder))
    made = two.run(two.c0.open("f", CREATE, parent=below))
    size, stripes = layout.parse(bytes(made.reply["mdt_md"]))
    assert (size, len(stripes)) == (1 << 17, 3)
    told = two.run(two.c0.getattr(folder, OBD_MD_FLDIREA, 4096))
    assert told["mdt_body"].valid & OBD_MD_FLDIREA
    assert layout.parse_default(bytes(told["mdt_md"])).size == 1 << 17
    two.run(two.c0.setattr(folder, 0, layout.pack_user(folder, Wanted())))
    assert "mdt_md" not in two.run(two.c0.getattr(folder, OBD_MD_FLDIREA, 4096)).fields


def test_the_roots_default(two: World) -> None:
    told = two.run(two.c0.getattr(ROOT_FID, OBD_MD_FLDIREA, 4096))
    assert layout.parse_user(bytes(told["mdt_md"]), 3) == Wanted(1, 1 << 20)
    two.run(two.c0.setattr(ROOT_FID, 0, layout.pack_user(ROOT_FID, Wanted(2))))
    two.run(two.c0.mkdir("d"))
    folder = two.run(two.c0.look("d")).body.fid1
    assert len(stripes_of(two.run(two.c0.open("f", CREATE, parent=folder)))) == 2
    assert two.mdt.mdd.get(folder, "trusted.lov") is None


def test_defaults_by_parameter(two: World) -> None:
    params = two.mdt.host.params
    params.set("lod.*.stripecount", "-1")
    params.set("lod.*.stripesize", "131072")
    made = two.run(two.c0.open("f", CREATE))
    size, stripes = layout.parse(bytes(made.reply["mdt_md"]))
    assert (size, len(stripes)) == (1 << 17, 3)


def test_a_file_gets_its_objects_when_it_is_first_written(two: World) -> None:
    late = CREATE | MDS_OPEN_DELAY_CREATE
    made = two.run(two.c0.open("f", late))
    assert not made.body.valid & OBD_MD_FLEASIZE
    two.run(two.c1.look("f", operation=IT_GETATTR))
    found = two.run(two.c0.open("f", MDS_FMODE_WRITE))
    assert found.body.valid & OBD_MD_FLEASIZE
    assert len(stripes_of(found)) == 1
    assert two.c1.called_back, "who held the layout lock gave it back"


def test_a_size_from_before_the_objects(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    world.run(world.c0.setattr(fid, MDS_ATTR_SIZE, size=3_000_000))
    assert world.run(world.c0.getattr(fid))["mdt_body"].size == 3_000_000
    asked = layout.pack_default(Wanted(count=1, size=1 << 20))
    made = world.run(world.c0.open("f", MDS_FMODE_WRITE, eadata=asked))
    stripe = stripes_of(made)[0]
    ost = world.node("oss0").targets[stripe.ost].snapshot()
    assert ost["objects"][str(stripe.oid)] == 3_000_000


def test_the_layout_intent(world: World) -> None:
    made = world.run(world.c0.open("f", CREATE))
    found = world.run(world.c0.layout(made.body.fid1))
    assert found.bits == MDS_INODELOCK_LAYOUT
    assert bytes(found.reply["dlm_lvb"]) == bytes(made.reply["mdt_md"])


# ---- objects


def test_objects_go_with_their_file(world: World) -> None:
    made = world.run(world.c0.open("f", CREATE))
    world.run(world.c0.close(made.body.open_handle))
    stripe = stripes_of(made)[0]
    assert stripe.oid in objects_on_osts(world)[stripe.ost]
    world.run(world.c0.unlink("f"))
    world.later(20 * 10**9)
    assert stripe.oid not in objects_on_osts(world)[stripe.ost]


def test_no_object_is_used_twice(two: World) -> None:
    params = two.mdt.host.params
    params.set("lod.*.stripecount", "-1")
    seen = set()
    for number in range(200):
        made = two.run(two.c0.open(f"f{number}", CREATE))
        two.run(two.c0.close(made.body.open_handle))
        for stripe in stripes_of(made):
            assert stripe not in seen
            seen.add(stripe)
    two.later(10**9)
    assert objects_on_osts(two) == {
        ost: {stripe.oid for stripe in seen if stripe.ost == ost} for ost in range(3)
    }


def test_batches_grow_with_the_demand(world: World) -> None:
    osp = world.mdt.osps[0]
    taken = [world.env.process(osp.reserve()) for _ in range(100)]
    oids = [world.run(one) for one in taken]
    assert sorted(oids) == list(range(oids[0], oids[0] + 100))
    assert osp.create_count > 32
    for oid in reversed(oids):
        osp.give_back(oid)
    assert world.run(osp.reserve()) == oids[0]


def test_after_a_crash_of_the_mds_no_object_is_lost_or_shared(two: World) -> None:
    params = two.mdt.host.params
    params.set("lod.*.stripecount", "-1")
    kept = two.run(two.c0.open("kept", CREATE))
    two.later(6 * 10**9)
    lost = two.run(two.c0.open("lost", CREATE))
    two.power_cycle("mds0")
    two.mdt.abort_recovery()
    two.later(60 * 10**9)
    assert two.mdt.mdd.find(ROOT_FID, b"kept")
    assert not two.mdt.mdd.find(ROOT_FID, b"lost")
    new = two.run(two.c1.open("new", CREATE))
    assert not set(stripes_of(new)) & set(stripes_of(kept))
    assert not set(stripes_of(new)) & set(stripes_of(lost)), "ids are not used again"
    two.later(10**9)
    assert objects_on_osts(two) == {
        ost: {one.oid for one in (*stripes_of(kept), *stripes_of(new)) if one.ost == ost}
        for ost in range(3)
    }


def test_objects_of_an_unlink_that_crashed_before_the_ost_heard(world: World) -> None:
    made = world.run(world.c0.open("f", CREATE))
    world.run(world.c0.close(made.body.open_handle))
    stripe = stripes_of(made)[0]
    world.later(6 * 10**9)
    world.cluster.run(world.cluster.node("oss0").stop())
    world.run(world.c0.unlink("f"))
    world.later(8 * 10**9)
    world.power_cycle("mds0")
    world.cluster.run(world.cluster.node("oss0").start())
    world.later(120 * 10**9)
    assert stripe.oid not in objects_on_osts(world)[stripe.ost]
    assert world.mdt.osps[0].snapshot()["doomed"] == []


def test_an_ost_that_crashes_has_all_objects_of_all_files_afterwards(world: World) -> None:
    gone, kept = world.run(world.c0.open("f", CREATE)), world.run(world.c0.open("g", CREATE))
    world.run(world.c0.close(gone.body.open_handle))
    world.run(world.c0.unlink("f"))
    world.run(world.c0.imp.call(Request(MDS_SYNC, mdt_body=world.c0.body())))
    world.later(10**8)
    world.power_cycle("oss0")
    world.later(200 * 10**9)
    new = world.run(world.c0.open("h", CREATE))
    assert stripes_of(new)[0] not in (stripes_of(gone)[0], stripes_of(kept)[0])
    world.later(200 * 10**9)
    assert objects_on_osts(world)[0] == {stripes_of(kept)[0].oid, stripes_of(new)[0].oid}
    assert world.mdt.osps[0].snapshot()["doomed"] == []


def test_files_are_made_while_an_ost_is_away(two: World) -> None:
    two.cluster.run(two.cluster.node("oss0").stop())
    two.later(300 * 10**9)
    with_all = layout.pack_default(Wanted(count=0xFFFF))
    made = two.run(two.c0.open("f", CREATE, eadata=with_all))
    assert made.status in (0, errno.ETIMEDOUT)


def test_a_full_ost(world: World) -> None:
    osp = world.mdt.osps[0]
    world.later(10**9)
    world.mdt.host.params.set("osp.*.max_create_count", "0")
    assert world.run(world.c0.open("f", CREATE)).status == errno.ENOSPC
    assert world.run(world.c0.look("f")).has(DISP_LOOKUP_NEG)
    assert world.run(world.c0.open("g", MDS_FMODE_READ | MDS_OPEN_CREAT)).status == 0
    assert osp.free
    world.mdt.host.params.set("osp.*.max_create_count", "20000")
    assert world.run(world.c0.open("f", CREATE)).status == 0


def test_modes_asked_for_are_not_forgotten(world: World) -> None:
    made = world.run(world.c0.open("f", CREATE, perm=0o4751))
    world.run(world.c0.setattr(made.body.fid1, MDS_ATTR_MODE, mode=0o600))
    assert world.run(world.c0.getattr(made.body.fid1))["mdt_body"].mode == stat.S_IFREG | 0o600


def test_what_is_executed_is_not_written_to(two: World) -> None:
    made = two.run(two.c0.open("f", CREATE, perm=0o755))
    assert two.run(two.c1.open("f", MDS_FMODE_EXEC)).status == errno.ETXTBSY
    two.run(two.c0.close(made.body.open_handle))
    runs = [two.run(client.open("f", MDS_FMODE_EXEC)) for client in (two.c0, two.c1)]
    refused = two.run(two.c0.open("f", MDS_FMODE_WRITE))
    assert refused.status == errno.ETXTBSY
    assert not refused.has(DISP_OPEN_OPEN)
    assert two.run(two.c0.open("f", MDS_FMODE_READ)).status == 0
    for client, one in zip((two.c0, two.c1), runs, strict=True):
        two.run(client.close(one.body.open_handle))
    assert two.run(two.c0.open("f", MDS_FMODE_WRITE)).status == 0


def test_what_is_not_for_clients(world: World) -> None:
    c, place = world.c0, {"parent": objects.ORPHANS}
    for call in (c.unlink("x", **place), c.create("x", **place), c.mkdir("x", **place)):
        with world.fails(errno.EPERM):
            world.run(call)
    assert world.run(c.open("x", CREATE, **place)).status == errno.EPERM
    for length, number in ((4095, 0), (4096, errno.ENAMETOOLONG)):
        asked = c.create(f"s{length}", stat.S_IFLNK | 0o777, target="x" * length)
        if number:
            with world.fails(number):
                world.run(asked)
        else:
            world.run(asked)

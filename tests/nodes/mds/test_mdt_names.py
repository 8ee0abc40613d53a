"""Names: create, look up, link, unlink, rename, read directories."""

from __future__ import annotations

import errno
import stat
from typing import Any

import pytest

from labsim.base.ids import ROOT_FID, Fid
from labsim.net.ptlrpc import Request
from labsim.nodes.mds import points
from labsim.wire.constants import (
    DISP_LOOKUP_EXECD,
    DISP_LOOKUP_NEG,
    DISP_LOOKUP_POS,
    ELDLM_LOCK_ABORTED,
    IT_GETATTR,
    LCK_CR,
    MDS_INODELOCK_LAYOUT,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_PERM,
    MDS_INODELOCK_UPDATE,
    OBD_MD_LINKNAME,
)
from labsim.wire.ldlm import LdlmRequest
from labsim.wire.opcodes import (
    MDS_GET_ROOT,
    MDS_GETATTR_NAME,
    MDS_STATFS,
    MDS_SYNC,
)

from .rig import World


def call(world: World, opcode: int, **fields: Any) -> Any:
    return world.run(world.c0.imp.call(Request(opcode, **fields)))


def test_the_root(world: World) -> None:
    assert call(world, MDS_GET_ROOT, mdt_body=world.c0.body())["mdt_body"].fid1 == ROOT_FID
    with world.fails(errno.ENOENT):
        call(world, MDS_GET_ROOT, mdt_body=world.c0.body(), name="/sub")
    body = world.run(world.c0.getattr(ROOT_FID))["mdt_body"]
    assert (body.mode, body.nlink, body.size) == (stat.S_IFDIR | 0o755, 2, 4096)


def test_what_the_mdt_grants(two: World) -> None:
    data = two.c0.imp.connect_data
    assert (data.ibits_known, data.maxmodrpcs, data.brw_size) == (0x3F, 8, 1 << 20)
    assert data.max_easize == 65536
    starts = [two.c0.range.start, two.c1.range.start]
    assert sorted(starts) == [0x200000401, 0x200000402]
    assert two.c0.range.end == two.c0.range.start + 1


def test_statfs_and_sync(world: World) -> None:
    told = call(world, MDS_STATFS)["obd_statfs"]
    assert told.bsize == 4096
    assert 0 < told.ffree < told.files
    world.run(world.c0.mkdir("d"))
    assert world.mdt.last_committed < world.mdt.last_transno
    call(world, MDS_SYNC, mdt_body=world.c0.body())
    assert world.mdt.last_committed == world.mdt.last_transno


def test_made_names_can_be_looked_up(world: World) -> None:
    fid = world.run(world.c0.mkdir("d", 0o700))
    found = world.run(world.c0.look("d"))
    assert found.body.fid1 == fid
    assert found.disposition == 1 | DISP_LOOKUP_EXECD | DISP_LOOKUP_POS
    assert found.bits == MDS_INODELOCK_LOOKUP | MDS_INODELOCK_PERM
    assert found.lock.resource[1] == fid.oid
    assert world.run(world.c0.look("d", operation=IT_GETATTR)).bits & MDS_INODELOCK_UPDATE


def test_the_lock_of_a_lookup(world: World) -> None:
    world.run(world.c0.create("f"))
    assert world.run(world.c0.look("f")).bits & MDS_INODELOCK_LAYOUT
    world.later(20 * 10**9)
    late = world.run(world.c0.look("f"))
    assert late.bits & MDS_INODELOCK_UPDATE, "nobody has changed it for long"


def test_absent_names(world: World) -> None:
    found = world.run(world.c0.look("nothing"))
    assert found.lock is None
    assert found.has(DISP_LOOKUP_NEG)
    assert (found.status, found.reply.status) == (0, ELDLM_LOCK_ABORTED)
    gone = world.run(world.c0.look("x", Fid(0x200000401, 77)))
    assert gone.status in (0, errno.ENOENT)
    fid = world.run(world.c0.create("f"))
    assert world.run(world.c0.look("x", fid)).status == errno.ENOTDIR
    assert world.run(world.c0.look("x" * 256)).status == errno.ENAMETOOLONG


def test_getattr_by_name_needs_no_lock_of_the_clients(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    body = call(world, MDS_GETATTR_NAME, mdt_body=world.c0.body(fid1=ROOT_FID), name="f")
    assert body["mdt_body"].fid1 == fid
    with world.fails(errno.ENOENT):
        call(world, MDS_GETATTR_NAME, mdt_body=world.c0.body(fid1=ROOT_FID), name="g")


@pytest.mark.parametrize(
    ("kind", "more"),
    [(stat.S_IFREG, {}), (stat.S_IFIFO, {}), (stat.S_IFSOCK, {}), (stat.S_IFCHR, {"rdev": 0x103})],
)
def test_mknod(world: World, kind: int, more: dict[str, int]) -> None:
    fid = world.run(world.c0.create("f", kind | 0o666, umask=0o027, **more))
    body = world.run(world.c0.getattr(fid))["mdt_body"]
    assert (body.mode, body.rdev) == (kind | 0o640, more.get("rdev", 0))


def test_symlinks(world: World) -> None:
    fid = world.run(world.c0.create("s", stat.S_IFLNK | 0o777, target="../ä"))
    reply = world.run(world.c0.getattr(fid, OBD_MD_LINKNAME, 4096))
    assert bytes(reply["mdt_md"]) == "../ä".encode() + b"\0"
    assert reply["mdt_body"].eadatasize == 6
    assert reply["mdt_body"].size == 5


def test_mkdir_fails_like_linux(world: World) -> None:
    world.run(world.c0.mkdir("d"))
    fid = world.run(world.c0.create("f"))
    with world.fails(errno.EEXIST):
        world.run(world.c0.mkdir("d"))
    with world.fails(errno.ENOTDIR):
        world.run(world.c0.mkdir("d", parent=fid))
    with world.fails(errno.ENAMETOOLONG):
        world.run(world.c0.mkdir("n" * 256))
    with world.fails(errno.ENOENT):
        world.run(world.c0.mkdir("d", parent=Fid(0x200000401, 999)))
    world.c0.uid = 7
    with world.fails(errno.EACCES):
        world.run(world.c0.mkdir("e"))
    snapshot = world.mdt.snapshot()
    assert snapshot["last_transno"] >= snapshot["last_committed"]


def test_replies_to_failures_have_no_transno(world: World) -> None:
    world.run(world.c0.mkdir("d"))
    with pytest.raises(Exception) as error:
        world.run(world.c0.mkdir("d"))
    assert error.value.reply.body.transno == 0


def test_hard_links(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    world.run(world.c0.link(fid, "g"))
    assert world.run(world.c0.getattr(fid))["mdt_body"].nlink == 2
    body = world.run(world.c0.unlink("f"))["mdt_body"]
    assert (body.fid1, body.nlink) == (fid, 1)
    assert world.run(world.c0.unlink("g"))["mdt_body"].nlink == 0
    with world.fails(errno.ENOENT):
        world.run(world.c0.getattr(fid))


def test_links_that_cannot_be(world: World) -> None:
    folder = world.run(world.c0.mkdir("d"))
    fid = world.run(world.c0.create("f"))
    with world.fails(errno.EPERM):
        world.run(world.c0.link(folder, "e"))
    with world.fails(errno.EEXIST):
        world.run(world.c0.link(fid, "d"))
    with world.fails(errno.ENOENT):
        world.run(world.c0.link(Fid(0x200000401, 999), "e"))
    with world.fails(errno.EPERM):
        world.run(world.c0.link(ROOT_FID, "e"))


def test_rmdir_and_unlink(world: World) -> None:
    folder = world.run(world.c0.mkdir("d"))
    world.run(world.c0.create("f", parent=folder))
    with world.fails(errno.ENOTEMPTY):
        world.run(world.c0.unlink("d", folder=True))
    with world.fails(errno.EISDIR):
        world.run(world.c0.unlink("d"))
    with world.fails(errno.ENOTDIR):
        world.run(world.c0.unlink("f", folder, folder=True))
    with world.fails(errno.ENOENT):
        world.run(world.c0.unlink("g"))
    world.run(world.c0.unlink("f", folder))
    world.run(world.c0.unlink("d", folder=True))
    assert world.run(world.c0.getattr(ROOT_FID))["mdt_body"].nlink == 2


def test_rename(world: World) -> None:
    one, two = world.run(world.c0.mkdir("1")), world.run(world.c0.mkdir("2"))
    fid = world.run(world.c0.create("f", parent=one))
    other = world.run(world.c0.create("g", parent=two))
    world.run(world.c0.rename("f", "f2", one, one))
    body = world.run(world.c0.rename("f2", "g", one, two))["mdt_body"]
    assert (body.fid1, body.nlink) == (other, 0)
    assert world.run(world.c0.look("g", two)).body.fid1 == fid
    assert world.run(world.c0.look("f2", one)).has(DISP_LOOKUP_NEG)
    world.run(world.c0.link(fid, "h", two))
    world.run(world.c0.rename("g", "h", two, two))
    assert sorted(world.run(world.c0.readdir(two))) == [".", "..", "g", "h"], "one file: no change"


def test_renames_make_no_loops(world: World) -> None:
    one = world.run(world.c0.mkdir("1"))
    below = world.run(world.c0.mkdir("2", parent=one))
    with world.fails(errno.EINVAL):
        world.run(world.c0.rename("1", "x", ROOT_FID, below))
    with world.fails(errno.EINVAL):
        world.run(world.c0.rename("1", "x", ROOT_FID, one))
    world.run(world.c0.mkdir("3", parent=below))
    with world.fails(errno.ENOTEMPTY):
        world.run(world.c0.rename("3", "1", below, ROOT_FID))
    world.run(world.c0.rename("2", "2", one, ROOT_FID))
    entries = world.run(world.c0.readdir(below))
    assert entries[".."].fid == ROOT_FID


def test_rename_onto_the_wrong_kind(world: World) -> None:
    world.run(world.c0.mkdir("d"))
    world.run(world.c0.create("f"))
    with world.fails(errno.EISDIR):
        world.run(world.c0.rename("f", "d"))
    with world.fails(errno.ENOTDIR):
        world.run(world.c0.rename("d", "f"))
    with world.fails(errno.ENOENT):
        world.run(world.c0.rename("x", "f"))


@pytest.mark.parametrize("pages", [1, 3])
def test_reading_a_long_directory(world: World, pages: int) -> None:
    folder = world.run(world.c0.mkdir("d"))
    names = [f"file-{number:03}" for number in range(150)]
    for name in names:
        world.run(world.c0.create(name, parent=folder))
    found = world.run(world.c0.readdir(folder, pages))
    assert set(found) == {".", "..", *names}
    assert list(found)[:2] == [".", ".."]
    assert found["."].fid == folder
    assert stat.S_ISDIR(found[".."].type)
    assert all(stat.S_ISREG(found[name].type) for name in names)
    hashes = [entry.hash for entry in found.values()]
    assert hashes == sorted(hashes)


def test_readdir_needs_a_directory_that_may_be_read(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    hidden = world.run(world.c0.mkdir("d", 0o700))
    with world.fails(errno.ENOTDIR):
        world.run(world.c0.readdir(fid))
    world.c0.uid = 5
    with world.fails(errno.EACCES):
        world.run(world.c0.readdir(hidden))


# ---- coherence


def test_a_change_calls_back_who_cached_the_directory(two: World) -> None:
    two.run(two.c0.cache_attributes(ROOT_FID))
    two.run(two.c1.mkdir("d"))
    assert (ROOT_FID.oid, MDS_INODELOCK_UPDATE) in two.c0.called_back


def test_unlink_calls_back_who_looked_it_up(two: World) -> None:
    fid = two.run(two.c0.create("f"))
    two.run(two.c0.look("f"))
    two.run(two.c1.unlink("f"))
    assert [oid for oid, _ in two.c0.called_back] == [fid.oid]


def test_lookups_disturb_nobody(two: World) -> None:
    two.run(two.c0.create("f"))
    two.run(two.c0.cache_attributes(ROOT_FID))
    two.run(two.c0.look("f", operation=IT_GETATTR))
    two.run(two.c1.look("f", operation=IT_GETATTR))
    two.run(two.c1.look("g"))
    assert two.c0.called_back == []


def test_different_names_do_not_wait_for_one_another(two: World) -> None:
    two.fault(points.MDS_PDO_LOCK, reaction="delay", value=10**9)
    start = two.env.now
    slow = two.env.process(two.c0.mkdir("slow"))
    two.run(two.c1.mkdir("fast"))
    assert two.env.now - start < 10**8
    two.run(slow)
    assert two.env.now - start > 10**9


def test_locks_given_back_early_are_not_called_back(world: World) -> None:
    fid = world.run(world.c0.mkdir("d"))
    lock, _ = world.run(world.c0.enqueue(fid, LCK_CR, MDS_INODELOCK_LOOKUP))
    early = LdlmRequest(lock_count=1, lock_handle=(lock.server_handle, 0))
    before = world.mdt.ldlm.lock_count
    world.run(world.c0.unlink("d", folder=True, dlm_req=early))
    world.later(10**9)
    assert world.mdt.ldlm.lock_count == before - 1
    assert world.c0.called_back == []


# ---- faults


def test_a_lost_reply_is_given_again(world: World) -> None:
    world.fault(points.MDS_REINT_NET_REP)
    fid = world.run(world.c0.mkdir("d"))
    assert world.run(world.c0.look("d")).body.fid1 == fid
    assert world.mdt.md_stats.count("mkdir") == 1


@pytest.mark.parametrize(
    ("point", "number"),
    [(points.MDS_REINT_CREATE, errno.ESTALE), (points.MDS_REINT_UNPACK, errno.EFAULT)],
)
def test_faults_that_fail(world: World, point: Any, number: int) -> None:
    world.fault(point)
    with world.fails(number):
        world.run(world.c0.mkdir("d"))
    world.run(world.c0.mkdir("d"))


def test_the_points_have_their_own_numbers() -> None:
    rows = [row for row in vars(points).values() if isinstance(row, points.Point)]
    assert len({row.number for row in rows}) == len(rows) > 30

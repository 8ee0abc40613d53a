"""Attributes and extended attributes: who may, what is told, whose caches are called back."""

from __future__ import annotations

import errno
import stat

import pytest

from labsim.base.ids import ROOT_FID, Fid
from labsim.nodes.mds import acl as acls
from labsim.nodes.mds import layout, points
from labsim.nodes.mds.acl import GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Entry
from labsim.wire.constants import (
    DISP_LOOKUP_POS,
    IT_GETATTR,
    LCK_PR,
    MDS_ATTR_ATIME,
    MDS_ATTR_CTIME,
    MDS_ATTR_FORCE,
    MDS_ATTR_GID,
    MDS_ATTR_KILL_SUID,
    MDS_ATTR_MODE,
    MDS_ATTR_MTIME,
    MDS_ATTR_SIZE,
    MDS_ATTR_UID,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_PERM,
    MDS_INODELOCK_UPDATE,
    MDS_INODELOCK_XATTR,
    OBD_CONNECT_LARGE_ACL,
    OBD_CONNECT_RDONLY,
    OBD_CONNECT_XATTR,
    OBD_MD_FLACL,
    OBD_MD_FLXATTR,
)
from labsim.wire.mdt import MdtRecSetattr

from .rig import CREATE, World

ACL = acls.pack(
    (
        Entry(USER_OBJ, 7),
        Entry(USER, 6, 500),
        Entry(GROUP_OBJ, 4),
        Entry(MASK, 6),
        Entry(OTHER, 0),
    )
)
LONG_ACL = acls.pack(
    (
        Entry(USER_OBJ, 7),
        *(Entry(USER, 6, 500 + number) for number in range(40)),
        Entry(GROUP_OBJ, 4),
        Entry(MASK, 6),
        Entry(OTHER, 0),
    )
)


def body(world: World, fid: Fid) -> object:
    return world.run(world.c0.getattr(fid))["mdt_body"]


# ---- attributes


def test_setattr_tells_what_is_stored(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    everything = MDS_ATTR_MODE | MDS_ATTR_UID | MDS_ATTR_GID | MDS_ATTR_MTIME | MDS_ATTR_CTIME
    told = world.run(
        world.c0.setattr(fid, everything, mode=0o4750, uid=3, gid=4, mtime=5, ctime=1 << 33)
    )["mdt_body"]
    assert (told.mode, told.uid, told.gid) == (stat.S_IFREG | 0o4750, 3, 4)
    assert (told.mtime, told.ctime) == (5, 1 << 33)
    assert told == body(world, fid)


def test_setattr_fails_like_linux(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    folder = world.run(world.c0.mkdir("d"))
    with world.fails(errno.EISDIR):
        world.run(world.c0.setattr(folder, MDS_ATTR_SIZE, size=1))
    with world.fails(errno.ENOENT):
        world.run(world.c0.setattr(Fid(0x200000401, 99), MDS_ATTR_MODE, mode=0))
    world.c0.uid = 5
    for valid, values in (
        (MDS_ATTR_MODE, {"mode": 0o777}),
        (MDS_ATTR_UID, {"uid": 5}),
        (MDS_ATTR_GID, {"gid": 5}),
    ):
        with world.fails(errno.EPERM):
            world.run(world.c0.setattr(fid, valid, **values))
    with world.fails(errno.EACCES):
        world.run(world.c0.setattr(fid, MDS_ATTR_ATIME, atime=1 << 33))
    with world.fails(errno.EACCES):
        world.run(world.c0.setattr(fid, MDS_ATTR_SIZE, size=0))


def test_a_write_takes_setuid_away_from_anybodys_file(world: World) -> None:
    fid = world.run(world.c0.create("f", stat.S_IFREG | 0o4777))
    world.c0.uid = 5
    world.run(world.c0.setattr(fid, MDS_ATTR_KILL_SUID | MDS_ATTR_FORCE))
    assert world.mdt.osd.attrs(fid).mode == stat.S_IFREG | 0o777


def test_setattr_on_what_is_open_elsewhere(two: World) -> None:
    made = two.run(two.c0.open("f", CREATE))
    two.run(two.c1.setattr(made.body.fid1, MDS_ATTR_MTIME, mtime=77))
    assert two.c0.called_back, "attributes were cached along with the open"
    two.c0.called_back.clear()
    found = two.run(two.c0.look("f", operation=IT_GETATTR))
    assert (found.body.mtime, found.has(DISP_LOOKUP_POS)) == (77, True)


@pytest.mark.parametrize(
    ("cached", "valid", "expected"),
    [
        (MDS_INODELOCK_UPDATE, MDS_ATTR_MTIME, True),
        (MDS_INODELOCK_PERM, MDS_ATTR_MTIME, False),
        (MDS_INODELOCK_PERM, MDS_ATTR_MODE, True),
        (MDS_INODELOCK_LOOKUP, MDS_ATTR_MODE, False),
        (MDS_INODELOCK_XATTR, MDS_ATTR_MODE, False),
    ],
)
def test_only_who_cached_it_is_called_back(
    two: World, cached: int, valid: int, expected: bool
) -> None:
    fid = two.run(two.c0.create("f"))
    lock, _ = two.run(two.c0.enqueue(fid, LCK_PR, cached))
    two.c0.ns.put(lock)
    two.run(two.c1.setattr(fid, valid, mode=0o600, mtime=1))
    assert bool(two.c0.called_back) is expected


def test_rights_taken_away_are_on_disk_at_once(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    world.run(world.c0.setattr(fid, MDS_ATTR_MODE, mode=0o666))
    assert world.mdt.last_committed < world.mdt.last_transno
    world.run(world.c0.setattr(fid, MDS_ATTR_MODE, mode=0o600))
    assert world.mdt.last_committed == world.mdt.last_transno


def test_a_read_only_mount() -> None:
    world = World(1)
    world.c0.flags |= OBD_CONNECT_RDONLY
    world.run(world.c0.create("f"))
    world.run(world.c0.imp.disconnect())
    world.c0.imp.state = world.c0.imp.state.NEW
    world.run(world.c0.imp.connect())
    with world.fails(errno.EROFS):
        world.run(world.c0.create("g"))
    assert world.run(world.c0.open("g", CREATE)).status == errno.EROFS
    assert world.run(world.c0.open("f", 1)).status == 0
    world.cluster.close()


# ---- extended attributes


def test_getting_and_sizing(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    world.run(world.c0.setxattr(fid, "user.a", b"value"))
    world.run(world.c0.setxattr(fid, "user.empty", b""))
    assert world.run(world.c0.getxattr(fid, "user.a")) == (5, b"value")
    assert world.run(world.c0.getxattr(fid, "user.a", 0)) == (5, b"")
    assert world.run(world.c0.getxattr(fid, "user.empty")) == (0, b"")
    length, names = world.run(world.c0.getxattr(fid, ""))
    assert names == b"trusted.link\0trusted.lma\0user.a\0user.empty\0"
    assert world.run(world.c0.getxattr(fid, "", 0)) == (length, b"")
    for room in (0, 100):
        with world.fails(errno.ENODATA):
            world.run(world.c0.getxattr(fid, "user.b", room))
    assert world.run(world.c0.getxattr(fid, "trusted.lov")) == (0, b"")


def test_flags_and_removal(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    with world.fails(errno.ENODATA):
        world.run(world.c0.setxattr(fid, "user.a", b"1", 2))
    world.run(world.c0.setxattr(fid, "user.a", b"1", 1))
    with world.fails(errno.EEXIST):
        world.run(world.c0.setxattr(fid, "user.a", b"2", 1))
    world.run(world.c0.setxattr(fid, "user.a", b"2", 2))
    world.run(world.c0.removexattr(fid, "user.a"))
    with world.fails(errno.ENODATA):
        world.run(world.c0.removexattr(fid, "user.a"))
    with world.fails(errno.EINVAL):
        world.run(world.c0.setxattr(fid, "user.a", b"", valid=0))
    with world.fails(errno.ERANGE):
        world.run(world.c0.setxattr(fid, "user.a", bytes(65537)))
    world.run(world.c0.setxattr(fid, "user.a", bytes(65536)))


def test_what_is_lustres_own_stays_as_it_is(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    before = world.mdt.osd.xattr(fid, "trusted.lma")
    for name in ("trusted.lma", "trusted.link", "trusted.fid", "trusted.hsm", "trusted.lov"):
        world.run(world.c0.setxattr(fid, name, b"nonsense"))
    assert world.mdt.osd.xattr(fid, "trusted.lma") == before
    assert set(world.mdt.osd.xattrs(fid)) == {"trusted.lma", "trusted.link"}
    world.run(world.c0.setxattr(fid, "trusted.mine", b"1"))
    world.c0.uid = 5
    with world.fails(errno.EPERM):
        world.run(world.c0.setxattr(fid, "trusted.mine", b"2"))
    with world.fails(errno.EPERM):
        world.run(world.c0.setxattr(fid, "trusted.lma", b"2"))


def test_clients_that_did_not_negotiate() -> None:
    world = World(1)
    fid = world.run(world.c0.create("f"))
    world.run(world.c0.setxattr(fid, acls.ACL_ACCESS, LONG_ACL))
    world.run(world.c0.imp.disconnect())
    world.c0.flags &= ~(OBD_CONNECT_XATTR | OBD_CONNECT_LARGE_ACL)
    world.c0.imp.state = world.c0.imp.state.NEW
    world.run(world.c0.imp.connect())
    with world.fails(errno.EOPNOTSUPP):
        world.run(world.c0.setxattr(fid, "user.a", b""))
    with world.fails(errno.EOPNOTSUPP):
        world.run(world.c0.getxattr(fid, "user.a"))
    with world.fails(errno.ERANGE):
        world.run(world.c0.getattr(fid, OBD_MD_FLACL))
    with world.fails(errno.ERANGE):
        world.run(world.c0.setxattr(fid, acls.ACL_ACCESS, LONG_ACL))
    world.run(world.c0.setxattr(fid, acls.ACL_ACCESS, ACL))
    world.cluster.close()


def test_an_acl_comes_with_the_attributes(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    found = world.run(world.c0.look("f"))
    assert found.body.valid & OBD_MD_FLACL
    assert "acl" not in found.reply.fields
    world.run(world.c0.setxattr(fid, acls.ACL_ACCESS, ACL))
    found = world.run(world.c0.look("f"))
    assert (bytes(found.reply["acl"]), found.body.aclsize) == (ACL, len(ACL))
    assert found.body.mode == stat.S_IFREG | 0o760
    world.c0.uid = world.c0.gid = 500
    assert world.run(world.c0.open("f", 3)).status == 0
    world.c0.uid = 501
    assert world.run(world.c0.open("f", 1)).status == errno.EACCES


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("user.a", MDS_INODELOCK_XATTR),
        ("trusted.a", MDS_INODELOCK_XATTR),
        (acls.ACL_ACCESS, MDS_INODELOCK_PERM),
    ],
)
def test_setxattr_calls_back_who_cached_it(two: World, name: str, bits: int) -> None:
    fid = two.run(two.c0.create("f"))
    lock, _ = two.run(two.c0.enqueue(fid, LCK_PR, bits))
    two.c0.ns.put(lock)
    value = ACL if name == acls.ACL_ACCESS else b"1"
    two.run(two.c1.setxattr(fid, name, value))
    assert two.c0.called_back == [(fid.oid, bits)]


def test_links_call_back_who_cached_the_link_ea(two: World) -> None:
    fid = two.run(two.c0.create("f"))
    for change in (two.c1.link(fid, "g"), two.c1.rename("g", "h")):
        two.run(two.c0.all_xattrs(fid))
        two.c0.called_back.clear()
        two.run(change)
        assert two.c0.called_back == [(fid.oid, MDS_INODELOCK_XATTR)]


# ---- all at once


def test_all_attributes_under_one_lock(two: World) -> None:
    fid = two.run(two.c0.create("f"))
    two.run(two.c0.setxattr(fid, "user.a", b"xyz"))
    two.run(two.c0.setxattr(fid, "user.b", b""))
    found = two.run(two.c0.all_xattrs(fid))
    assert (found.bits, found.status) == (MDS_INODELOCK_XATTR, 0)
    names = bytes(found.reply["eadata"]).split(b"\0")[:-1]
    assert names == [b"trusted.link", b"trusted.lma", b"user.a", b"user.b"]
    lengths = found.reply["eavals_lens"]
    assert lengths[2:] == [3, 0]
    assert bytes(found.reply["eavals"])[-3:] == b"xyz"
    assert found.body.eadatasize == len(found.reply["eadata"])
    assert (found.body.aclsize, found.body.max_mdsize) == (sum(lengths), 4)
    assert found.body.valid & OBD_MD_FLXATTR
    two.run(two.c1.setxattr(fid, "user.a", b"new"))
    assert two.c0.called_back == [(fid.oid, MDS_INODELOCK_XATTR)]


def test_values_that_do_not_fit(world: World) -> None:
    fid = world.run(world.c0.create("f"))
    world.run(world.c0.setxattr(fid, "user.a", bytes(5000)))
    found = world.run(world.c0.all_xattrs(fid))
    assert found.status == errno.ERANGE
    assert found.lock is not None, "the client gives it back"
    assert "eadata" not in found.reply.fields
    assert world.run(world.c0.all_xattrs(fid, 8192)).status == 0
    assert world.run(world.c0.all_xattrs(fid, 8191)).status == errno.EINVAL


def test_a_failed_reply_leaves_no_lock_behind(two: World) -> None:
    fid = two.run(two.c0.create("f"))
    two.later(10**9)
    before = two.mdt.ldlm.lock_count
    two.fault(points.MDS_XATTR_REP)
    with two.fails(errno.EFAULT):
        two.run(two.c0.all_xattrs(fid))
    assert two.mdt.ldlm.lock_count == before
    two.run(two.c1.setxattr(fid, "user.a", b"1"))


# ---- layouts by xattr


def test_lustre_lov_sets_a_directorys_default(two: World) -> None:
    folder = two.run(two.c0.mkdir("d"))
    asked = layout.pack_user(folder, layout.Wanted(2, 1 << 16))
    two.run(two.c0.setxattr(folder, "lustre.lov", asked))
    made = two.run(two.c0.open("f", CREATE, parent=folder))
    assert len(layout.parse(bytes(made.reply["mdt_md"]))[1]) == 2
    with two.fails(errno.EINVAL):
        two.run(two.c0.setxattr(folder, "lustre.lov", asked[:20]))
    fid = two.run(two.c0.create("g"))
    with two.fails(errno.EINVAL):
        two.run(two.c0.setattr(fid, 0, asked))


def test_counters(world: World) -> None:
    made = world.run(world.c0.open("f", CREATE))
    world.run(world.c0.close(made.body.open_handle))
    world.run(world.c0.getattr(ROOT_FID))
    text = "\n".join(line for _, line in world.mdt.host.params.get("mdt.*.md_stats"))
    for name in ("open", "close", "mknod", "getattr"):
        assert f"\n{name} " in text
    served = world.mdt.host.params.get("mds.MDS.mdt.stats")
    assert "ldlm_enqueue" in str(served)
    assert "mds_close" in str(world.mdt.host.params.get("mds.MDS.mdt_readpage.stats"))


def test_records_of_unknown_kind_are_refused(world: World) -> None:
    record = MdtRecSetattr(opcode=1, fid=ROOT_FID)
    world.run(world.c0.reint(record))
    world.mdt.reints = {}
    with world.fails(errno.EOPNOTSUPP):
        world.run(world.c0.reint(record))

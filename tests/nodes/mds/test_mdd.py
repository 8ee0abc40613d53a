from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.ids import ROOT_FID, Fid
from labsim.nodes.mds import acl as acls
from labsim.nodes.mds import linkea, objects
from labsim.nodes.mds.acl import GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Entry
from labsim.nodes.mds.cred import APPEND_FL, IMMUTABLE_FL, MAY_WRITE, ROOT, Cred
from labsim.nodes.mds.linkea import Link
from labsim.nodes.mds.mdd import Mdd, New
from labsim.nodes.mds.mdd_attr import XATTR_CREATE, XATTR_REPLACE, Change
from labsim.runtime.sim import environment
from labsim.storage.osd import Attrs
from labsim.storage.osd_mem import OsdMem

USER_1 = Cred(1, 1)
DEFAULT = (
    Entry(USER_OBJ, 7),
    Entry(USER, 7, 500),
    Entry(GROUP_OBJ, 7),
    Entry(MASK, 7),
    Entry(OTHER, 5),
)


class NoObjects:
    """A lod for files without OST objects; it remembers which files have gone."""

    def __init__(self) -> None:
        self.gone: list[Fid] = []

    def destroy(self, tx: Any, fid: Fid) -> None:
        self.gone.append(fid)


class Space:
    """A namespace on a fresh OSD, with a transaction around every change."""

    def __init__(self) -> None:
        self.env = environment()
        self.osd = OsdMem(self.env)
        self.lod = NoObjects()
        self.mdd = Mdd(self.osd, self.lod)
        self.oid = 0
        self.time = 1000
        self.change(lambda tx: tx.create(objects.ORPHANS, Attrs()))
        self.change(lambda tx: self.mdd.make_root(tx, self.time))

    def change(self, steps: Callable[[Any], Any]) -> Any:
        tx = self.osd.transaction()
        result = steps(tx)
        self.env.run(self.env.process(tx.stop()))
        return result

    def make(
        self,
        name: bytes,
        mode: int = stat.S_IFREG | 0o644,
        parent: Fid = ROOT_FID,
        cred: Cred = ROOT,
        **more: Any,
    ) -> Fid:
        self.oid += 1
        fid = Fid(0x200000401, self.oid)
        new = New(fid, mode, self.time, **more)
        self.change(lambda tx: self.mdd.create(tx, parent, name, new, cred))
        return fid

    def folder(self, name: bytes, parent: Fid = ROOT_FID, perm: int = 0o755, **more: Any) -> Fid:
        return self.make(name, stat.S_IFDIR | perm, parent, **more)

    def unlink(self, name: bytes, fid: Fid, parent: Fid = ROOT_FID, **more: Any) -> Any:
        more.setdefault("folder", False)
        cred = more.pop("cred", ROOT)
        return self.change(
            lambda tx: self.mdd.unlink(tx, parent, name, fid, cred, self.time, **more)
        )

    def rename(
        self,
        old: bytes,
        new: bytes,
        fid: Fid,
        over: Fid | None = None,
        source: Fid = ROOT_FID,
        target: Fid = ROOT_FID,
        cred: Cred = ROOT,
    ) -> Any:
        return self.change(
            lambda tx: self.mdd.rename(
                tx, Link(source, old), Link(target, new), fid, over, cred, self.time
            )
        )

    def set(self, fid: Fid, cred: Cred = ROOT, **fields: Any) -> dict[str, int]:
        marks = {name: fields.pop(name) for name in ("kill_suid", "kill_sgid") if name in fields}
        return self.change(lambda tx: self.mdd.set_attrs(tx, fid, Change(fields, **marks), cred))

    def setxattr(
        self, fid: Fid, name: str, value: bytes, flags: int = 0, cred: Cred = ROOT
    ) -> None:
        self.change(lambda tx: self.mdd.set_xattr(tx, fid, name, value, flags, cred, self.time))

    def names(self, fid: Fid = ROOT_FID) -> set[bytes]:
        return {one.name for one in self.mdd.entries(fid, 0)} - {b".", b".."}

    def nlink(self, fid: Fid) -> int:
        return self.osd.attrs(fid).nlink


@pytest.fixture
def space() -> Space:
    return Space()


@contextmanager
def fails(number: int) -> Iterator[None]:
    with pytest.raises(LustreError) as error:
        yield
    assert error.value.errno == number, error.value


# ---- making


def test_a_new_file_has_a_name_attributes_and_its_identity(space: Space) -> None:
    fid = space.make(b"f", stat.S_IFREG | 0o666, umask=0o022, cred=ROOT)
    attrs = space.osd.attrs(fid)
    assert (attrs.mode, attrs.nlink, attrs.mtime) == (0o100644, 1, 1000)
    assert space.mdd.lookup(ROOT_FID, b"f", ROOT) == fid
    lma = space.osd.xattr(fid, "trusted.lma")
    assert lma == bytes(8) + bytes.fromhex("01040000020000000100000000000000")
    assert space.mdd.links(fid) == (Link(ROOT_FID, b"f"),)


def test_directories_count_their_subdirectories(space: Space) -> None:
    space.time = 2000
    one = space.folder(b"d")
    space.folder(b"e", one)
    space.make(b"f", parent=one)
    assert (space.nlink(ROOT_FID), space.nlink(one)) == (3, 3)
    assert space.mdd.parent(one) == ROOT_FID
    assert space.osd.attrs(ROOT_FID).mtime == 2000


def test_a_setgid_directory_hands_on_its_group(space: Space) -> None:
    folder = space.folder(b"d", perm=0o2777)
    space.set(folder, gid=42)
    space.set(folder, mode=0o2777)
    made = space.make(b"f", parent=folder, cred=USER_1)
    below = space.folder(b"e", folder, cred=USER_1)
    assert space.osd.attrs(made).gid == space.osd.attrs(below).gid == 42
    assert space.osd.attrs(below).mode & stat.S_ISGID
    assert not space.osd.attrs(made).mode & stat.S_ISGID


def test_a_symlink_keeps_its_target_and_ignores_the_umask(space: Space) -> None:
    fid = space.make(b"l", stat.S_IFLNK | 0o777, target=b"to/where", umask=0o777)
    attrs = space.osd.attrs(fid)
    assert (attrs.mode, attrs.size) == (stat.S_IFLNK | 0o777, 8)


def test_names_are_checked(space: Space) -> None:
    space.make(b"f")
    with fails(errno.EEXIST):
        space.make(b"f")
    with fails(errno.ENAMETOOLONG):
        space.make(b"x" * 256)
    with fails(errno.EPROTO):
        space.make(b"a/b")
    space.make(b"x" * 255)


def test_making_needs_a_directory_that_may_be_written(space: Space) -> None:
    fid = space.make(b"f")
    with fails(errno.ENOTDIR):
        space.make(b"g", parent=fid)
    with fails(errno.EACCES):
        space.make(b"g", cred=USER_1)
    with fails(errno.ENOENT):
        space.make(b"g", parent=Fid(0x200000401, 99))
    with fails(errno.EPERM):
        space.change(
            lambda tx: space.mdd.create(tx, ROOT_FID, b"g", New(objects.ORPHANS, 0o100644, 0), ROOT)
        )


def test_lookup_says_what_is_wrong(space: Space) -> None:
    fid = space.make(b"f")
    hidden = space.folder(b"d", perm=0o700)
    with fails(errno.ENOENT):
        space.mdd.lookup(ROOT_FID, b"g", ROOT)
    with fails(errno.ENOTDIR):
        space.mdd.lookup(fid, b"g", ROOT)
    with fails(errno.EACCES):
        space.mdd.lookup(hidden, b"g", USER_1)
    with fails(errno.ENAMETOOLONG):
        space.mdd.lookup(ROOT_FID, b"x" * 256, ROOT)


def test_two_names_with_one_hash_are_two_names(space: Space) -> None:
    space.mdd.name_hash = lambda name: 7 << 32  # type: ignore[method-assign]
    one, two = space.make(b"a"), space.make(b"b")
    assert space.mdd.lookup(ROOT_FID, b"a", ROOT) == one
    assert space.mdd.lookup(ROOT_FID, b"b", ROOT) == two


# ---- default ACLs


def test_a_default_acl_is_inherited(space: Space) -> None:
    folder = space.folder(b"d")
    space.setxattr(folder, acls.ACL_DEFAULT, acls.pack(DEFAULT))
    made = space.make(b"f", stat.S_IFREG | 0o640, folder, umask=0o777)
    below = space.folder(b"e", folder, perm=0o700)
    assert space.osd.attrs(made).mode == 0o100640, "no umask under a default ACL"
    assert acls.parse(space.osd.xattr(made, acls.ACL_ACCESS))[3] == Entry(MASK, 4)
    assert space.mdd.get(made, acls.ACL_DEFAULT) is None
    assert space.osd.xattr(below, acls.ACL_DEFAULT) == acls.pack(DEFAULT)
    link = space.make(b"l", stat.S_IFLNK | 0o777, folder, target=b"x")
    assert space.mdd.acl(link) is None


def test_a_plain_default_acl_leaves_only_a_mode(space: Space) -> None:
    folder = space.folder(b"d")
    plain = (Entry(USER_OBJ, 7), Entry(GROUP_OBJ, 5), Entry(OTHER, 0))
    space.setxattr(folder, acls.ACL_DEFAULT, acls.pack(plain))
    made = space.make(b"f", stat.S_IFREG | 0o666, folder)
    assert space.osd.attrs(made).mode == 0o100640
    assert space.mdd.acl(made) is None


# ---- links


def test_a_second_name(space: Space) -> None:
    fid = space.make(b"f")
    space.change(lambda tx: space.mdd.link(tx, ROOT_FID, b"g", fid, ROOT, 3000))
    assert space.nlink(fid) == 2
    assert space.mdd.links(fid) == (Link(ROOT_FID, b"f"), Link(ROOT_FID, b"g"))
    assert space.osd.attrs(fid).ctime == 3000
    victim = space.unlink(b"f", fid)
    assert (victim.last, victim.attrs.nlink) == (False, 1)
    assert space.mdd.links(fid) == (Link(ROOT_FID, b"g"),)


def test_what_cannot_be_linked(space: Space) -> None:
    folder, fid = space.folder(b"d"), space.make(b"f")
    with fails(errno.EPERM):
        space.change(lambda tx: space.mdd.link(tx, ROOT_FID, b"e", folder, ROOT, 0))
    with fails(errno.EEXIST):
        space.change(lambda tx: space.mdd.link(tx, ROOT_FID, b"d", fid, ROOT, 0))
    space.change(lambda tx: tx.set_attrs(fid, nlink=objects.LINK_MAX))
    with fails(errno.EMLINK):
        space.change(lambda tx: space.mdd.link(tx, ROOT_FID, b"e", fid, ROOT, 0))
    space.change(lambda tx: tx.set_attrs(fid, nlink=0))
    with fails(errno.ENOENT):
        space.change(lambda tx: space.mdd.link(tx, ROOT_FID, b"e", fid, ROOT, 0))


def test_a_directory_with_too_many_subdirectories_shows_one_link(space: Space) -> None:
    space.change(lambda tx: tx.set_attrs(ROOT_FID, nlink=objects.LINK_MAX - 1))
    one = space.folder(b"d")
    assert space.nlink(ROOT_FID) == 1
    space.unlink(b"d", one, folder=True)
    assert space.nlink(ROOT_FID) == 1


# ---- removing


def test_the_last_name_takes_the_file_along(space: Space) -> None:
    fid = space.make(b"f")
    victim = space.unlink(b"f", fid)
    assert (victim.last, victim.attrs.nlink) == (True, 0)
    assert not space.osd.exists(fid)
    assert space.lod.gone == [fid]
    assert space.names() == set()


def test_an_open_file_becomes_an_orphan(space: Space) -> None:
    fid = space.make(b"f")
    victim = space.unlink(b"f", fid, open_=True)
    assert (victim.last, victim.attrs.nlink) == (False, 0)
    assert space.mdd.orphans() == [fid]
    space.change(lambda tx: space.mdd.destroy_orphan(tx, fid))
    assert space.mdd.orphans() == []
    assert not space.osd.exists(fid)


def test_rmdir_and_unlink_know_what_they_remove(space: Space) -> None:
    folder, fid = space.folder(b"d"), space.make(b"f")
    with fails(errno.EISDIR):
        space.unlink(b"d", folder)
    with fails(errno.ENOTDIR):
        space.unlink(b"f", fid, folder=True)
    space.make(b"f", parent=folder)
    with fails(errno.ENOTEMPTY):
        space.unlink(b"d", folder, folder=True)


def test_rmdir(space: Space) -> None:
    folder = space.folder(b"d")
    space.unlink(b"d", folder, folder=True)
    assert space.nlink(ROOT_FID) == 2
    assert not space.osd.exists(folder)


def test_nothing_is_made_in_a_removed_directory(space: Space) -> None:
    folder = space.folder(b"d")
    space.unlink(b"d", folder, folder=True, open_=True)
    with fails(errno.ENOENT):
        space.make(b"f", parent=folder)


def test_who_may_remove(space: Space) -> None:
    folder = space.folder(b"d", perm=0o1777)
    fid = space.make(b"f", parent=folder, cred=USER_1)
    with fails(errno.EPERM):
        space.unlink(b"f", fid, folder, cred=Cred(2, 2))
    space.set(folder, mode=0o755)
    with fails(errno.EACCES):
        space.unlink(b"f", fid, folder, cred=USER_1)
    space.set(fid, flags=IMMUTABLE_FL)
    with fails(errno.EPERM):
        space.unlink(b"f", fid, folder)


# ---- moving


def test_rename_within_a_directory(space: Space) -> None:
    fid = space.make(b"f")
    space.time = 5000
    assert space.rename(b"f", b"g", fid) is None
    assert space.names() == {b"g"}
    assert space.mdd.links(fid) == (Link(ROOT_FID, b"g"),)
    assert space.osd.attrs(fid).ctime == space.osd.attrs(ROOT_FID).mtime == 5000


def test_rename_over_a_file(space: Space) -> None:
    fid, other = space.make(b"f"), space.make(b"g")
    victim = space.rename(b"f", b"g", fid, other)
    assert victim.last
    assert not space.osd.exists(other)
    assert space.mdd.lookup(ROOT_FID, b"g", ROOT) == fid


def test_a_directory_moves_with_its_dotdot(space: Space) -> None:
    one, two = space.folder(b"1"), space.folder(b"2")
    moved = space.folder(b"d", one)
    space.rename(b"d", b"e", moved, source=one, target=two)
    assert space.mdd.parent(moved) == two
    assert (space.nlink(one), space.nlink(two)) == (2, 3)
    assert space.mdd.is_below(moved, two)
    assert not space.mdd.is_below(moved, one)


@pytest.mark.parametrize("across", [True, False])
def test_a_directory_over_an_empty_one(space: Space, across: bool) -> None:
    one = space.folder(b"1")
    two = space.folder(b"2") if across else one
    moved, over = space.folder(b"d", one), space.folder(b"e", two)
    space.rename(b"d", b"e", moved, over, one, two)
    assert not space.osd.exists(over)
    links = {one: 2, two: 3} if across else {one: 3}
    assert {fid: space.nlink(fid) for fid in links} == links


def test_what_cannot_be_replaced(space: Space) -> None:
    folder, fid = space.folder(b"d"), space.make(b"f")
    full = space.folder(b"e")
    space.make(b"x", parent=full)
    with fails(errno.EISDIR):
        space.rename(b"f", b"d", fid, folder)
    with fails(errno.ENOTDIR):
        space.rename(b"d", b"f", folder, fid)
    with fails(errno.ENOTEMPTY):
        space.rename(b"d", b"e", folder, full)
    with fails(errno.EACCES):
        space.rename(b"f", b"g", fid, cred=USER_1)


# ---- attributes


def test_chmod_is_for_the_owner(space: Space) -> None:
    fid = space.make(b"f")
    space.set(fid, uid=1, gid=7)
    space.set(fid, USER_1, mode=0o4755)
    assert space.osd.attrs(fid).mode == 0o104755
    with fails(errno.EPERM):
        space.set(fid, Cred(2, 2), mode=0o777)
    space.set(fid, USER_1, mode=0o2755)
    assert space.osd.attrs(fid).mode == 0o100755, "setgid needs the group"


def test_chown_drops_setuid_and_setgid(space: Space) -> None:
    fid = space.make(b"f")
    space.set(fid, mode=0o6755)
    assert space.set(fid, uid=5, gid=5) == {"uid": 5, "gid": 5, "mode": 0o100755}
    with fails(errno.EPERM):
        space.set(fid, USER_1, uid=1)
    with fails(errno.EPERM):
        space.set(fid, Cred(5, 5), gid=6)
    assert space.set(fid, Cred(5, 5, (6,)), gid=6) == {"gid": 6}


def test_a_write_kills_setuid(space: Space) -> None:
    fid = space.make(b"f")
    space.set(fid, uid=1, mode=0o4777)
    space.set(fid, mode=0o4777)
    space.set(fid, Cred(9, 9), kill_suid=True, mtime=1234)
    assert space.osd.attrs(fid).mode == 0o100777


def test_times_need_the_owner_or_a_right_to_write(space: Space) -> None:
    fid = space.make(b"f")
    with fails(errno.EACCES):
        space.set(fid, USER_1, mtime=9)
    space.set(fid, mode=0o646)
    assert space.set(fid, USER_1, mtime=9, atime=9) == {"mtime": 9, "atime": 9}


def test_times_that_are_not_worth_a_write(space: Space) -> None:
    fid = space.make(b"f")
    assert space.set(fid, ctime=999) == {}
    assert space.set(fid, atime=1060) == {}
    assert space.set(fid, atime=1061) == {"atime": 1061}
    space.mdd.atime_diff = 0
    assert space.set(fid, atime=1062) == {"atime": 1062}


def test_frozen_files(space: Space) -> None:
    fid = space.make(b"f")
    space.set(fid, uid=1)
    with fails(errno.EPERM):
        space.set(fid, USER_1, flags=APPEND_FL)
    space.set(fid, flags=IMMUTABLE_FL)
    with fails(errno.EPERM):
        space.set(fid, mode=0o600)
    with fails(errno.EPERM):
        space.setxattr(fid, "user.a", b"1")
    with fails(errno.EACCES):
        space.mdd.require(fid, ROOT, MAY_WRITE)
    space.set(fid, flags=0)
    space.set(fid, mode=0o600)


# ---- extended attributes


def test_flags_of_setxattr(space: Space) -> None:
    fid = space.make(b"f")
    with fails(errno.ENODATA):
        space.setxattr(fid, "user.a", b"1", XATTR_REPLACE)
    space.setxattr(fid, "user.a", b"1", XATTR_CREATE)
    with fails(errno.EEXIST):
        space.setxattr(fid, "user.a", b"2", XATTR_CREATE)
    space.time = 7777
    space.setxattr(fid, "user.a", b"2", XATTR_REPLACE)
    assert space.osd.xattr(fid, "user.a") == b"2"
    assert space.osd.attrs(fid).ctime == 7777


def test_removing_an_xattr(space: Space) -> None:
    fid = space.make(b"f")
    space.setxattr(fid, "user.a", b"")
    for name, number in (("user.a", 0), ("user.a", errno.ENODATA), (acls.ACL_ACCESS, 0)):
        if number:
            with fails(number):
                space.change(lambda tx, n=name: space.mdd.del_xattr(tx, fid, n, ROOT, 0))
        else:
            space.change(lambda tx, n=name: space.mdd.del_xattr(tx, fid, n, ROOT, 0))


def test_whose_xattrs_they_are(space: Space) -> None:
    fid, folder = space.make(b"f"), space.folder(b"d", perm=0o1777)
    with fails(errno.EPERM):
        space.setxattr(fid, "security.x", b"", cred=USER_1)
    with fails(errno.EPERM):
        space.setxattr(folder, "user.x", b"", cred=USER_1)


def test_an_acl_changes_the_mode(space: Space) -> None:
    fid = space.make(b"f")
    space.setxattr(fid, acls.ACL_ACCESS, acls.pack(DEFAULT))
    assert space.osd.attrs(fid).mode == 0o100775
    assert acls.parse(space.mdd.acl(fid) or b"") == DEFAULT
    space.set(fid, mode=0o640)
    assert acls.parse(space.mdd.acl(fid) or b"")[3] == Entry(MASK, 4)
    plain = (Entry(USER_OBJ, 7), Entry(GROUP_OBJ, 0), Entry(OTHER, 0))
    space.setxattr(fid, acls.ACL_ACCESS, acls.pack(plain))
    assert space.osd.attrs(fid).mode == 0o100700
    assert space.mdd.acl(fid) is None, "the mode says it all"


def test_an_acl_without_entries_is_removed(space: Space) -> None:
    folder, fid = space.folder(b"d"), space.make(b"f")
    space.setxattr(folder, acls.ACL_DEFAULT, acls.pack(DEFAULT))
    space.setxattr(folder, acls.ACL_DEFAULT, b"\2\0\0\0")
    assert space.mdd.get(folder, acls.ACL_DEFAULT) is None
    with fails(errno.EACCES):
        space.setxattr(fid, acls.ACL_DEFAULT, acls.pack(DEFAULT))
    with fails(errno.EPERM):
        space.setxattr(fid, acls.ACL_ACCESS, acls.pack(DEFAULT), cred=USER_1)
    with fails(errno.EINVAL):
        space.setxattr(fid, acls.ACL_ACCESS, acls.pack(DEFAULT[:2]))


def test_nothing_of_a_failed_change_remains(space: Space) -> None:
    before = sorted(map(str, space.osd.objects()))
    with fails(errno.EEXIST):
        tx = space.osd.transaction()
        new = New(Fid(0x200000401, 50), stat.S_IFREG, 1)
        space.mdd.create(tx, ROOT_FID, b"f", new, ROOT)
        space.mdd.create(tx, ROOT_FID, b"f", new, ROOT)
        space.env.run(space.env.process(tx.stop()))
    assert sorted(map(str, space.osd.objects())) == before
    assert linkea.NAME not in space.osd.xattrs(ROOT_FID)

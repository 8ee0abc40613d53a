"""The pure parts: dentries and epochs, permissions, directory pages, FIDs, statfs, xattr names."""

from __future__ import annotations

import struct

import pytest

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.ids import Fid
from labsim.nodes.client import cred, dirpage
from labsim.nodes.client.cred import MAY_EXEC, MAY_READ, MAY_WRITE, Cred
from labsim.nodes.client.fids import FidAllocator
from labsim.nodes.client.inode import Dentry, Inode, InodeCache, flatten
from labsim.nodes.client.llite_files import O_CREAT, O_EXCL, O_LOV_DELAY_CREATE, open_flags, unseen
from labsim.nodes.client.statfs import StatfsCache, merge
from labsim.nodes.client.vfs_lov import Striping, packed
from labsim.nodes.client.xattr import HANDLERS, TRUSTED, USER, fit, joined, resolve, split
from labsim.nodes.client.xattr_cache import unpack
from labsim.runtime.sim import SimEnvironment
from labsim.wire.lu import LuSeqRange
from labsim.wire.mdt import MdtBody
from labsim.wire.ost import ObdStatfs

FID = Fid(0x200000401, 7)


# ---- dentries


def tree():
    root = Dentry(None, "/", Inode(Fid(0x200000007, 1), 0o040755))
    child = Dentry(root, "a", Inode(FID, 0o040755))
    root.inode.names()["a"] = child
    return root, child


def test_a_dentry_holds_until_its_inode_loses_the_lock() -> None:
    root, child = tree()
    assert root.valid and not child.valid
    child.cover(True)
    assert child.valid
    child.inode.epoch += 1
    assert not child.valid
    child.cover(True)
    assert child.valid
    child.cover(False)
    assert not child.valid


def test_a_negative_dentry_holds_until_its_directory_loses_update() -> None:
    _, child = tree()
    nothing = Dentry(child, "b", None)
    nothing.cover(True)
    child.inode.epoch += 1
    assert nothing.valid
    child.inode.update_epoch += 1
    assert not nothing.valid


def test_paths_go_up_to_the_root() -> None:
    root, child = tree()
    deeper = Dentry(child, "b", Inode(Fid(1, 2), 0o100644))
    assert deeper.path() == "/a/b"
    assert root.path() == "/"
    assert [d.name for d in deeper.above()] == ["b", "a", "/"]


def test_an_inode_takes_what_a_body_marks_valid() -> None:
    cache = InodeCache()
    inode = cache.obtain(MdtBody(fid1=FID, valid=0x80 | 0x100, mode=0o100640, uid=5))
    assert (inode.mode, inode.uid) == (0o100640, 0)
    again = cache.obtain(MdtBody(fid1=FID, valid=0x200 | 4, uid=5, mtime=9, atime=8))
    assert again is inode
    assert (inode.uid, inode.mtime, inode.atime) == (5, 9, 0)
    assert inode.is_reg and not inode.is_dir
    other = cache.obtain(MdtBody(fid1=Fid(1, 2), valid=0x180, mode=0o040755))
    assert cache.forget({FID}) == [other]
    assert cache.get(FID) is inode


def test_inode_numbers() -> None:
    assert flatten(Fid(0x200000007, 1)) == 0x200000007000001
    assert flatten(Fid(0x200000401, 0x10)) == 0x200000401000010
    assert flatten(Fid(12, 99)) == 12
    assert flatten(Fid(0xFFFFFF000000_0000, 3)) < 1 << 64


# ---- permissions


@pytest.mark.parametrize(
    ("who", "want", "yes"),
    [
        (Cred(1, 1), MAY_WRITE, True),
        (Cred(1, 1), MAY_EXEC, False),
        (Cred(2, 20), MAY_READ, True),
        (Cred(2, 20), MAY_WRITE, False),
        (Cred(2, 9, (20,)), MAY_READ, True),
        (Cred(3, 3), MAY_READ, False),
        (Cred(0, 0), MAY_READ | MAY_WRITE, True),
        (Cred(0, 0), MAY_EXEC, False),
    ],
)
def test_mode_bits(who: Cred, want: int, yes: bool) -> None:
    inode = Inode(FID, 0o100640)
    inode.uid, inode.gid = 1, 20
    assert cred.allowed(inode, who, want) is yes


def test_acls_decide_before_the_group() -> None:
    entries = [(1, 6, 0), (2, 7, 50), (4, 4, 0), (8, 6, 60), (16, 6, 0), (32, 0, 0)]
    inode = Inode(FID, 0o100660)
    inode.uid, inode.gid = 1, 20
    inode.acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
    assert list(cred.acl_entries(inode.acl)) == entries
    assert cred.allowed(inode, Cred(50, 9), MAY_READ | MAY_WRITE)
    assert not cred.allowed(inode, Cred(50, 9), MAY_EXEC), "the mask takes it"
    assert cred.allowed(inode, Cred(9, 20), MAY_READ)
    assert not cred.allowed(inode, Cred(9, 20), MAY_WRITE)
    assert cred.allowed(inode, Cred(9, 9, (60,)), MAY_WRITE)
    assert not cred.allowed(inode, Cred(9, 9), MAY_READ)


# ---- directory pages


def page(entries: list[tuple[bytes, int, int]], end: int = dirpage.MDS_DIR_END_OFF) -> bytes:
    body = b""
    for number, (name, kind, hash_) in enumerate(entries):
        size = -(-(32 + len(name) + len(name) % 2 + 2) // 8) * 8
        length = 0 if number == len(entries) - 1 else size
        head = struct.pack("<QIIQHHI", *FID, hash_, length, len(name), 3)
        body += (head + name + bytes(len(name) % 2) + struct.pack("<H", kind)).ljust(size, b"\0")
    flags = 0 if entries else 1
    return (struct.pack("<QQII", 0, end, flags, 0) + body).ljust(4096, b"\0")


def test_directory_pages() -> None:
    data = page([(b"one", 0o100000, 5), (b"four", 0o040000, 9)], 20) + page([(b"z", 0, 20)])
    pages = dirpage.unpack(data)
    assert [(e.name, e.type, e.hash) for e in pages.entries] == [
        ("one", 0o100000, 5),
        ("four", 0o040000, 9),
        ("z", 0, 20),
    ]
    assert pages.entries[0].fid == FID
    assert pages.end == dirpage.MDS_DIR_END_OFF and not pages.collide
    assert dirpage.unpack(page([])).entries == []


DAMAGED = page([(b"x" * 4000, 0, 1)])[:24] + b"\xff" * 4072


@pytest.mark.parametrize("data", [b"", bytes(100), DAMAGED])
def test_damaged_directory_pages(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="lu_dir"):
        dirpage.unpack(data)


def test_a_transfer_that_repeats_entries() -> None:
    def entry(name: str, hash_: int) -> dirpage.Entry:
        return dirpage.Entry(name, FID, 0, hash_)

    known = [entry("a", 1), entry("b", 5), entry("c", 5)]
    again = [entry("b", 5), entry("c", 5), entry("d", 5), entry("e", 6)]
    assert [e.name for e in unseen(known, again)] == ["d", "e"]
    assert unseen(known, [entry("e", 6)])[0].name == "e"
    assert unseen([], again) == again


# ---- FIDs


def drive(steps):
    env = SimEnvironment()
    return env.run(env.process(steps(env)))


def test_fids_run_through_their_sequence_and_ask_for_the_next(monkeypatch) -> None:
    monkeypatch.setattr("labsim.nodes.client.fids.LUSTRE_METADATA_SEQ_MAX_WIDTH", 3)
    asked = []

    def steps(env):
        def query():
            yield env.timeout(1)
            asked.append(len(asked))
            first = 0x200000401 + 2 * len(asked)
            return LuSeqRange(start=first, end=first + (2 if len(asked) == 1 else 1))

        fids = FidAllocator(env, query)
        out = []
        for _ in range(8):
            out.append((yield from fids.next()))
        return out

    got = drive(steps)
    assert got[:3] == [Fid(0x200000403, n) for n in (1, 2, 3)]
    assert got[3:6] == [Fid(0x200000404, n) for n in (1, 2, 3)]
    assert got[6] == Fid(0x200000405, 1)
    assert len(set(got)) == 8 and len(asked) == 2


def test_many_who_need_a_sequence_ask_once() -> None:
    asked = []

    def steps(env):
        def query():
            asked.append(1)
            yield env.timeout(10)
            return LuSeqRange(start=0x200000401, end=0x200000402)

        fids = FidAllocator(env, query)
        found = []

        def one():
            found.append((yield from fids.next()))

        yield env.all_of([env.process(one()) for _ in range(4)])
        return found

    assert sorted(drive(steps)) == [Fid(0x200000401, n) for n in (1, 2, 3, 4)]
    assert len(asked) == 1


# ---- statfs


def test_statfs_is_asked_once_and_shared() -> None:
    asked = []

    def steps(env):
        def fetch():
            asked.append(env.now)
            yield env.timeout(1000)
            return ObdStatfs(blocks=len(asked))

        cache = StatfsCache(env, fetch)
        found = []

        def one():
            found.append((yield from cache.get(env.now - 500)).blocks)

        yield env.all_of([env.process(one()) for _ in range(4)])
        yield env.timeout(400)
        yield from one()
        yield env.timeout(400)
        yield from one()
        return found

    assert drive(steps) == [1, 1, 1, 1, 1, 2]


def test_a_failed_statfs_is_not_kept() -> None:
    def steps(env):
        def fetch():
            yield env.timeout(1)
            raise LustreError(110)

        cache = StatfsCache(env, fetch)
        errors = 0
        for _ in range(2):
            try:
                yield from cache.get(env.now)
            except LustreError:
                errors += 1
        return errors

    assert drive(steps) == 2


def test_the_osts_limit_the_files() -> None:
    namespace = ObdStatfs(files=1000, ffree=900, blocks=5, bsize=4096)
    few = merge(namespace, ObdStatfs(files=300, ffree=250, blocks=77, bfree=70, bsize=1024))
    assert (few.files, few.ffree, few.blocks, few.bsize) == (350, 250, 77, 1024)
    many = merge(namespace, ObdStatfs(files=9000, ffree=9000, blocks=77))
    assert (many.files, many.ffree) == (1000, 900)


# ---- xattr names


def test_names_are_cut_at_their_handler() -> None:
    assert resolve("user.a") == (HANDLERS[0], "a")
    assert resolve("user.a")[0].kind == USER
    assert resolve("trusted.lov")[0].kind == TRUSTED
    assert resolve("system.posix_acl_access")[1] == ""
    for name in ("system.posix_acl_accessory", "system.x", "userx.a", "a"):
        with pytest.raises(LustreError, match="EOPNOTSUPP"):
            resolve(name)


def test_lists_and_buffers() -> None:
    assert split(joined(["user.a", "user.\udcff"])) == ["user.a", "user.\udcff"]
    assert fit(b"abc", 0) == 3
    assert fit(b"abc", 3) == b"abc"
    with pytest.raises(LustreError, match="ERANGE"):
        fit(b"abc", 2)


def test_the_cache_reply() -> None:
    reply = {
        "mdt_body": MdtBody(eadatasize=14, aclsize=3, max_mdsize=2),
        "eadata": b"user.a\0user.b\0",
        "eavals": b"123",
        "eavals_lens": [3, 0],
    }
    assert unpack(reply) == {"user.a": b"123", "user.b": b""}
    with pytest.raises(ProtocolError):
        unpack(reply | {"eavals_lens": [2, 0]})
    with pytest.raises(ProtocolError):
        unpack(reply | {"eadata": b"user.a\0\0\0\0\0\0\0\0"})


# ---- flags and striping


def test_open_flags_on_the_wire() -> None:
    assert open_flags(0) == 1
    assert open_flags(1 | O_CREAT) == 2 | 0x40
    assert open_flags(2 | O_CREAT | O_EXCL) == 3 | 0x40 | 0x80
    assert open_flags(1 | O_LOV_DELAY_CREATE) & 0x1000000
    assert not open_flags(0o400) & 0x1000000


def test_striping_there_and_back() -> None:
    striping = Striping.unpack(packed(-1, 1 << 20, -1))
    assert (striping.count, striping.size, striping.offset) == (-1, 1 << 20, -1)
    assert Striping.unpack(packed(3, 65536, 2, "flash")).pool == "flash"
    for bad in ((1, 1000, 0), (1, 1 << 32, 0), (-2, 0, 0), (1, 0, -2)):
        with pytest.raises(LustreError, match="EINVAL"):
            packed(*bad)
    with pytest.raises(ProtocolError, match="lmm_magic"):
        Striping.unpack(bytes(32))

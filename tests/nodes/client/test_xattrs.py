"""Extended attributes through the whole stack: flags, sizes, namespaces, and the cache."""

from __future__ import annotations

import pytest

from labsim.base.overlay import Kit, Overlay, Traits
from labsim.nodes.client.xattr import XATTR_CREATE, XATTR_REPLACE, Handler, Xattrs
from labsim.nodes.client.xattr_cache import XattrCache
from tests.nodes.client.world import World


@pytest.fixture
def filed(world):
    world.make("f", b"x")
    world.run(world.vfs[0].mkdir("d"))
    world.run(world.vfs[0].symlink("f", "l"))
    world.run(world.vfs[0].mknod("p", 0o010644))
    return world


def test_set_get_replace_remove(filed) -> None:
    vfs, other = filed.vfs
    filed.run(vfs.setxattr("f", "user.a", b"one"))
    assert filed.run(other.getxattr("f", "user.a")) == b"one"
    filed.run(vfs.setxattr("f", "user.a", b"two", XATTR_REPLACE))
    assert filed.run(other.getxattr("f", "user.a")) == b"two"
    assert filed.errno(vfs.setxattr("f", "user.a", b"3", XATTR_CREATE)) == "EEXIST"
    assert filed.errno(vfs.setxattr("f", "user.b", b"3", XATTR_REPLACE)) == "ENODATA"
    filed.run(vfs.setxattr("f", "user.b", b"\0bin\xff", XATTR_CREATE))
    assert filed.run(vfs.getxattr("f", "user.b")) == b"\0bin\xff"
    filed.run(vfs.setxattr("f", "user.b", b""))
    assert filed.run(other.getxattr("f", "user.b")) == b""
    filed.run(vfs.removexattr("f", "user.a"))
    for one in filed.vfs:
        assert filed.errno(one.getxattr("f", "user.a")) == "ENODATA"
    assert filed.errno(vfs.removexattr("f", "user.a")) == "ENODATA"


def test_sizes(filed) -> None:
    vfs = filed.vfs[0]
    filed.run(vfs.setxattr("f", "user.a", b"12345"))
    for one in filed.vfs:
        assert filed.run(one.getxattr("f", "user.a", 0)) == 5
        assert filed.errno(one.getxattr("f", "user.a", 4)) == "ERANGE"
        assert filed.run(one.getxattr("f", "user.a", 5)) == b"12345"
    names = filed.run(vfs.listxattr("f"))
    assert b"user.a\0" in names
    assert names.endswith(b"lustre.lov\0")
    assert filed.run(vfs.listxattr("f", 0)) == len(names)
    assert filed.errno(vfs.listxattr("f", len(names) - 1)) == "ERANGE"
    assert b"lustre.lov" not in filed.run(vfs.listxattr("d"))


@pytest.mark.parametrize(
    ("path", "name", "size", "errno"),
    [
        ("f", "", 1, "ERANGE"),
        ("f", "user." + "n" * 251, 1, "ERANGE"),
        ("f", "user.", 1, "EINVAL"),
        ("f", "user", 1, "EOPNOTSUPP"),
        ("f", "os2.a", 1, "EOPNOTSUPP"),
        ("f", "system.a", 1, "EOPNOTSUPP"),
        ("f", "user.a", 65537, "E2BIG"),
        ("nope", "user.a", 1, "ENOENT"),
        ("p", "user.a", 1, "EPERM"),
        ("f", "security.selinux", 1, "EOPNOTSUPP"),
    ],
)
def test_set_errors(filed, path: str, name: str, size: int, errno: str) -> None:
    assert filed.errno(filed.vfs[0].setxattr(path, name, b"v" * size)) == errno


def test_more_errors(filed) -> None:
    vfs = filed.vfs[0]
    assert filed.errno(vfs.setxattr("f", "user.a", b"", 4)) == "EINVAL"
    assert filed.errno(vfs.setxattr("l", "user.a", b"1", follow=False)) == "EPERM"
    assert filed.errno(vfs.getxattr("l", "user.a", follow=False)) == "ENODATA"
    assert filed.errno(vfs.getxattr("p", "user.a")) == "ENODATA"
    assert filed.errno(vfs.getxattr("f", "user.")) == "EINVAL"
    assert filed.errno(vfs.getxattr("f", "trusted.none")) == "ENODATA"
    filed.run(vfs.setxattr("l", "trusted.a", b"on the link", follow=False))
    assert filed.run(vfs.getxattr("l", "trusted.a", follow=False)) == b"on the link"
    assert filed.errno(vfs.getxattr("f", "trusted.a")) == "ENODATA"


def test_the_largest_value_and_the_longest_name(filed) -> None:
    vfs, other = filed.vfs
    filed.run(vfs.setxattr("f", "user." + "n" * 250, b"v"))
    assert filed.run(other.getxattr("f", "user." + "n" * 250)) == b"v"
    filed.run(vfs.setxattr("d", "user.big", b"v" * 65536))
    assert filed.run(other.getxattr("d", "user.big")) == b"v" * 65536
    assert filed.errno(other.getxattr("d", "user.big", 65535)) == "ERANGE"


def test_values_that_do_not_fit_the_cache_are_fetched_one_by_one(filed) -> None:
    vfs, other = filed.vfs
    for letter in "ab":
        filed.run(vfs.setxattr("f", f"user.{letter}", letter.encode() * 40000))
    for _ in range(2):
        sent = filed.rpcs(other.getxattr("f", "user.b"), "c1")
        assert sent["MDS_GETXATTR"] == 1
    assert filed.run(other.getxattr("f", "user.a")) == b"a" * 40000
    assert b"user.a\0" in filed.run(other.listxattr("f"))
    assert other.llite.xattr_cache


def test_namespaces_by_caller(filed) -> None:
    user = filed.nodes[1].process(500, 500)
    vfs = filed.vfs[0]
    filed.run(vfs.setxattr("f", "trusted.t", b"t"))
    filed.run(vfs.setxattr("f", "user.u", b"u"))
    filed.run(vfs.chmod("f", 0o600))
    assert filed.errno(user.getxattr("f", "trusted.t")) == "ENODATA"
    assert filed.errno(user.setxattr("f", "trusted.t", b"1")) == "EPERM"
    assert filed.errno(user.getxattr("f", "user.u")) == "EACCES"
    assert filed.errno(user.setxattr("f", "user.u", b"1")) == "EACCES"
    filed.run(vfs.chmod("f", 0o644))
    assert filed.run(user.getxattr("f", "user.u")) == b"u"
    assert filed.run(user.listxattr("f")) == b"user.u\0lustre.lov\0"


def test_lustres_own_names_are_ignored_by_full_name(filed) -> None:
    vfs = filed.vfs[0]
    for name in ("trusted.hsm", "trusted.lma", "trusted.link", "lustre.lma"):
        sent = filed.rpcs(vfs.setxattr("f", name, b"junk"))
        assert "MDS_REINT" not in sent
    filed.run(vfs.setxattr("f", "user.hsm", b"mine"))
    filed.run(vfs.setxattr("f", "security.hsm", b"too"))
    assert filed.run(vfs.getxattr("f", "user.hsm")) == b"mine"
    assert filed.run(vfs.getxattr("f", "security.hsm")) == b"too"
    before = filed.run(vfs.getxattr("f", "trusted.lov"))
    filed.run(vfs.setxattr("f", "trusted.lov", b"junk"))
    assert filed.run(vfs.getxattr("f", "lustre.lov")) == before
    assert filed.errno(vfs.getxattr("p", "lustre.lov")) == "ENODATA"


def test_the_cache_spares_requests(filed) -> None:
    vfs = filed.vfs[0]
    filed.run(vfs.setxattr("f", "user.a", b"1"))
    filed.run(vfs.stat("f"))
    assert filed.rpcs(vfs.getxattr("f", "user.a")) == {"LDLM_ENQUEUE": 1}
    assert filed.rpcs(vfs.getxattr("f", "user.a")) == {}
    assert filed.rpcs(vfs.listxattr("f")) == {}
    filed.param("llite.*.stats")
    assert vfs.llite.stats.count("getxattr") == 2
    assert vfs.llite.stats.count("getxattr_hits") == 2
    filed.nodes[0].host.params.set("llite.*.xattr_cache", "0")
    assert filed.rpcs(vfs.getxattr("f", "user.a")) == {"MDS_GETXATTR": 1}
    assert filed.rpcs(vfs.listxattr("f")) == {"MDS_GETXATTR": 1}


def test_missing_attributes_are_cached_as_missing(filed) -> None:
    vfs, other = filed.vfs
    assert filed.errno(vfs.getxattr("f", "user.a")) == "ENODATA"

    def again():
        try:
            yield from vfs.getxattr("f", "user.a")
        except Exception:
            return

    assert filed.rpcs(again()) == {}
    filed.run(other.setxattr("f", "user.a", b"now"))
    assert filed.run(vfs.getxattr("f", "user.a")) == b"now"


def test_setting_gives_the_own_lock_up_along_with_the_request(filed) -> None:
    vfs = filed.vfs[0]
    filed.run(vfs.setxattr("f", "user.a", b"1"))
    filed.run(vfs.getxattr("f", "user.a"))
    filed.settle()
    inode = next(i for i in vfs.llite.inodes.inodes.values() if i.is_reg)
    assert inode.xattrs is not None
    sent = filed.rpcs(vfs.setxattr("f", "user.a", b"2"))
    assert sent == {"MDS_REINT": 1}, "XATTR is not called back, UPDATE was given back before"
    assert inode.xattrs is None


def test_parallel_refills_ask_once(filed) -> None:
    vfs = filed.vfs[0]
    filed.run(vfs.setxattr("f", "user.a", b"1"))
    filed.run(vfs.stat("f"))
    filed.sent.clear()
    assert filed.all(*(vfs.getxattr("f", "user.a") for _ in range(5))) == [b"1"] * 5
    assert [name for who, name in filed.sent if who == "c0"] == ["LDLM_ENQUEUE"]


def test_dropped_inodes_lose_their_values_but_not_their_locks(filed) -> None:
    vfs = filed.vfs[0]
    filed.run(vfs.setxattr("f", "user.a", b"1"))
    filed.run(vfs.getxattr("f", "user.a"))
    filed.run(vfs.sync())  # an inode with dirty pages would stay
    locks = len(filed.nodes[0].mdcs[0].ldlm.locks)
    filed.run(vfs.drop_caches(2))
    assert len(filed.nodes[0].mdcs[0].ldlm.locks) == locks
    sent = filed.rpcs(vfs.getxattr("f", "user.a"))
    assert sent["LDLM_ENQUEUE"] == 2
    assert filed.run(vfs.getxattr("f", "user.a")) == b"1"


def test_acls(filed) -> None:
    vfs, other = filed.vfs
    acl = bytes.fromhex(
        "02000000 01000600 ffffffff 02000400 f4010000 04000000 ffffffff"
        "10000400 ffffffff 20000000 ffffffff"
    )
    filed.run(vfs.setxattr("f", "system.posix_acl_access", acl))
    assert filed.run(other.getxattr("f", "system.posix_acl_access")) == acl
    assert b"system.posix_acl_access\0" in filed.run(other.listxattr("f"))
    reader, stranger = filed.nodes[1].process(500, 9), filed.nodes[1].process(501, 9)
    filed.run(reader.close(filed.run(reader.open("f"))))
    assert filed.errno(reader.open("f", 1)) == "EACCES"
    assert filed.errno(stranger.open("f")) == "EACCES"
    assert filed.errno(reader.setxattr("f", "system.posix_acl_access", acl)) == "EPERM"
    assert filed.errno(vfs.getxattr("f", "system.posix_acl_default")) == "ENODATA"
    filed.run(vfs.removexattr("f", "system.posix_acl_access"))
    assert filed.errno(other.getxattr("f", "system.posix_acl_access")) == "ENODATA"


# ---- other rules in place of these


class NewlineInNames(Overlay, of=Xattrs):
    because = "a test"

    def full_name(self, handler: Handler, suffix: str) -> str:
        return super().full_name(handler, suffix) + "\n"


class AnyFlagRemoves(Overlay, of=Xattrs):
    because = "a test"

    def removes(self, value: bytes | None, flags: int) -> bool:
        return flags == XATTR_REPLACE


class MatchesAlways(Overlay, of=XattrCache):
    because = "a test"

    def may_match(self, inode: object) -> bool:
        return True


def kit_of(spec):
    """c0 has the other rules, c1 has no xattr cache."""
    if spec.name == "c0":
        return Kit([NewlineInNames, AnyFlagRemoves, MatchesAlways])
    return Kit(traits=Traits(xattr_cache=False))


def test_rules_can_be_replaced() -> None:
    world = World(kits="tests.nodes.client.test_xattrs:kit_of")
    try:
        vfs, other = world.vfs
        world.make("f")
        world.run(vfs.setxattr("f", "user.a", b"1"))
        assert world.run(vfs.getxattr("f", "user.a")) == b"1"
        assert world.errno(other.getxattr("f", "user.a")) == "ENODATA"
        assert b"user.a\n\0" in world.run(other.listxattr("f"))
        world.run(vfs.drop_caches(2))
        assert world.errno(vfs.getxattr("f", "user.a")) == "EIO"
        world.run(vfs.setxattr("f", "user.a", b"2", XATTR_REPLACE))
        assert world.errno(vfs.getxattr("f", "user.a")) == "ENODATA"
        assert vfs.llite.stats.count("removexattr") == 1
        world.run(other.setxattr("f", "user.b", b"1"))
        assert world.rpcs(other.getxattr("f", "user.b"), "c1")["MDS_GETXATTR"] == 1
        assert not other.llite.xattr_cache
        with pytest.raises(Exception, match="ENOTSUPP"):
            world.nodes[1].host.params.set("llite.*.xattr_cache", "1")
    finally:
        world.close()

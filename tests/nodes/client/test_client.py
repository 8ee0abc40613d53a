"""A mount as a whole: what it sends, what it caches and when it stops to, and how it ends."""

from __future__ import annotations

import json

import pytest

from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc import State
from tests.nodes.client.world import World

# ---- how many requests a call takes


def test_a_mount_asks_for_little() -> None:
    world = World(clients=1)
    try:
        sent = [event.fields[0] for event in world.cluster.trace.events if event.node == "c0"
                and event.kind == "rpc.send"]  # fmt: skip
        assert sent[:9] == [250, 101, 501, 503, 502, 101, 501, 101, 256], "log, params, recover"
        mounted = sorted(sent[9:])
        assert mounted == [8, 8, 33, 38, 40], "two OST connects, getattr, connect, get root"
        assert world.nodes[0].mdcs[0].ldlm.lock_count == 0
    finally:
        world.close()


def test_requests_of_the_usual_calls(world) -> None:
    vfs = world.vfs[0]
    world.run(vfs.mkdir("d"))
    world.run(vfs.stat("d"))
    sent = world.rpcs(vfs.mknod("d/f", 0o100644))
    assert sent == {"MDS_REINT": 1}, "the directory's own UPDATE lock goes along with it"
    assert world.rpcs(vfs.stat("d/f")) == {"LDLM_ENQUEUE": 2}, "that lock had LOOKUP too"
    assert world.rpcs(vfs.stat("d/f")) == {}
    assert world.rpcs(vfs.stat("d")) == {}
    assert world.rpcs(vfs.chmod("d/f", 0o600)) == {"MDS_REINT": 1}
    sent = world.rpcs(vfs.readdir("d"))
    assert sent == {"LDLM_ENQUEUE": 1, "MDS_READPAGE": 1, "MDS_CLOSE": 1}, "open under UPDATE"
    assert world.rpcs(vfs.readdir("d")) == {"LDLM_ENQUEUE": 1, "MDS_CLOSE": 1}
    sent = world.rpcs(vfs.unlink("d/f"))
    assert sent == {"LDLM_ENQUEUE": 1, "MDS_REINT": 1}


def test_a_create_is_one_request_and_the_close_another(world) -> None:
    vfs = world.vfs[0]
    world.make("first")

    def create():
        file = yield from vfs.open("f", 0o101)
        yield from vfs.close(file)

    assert world.rpcs(create()) == {"LDLM_ENQUEUE": 1, "MDS_CLOSE": 1}
    sent = world.rpcs(create())
    assert sent == {"LDLM_ENQUEUE": 1, "LDLM_CANCEL": 1, "MDS_CLOSE": 1}, "it had such a lock"


# ---- what is cached


def test_a_name_that_is_not_there_is_remembered_under_update(world) -> None:
    vfs, other = world.vfs
    world.run(vfs.mkdir("d"))

    def look(one):
        try:
            yield from one.stat("d/f")
        except Exception:
            return

    world.run(vfs.stat("d"))
    assert world.rpcs(look(vfs)) == {"LDLM_ENQUEUE": 1}
    assert world.rpcs(look(vfs)) == {}
    world.make("d/f", client=1)
    assert world.run(vfs.stat("d/f")).size == 0
    world.run(other.unlink("d/f"))
    assert world.errno(vfs.stat("d/f")) == "ENOENT"


def test_caches_follow_another_clients_changes(world) -> None:
    vfs, other = world.vfs
    world.run(vfs.mkdir("d"))
    world.make("d/a", b"1")
    for one in world.vfs:
        world.run(one.readdir("d"))
        world.run(one.stat("d/a"))
    world.run(other.rename("d/a", "d/b"))
    assert world.errno(vfs.stat("d/a")) == "ENOENT"
    assert "b" in [name for name, _, _ in world.run(vfs.readdir("d"))]
    world.run(other.unlink("d/b"))
    world.run(other.rmdir("d"))
    assert world.errno(vfs.stat("d")) == "ENOENT"
    assert world.errno(vfs.mkdir("d/x")) == "ENOENT"


def test_a_file_that_replaces_another_is_seen_under_its_name(world) -> None:
    vfs, other = world.vfs
    world.make("f", b"old")
    old = world.run(other.stat("f")).ino
    world.make("g", b"newer")
    world.run(vfs.rename("g", "f"))
    found = world.run(other.stat("f"))
    assert found.size == 5 and found.ino != old


def test_drop_caches(world) -> None:
    vfs = world.vfs[0]
    llite = world.nodes[0].llite
    world.run(vfs.mkdir("d"))
    world.make("d/f", b"text")
    world.run(vfs.readdir("d"))
    file = world.run(vfs.open("d/f"))
    inside = world.nodes[0].process()
    world.run(inside.chdir("d"))
    world.make("g")
    assert len(llite.inodes.inodes) == 4
    world.run(vfs.drop_caches(1))
    assert len(llite.inodes.inodes) == 4
    assert all(inode.entries is None for inode in llite.inodes.inodes.values())
    world.run(vfs.drop_caches(2))
    assert len(llite.inodes.inodes) == 3, "the root, the directory in use, the open file"
    assert bytes(world.run(vfs.read(file, 10))) == b"text"
    assert world.run(inside.stat("f")).size == 4
    world.run(vfs.close(file))
    inside.exit()
    world.run(vfs.drop_caches(3))
    assert len(llite.inodes.inodes) == 2, "what is dirty stays"
    world.run(vfs.sync())
    world.run(vfs.drop_caches(3))
    assert len(llite.inodes.inodes) == 1
    assert world.read("d/f") == b"text"


# ---- limits, parameters


def test_modifying_requests_are_limited(world) -> None:
    vfs = world.vfs[0]
    mdc = world.nodes[0].mdcs[0]
    params = world.nodes[0].host.params
    name = f"mdc.{mdc.name}"
    assert params.get("mdc.*.max_rpcs_in_flight") == [(f"{name}.max_rpcs_in_flight", "8\n")]
    params.set("mdc.*.max_rpcs_in_flight", "4")
    assert params.get("mdc.*.max_mod_rpcs_in_flight")[0][1] == "3\n"
    with pytest.raises(Exception, match="ERANGE"):
        params.set("mdc.*.max_mod_rpcs_in_flight", "4")
    params.set("mdc.*.max_mod_rpcs_in_flight", "2")
    most = []

    def watch(event):
        if event.kind == "rpc.send" and event.node == "c0" and event.fields[0] == 36:
            most.append(sum(r.opcode == 36 for r in mdc.imp.outstanding.values()))

    world.cluster.trace.listeners.append(watch)
    assert world.all(*(vfs.mkdir(f"d{n}") for n in range(12))) == [None] * 12
    assert max(most) == 2
    text = world.param("mdc.*.rpc_stats")
    assert text.startswith("snapshot_time:         15778368")
    assert text.endswith(
        "modify_RPCs_in_flight:  0\n\n\t\t\tmodify\nrpcs in flight        rpcs   % cum %\n"
        "0:\t\t         0   0   0\n1:\t\t         1   8   8\n2:\t\t        11  91 100\n"
    )
    params.set("mdc.*.rpc_stats", "0")
    assert world.param("mdc.*.rpc_stats").endswith("0:\t\t         0   0   0\n")
    assert len(world.run(vfs.readdir("/"))) == 14


def test_llite_parameters(world) -> None:
    params = world.nodes[0].host.params
    llite = world.nodes[0].llite
    assert llite.name.startswith("lustre-ffff88") and len(llite.name) == 23
    assert world.param("llite.*.xattr_cache") == "1\n"
    assert world.param("llite.*.uuid") == world.nodes[0].uuid + "\n"
    assert world.param("llite.*.max_easize") == "128\n"
    assert world.param("llite.*.default_easize") == "128\n"
    assert "xattr_cache" in world.param("llite.*.sbi_flags").split()
    params.set("llite.*.xattr_cache", "0")
    assert "xattr_cache" not in world.param("llite.*.sbi_flags").split()
    for text in ("1000", "2048", "12288"):
        with pytest.raises(Exception, match="ERANGE"):
            params.set("llite.*.stat_blocksize", text)
    assert world.param("llite.*.stat_blocksize") == "0\n"
    world.make("f", b"abc")
    stats = world.param("llite.*.stats")
    assert "write_bytes" in stats and "open" in stats
    assert "mds_close" in world.param("mdc.*.stats")
    text = world.param("mdc.*.import")
    assert "state: FULL" in text and "multi_mod_rpcs" in text


def test_parameters_set_for_good_are_there_before_the_connection() -> None:
    world = World(
        clients=1,
        params={"mdc.*.max_rpcs_in_flight": "20", "llite.*.xattr_cache": "0", "nonsense": "1"},
    )
    try:
        assert world.param("mdc.*.max_rpcs_in_flight") == "20\n"
        assert world.param("llite.*.xattr_cache") == "0\n"
    finally:
        world.close()


# ---- striping


def test_striping(world) -> None:
    vfs, other = world.vfs
    world.run(vfs.setstripe("two", 2, 65536))
    found = world.run(other.lov_getstripe("two"))
    assert (found.count, found.size, len(found.objects)) == (2, 65536, 2)
    assert sorted(stripe.ost for stripe in found.objects) == [0, 1]
    assert world.errno(vfs.setstripe("two", 1)) == "EEXIST"
    world.run(vfs.setstripe("one", 1, 0, 1))
    assert [s.ost for s in world.run(other.lov_getstripe("one")).objects] == [1]
    world.run(vfs.mkdir("d"))
    assert world.errno(vfs.lov_getstripe("d")) == "ENODATA"
    world.run(vfs.setstripe("d", -1, 1 << 20, 0))
    assert world.run(other.lov_getstripe("d"))[:3] == (-1, 1 << 20, 0)
    world.make("d/f", b"x", client=1)
    assert world.run(vfs.lov_getstripe("d/f")).count == 2
    world.run(vfs.mkdir("d/below"))
    assert world.run(vfs.lov_getstripe("d/below")).count == -1
    assert world.errno(vfs.lov_getstripe("nope")) == "ENOENT"
    assert not world.nodes[0].snapshot()["open_files"]


# ---- eviction, umount


def test_eviction_voids_what_was_cached(world) -> None:
    vfs, other = world.vfs
    world.make("f", b"x")
    world.run(vfs.setxattr("f", "user.a", b"1"))
    world.run(vfs.getxattr("f", "user.a"))
    file = world.run(vfs.open("f"))
    mdt = world.cluster.node("mds0").machine.node.targets[0]
    imp = world.nodes[0].mdcs[0].imp
    export = next(e for e in mdt.exports if e.client_uuid == world.nodes[0].uuid)
    export.evict("test")
    world.run(other.chmod("f", 0o600))
    assert world.run(vfs.stat("f")).mode & 0o777 == 0o644, "it does not know yet"
    world.all(vfs.statfs())
    world.settle()
    assert world.run(vfs.stat("f")).mode & 0o777 == 0o600
    assert imp.state is State.FULL
    world.run(vfs.close(file))
    assert world.run(vfs.getxattr("f", "user.a")) == b"1"


def test_umount_leaves_nothing_behind(world) -> None:
    vfs = world.vfs[0]
    node = world.nodes[0]
    world.make("f", b"x")
    world.run(vfs.open("f"))
    world.run(world.cluster.node("c0").machine.shutdown())
    world.settle()
    mdt = world.cluster.node("mds0").machine.node.targets[0]
    assert node.uuid not in [export.client_uuid for export in mdt.exports]
    assert not node.host.params.list("llite.*") and not node.host.params.list("mdc.*")
    assert not node.rpc.exports
    for snap in mdt.snapshot().get("locks", []):
        assert snap.get("owner") != node.uuid
    world.run(world.vfs[1].unlink("f"))


def test_the_snapshot_is_plain_data(world) -> None:
    vfs = world.vfs[0]
    world.run(vfs.mkdir("d"))
    world.make("d/f", b"x")
    world.run(vfs.stat("d/f"))
    world.run(vfs.setxattr("d/f", "user.a", b"1"))
    world.run(vfs.getxattr("d/f", "user.a"))
    file = world.run(vfs.open("d/f"))
    snapshot = json.loads(json.dumps(world.nodes[0].snapshot()))
    assert snapshot["open_files"] == [
        {"path": "/d/f", "fid": str(world.run(vfs.path2fid("d/f"))), "flags": 0}
    ]
    cached = snapshot["llite"]["inodes"][str(file.inode.fid)]
    assert "user.a" in cached["xattrs"] and cached["covered"] & 0x20
    assert [mdc["state"] for mdc in snapshot["mdcs"]] == ["FULL"]
    parent = snapshot["llite"]["inodes"][str(file.dentry.parent.inode.fid)]
    assert parent["dentries"] == {"f": str(file.inode.fid)}
    world.run(vfs.close(file))


def test_a_client_that_lost_its_server_waits_for_it(world) -> None:
    vfs = world.vfs[0]
    world.make("f")
    world.run(world.cluster.partition(["c0"], ["mds0"], name="cut"))
    steps = world.env.process(vfs.setxattr("f", "user.a", b"1"))
    world.cluster.run(world.env.timeout(110 * NS_PER_S))
    assert not steps.triggered
    world.run(world.cluster.heal("cut"))
    world.cluster.run(steps)
    assert world.run(world.vfs[1].getxattr("f", "user.a")) == b"1"


def test_files_that_are_tables(world) -> None:
    params = world.nodes[0].host.params
    assert world.param("llite.*.max_cached_mb").splitlines()[1] == "max_cached_mb: 4096"
    params.set("llite.*.max_cached_mb", "64")
    assert "unused_mb: 64\n" in world.param("llite.*.max_cached_mb")
    params.set("llite.*.max_cached_mb", "max_cached_mb: 65")
    assert "max_cached_mb: 65\n" in world.param("llite.*.max_cached_mb")
    assert world.param("llite.*.statahead_stats").startswith("statahead total: 0\n")
    assert world.param("llite.*.extents_stats").startswith("disabled\n")
    params.set("llite.*.extents_stats", "1")
    world.make("f", bytes(5000))
    world.read("f")
    rows = world.param("llite.*.extents_stats").splitlines()
    assert rows[0].startswith("snapshot_time:")
    assert " ".join(rows[-1].split()) == "4K - 8K : 1 100 100 | 1 100 100"
    params.set("llite.*.extents_stats", "disable")
    assert world.param("llite.*.extents_stats").startswith("disabled\n")


def test_space_is_asked_for_when_it_is_shown(world) -> None:
    file = next(
        entry.file
        for entry in world.nodes[0].host.params.glob("llite/*/kbytestotal")
        if entry.file is not None
    )
    shown = int(world.run(file.show()))
    found = world.run(world.vfs[0].statfs())
    assert shown == found.blocks * found.bsize // 1024 == world.nodes[0].llite.kbytestotal


def test_a_device_that_is_switched_off(world) -> None:
    params = world.nodes[0].host.params
    world.make("f")
    params.set("mdc.*.active", "0")
    assert world.errno(world.vfs[0].mkdir("d")) == "ESHUTDOWN"
    assert world.errno(world.vfs[0].stat("g")) == "ESHUTDOWN"
    params.set("mdc.*.active", "1")
    world.run(world.vfs[0].mkdir("d"))


def test_statfs_does_not_wait_for_a_server_that_is_away(world) -> None:
    vfs = world.vfs[0]
    world.run(world.cluster.partition(["c0"], ["mds0"], name="cut"))
    assert world.errno(vfs.statfs()) == "ETIMEDOUT"
    assert world.errno(vfs.statfs()) == "EAGAIN"
    world.nodes[0].host.params.set("llite.*.lazystatfs", "0")
    waiting = world.env.process(vfs.statfs())
    world.cluster.run(world.env.timeout(10 * NS_PER_S))
    assert not waiting.triggered
    world.run(world.cluster.heal("cut"))
    world.cluster.run(waiting)


def test_umount_without_servers(world) -> None:
    world.make("f")
    world.run(world.vfs[0].open("f"))
    world.run(world.cluster.partition(["c0"], ["mds0", "oss0"], name="cut"))
    world.errno(world.vfs[0].statfs())
    world.run(world.cluster.node("c0").machine.shutdown())

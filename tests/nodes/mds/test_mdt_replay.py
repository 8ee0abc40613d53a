"""What an MDT does after a crash with requests that come again."""

from __future__ import annotations

import errno
import stat
from contextlib import suppress
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.ids import ROOT_FID
from labsim.ldlm.desc import intent_result
from labsim.net.ptlrpc import points
from labsim.nodes.mds import layout
from labsim.nodes.mds.layout import Wanted
from labsim.wire.constants import (
    DISP_OPEN_CREATE,
    DISP_OPEN_OPEN,
    MDS_ATTR_MODE,
    MDS_ATTR_MTIME,
    MDS_ATTR_SIZE,
    MDS_FMODE_READ,
    MDS_FMODE_WRITE,
    MSG_CONNECT_RECOVERING,
)
from labsim.wire.opcodes import LDLM_ENQUEUE, MDS_REINT, OBD_PING

from .ghost import MDS_CLOSE, Done, Ghost, OneAtATime, World, two, world
from .rig import CREATE, Answer

__all__ = ["two", "world"]


def replayable(ghost: Ghost) -> list[Done]:
    return [done for done in ghost.imp.log if done.transno]


def namespace(world: World) -> dict[str, Any]:
    """Name to (fid, mode, nlink) of everything under the root."""
    mdd, osd = world.mdt.mdd, world.mdt.osd
    found = {}
    for entry in mdd.entries(ROOT_FID, 0):
        if entry.name not in (b".", b".."):
            attrs = osd.attrs(entry.fid)
            found[entry.name.decode()] = (entry.fid, attrs.mode, attrs.nlink)
    return found


def work(c: Ghost) -> Any:
    """One of each, in an order in which each depends on those before."""
    folder = yield from c.mkdir("d")
    file = yield from c.create("f")
    yield from c.setattr(file, MDS_ATTR_MTIME, mtime=12345)
    yield from c.setxattr(file, "user.a", b"1")
    yield from c.link(file, "g")
    yield from c.rename("g", "h", target=folder)
    yield from c.create("victim")
    yield from c.unlink("victim")
    yield from c.create("s", stat.S_IFLNK | 0o777, target="f")
    return file, folder


def test_everything_lost_is_there_again(world: World) -> None:
    c = world.c0
    file, folder = world.run(work(c))
    before = namespace(world)
    world.restart()
    assert namespace(world) == {}
    replies = world.run(c.imp.come_back(*replayable(c)))
    assert namespace(world) == before
    assert world.mdt.osd.attrs(file).mtime == 12345
    assert world.mdt.osd.xattr(file, "user.a") == b"1"
    assert world.mdt.mdd.find(folder, b"h")[0] == file
    assert [one.body.transno for one in replies] == [one.transno for one in replayable(c)]
    assert "replayed_requests: 9" in world.mdt.recovery_status
    assert not world.mdt.recovering
    assert world.run(c.create("later"))
    assert c.last().transno >> 32 > replies[-1].body.transno >> 32


def test_what_was_replayed_is_lost_and_replayed_again(world: World) -> None:
    c = world.c0
    world.run(work(c))
    before = namespace(world)
    again = replayable(c)
    world.restart()
    world.run(c.imp.come_back(*again[:4], finish=False))
    world.restart()
    world.run(c.imp.come_back(*again))
    assert namespace(world) == before


def test_versions_tell_what_a_change_found(world: World) -> None:
    c = world.c0
    world.run(work(c))
    folder, file, touch, setxattr, link, rename, victim, unlink, symlink = replayable(c)

    def versions(done: Done) -> tuple[int, ...]:
        return done.reply.body.pre_versions

    assert versions(folder) == (0, 1, 1, 0)
    assert versions(file) == (0, 1, 1, 0)
    assert versions(touch) == (0, 0, 0, 0)
    assert versions(setxattr) == (file.transno, 0, 0, 0)
    assert versions(link) == (0, setxattr.transno, 1, 0)
    assert versions(rename) == (0, folder.transno, link.transno, 1)
    assert versions(unlink) == (0, victim.transno, 0, 0)
    assert versions(symlink) == (0, 1, 1, 0)
    assert world.mdt.osd.attrs(file.reply["mdt_body"].fid1).version == rename.transno


def test_a_replay_that_finds_another_version_costs_its_client(two: World) -> None:
    one, other = two.c0, two.c1
    file = two.run(one.create("f"))
    two.commit()
    two.run(other.setattr(file, MDS_ATTR_MODE, mode=0o666))
    two.run(one.setattr(file, MDS_ATTR_MODE, mode=0o777))
    lost = one.last()
    two.restart()
    two.run(one.imp.connect(lost.transno))
    two.env.process(quiet(other.imp.come_back()))
    two.later(10**9)
    with two.fails(errno.EOVERFLOW):
        two.run(one.imp.replay(lost))
    two.later(10**9)
    with two.fails(errno.ETIMEDOUT):
        two.run(one.imp.send(done_ping(), flags=0x40 | 0x80))
    assert not two.mdt.recovering
    assert two.mdt.osd.attrs(file).mode & 0o777 not in (0o666, 0o777)
    assert [export.client_uuid for export in two.mdt.exports] == ["c1-uuid"]


def test_times_depend_on_nobody(two: World) -> None:
    """replay-vbr 4i, 4k: no version changes, and none is looked at."""
    one, other = two.c0, two.c1
    file = two.run(one.create("f"))
    two.commit()
    before = two.mdt.osd.attrs(file).version
    two.run(other.setattr(file, MDS_ATTR_MODE, mode=0o666))
    two.run(one.setattr(file, MDS_ATTR_MTIME, mtime=2))
    lost = one.last()
    assert lost.reply.body.pre_versions == (0, 0, 0, 0)
    two.restart()
    two.run(one.imp.connect(lost.transno))
    two.env.process(quiet(other.imp.come_back()))
    two.later(10**9)
    two.run(one.imp.replay(lost))
    assert two.mdt.osd.attrs(file).mtime == 2
    assert two.mdt.osd.attrs(file).version == before


def test_a_create_depends_on_its_directory(two: World) -> None:
    """replay-vbr 1b: an open that makes a file looks at the version of the directory."""
    one, other = two.c0, two.c1
    folder = two.run(one.mkdir("d"))
    two.commit()
    two.run(other.setattr(folder, MDS_ATTR_MODE, mode=0o777))
    two.run(one.open("f", CREATE, parent=folder))
    lost = one.last()
    two.restart()
    two.run(one.imp.connect(lost.transno))
    two.env.process(quiet(other.imp.come_back()))
    two.later(10**9)
    reply = two.run(one.imp.replay(lost))
    assert intent_result(reply)[1] == errno.EOVERFLOW
    two.later(10**9)
    with two.fails(errno.ETIMEDOUT):
        two.run(one.imp.send(done_ping(), flags=0x40 | 0x80))
    assert [export.client_uuid for export in two.mdt.exports] == ["c1-uuid"]


def done_ping() -> Any:
    from labsim.net.ptlrpc import Request

    return Request(OBD_PING)


def quiet(steps: Any) -> Any:
    with suppress(LustreError):
        yield from steps


# ---- opens


def opened(world: World, c: Ghost, name: str, flags: int) -> Any:
    return world.run(c.open(name, flags))


def test_an_open_is_replayed_with_its_objects_and_closed_by_its_old_handle(world: World) -> None:
    c = world.c0
    before = opened(world, c, "f", CREATE)
    stripes = layout.parse(bytes(before.reply["mdt_md"]))[1]
    world.restart()
    (reply,) = world.run(c.imp.come_back(*replayable(c)))
    after = Answer(None, reply)
    assert after.has(DISP_OPEN_CREATE | DISP_OPEN_OPEN)
    assert after.body.fid1 == before.body.fid1
    assert after.body.open_handle not in (0, before.body.open_handle)
    assert world.mdt.lod.stripes(before.body.fid1) == stripes
    assert len(world.mdt.opens) == 1
    world.later(2 * 10**9)
    more = opened(world, c, "g", CREATE)
    assert layout.parse(bytes(more.reply["mdt_md"]))[1][0] != stripes[0]
    world.run(c.close(after.body.open_handle))
    world.run(c.close(more.body.open_handle))
    assert len(world.mdt.opens) == 0


def test_a_committed_open_is_replayed_too_and_its_close(world: World) -> None:
    c = world.c0
    world.run(c.create("f"))
    before = opened(world, c, "f", MDS_FMODE_READ)
    world.commit()
    handle = before.body.open_handle
    opening = c.last()
    world.run(c.close(handle))
    closing = c.last(MDS_CLOSE)
    assert closing.transno > opening.transno
    world.restart()
    world.run(c.imp.come_back(opening, closing))
    assert len(world.mdt.opens) == 0
    assert not world.mdt.recovering


def test_an_open_whose_object_is_gone_and_that_does_not_create(world: World) -> None:
    c = world.c0
    world.run(c.create("f"))
    opened(world, c, "f", MDS_FMODE_READ)
    _, opening = replayable(c)
    world.restart()
    world.run(c.imp.connect(opening.transno))
    (status,) = [Answer(None, world.run(c.imp.replay(opening))).status]
    assert status in (errno.EFAULT, -errno.EFAULT)


def test_a_file_without_a_name_outlives_a_restart_while_it_is_open(world: World) -> None:
    c = world.c0
    world.run(c.create("f"))
    answer = opened(world, c, "f", MDS_FMODE_WRITE)
    opening = c.last()
    world.run(c.unlink("f"))
    world.commit()
    world.restart()
    assert world.mdt.mdd.orphans() == [answer.body.fid1]
    (reply,) = world.run(c.imp.come_back(opening))
    world.later(10**9)
    assert world.mdt.mdd.orphans() == [answer.body.fid1]
    world.run(c.close(reply["mdt_body"].open_handle))
    assert world.mdt.mdd.orphans() == []
    assert not world.mdt.osd.exists(answer.body.fid1)


def test_an_orphan_that_nobody_replays_goes_after_recovery(two: World) -> None:
    c = two.c0
    two.run(c.create("f"))
    answer = opened(two, c, "f", MDS_FMODE_WRITE)
    two.run(c.unlink("f"))
    two.commit()
    two.restart()
    two.env.process(quiet(c.imp.come_back()))
    two.later(100 * 10**9)
    assert two.mdt.mdd.orphans() == [answer.body.fid1]
    two.later(300 * 10**9)
    assert two.mdt.mdd.orphans() == []


def test_an_unlink_that_is_replayed_waits_for_who_may_have_it_open(two: World) -> None:
    one, other = two.c0, two.c1
    two.run(one.create("f"))
    opened(two, other, "f", MDS_FMODE_READ)
    opening = other.last()
    two.commit()
    two.run(one.unlink("f"))
    two.restart()
    steps = [two.env.process(one.imp.come_back(one.last())),
             two.env.process(later(two, 5, other.imp.come_back(opening)))]  # fmt: skip
    for step in steps:
        two.env.run(step)
    two.later(10**9)
    assert len(two.mdt.mdd.orphans()) == len(two.mdt.opens) == 1


def later(world: World, seconds: int, steps: Any) -> Any:
    yield world.env.timeout(seconds * 10**9)
    return (yield from steps)


def test_objects_of_a_replayed_unlink_are_destroyed(world: World) -> None:
    c = world.c0
    answer = opened(world, c, "f", CREATE)
    world.run(c.close(answer.body.open_handle))
    world.commit()
    world.run(c.unlink("f"))
    unlink = c.last(MDS_REINT)
    world.restart()
    world.run(c.imp.come_back(unlink))
    world.later(100 * 10**9)
    assert namespace(world) == {}
    osp = world.mdt.osps[0]
    assert not osp.doomed
    ost = world.node("oss0").targets[0]
    stripe = layout.parse(bytes(answer.reply["mdt_md"]))[1][0]
    assert stripe.oid not in {fid.oid for fid in ost.osd.objects() if fid.seq >> 32 == 1}


# ---- asked again


@pytest.mark.parametrize("ghost", [Ghost, OneAtATime])
@pytest.mark.parametrize("restart", [False, True])
def test_what_is_asked_again_is_answered_and_not_done_again(ghost: type, restart: bool) -> None:
    world = World(1, ghost)
    c = world.c0
    world.run(c.create("f"))
    fid = world.run(c.mkdir("d"))
    made = c.last()
    if restart:
        world.commit()
        world.restart()
        world.run(c.imp.come_back())
    before = world.mdt.last_transno
    reply = world.run(c.imp.resend(made))
    assert reply.body.transno == made.transno
    assert reply.body.pre_versions == ((0, 0, 0, 0) if ghost is Ghost and restart
                                       else made.reply.body.pre_versions)  # fmt: skip
    assert reply["mdt_body"].fid1 == fid
    assert world.mdt.last_transno == before
    world.run(c.rename("f", "g"))
    moved = c.last()
    if restart:
        world.commit()
        world.restart()
        world.run(c.imp.come_back())
    assert world.run(c.imp.resend(moved)).body.transno == moved.transno
    assert set(namespace(world)) == {"d", "g"}
    world.cluster.close()


def test_an_open_that_is_asked_again_has_one_handle(world: World) -> None:
    c = world.c0
    first = opened(world, c, "f", CREATE)
    made = c.last(LDLM_ENQUEUE)
    again = Answer(None, world.run(c.imp.resend(made)))
    assert again.body.open_handle == first.body.open_handle
    assert again.has(DISP_OPEN_CREATE | DISP_OPEN_OPEN)
    assert again.reply.body.transno == made.transno
    assert len(world.mdt.opens) == 1


def test_an_open_that_is_asked_again_after_a_restart_is_open_again(world: World) -> None:
    c = world.c0
    first = opened(world, c, "f", CREATE)
    made = c.last(LDLM_ENQUEUE)
    world.commit()
    world.restart()
    world.run(c.imp.come_back())
    again = Answer(None, world.run(c.imp.resend(made)))
    assert again.status == 0
    assert again.has(DISP_OPEN_CREATE | DISP_OPEN_OPEN)
    assert again.body.fid1 == first.body.fid1
    assert len(world.mdt.opens) == 1
    world.run(c.close(again.body.open_handle))


def test_what_never_happened_is_done_when_it_is_asked_again(world: World) -> None:
    c = world.c0
    world.run(c.mkdir("d"))
    lost = c.last()
    world.restart()
    world.run(c.imp.come_back())
    assert namespace(world) == {}
    reply = world.run(c.imp.resend(lost))
    assert list(namespace(world)) == ["d"]
    assert reply.body.transno != lost.transno


# ---- clients on disk


def test_slots_survive_and_are_free_when_clients_leave(two: World) -> None:
    two.later(10 * 10**9)
    two.restart()
    assert [slot.uuid for slot in two.mdt.last_rcvd.clients] == ["c0-uuid", "c1-uuid"]
    reply = two.run(two.c0.imp.connect())
    assert reply.body.op_flags & MSG_CONNECT_RECOVERING
    two.run(two.c0.imp.disconnect())
    two.later(400 * 10**9)
    assert two.mdt.recovery_status.startswith("status: COMPLETE")
    assert len(two.mdt.exports) == 0
    two.later(10 * 10**9)
    two.restart()
    assert two.mdt.last_rcvd.clients == []
    assert two.mdt.recovery_status == "status: INACTIVE"


def test_a_new_client_commits_at_once_until_its_slot_is_on_disk(world: World) -> None:
    world.run(world.c0.imp.disconnect())
    world.c0.imp.conn_cnt = world.c0.imp.handle = 0
    world.run(world.c0.imp.connect())
    world.run(world.c0.create("f"))
    assert world.mdt.last_committed == world.mdt.last_transno
    world.later(10 * 10**9)
    world.run(world.c0.create("g"))
    assert world.mdt.last_committed < world.mdt.last_transno


def test_transnos_are_never_given_out_twice(world: World) -> None:
    seen: list[int] = []
    for _ in range(3):
        world.run(world.c0.create(f"f{len(seen)}"))
        seen.append(world.c0.last().transno)
        world.restart()
        world.run(world.c0.imp.come_back())
    assert [one >> 32 for one in seen] == [1, 2, 3]


def test_objects_of_files_that_nobody_brings_back_are_destroyed(two: World) -> None:
    one, other = two.c0, two.c1
    lost = opened(two, one, "lost", CREATE)
    kept = opened(two, other, "kept", CREATE)
    opening = other.last()
    ids = [layout.parse(bytes(answer.reply["mdt_md"]))[1][0].oid for answer in (lost, kept)]
    assert ids[0] < ids[1]
    two.restart()
    two.run(other.imp.come_back(opening))
    two.later(100 * 10**9)
    assert list(namespace(two)) == ["kept"]
    ost = two.node("oss0").targets[0]
    there = {fid.oid for fid in ost.osd.objects() if fid.seq >> 32 == 1}
    assert ids[1] in there
    assert ids[0] not in there
    assert there - {0, ids[1]} == set(two.mdt.osps[0].free)


def test_what_failed_on_the_disk_is_not_remembered_as_done(world: World) -> None:
    c = world.c0
    world.run(c.create("f"))
    space = world.mdt.osd.space
    capacity, space.max_files = space.max_files, space.files
    with world.fails(errno.ENOSPC):
        world.run(c.mkdir("d"))
    failed = c.last()
    space.max_files = capacity
    assert failed.reply.body.transno == 0
    reply = world.run(c.imp.resend(failed))
    assert reply.body.transno
    assert set(namespace(world)) == {"d", "f"}


def test_an_administrator_throws_a_client_out(two: World) -> None:
    answer = opened(two, two.c0, "f", CREATE)
    two.run(two.c0.unlink("f"))
    two.mdt.evict_client("c0-uuid")
    two.later(10**9)
    assert [export.client_uuid for export in two.mdt.exports] == ["c1-uuid"]
    assert not two.mdt.osd.exists(answer.body.fid1)
    assert len(two.mdt.opens) == 0
    two.later(10 * 10**9)
    two.restart()
    assert [slot.uuid for slot in two.mdt.last_rcvd.clients] == ["c1-uuid"]


def test_a_slot_that_was_not_freed_is_waited_for(two: World) -> None:
    two.fault(points.TGT_CLIENT_DEL)
    two.run(two.c1.imp.disconnect())
    two.later(10 * 10**9)
    two.restart()
    two.env.process(quiet(two.c0.imp.come_back()))
    two.later(100 * 10**9)
    assert "connected_clients: 1/2" in two.mdt.recovery_status


def test_there_is_no_slot_for_a_new_client(world: World) -> None:
    c = world.c0
    world.run(c.imp.disconnect())
    world.fault(points.TGT_CLIENT_ADD)
    c.imp.conn_cnt = c.imp.handle = 0
    with world.fails(errno.ENOSPC):
        world.run(c.imp.connect())
    assert len(world.mdt.exports) == 0
    world.run(c.imp.connect())
    assert len(world.mdt.exports) == 1


def test_the_length_from_before_the_objects_outlives_both_powers(world: World) -> None:
    c = world.c0
    fid = world.run(c.create("f"))
    world.run(c.setattr(fid, MDS_ATTR_SIZE, size=3_000_000))
    asked = layout.pack_default(Wanted(count=1, size=1 << 20))
    made = world.run(c.open("f", MDS_FMODE_WRITE, eadata=asked))
    opening = c.last()
    world.commit()
    world.restart("mds0", "oss0")
    world.run(c.imp.come_back(opening))
    world.later(400 * 10**9)
    stripe = layout.parse(bytes(made.reply["mdt_md"]))[1][0]
    ost = world.node("oss0").targets[0].snapshot()
    assert ost["objects"][str(stripe.oid)] == 3_000_000

"""The locks of a change stay until its client has the reply, or until the change is on disk."""

from __future__ import annotations

import errno
from os import XATTR_REPLACE
from typing import Any

from labsim.base.units import NS_PER_S
from labsim.nodes.mds import points
from labsim.wire.constants import LCK_PR, MDS_ATTR_MODE, MDS_INODELOCK_UPDATE

from .rig import World

MS = 1_000_000
COMMIT = 5 * NS_PER_S


def asleep(world: World, steps: Any) -> Any:
    """Begin something beside the test; a millisecond goes by."""
    process = world.env.process(steps)
    process.defused = True
    world.later(MS)
    return process


def test_they_go_with_the_acknowledgement(two: World) -> None:
    two.run(two.c0.mkdir("d"))
    two.later(MS)
    assert len(two.mdt.kept) == 0 and two.mdt.last_committed < two.mdt.last_transno


def test_a_lost_reply_keeps_others_off_until_the_client_asks_again(two: World) -> None:
    two.fault(points.MDS_REINT_NET_REP)
    making = asleep(two, two.c0.mkdir("d"))
    assert not making.triggered and len(two.mdt.kept) == 1
    other = asleep(two, two.c1.mkdir("d"))
    assert not other.triggered
    two.later(COMMIT + NS_PER_S)
    assert len(two.mdt.kept) == 0  # it is on disk: nobody can lose it any more
    assert other.triggered


def test_what_is_committed_at_once_keeps_nothing(two: World) -> None:
    two.mdt.mdd.sync_permission = True
    fid = two.run(two.c0.create("f"))
    two.later(MS)
    two.fault(points.MDS_REINT_NET_REP)
    asleep(two, two.c0.setattr(fid, MDS_ATTR_MODE, mode=0o600))
    assert len(two.mdt.kept) == 0


def test_they_go_with_their_client(two: World) -> None:
    two.fault(points.MDS_REINT_NET_REP)
    asleep(two, two.c0.mkdir("d"))
    for export in two.mdt.exports:
        if export.client_uuid.startswith("c0"):
            export.evict("for the test")
    assert len(two.mdt.kept) == 0


def test_commit_on_sharing_makes_another_client_wait_for_the_disk(two: World) -> None:
    two.mdt.commit_on_sharing = True
    two.run(two.c0.mkdir("d"))
    two.later(MS)
    assert len(two.mdt.kept) == 1
    before = two.mdt.last_transno
    two.run(two.c1.mkdir("e"))  # another name, and a weak lock on the directory
    assert two.mdt.last_committed < before
    two.run(two.c1.unlink("d", folder=True))
    assert two.mdt.last_committed >= before


def test_commit_on_sharing_lets_the_same_client_go_on(two: World) -> None:
    two.mdt.commit_on_sharing = True
    fid = two.run(two.c0.mkdir("d"))
    lock, _ = two.run(two.c0.enqueue(fid, LCK_PR, MDS_INODELOCK_UPDATE))
    two.c0.ns.put(lock)
    two.run(two.c0.unlink("d", folder=True))
    two.run(two.c0.mkdir("d"))
    assert two.mdt.last_committed < two.mdt.last_transno - 2
    two.later(COMMIT + NS_PER_S)
    assert len(two.mdt.kept) == 0


def test_a_change_that_failed_fails_again_when_its_reply_is_lost(two: World) -> None:
    fid = two.run(two.c0.create("f"))
    two.fault(points.MDS_REINT_NET_REP)
    with two.fails(errno.ENODATA):
        two.run(two.c0.setxattr(fid, "user.a", b"1", XATTR_REPLACE))

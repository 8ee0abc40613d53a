"""Each invariant catches the defect that it is there for: planted in the code, found after work.

That each checker is silent on a healthy cluster and speaks of what a snapshot shows is in
`tests/scenario/test_checkers.py`; here the nodes themselves are wrong.
"""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.units import NS_PER_S
from labsim.ldlm.client import ClientNamespace
from labsim.ldlm.extent import ExtentResource
from labsim.ldlm.server import ServerNamespace
from labsim.nodes.client.grant import GrantAccount
from labsim.nodes.client.llite import Llite
from labsim.nodes.client.mdc import Mdc
from labsim.nodes.client.osc_object import OscObject
from labsim.nodes.mds import mdt_rename
from labsim.nodes.mds.lod import Lod
from labsim.nodes.mds.mdd import Mdd
from labsim.nodes.mds.osp import Osp
from labsim.nodes.target import Target
from labsim.scenario import checkers
from labsim.scenario.cluster import Cluster

WORK = (
    (0, "mkdir d"),
    (0, "dd if=/dev/zero of=d/f bs=1000 count=30 status=none"),
    (1, "cat d/f"),
    (1, "stat d/f"),
    (1, "ls -l d"),
    (0, "setfattr -n user.a -v 1 d/f"),
    (1, "getfattr -d d/f"),
    (0, "ln d/f d/g"),
    (0, "mkdir d/e"),
    (1, "stat d/g"),
    (1, "touch d/h"),
    (1, "dd if=/dev/zero of=d/f bs=1000 count=3 conv=notrunc status=none"),
    (0, "mv d/g d/e/g"),
    (0, "echo x > gone"),
    (0, "rm gone"),
    (0, "proc p open orphan O_RDWR|O_CREAT"),
    (0, "rm orphan"),
    (0, "proc p exit"),
    (1, "dd if=/dev/zero of=i bs=1000 count=3 status=none"),
)


def nothing(*_ignored: Any, **_too: Any) -> None:
    """In place of what must be done."""


def no_steps(*_ignored: Any, **_too: Any) -> Any:
    """In place of what must be asked for."""
    return
    yield


def too_much(self: GrantAccount, _pages: int, grant: int, _most: int) -> bool:
    """A client that spends grant without counting."""
    self.avail += grant
    return True


def same_object(self: Osp) -> Any:
    """An MDT that gives the same object to everybody."""
    self.reserved[1] = None
    return 1
    yield


def too_early(self: Target, transno: int, _export: object) -> None:
    """A target that says something is durable before it is."""
    self.last_committed = transno + 100


DEFECTS: dict[str, tuple[object, str, Any]] = {
    "no_conflicting_locks": (ExtentResource, "may_grant", lambda *_: True),
    "both_sides_know_a_lock": (ServerNamespace, "cancel", lambda *_, **__: 1),
    "no_lock_is_held": (ClientNamespace, "put", nothing),
    "transno_only_grows": (Target, "_committed", too_early),
    "names_lead_somewhere": (Mdd, "_leave", nothing),
    "link_counts_are_right": (Mdd, "_touch", nothing),
    "layouts_have_their_objects": (Osp, "reserve", same_object),
    "no_object_is_an_orphan": (Lod, "destroy", nothing),
    "caches_are_covered": (Llite, "forget", nothing),
    "pages_are_covered": (OscObject, "uncover", nothing),
    "cached_names_are_true": (mdt_rename, "MOVE_BITS", 0x20),
    "grants_are_conserved": (GrantAccount, "reserve", too_much),
    "nothing_is_left_open": (Mdc, "close", no_steps),
    "orphans_are_open": (Mdd, "destroy_orphan", nothing),
}


def work() -> list[str]:
    """Some work on a cluster, and the names of the invariants that do not hold after it."""
    with Cluster(clients=2, oss=1, osts=1, trace_keep=0) as cluster:
        for client, line in WORK:
            cluster.client(client).run(line)
        cluster.run(cluster.env.timeout(60 * NS_PER_S))
        broken = checkers.check([cluster.run(cluster.snapshots())])
    return [sentence.partition(":")[0] for sentence in broken]


def test_without_a_defect_all_is_well() -> None:
    assert work() == []


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, wrong = DEFECTS[name]
    assert hasattr(owner, attribute)
    monkeypatch.setattr(owner, attribute, wrong)
    assert name in work()


def test_there_is_a_defect_for_each_invariant() -> None:
    garbled = {"nothing_is_refused"}  # in test_garbage.py
    assert set(DEFECTS) | garbled == {check.__name__ for check in checkers.CHECKERS}

"""Invariants: each is silent on a healthy cluster, and speaks when that one thing is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from labsim.scenario import checkers
from labsim.scenario.cluster import Cluster


@pytest.fixture(scope="module")
def healthy() -> dict[str, Any]:
    """What the nodes of a small cluster say after some work."""
    with Cluster(clients=2, oss=2, osts=2) as cluster:
        for text in (
            "mkdir d",
            "touch d/f",
            "ln d/f hard",
            "setfattr -n user.a -v 1 d/f",
            "getfattr -d d/f",
            "lfs setstripe -c 2 big",
            "dd if=/dev/zero of=big bs=1M count=4 status=none",
            "rm hard",
            "ls -la",
        ):
            assert cluster.client(0).run(text).status == 0, text
        cluster.client(1).run("ls -la d")
        snapshots: dict[str, Any] = cluster.run(cluster.snapshots())
    assert checkers.check([snapshots]) == []
    return snapshots


def mdt(snapshots: dict[str, Any]) -> Any:
    return snapshots["mds0"]["targets"][0]


def ost(snapshots: dict[str, Any]) -> Any:
    return snapshots["oss0"]["targets"][0]


def row(snapshots: dict[str, Any], name: str) -> Any:
    """The namespace's row of a name in the root."""
    rows = {row["fid"]: row for row in mdt(snapshots)["namespace"]}
    root = next(row for row in rows.values() if row["entries"].get("..") == row["fid"])
    return rows[root["entries"][name]]


def conflicting(s: dict[str, Any]) -> None:
    lock = next(lock for lock in mdt(s)["locks"])
    mdt(s)["locks"].append(lock | {"mode": "EX", "owner": "somebody else"})


def forgotten_by_server(s: dict[str, Any]) -> None:
    mdt(s)["locks"].clear()


def forgotten_by_client(s: dict[str, Any]) -> None:
    s["c0"]["mdcs"][0]["locks"].clear()


def used(s: dict[str, Any]) -> None:
    s["c0"]["mdcs"][0]["locks"][0]["refs"] = 1


def ahead(s: dict[str, Any]) -> None:
    mdt(s)["last_committed"] = mdt(s)["last_transno"] + 1


def unnamed(s: dict[str, Any]) -> None:
    mdt(s)["namespace"].append(
        {"fid": "[0x9:0x9:0x0]", "mode": 0o100644, "nlink": 0, "links": [], "entries": {},
         "stripes": []}
    )  # fmt: skip


def dangling(s: dict[str, Any]) -> None:
    row(s, "d")["entries"]["gone"] = "[0x9:0x9:0x0]"


def miscounted(s: dict[str, Any]) -> None:
    row(s, "big")["nlink"] = 7


def mislinked(s: dict[str, Any]) -> None:
    row(s, "big")["links"] = [["[0x1:0x1:0x0]", "other"]]


def lost_object(s: dict[str, Any]) -> None:
    index, number = row(s, "big")["stripes"][0]
    node = f"oss{index}"
    del s[node]["targets"][0]["objects"][str(number)]


def shared_object(s: dict[str, Any]) -> None:
    stripes = row(s, "big")["stripes"]
    stripes.append(stripes[0])


def orphan_object(s: dict[str, Any]) -> None:
    for osp in mdt(s)["osps"]:
        osp["free"].remove(osp["free"][0])


def uncovered_xattrs(s: dict[str, Any]) -> None:
    for inode in s["c0"]["llite"]["inodes"].values():
        inode["xattrs"], inode["covered"] = ["user.a"], 0


def uncovered_entries(s: dict[str, Any]) -> None:
    for inode in s["c0"]["llite"]["inodes"].values():
        inode["xattrs"], inode["entries"], inode["covered"] = None, ["f"], 0


def cached(s: dict[str, Any]) -> Any:
    return next(told for told in s["c0"]["oscs"][0]["objects"] if told["cached"])


def uncovered_pages(s: dict[str, Any]) -> None:
    cached(s)["locks"][0][2] = 4096


def dirty_nowhere(s: dict[str, Any]) -> None:
    cached(s)["dirty"].append([1 << 40, 1 << 41])


def untrue_name(s: dict[str, Any]) -> None:
    root = next(r for r in mdt(s)["namespace"] if r["entries"].get("..") == r["fid"])
    root["entries"]["big"], root["entries"]["d"] = root["entries"]["d"], root["entries"]["big"]


def too_much_grant(s: dict[str, Any]) -> None:
    s["c0"]["oscs"][0]["grant"] = 1 << 50


def wrong_sum(s: dict[str, Any]) -> None:
    s["oss0"]["targets"][0]["grants"]["tot"][0] += 4096


def grant_of_nobody(s: dict[str, Any]) -> None:
    grants = s["oss0"]["targets"][0]["grants"]
    grants["clients"]["0x77"] = [4096, 0, 0]
    grants["tot"][0] += 4096


def open_file(s: dict[str, Any]) -> None:
    mdt(s)["opens"].append({"fid": "[0x9:0x9:0x0]", "handle": 1, "flags": 0})


def lost_orphan(s: dict[str, Any]) -> None:
    mdt(s)["orphans"].append("[0x9:0x9:0x0]")


def refused(s: dict[str, Any]) -> None:
    s["oss0"]["lnet"]["refused"] = 1


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        (conflicting, "no_conflicting_locks"),
        (forgotten_by_server, "both_sides_know_a_lock"),
        (forgotten_by_client, "both_sides_know_a_lock"),
        (used, "no_lock_is_held"),
        (ahead, "transno_only_grows"),
        (unnamed, "names_lead_somewhere"),
        (dangling, "names_lead_somewhere"),
        (miscounted, "link_counts_are_right"),
        (mislinked, "link_counts_are_right"),
        (lost_object, "layouts_have_their_objects"),
        (shared_object, "layouts_have_their_objects"),
        (orphan_object, "no_object_is_an_orphan"),
        (uncovered_xattrs, "caches_are_covered"),
        (uncovered_entries, "caches_are_covered"),
        (uncovered_pages, "pages_are_covered"),
        (dirty_nowhere, "pages_are_covered"),
        (untrue_name, "cached_names_are_true"),
        (too_much_grant, "grants_are_conserved"),
        (wrong_sum, "grants_are_conserved"),
        (grant_of_nobody, "grants_are_conserved"),
        (open_file, "nothing_is_left_open"),
        (lost_orphan, "orphans_are_open"),
        (refused, "nothing_is_refused"),
    ],
)
def test_harm_is_noticed(
    healthy: dict[str, Any], harm: Callable[[dict[str, Any]], None], name: str
) -> None:
    harmed = copy.deepcopy(healthy)
    harm(harmed)
    assert name in {what.partition(":")[0] for what in checkers.check([harmed])}


def test_every_checker_is_tested() -> None:
    names = {check.__name__ for check in checkers.CHECKERS}
    assert len(names) == 15
    assert all(check.__doc__ for check in checkers.CHECKERS)


def test_what_was_committed_stays_committed(healthy: dict[str, Any]) -> None:
    before = copy.deepcopy({"mds0": healthy["mds0"]})
    mdt(before)["last_transno"] = mdt(before)["last_committed"] = 1 << 40
    found = checkers.check([before, healthy])
    assert [what.partition(":")[0] for what in found] == ["transno_only_grows"] * 2


def test_a_client_may_not_know_yet_that_a_server_was_restarted(healthy: dict[str, Any]) -> None:
    after = copy.deepcopy(healthy)
    forgotten_by_server(after)
    after["oss0"]["targets"][0]["grants"]["clients"].clear()
    after["oss0"]["targets"][0]["grants"]["tot"] = [0, 0, 0]
    after["oss0"]["targets"][0]["grants"]["own"] = [0, 0, 0]
    before = {name: healthy[name] for name in ("mds0", "oss0")}
    assert checkers.check([after])
    assert checkers.check([before, after]) == []


def test_a_node_that_is_off_is_no_witness(healthy: dict[str, Any]) -> None:
    for gone in ("mds0", "oss0", "oss1", "c0"):
        rest = {name: node for name, node in healthy.items() if name != gone}
        assert checkers.check([{gone: healthy[gone]}, rest]) == [], gone

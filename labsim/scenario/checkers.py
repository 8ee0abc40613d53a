"""Invariants: what must hold after every scenario, whatever it did.

Pure functions over what the nodes said of themselves (`snapshot`), oldest first; does not know
runtimes or verdicts. Each returns one sentence for each thing that does not hold. Stands for lfsck,
and for the LASSERTs of Lustre.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from labsim.ldlm.policy import MODES, Extent, Flock, Ibits, Plain, Policy, conflict, mode_name
from labsim.wire.constants import (
    LDLM_EXTENT,
    LDLM_FLOCK,
    LDLM_IBITS,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_UPDATE,
    MDS_INODELOCK_XATTR,
    OBD_OBJECT_EOF,
)

Snapshot = Mapping[str, Any]
Snapshots = Mapping[str, Snapshot]
"""By node name."""
History = Sequence[Snapshots]
"""What was seen in the course of a run; the last one is the end and has every node."""
Checker = Callable[[History], Iterator[str]]

S_IFMT, S_IFDIR = 0o170000, 0o040000

CHECKERS: list[Checker] = []


def checker(check: Checker) -> Checker:
    """Run this one after every scenario."""
    CHECKERS.append(check)
    return check


def check(history: History, noticed: bool = False) -> list[str]:
    """Everything that does not hold, as CHECKER: SENTENCE.

    `noticed`: every client has had the time to find out which servers were restarted.
    """
    seen = Seen(history)
    seen.noticed = noticed
    return [f"{one.__name__}: {what}" for one in CHECKERS for what in one(seen)]


def check_any_time(snapshots: Snapshots) -> list[str]:
    """What does not hold though it must at any time, whatever is under way."""
    return [f"{one.__name__}: {what}" for one in ANY_TIME for what in one([snapshots])]


class Seen(list[Snapshots]):
    """A history that says whether clients know of all restarts."""

    noticed = False


# ---- reading snapshots


def targets(snapshots: Snapshots, kind: str = "") -> Iterator[Snapshot]:
    """Every MDT and OST, or those of one kind of node."""
    for node in snapshots.values():
        if node.get("role") in ({kind} if kind else {"mds", "oss"}) and node.get("mounted"):
            yield from node["targets"]


def clients(snapshots: Snapshots) -> Iterator[Snapshot]:
    """Every mounted client."""
    return (n for n in snapshots.values() if n.get("role") == "client" and n.get("mounted"))


def devices(client: Snapshot) -> Iterator[Snapshot]:
    """A client's connected devices."""
    return (one for one in (*client["mdcs"], *client["oscs"]) if one["state"] == "FULL")


def restarted(history: History) -> set[str]:
    """The targets whose server lost its power: a client may not have noticed yet."""
    if isinstance(history, Seen) and history.noticed:
        return set()
    return {target["name"] for seen in history[:-1] for target in targets(seen)}


def policy(lock: Snapshot) -> Policy:
    """The policy of a lock in a snapshot."""
    text = str(lock["policy"])
    if lock["kind"] == LDLM_IBITS:
        return Ibits(int(text, 16))
    if lock["kind"] not in (LDLM_EXTENT, LDLM_FLOCK):
        return Plain()
    bounds, _, rest = text.partition("]")
    start, _, end = bounds.strip("[").partition("-")
    first, last = int(start), OBD_OBJECT_EOF if end == "EOF" else int(end)
    words = rest.split()
    if lock["kind"] == LDLM_FLOCK:
        return Flock(first, last, int(words[3], 16), int(words[1]))
    return Extent(first, last, int(words[1]) if words else 0)


_MODE = {mode_name(mode): mode for mode in MODES}


def _told(lock: Snapshot) -> str:
    name = ":".join(f"{part:#x}" for part in lock["resource"][:2])
    return f"{lock['mode']} lock {lock['policy']} on {name} of {lock['owner']}"


# ---- locks


@checker
def no_conflicting_locks(history: History) -> Iterator[str]:
    """No two locks are granted that exclude one another."""
    for target in targets(history[-1]):
        by_resource: dict[tuple[int, ...], list[Snapshot]] = {}
        for lock in target["locks"]:
            if lock["state"] == "GRANTED" and lock["mode"] in _MODE:
                by_resource.setdefault(tuple(lock["resource"]), []).append(lock)
        for locks in by_resource.values():
            for one, other in combinations(locks, 2):
                if one["owner"] != other["owner"] and conflict(
                    _MODE[one["mode"]], policy(one), _MODE[other["mode"]], policy(other)
                ):
                    yield f"{target['name']}: {_told(one)} and {_told(other)}"


@checker
def both_sides_know_a_lock(history: History) -> Iterator[str]:
    """A client's granted lock is the server's too, and the other way round.

    What is left of a file lock that was cut in two has no name of the other side's.
    """
    gone = restarted(history)
    servers = {t["name"]: t for t in targets(history[-1]) if t["name"] not in gone}
    for client in clients(history[-1]):
        for device in devices(client):
            target = servers.get(device["target"])
            if target is None:
                continue
            mine = {lock["cookie"] for lock in device["locks"]}
            theirs = {lock["cookie"]: lock for lock in target["locks"]}
            for lock in device["locks"]:
                part = lock["kind"] == LDLM_FLOCK and not lock["handle"]
                if lock["state"] == "GRANTED" and lock["handle"] not in theirs and not part:
                    yield f"{client['name']} has a {_told(lock)}, {target['name']} does not"
            for lock in theirs.values():
                part = lock["kind"] == LDLM_FLOCK and not lock["client_cookie"]
                known = lock["client_cookie"] in mine or part
                if lock["owner"] == client["uuid"] and not known:
                    yield f"{target['name']} has a {_told(lock)}, {client['name']} does not"


@checker
def no_lock_is_held(history: History) -> Iterator[str]:
    """Nobody is left who uses a lock."""
    for client in clients(history[-1]):
        for device in devices(client):
            for lock in device["locks"]:
                if lock["refs"]:
                    yield f"{client['name']}: {lock['refs']} references on a {_told(lock)}"


# ---- transactions


@checker
def transno_only_grows(history: History) -> Iterator[str]:
    """A target's numbers never go back below what it had committed, not even over a restart."""
    seen: dict[str, tuple[int, int]] = {}
    for snapshots in history:
        for target in targets(snapshots):
            name, last, committed = (
                target[key] for key in ("name", "last_transno", "last_committed")
            )
            before = seen.get(name, (0, 0))
            if committed < before[1]:
                yield f"{name}: {before[1]} was committed, now {committed}"
            if last < before[1]:
                yield f"{name}: {before[1]} was committed, the last transno is {last}"
            if committed > last:
                yield f"{name}: {committed} is committed, the last transno is {last}"
            seen[name] = last, max(committed, before[1])


# ---- the namespace


def _directory(row: Snapshot) -> bool:
    return bool(row["mode"] & S_IFMT == S_IFDIR)


@checker
def names_lead_somewhere(history: History) -> Iterator[str]:
    """Every entry leads to an object, every object but the root and orphans has a name."""
    rows = {row["fid"]: row for mdt in targets(history[-1], "mds") for row in mdt["namespace"]}
    orphans = {fid for mdt in targets(history[-1], "mds") for fid in mdt["orphans"]}
    named = Counter[str]()
    for row in rows.values():
        for name, fid in row["entries"].items():
            if fid not in rows:
                yield f"{row['fid']}: the entry '{name}' leads to {fid}, which is not there"
            if name not in {".", ".."}:
                named[fid] += 1
    for fid, row in rows.items():
        root = row["entries"].get("..") == fid
        if not named[fid] and not root and fid not in orphans:
            yield f"{fid} has no name and is no orphan"


@checker
def link_counts_are_right(history: History) -> Iterator[str]:
    """A file has as many links as names; a directory two, and one for each directory in it."""
    for mdt in targets(history[-1], "mds"):
        rows = {row["fid"]: row for row in mdt["namespace"]}
        names: dict[str, list[list[str]]] = {fid: [] for fid in rows}
        below = Counter[str]()
        for row in rows.values():
            for name, fid in row["entries"].items():
                if name in {".", ".."}:
                    continue
                names.setdefault(fid, []).append([row["fid"], name])
                below[row["fid"]] += fid in rows and _directory(rows[fid])
        for fid, row in rows.items():
            if fid in mdt["orphans"]:
                continue
            right = 2 + below[fid] if _directory(row) else len(names[fid])
            if row["nlink"] != right:
                yield f"{mdt['name']}: {fid} has nlink {row['nlink']}, not {right}"
            if row["links"] and sorted(row["links"]) != sorted(names[fid]):
                yield f"{mdt['name']}: {fid} says it is {row['links']}, but is {names[fid]}"


# ---- objects


def _stripes(history: History) -> Counter[tuple[int, int]]:
    """(OST index, object id) of every layout."""
    return Counter(
        tuple(stripe)
        for mdt in targets(history[-1], "mds")
        for row in mdt["namespace"]
        for stripe in row["stripes"]
    )


@checker
def layouts_have_their_objects(history: History) -> Iterator[str]:
    """No layout names an object that is not there, no two name the same."""
    osts = {ost["index"]: ost for ost in targets(history[-1], "oss")}
    for (index, number), count in sorted(_stripes(history).items()):
        if index in osts and str(number) not in osts[index]["objects"]:
            yield f"a layout names object {number} of {osts[index]['name']}, which is not there"
        if count > 1:
            yield f"{count} layouts name object {number} of OST {index}"


@checker
def no_object_is_an_orphan(history: History) -> Iterator[str]:
    """An object belongs to a layout, waits to be used, or is about to be destroyed."""
    used = _stripes(history)
    osps = {osp["index"]: osp for mdt in targets(history[-1], "mds") for osp in mdt["osps"]}
    for ost in targets(history[-1], "oss"):
        osp = osps.get(ost["index"])
        if osp is None:
            continue
        waiting = {*osp["free"], *osp["doomed"]}
        for number in map(int, ost["objects"]):
            known = (ost["index"], number) in used or number in waiting
            if not known and number <= osp["last_created"]:
                yield f"{ost['name']}: object {number} belongs to nothing"


# ---- what clients cache


@checker
def caches_are_covered(history: History) -> Iterator[str]:
    """What a client caches it has a lock for."""
    for client in clients(history[-1]):
        for fid, inode in client["llite"]["inodes"].items():
            covered = inode["covered"]
            if inode["xattrs"] is not None and not covered & MDS_INODELOCK_XATTR:
                yield f"{client['name']} caches xattrs of {fid} without a lock"
            if inode["entries"] is not None and not covered & MDS_INODELOCK_UPDATE:
                yield f"{client['name']} caches the entries of {fid} without a lock"


@checker
def pages_are_covered(history: History) -> Iterator[str]:
    """Every cached byte of a file lies under a lock of its client, every dirty one is cached."""
    for client in clients(history[-1]):
        for osc in client["oscs"]:
            for told in osc["objects"]:
                locks = sorted((start, end) for _, start, end in told["locks"])
                who = f"{client['name']}: bytes %d to %d of {told['fid']} on {osc['target']} are"
                for low, high in told["cached"]:
                    at = low
                    for start, end in locks:
                        if start <= at < end:
                            at = end
                    if at < high:
                        yield f"{who % (at, high)} cached without a lock"
                for low, high in told["dirty"]:
                    if not any(start <= low and high <= end for start, end in told["cached"]):
                        yield f"{who % (low, high)} dirty, but not cached"


@checker
def cached_names_are_true(history: History) -> Iterator[str]:
    """A name that a client may use without asking leads where the MDT says."""
    rows = {row["fid"]: row for mdt in targets(history[-1], "mds") for row in mdt["namespace"]}
    for client in clients(history[-1]):
        inodes = client["llite"]["inodes"]
        for fid, inode in inodes.items():
            for name, child in inode["dentries"].items():
                holder = inodes.get(child) if child else inode
                bit = MDS_INODELOCK_LOOKUP if child else MDS_INODELOCK_UPDATE
                if holder is None or not holder["covered"] & bit or fid not in rows:
                    continue
                truth = rows[fid]["entries"].get(name)
                if truth != child:
                    yield f"{client['name']}: '{name}' in {fid} is {truth}, cached is {child}"


@checker
def grants_are_conserved(history: History) -> Iterator[str]:
    """A client has the grant that its OST gave it, and each OST's sums are right.

    While requests are under way it is between the two.
    """
    holders: dict[tuple[str, str], tuple[int, bool]] = {}
    for client in clients(history[-1]):
        for osc in client["oscs"]:
            if osc["state"] == "FULL":
                holders[osc["target"], client["uuid"]] = osc["grant"], not osc["in_flight"]
    for ost in targets(history[-1], "oss"):
        grants = ost["grants"]
        accounts = [*grants["clients"].values(), grants["own"], grants["gone"]]
        granted, dirty, pending = (sum(column) for column in zip(*accounts, strict=True))
        if grants["tot"] != [granted + pending, dirty, pending]:
            sums = [granted + pending, dirty, pending]
            yield f"{ost['name']}: granted, dirty, pending are {grants['tot']}, in all {sums}"
        for uuid, sums in grants["clients"].items():
            if uuid not in ost["exports"] and any(sums):
                yield f"{ost['name']} still counts {sums} for {uuid}, who is gone"
        for (name, uuid), (held, quiet) in holders.items():
            known = grants["clients"].get(uuid)
            if name != ost["name"] or (known is None and name in restarted(history)):
                continue
            given = known[0] if known is not None else 0
            if quiet and held != given:
                yield f"{name} gave {given} bytes of grant to {uuid}, it has {held}"


# ---- nothing leaks


@checker
def nothing_is_left_open(history: History) -> Iterator[str]:
    """No command left a file open, and what the MDT has open some client has too.

    Unless a client lost its power: then the MDT waits for it until it evicts it.
    """
    killed = any(node["role"] == "client" for seen in history[:-1] for node in seen.values())
    held = 0
    for client in clients(history[-1]):
        held += sum(inode["opens"] for inode in client["llite"]["inodes"].values())
        for file in client["open_files"]:
            yield f"{client['name']} has {file['path']} open"
    for mdt in targets(history[-1], "mds"):
        if len(mdt["opens"]) > held and not killed:
            yield f"{mdt['name']} has {len(mdt['opens'])} files open, its clients {held}"


@checker
def orphans_are_open(history: History) -> Iterator[str]:
    """A file without a name is there only as long as somebody has it open (PENDING)."""
    for mdt in targets(history[-1], "mds"):
        held = {file["fid"] for file in mdt["opens"]}
        for fid in mdt["orphans"]:
            if fid not in held:
                yield f"{mdt['name']}: {fid} has no name and nobody has it open"


@checker
def nothing_is_refused(history: History) -> Iterator[str]:
    """No node met a frame that it could not read."""
    for name, node in history[-1].items():
        refused = node.get("refused", 0) + node.get("lnet", {}).get("refused", 0)
        if refused:
            yield f"{name} refused {refused} frames"


ANY_TIME: tuple[Checker, ...] = (no_conflicting_locks, caches_are_covered, pages_are_covered)
"""Those that hold while requests are under way."""

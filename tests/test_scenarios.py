"""Every packaged scenario on selected trees: the verdict that history demands, and the same hash.

All trees are run by `labsim matrix`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labsim import trees
from labsim.scenario import kits, load
from labsim.scenario.cluster import Cluster
from labsim.scenario.runner import run

EVERYWHERE = ["2.4.0", "2.10.5", "2.12.4", "2.17.0", "staging-4.16", "cray-2.7"]
FILES = load.everything()


REGRESSIONS = [path for path in FILES if load.load(path).history is not None]


def cases(more: list[str], live: bool = False) -> list[object]:
    """(file, tree) for each scenario on the trees around its change; a regression on some more."""
    found = []
    for path in FILES:
        scenario = load.load(path)
        if live and scenario.virtual_time:
            continue
        names = dict.fromkeys([*kits.around(scenario), *(more if path in REGRESSIONS else ())])
        found += [pytest.param(path, tree, id=f"{scenario.name}-{tree}") for tree in names]
    return found


def test_there_are_the_regressions_that_were_promised() -> None:
    tickets = {load.load(path).ticket for path in FILES}
    assert tickets >= {
        "LU-10787", "LU-9183-user-hsm", "STAGING-xattr-newline", "LU-3544", "LU-9109", "LU-6421",
        "LU-8541", "LU-13296",
    }  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=load.name_of)
def test_a_scenario_is_about_a_bug_or_about_a_behaviour(path: Path) -> None:
    scenario = load.load(path)
    assert bool(scenario.covers) != (scenario.history is not None)
    assert scenario.title


@pytest.mark.parametrize("path", REGRESSIONS, ids=load.name_of)
def test_a_regression_is_a_story_and_a_cause(path: Path) -> None:
    scenario = load.load(path)
    overlays = load.overlays(load.overlay_file(scenario))
    assert overlays, "no overlay"
    assert all(overlay.because for overlay in overlays)
    having = {kits.presence(scenario, tree.name) for tree in trees.all_trees()}
    assert {"yes", "no"} <= having


@pytest.mark.parametrize(("path", "tree"), cases(EVERYWHERE))
def test_the_verdict_is_what_history_demands_twice_with_one_hash(path: Path, tree: str) -> None:
    scenario = load.load(path)
    first, second = run(scenario, tree), run(scenario, tree)
    assert first.ok, (first.verdict, first.expected, first.broken, first.steps)
    assert (first.verdict, first.hash, first.virtual_ns) == (
        second.verdict, second.hash, second.virtual_ns,
    )  # fmt: skip


def hashes(hash_seed: str) -> dict[str, str]:
    """Every scenario's hashes, from a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "labsim", "run", *map(str, FILES), "--json"],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        timeout=120,
    )
    runs = json.loads(done.stdout)["runs"]
    return {f"{made['scenario']} {made['tree']}": made["hash"] for made in runs}


def test_other_processes_with_other_hash_seeds_get_the_same_hashes() -> None:
    zero, one = hashes("0"), hashes("12345")
    assert zero == one
    assert len(set(zero.values())) > len(FILES)
    for name, expected in zero.items():
        scenario, tree = name.split()
        (path,) = load.find([scenario])
        assert run(load.load(path), tree).hash == expected


@pytest.mark.live
@pytest.mark.parametrize(("path", "tree"), cases([], live=True))
def test_real_processes_give_the_same_verdict(path: Path, tree: str) -> None:
    scenario = load.load(path)
    made = run(scenario, tree, "live")
    assert made.ok, (made.verdict, made.expected, made.broken, made.steps)
    assert made.verdict == run(scenario, tree).verdict


WORK = """
mkdir -p a/b
dd if=/dev/urandom of=a/big bs=100k count=25 status=none
lfs setstripe -c 2 -S 64k a/striped
cp a/big a/striped
echo hello > a/b/small
setfattr -n user.one -v 1 a/b/small
setfattr -n user.two -v 0x00ff a/b/small
setfattr -n user.one -v 2 a/b/small
setfattr -n user.three -v 3 a/b/small
setfattr -x user.three a/b/small
ln a/b/small a/hard
ln -s b/small a/soft
mv a/b/small a/b/moved
truncate -s 100000 a/big
chmod 640 a/hard
chown 500:600 a/hard
touch -d @1500000000 a/hard
rm a/b/nope
runas -u 7 cat a/hard
""".strip().splitlines()

LOOK = """
ls -R
stat -c '%n %F %a %u %g %h %s' a a/b a/big a/striped a/hard a/soft
stat -c %Y a/hard
getfattr -d -e hex a/hard
cat a/soft
cat a/big
cat a/striped
lfs getstripe -c -S a/striped
""".strip().splitlines()


def look(runtime: str) -> tuple[list[object], list[object]]:
    """What the work prints, and what is there afterwards, seen by the other client."""
    with Cluster(clients=2, oss=2, osts=2, runtime=runtime) as cluster:  # type: ignore[arg-type]
        work = [(line, cluster.client(0).run(line)) for line in WORK]
        seen = [(line, cluster.client(1).run(line)) for line in LOOK]
    plain = [
        [(line, r.status, r.errno_name, r.chunks) for line, r in part] for part in (work, seen)
    ]
    return plain[0], plain[1]


@pytest.mark.live
def test_both_runtimes_leave_the_same_files_and_attributes() -> None:
    assert look("sim") == look("live")

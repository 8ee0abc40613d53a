"""Stat-ahead: who reads a directory in order finds the answers there, and they are true."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.nodes.client.statahead import Entry, Scan
from tests.nodes.client.world import World

FILES = 40


@pytest.fixture
def far() -> Any:
    """A cluster where a round trip takes 10 ms, and a directory that c1 has filled."""
    world = World(latency_ns=5_000_000)
    vfs = world.vfs[1]
    world.run(vfs.mkdir("d"))
    for number in range(FILES):
        world.make(f"d/f{number:03}", b"x" * number, client=1)
    world.cluster.client(1).run("lctl set_param ldlm.namespaces.*.lru_size=clear")
    world.settle()
    yield world
    world.close()


def list_long(world: World, names: Any = None) -> Any:
    """What ls -l does, or a stat of these names; sizes by name."""
    vfs = world.vfs[0]
    file = yield from vfs.open("d", 0o200000)
    found = {}
    try:
        for name, *_ in (yield from vfs.getdents(file)):
            if name.startswith(".") or (names is not None and name not in names):
                continue
            found[name] = (yield from vfs.stat(f"d/{name}", follow=False)).size
    finally:
        yield from vfs.close(file)
    return found


def timed(world: World, steps: Any) -> tuple[Any, int]:
    start = world.env.now
    return world.run(steps), world.env.now - start


def wanted() -> dict[str, int]:
    return {f"f{number:03}": number for number in range(FILES)}


def test_ls_l_takes_a_fraction_of_the_time_and_no_more_requests(far: World) -> None:
    sizes, ahead_ns = timed(far, list_long(far))
    assert sizes == wanted()
    assert far.param("llite.*.statahead_stats") == (
        "statahead total: 1\nstatahead wrong: 0\nagl total: 1\n"
    )
    c0 = far.cluster.client(0)
    c0.run("lctl set_param ldlm.namespaces.*.lru_size=clear llite.*.statahead_max=0")
    far.settle()
    plain = far.rpcs(list_long(far))
    c0.run("lctl set_param ldlm.namespaces.*.lru_size=clear")
    far.settle()
    sizes, plain_ns = timed(far, list_long(far))
    assert sizes == wanted()
    assert ahead_ns < plain_ns / 3
    assert plain["LDLM_ENQUEUE"] >= 2 * FILES


def test_without_agl_sizes_are_asked_for_one_by_one(far: World) -> None:
    far.nodes[0].host.params.set("llite.*.statahead_agl", "0")
    sizes, _ = timed(far, list_long(far))
    assert sizes == wanted()
    assert "agl total: 0\n" in far.param("llite.*.statahead_stats")


def test_sizes_are_asked_ahead_of_osts_only(far: World) -> None:
    """The writers of files are not asked before somebody wants to know."""
    for number in range(FILES):
        far.make(f"d/f{number:03}", b"y" * (number + 1), client=1)
    assert far.rpcs(list_long(far), "oss0")["LDLM_GL_CALLBACK"] == FILES
    sizes, _ = timed(far, list_long(far))
    assert sizes == {f"f{number:03}": number + 1 for number in range(FILES)}


def test_what_was_glimpsed_just_now_is_not_asked_ahead(far: World) -> None:
    data, vfs = far.nodes[0].llite.data, far.vfs[0]
    far.make("d/f001", b"yy", client=1)
    far.run(vfs.stat("d/f001"))
    inode = far.run(vfs.open("d/f001", 0)).inode

    def ahead() -> Any:
        data.glimpse_ahead(inode)
        yield far.env.timeout(100_000_000)

    assert "LDLM_ENQUEUE" not in far.rpcs(ahead())
    far.cluster.run(far.env.timeout(10**9))
    assert far.rpcs(ahead())["LDLM_ENQUEUE"] == 1
    assert "LDLM_ENQUEUE" not in far.rpcs(ahead())


def test_only_who_begins_with_the_first_name_runs_ahead(far: World) -> None:
    far.run(list_long(far, {"f030", "f031"}))
    assert far.param("llite.*.statahead_stats").startswith("statahead total: 0\n")


def test_who_looks_at_few_names_is_given_up(far: World) -> None:
    order = [name for name, *_ in far.run(far.vfs[0].readdir("d")) if name[0] != "."]
    rpcs = far.rpcs(list_long(far, {order[0], *order[20:32]}))
    assert far.param("llite.*.statahead_stats").startswith(
        "statahead total: 1\nstatahead wrong: 1\n"
    )
    assert rpcs["LDLM_ENQUEUE"] < 2 * FILES


def test_hidden_names_only_for_who_looks_at_one(far: World) -> None:
    for number in range(5):
        far.make(f"d/.h{number}", client=1)
    far.settle()
    sizes = far.run(list_long(far))
    assert sizes == wanted()
    inodes = far.nodes[0].llite.inodes.inodes
    modes = {fid for fid, inode in inodes.items() if inode.is_reg}
    assert len(modes) == FILES


def test_another_process_does_not_profit_nor_disturb(far: World) -> None:
    """The scan belongs to who opened the directory first."""
    other = far.nodes[0].process()

    def both() -> Any:
        vfs = far.vfs[0]
        file = yield from vfs.open("d", 0o200000)
        names = [name for name, *_ in (yield from vfs.getdents(file)) if name[0] != "."]
        yield from other.stat(f"d/{names[0]}")
        assert not far.nodes[0].llite.statahead.running
        yield from vfs.stat(f"d/{names[0]}")
        assert far.nodes[0].llite.statahead.running == 1
        yield from vfs.close(file)

    far.run(both())
    assert not far.nodes[0].llite.statahead.running
    assert not far.nodes[0].llite.statahead.opened


def test_what_came_ahead_is_asked_for_again_once_its_lock_is_gone(far: World) -> None:
    """c1 changes and removes files that c0 knows ahead: c0 sees it."""

    def steps() -> Any:
        vfs = far.vfs[0]
        file = yield from vfs.open("d", 0o200000)
        names = [name for name, *_ in (yield from vfs.getdents(file)) if name[0] != "."]
        for name in names[:16]:
            yield from vfs.stat(f"d/{name}")
        yield far.env.timeout(200_000_000)
        later = names[16:20]
        for name in later:
            assert far.nodes[0].llite.namei.cached(file.dentry, name) is not None
        yield from far.vfs[1].chmod(f"d/{later[0]}", 0o600)
        yield from far.vfs[1].unlink(f"d/{later[1]}")
        yield from far.vfs[1].truncate(f"d/{later[2]}", 5000)
        yield from far.vfs[1].rename(f"d/{later[3]}", "elsewhere")
        assert (yield from vfs.stat(f"d/{later[0]}")).mode & 0o777 == 0o600
        for gone in (later[1], later[3]):
            try:
                yield from vfs.stat(f"d/{gone}")
            except Exception as error:
                assert "ENOENT" in str(error)
            else:
                raise AssertionError(gone)
        assert (yield from vfs.stat(f"d/{later[2]}")).size == 5000
        yield from vfs.close(file)

    far.run(steps())


def test_closing_in_the_middle_ends_it(far: World) -> None:
    def steps() -> Any:
        vfs = far.vfs[0]
        file = yield from vfs.open("d", 0o200000)
        names = [name for name, *_ in (yield from vfs.getdents(file)) if name[0] != "."]
        for name in names[:3]:
            yield from vfs.stat(f"d/{name}")
        yield from vfs.close(file)

    rpcs = far.rpcs(steps())
    assert rpcs["LDLM_ENQUEUE"] < 40
    assert far.nodes[0].llite.statahead.running == 0


def test_a_limit_on_scans_at_once(far: World) -> None:
    far.nodes[0].host.params.set("llite.*.statahead_running_max", "0")
    assert far.run(list_long(far)) == wanted()
    assert far.param("llite.*.statahead_stats").startswith("statahead total: 0\n")


def test_the_window_opens_with_hits_and_low_rates_end_it() -> None:
    scan = Scan(None, False, None)  # type: ignore[arg-type]
    for number, window in enumerate((4, 8, 16, 32, 32)):
        scan.entries[str(number)] = Entry(number)
        scan.used(str(number), scan.entries[str(number)], True, 32)
        assert scan.window == window
    assert not scan.entries
    for _ in range(8):
        scan.used("x", None, False, 32)
    assert not scan.low
    scan.used("x", None, False, 32)
    assert scan.low

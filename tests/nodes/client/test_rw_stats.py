"""The statistics of reads and writes: by size, by process, by jumps."""

from __future__ import annotations

from typing import Any

from labsim.nodes.client.rw_stats import OFFSET_HEAD, PROCESSES, RwStats


def squeezed(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_stretches_end_where_a_process_jumps() -> None:
    stats = RwStats(0)
    one, other = object(), object()
    stats.tally(7, one, 0, 4096, True)
    stats.tally(7, one, 4096, 8192, True)
    stats.tally(7, one, 1 << 20, 10, False)
    stats.tally(7, one, 0, 10, False)
    stats.tally(8, other, 0, 100, False)
    rows = stats.offsets().removeprefix(OFFSET_HEAD)
    width = len(OFFSET_HEAD) - 1
    table = [rows[at : at + width].split() for at in range(0, len(rows), width)]
    assert table == [
        ["W", "7", "0", "12288", "4096", "8192", "0"],
        ["R", "7", "1048576", "1048586", "10", "10", "1036288"],
        ["R", "7", "0", "10", "10", "10", "-1048586"],
        ["R", "8", "0", "100", "100", "100", "0"],
    ]


def test_another_file_begins_anew() -> None:
    stats = RwStats(0)
    stats.tally(7, object(), 0, 10, False)
    stats.tally(7, object(), 500, 10, False)
    assert stats.offsets().count(" 7 ") == 1


def test_the_oldest_process_is_forgotten() -> None:
    stats = RwStats(0)
    for pid in range(1, PROCESSES + 3):
        stats.tally(pid, None, 0, 1, False)
    text = stats.extents_by_process()
    assert "PID: 2\n" not in text
    assert "PID: 3\n" in text
    assert text.count("PID:") == PROCESSES


def test_the_three_files_are_switched_together(world: Any) -> None:
    """sanity 127: any of them."""
    params = world.nodes[0].host.params
    files = ("extents_stats", "extents_stats_per_process", "offset_stats")
    assert all(world.param(f"llite.*.{one}").startswith("disabled\n") for one in files)
    params.set("llite.*.offset_stats", "1")
    world.make("f", bytes(5000))
    world.read("f")
    by_size = squeezed(world.param("llite.*.extents_stats"))
    assert by_size[-1] == "4K - 8K : 1 100 100 | 1 100 100"
    by_process = squeezed(world.param("llite.*.extents_stats_per_process"))
    assert by_process[-3:] == [
        f"PID: {world.vfs[0].pid}", "0K - 4K : 0 0 0 | 0 0 0", "4K - 8K : 1 100 100 | 1 100 100",
    ]  # fmt: skip
    assert "R/W PID" in squeezed(world.param("llite.*.offset_stats"))[1]
    params.set("llite.*.extents_stats_per_process", "disable")
    assert all(world.param(f"llite.*.{one}").startswith("disabled\n") for one in files)

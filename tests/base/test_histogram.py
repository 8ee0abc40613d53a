"""Histograms and counters as Lustre's tables show them, to the byte."""

from __future__ import annotations

from labsim.base.dialect import StatsStyle
from labsim.base.histogram import (
    EXTENT_HEAD,
    Histogram,
    brw_table,
    extent_rows,
    header,
    offset,
    percent,
    power,
    rpc_table,
    scaled,
    single_rows,
)
from labsim.base.stats import Stats

NOW_NS = 1_694_500_040_001_239_004


def filled(**counts: int) -> Histogram:
    """A histogram with b3=5 for bucket 3."""
    histogram = Histogram()
    for name, count in counts.items():
        histogram.buckets[int(name[1:])] = count
    return histogram


def test_buckets() -> None:
    histogram = Histogram()
    for value in (0, 1, 2, 3, 4, 5, 1 << 40):
        histogram.tally_log2(value)
    assert histogram.buckets[:4] == [2, 1, 2, 1]
    assert histogram.buckets[31] == 1
    assert histogram.total == 7
    histogram.clear()
    assert histogram.total == 0
    assert [percent(1, 3), percent(2, 3), percent(0, 0)] == [33, 66, 0]


def test_labels() -> None:
    assert [power(0), power(8)] == ["1", "256"]
    assert [offset(0), offset(1), offset(3)] == ["0", "1", "4"]
    assert [scaled(9), scaled(10), scaled(20), scaled(22)] == ["512", "1K", "1M", "4M"]


def test_rpc_table_stops_behind_the_last_bucket_that_counts() -> None:
    text = rpc_table("rpcs in flight", str, filled(b1=30, b2=30), filled(b1=20, b2=44))
    assert text == (
        "\n\t\t\tread\t\t\twrite\n"
        "rpcs in flight        rpcs   % cum % |       rpcs   % cum %\n"
        "0:\t\t         0   0   0   |          0   0   0\n"
        "1:\t\t        30  50  50   |         20  31  31\n"
        "2:\t\t        30  50 100   |         44  68 100\n"
    )


def test_an_empty_table_has_one_row() -> None:
    text = rpc_table("offset", offset, Histogram(), Histogram())
    assert text.splitlines()[-1] == "0:\t\t         0   0   0   |          0   0   0"
    assert text.count("\n") == 4


def test_brw_table() -> None:
    text = brw_table("disk I/O size", "ios", scaled, filled(b0=40), filled(b0=0, b1=64))
    assert text == (
        "\n                           read      |     write\n"
        "disk I/O size          ios   % cum % |  ios         % cum %\n"
        "1:\t\t        40 100 100   |    0   0   0\n"
        "2:\t\t         0   0 100   |   64 100 100\n"
    )


def test_mdc_has_one_column() -> None:
    assert single_rows(str, filled(b1=90, b2=10)) == (
        "0:\t\t         0   0   0\n1:\t\t        90  90  90\n2:\t\t        10  10 100\n"
    )


def test_extents_change_unit_at_1024() -> None:
    text = EXTENT_HEAD + extent_rows(filled(b0=8, b8=12), filled(b1=2, b8=18))
    lines = text.splitlines()
    assert lines[0] == "                               read       |                write"
    assert lines[1] == "      extents            calls    % cum%  |          calls    % cum%"
    assert lines[2] == "   0K -    4K :              8   40   40  |              0    0    0"
    assert lines[3] == "   4K -    8K :              0    0   40  |              2   10   10"
    assert lines[9].startswith(" 256K -  512K : ")
    assert lines[10] == " 512K - 1024K :             12   60  100  |             18   90  100"


def test_extents_beyond_a_mebibyte() -> None:
    lines = extent_rows(filled(b9=1), Histogram()).splitlines()
    assert lines[-1].startswith("   1M -    2M : ")


def test_headers_of_histograms() -> None:
    plain, old = StatsStyle(), StatsStyle(digits="usecs")
    assert header(NOW_NS, 0, plain) == "snapshot_time:         1694500040.001239004 (secs.nsecs)\n"
    assert header(NOW_NS, 0, old) == "snapshot_time:         1694500040.1239 (secs.usecs)\n"
    assert header(NOW_NS, 0, plain, blanks=True) == (
        "snapshot_time:         1694500040.  1239004 (secs.nsecs)\n"
    )
    assert header(NOW_NS, NOW_NS - 1_500_000_000, StatsStyle(elapsed=True)) == (
        "snapshot_time:            1694500040.001239004 secs.nsecs\n"
        "start_time:               1694500038.501239004 secs.nsecs\n"
        "elapsed_time:             1.500000000 secs.nsecs\n"
    )


def test_counters_by_style() -> None:
    stats = Stats(word="regs")
    for usecs in (92, 10):
        stats.op("open", usecs)
    stats.add("read_bytes", 4096, "bytes")
    stats.tally("ping")
    assert stats.count("open") == 2
    assert stats.count("close") == 0
    early = stats.render(NOW_NS, StatsStyle(digits="usecs"))
    assert early == (
        "snapshot_time             1694500040.1239 secs.usecs\n"
        "open                      2 samples [regs]\n"
        "read_bytes                1 samples [bytes] 4096 4096 4096\n"
        "ping                      1 samples [reqs]\n"
    )
    late = stats.render(NOW_NS, StatsStyle(op_times=True, usecs="usecs"))
    assert "open                      2 samples [usecs] 10 92 102 8564\n" in late

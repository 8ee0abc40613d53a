"""rpc_stats of an OSC, to the byte."""

from __future__ import annotations

from labsim import trees
from labsim.base.param_tree import ParamTree
from labsim.nodes import lctl
from labsim.nodes.client.rpc_stats import RpcStats

MIB = 1 << 20


class Osc(RpcStats, tree="osc.{name}"):
    pass


def node(name: str = "2.12.0") -> tuple[Osc, ParamTree]:
    osc = Osc()
    tree = ParamTree(trees.get(name).dialect, wall_ns=lambda: 1_694_500_040_001_239_004)
    tree.mount(osc, name="o")
    return osc, tree


def test_the_table() -> None:
    osc, tree = node()
    for at in (0, MIB):
        osc.bulk_sent(True, at, MIB)
    osc.bulk_done(True)
    osc.bulk_sent(False, 0, 4096)
    assert lctl.run(tree, ["get_param", "osc.o.rpc_stats"]).stdout == (
        "osc.o.rpc_stats=\n"
        "snapshot_time:         1694500040.001239004 (secs.nsecs)\n"
        "read RPCs in flight:  1\n"
        "write RPCs in flight: 1\n"
        "pending write pages:  0\n"
        "pending read pages:   0\n"
        "\n\t\t\tread\t\t\twrite\n"
        "pages per rpc         rpcs   % cum % |       rpcs   % cum %\n"
        "1:\t\t         1 100 100   |          0   0   0\n"
        "2:\t\t         0   0 100   |          0   0   0\n"
        "4:\t\t         0   0 100   |          0   0   0\n"
        "8:\t\t         0   0 100   |          0   0   0\n"
        "16:\t\t         0   0 100   |          0   0   0\n"
        "32:\t\t         0   0 100   |          0   0   0\n"
        "64:\t\t         0   0 100   |          0   0   0\n"
        "128:\t\t         0   0 100   |          0   0   0\n"
        "256:\t\t         0   0 100   |          2 100 100\n"
        "\n\t\t\tread\t\t\twrite\n"
        "rpcs in flight        rpcs   % cum % |       rpcs   % cum %\n"
        "0:\t\t         0   0   0   |          0   0   0\n"
        "1:\t\t         1 100 100   |          1  50  50\n"
        "2:\t\t         0   0 100   |          1  50 100\n"
        "\n\t\t\tread\t\t\twrite\n"
        "offset                rpcs   % cum % |       rpcs   % cum %\n"
        "0:\t\t         1 100 100   |          1  50  50\n"
        "1:\t\t         0   0 100   |          0   0  50\n"
        "2:\t\t         0   0 100   |          0   0  50\n"
        "4:\t\t         0   0 100   |          0   0  50\n"
        "8:\t\t         0   0 100   |          0   0  50\n"
        "16:\t\t         0   0 100   |          0   0  50\n"
        "32:\t\t         0   0 100   |          0   0  50\n"
        "64:\t\t         0   0 100   |          0   0  50\n"
        "128:\t\t         0   0 100   |          0   0  50\n"
        "256:\t\t         0   0 100   |          1  50 100\n"
    )


def test_a_write_clears_the_histograms_only() -> None:
    osc, tree = node()
    osc.bulk_sent(True, 0, 4096)
    tree.set("osc.o.rpc_stats", "0")
    text = tree.get("osc.o.rpc_stats")[0][1]
    assert "write RPCs in flight: 1\n" in text
    assert text.count("\n") == 17


def test_early_trees_do_not_pad_microseconds() -> None:
    text = node("2.7.0")[1].get("osc.o.rpc_stats")[0][1]
    assert text.startswith("snapshot_time:         1694500040.1239 (secs.usecs)\n")

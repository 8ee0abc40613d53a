"""Sequences and where their objects are: super-sequences, crashes, several MDTs."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.net.ptlrpc import Request
from labsim.scenario.cluster import Cluster
from labsim.wire.constants import FLD_LOOKUP, SEQ_ALLOC_SUPER, SEQ_CONTROLLER_PORTAL
from labsim.wire.lu import LuSeqRange
from labsim.wire.opcodes import FLD_QUERY, SEQ_QUERY

FIRST, WIDTH = 0x200000400, 1 << 30


def mdcs(cluster: Cluster, client: int = 0) -> list[Any]:
    found: list[Any] = cluster.client(client).machine.node.mdcs
    return found


def ask(cluster: Cluster, seq: int, opc: int = FLD_LOOKUP, flags: int = 0, mdt: int = 0) -> Any:
    request = Request(FLD_QUERY, fld_opc=opc, fld_mdfld=LuSeqRange(start=seq, flags=flags))
    reply = cluster.run(mdcs(cluster)[mdt].imp.call(request))
    return reply["fld_mdfld"]


def test_the_first_file_takes_the_first_sequence_of_mdt0000() -> None:
    with Cluster() as cluster:
        cluster.client(0).run("touch f")
        assert "[0x200000401:0x1:0x0]" in cluster.client(0).run("lfs path2fid f").stdout
        found = ask(cluster, FIRST + 1)
        assert (found.start, found.end, found.index, found.flags) == (FIRST, FIRST + WIDTH, 0, 0)
        assert mdcs(cluster)[0].fld.known(FIRST + 17) == 0
        assert mdcs(cluster)[0].fld.known(FIRST + WIDTH) is None


def test_the_fld_is_asked_once() -> None:
    with Cluster() as cluster:
        cluster.client(0).run("touch f g")
        cluster.run(mdcs(cluster)[0].new_sequences())
        sent = [e.fields[0] for e in cluster.trace.events if e.kind == "rpc.send"]
        assert sent.count(FLD_QUERY) == 1


def test_what_the_fld_does_not_have() -> None:
    with Cluster() as cluster:
        cluster.client(0).run("touch f")
        assert ask(cluster, 0x200000007).index == 0
        for seq, opc, flags, name in (
            (1 << 60, FLD_LOOKUP, 0, "ENOENT"), (FIRST, FLD_LOOKUP, 1, "ENOENT"),
            (FIRST, 0, 0, "EINVAL"),
        ):  # fmt: skip
            with pytest.raises(LustreError) as raised:
                ask(cluster, seq, opc, flags)
            assert raised.value.name == name


@pytest.mark.parametrize("runtime", ["sim", "live"])
def test_every_mdt_has_a_super_sequence_of_its_own(runtime: Any) -> None:
    with Cluster(mds=3, runtime=runtime) as cluster:
        cluster.client(0).run("touch f")
        if runtime == "live":
            return
        taken = [cluster.run(mdc.new_sequences()).start for mdc in mdcs(cluster)]
        assert sorted(seq // WIDTH * WIDTH for seq in (s - FIRST for s in taken)) == [
            0, WIDTH, 2 * WIDTH,
        ]  # fmt: skip
        assert ask(cluster, taken[2], mdt=1).index == 2
        for mdt, seq in enumerate(taken):
            assert ask(cluster, seq).index == mdt
            assert mdcs(cluster)[mdt].info.index == mdt


def test_nothing_is_given_out_twice_whatever_crashes() -> None:
    with Cluster(mds=2) as cluster:
        seen: list[int] = []
        for _ in range(3):
            seen += [cluster.run(mdc.new_sequences()).start for mdc in mdcs(cluster)]
            for name in ("mds0", "mds1"):
                cluster.run(cluster.node(name).kill())
                cluster.run(cluster.node(name).start())
            cluster.run(cluster.env.timeout(400 * 10**9))
        supers = []
        for _ in range(2):
            request = Request(
                SEQ_QUERY, portal=SEQ_CONTROLLER_PORTAL, seq_opc=SEQ_ALLOC_SUPER,
                seq_range=LuSeqRange(index=7, flags=1),
            )  # fmt: skip
            supers.append(cluster.run(mdcs(cluster)[0].imp.call(request))["seq_range"])
        assert len(set(seen)) == 6
        assert supers[1].start == supers[0].end
        assert supers[0].start == FIRST + 2 * WIDTH
        assert ask(cluster, supers[0].start, flags=1).index == 7


def test_what_an_mdt_keeps_of_another() -> None:
    with Cluster(mds=2) as cluster:
        cluster.run(cluster.env.timeout(20 * 10**9))
        mdt = cluster.node("mds0").machine.node.targets[0]

        def others() -> dict[str, int]:
            return {one.client_uuid: one.cookie for one in mdt.exports if "MDT" in one.client_uuid}

        whole, light = "lustre-MDT0001-mdtlov_UUID", "lustre-MDT0000-lwp-MDT0001_UUID"
        before = others()
        assert set(before) == {whole, light}
        cluster.run(cluster.node("mds1").kill())
        cluster.run(cluster.node("mds1").start())
        cluster.run(cluster.env.timeout(60 * 10**9))
        assert others() == before, "between MDTs exports are kept"
        cluster.run(cluster.node("mds0").kill())
        cluster.run(cluster.node("mds0").start())
        mdt = cluster.node("mds0").machine.node.targets[0]
        assert set(others()) == {whole}, "of a light one nothing is on disk"
        cluster.run(cluster.env.timeout(60 * 10**9))
        assert set(others()) == {whole, light}

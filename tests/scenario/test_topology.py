"""Who is in a cluster."""

import pytest

from labsim.base.errors import InputError
from labsim.base.ids import Nid
from labsim.scenario.control import Birth, decode_ask, decode_birth, decode_word, encode
from labsim.scenario.topology import Plan


def test_osts_are_dealt_out_in_turn():
    topology = Plan(clients=2, oss=2, osts=5).topology()
    assert [node.name for node in topology.nodes] == ["mgs", "mds0", "oss0", "oss1", "c0", "c1"]
    served = {node.name: [t.name for t in node.targets] for node in topology.of("oss")}
    assert served == {
        "oss0": ["lustre-OST0000", "lustre-OST0002", "lustre-OST0004"],
        "oss1": ["lustre-OST0001", "lustre-OST0003"],
    }
    nids = topology.nids()
    for target in topology.targets:
        owner = next(n for n in topology.nodes if target in n.targets)
        assert Nid.parse(target.nid) == nids[owner.name]


def test_targets_are_named_as_lustre_does():
    fs = Plan(fsname="scratch", oss=1, osts=17).topology()
    assert fs.targets[0].name == "scratch-MDT0000"
    assert fs.targets[-1].name == "scratch-OST0010"
    assert fs.targets[-1].uuid == "scratch-OST0010_UUID"


def test_every_nid_is_different():
    topology = Plan(clients=1000, oss=300).topology()
    assert len(set(topology.nids().values())) == len(topology.nodes)


def test_clients_may_differ():
    plan = Plan(
        clients=3,
        tree="2.12.0",
        client_trees=["2.4.0"],
        hz=[100, 250],
        mount=[True, False],
        overlays={"c1": ["a.py"]},
    )
    c0, c1, c2 = plan.topology().of("client")
    assert [c.tree for c in (c0, c1, c2)] == ["2.4.0", "2.12.0", "2.12.0"]
    assert [c.hz for c in (c0, c1, c2)] == [100, 250, 1000]
    assert [c.mount for c in (c0, c1, c2)] == [True, False, True]
    assert [c.overlays for c in (c0, c1, c2)] == [(), ("a.py",), ()]


@pytest.mark.parametrize(
    "wrong",
    [
        {"oss": 0},
        {"mds": 0},
        {"osts": 0},
        {"clients": -1},
        {"fsname": "toolongname"},
        {"fsname": "a/b"},
        {"clients": 1, "hz": [1, 2]},
        {"clients": 1, "client_trees": ["a", "b"]},
    ],
)
def test_counts_that_make_no_cluster_are_refused(wrong):
    with pytest.raises(InputError):
        Plan(**wrong).topology()


def test_a_birth_crosses_a_process_boundary():
    topology = Plan(clients=1, oss=2, params={"osc.*.checksums": "0"}).topology()
    for spec in topology.nodes:
        birth = Birth(spec, "/tmp/x", {int(Nid.parse(spec.nid)): "ipc:///tmp/x/y"}, 5, 1)
        assert decode_birth(encode(birth)) == birth


@pytest.mark.parametrize("decode", [decode_ask, decode_birth, decode_word])
@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x80", b"\x81\xa1a\x01", bytes(100)])
def test_a_control_message_that_does_not_fit_is_refused(decode, data):
    from labsim.base.errors import ProtocolError

    with pytest.raises(ProtocolError, match="control message"):
        decode(data)

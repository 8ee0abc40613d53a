from __future__ import annotations

import errno

import pytest

from labsim.base.errors import LustreError
from labsim.base.ids import Nid
from labsim.nodes.mds import squash
from labsim.nodes.mds.cred import ROOT, Cred
from labsim.wire.constants import MDS_ATTR_MODE

from .rig import World


@pytest.mark.parametrize("text", ["", "5", "5:", ":5", "a:b", "-1:0", "4294967296:0", "1:2:3"])
def test_ids_that_are_none(text: str) -> None:
    with pytest.raises(LustreError) as error:
        squash.parse_ids(text)
    assert error.value.errno == errno.EINVAL


def test_ids() -> None:
    assert squash.parse_ids("500:501\n") == (500, 501)


@pytest.mark.parametrize("text", ["", "10.0.0.1", "10.0.0@tcp", "10.0.0.[1@tcp", "10.0.0.256@tcp"])
def test_nids_that_are_none(text: str) -> None:
    with pytest.raises(LustreError):
        squash.parse_nids(text)


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("10.0.0.7@tcp", True),
        ("10.0.0.[1-7]@tcp\n", True),
        ("10.0.0.[8-9]@tcp", False),
        ("10.0.0.7@tcp1", False),
        ("*@tcp", True),
        ("192.168.0.1@tcp, 10.0.*.7@tcp", True),
        ("NONE", False),
        ("clear\n", False),
    ],
)
def test_ranges(text: str, hit: bool) -> None:
    assert squash.matches(squash.parse_nids(text), Nid.parse("10.0.0.7@tcp")) is hit


def test_only_root_is_squashed() -> None:
    assert squash.squashed(ROOT, 99, 98) == Cred(99, 98)
    assert squash.squashed(Cred(5, 5), 99, 98) == Cred(5, 5)


def test_a_squashed_root(two: World) -> None:
    params = two.mdt.host.params
    fid = two.run(two.c0.create("f"))
    params.set("mdt.*.root_squash", "99:99")
    params.set("mdt.*.nosquash_nids", str(two.node("c1").host.lnet.nid))
    with two.fails(errno.EPERM):
        two.run(two.c0.setattr(fid, MDS_ATTR_MODE, mode=0o777))
    two.run(two.c1.setattr(fid, MDS_ATTR_MODE, mode=0o777))
    with pytest.raises(Exception, match="EINVAL"):
        params.set("mdt.*.root_squash", "nobody")
    assert "99:99" in str(params.get("mdt.*.root_squash"))

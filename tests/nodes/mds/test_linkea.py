from __future__ import annotations

import errno

import pytest

from labsim.base.errors import LustreError
from labsim.base.ids import ROOT_FID, Fid
from labsim.nodes.mds import linkea
from labsim.nodes.mds.linkea import Link

ONE = Link(ROOT_FID, b"f")
TWO = Link(Fid(0x200000401, 2), b"another name")


def test_the_form_is_lustres() -> None:
    value = linkea.pack([ONE])
    assert value[:4] == bytes.fromhex("dff1ea11")
    assert value[4:8] == b"\1\0\0\0"
    assert value[8:16] == (24 + 18 + 1).to_bytes(8, "little")
    assert value[24:26] == b"\0\x13", "entries are big endian"
    assert value[26:42] == bytes.fromhex("00000002000000070000000100000000")
    assert value[42:] == b"f"


def test_links_survive_packing() -> None:
    assert linkea.parse(linkea.pack([ONE, TWO])) == (ONE, TWO)


def test_adding_and_removing() -> None:
    assert linkea.added((ONE,), TWO) == (ONE, TWO)
    assert linkea.removed((ONE, TWO), ONE) == (TWO,)
    assert linkea.removed((TWO,), ONE) == (TWO,)


def test_links_that_do_not_fit_are_not_recorded() -> None:
    links: tuple[Link, ...] = ()
    for number in range(300):
        links = linkea.added(links, Link(ROOT_FID, b"%04d" % number))
    assert len(linkea.pack(links)) <= linkea.MAX_SIZE
    assert len(links) == (4096 - 24) // 22


@pytest.mark.parametrize("value", [b"", bytes(24), linkea.pack([ONE])[:30]])
def test_a_broken_value_is_refused(value: bytes) -> None:
    with pytest.raises(LustreError) as error:
        linkea.parse(value)
    assert error.value.errno == errno.EINVAL

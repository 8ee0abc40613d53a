"""What a power cut or an eviction excuses: what was on that server, and had not been there long."""

from __future__ import annotations

import errno
import os

import pytest

from .test_posix_model import RW, SECOND, History, attributes

ON_OST1 = [1 << 20, 1]
OST0, OST1, MDT0 = "lustre-OST0000", "lustre-OST0001", "lustre-MDT0000"


def written(place: list[int], seen: bool = False) -> History:
    """Four bytes of c0 in the file, which c1 has read where it is `seen`."""
    h = History()
    h.open("/f", place=place)
    h.write(b"abcd")
    h.open("/f", RW, file=2, on="c1", place=place)
    if seen:
        h.read(b"abcd", file=2, on="c1")
    return h


def lost(h: History, off: int, target: str = OST1) -> str:
    """What the model says of nothing read, after a server lost its power and evicted c0."""
    h.note("power-off", off, node="oss", target=target)
    h.note("evicted", off + 5, target=target)
    h.now = off + 10
    h.read(b"", file=2, on="c1")
    return h.wrong


SHORT = "read: 0 bytes read at 0, expected 4"


def test_an_eviction_excuses_what_was_on_its_ost() -> None:
    assert lost(written(ON_OST1), 20, OST1) == ""
    assert lost(written(ON_OST1), 20, OST0) == SHORT
    assert lost(written([4096, 0, 1]), 20, OST0) == ""


@pytest.mark.parametrize(("off", "wrong"), [(10, ""), (40, SHORT)])
def test_what_was_at_the_ost_long_enough_is_on_disk(off: int, wrong: str) -> None:
    assert lost(written(ON_OST1, seen=True), off) == wrong


@pytest.mark.parametrize(("off", "wrong"), [(8, ""), (40, "stat: size 0, expected 4")])
def test_a_size_that_was_cut_long_ago_is_on_disk(off: int, wrong: str) -> None:
    h = History()
    h.open("/f", place=ON_OST1)
    h.call("truncate", "/f", 4)
    h.note("power-off", off, node="oss", target=OST1)
    h.note("evicted", off + 5, target=OST1)
    h.now = off + 10
    h.call("stat", "/f", value=attributes(), fid="[0x1:0x1:0x0]", on="c1")
    assert h.wrong == wrong


def test_an_ost_excuses_no_name() -> None:
    h = History()
    h.call("mkdir", "/d", 0o777)
    h.note("killed", 4, target="")
    h.note("power-off", 5, node="oss", target=OST0)
    h.now = 8
    h.call("stat", "/d", errno=errno.ENOENT, on="c1")
    assert h.wrong == "stat: expected success, 'd' is there"
    h.note("power-off", 5, node="mds", target=MDT0)
    assert h.wrong == ""


def test_an_unlink_that_is_undone_brings_the_file_back() -> None:
    h = History()
    h.open("/f", on="c1")
    h.call("unlink", "/f")
    h.call("stat", "/f", errno=errno.ENOENT, on="c1")
    h.note("power-off", 9, node="mds", target=MDT0)
    h.note("killed", 10, target="")
    h.now = 20
    h.call("stat", "/f", value=attributes(nlink=1), fid="[0x1:0x1:0x0]", on="c1")
    assert h.now * SECOND > 20 * SECOND
    assert h.wrong == ""


def test_an_attribute_that_is_undone_says_nothing_of_the_name() -> None:
    h = History()
    h.open("/f", on="c1")
    h.call("setxattr", "/f", "user.x", b"1")
    h.note("power-off", 6, node="mds", target=MDT0)
    h.note("killed", 7, target="")
    h.now = 20
    h.call("getxattr", "/f", "user.x", errno=errno.ENODATA, on="c1")
    assert h.wrong == ""
    h.call("open", "/f", os.O_RDONLY, 0, errno=errno.ENOENT, on="c1")
    assert h.wrong == "open: expected success, 'f' is there"


def test_a_directory_that_is_missing_says_nothing_of_the_source() -> None:
    h = History()
    h.call("mkdir", "/f", 0o777)
    h.note("power-off", 3, node="mds", target=MDT0)
    h.note("killed", 4, target="")
    h.now = 20
    h.call("link", "/f", "/none/g", errno=errno.ENOENT, on="c1")
    h.call("stat", "/f", value=attributes(0o040000, 2), fid="d", on="c1")
    assert h.wrong == ""


@pytest.mark.parametrize(
    ("size", "right"), [(0, True), (100000, True), (65536, True), (34464, False), (70000, False)]
)
def test_a_truncate_that_failed_may_have_reached_some_stripes(size: int, right: bool) -> None:
    """Stripes of 64 KiB on two OSTs: 100000 bytes end at 65536 on the first, at 100000 on both."""
    h = History()
    h.open("/f", place=[65536, 0, 1])
    h.call("ftruncate", 100000, errno=errno.EIO, file=1)
    h.note("evicted", 5, target=OST1)
    h.now = 10
    h.call("fstat", file=1, value=attributes(size=size))
    assert (h.wrong == "") is right

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from labsim.base.ids import Fid
from labsim.nodes.mds import directory
from labsim.nodes.mds.directory import END_HASH, LDF_COLLIDE, LDF_EMPTY, Entry, Pages

BOTH = directory.LUDA_FID | directory.LUDA_TYPE


def entries(names: list[bytes]) -> list[Entry]:
    made = [
        Entry(directory.name_hash(name), name, Fid(0x200000401, number + 1), 0o100000)
        for number, name in enumerate(names)
    ]
    return sorted(made)


def walk(every: list[Entry], pages: int, attrs: int = BOTH) -> Iterator[Entry]:
    """Read a directory as a client does: page by page, from where the last one ended."""
    start, seen = 0, set()
    while start != END_HASH:
        data = Pages(start, pages, attrs).fill(one for one in every if one.hash >= start)
        assert len(data) % directory.PAGE_SIZE == 0
        for at in range(0, len(data), directory.PAGE_SIZE):
            start, flags, found = directory.read_page(data[at : at + directory.PAGE_SIZE])
            assert bool(flags & LDF_EMPTY) is not bool(found)
            for one in found:
                if one.name not in seen:
                    seen.add(one.name)
                    yield one


def test_dot_and_dotdot_come_first() -> None:
    names = [b"x", b"..", b"y", b"."]
    assert [one.name for one in entries(names)][:2] == [b".", b".."]


def test_a_hash_has_63_bits_and_depends_on_the_name_only() -> None:
    assert directory.name_hash(b"f") == directory.name_hash(b"f")
    assert all(2 << 32 <= directory.name_hash(b"%d" % n) < 1 << 63 for n in range(1000))


def test_keys_sort_by_hash() -> None:
    some = entries([b"%d" % number for number in range(50)])
    keys = [directory.key(one.hash, one.name) for one in some]
    assert keys == sorted(keys)
    assert directory.entry(keys[3], directory.value(some[3].fid, 0o100644)) == some[3]
    assert directory.start_key(some[3].hash) <= keys[3]


def test_an_empty_directory_is_one_empty_page() -> None:
    page = Pages(5, 1, BOTH).fill([])
    assert directory.read_page(page) == (END_HASH, LDF_EMPTY, [])
    assert page[:8] == (5).to_bytes(8, "little")


def test_a_record_is_as_long_as_lustre_makes_it() -> None:
    one = Entry(1 << 40, b"abc", Fid(1, 2, 3), 0o040000)
    raw = directory.record(one, BOTH, last=False)
    assert len(raw) == directory.record_size(one, BOTH) == 40
    assert raw[24:28] == (40).to_bytes(2, "little") + (3).to_bytes(2, "little")
    assert raw[36:38] == (0o040000).to_bytes(2, "little"), "the type lies on an even offset"
    assert directory.record(one, BOTH, last=True)[24:26] == b"\0\0"
    assert len(directory.record(one, directory.LUDA_FID, last=False)) == 40


@given(
    st.lists(st.binary(min_size=1, max_size=255), unique=True, max_size=400),
    st.integers(1, 3),
    st.sampled_from([BOTH, directory.LUDA_FID]),
)
def test_reading_on_from_page_to_page_finds_everything_once(
    names: list[bytes], pages: int, attrs: int
) -> None:
    every = entries(names)
    found = [one[:3] for one in walk(every, pages, attrs)]
    assert found == [one[:3] for one in every]


def test_equal_hashes_across_a_page_are_marked() -> None:
    same = [Entry(1 << 50, b"%03d" % number + b"x" * 200, Fid(1, 1), 0) for number in range(20)]
    data = Pages(0, 1, BOTH).fill(same)
    end, flags, found = directory.read_page(data)
    assert end == 1 << 50
    assert flags & LDF_COLLIDE
    assert 0 < len(found) < 20

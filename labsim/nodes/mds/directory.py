"""Directory entries: the order of a directory, what its index holds, and the pages a client reads.

Does not know the OSD that keeps the index. Stands for the name hash of ldiskfs, struct lu_dirpage
and lu_dirent (lustre_idl.h), and mdd_dir_page_build.

An index key is the name's hash, big endian, then the name: the OSD's order is the directory's. "."
and ".." come first (hash 0 and 1 << 32), as in an ldiskfs htree.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from labsim.base.ids import Fid
from labsim.wire.dirs import LuDirent, LuDirpage

PAGE_SIZE = 4096
END_HASH = 0xFFFFFFFFFFFFFFFE
"""MDS_DIR_END_OFF: the hash_end of a directory's last page."""
LDF_EMPTY, LDF_COLLIDE = 1, 2
LUDA_FID, LUDA_TYPE = 1, 2

_HASH = struct.Struct(">Q")
_VALUE = struct.Struct("<QIIH")
_TYPE = struct.Struct("<H")
_SPECIAL = {b".": 0, b"..": 1 << 32}
_FIRST_HASH = 2 << 32


class Entry(NamedTuple):
    """One name in a directory; `type` is S_IFMT's bits."""

    hash: int
    name: bytes
    fid: Fid
    type: int


def name_hash(name: bytes) -> int:
    """Where a name stands in its directory: 63 bits, as even as a real htree's."""
    special = _SPECIAL.get(name)
    if special is not None:
        return special
    digest = int.from_bytes(blake2b(name, digest_size=8).digest(), "little") >> 1
    return max(digest, _FIRST_HASH)


def key(name_hash: int, name: bytes) -> bytes:
    """The index key of a name with that hash."""
    return _HASH.pack(name_hash) + name


def start_key(name_hash: int) -> bytes:
    """Where to begin to read at that hash."""
    return _HASH.pack(name_hash)


def value(fid: Fid, mode: int) -> bytes:
    """What the index holds for a name: the FID, and the type from the mode."""
    return _VALUE.pack(*fid, mode & 0o170000)


def entry(index_key: bytes, index_value: bytes) -> Entry:
    """Read one record of the index."""
    seq, oid, ver, kind = _VALUE.unpack(index_value)
    return Entry(_HASH.unpack_from(index_key)[0], index_key[8:], Fid(seq, oid, ver), kind)


def target(index_value: bytes) -> tuple[Fid, int]:
    """(FID, type) of one value of the index."""
    seq, oid, ver, kind = _VALUE.unpack(index_value)
    return Fid(seq, oid, ver), kind


def record(one: Entry, attrs: int, last: bool) -> bytes:
    """The bytes of one lu_dirent; the last of a page says so with a record length of 0."""
    size = record_size(one, attrs)
    name = one.name
    head = LuDirent(fid=one.fid, hash=one.hash, reclen=0 if last else size, namelen=len(name),
                    attrs=attrs, name=name).pack()  # fmt: skip
    if attrs & LUDA_TYPE:
        head += bytes(len(name) % 2) + _TYPE.pack(one.type)
    return head.ljust(size, b"\0")


def record_size(one: Entry, attrs: int) -> int:
    """Bytes of that record: the header, the name, the type on an even offset, padded to 8."""
    size = LuDirent.size + len(one.name)
    if attrs & LUDA_TYPE:
        size += size % 2 + _TYPE.size
    return -(-size // 8) * 8


class Pages:
    """Fills whole pages with entries in the order they come, up to a number of pages.

    `start` is the hash that was asked for. After `fill`, `bytes` holds the pages.
    """

    def __init__(self, start: int, pages: int, attrs: int) -> None:
        self.attrs = attrs
        self.limit = pages
        self.start = start
        self.pages: list[bytes] = []
        self._held: list[Entry] = []
        self._room = PAGE_SIZE - LuDirpage.size

    def fill(self, entries: Iterable[Entry]) -> bytes:
        """Take entries until they or the pages end; the pages as bytes, at least one."""
        for one in entries:
            size = record_size(one, self.attrs)
            if size > self._room:
                self._close(one.hash)
                if len(self.pages) == self.limit:
                    return b"".join(self.pages)
            self._held.append(one)
            self._room -= size
        self._close(END_HASH)
        return b"".join(self.pages)

    def _close(self, end: int) -> None:
        """Finish the page in work; the next begins at `end`."""
        held = self._held
        flags = 0 if held else LDF_EMPTY
        if held and held[-1].hash == end:
            flags |= LDF_COLLIDE
        head = LuDirpage(hash_start=self.start, hash_end=end, flags=flags).pack()
        body = b"".join(record(one, self.attrs, one is held[-1]) for one in held)
        self.pages.append((head + body).ljust(PAGE_SIZE, b"\0"))
        self.start = end
        self._held = []
        self._room = PAGE_SIZE - LuDirpage.size


def read_page(page: bytes) -> tuple[int, int, list[Entry]]:
    """(hash_end, flags, entries) of one page; for checks and tests."""
    head = LuDirpage.unpack(page)
    return head.hash_end, head.flags, list(_records(page, bool(head.flags & LDF_EMPTY)))


def _records(page: bytes, empty: bool) -> Iterator[Entry]:
    at = LuDirpage.size
    while not empty:
        head = LuDirent.unpack(page, at)
        kind = 0
        if head.attrs & LUDA_TYPE:
            type_at = at + LuDirent.size + head.namelen + head.namelen % 2
            kind = _TYPE.unpack_from(page, type_at)[0]
        yield Entry(head.hash, bytes(head.name), head.fid, kind)
        if not head.reclen:
            return
        at += head.reclen

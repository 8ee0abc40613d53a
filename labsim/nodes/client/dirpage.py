"""Directory pages: the entries in what MDS_READPAGE brings.

Does not know who asks. Stands for struct lu_dirpage and struct lu_dirent (lustre_idl.h): pages of
4096 bytes, entries in hash order, little endian.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from labsim.base.errors import ProtocolError
from labsim.base.ids import Fid
from labsim.wire.constants import (
    LDF_COLLIDE,
    LDF_EMPTY,
    LU_PAGE_SIZE,
    LUDA_TYPE,
    MDS_DIR_END_OFF,
)

_HEADER = struct.Struct("<QQII")
_ENTRY = struct.Struct("<QIIQHHI")
_TYPE = struct.Struct("<H")


class Entry(NamedTuple):
    """One name: its FID, its S_IFMT bits (0: not told), and the hash it is sorted by."""

    name: str
    fid: Fid
    type: int
    hash: int


class Pages(NamedTuple):
    """The entries of one transfer and where to go on: `end` is MDS_DIR_END_OFF after the last.

    `collide`: the last entry's hash equals `end`, so the next transfer repeats some of them.
    """

    entries: list[Entry]
    end: int
    collide: bool


def unpack(data: bytes) -> Pages:
    """Read the pages of one bulk transfer; ProtocolError where they are damaged."""
    if len(data) % LU_PAGE_SIZE or not data:
        raise ProtocolError(f"lu_dirpage: {len(data)} bytes are not whole pages")
    entries: list[Entry] = []
    end, flags = MDS_DIR_END_OFF, 0
    for start in range(0, len(data), LU_PAGE_SIZE):
        _, end, flags, _ = _HEADER.unpack_from(data, start)
        if not flags & LDF_EMPTY:
            _unpack_page(data, start, entries)
        if end == MDS_DIR_END_OFF:
            break
    return Pages(entries, end, bool(flags & LDF_COLLIDE))


def _unpack_page(data: bytes, start: int, entries: list[Entry]) -> None:
    at, stop = start + _HEADER.size, start + LU_PAGE_SIZE
    while True:
        if at + _ENTRY.size > stop:
            raise ProtocolError(f"lu_dirent at {at - start}: outside its page")
        seq, oid, ver, hash_, length, name_length, attrs = _ENTRY.unpack_from(data, at)
        name_at = at + _ENTRY.size
        if name_at + name_length > stop:
            raise ProtocolError(f"lu_dirent.lde_namelen at {at - start}: {name_length}")
        name = data[name_at : name_at + name_length].decode("utf-8", "surrogateescape")
        kind = _type(data, name_at, name_length) if attrs & LUDA_TYPE else 0
        entries.append(Entry(name, Fid(seq, oid, ver), kind, hash_))
        if length == 0:
            return
        at += length


def _type(data: bytes, name_at: int, name_length: int) -> int:
    """The luda_type behind a name, on an even offset after the name."""
    at = name_at + (name_length + 1 & ~1)
    return int(_TYPE.unpack_from(data, at)[0])

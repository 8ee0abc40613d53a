"""How an object lies in an ordered store of keys and values: keys, chunks, allocated blocks.

Does not know the store. Stands for osd-ldiskfs's object index, inodes and extent trees. All of an
object stands together under its FID: attributes, allocated blocks, data, index, xattrs.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

import msgspec

from labsim.base.ids import Fid
from labsim.base.payload import Chain, Fill, Payload, piece, tobytes
from labsim.storage.osd import BLOCK, Attrs, Tx

CHUNK = 65520
"""Bytes of object data per value: 64 KiB less the page header, so that no page is wasted."""
GROUP = 4096
"""Blocks per record of allocated blocks, one bit each."""

ATTRS, BLOCKS, DATA, INDEX, XATTR = b"a", b"b", b"d", b"i", b"x"

_FID = Struct(">QII")
_NUMBER = Struct(">Q")
FID_BYTES = _FID.size

SUPERBLOCK = b"\0"
"""The one key shorter than a FID; stands before all objects."""


class Superblock(msgspec.Struct, frozen=True, array_like=True):
    """What a store says of itself."""

    magic: str = "labsim-osd"
    version: int = 1
    used: int = 0
    files: int = 0


encode = msgspec.msgpack.Encoder().encode
decode_attrs = msgspec.msgpack.Decoder(Attrs).decode
decode_superblock = msgspec.msgpack.Decoder(Superblock).decode


def fid_key(fid: Fid) -> bytes:
    """What all keys of an object begin with; in the order of FIDs."""
    return _FID.pack(*fid)


def key_fid(key: bytes) -> Fid:
    """The object that a key belongs to."""
    return Fid(*_FID.unpack_from(key))


def attrs_key(fid: Fid) -> bytes:
    """Where the attributes stand: the object exists if this does."""
    return _FID.pack(*fid) + ATTRS


def numbered(prefix: bytes, number: int) -> bytes:
    """A key in the order of its number."""
    return prefix + _NUMBER.pack(number)


def name_text(name: bytes) -> str:
    """The inverse of `osd.name_bytes`."""
    return name.decode("utf-8", "surrogateescape")


def chunks(offset: int, payload: Payload) -> Iterator[tuple[int, int, bytes | memoryview]]:
    """A write cut at the chunks' borders: (chunk, offset in it, bytes); real bytes not copied."""
    length, at = len(payload), 0
    whole = _contiguous(payload)
    while at < length:
        number, inside = divmod(offset + at, CHUNK)
        stop = min(at + CHUNK - inside, length)
        if whole is not None:
            yield number, inside, whole[at:stop]
        else:
            yield number, inside, tobytes(piece(payload, at, stop))
        at = stop


def _contiguous(payload: Payload) -> memoryview | None:
    """The payload's bytes where they lie, or made one where that is cheap."""
    if isinstance(payload, Chain):
        return memoryview(payload.tobytes()) if len(payload) <= 1 << 22 else None
    return None if isinstance(payload, Fill) else memoryview(payload)


def overlay(old: bytes | memoryview, inside: int, new: bytes | memoryview) -> bytes | memoryview:
    """A chunk after a write into it: `new` stands at `inside`, a gap before it reads as zeros."""
    end = inside + len(new)
    if inside == 0 and end >= len(old):
        return new
    gap = bytes(max(inside - len(old), 0))
    return b"".join((old[:inside], gap, new, old[end:]))


def groups(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Blocks [first, last) as (group, mask of its bits)."""
    for group in range(first // GROUP, -(-last // GROUP)):
        low = max(first - group * GROUP, 0)
        high = min(last - group * GROUP, GROUP)
        yield group, (1 << high) - (1 << low)


def mask_bytes(mask: int) -> bytes:
    """A record of allocated blocks, as short as it can be."""
    return mask.to_bytes(-(-mask.bit_length() // 8), "little")


def block_range(offset: int, end: int) -> tuple[int, int]:
    """The blocks that bytes [offset, end) touch."""
    return offset // BLOCK, -(-end // BLOCK)


def page_bound(tx: Tx, depth: int, removed: int) -> int:
    """More pages than these changes can take from a copy-on-write tree of that depth.

    Each put may copy and split a path of the tree. Removing chunks, `removed` of them, takes
    copies of their leaves (above 40 chunks each) and of the list of free pages (32 chunks each).
    """
    path = 2 * (depth + 1)
    pages = removed // 16
    for op in tx.ops:
        pages += path
        if op[0] == "write":
            nbytes = len(op[3])
            values = nbytes // CHUNK + 2
            pages += values * (path + 17) + (nbytes // (BLOCK * GROUP) + 2) * path
        elif op[0] in ("set_xattr", "insert"):
            pages += len(op[3]) // BLOCK + 1
    return pages


def frees(tx: Tx) -> bool:
    """Whether these changes give back room, or take none: then they may use the reserve."""
    names = {op[0] for op in tx.ops}
    if names & {"destroy", "delete", "del_xattr", "truncate"}:
        return tx.nbytes <= CHUNK
    return not names & {"create", "insert", "set_xattr"} and tx.nbytes <= BLOCK

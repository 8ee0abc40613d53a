"""trusted.link: every (parent, name) under which a file can be found.

Does not know the namespace it mirrors. Stands for struct link_ea_header and link_ea_entry
(lustre_idl.h) and obdclass/linkea.c: a little-endian header, then entries whose length and parent
FID are big endian.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from typing import NamedTuple

from labsim.base.errors import LustreError
from labsim.base.ids import Fid

NAME = "trusted.link"
MAX_SIZE = 4096
"""Links beyond this many bytes are not recorded (MAX_LINKEA_SIZE); they still work."""

_MAGIC = 0x11EAF1DF
_HEADER = struct.Struct("<IIQII")
_ENTRY = struct.Struct(">HQII")


class Link(NamedTuple):
    """One place of a file in the namespace."""

    parent: Fid
    name: bytes


def parse(value: bytes) -> tuple[Link, ...]:
    """The links in an xattr value; LustreError EINVAL where it is broken."""
    if len(value) < _HEADER.size:
        raise LustreError(errno.EINVAL, "link EA shorter than its header")
    magic, count, length, _, _ = _HEADER.unpack_from(value)
    if magic != _MAGIC or length > len(value):
        raise LustreError(errno.EINVAL, "link EA with a broken header")
    links, at = [], _HEADER.size
    for _ in range(count):
        size, seq, oid, ver = _ENTRY.unpack_from(value, at)
        links.append(Link(Fid(seq, oid, ver), value[at + _ENTRY.size : at + size]))
        at += size
    return tuple(links)


def pack(links: Sequence[Link]) -> bytes:
    """The xattr value of these links."""
    entries = b"".join(
        _ENTRY.pack(_ENTRY.size + len(link.name), *link.parent) + link.name for link in links
    )
    return _HEADER.pack(_MAGIC, len(links), _HEADER.size + len(entries), 0, 0) + entries


def added(links: tuple[Link, ...], link: Link) -> tuple[Link, ...]:
    """With one more link at the end, or as they were where it would not fit."""
    more = (*links, link)
    return more if len(pack(more)) <= MAX_SIZE else links


def removed(links: tuple[Link, ...], link: Link) -> tuple[Link, ...]:
    """Without that link; it may have been one that did not fit."""
    return tuple(one for one in links if one != link)

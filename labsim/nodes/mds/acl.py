"""POSIX ACLs in the form the xattr carries them, and what they do to a mode.

Does not know files or transactions: bytes and modes in, bytes and modes out. Stands for
lustre_acl.h and obdclass/acl.c, and for the Linux functions they mirror (posix_acl_valid,
posix_acl_equiv_mode, posix_acl_create, posix_acl_chmod).

The value is a u32 version (2), then entries of tag u16, permissions u16, id u32, little endian.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from typing import NamedTuple

from labsim.base.errors import LustreError

ACL_ACCESS = "system.posix_acl_access"
ACL_DEFAULT = "system.posix_acl_default"
ACL_NAMES = frozenset({ACL_ACCESS, ACL_DEFAULT})

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NO_ID = 0xFFFFFFFF
OLD_MAX_SIZE = 4 + 32 * 8
"""LUSTRE_POSIX_ACL_MAX_SIZE_OLD: what a client without OBD_CONNECT_LARGE_ACL has room for."""

_VERSION = 2
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_TAGS = (USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER)


class Entry(NamedTuple):
    """One line of an ACL: whom (tag and id) it grants what (rwx as 4 2 1)."""

    tag: int
    perm: int
    id: int = NO_ID


Acl = tuple[Entry, ...]


def parse(value: bytes) -> Acl:
    """The entries of an xattr value, () where it holds a header only.

    LustreError EINVAL for a broken size, EOPNOTSUPP for another version.
    """
    if len(value) < _HEADER.size:
        raise LustreError(errno.EINVAL, "ACL shorter than its header")
    if _HEADER.unpack_from(value)[0] != _VERSION:
        raise LustreError(errno.EOPNOTSUPP, "ACL of an unknown version")
    if (len(value) - _HEADER.size) % _ENTRY.size:
        raise LustreError(errno.EINVAL, "ACL with a broken entry")
    return tuple(Entry(*fields) for fields in _ENTRY.iter_unpack(value[_HEADER.size :]))


def pack(acl: Sequence[Entry]) -> bytes:
    """The xattr value of these entries."""
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in acl)


def check(acl: Acl) -> None:
    """LustreError EINVAL unless the entries are in order and complete, as posix_acl_valid wants."""
    tags = [entry.tag for entry in acl]
    ordered = all(tag in _TAGS for tag in tags) and tags == sorted(tags, key=_TAGS.index)
    complete = all(tags.count(tag) == 1 for tag in (USER_OBJ, GROUP_OBJ, OTHER))
    named = USER in tags or GROUP in tags
    masks = tags.count(MASK)
    bits = all(entry.perm & ~7 == 0 for entry in acl)
    if not (ordered and complete and bits and masks <= 1 and (masks or not named)):
        raise LustreError(errno.EINVAL, "ACL entries out of order or incomplete")


def equivalent_mode(acl: Acl, mode: int) -> tuple[int, bool]:
    """(the mode with the ACL's permissions in it, True when it says all that the ACL says)."""
    perms = {entry.tag: entry.perm for entry in acl}
    group = perms.get(MASK, perms.get(GROUP_OBJ, 0))
    bits = perms.get(USER_OBJ, 0) << 6 | group << 3 | perms.get(OTHER, 0)
    plain = not any(tag in perms for tag in (USER, GROUP, MASK))
    return mode & ~0o777 | bits, plain


def permits(acl: Acl, owner: int, group: int, cred: object, want: int) -> bool:
    """Does the ACL grant `want` (rwx bits) to `cred` on a file of that owner and group?

    `cred` has `uid` and `in_group(gid)`. The first entry that names the user decides; of the groups
    he is in, any that grants everything will do.
    """
    mask = next((entry.perm for entry in acl if entry.tag == MASK), 7)
    in_some_group = False
    for entry in acl:
        if entry.tag == USER_OBJ and cred.uid == owner:  # type: ignore[attr-defined]
            return entry.perm & want == want
        if entry.tag == USER and cred.uid == entry.id:  # type: ignore[attr-defined]
            return entry.perm & mask & want == want
        if entry.tag in (GROUP_OBJ, GROUP):
            gid = group if entry.tag == GROUP_OBJ else entry.id
            if cred.in_group(gid):  # type: ignore[attr-defined]
                in_some_group = True
                if entry.perm & want == want:
                    return entry.perm & mask & want == want
        if entry.tag == OTHER:
            return not in_some_group and entry.perm & want == want
    return False


def inherit(default: Acl, mode: int) -> tuple[Acl, int, bool]:
    """What a new file gets from its directory's default ACL: (its access ACL, its mode, plain).

    The mode asked for and the ACL narrow one another; `plain` says that the mode alone will do.
    """
    holds_group = MASK if any(entry.tag == MASK for entry in default) else GROUP_OBJ
    allowed = {USER_OBJ: mode >> 6 & 7, holds_group: mode >> 3 & 7, OTHER: mode & 7}
    acl = tuple(entry._replace(perm=entry.perm & allowed.get(entry.tag, 7)) for entry in default)
    mode, plain = equivalent_mode(acl, mode)
    return acl, mode, plain


def after_chmod(acl: Acl, mode: int) -> Acl:
    """The access ACL once chmod has set `mode`."""
    holds_group = MASK if any(entry.tag == MASK for entry in acl) else GROUP_OBJ
    bits = {USER_OBJ: mode >> 6 & 7, holds_group: mode >> 3 & 7, OTHER: mode & 7}
    return tuple(entry._replace(perm=bits.get(entry.tag, entry.perm)) for entry in acl)

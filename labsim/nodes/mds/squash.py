"""Root squash: clients whose root is nobody in particular.

Pure rules on ids and NIDs. Stands for struct root_squash_info and its files (obdclass/
lprocfs_status_server.c), and for cfs_match_nid with its ranges.
"""

from __future__ import annotations

import errno
import re

from labsim.base.errors import LustreError
from labsim.base.ids import Nid
from labsim.nodes.mds.acl import NO_ID
from labsim.nodes.mds.cred import Cred

_IDS = re.compile(r"(\d+):(\d+)\s*\Z")
_RANGE = re.compile(r"\[(\d+)-(\d+)\]\Z")
CLEAR = ("NONE", "clear")


def parse_ids(text: str) -> tuple[int, int]:
    """Read "UID:GID"; EINVAL."""
    match = _IDS.match(text.strip())
    ids = (int(match.group(1)), int(match.group(2))) if match else (NO_ID + 1, 0)
    if max(ids) > NO_ID:
        raise LustreError(errno.EINVAL, text.strip())
    return ids


def parse_nids(text: str) -> tuple[str, ...]:
    """Read a list of NIDs or ranges of them ("10.0.0.[1-9]@tcp", "*@tcp"); EINVAL.

    "NONE" and "clear" are no NIDs.
    """
    words = tuple(text.replace(",", " ").split())
    if words in ((CLEAR[0],), (CLEAR[1],)):
        return ()
    if not words:
        raise LustreError(errno.EINVAL, "no NID")
    for word in words:
        _parts(word)
    return words


def _parts(word: str) -> tuple[list[str], str]:
    """(octets or ranges, network) of one NID or range."""
    address, at, net = word.partition("@")
    octets = ["*"] * 4 if address == "*" else re.split(r"\.(?![^\[]*\])", address)
    if not at or len(octets) != 4 or not all(map(_is_octet, octets)):
        raise LustreError(errno.EINVAL, word)
    return octets, net


def _is_octet(text: str) -> bool:
    match = _RANGE.match(text)
    bounds = match.groups() if match else (text,)
    return text == "*" or all(bound.isdecimal() and int(bound) < 256 for bound in bounds)


def matches(nids: tuple[str, ...], nid: int) -> bool:
    """Is this one of the NIDs?"""
    address, _, net = str(Nid(nid)).partition("@")
    octets = address.split(".")
    for word in nids:
        wanted, wanted_net = _parts(word)
        if wanted_net == net and all(map(_within, wanted, octets)):
            return True
    return False


def _within(wanted: str, octet: str) -> bool:
    match = _RANGE.match(wanted)
    if match:
        return int(match.group(1)) <= int(octet) <= int(match.group(2))
    return wanted in ("*", octet)


def squashed(cred: Cred, uid: int, gid: int) -> Cred:
    """Root as that user: no capabilities, no supplementary groups (mdt_root_squash)."""
    if cred.uid or not uid:
        return cred
    return Cred(uid, cred.gid or gid)

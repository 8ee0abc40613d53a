"""Identifiers: FIDs and NIDs.

Does not know who hands them out. Stands for `struct lu_fid` (lustre_idl.h) and `lnet_nid_t`
(a network type and number in the upper 32 bits, the address in the lower; lnet/nidstr.h).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from labsim.base.errors import InputError

_FID = re.compile(r"\[?0x([0-9a-f]+):0x([0-9a-f]+):0x([0-9a-f]+)\]?\Z", re.IGNORECASE)
_NID = re.compile(r"(\d+)\.(\d+)\.(\d+)\.(\d+)@tcp(\d*)\Z")

SOCKLND = 2
"""LND type of "tcp" in a NID's network part (lnet/nidstr.h)."""


class Fid(NamedTuple):
    """A file identifier: sequence (u64), object id in it (u32), version (u32)."""

    seq: int
    oid: int
    ver: int = 0

    @classmethod
    def parse(cls, text: str) -> Fid:
        """Read "[0x200000401:0x1:0x0]", brackets optional."""
        match = _FID.match(text)
        if match is None:
            raise InputError(f"'{text}' is no FID; write it as [0x200000401:0x1:0x0]")
        return cls(*(int(part, 16) for part in match.groups()))

    def __str__(self) -> str:
        return f"[{self.seq:#x}:{self.oid:#x}:{self.ver:#x}]"


NO_FID = Fid(0, 0, 0)
ROOT_FID = Fid(0x200000007, 1, 0)
"""The file system's root directory (FID_SEQ_ROOT, lustre_fid.h)."""


class Nid(int):
    """A network identifier as the wire's u64; prints as "10.0.0.1@tcp"."""

    __slots__ = ()

    @classmethod
    @lru_cache(maxsize=1024)  # a thousand clients know the same few servers
    def parse(cls, text: str) -> Nid:
        """Read "A.B.C.D@tcp" or "A.B.C.D@tcpN"."""
        match = _NID.match(text)
        octets = [int(part) for part in match.groups()[:4]] if match else [256]
        if match is None or max(octets) > 255:
            raise InputError(f"'{text}' is no NID; write it as 10.0.0.1@tcp")
        address = octets[0] << 24 | octets[1] << 16 | octets[2] << 8 | octets[3]
        return cls((SOCKLND << 16 | int(match.group(5) or 0)) << 32 | address)

    @property
    def address(self) -> str:
        """The dotted IPv4 address."""
        return ".".join(str(self >> shift & 255) for shift in (24, 16, 8, 0))

    def __str__(self) -> str:
        number = self >> 32 & 0xFFFF
        return f"{self.address}@tcp{number or ''}"

    __repr__ = __str__


def uuid_text(bits: int) -> str:
    """128 bits as a uuid in its usual form."""
    text = f"{bits:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

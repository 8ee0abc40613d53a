"""The rules of lock compatibility: modes, and for each lock type what two locks may share.

Pure values and functions. Does not know resources, clients, messages or time. Stands for
ldlm_lock.c's mode table, ldlm_plain.c, ldlm_inodebits.c and the conflict rules of ldlm_extent.c.

A policy says which part of a resource a lock is for. There is one class for each lock type.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple, TypeAlias

from labsim.wire.constants import (
    LCK_COS,
    LCK_CR,
    LCK_CW,
    LCK_EX,
    LCK_GROUP,
    LCK_NL,
    LCK_PR,
    LCK_PW,
    LDLM_EXTENT,
    LDLM_FLOCK,
    LDLM_IBITS,
    LDLM_PLAIN,
    OBD_OBJECT_EOF,
)

_COMPATIBLE = {
    LCK_EX: LCK_NL,
    LCK_PW: LCK_NL | LCK_CR,
    LCK_PR: LCK_NL | LCK_CR | LCK_PR,
    LCK_CW: LCK_NL | LCK_CR | LCK_CW,
    LCK_CR: LCK_NL | LCK_CR | LCK_CW | LCK_PR | LCK_PW,
    LCK_NL: LCK_NL | LCK_CR | LCK_CW | LCK_PR | LCK_PW | LCK_EX | LCK_GROUP,
    LCK_GROUP: LCK_NL | LCK_GROUP,
    LCK_COS: LCK_COS,
}
"""For each mode the mask of modes that may be granted beside it."""

MODES = (LCK_EX, LCK_PW, LCK_PR, LCK_CW, LCK_CR, LCK_NL, LCK_GROUP)
"""The modes a client may ask for."""

_NAMES = {LCK_EX: "EX", LCK_PW: "PW", LCK_PR: "PR", LCK_CW: "CW", LCK_CR: "CR", LCK_NL: "NL",
          LCK_GROUP: "GROUP", LCK_COS: "COS"}  # fmt: skip


def mode_name(mode: int) -> str:
    """LCK_PR is "PR"; no mode is "-"."""
    return _NAMES.get(mode, "-")


def compatible(one: int, other: int) -> bool:
    """May locks of these two modes be granted side by side on the same part of a resource?"""
    return bool(_COMPATIBLE[one] & other)


@cache
def covering(modes: int) -> int:
    """The mask of modes that serve somebody who wants one of `modes` (PR: PR, PW and EX).

    A mode serves for another if it keeps away everything that the other keeps away. A group's file
    is shared with nobody but that group, so only GROUP serves for GROUP.
    """
    mask = modes
    for wanted in MODES:
        if modes & wanted and wanted != LCK_GROUP:
            allowed = _COMPATIBLE[wanted]
            mask |= sum(
                mode for mode in MODES if not _COMPATIBLE[mode] & ~allowed and not mask & mode
            )
    return mask


class Extent(NamedTuple):
    """Bytes `start` to `end` of an object, both included; `gid` names a group (LCK_GROUP only)."""

    start: int = 0
    end: int = OBD_OBJECT_EOF
    gid: int = 0

    @property
    def kind(self) -> int:
        """The lock type, as the wire has it."""
        return LDLM_EXTENT

    def meets(self, other: Any) -> bool:
        """Do the two have a byte in common?"""
        return bool(self.start <= other.end and other.start <= self.end)

    def includes(self, other: Any) -> bool:
        """Is every byte of `other` in this one?"""
        return bool(self.start <= other.start and self.end >= other.end)

    @property
    def valid(self) -> bool:
        """A range has at least one byte."""
        return self.start <= self.end

    def __str__(self) -> str:
        end = "EOF" if self.end == OBD_OBJECT_EOF else str(self.end)
        return f"[{self.start}-{end}]" + (f" gid {self.gid}" if self.gid else "")


class Ibits(NamedTuple):
    """Aspects of an inode (MDS_INODELOCK_*); `optional` ones are added where nobody minds."""

    bits: int
    optional: int = 0

    @property
    def kind(self) -> int:
        """The lock type, as the wire has it."""
        return LDLM_IBITS

    def meets(self, other: Any) -> bool:
        """Do the two have a bit in common?"""
        return bool(self.bits & other.bits)

    def includes(self, other: Any) -> bool:
        """Is every bit of `other` in this one?"""
        return not other.bits & ~self.bits

    @property
    def valid(self) -> bool:
        """A lock on nothing protects nothing; one may have optional bits only."""
        return self.bits | self.optional != 0

    def __str__(self) -> str:
        return f"{self.bits:#x}"


class Plain(NamedTuple):
    """A resource that is locked as a whole (the MGS's configuration)."""

    @property
    def kind(self) -> int:
        """The lock type, as the wire has it."""
        return LDLM_PLAIN

    def meets(self, other: Any) -> bool:
        """Always."""
        return True

    def includes(self, other: Any) -> bool:
        """Always."""
        return True

    @property
    def valid(self) -> bool:
        """Always."""
        return True

    def __str__(self) -> str:
        return "all"


WHOLE = Plain()
"""The only one there need be."""


class Flock(NamedTuple):
    """Bytes `start` to `end` of a file, both included, for a process.

    `owner` names who may lock them again (a process, or an open file), `pid` whom F_GETLK tells.
    """

    start: int = 0
    end: int = OBD_OBJECT_EOF
    owner: int = 0
    pid: int = 0

    @property
    def kind(self) -> int:
        """The lock type, as the wire has it."""
        return LDLM_FLOCK

    def meets(self, other: Any) -> bool:
        """Do the two have a byte in common?"""
        return bool(self.start <= other.end and other.start <= self.end)

    def includes(self, other: Any) -> bool:
        """Is every byte of `other` in this one, for the same owner?"""
        inside = self.start <= other.start and self.end >= other.end
        return bool(inside and self.owner == other.owner)

    @property
    def valid(self) -> bool:
        """A range has at least one byte."""
        return self.start <= self.end

    def __str__(self) -> str:
        end = "EOF" if self.end == OBD_OBJECT_EOF else str(self.end)
        return f"[{self.start}-{end}] pid {self.pid} owner {self.owner:#x}"


Policy: TypeAlias = Extent | Ibits | Plain | Flock

POLICIES: dict[int, type[Extent] | type[Ibits] | type[Plain] | type[Flock]] = {
    LDLM_PLAIN: Plain,
    LDLM_EXTENT: Extent,
    LDLM_FLOCK: Flock,
    LDLM_IBITS: Ibits,
}
"""The policy class of each lock type that a resource may have."""


def conflict(mode: int, policy: Policy, other_mode: int, other: Policy) -> bool:
    """May these two locks of one resource not be granted at the same time?

    Both policies are of the resource's type. Locks of one client conflict like those of two.
    """
    if mode == other_mode == LCK_GROUP:
        return group_of(policy) != group_of(other)
    if compatible(mode, other_mode):
        return False
    whole = LCK_GROUP in (mode, other_mode) and isinstance(policy, Extent)
    return whole or policy.meets(other)


def covers(mode: int, policy: Policy, wanted_modes: int, wanted: Policy) -> bool:
    """Does a granted lock serve somebody who asks for one of `wanted_modes` on `wanted`?"""
    if not covering(wanted_modes) & mode or policy.kind != wanted.kind:
        return False
    if mode == LCK_GROUP and group_of(policy) != group_of(wanted):
        return False
    return policy.includes(wanted)


def group_of(policy: Policy) -> int:
    """The group that a LCK_GROUP lock belongs to; 0 where its type has none."""
    return policy.gid if isinstance(policy, Extent) else 0


def valid_mode(mode: int) -> bool:
    """Is it one mode, and one that travels?"""
    return mode in MODES

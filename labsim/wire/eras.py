"""What the protocol of a peer has: releases differ in fields and buffers, as data.

Does not know any struct. A declaration says what stands in 2.12, and `differs` or a buffer's mark
what is otherwise in 2.10 and in 2.15; the version that two peers have in common picks. A field
that one side does not know is neither sent nor read: its bytes are zero. Stands for what Lustre
does with ocd_version and connect flags. Releases before 2.10 are taken for 2.10, development tags
for the release before.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple


class Era(IntEnum):
    """A state of the protocol, named by the first release that has it."""

    V2_10 = 0
    V2_12 = 1
    V2_15 = 2

    def __str__(self) -> str:
        return self.name[1:].replace("_", ".")


V2_10, V2_12, V2_15 = Era
DECLARED = V2_12
"""What the declarations say where they do not say otherwise."""


def era_of(version: int) -> Era:
    """The era of an obd_connect_data.ocd_version; zero, not yet known, is the declared one."""
    if not version:
        return DECLARED
    number = version >> 16
    if number < 2 << 8 | 12:
        return V2_10
    return V2_15 if number >= 2 << 8 | 15 else V2_12


class At(NamedTuple):
    """How a struct differs in another era from its declaration."""

    unknown: Mapping[str, str] = {}
    """Attributes that it does not have, and Lustre's name for the bytes then ("": none)."""
    renamed: Mapping[str, str] = {}
    """Attributes under another of Lustre's names; they mean the same."""
    added: Mapping[str, tuple[int, int]] = {}
    """Lustre's names of fields that only it has, with offset and size: (32, 4)."""
    moved: Mapping[str, tuple[int, int]] = {}
    """Lustre's names of fields that lie elsewhere or are of another size."""
    bits: Mapping[str, int] = {}
    """Attributes that are masks, and the bits of them that mean nothing to it."""
    size: int = 0
    """Bytes of the struct, where they are other."""
    absent: bool = False
    """There is no such struct."""


Differs = Mapping[Era, At]


def marked(words: str, era: Era) -> list[str]:
    """The keys of a format's buffers in an era.

    `key` is in all, `key@2.12` from then on, `key@-2.12` only before, `key@2.12-2.15` in between.
    """
    found = []
    for word in words.split():
        key, _, span = word.partition("@")
        first, _, end = span.partition("-")
        after = not first or era >= _named(first)
        before = not end or era < _named(end)
        if after and before:
            found.append(key)
    return found


def exists(span: str, era: Era) -> bool:
    """Whether something marked with that span is there in an era; "" is always."""
    return bool(marked(f"it@{span}", era)) if span else True


def _named(text: str) -> Era:
    return Era["V" + text.replace(".", "_")]


def differences(cls: Any, era: Era) -> At:
    """How a Wire class differs in an era; nothing in the declared one."""
    found: At = cls.differs.get(era, At())
    return found

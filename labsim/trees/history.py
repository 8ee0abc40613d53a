"""Histories: when a bug came and went, and whether a tree has it.

Does not know what the bug does. Stands for `git tag --contains` of the commit that brought it and
of the commits that fixed it.

    history:
      introduced: {master: 2.10.51, b2_10: 2.10.1}
      fixed: {master: 2.11.51, b2_12: 2.12.3}
      staging: {staging-4.16: yes}

Each names, by branch, the first tag that has it. Besides a tag a branch may say

    <2.4.0, <=2.8.0   at that tag it was there; when it came before is not known
    unreleased        on the branch, but after its last tag
    never             never on this branch (the same as not naming it)
    unknown           nobody knows

A bug is in a tag when it was introduced at or before it, and neither the fix nor a backport is in
that tag. Trees outside the lineage say so themselves, under `staging` and `vendor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from labsim.base.errors import InputError
from labsim.trees.lineage import (
    BRANCHES,
    DEVELOPMENT,
    FIRST,
    MASTER,
    Tag,
    Version,
    branch_of,
    contains,
    nearest,
    parse_version,
    spelled,
    tag,
)

if TYPE_CHECKING:
    from labsim.trees.tree import Tree

Presence = Literal["yes", "no", "unknown"]

STAGING = ("staging-4.4", "staging-4.16")
VENDORS = ("cray-2.7", "chaos-2.8")
_WORDS = ("never", "none", "unreleased", "unknown")


class History(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a bug came and went; see the module."""

    introduced: dict[str, str] = {}
    """branch -> the first tag with the bug."""
    fixed: dict[str, str] = {}
    """branch -> the first tag with the fix."""
    staging: dict[str, Presence] = {}
    """The drivers/staging trees that are known to have it, or not."""
    vendor: dict[str, Presence] = {}
    """The vendor trees that are known to have it, or not; otherwise their base decides."""


class Point(NamedTuple):
    """What a history says of one branch: at, or (bound) some time before, that version."""

    version: Version | None
    bound: bool = False
    known: bool = True


NOWHERE = Point(None)


def parse_point(text: str, branch: str, where: str = "") -> Point:
    """A branch's entry; InputError where it is no tag of that branch nor one of the words."""
    if text in _WORDS:
        return Point(None, known=text != "unknown")
    bound = text.startswith("<")
    digits = text.removeprefix("<").removeprefix("=")
    try:
        version = parse_version(digits)
    except InputError:
        words = ", ".join(w for w in _WORDS if w != "none")
        raise InputError(
            f"'{text}' is no tag; write one as 2.10.51, <2.4.0 or <=2.8.0, or {words}", where
        ) from None
    if version >= FIRST and branch_of(version) != branch:
        home = branch_of(version)
        raise InputError(f"{digits} is a tag of {home}, not of {branch}", where)
    if version >= FIRST and version[2] < DEVELOPMENT:
        tag(digits)
    return Point(version, bound)


def validate(history: History, where: str = "") -> None:
    """Raise InputError where a history names an unknown branch, tag or tree, or nothing at all."""
    for field, entries in (("introduced", history.introduced), ("fixed", history.fixed)):
        for branch, text in entries.items():
            if branch not in BRANCHES:
                known = nearest(branch, BRANCHES) or f"; known are {', '.join(BRANCHES)}"
                raise InputError(f"history.{field}: no branch '{branch}'{known}", where)
            parse_point(text, branch, where)
    for field, told, names in (
        ("staging", history.staging, STAGING),
        ("vendor", history.vendor, VENDORS),
    ):
        for name in told:
            if name not in names:
                hint = nearest(name, names) or f"; known are {', '.join(names)}"
                raise InputError(f"history.{field}: no tree '{name}'{hint}", where)
    if not history.introduced and not history.staging:
        raise InputError("a history says where the bug came in: introduced or staging", where)


def present(history: History, tree: Tree) -> Presence:
    """Whether a tree has the bug, by its place in the lineage; never a guess."""
    if tree.family == "staging":
        return history.staging.get(tree.name, "unknown")
    if tree.name in history.vendor:
        return history.vendor[tree.name]
    return in_tag(history, tag(tree.base or tree.name))


def in_tag(history: History, at: Tag) -> Presence:
    """Whether a tag of the lineage has the bug."""
    came = _reached(history.introduced, at)
    if came == "no":
        return "no"
    went = _reached(history.fixed, at)
    if went == "yes":
        return "no"
    return "yes" if came == "yes" and went == "no" else "unknown"


def _reached(entries: dict[str, str], at: Tag) -> Presence:
    """Whether any of the branches' commits is in the tag."""
    answer: Presence = "no"
    for branch, text in entries.items():
        point = parse_point(text, branch)
        if branch not in (MASTER, at.branch):
            continue
        if not point.known:
            answer = "unknown"
        elif point.version is not None and contains(at, branch, point.version):
            return "yes"
        elif point.bound:
            answer = "unknown"
    return answer


def tags_with(history: History, tags: list[Tag]) -> list[str]:
    """The names of those tags that are known to have the bug."""
    return [spelled(at.version) for at in tags if in_tag(history, at) == "yes"]

"""The lineage of Lustre's community tree: branches, tags, and which commit is in which tag.

Does not know any bug. Stands for the tags of lustre-release: master carries the X.Y.0 releases and
the development tags X.Y.50 to X.Y.99 that lead to the next one; a branch b2_Y leaves master at
2.Y.0 and carries the point releases 2.Y.1, 2.Y.2 ...
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple

from labsim.base.errors import InputError

Version = tuple[int, int, int]
MASTER = "master"
FIRST: Version = (2, 4, 0)
"""The oldest release that labsim has."""
DEVELOPMENT = 50
"""Third numbers from here on are development tags on master."""

_VERSION = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{1,2})\Z")

POINT_RELEASES: dict[int, int] = {4: 3, 5: 3, 10: 8, 12: 9, 15: 8, 16: 1}
"""Minor number of a maintained branch -> its last point release."""
LAST_MINOR = 17


class Tag(NamedTuple):
    """One tag: where it is, and the point of master that it contains."""

    name: str
    version: Version
    branch: str
    master: Version

    @property
    def development(self) -> bool:
        """True for X.Y.50 and above, which are no releases."""
        return self.version[2] >= DEVELOPMENT


def spelled(version: Version) -> str:
    """(2, 12, 0) as "2.12.0"."""
    return ".".join(map(str, version))


def parse_version(text: str) -> Version:
    """The numbers of "2.12.0"; InputError where it is no such thing."""
    match = _VERSION.match(text)
    if match is None:
        raise InputError(f"'{text}' is no Lustre version; write three numbers, as in 2.12.0")
    major, minor, patch = map(int, match.groups())
    return major, minor, patch


def _releases() -> dict[str, Tag]:
    tags = []
    for minor in range(FIRST[1], LAST_MINOR + 1):
        base = (2, minor, 0)
        tags.append(Tag(spelled(base), base, MASTER, base))
        for patch in range(1, POINT_RELEASES.get(minor, 0) + 1):
            version = (2, minor, patch)
            tags.append(Tag(spelled(version), version, f"b2_{minor}", base))
    return {tag.name: tag for tag in tags}


RELEASES: dict[str, Tag] = _releases()
"""Every release by name, oldest version first."""
BRANCHES: tuple[str, ...] = (MASTER, *(f"b2_{minor}" for minor in POINT_RELEASES))


def branch_of(version: Version) -> str:
    """The branch that carries a version: master for X.Y.0 and X.Y.50 up, b2_Y for the others."""
    _, minor, patch = version
    return MASTER if patch == 0 or patch >= DEVELOPMENT else f"b2_{minor}"


def tag(name: str) -> Tag:
    """A release, or a development tag as a point on master; InputError where there is none."""
    known = RELEASES.get(name)
    if known is not None:
        return known
    match = _VERSION.match(name)
    if match is not None:
        version = parse_version(name)
        if version[2] >= DEVELOPMENT and FIRST <= version < (3, 0, 0):
            return Tag(name, version, MASTER, version)
    raise InputError(f"no release is called '{name}'{nearest(name, RELEASES)}")


def contains(at: Tag, branch: str, version: Version) -> bool:
    """Whether the state of `branch` at `version` is part of the tag `at`."""
    if branch == MASTER:
        return version <= at.master
    return branch == at.branch and version <= at.version


def nearest(word: str, known: Iterable[str]) -> str:
    """The words "; did you mean ...?", or nothing where no known word is near."""
    names = list(known)
    stem = word.rpartition(".")[0] + "."
    close = [name for name in names if name.startswith(word + ".")]
    close = close or [name for name in names if stem.count(".") == 2 and name.startswith(stem)][-1:]
    close = close or get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""

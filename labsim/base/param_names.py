"""Names of parameter files: dotted as people type them, slashed as they lie in the tree.

Does not know any file. Stands for clean_path in lctl and for what glob(3) makes of a pattern.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from labsim.base.errors import InputError
from labsim.base.ids import Nid

Matcher = Callable[[str], Any]


def slashed(pattern: str, nids: str = "parsed") -> str:
    """A dotted pattern as a path pattern: dots become slashes, except inside a NID.

    `nids` says how a NID is told from other words: "parsed" (it must be one, without wildcards),
    "prefixed" (whatever follows exports. or MGC), "escaped" (a backslash keeps its dot).
    """
    if nids == "escaped":
        return re.sub(r"(?<=[^\\\\])\.", "/", pattern).replace("\\", "")
    pattern = pattern.replace("\\", "")
    nid = _nid_in(pattern) if nids == "parsed" else _nid_after_prefix(pattern)
    head, tail = [], pattern
    while "." in tail:
        if nid and tail.removeprefix("MGC").startswith(nid):
            cut = tail.index(nid) + len(nid)
            head.append(tail[:cut])
            tail = tail[cut:]
            continue
        part, _, tail = tail.partition(".")
        head.append(part + "/")
    return "".join([*head, tail])


def _nid_after_prefix(pattern: str) -> str:
    match = re.search(r"\.(?:exports\.|MGC)([^@]*@[^.]*)", pattern)
    return match.group(1) if match else ""


def _nid_in(pattern: str) -> str:
    """The NID that a pattern holds, or an empty string."""
    before, at, after = pattern.partition("@")
    if not at:
        return ""
    candidate = before + at + after.partition(".")[0]
    while "." in candidate:
        _, _, candidate = candidate.partition(".")
        text = candidate.removeprefix("MGC")
        try:
            return str(Nid.parse(text))
        except (InputError, ValueError):
            continue
    return ""


def braces(pattern: str) -> Iterator[str]:
    """The patterns that {a,b} stands for, in order; nested braces too."""
    start = pattern.find("{")
    if start < 0:
        yield pattern
        return
    depth, cuts = 0, [start]
    for place in range(start, len(pattern)):
        letter = pattern[place]
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 1:
            cuts.append(place)
        if depth == 0:
            cuts.append(place)
            break
    else:
        yield pattern
        return
    for left, right in pairwise(cuts):
        yield from braces(pattern[:start] + pattern[left + 1 : right] + pattern[cuts[-1] + 1 :])


def word_matcher(pattern: str) -> Matcher:
    """What matches one word of a path: * ? [..] and [^..] as in glob(3)."""
    return re.compile(fnmatch.translate(pattern.replace("[^", "[!"))).match

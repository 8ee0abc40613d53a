"""File modes as text: what chmod reads and what ls prints.

Does not know files. Stands for coreutils' modechange.c and filemode.c.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable

from labsim.base.errors import InputError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)\Z")
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007, "a": 0o7777}
_WHAT = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}
_SHIFT = {"u": 6, "g": 3, "o": 0}
UMASK = 0o022
"""What a clause without u, g, o or a leaves alone."""

KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFCHR: "character special file",
    stat.S_IFBLK: "block special file",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def parse_mode(text: str) -> Callable[[int, bool], int]:
    """Read "0644" or "u+x,go-w"; the result maps (old mode, is a directory) to the new bits."""
    if re.fullmatch(r"[0-7]{1,5}", text):
        bits = int(text, 8) & 0o7777
        return lambda _old, _directory: bits
    clauses = [_CLAUSE.match(clause) for clause in text.split(",")]
    if not all(clauses):
        raise InputError(f"invalid mode: '{text}'")

    def change(old: int, directory: bool) -> int:
        for clause in clauses:
            assert clause is not None
            old = _apply(old & 0o7777, clause[1], clause[2], directory)
        return old

    return change


def _apply(old: int, who: str, actions: str, directory: bool) -> int:
    reach = 0 if who else 0o7777
    for letter in who:
        reach |= _WHO[letter]
    kept = UMASK if not who else 0
    for action, letters in re.findall(r"([-+=])([rwxXstugo]*)", actions):
        bits = _bits(old, letters, directory) & reach & ~kept
        if action == "=":
            old = old & ~(reach & 0o1777) | bits
        else:
            old = old | bits if action == "+" else old & ~bits
    return old


def _bits(old: int, letters: str, directory: bool) -> int:
    """The bits that letters stand for, for everybody."""
    bits = 0
    for letter in letters:
        if letter in _SHIFT:
            bits |= (old >> _SHIFT[letter] & 7) * 0o111
        elif letter == "X":
            bits |= 0o111 if directory or old & 0o111 else 0
        else:
            bits |= _WHAT[letter]
    return bits


def kind(mode: int, size: int) -> str:
    """The words of stat's %F."""
    if stat.S_ISREG(mode):
        return "regular file" if size else "regular empty file"
    return KINDS.get(stat.S_IFMT(mode), "weird file")

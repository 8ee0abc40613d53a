"""What a call may look at or change: two calls that share none of it may act in either order.

Pure functions over a call and a state of the reference model; does not know answers. Errs to the
safe side: a path through a symbolic link may reach everything.
"""

from __future__ import annotations

import stat as st
from collections.abc import Iterable
from typing import NamedTuple

from labsim.scenario.posix_answers import paths_of
from labsim.scenario.posix_state import MOUNT, NOTHING, Found, State
from labsim.scenario.record import Call

Path = tuple[str, ...]


class Reach(NamedTuple):
    """Paths with all below and above them, and inodes; None for paths: anything."""

    paths: tuple[Path, ...] | None
    inodes: frozenset[int]

    @classmethod
    def of(cls, state: State, call: Call, looked: Iterable[Found] = ()) -> Reach:
        """What a call may reach in a state; `looked` is where its paths led to, if it looked."""
        inodes = {found.inode for found in looked}
        inodes.add(state.opened.get((call.client, call.file), NOTHING))
        inodes.add(state.fids.get(call.fid, NOTHING))
        paths: list[Path] | None = []
        for path in paths_of(call):
            parts = _parts(path)
            found = state.walk(path, follow=False)
            inodes.add(found.inode)
            if parts is None or paths is None or _links(state):
                paths = None
            else:
                paths.append(parts)
        kept = frozenset(inode for inode in inodes if inode > NOTHING)
        return cls(None if paths is None else tuple(paths), kept)

    def meets(self, other: Reach) -> bool:
        """Whether the two may have something in common."""
        if self.paths is None or other.paths is None:
            return True
        if not self.inodes.isdisjoint(other.inodes):
            return True
        return any(
            all(a == b for a, b in zip(one, two, strict=False))
            for one in self.paths
            for two in other.paths
        )


def _parts(path: str) -> Path | None:
    """A path's names from the root of the file system on; None where it goes up."""
    if path == MOUNT or path.startswith(MOUNT + "/"):
        path = path[len(MOUNT) :]
    parts = tuple(part for part in path.split("/") if part and part != ".")
    return None if ".." in parts else parts


def _links(state: State) -> bool:
    """Whether there are symbolic links, of which any may be on the way."""
    return any(one.kind == st.S_IFLNK for one in state.inodes.values())

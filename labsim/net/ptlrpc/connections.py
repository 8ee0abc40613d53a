"""The nodes that a target may be on, and which of them an import asks next.

Plain data. Does not know requests. Stands for the imp_conn_list of an import (struct
obd_import_conn), import_select_connection and import_set_conn (ptlrpc/import.c, ldlm_lib.c).
"""

from __future__ import annotations

from collections.abc import Iterable

from labsim.base.ids import Nid

NEVER = -1


class Connections:
    """NIDs in the order of the list; `select` says which is to be tried now."""

    __slots__ = ("_stay", "_success", "_tried", "current")

    def __init__(self, nids: Iterable[int]) -> None:
        self._tried = {Nid(nid): NEVER for nid in nids}
        """When each was tried last (ns), in the order of the list."""
        self._success = NEVER
        """When the attempt that last succeeded was made."""
        self._stay = False
        self.current = next(iter(self._tried))

    @property
    def nids(self) -> list[Nid]:
        """All of them, in order."""
        return list(self._tried)

    def add(self, *nids: int) -> None:
        """More nodes, at the end of the list; what is there keeps its place."""
        for nid in nids:
            self._tried.setdefault(Nid(nid), NEVER)

    def prefer(self, nid: int) -> bool:
        """Put a node of the list first, as if it were new; False where it is none of them."""
        if nid not in self._tried:
            return False
        others = {one: at for one, at in self._tried.items() if one != nid}
        self._tried = {Nid(nid): NEVER} | others
        return True

    def stay(self) -> None:
        """The node is there, only busy: ask it again (imp_force_reconnect)."""
        self._stay = True

    def succeeded(self) -> None:
        """The attempt that was made last has led to a connection."""
        self._success = self._tried[self.current]
        self._stay = False

    def select(self, now_ns: int) -> bool:
        """Set `current` to the node to ask now; True where all were asked and it is the first.

        That is one not asked since the last success, else the one asked longest ago.
        """
        fresh = [nid for nid, at in self._tried.items() if at <= self._success]
        if self._stay:
            self._stay, again = False, False
        elif fresh:
            self.current, again = fresh[0], False
        else:
            self.current = min(self._tried, key=self._tried.__getitem__)
            again = self.current == next(iter(self._tried))
        self._tried[self.current] = now_ns
        return again

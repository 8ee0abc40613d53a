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

    __slots__ = ("_nids", "_stay", "_success", "_tried", "current")

    def __init__(self, nids: Iterable[int]) -> None:
        self._nids = tuple(dict.fromkeys(map(_nid, nids)))
        self._tried = (NEVER,) * len(self._nids)
        """When each was tried last (ns)."""
        self._success = NEVER
        """When the attempt that last succeeded was made."""
        self._stay = False
        self.current = self._nids[0]

    @property
    def nids(self) -> list[Nid]:
        """All of them, in order."""
        return list(self._nids)

    def add(self, *nids: int) -> None:
        """More nodes, at the end of the list; what is there keeps its place."""
        new = tuple(_nid(nid) for nid in dict.fromkeys(nids) if nid not in self._nids)
        self._nids += new
        self._tried += (NEVER,) * len(new)

    def prefer(self, nid: int) -> bool:
        """Put a node of the list first, as if it were new; False where it is none of them."""
        if nid not in self._nids:
            return False
        others = [(one, at) for one, at in zip(self._nids, self._tried, strict=True) if one != nid]
        self._nids = (_nid(nid), *(one for one, _ in others))
        self._tried = (NEVER, *(at for _, at in others))
        return True

    def stay(self) -> None:
        """The node is there, only busy: ask it again (imp_force_reconnect)."""
        self._stay = True

    def succeeded(self) -> None:
        """The attempt that was made last has led to a connection."""
        self._success = self._tried[self._nids.index(self.current)]
        self._stay = False

    def select(self, now_ns: int) -> bool:
        """Set `current` to the node to ask now; True where all were asked and it is the first.

        That is one not asked since the last success, else the one asked longest ago.
        """
        fresh = [at for at, ns in enumerate(self._tried) if ns <= self._success]
        if self._stay:
            at, again = self._nids.index(self.current), False
        elif fresh:
            at, again = fresh[0], False
        else:
            at = self._tried.index(min(self._tried))
            again = at == 0
        self._stay = False
        self.current = self._nids[at]
        self._tried = (*self._tried[:at], now_ns, *self._tried[at + 1 :])
        return again


def _nid(nid: int) -> Nid:
    return nid if isinstance(nid, Nid) else Nid(nid)

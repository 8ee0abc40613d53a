"""The files of a client's lov: what it stripes over, and how where nobody says so.

Knows OSCs by name only. Stands for lov/lproc_lov.c; the defaults are those of the lov_desc that the
MGS writes into every client's log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labsim.base.component import Component
from labsim.base.params import Param
from labsim.base.units import MIB


class LovFiles(Component, tree="lov.{name}"):
    """The OSTs of one mount, by index."""

    def __init__(self, oscs: Mapping[int, Any]) -> None:
        self.oscs = oscs

    stripesize = Param.count(MIB, unit="bytes", access="ro", help="bytes of a stripe")
    stripecount = Param.count(1, unit="OSTs", access="ro", help="stripes of a file")
    stripeoffset = Param.count(-1, unit="OST", access="ro", help="the first OST; -1: any")
    stripetype = Param.count(1, unit="LOV_PATTERN", access="ro", help="1: raid0")

    @Param.computed(unit="OSTs", help="OSTs of the file system")
    def numobd(self) -> int:
        """All of them."""
        return len(self.oscs)

    @Param.computed(unit="OSTs", help="OSTs that are not switched off")
    def activeobd(self) -> int:
        """Those whose import may be used."""
        return sum(osc.active for osc in self.oscs.values())

    @Param.computed(help="the OSTs, by index")
    def target_obd(self) -> str:
        """A line for each (lov_tgt_seq_show)."""
        return "".join(
            f"{index}: {osc.info.uuid} {'ACTIVE' if osc.active else 'INACTIVE'}\n"
            for index, osc in self.oscs.items()
        )

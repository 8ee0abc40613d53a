"""The fault points of an MGC, with the numbers of obd_support.h; every node has one. Rows only."""

from __future__ import annotations

from labsim.base.faults import Point

MGC_PAUSE_PROCESS_LOG = Point(
    0x903, "before an MGC takes the lock of a log to read it", "MGC_PAUSE_PROCESS_LOG", "delay"
)

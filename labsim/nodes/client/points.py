"""The fault points of a client's data path, with the numbers of obd_support.h.

Rows only. A point that is hit damages a checksum or data; nothing fails by itself.
"""

from __future__ import annotations

from labsim.base.faults import Point

EIO = 5

OSC_CHECKSUM_RECEIVE = Point(
    0x408, "data that an OSC has read is damaged", "OSC_CHECKSUM_RECEIVE", "fail", EIO
)
OSC_CHECKSUM_SEND = Point(
    0x409, "an OSC sends a wrong checksum with a write", "OSC_CHECKSUM_SEND", "fail", EIO
)

"""The fault points of a client's data path, with the numbers of obd_support.h.

Rows only. Where Lustre's own test is a yes or no (OSC_NO_GRANT, the checksums), being hit is what
counts, not the errno.
"""

from __future__ import annotations

from labsim.base.faults import Point

EIO, ENOMEM, EINVAL, EDQUOT = 5, 12, 22, 122

OSC_MATCH = Point(0x405, "an OSC looks for a lock that it has", "OSC_MATCH", "fail", EIO)
OSC_BRW_PREP_REQ = Point(
    0x406, "an OSC makes a BRW; what goes wrong may pass", "OSC_BRW_PREP_REQ", "fail", ENOMEM
)
OSC_CHECKSUM_RECEIVE = Point(
    0x408, "data that an OSC has read is damaged", "OSC_CHECKSUM_RECEIVE", "fail", EIO
)
OSC_CHECKSUM_SEND = Point(
    0x409, "an OSC sends a wrong checksum with a write", "OSC_CHECKSUM_SEND", "fail", EIO
)
OSC_BRW_PREP_REQ2 = Point(
    0x40A, "an OSC makes a BRW; what goes wrong will not pass", "OSC_BRW_PREP_REQ2", "fail", EINVAL
)
OSC_CONNECT_CKSUM = Point(
    0x40B, "an OSC connects as one that knows no checksums", "OSC_CONNECT_CKSUM", "fail", EIO
)
OSC_CKSUM_ADLER_ONLY = Point(
    0x40C, "an OSC connects as one that knows adler only", "OSC_CKSUM_ADLER_ONLY", "fail", EIO
)
OSC_NO_GRANT = Point(
    0x411, "an OSC looks for room for a dirty page", "OSC_NO_GRANT", "fail", EDQUOT
)
OSC_DELAY_SETTIME = Point(
    0x412, "an OSC is about to set size or times", "OSC_DELAY_SETTIME", "delay"
)
OSC_DELAY_IO = Point(0x414, "a BRW is ready to be sent", "OSC_DELAY_IO", "delay")
GLIMPSE_DELAY = Point(0x1404, "a client is about to ask for a size", "GLIMPSE_DELAY", "delay")
MDC_ENQUEUE_PAUSE = Point(0x801, "before an MDC asks for a lock", "MDC_ENQUEUE_PAUSE", "delay")
MDC_CLOSE = Point(0x806, "an MDC cannot send a close", "MDC_CLOSE", "fail", ENOMEM)

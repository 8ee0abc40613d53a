"""The fault points of ptlrpc and of every target, with the numbers of obd_support.h.

Rows only; does not know where they are visited. Of the PTLRPC ones, PUT_NET, PAUSE_REQ, DROP_REQ
and DROP_BULK are on who serves a request, the others on who sends it.
"""

from __future__ import annotations

from labsim.base.faults import Point
from labsim.base.units import NS_PER_S

ENOSPC = 28

LONG_UNLINK_NS = 300 * NS_PER_S
"""PTLRPC_REQ_LONG_UNLINK: how long a slow network holds on to a buffer."""

MDS_RECOVERY_ACCEPTS_GAPS = Point(
    0x185, "a replay comes before the one in front of it", "MDS_RECOVERY_ACCEPTS_GAPS", "fail"
)
PTLRPC_BULK_GET_NET = Point(
    0x503, "the buffers of a bulk are not opened to the server", "PTLRPC_BULK_GET_NET"
)
PTLRPC_BULK_PUT_NET = Point(0x504, "a server does not move a bulk", "PTLRPC_BULK_PUT_NET")
PTLRPC_DROP_RPC = Point(0x505, "a request is lost on its way", "PTLRPC_DROP_RPC")
PTLRPC_DELAY_SEND = Point(0x506, "a request leaves 5 s after its time is over", "PTLRPC_DELAY_SEND")
PTLRPC_DELAY_RECOV = Point(
    0x507, "an MDT does not reach another one: its connect is lost", "PTLRPC_DELAY_RECOV"
)
PTLRPC_CLIENT_BULK_CB = Point(
    0x508, "the network says that a bulk has failed", "PTLRPC_CLIENT_BULK_CB"
)
PTLRPC_PAUSE_REQ = Point(0x50A, "before a request is handled", "PTLRPC_PAUSE_REQ", "delay")
PTLRPC_PAUSE_REP = Point(0x50C, "before a reply is looked at", "PTLRPC_PAUSE_REP", "delay")
PTLRPC_IMP_DEACTIVE = Point(0x50D, "the pinger neither pings nor connects", "PTLRPC_IMP_DEACTIVE")
PTLRPC_LONG_REPL_UNLINK = Point(
    0x50F, "the network holds on to a reply buffer", "PTLRPC_LONG_REPL_UNLINK"
)
PTLRPC_LONG_BULK_UNLINK = Point(
    0x510, "the network holds on to the buffers of a bulk", "PTLRPC_LONG_BULK_UNLINK"
)
PTLRPC_DROP_REQ_OPC = Point(
    0x513, "a server drops requests of the opcode in fail_val", "PTLRPC_DROP_REQ_OPC"
)
PTLRPC_FINISH_REPLAY = Point(
    0x514, "a client does not say that its replay is done", "PTLRPC_FINISH_REPLAY"
)
PTLRPC_DROP_BULK = Point(0x51A, "a server does not move the bulk of a BRW", "PTLRPC_DROP_BULK")
PTLRPC_LONG_REQ_UNLINK = Point(
    0x51B, "the network holds on to a request that is out", "PTLRPC_LONG_REQ_UNLINK"
)
PTLRPC_LONG_BOTH_UNLINK = Point(
    0x51C, "the network holds on to request and reply", "PTLRPC_LONG_BOTH_UNLINK"
)
PTLRPC_IDLE_RACE = Point(0x533, "before an idle import disconnects", "PTLRPC_IDLE_RACE", "delay")
PTLRPC_REPLAY_PAUSE = Point(0x536, "before a request is replayed", "PTLRPC_REPLAY_PAUSE", "delay")
OBD_PING_NET = Point(0x600, "a ping reaches a server", "OBD_PING_NET")
TGT_DELAY_CONNECT = Point(0x703, "a new client connects", "TGT_DELAY_CONNECT", "delay")
TGT_DELAY_RECONNECT = Point(0x704, "a known client connects", "TGT_DELAY_RECONNECT", "delay")
TGT_DELAY_PRECREATE = Point(0x705, "an OST is asked to precreate", "TGT_DELAY_PRECREATE", "delay")
TGT_REPLAY_DROP = Point(0x707, "a replay comes in", "TGT_REPLAY_DROP")
TGT_REPLAY_DELAY = Point(0x709, "before the next replay is done", "TGT_REPLAY_DELAY", "delay")
TGT_CLIENT_ADD = Point(0x711, "a new client gets no slot", "TGT_CLIENT_ADD", "fail", ENOSPC)
TGT_REPLAY_DELAY2 = Point(0x714, "before the next replay is done", "TGT_REPLAY_DELAY2", "delay")
TGT_REPLAY_RECONNECT = Point(
    0x715, "all is replayed, recovery has not ended", "TGT_REPLAY_RECONNECT", "delay"
)
TGT_CLIENT_DEL = Point(0x718, "a client's slot is not freed", "TGT_CLIENT_DEL", "fail")
TGT_SLUGGISH_NET = Point(0x719, "a client knocks, the network is slow", "TGT_SLUGGISH_NET", "fail")
TGT_RECOVERY_REQ_RACE = Point(
    0x721, "a last ping comes in, recovery may just be ending", "TGT_RECOVERY_REQ_RACE", "delay"
)

UNLINKS = (
    PTLRPC_LONG_REPL_UNLINK, PTLRPC_LONG_BULK_UNLINK, PTLRPC_LONG_REQ_UNLINK,
    PTLRPC_LONG_BOTH_UNLINK,
)  # fmt: skip
"""Buffers that the network is slow to give back; the request is not over before."""

"""The fault points of every target, with the numbers of obd_support.h.

Rows only.
"""

from __future__ import annotations

from labsim.base.faults import Point

TGT_REPLY_NET = Point(0x700, "a target's reply gets lost", "TGT_REPLY_NET")
TGT_DELAY_CONNECT = Point(0x703, "a new client connects", "TGT_DELAY_CONNECT", "delay")
TGT_DELAY_RECONNECT = Point(0x704, "a known client connects", "TGT_DELAY_RECONNECT", "delay")
TGT_REPLAY_DROP = Point(0x707, "a replay comes in", "TGT_REPLAY_DROP")
TGT_REPLAY_DELAY = Point(0x709, "before the next replay is done", "TGT_REPLAY_DELAY", "delay")
TGT_RCVG_FLAG = Point(0x712, "a target tells an MDS that it recovers", "TGT_RCVG_FLAG", "fail")
TGT_REPLAY_DELAY2 = Point(0x714, "before the next replay is done", "TGT_REPLAY_DELAY2", "delay")
TGT_REPLAY_RECONNECT = Point(
    0x715, "all is replayed, recovery has not ended", "TGT_REPLAY_RECONNECT", "delay"
)
TGT_CLIENT_DEL = Point(0x718, "a client's slot is about to be freed", "TGT_CLIENT_DEL", "delay")
TGT_SLUGGISH_NET = Point(
    0x719, "a client knocks, the network is slow", "TGT_SLUGGISH_NET", "fail"
)
TGT_RECOVERY_REQ_RACE = Point(
    0x721, "a last ping comes in, recovery may just be ending", "TGT_RECOVERY_REQ_RACE", "delay"
)

"""The fault points of the lock manager, with the numbers of obd_support.h.

Rows only; does not know where they are visited. A request that meets a *_NET point is dropped; the
callbacks' points and those of cancels and completions are on the client, the others on the server.
"""

from __future__ import annotations

from labsim.base.faults import Point

ENOMEM = 12

LDLM_ENQUEUE_NET = Point(0x302, "a server is asked for a lock", "LDLM_ENQUEUE_NET")
LDLM_CONVERT_NET = Point(0x303, "a server is given part of a lock back", "LDLM_CONVERT_NET")
LDLM_CANCEL_NET = Point(0x304, "a server is given locks back", "LDLM_CANCEL_NET")
LDLM_BL_CALLBACK_NET = Point(0x305, "a client's lock is called back", "LDLM_BL_CALLBACK_NET")
LDLM_CP_CALLBACK_NET = Point(0x306, "a client is told of a grant", "LDLM_CP_CALLBACK_NET")
LDLM_GL_CALLBACK_NET = Point(0x307, "a client is asked for a size", "LDLM_GL_CALLBACK_NET")
LDLM_ENQUEUE_EXTENT_ERR = Point(
    0x308, "a server is about to lock part of an object", "LDLM_ENQUEUE_EXTENT_ERR", "fail", ENOMEM
)
LDLM_ENQUEUE_INTENT_ERR = Point(
    0x309, "an intent has been executed", "LDLM_ENQUEUE_INTENT_ERR", "fail", ENOMEM
)
LDLM_ENQUEUE_BLOCKED = Point(
    0x30B, "before a server decides on a lock", "LDLM_ENQUEUE_BLOCKED", "delay"
)
LDLM_REPLY = Point(0x30C, "a server is about to answer an enqueue", "LDLM_REPLY")
LDLM_ENQUEUE_OLD_EXPORT = Point(
    0x30E, "a lock is decided on, its client may have gone", "LDLM_ENQUEUE_OLD_EXPORT", "delay"
)
LDLM_GLIMPSE = Point(
    0x30F, "before a server asks the writers of an object", "LDLM_GLIMPSE", "delay"
)
LDLM_CANCEL_RACE = Point(0x310, "a client is about to send a cancel", "LDLM_CANCEL_RACE")
LDLM_PAUSE_CANCEL = Point(
    0x312, "before a client tells the server of locks it gives back", "LDLM_PAUSE_CANCEL", "delay"
)
LDLM_CANCEL_BL_CB_RACE = Point(
    0x314, "a lock is called back: it is given back just before", "LDLM_CANCEL_BL_CB_RACE", "fail"
)
LDLM_CP_CB_WAIT = Point(0x315, "a file lock has been granted", "LDLM_CP_CB_WAIT", "delay")
LDLM_OST_FAIL_RACE = Point(
    0x316, "a lock has been queued: its client is evicted", "LDLM_OST_FAIL_RACE", "fail"
)
LDLM_NEW_LOCK = Point(0x319, "a server makes a lock", "LDLM_NEW_LOCK", "fail", ENOMEM)
LDLM_AGL_DELAY = Point(0x31A, "a size is asked for ahead", "LDLM_AGL_DELAY", "delay")
LDLM_AGL_NOLOCK = Point(
    0x31B, "a size is asked for ahead: there is no lock for it", "LDLM_AGL_NOLOCK", "fail"
)
LDLM_BL_EVICT = Point(
    0x31E, "a lock is decided on; or evicted clients' locks go to others", "LDLM_BL_EVICT", "delay"
)
LDLM_CP_CB_WAIT2 = Point(
    0x320, "a client is about to wait for a file lock", "LDLM_CP_CB_WAIT2", "delay"
)
LDLM_SRV_BL_AST = Point(0x324, "a server calls a lock back", "LDLM_SRV_BL_AST")
LDLM_SRV_CP_AST = Point(0x325, "a server tells of a grant", "LDLM_SRV_CP_AST")
LDLM_SRV_GL_AST = Point(0x326, "a server asks for a size", "LDLM_SRV_GL_AST")
LDLM_SET_CONTENTION = Point(0x385, "an object counts as contended", "LDLM_SET_CONTENTION", "fail")

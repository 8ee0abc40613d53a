"""The fault points of the lock manager, with the numbers of obd_support.h.

Rows only; does not know where they are visited. A request that meets a *_NET point is dropped; the
callbacks' points are on the client, the others' on the server but for LDLM_PAUSE_CANCEL.
"""

from __future__ import annotations

from labsim.base.faults import Point

LDLM_ENQUEUE_NET = Point(0x302, "a server is asked for a lock", "LDLM_ENQUEUE_NET")
LDLM_CONVERT_NET = Point(0x303, "a server is given part of a lock back", "LDLM_CONVERT_NET")
LDLM_CANCEL_NET = Point(0x304, "a server is given locks back", "LDLM_CANCEL_NET")
LDLM_BL_CALLBACK_NET = Point(0x305, "a client's lock is called back", "LDLM_BL_CALLBACK_NET")
LDLM_CP_CALLBACK_NET = Point(0x306, "a client is told of a grant", "LDLM_CP_CALLBACK_NET")
LDLM_GL_CALLBACK_NET = Point(0x307, "a client is asked for a size", "LDLM_GL_CALLBACK_NET")
LDLM_REPLY = Point(0x30C, "a server is about to answer an enqueue", "LDLM_REPLY")
LDLM_PAUSE_CANCEL = Point(
    0x312, "before a client tells the server of locks it gives back", "LDLM_PAUSE_CANCEL", "delay"
)

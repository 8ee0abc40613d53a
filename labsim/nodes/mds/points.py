"""The fault points of an MDT, with the numbers of obd_support.h.

Rows only. A request that meets a *_NET point is dropped, as tgt_request_handle does; at a *_NET_REP
point it has been executed and its reply is lost.
"""

from __future__ import annotations

from labsim.base.faults import Point

ENOENT, ENOMEM, EFAULT, ENOSPC, ESTALE = 2, 12, 14, 28, 116

MDS_GETATTR_NET = Point(0x102, "an MDT is asked for attributes", "MDS_GETATTR_NET")
MDS_GETATTR_PACK = Point(
    0x103, "no room for the reply to getattr", "MDS_GETATTR_PACK", "fail", ENOMEM
)
MDS_READPAGE_NET = Point(0x104, "an MDT is asked for directory pages", "MDS_READPAGE_NET")
MDS_READPAGE_PACK = Point(
    0x105, "no room for the reply to readpage", "MDS_READPAGE_PACK", "fail", ENOMEM
)
MDS_SENDPAGE = Point(0x106, "before directory pages are sent", "MDS_SENDPAGE")
MDS_REINT_NET = Point(0x107, "an MDT gets a reint", "MDS_REINT_NET")
MDS_REINT_UNPACK = Point(0x108, "a reint record cannot be read", "MDS_REINT_UNPACK", "fail", EFAULT)
MDS_REINT_CREATE = Point(0x10B, "before a create", "MDS_REINT_CREATE", "fail", ESTALE)
MDS_REINT_UNLINK = Point(0x10D, "before an unlink", "MDS_REINT_UNLINK", "fail", ENOENT)
MDS_REINT_LINK = Point(0x10F, "before a link", "MDS_REINT_LINK", "fail", ENOENT)
MDS_OPEN_PACK = Point(0x114, "no room for the reply to an open", "MDS_OPEN_PACK", "fail", ENOMEM)
MDS_CLOSE_NET = Point(0x115, "an MDT gets a close", "MDS_CLOSE_NET")
MDS_CLOSE_PACK = Point(0x116, "no room for the reply to a close", "MDS_CLOSE_PACK", "fail", ENOMEM)
MDS_CONNECT_NET = Point(0x117, "a client connects to an MDT", "MDS_CONNECT_NET")
MDS_REINT_NET_REP = Point(0x119, "a reint is done, its reply is lost", "MDS_REINT_NET_REP")
MDS_DISCONNECT_NET = Point(0x11A, "a client disconnects from an MDT", "MDS_DISCONNECT_NET")
MDS_GET_ROOT_NET = Point(0x11B, "an MDT is asked for the root", "MDS_GET_ROOT_NET")
MDS_STATFS_NET = Point(0x11E, "an MDT is asked how full it is", "MDS_STATFS_NET")
MDS_STATFS_PACK = Point(0x11D, "no room for the reply to statfs", "MDS_STATFS_PACK", "fail", ENOMEM)
MDS_GETATTR_NAME_NET = Point(
    0x11F, "an MDT is asked for attributes by name", "MDS_GETATTR_NAME_NET"
)
MDS_ALL_REPLY_NET = Point(0x122, "an MDT's reply gets lost", "MDS_ALL_REPLY_NET")
MDS_ALL_REQUEST_NET = Point(0x123, "an MDT gets a request", "MDS_ALL_REQUEST_NET")
MDS_SYNC_NET = Point(0x124, "an MDT is told to sync", "MDS_SYNC_NET")
MDS_PAUSE_OPEN = Point(0x129, "an MDT pauses before an open", "MDS_PAUSE_OPEN", "delay")
MDS_GETXATTR_NET = Point(0x130, "an MDT is asked for an xattr", "MDS_GETXATTR_NET")
MDS_GETXATTR_PACK = Point(
    0x131, "no room for the reply to getxattr", "MDS_GETXATTR_PACK", "fail", ENOMEM
)
MDS_SETXATTR = Point(0x133, "before an xattr is set", "MDS_SETXATTR", "fail", ENOMEM)
MDS_CLOSE_NET_REP = Point(0x13B, "a close is done, its reply is lost", "MDS_CLOSE_NET_REP")
MDS_REINT_DELAY = Point(0x142, "an MDT pauses before a reint", "MDS_REINT_DELAY", "delay")
MDS_PDO_LOCK = Point(0x145, "an MDT has locked a name of a directory", "MDS_PDO_LOCK", "delay")
MDS_RENAME = Point(0x153, "between the locks of a rename's parents", "MDS_RENAME", "delay")
MDS_RENAME2 = Point(0x154, "a rename has locked both parents", "MDS_RENAME2", "delay")
MDS_LDLM_REPLY_NET = Point(0x157, "an intent is executed, its reply is lost", "MDS_LDLM_REPLY_NET")
MDS_INTENT_DELAY = Point(0x160, "an MDT pauses before an intent", "MDS_INTENT_DELAY", "delay")
MDS_XATTR_REP = Point(
    0x161, "the reply to a getxattr intent cannot be made", "MDS_XATTR_REP", "fail", EFAULT
)
SEQ_QUERY_NET = Point(0x1001, "a server is asked for a sequence of FIDs", "SEQ_QUERY_NET")
FLD_QUERY_NET = Point(0x1101, "an MDT is asked where a sequence is", "FLD_QUERY_NET")
MDS_OSC_PRECREATE = Point(
    0x139, "an MDT seeks an object on OST0000, and passes it over", "MDS_OSC_PRECREATE", "fail",
    ENOSPC,
)  # fmt: skip
MDS_LL_BLOCK = Point(
    0x172, "an open holds the layout lock before it makes the layout", "MDS_LL_BLOCK", "delay"
)

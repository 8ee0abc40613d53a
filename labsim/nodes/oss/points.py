"""The fault points of an OST, with the numbers of obd_support.h.

Rows only. A request that meets a *_NET point is dropped, as tgt_request_handle does.
"""

from __future__ import annotations

from labsim.base.faults import Point

ENOENT, EIO, ENOMEM, EFAULT, ENOSPC, EROFS, EINPROGRESS = 2, 5, 12, 14, 28, 30, 115

OST_CONNECT_NET = Point(0x201, "a client connects to an OST", "OST_CONNECT_NET")
OST_DISCONNECT_NET = Point(0x202, "a client disconnects from an OST", "OST_DISCONNECT_NET")
OST_CREATE_NET = Point(0x204, "an OST is asked to precreate", "OST_CREATE_NET")
OST_DESTROY_NET = Point(0x205, "an OST is asked to destroy an object", "OST_DESTROY_NET")
OST_GETATTR_NET = Point(0x206, "an OST is asked for attributes", "OST_GETATTR_NET")
OST_SETATTR_NET = Point(0x207, "an OST is told to set attributes", "OST_SETATTR_NET")
OST_BRW_NET = Point(0x20A, "an OST gets a bulk read or write", "OST_BRW_NET")
OST_PUNCH_NET = Point(0x20B, "an OST is told to punch", "OST_PUNCH_NET")
OST_STATFS_NET = Point(0x20C, "an OST is asked how full it is", "OST_STATFS_NET")
OST_BRW_WRITE_BULK = Point(
    0x20E, "before an OSS pulls the pages of a write", "OST_BRW_WRITE_BULK", "fail", EIO
)
OST_BRW_READ_BULK = Point(
    0x20F, "before an OSS reads the pages of a read", "OST_BRW_READ_BULK", "fail", EIO
)
OST_SYNC_NET = Point(0x210, "an OST is asked to sync", "OST_SYNC_NET")
OST_ALL_REPLY_NET = Point(0x211, "an OST's reply gets lost", "OST_ALL_REPLY_NET")
OST_ALL_REQUEST_NET = Point(0x212, "an OST gets a request", "OST_ALL_REQUEST_NET")
OST_BRW_PAUSE_BULK = Point(
    0x214, "an OSS pauses before the transaction of a BRW", "OST_BRW_PAUSE_BULK", "delay"
)
OST_ENOSPC = Point(0x215, "an OST says it is full", "OST_ENOSPC", "fail", ENOSPC)
OST_EROFS = Point(0x216, "an OST says it is read-only", "OST_EROFS", "fail", EROFS)
OST_CHECKSUM_RECEIVE = Point(
    0x21A, "data that an OSS has pulled is damaged", "OST_CHECKSUM_RECEIVE", "fail", EIO
)
OST_CHECKSUM_SEND = Point(
    0x21B, "data is damaged after an OSS took its checksum", "OST_CHECKSUM_SEND", "fail", EIO
)
SRV_ENOENT = Point(0x217, "an OST cannot find the object of a write", "SRV_ENOENT", "fail", ENOENT)
OST_NOMEM = Point(0x226, "an OST has no memory for a write", "OST_NOMEM", "fail", ENOMEM)
OST_BRW_PAUSE_BULK2 = Point(
    0x227, "an OSS pauses with the pages of a write at hand", "OST_BRW_PAUSE_BULK2", "delay"
)
OST_MAPBLK_ENOSPC = Point(
    0x228, "a disk has no block for a write that had room", "OST_MAPBLK_ENOSPC", "fail", ENOSPC
)
OST_ENOINO = Point(0x229, "an OST says that it has no free inode", "OST_ENOINO", "fail", ENOSPC)
OST_DQACQ_NET = Point(0x230, "a write waits for quota", "OST_DQACQ_NET", "fail", EINPROGRESS)
OST_PAUSE_CREATE = Point(0x223, "an OST pauses before it precreates", "OST_PAUSE_CREATE", "delay")
OST_NODESTROY = Point(
    0x233, "an OST destroys nothing, and says it did", "OST_NODESTROY", "fail", EIO
)
OST_BRW_WRITE_BULK2 = Point(
    0x220, "an OSS cannot set up the pages of a write", "OST_BRW_WRITE_BULK2", "fail", EFAULT
)
OST_SET_INFO_NET = Point(0x232, "an OST is told something (grant_shrink)", "OST_SET_INFO_NET")

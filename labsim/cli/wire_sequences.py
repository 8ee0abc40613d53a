"""Which messages follow one another, for the page of the protocol: conversations as data.

Does not know formats; the names lead to them. Stands for what no header of Lustre says: the order.
"""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """One message: who to whom, what, and what it is for."""

    way: str
    what: str
    note: str


class Sequence(NamedTuple):
    """One conversation."""

    title: str
    about: str
    lines: tuple[Line, ...]


def _sequence(title: str, about: str, *lines: tuple[str, str, str]) -> Sequence:
    return Sequence(title, about, tuple(Line(*line) for line in lines))


SEQUENCES = (
    _sequence(
        "One RPC",
        "Every RPC is a PUT and a PUT back. Match bits are the xid; a bulk has its own, from "
        "pb_mbits of the request. The server moves the bulk, always; the client has its buffers "
        "ready before it asks.",
        ("client > server", "PUT request", "to the portal of the operation"),
        ("server > client", "PUT early reply", "only where it takes long: more time is needed"),
        ("server > client", "GET bulk, REPLY", "of a write: the server fetches, 1 MiB at once"),
        ("server > client", "PUT bulk, ACK", "of a read: the server fills the client's buffers"),
        ("server > client", "PUT reply", "after the bulk is through; none where it failed"),
    ),
    _sequence(
        "Connect",
        "An import is connected before anything else. The reply's flags are a subset of what was "
        "asked for; its pb_handle names the export in every later request.",
        ("client > target", "MDS_CONNECT / OST_CONNECT / MGS_CONNECT", "flags wanted, version"),
        ("target > client", "reply", "flags granted; RECONNECT, RECOVERING say what comes next"),
        ("client > target", "OBD_PING", "while nothing else is said; brings pb_last_committed"),
        ("client > target", "MDS_DISCONNECT / OST_DISCONNECT", "locks and grants are given up"),
    ),
    _sequence(
        "Mount",
        "A client knows the MGS and a name; all else it reads from a configuration log.",
        ("client > MGS", "MGS_CONNECT", ""),
        ("client > MGS", "LDLM_ENQUEUE", "PLAIN, CR, on the file system's name: tells of changes"),
        ("client > MGS", "LLOG_ORIGIN_HANDLE_CREATE", "opens the log FSNAME-client"),
        ("client > MGS", "LLOG_ORIGIN_HANDLE_READ_HEADER", "which records there are"),
        ("client > MGS", "LLOG_ORIGIN_HANDLE_NEXT_BLOCK", "again and again, to its end"),
        ("client > MGS", "MGS_CONFIG_READ", "where the targets are now"),
        ("client > MDT, OSTs", "MDS_CONNECT, OST_CONNECT", ""),
        ("client > MDT", "MDS_GET_ROOT", "the FID of the root"),
        ("client > MDT", "MDS_STATFS", ""),
    ),
    _sequence(
        "Look up, get attributes",
        "One RPC takes a lock on the child and brings what it protects.",
        ("client > MDT", "LDLM_ENQUEUE, format LDLM_INTENT_GETATTR", "parent, name, IT_LOOKUP"),
        ("MDT > client", "reply", "lock, attributes, layout, ACL; 301 without a lock"),
        ("client > OST", "LDLM_ENQUEUE", "a glimpse of the size: HAS_INTENT but no intent"),
        ("OST > other client", "LDLM_GL_CALLBACK", "to who may have written beyond the known size"),
        ("OST > client", "reply", "301 and the LVB, or a lock where nobody conflicts"),
    ),
    _sequence(
        "Create and write a file",
        "Names are the MDT's, data is the OSTs'; the layout in the open's reply says which.",
        ("client > MDT", "LDLM_ENQUEUE, format LDLM_INTENT_OPEN", "mdt_rec_create with a new FID"),
        ("MDT > client", "reply", "open handle, layout, lock"),
        ("client > OST", "LDLM_ENQUEUE", "EXTENT, PW; the OST grants as much as it can"),
        ("client > OST", "OST_WRITE", "obdo with grants, niobufs; the OST fetches the pages"),
        ("OST > client", "reply", "rcs, new grant; transno, on disk some seconds later"),
        ("client > MDT", "MDS_CLOSE", "open handle, times, size as known"),
    ),
    _sequence(
        "Read a file",
        "As much as lies before the end of the file comes, the reply's status counts it.",
        ("client > OST", "LDLM_ENQUEUE", "EXTENT, PR; the LVB brings size and times"),
        ("client > OST", "OST_READ", "the OST fills the pages first"),
        ("OST > client", "reply", "bytes read, as status; checksum of the data"),
    ),
    _sequence(
        "Change the name space",
        "One reint record per change. Locks that the client holds on what changes go along "
        "in dlm_req, so that nobody has to call them back.",
        ("client > MDT", "MDS_REINT", "create, link, unlink, rename, setattr, setxattr"),
        ("MDT > client", "reply", "transno; kept for replay until pb_last_committed reaches it"),
        ("MDT > OST", "OST_DESTROY", "objects of an unlinked file, once the unlink is on disk"),
    ),
    _sequence(
        "A conflict of locks",
        "Whoever wants a lock waits until the holder of a conflicting one has let it go.",
        ("client A > server", "LDLM_ENQUEUE", "conflicts with what B holds"),
        ("server > client A", "reply", "BLOCK_WAIT: not granted yet"),
        ("server > client B", "LDLM_BL_CALLBACK", "B answers at once, then writes back"),
        ("client B > OST", "OST_WRITE", "what was dirty under the lock"),
        ("client B > server", "LDLM_CANCEL", "in time, else B is evicted"),
        ("server > client A", "LDLM_CP_CALLBACK", "granted"),
    ),
    _sequence(
        "Precreate objects",
        "An MDT has objects in store, so that a create waits for no OST.",
        ("MDT > OST", "OST_CREATE, OBD_FL_DELORPHAN", "once: above this id none is used"),
        ("OST > MDT", "reply", "from where it goes on"),
        ("MDT > OST", "OST_CREATE", "up to this id"),
        ("OST > MDT", "reply", "the last one that there is; maybe fewer"),
    ),
    _sequence(
        "Recovery",
        "After a server's restart its clients bring back what was not yet on disk.",
        ("client > server", "MDS_CONNECT / OST_CONNECT", "reply: RECOVERING"),
        ("client > server", "saved requests", "MSG_REPLAY, by ascending transno, one at a time"),
        ("client > server", "LDLM_ENQUEUE", "each granted lock: LDLM_FL_REPLAY"),
        ("client > server", "OBD_PING", "replay done; answered when all clients are"),
        ("client > server", "what was unanswered", "MSG_RESENT, with the old xid"),
    ),
)  # fmt: skip

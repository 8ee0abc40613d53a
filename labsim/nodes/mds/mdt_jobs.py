"""What each request to an MDT counts as in the statistics of its job.

Rules only. Stands for the mdt_counter_incr calls of lustre/mdt and mdt_counter_init.
"""

from __future__ import annotations

from typing import Any

from labsim.wire.constants import (
    IT_GETATTR,
    IT_GETXATTR,
    IT_LOOKUP,
    IT_OPEN,
    REINT_CREATE,
    REINT_LINK,
    REINT_RENAME,
    REINT_SETATTR,
    REINT_SETXATTR,
    REINT_UNLINK,
)
from labsim.wire.opcodes import (
    LDLM_ENQUEUE,
    MDS_CLOSE,
    MDS_GETATTR,
    MDS_GETATTR_NAME,
    MDS_GETXATTR,
    MDS_REINT,
    MDS_STATFS,
    MDS_SYNC,
)

COUNTERS = (
    "open", "close", "mknod", "link", "unlink", "mkdir", "rmdir", "rename", "getattr", "setattr",
    "getxattr", "setxattr", "statfs", "sync", "samedir_rename", "crossdir_rename",
)  # fmt: skip

PLAIN = {
    MDS_CLOSE: "close",
    MDS_GETATTR: "getattr",
    MDS_GETATTR_NAME: "getattr",
    MDS_GETXATTR: "getxattr",
    MDS_STATFS: "statfs",
    MDS_SYNC: "sync",
}
REINTS = {
    REINT_SETATTR: "setattr",
    REINT_SETXATTR: "setxattr",
    REINT_LINK: "link",
    REINT_CREATE: "mknod",
    REINT_UNLINK: "unlink",
    REINT_RENAME: "rename",
}
S_IFMT, S_IFDIR = 0o170000, 0o040000


def counters_of(req: Any) -> tuple[str, ...]:
    """The counters that a request moves."""
    if req.opcode == LDLM_ENQUEUE:
        return _intent(req.get("ldlm_intent"))
    if req.opcode == MDS_REINT:
        return _reint(req["rec_reint"])
    name = PLAIN.get(req.opcode)
    return (name,) if name else ()


def _intent(intent: Any) -> tuple[str, ...]:
    if intent is None:
        return ()
    if intent.opc & IT_OPEN:
        return ("open",)
    if intent.opc & (IT_GETATTR | IT_LOOKUP):
        return ("getattr",)
    return ("getxattr",) if intent.opc & IT_GETXATTR else ()


def _reint(record: Any) -> tuple[str, ...]:
    name = REINTS.get(record.opcode)
    if name is None:
        return ()
    if name in ("mknod", "unlink") and record.mode & S_IFMT == S_IFDIR:
        return ("mkdir",) if name == "mknod" else ("rmdir",)
    if name == "rename":
        return name, "samedir_rename" if record.fid1 == record.fid2 else "crossdir_rename"
    return (name,)

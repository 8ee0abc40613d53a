"""The calls that the reference model knows, by name, and which of them change something.

Rows only; what they do is in `posix_names` and `posix_data`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from labsim.scenario.posix_answers import CERTAIN, World
from labsim.scenario.posix_data import (
    chmod,
    chown,
    close,
    fsync,
    ftruncate,
    getxattr,
    listxattr,
    read,
    removexattr,
    setxattr,
    truncate,
    write,
)
from labsim.scenario.posix_names import (
    fstat,
    getdents,
    link,
    mkdir,
    mknod,
    open_,
    readdir,
    readlink,
    rename,
    rmdir,
    setstripe,
    stat,
    symlink,
    unlink,
)
from labsim.scenario.posix_state import Found, State
from labsim.scenario.record import Call

Perform = Callable[[State, Call, "list[Found]", World], str]

CALLS: Mapping[str, Perform] = {
    "mkdir": mkdir, "mknod": mknod, "symlink": symlink, "link": link, "open": open_,
    "setstripe": setstripe, "unlink": unlink, "rmdir": rmdir, "rename": rename,
    "readlink": readlink, "readdir": readdir, "getdents": getdents, "stat": stat, "fstat": fstat,
    "chmod": chmod, "chown": chown, "setxattr": setxattr, "removexattr": removexattr,
    "getxattr": getxattr, "listxattr": listxattr, "truncate": truncate, "ftruncate": ftruncate,
    "write": write, "read": read, "fsync": fsync, "close": close,
}  # fmt: skip


def perform(state: State, call: Call, found: list[Found], world: World) -> str:
    """Have a call act on a state; what was expected where its answer is wrong, else nothing.

    An error that says nothing of the namespace (EACCES, EINVAL, ..) is taken as it is.
    """
    if call.errno and call.errno not in CERTAIN:
        return ""
    if any(one.doubt and (call.errno or not one.parent) for one in found):
        return ""  # a directory on the way may be gone; or where it happened is not known
    return CALLS[call.name](state, call, found, world)

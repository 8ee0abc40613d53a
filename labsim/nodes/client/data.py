"""What the namespace side of a client asks of its data path.

Does not know how data is kept or sent. The joint between llite's names (vfs, namei) and llite's
pages with lov and osc below them (`fileio`).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from labsim.base.payload import Payload
from labsim.nodes.client.inode import Inode
from labsim.runtime.ports import Steps
from labsim.wire.ost import ObdStatfs


class Sizes(NamedTuple):
    """What the OSTs and this client's own dirty pages say; times in seconds, 0 where unknown."""

    size: int
    blocks: int
    mtime: int = 0
    atime: int = 0
    ctime: int = 0


class DataPath(Protocol):
    """Regular files only. Waits where it must; raises LustreError as the system call would.

    Whoever changes data also brings `inode.size`, `mtime` and `ctime` up to date, as the kernel
    does with its inode; `inode.data` is free for use. `inode.layout` may change between two calls.
    """

    def read(self, inode: Inode, offset: int, length: int) -> Steps[Payload]:
        """At most `length` bytes from `offset`; short at the end of the file."""
        ...

    def write(self, inode: Inode, offset: int | None, payload: Payload) -> Steps[int]:
        """Write at `offset`, None: at the end, under a lock on the whole file; the offset after."""
        ...

    def truncate(self, inode: Inode, size: int) -> Steps[None]:
        """Cut or grow the file to `size`."""
        ...

    def set_times(self, inode: Inode, atime: int, mtime: int, ctime: int) -> Steps[None]:
        """Have the OST objects forget newer times than these."""
        ...

    def flush(self, inode: Inode) -> Steps[None]:
        """Write dirty pages back and have the OSTs commit them (fsync)."""
        ...

    def glimpse(self, inode: Inode) -> Steps[Sizes]:
        """Size, blocks and times as they are at this moment, on any client."""
        ...

    def drop(self, inode: Inode) -> Steps[bool]:
        """Forget clean pages; True where nothing of the inode is left that must be kept."""
        ...

    def discard(self, inode: Inode) -> None:
        """The file is gone: throw its pages away, dirty ones too."""
        ...

    def guard(self, checksums: bool) -> None:
        """Bulk data goes with or without checksums from now on."""
        ...

    def statfs(self) -> Steps[ObdStatfs]:
        """The sum over all OSTs."""
        ...

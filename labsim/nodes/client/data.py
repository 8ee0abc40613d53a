"""What the namespace side of a client asks of its data path.

Does not know how data is kept or sent. The joint between llite's names (vfs, namei) and llite's
pages with lov and osc below them (`fileio`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

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

    oscs: dict[int, Any]
    """The devices of the OSTs, by index."""
    unstable_check: bool
    """OSTs are asked to commit soon when a quarter of the cache is not on disk (else half)."""

    def unstable(self) -> int:
        """Bytes that the OSTs have, but not on disk yet, so that they are kept here as well."""
        ...

    def get(self, inode: Inode, offset: int, length: int, reader: Any) -> Payload | None:
        """Exactly these bytes, if nothing has to be waited for; None: use `read`."""
        ...

    def put(self, inode: Inode, offset: int, payload: Payload) -> bool:
        """Write, if nothing has to be waited for; False: nothing is done, use `write`."""
        ...

    def read(
        self, inode: Inode, offset: int, length: int, reader: Any = None, direct: bool = False
    ) -> Steps[Payload]:
        """At most `length` bytes from `offset`; short at the end of the file.

        `reader` is who reads on and on, for read-ahead: an open file. `direct` is O_DIRECT.
        """
        ...

    def write(
        self, inode: Inode, offset: int | None, payload: Payload, direct: bool = False
    ) -> Steps[tuple[int, int]]:
        """Write at `offset`, None: at the end, under a lock on the whole file.

        (start, end) of what was written, which may be less than all if an OST is full.
        """
        ...

    def truncate(self, inode: Inode, size: int) -> Steps[None]:
        """Cut or grow the file to `size`."""
        ...

    def set_times(self, inode: Inode, atime: int, mtime: int, ctime: int) -> Steps[None]:
        """Have the OST objects forget newer times than these."""
        ...

    def flush(self, inode: Inode) -> Steps[None]:
        """Write dirty pages back and have the OSTs commit them (fsync).

        Raises what went wrong with writes that had been taken before.
        """
        ...

    def closed(self, inode: Inode) -> int:
        """The errno of a write that failed after it had been taken; told once."""
        ...

    def write_back(self) -> Steps[None]:
        """Write back everything dirty of the mount, wherever it can be."""
        ...

    def glimpse(self, inode: Inode) -> Steps[Sizes]:
        """Size, blocks and times as they are at this moment, on any client."""
        ...

    def glimpse_ahead(self, inode: Inode) -> None:
        """Ask for the size, so that it is known when somebody wants it; waits for nothing."""
        ...

    def lock_ahead(
        self, inode: Inode, mode: int, start: int, end: int, background: bool
    ) -> Steps[int]:
        """Lock bytes for I/O to come."""
        ...

    def drop(self, inode: Inode) -> Steps[bool]:
        """Forget clean pages; True where nothing of the inode is left that must be kept."""
        ...

    def discard(self, inode: Inode) -> None:
        """The file has no name and nobody here has it open."""
        ...

    def cached(self) -> tuple[int, int, int]:
        """Bytes that may be cached, bytes that are, and how often room had to be made."""
        ...

    def limit_cache(self, limit: int) -> None:
        """So many bytes may be cached from now on."""
        ...

    def guard(self, checksums: bool) -> None:
        """Bulk data goes with or without checksums from now on."""
        ...

    def statfs(self) -> Steps[ObdStatfs]:
        """The sum over all OSTs."""
        ...


class NoReadAhead:
    """What is to be read before anybody asks for it: nothing.

    `reader` is the open file that reads, None for the kernel itself. Offsets are of the file.
    """

    def hit(self, reader: Any, offset: int, length: int) -> bool:
        """A read of cached bytes; False where `plan` should see it."""
        return True

    def plan(
        self, reader: Any, offset: int, length: int, missing: list[tuple[int, int]], size: int,
        covered: Callable[[int], int],
    ) -> list[tuple[int, int]]:  # fmt: skip
        """Ranges (start, end) to fetch that this read does not itself need.

        `missing` of it is not cached; the file has at least `size` bytes; `covered(at)` says where
        the lock ends that covers byte `at`, 0: none does.
        """
        return []

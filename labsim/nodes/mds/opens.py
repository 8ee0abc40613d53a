"""Which files are open, by whom.

A table without rules. Stands for struct mdt_file_data and the open count of an mdt_object.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, NamedTuple

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.wire.constants import MDS_FMODE_EXEC, MDS_FMODE_WRITE


class OpenFile(NamedTuple):
    """One open: its handle, the file, how it was opened, by which export and request.

    `old_handle` is what its client called it before this MDT started anew.
    """

    handle: int
    fid: Fid
    flags: int
    owner: int
    xid: int
    old_handle: int = 0


class OpenFiles:
    """Every open of one MDT."""

    def __init__(self, rng: Any) -> None:
        self._rng = rng
        self._files: dict[int, OpenFile] = {}
        self._owned: dict[int, dict[int, OpenFile]] = {}
        self._counts: dict[Fid, int] = {}
        self._writers: dict[Fid, int] = {}
        """How many write to a file; below zero how many execute it (mot_write_count)."""

    def __iter__(self) -> Iterator[OpenFile]:
        return iter(self._files.values())

    def __len__(self) -> int:
        return len(self._files)

    def claim(self, fid: Fid, flags: int) -> None:
        """Before an open: ETXTBSY to write to what is executed, or to execute what is written to.

        Stands for mdt_write_get and mdt_write_deny; `release` takes it back.
        """
        side = _side(flags)
        count = self._writers.get(fid, 0)
        if side * count < 0:
            raise LustreError(errno.ETXTBSY, f"{fid}")
        if side:
            self._writers[fid] = count + side

    def release(self, fid: Fid, flags: int) -> None:
        """The open is over, or did not come about."""
        side = _side(flags)
        if side:
            self._writers[fid] -= side
            if not self._writers[fid]:
                del self._writers[fid]

    def add(self, owner: int, fid: Fid, flags: int, xid: int, old_handle: int = 0) -> OpenFile:
        """A new open, which was claimed; its handle is 64 bits that nobody can guess."""
        handle = self._rng.getrandbits(64)
        while not handle or handle in self._files:
            handle = self._rng.getrandbits(64)
        file = OpenFile(handle, fid, flags, owner, xid, old_handle)
        self._files[handle] = file
        self._owned.setdefault(owner, {})[handle] = file
        self._counts[fid] = self._counts.get(fid, 0) + 1
        return file

    def get(self, owner: int, handle: int) -> OpenFile | None:
        """An open by its handle, or by the one of before a restart, if it is that export's.

        Lustre knows old handles in replays and resent requests only. But where the reply to a
        replay was lost and the open is committed by the time the client is back, a close that
        waited meanwhile is new, and has the old handle: the file would stay open for good.
        """
        owned = self._owned.get(owner, {})
        found = owned.get(handle)
        if found is None and handle:
            found = next((one for one in owned.values() if one.old_handle == handle), None)
        return found

    def made_by(self, owner: int, xid: int) -> OpenFile | None:
        """What a request of that export has opened already."""
        return next((one for one in self.of(owner) if one.xid == xid), None)

    def remove(self, file: OpenFile) -> bool:
        """The open is over; True where it was the file's last."""
        self.release(file.fid, file.flags)
        del self._files[file.handle]
        owned = self._owned[file.owner]
        del owned[file.handle]
        if not owned:
            del self._owned[file.owner]
        self._counts[file.fid] -= 1
        if self._counts[file.fid]:
            return False
        del self._counts[file.fid]
        return True

    def of(self, owner: int) -> list[OpenFile]:
        """Everything that an export has open."""
        return list(self._owned.get(owner, {}).values())

    def is_open(self, fid: Fid) -> bool:
        """Has anybody the file open?"""
        return fid in self._counts


def _side(flags: int) -> int:
    if flags & MDS_FMODE_WRITE:
        return 1
    return -1 if flags & MDS_FMODE_EXEC else 0

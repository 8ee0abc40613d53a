"""Where each target runs now, in the order in which they came up: the table of imperative recovery.

Plain data. Does not know requests. Stands for mgs_nids.c (struct mgs_nidtbl).
"""

from __future__ import annotations

from labsim.wire.llog_flags import LDD_F_SV_TYPE_MASK
from labsim.wire.mgs import MgsNidtblEntry, MgsTargetInfo

ENTRY_HEAD, NID_SIZE = 24, 8
VERSION_INIT = 2
"""MGS_NIDTBL_VERSION_INIT."""


class NidTable:
    """The targets of one file system, each with the version at which it was seen last."""

    def __init__(self, version: int = VERSION_INIT) -> None:
        self.version = version
        self._entries: dict[str, MgsNidtblEntry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def update(self, info: MgsTargetInfo) -> None:
        """A target is up; it gets the next version (mgs_nidtbl_write)."""
        self.version += 1
        self._entries.pop(info.svname, None)
        self._entries[info.svname] = MgsNidtblEntry(
            version=self.version,
            instance=info.instance,
            index=info.stripe_index,
            length=ENTRY_HEAD + NID_SIZE * info.nid_count,
            type=info.flags & LDD_F_SV_TYPE_MASK,
            nid_size=NID_SIZE,
            nid_count=info.nid_count,
            nids=info.nids[: info.nid_count],
        )

    def read(self, first: int, room: int) -> tuple[bytes, int]:
        """Entries from version `first` on that fit into `room` bytes, and the last one's version.

        Where there is none: no bytes, and the newest version.
        """
        pieces: list[bytes] = []
        last = self.version
        for entry in self._entries.values():
            if entry.version < first:
                continue
            packed = entry.pack()
            if len(packed) > room:
                break
            room -= len(packed)
            pieces.append(packed)
            last = entry.version
        return b"".join(pieces), last

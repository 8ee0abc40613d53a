"""How full a target is, as files: kbytestotal and its like, of a target and of its disk.

Does not know what lies on the disk. Stands for the statfs files of obdclass (lprocfs_status.c) and
for the files of osd-ldiskfs (osd_lproc.c).
"""

from __future__ import annotations

from labsim.base.component import Component
from labsim.base.params import Param
from labsim.runtime.ports import Steps
from labsim.storage.osd import Osd, Statfs


class SpaceFiles(Component):
    """Shows `space()`."""

    def space(self) -> Statfs:
        """How full it is now."""
        raise NotImplementedError

    @Param.computed(unit="KiB", help="space in all")
    def kbytestotal(self) -> int:
        """All blocks."""
        now = self.space()
        return now.blocks * now.bsize >> 10

    @Param.computed(unit="KiB", help="space that is free")
    def kbytesfree(self) -> int:
        """Free blocks, also those kept for root."""
        now = self.space()
        return now.bfree * now.bsize >> 10

    @Param.computed(unit="KiB", help="space that users may take")
    def kbytesavail(self) -> int:
        """Free blocks for users."""
        now = self.space()
        return now.bavail * now.bsize >> 10

    @Param.computed(unit="inodes", help="objects in all")
    def filestotal(self) -> int:
        """Inodes."""
        return self.space().files

    @Param.computed(unit="inodes", help="objects that may still be made")
    def filesfree(self) -> int:
        """Free inodes."""
        return self.space().ffree


class OsdFiles(SpaceFiles, tree="osd-ldiskfs.{name}"):
    """The files of the disk of a target."""

    def __init__(self, osd: Osd, name: str) -> None:
        self.osd = osd
        self.name = name

    def space(self) -> Statfs:
        """What the disk says."""
        return self.osd.statfs()

    @Param.computed(unit="type", help="the file system on the disk")
    def fstype(self) -> str:
        """Objects, indices and a journal, as ldiskfs has them."""
        return "ldiskfs"

    @Param.computed(unit="path", help="the disk")
    def mntdev(self) -> str:
        """By its label, which mkfs.lustre makes the name of the target."""
        return f"/dev/disk/by-label/{self.name}"

    @Param.trigger(help="have everything on disk")
    def force_sync(self, text: str) -> Steps[None]:
        """Whatever is written (dt_sync)."""
        yield from self.osd.sync()

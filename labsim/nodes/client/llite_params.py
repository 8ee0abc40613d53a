"""The files of one mount in the parameter tree: tunables and counters of llite.

Knows the text of each file, not what llite does with the values. Stands for llite/lproc_llite.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.base.grammar import kstrto
from labsim.base.histogram import EXTENTS_DISABLED, header
from labsim.base.params import Param
from labsim.base.units import MIB, PAGE_SIZE
from labsim.nodes.client import readahead
from labsim.nodes.client.data import DataPath
from labsim.nodes.client.mdc import Mdc
from labsim.nodes.client.rw_stats import RwStats
from labsim.nodes.globals import RAM_MB
from labsim.runtime.ports import Steps
from labsim.wire.constants import MDS_INODELOCK_XATTR

ERANGE, ENOTSUPP = 34, 524

COUNTERS = (
    "dirty_pages_hits", "dirty_pages_misses", "read_bytes", "write_bytes", "brw_read", "brw_write",
    "ioctl", "open", "close", "mmap", "page_fault", "page_mkwrite", "seek", "fsync", "readdir",
    "setattr", "truncate", "flock", "getattr", "create", "link", "unlink", "symlink", "mkdir",
    "rmdir", "mknod", "rename", "statfs", "alloc_inode", "setxattr", "getxattr", "getxattr_hits",
    "listxattr", "removexattr", "inode_permission",
)  # fmt: skip
"""The lines of llite.*.stats in their order (llite_opcode_table)."""


class LliteParams(Component, tree="llite.{name}"):
    """The tunables and counters of one mount."""

    statfs: Callable[..., Any]
    data: DataPath
    xattr_cache = Param.flag(True, help="keep extended attributes under XATTR locks")
    lazystatfs = Param.flag(True, help="statfs does not wait for a server that is away")
    default_easize = Param.count(
        128, high=lambda self: self.max_easize, unit="bytes",
        help="room for a layout in requests that may bring one",
    )  # fmt: skip
    stat_blocksize = Param.count(
        0, unit="bytes", help="st_blksize of every file; 0: what suits its striping"
    )
    statahead_max = Param.count(32, high=512, unit="entries", help="names stat-ahead may run ahead")
    statahead_agl = Param.flag(True, help="stat-ahead asks the OSTs for sizes as well")
    statahead_running_max = Param.count(16, unit="threads", help="stat-ahead threads at once")
    max_read_ahead_bytes = Param.size_mb(64 * MIB, help="read-ahead of all files together")
    max_read_ahead_per_file_bytes = Param.size_mb(
        64 * MIB, high=lambda self: self.max_read_ahead_bytes // MIB, help="read-ahead of one file"
    )
    max_read_ahead_whole_bytes = Param.size_mb(
        2 * MIB, high=lambda self: self.max_read_ahead_per_file_bytes // MIB,
        help="files up to this size are read whole",
    )  # fmt: skip
    checksums = Param.flag(True, help="guard bulk data with a checksum")
    checksum_pages = Param.flag(True, help="the old name of checksums")
    fast_read = Param.flag(True, help="reads of cached pages take no lock")
    stats = Param.stats(help="system calls and cache hits", order=COUNTERS, word="regs")

    mdcs: list[Mdc]
    statahead: Any
    open_files: dict[Any, None]
    space: Any
    name: str
    uuid_text: str
    user_xattr: bool
    acl: bool

    def show_default_easize(self) -> str:
        """What the MDT devices make room for; an MDT that tells more changes it."""
        return f"{self.mdcs[0].default_easize}\n"

    def set_default_easize(self, value: int) -> None:
        """From now on, until an MDT tells something else."""
        for mdc in self.mdcs:
            mdc.default_easize = value

    def store_stat_blocksize(self, text: str) -> None:
        """0, or a power of two of a page at least."""
        before = self.stat_blocksize
        self.declared["stat_blocksize"].store(self, text)
        size = self.stat_blocksize
        if size and (size < 4096 or size & size - 1):
            self.stat_blocksize = before
            raise LustreError(ERANGE)

    def xattr_cache_possible(self) -> bool:
        """True where the MDT knows XATTR locks, and this client does."""
        known = self.mdcs[0].imp.connect_data.ibits_known
        return bool(known & MDS_INODELOCK_XATTR)

    def set_xattr_cache(self, value: bool) -> None:
        """Switch the cache; ENOTSUPP where it cannot be."""
        if value and not self.xattr_cache_possible():
            raise LustreError(ENOTSUPP)
        self.xattr_cache = value

    @Param.computed(unit="bytes", help="the largest layout that may come")
    def max_easize(self) -> int:
        """What the MDT device asks for at most."""
        return self.mdcs[0].max_easize

    @Param.computed(help="this mount's uuid, as the servers know it")
    def uuid(self) -> str:
        """The uuid that connect requests carry."""
        return self.uuid_text

    @Param.computed(help="what this mount offers")
    def sbi_flags(self) -> str:
        """Words in the order of the flag's bits."""
        words = {
            "user_xattr": self.user_xattr, "acl": self.acl, "checksum": self.checksums,
            "lru_resize": True, "lazystatfs": self.lazystatfs, "layout": True,
            "xattr_cache": self.xattr_cache,
        }  # fmt: skip
        return " ".join(word for word, shown in words.items() if shown)

    def set_checksums(self, value: bool) -> None:
        """All OSCs of the mount follow (KEY_CHECKSUM)."""
        self.checksums = self.checksum_pages = value
        self.data.guard(value)

    set_checksum_pages = set_checksums

    # ---- the page cache and what runs ahead of readers

    max_cached_bytes = Param.size_mb(
        RAM_MB // 2 * MIB, high=RAM_MB, help="clean and dirty pages this mount may cache"
    )
    read_ahead_stats = Param.stats(
        help="what read-ahead was good for", order=readahead.COUNTERS, word="pages"
    )

    def show_max_cached_mb(self) -> str:
        """Several lines; what is written back is a number only."""
        limit, used, reclaims = self.data.cached()
        unused = max(limit - used, 0) // MIB
        return (
            f"users: {len(self.data.oscs) + 1}\nmax_cached_mb: {limit // MIB}\n"
            f"used_mb: {limit // MIB - unused}\nunused_mb: {unused}\n"
            f"reclaim_count: {reclaims}\n"
        )

    @Param.computed(access="rw", help="pages that an OST has but not yet on disk")
    def unstable_stats(self) -> str:
        """Whether they count against the cache, and how many there are."""
        pages = self.data.unstable() // PAGE_SIZE
        return (
            f"unstable_check:     {int(self.data.unstable_check):8d}\n"
            f"unstable_pages: {pages:12d}\nunstable_mb:        {pages * PAGE_SIZE // MIB:8d}\n"
        )

    def store_unstable_stats(self, text: str) -> None:
        """1: ask OSTs to commit soon when a quarter of the cache is unstable; 0: when half is."""
        number = text.removeprefix("unstable_check:").strip()
        self.data.unstable_check = bool(kstrto(number, 10, 0, 1))

    def set_max_cached_bytes(self, value: int) -> None:
        """Throws out what is above it (ll_max_cached_mb_seq_write)."""
        self.max_cached_bytes = value
        self.data.limit_cache(value)

    def store_max_cached_mb(self, text: str) -> None:
        """A number of MiB, with or without the name in front of it."""
        self.declared["max_cached_bytes"].store(self, text.removeprefix("max_cached_mb:").strip())

    @Param.computed(help="names that stat-ahead was right and wrong about")
    def statahead_stats(self) -> str:
        """How many scans there were, how many of them stopped, how many with glimpses."""
        return self.statahead.text()

    def store_statahead_stats(self, text: str) -> None:
        """Clear it."""
        self.statahead.clear()

    # ---- reads and writes by size

    rw_stats: RwStats | None = None
    """Counts reads and writes while it is switched on."""

    @Param.computed(access="rw", help="reads and writes by their size")
    def extents_stats(self) -> str:
        """A table, or how to switch it on."""
        return self._rw_table("extents")

    @Param.computed(access="rw", help="reads and writes by their size, of each process")
    def extents_stats_per_process(self) -> str:
        """Tables, or how to switch them on."""
        return self._rw_table("extents_by_process")

    @Param.computed(access="rw", help="where reads and writes did not go on where they had ended")
    def offset_stats(self) -> str:
        """A table, or how to switch it on."""
        return self._rw_table("offsets")

    def _rw_table(self, which: str) -> str:
        if self.rw_stats is None or self.mounted is None:
            return EXTENTS_DISABLED
        tree = self.mounted.tree
        head = header(tree.wall_ns(), self.rw_stats.since_ns, tree.dialect.stats)
        table: str = getattr(self.rw_stats, which)()
        return head + table

    def store_extents_stats(self, text: str) -> None:
        """0 or "disable" switch all three off; anything else begins anew."""
        word = text.strip().lower()
        off = word == "0" or word.startswith("disable")
        now_ns = self.mounted.tree.wall_ns() if self.mounted is not None else 0
        self.rw_stats = None if off else RwStats(now_ns)

    store_extents_stats_per_process = store_offset_stats = store_extents_stats

    # ---- space; reading one of these files asks the servers

    @Param.computed(unit="KiB", help="the size of the file system")
    def kbytestotal(self) -> int:
        """As last heard."""
        return self._kib("blocks")

    @Param.computed(unit="KiB", help="what is free")
    def kbytesfree(self) -> int:
        """As last heard."""
        return self._kib("bfree")

    @Param.computed(unit="KiB", help="what is free to others than root")
    def kbytesavail(self) -> int:
        """As last heard."""
        return self._kib("bavail")

    @Param.computed(unit="inodes", help="how many files fit")
    def filestotal(self) -> int:
        """As last heard."""
        return self.space.files

    @Param.computed(unit="inodes", help="how many more files fit")
    def filesfree(self) -> int:
        """As last heard."""
        return self.space.ffree

    def _kib(self, field: str) -> int:
        blocks: int = getattr(self.space, field)
        return blocks * self.space.bsize // 1024

    def _asked(self, attr: str) -> Steps[str]:
        yield from self.statfs()
        return f"{getattr(self, attr)}\n"

    def show_kbytestotal(self) -> Steps[str]:
        """After a statfs."""
        return self._asked("kbytestotal")

    def show_kbytesfree(self) -> Steps[str]:
        """After a statfs."""
        return self._asked("kbytesfree")

    def show_kbytesavail(self) -> Steps[str]:
        """After a statfs."""
        return self._asked("kbytesavail")

    def show_filestotal(self) -> Steps[str]:
        """After a statfs."""
        return self._asked("filestotal")

    def show_filesfree(self) -> Steps[str]:
        """After a statfs."""
        return self._asked("filesfree")

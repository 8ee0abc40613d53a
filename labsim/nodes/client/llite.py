"""The mounted file system: what a system call finds below the kernel's own rules.

Knows inodes, caches and locks; not paths, processes or file tables. Stands for lustre/llite: the
super block (llite_lib.c), with names in `llite_names`, files in `llite_files`, attributes in
`llite_attrs`, and its files in the parameter tree.
"""

from __future__ import annotations

from typing import Any

from labsim.base.ids import Fid
from labsim.base.units import NS_PER_US
from labsim.ldlm.resource import fid_resource, resource_fid
from labsim.nodes.client import lmv
from labsim.nodes.client.cred import ROOT, S_IFDIR
from labsim.nodes.client.data import DataPath
from labsim.nodes.client.flock import FileLocks
from labsim.nodes.client.inode import Dentry, Inode, InodeCache
from labsim.nodes.client.llite_attrs import Attributes
from labsim.nodes.client.llite_files import Files
from labsim.nodes.client.llite_names import Names
from labsim.nodes.client.llite_params import LliteParams
from labsim.nodes.client.mdc import Mdc
from labsim.nodes.client.namei import Namei
from labsim.nodes.client.statahead import Statahead
from labsim.nodes.client.statfs import StatfsCache
from labsim.nodes.client.xattr import Xattrs
from labsim.nodes.client.xattr_cache import XattrCache
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import (
    LCK_CR,
    MDS_INODELOCK_LAYOUT,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_PERM,
    MDS_INODELOCK_UPDATE,
    MDS_INODELOCK_XATTR,
    OBD_CONNECT_ACL,
    OBD_CONNECT_XATTR,
    OBD_MD_FLACL,
    OBD_MD_FLGETATTR,
    OBD_MD_FLMODEASIZE,
)

ROOT_VALID = OBD_MD_FLGETATTR | OBD_MD_FLMODEASIZE | OBD_MD_FLACL
"""What a mount asks to know of the root, without a lock."""

FIRST_PID = 1000
"""Processes of the node's own have the numbers below."""

CACHED_BITS = (
    MDS_INODELOCK_LOOKUP | MDS_INODELOCK_PERM, MDS_INODELOCK_UPDATE, MDS_INODELOCK_XATTR,
    MDS_INODELOCK_LAYOUT,
)  # fmt: skip
"""Groups of lock bits that something is cached under."""


class Llite(Names, Attributes, Files, LliteParams, tree="llite.{name}"):
    """One mount of one file system on this client.

    `name` is FSNAME-INSTANCE; `mdcs` grows as MDTs become known. `data` is the data
    path, set when the mount is put together.
    """

    data: DataPath

    def __init__(self, node: Any, name: str, uuid: str, mdcs: list[Mdc]) -> None:
        self.host: Host = node.host
        self.env = node.host.env
        self.clock = node.host.clock
        self.trace = node.host.trace
        self.name = name
        self.uuid_text = uuid
        self.mdcs = mdcs
        self.inodes = InodeCache()
        self.namei: Namei = node.make(Namei, self)
        self.xattr_values: XattrCache = node.make(XattrCache, self)
        self.xattrs: Xattrs = node.make(Xattrs, self, self.xattr_values)
        self.statfs_md: StatfsCache = node.make(StatfsCache, self.env, self._statfs_namespace)
        self.statfs_dt: StatfsCache = node.make(StatfsCache, self.env, self._statfs_data)
        self.statahead: Statahead = node.make(Statahead, self)
        self.root = Dentry(None, "/", None)
        self.open_files: dict[Any, None] = {}
        """Every open file of this mount, in the order they were opened."""
        self.directories: dict[Any, Dentry] = {}
        """The working directories that are not the root, by process."""
        self.turns = 0
        """Reads and writes that needed no waiting."""
        self.file_locks: FileLocks = node.make(FileLocks, self, self._flock_option(node))
        self._pids = FIRST_PID
        self.user_xattr = self.acl = True
        self.space: Any = self.statfs_dt.cached

    def _statfs_namespace(self) -> Steps[Any]:
        return (yield from self.mdcs[0].statfs(self.lazystatfs))

    def _statfs_data(self) -> Steps[Any]:
        return (yield from self.data.statfs())

    def _flock_option(self, node: Any) -> str:
        """What the mount was told of file locks; the last word counts."""
        told = [one for one in node.config.fs.mount_options if one.endswith("flock")]
        default = "flock" if self.host.kit.traits.flock_by_default else "noflock"
        return told[-1] if told else default

    def new_pid(self) -> int:
        """A number that no process of this client has had."""
        self._pids += 1
        return self._pids

    # ---- mounting

    def fill_super(self) -> Steps[None]:
        """Learn the root and what the servers offer (client_common_fill_super)."""
        mdc = self.mdcs[0]
        self.user_xattr = mdc.imp.granted(OBD_CONNECT_XATTR)
        self.acl = mdc.imp.granted(OBD_CONNECT_ACL)
        if not (self.host.kit.traits.xattr_cache and self.xattr_cache_possible()):
            self.xattr_cache = False
        fid = yield from mdc.get_root()
        self.root.inode = self.inodes.inodes[fid] = Inode(fid, S_IFDIR)
        self.namei.take((yield from mdc.getattr(self.root.inode, ROOT_VALID, ROOT)))

    # ---- devices and locks

    def mdc(self, fid: Fid | None) -> Mdc:
        """The device of the MDT that has `fid`."""
        return lmv.locate(self.mdcs, fid) if fid is not None else self.mdcs[0]

    def match(self, fid: Fid, bits: int, mode: int = LCK_CR) -> Any:
        """A lock on the inode that this client has already, with a reference; or None."""
        return self.mdc(fid).ldlm.match(fid_resource(fid), mode, bits=bits)

    def release(self, lock: Any) -> None:
        """Give back a reference from `match` or an enqueue."""
        self.mdc(None).ldlm.put(lock)

    def lost(self, lock: Any) -> None:
        """A lock is going: forget what it alone kept true (ll_md_blocking_ast)."""
        inode = self.inodes.get(resource_fid(lock.resource))
        if inode is None:
            return
        held = lock.going
        for bits in CACHED_BITS:
            if held & bits and not self.still_covered(inode.fid, held & bits):
                self.forget(inode, bits)

    def still_covered(self, fid: Fid, bits: int) -> bool:
        """True where another lock covers the same (ll_have_md_lock)."""
        lock = self.match(fid, bits)
        if lock is None:
            return False
        self.release(lock)
        return True

    def forget(self, inode: Inode, bits: int) -> None:
        """Nothing covers these aspects of the inode any more."""
        if bits & MDS_INODELOCK_LOOKUP:
            inode.epoch += 1
        if bits & MDS_INODELOCK_UPDATE:
            inode.update_epoch += 1
            inode.entries = None
        if bits & MDS_INODELOCK_XATTR:
            self.xattr_values.drop(inode)
        if bits & MDS_INODELOCK_LAYOUT and not inode.layout:
            inode.layout = None

    # ---- the kernel's caches

    def used(self) -> set[Fid]:
        """The inodes that must stay: the root, what is open, what processes have as directory."""
        pinned = [self.root, *(file.dentry for file in self.open_files)]
        pinned += self.directories.values()
        return {up.inode.fid for dentry in pinned for up in dentry.above() if up.inode is not None}

    def drop_caches(self, level: int) -> Steps[None]:
        """Echo LEVEL > /proc/sys/vm/drop_caches: 1 pages, 2 dentries and inodes, 3 both.

        What is in use stays, and all locks.
        """
        kept = self.used()
        for inode in list(self.inodes.inodes.values()):
            if level & 1:
                inode.entries = None
            if inode.is_reg and inode.data is not None:
                clean = yield from self.data.drop(inode)
                if not clean:
                    kept.add(inode.fid)
        if level & 2:
            for inode in self.inodes.forget(kept):
                self.xattr_values.drop(inode)

    # ---- counting

    def tally(self, operation: str, started_ns: int) -> None:
        """Count one system call in `stats`."""
        self.stats.op(operation, (self.env.now - started_ns) // NS_PER_US)

    def snapshot(self) -> dict[str, Any]:
        """What is cached, by FID: attributes, names, entries, xattrs, and the lock bits above."""
        return {
            "name": self.name,
            "inodes": {str(fid): self._cached(inode) for fid, inode in self.inodes.inodes.items()},
        }

    def _cached(self, inode: Inode) -> dict[str, Any]:
        names = inode.children or {}
        return {
            "mode": inode.mode,
            "nlink": inode.nlink,
            "opens": inode.opens,
            "dentries": {
                name: str(dentry.inode.fid) if dentry.inode is not None else None
                for name, dentry in sorted(names.items())
                if dentry.valid
            },
            "entries": None if inode.entries is None else sorted(e.name for e in inode.entries),
            "xattrs": None if inode.xattrs is None else sorted(inode.xattrs),
            "covered": self.covered(inode.fid),
        }

    def covered(self, fid: Fid) -> int:
        """The inodebits that this client's locks cover."""
        bits = 1
        found = 0
        while bits <= MDS_INODELOCK_XATTR:
            if self.still_covered(fid, bits):
                found |= bits
            bits <<= 1
        return found

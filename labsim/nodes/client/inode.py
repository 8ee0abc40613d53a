"""Inodes and dentries: what one client remembers of the namespace, and until when it may.

Does not know RPCs or locks; it is told what a lock covered and that it is gone. Stands for struct
inode with ll_inode_info, struct dentry, and the inode hash of one mount.

A dentry says which inode a name leads to. It holds while the client has a lock with the LOOKUP and
PERM bits on that inode: `Inode.epoch` counts how often such a lock was lost, and a dentry of an
earlier epoch is stale. A negative dentry holds while the directory's UPDATE lock does, which
`Inode.update_epoch` counts in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from labsim.base.ids import Fid
from labsim.nodes.client.cred import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from labsim.wire.constants import (
    OBD_MD_FLATIME,
    OBD_MD_FLBLOCKS,
    OBD_MD_FLCTIME,
    OBD_MD_FLFLAGS,
    OBD_MD_FLGID,
    OBD_MD_FLMODE,
    OBD_MD_FLMTIME,
    OBD_MD_FLNLINK,
    OBD_MD_FLRDEV,
    OBD_MD_FLSIZE,
    OBD_MD_FLTYPE,
    OBD_MD_FLUID,
)

STALE = -1
"""The epoch of a dentry that no lock covers."""

BLKSIZE_FILE, BLKSIZE_OTHER = 1 << 22, 1 << 12
"""st_blksize of regular files (LL_MAX_BLKSIZE_BITS) and of everything else."""


class Stat(NamedTuple):
    """What stat(2) tells; times in seconds since 1970, `blocks` of 512 bytes."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    blksize: int
    atime: int
    mtime: int
    ctime: int
    fid: Fid


class Inode:
    """One file, directory or link as this client knows it.

    Times, size and blocks are what the MDT said or this client did last; the OSTs of a regular file
    may know better. `layout` is its LOV EA as last seen (None: never seen, empty: no objects),
    `acl` its access ACL. `data` belongs to the data path.
    """

    __slots__ = (
        "acl",
        "atime",
        "blocks",
        "children",
        "ctime",
        "data",
        "entries",
        "epoch",
        "fid",
        "flags",
        "gid",
        "layout",
        "mode",
        "mtime",
        "nlink",
        "opens",
        "rdev",
        "size",
        "target",
        "uid",
        "update_epoch",
        "xattrs",
    )

    def __init__(self, fid: Fid, mode: int = 0) -> None:
        self.fid = fid
        self.mode = mode
        self.uid = self.gid = self.nlink = self.rdev = self.flags = 0
        self.size = self.blocks = 0
        self.atime = self.mtime = self.ctime = 0
        self.layout: bytes | None = None
        self.acl = b""
        self.target: str | None = None
        self.children: dict[str, Dentry] | None = None
        self.entries: list[Any] | None = None
        self.xattrs: dict[str, bytes] | None = None
        self.epoch = 0
        self.update_epoch = 0
        self.opens = 0
        self.data: Any = None

    @property
    def type(self) -> int:
        """The S_IFMT bits."""
        return self.mode & S_IFMT

    @property
    def is_dir(self) -> bool:
        """True for a directory."""
        return self.mode & S_IFMT == S_IFDIR

    @property
    def is_reg(self) -> bool:
        """True for a regular file."""
        return self.mode & S_IFMT == S_IFREG

    @property
    def is_link(self) -> bool:
        """True for a symbolic link."""
        return self.mode & S_IFMT == S_IFLNK

    @property
    def ino(self) -> int:
        """st_ino: the FID folded into 64 bits (fid_flatten)."""
        return flatten(self.fid)

    def update(self, body: Any) -> None:
        """Take the attributes that an mdt_body marks valid (ll_update_inode)."""
        valid = body.valid
        if valid & OBD_MD_FLTYPE:
            self.mode = self.mode & ~S_IFMT | body.mode & S_IFMT
        if valid & OBD_MD_FLMODE:
            self.mode = self.mode & S_IFMT | body.mode & ~S_IFMT
        if valid & OBD_MD_FLUID:
            self.uid = body.uid
        if valid & OBD_MD_FLGID:
            self.gid = body.gid
        if valid & OBD_MD_FLNLINK:
            self.nlink = body.nlink
        if valid & OBD_MD_FLRDEV:
            self.rdev = body.rdev
        if valid & OBD_MD_FLFLAGS:
            self.flags = body.flags
        self._update_size_and_times(body, valid)

    def _update_size_and_times(self, body: Any, valid: int) -> None:
        if valid & OBD_MD_FLSIZE:
            self.size = body.size
        if valid & OBD_MD_FLBLOCKS:
            self.blocks = body.blocks
        if valid & OBD_MD_FLATIME:
            self.atime = body.atime
        if valid & OBD_MD_FLMTIME:
            self.mtime = body.mtime
        if valid & OBD_MD_FLCTIME:
            self.ctime = body.ctime

    def stat(self) -> Stat:
        """The attributes as they stand here."""
        blksize = BLKSIZE_FILE if self.is_reg else BLKSIZE_OTHER
        return Stat(
            self.ino, self.mode, self.nlink, self.uid, self.gid, self.rdev, self.size,
            self.blocks, blksize, self.atime, self.mtime, self.ctime, self.fid,
        )  # fmt: skip

    def names(self) -> dict[str, Dentry]:
        """The dentries of this directory."""
        if self.children is None:
            self.children = {}
        return self.children

    def __repr__(self) -> str:
        return f"Inode({self.fid}, {self.mode:#o})"


class Dentry:
    """A name in a directory: leads to an inode, or says that there is none (`inode` None)."""

    __slots__ = ("epoch", "inode", "name", "parent")

    def __init__(self, parent: Dentry | None, name: str, inode: Inode | None) -> None:
        self.parent = parent if parent is not None else self
        self.name = name
        self.inode = inode
        self.epoch = STALE

    @property
    def is_root(self) -> bool:
        """True for the root of the mount."""
        return self.parent is self

    @property
    def valid(self) -> bool:
        """True while a lock covers what the dentry says; the root always holds."""
        if self.inode is None:
            directory = self.parent.inode
            return directory is not None and self.epoch == directory.update_epoch
        return self.epoch == self.inode.epoch or self.parent is self

    def cover(self, yes: bool) -> None:
        """Remember whether a lock covers the dentry from now on."""
        owner = self.inode if self.inode is not None else self.parent.inode
        if not yes or owner is None:
            self.epoch = STALE
        else:
            self.epoch = owner.update_epoch if self.inode is None else owner.epoch

    def above(self) -> Iterator[Dentry]:
        """The dentry itself and those of the directories above it."""
        at = self
        while not at.is_root:
            yield at
            at = at.parent
        yield at

    def path(self) -> str:
        """The path below the mount point, "/" for the root."""
        names = [dentry.name for dentry in self.above()][:-1]
        return "/" + "/".join(reversed(names))


class InodeCache:
    """The inodes of one mount by FID."""

    def __init__(self) -> None:
        self.inodes: dict[Fid, Inode] = {}

    def get(self, fid: Fid) -> Inode | None:
        """The inode, if this client knows it."""
        return self.inodes.get(fid)

    def obtain(self, body: Any) -> Inode:
        """The inode that an mdt_body is about, brought up to date with it (ll_iget)."""
        inode = self.inodes.get(body.fid1)
        if inode is None:
            inode = self.inodes[body.fid1] = Inode(body.fid1)
        inode.update(body)
        return inode

    def remove(self, inode: Inode) -> None:
        """Forget one inode that is no more."""
        self.inodes.pop(inode.fid, None)

    def forget(self, keep: set[Fid]) -> list[Inode]:
        """Drop every inode but those in `keep`, and the dentries of all; what was dropped."""
        dropped = [inode for fid, inode in self.inodes.items() if fid not in keep]
        for inode in self.inodes.values():
            inode.children = None
        for inode in dropped:
            del self.inodes[inode.fid]
        return dropped


def flatten(fid: Fid) -> int:
    """A FID as a 64-bit inode number (fid_flatten, lustre_fid.h)."""
    if 12 <= fid.seq <= 0xFFFFFFFF and fid.oid >= 0 and fid.ver == 0:
        return fid.seq
    low = fid.seq >> 24 & 0xFFFFFF0000
    number = ((fid.seq << 24) + low + fid.oid) & 0xFFFFFFFFFFFFFFFF
    return number or fid.oid

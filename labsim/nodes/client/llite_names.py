"""Making, moving and removing names, below the kernel's checks.

Knows dentries and the MDT's answers, not paths. Stands for the directory operations of
llite/namei.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.ids import Fid
from labsim.nodes.client.cred import Cred
from labsim.nodes.client.inode import Dentry, Inode
from labsim.runtime.ports import Steps
from labsim.wire.constants import OBD_CONNECT_UMASK, OBD_MD_FLID, OBD_MD_FLNLINK


class Names:
    """The name operations of Llite."""

    env: Any
    namei: Any
    inodes: Any
    data: Any
    acl: bool
    mdc: Callable[..., Any]
    tally: Callable[..., Any]

    def new_fid(self, parent: Inode) -> Steps[Fid]:
        """A FID for a new inode in `parent`."""
        return (yield from self.mdc(parent.fid).fids.next())

    def masked(self, mode: int, cred: Cred) -> int:
        """The mode to create with: the MDT applies the umask, where it knows how to."""
        imp = self.mdc(None).imp
        if self.acl and imp.granted(OBD_CONNECT_UMASK):
            return mode
        return mode & ~cred.umask

    def create(
        self, parent: Dentry, name: str, mode: int, cred: Cred, call: str, rdev: int = 0,
        target: str | None = None,
    ) -> Steps[Dentry]:  # fmt: skip
        """mkdir, mknod, symlink (`target`): `call` names the counter, `mode` has the type."""
        started_ns = self.env.now
        directory = parent.inode
        assert directory is not None
        fid = yield from self.new_fid(directory)
        mode = self.masked(mode, cred) if target is None else mode
        reply = yield from self.mdc(directory.fid).create(
            directory, name, fid, mode, cred, rdev, target
        )
        inode = self._made(reply, fid, mode)
        dentry: Dentry = self.namei.add(parent, name, inode)
        dentry.cover(False)
        self.tally(call, started_ns)
        return dentry

    def _made(self, reply: Any, fid: Fid, mode: int) -> Inode:
        """The new inode, with what the MDT says of it."""
        body = reply["mdt_body"]
        if body.valid & OBD_MD_FLID and body.fid1 == fid:
            inode: Inode = self.namei.take(reply)
            return inode
        inode = self.inodes.inodes[fid] = Inode(fid, mode)
        return inode

    def link(self, inode: Inode, parent: Dentry, name: str, cred: Cred) -> Steps[None]:
        """Give `inode` one more name."""
        started_ns = self.env.now
        assert parent.inode is not None
        yield from self.mdc(inode.fid).link(inode, parent.inode, name, cred)
        self.namei.add(parent, name, inode).cover(False)
        self.tally("link", started_ns)

    def unlink(self, dentry: Dentry, rmdir: bool, cred: Cred) -> Steps[None]:
        """Remove a name; the inode goes with its last one, unless it is open."""
        started_ns = self.env.now
        directory, inode = dentry.parent.inode, dentry.inode
        assert directory is not None and inode is not None
        mdc = self.mdc(directory.fid)
        reply = yield from mdc.unlink(directory, dentry.name, inode, rmdir, cred)
        self.namei.remove(dentry)
        self._unlinked(inode, reply["mdt_body"])
        self.tally("rmdir" if rmdir else "unlink", started_ns)

    def _unlinked(self, inode: Inode, body: Any) -> None:
        """Take the links that are left from the reply, if it is about this inode.

        The name may have led to another one by the time the MDT looked.
        """
        if body.valid & OBD_MD_FLNLINK and body.fid1 == inode.fid:
            inode.nlink = body.nlink
            self.retire(inode)

    def retire(self, inode: Inode) -> None:
        """Forget an inode without names once nobody has it open."""
        if inode.nlink == 0 and inode.opens == 0:
            self.inodes.remove(inode)
            if inode.data is not None:
                self.data.discard(inode)

    def rename(
        self, source: Dentry, parent: Dentry, name: str, victim: Inode | None, cred: Cred
    ) -> Steps[None]:
        """Move `source` to `name` in `parent`, over `victim` where there is one."""
        started_ns = self.env.now
        old, new = source.parent.inode, parent.inode
        assert old is not None and new is not None and source.inode is not None
        reply = yield from self.mdc(old.fid).rename(
            old, source.name, new, name, source.inode, victim, cred
        )
        self.namei.move(source, parent, name)
        source.cover(False)
        if victim is not None:
            self._unlinked(victim, reply["mdt_body"])
        self.tally("rename", started_ns)

"""Names to inodes: the dentry cache, and the intents that fill it.

Knows dentries, inodes and which locks keep them true; not paths nor system calls. Stands for
llite/namei.c, llite/dcache.c and ll_inode_revalidate().
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.base.payload import tobytes
from labsim.nodes.client.cred import Cred
from labsim.nodes.client.inode import Dentry, Inode
from labsim.nodes.client.mdc_intents import Intent
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    DISP_OPEN_CREATE,
    DISP_OPEN_OPEN,
    IT_GETATTR,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_PERM,
    MDS_INODELOCK_UPDATE,
    OBD_MD_FLACL,
    OBD_MD_FLEASIZE,
)

ENOENT, ESTALE, ENAMETOOLONG = 2, 116, 36

NAME_MAX = 255

ATTR_BITS = MDS_INODELOCK_UPDATE | MDS_INODELOCK_LOOKUP | MDS_INODELOCK_PERM
"""What one lock must cover for cached attributes to be true: nlink is under LOOKUP, size and times
under UPDATE, mode, owner and ACL under PERM (mdc_revalidate_lock)."""


class Namei:
    """Lookups of one mount."""

    def __init__(self, llite: Any) -> None:
        self.llite = llite
        self.inodes = llite.inodes

    # ---- names

    def cached(self, parent: Dentry, name: str) -> Dentry | None:
        """The dentry, negative or not, while it holds; None: ask."""
        directory = parent.inode
        assert directory is not None
        if directory.children is None:
            return None
        dentry = directory.children.get(name)
        if dentry is None or dentry.parent is not parent or not dentry.valid:
            return None
        return dentry

    def ask(self, parent: Dentry, name: str, operation: int, cred: Cred) -> Steps[Dentry]:
        """Look a name up on the MDT: IT_LOOKUP, or IT_GETATTR to have the attributes as well.

        Returns a negative dentry where there is none.
        """
        assert parent.inode is not None
        check_name(name)
        mdc = self.llite.mdc(parent.inode.fid)
        intent = yield from mdc.lookup_intent(operation, parent.inode, name, cred)
        if intent.negative:
            return self.negative(parent, name, intent)
        self.check(intent)
        return self.positive(parent, name, intent)

    def check(self, intent: Intent) -> None:
        """Raise what went wrong, and give the lock back."""
        if intent.status < 0:
            self.release(intent)
            raise LustreError(-intent.status)

    def negative(self, parent: Dentry, name: str, intent: Intent) -> Dentry:
        """Remember that there is no such name, while the directory's UPDATE lock holds."""
        assert parent.inode is not None
        self.release(intent)
        dentry = self.add(parent, name, None)
        lock = self.llite.match(parent.inode.fid, MDS_INODELOCK_UPDATE)
        dentry.cover(lock is not None)
        if lock is not None:
            self.llite.release(lock)
        return dentry

    def positive(self, parent: Dentry, name: str, intent: Intent) -> Dentry:
        """Remember what the name leads to, while a LOOKUP lock on it holds."""
        dentry = self.add(parent, name, self.take(intent.reply))
        lock = intent.lock
        dentry.cover(lock is not None and bool(lock.policy.bits & MDS_INODELOCK_LOOKUP))
        self.release(intent)
        return dentry

    def add(self, parent: Dentry, name: str, inode: Inode | None) -> Dentry:
        """The dentry for a name, as yet covered by nothing; the old one where it says the same."""
        assert parent.inode is not None
        names = parent.inode.names()
        dentry = names.get(name)
        if dentry is None or dentry.inode is not inode or dentry.parent is not parent:
            dentry = names[name] = Dentry(parent, name, inode)
        return dentry

    def remove(self, dentry: Dentry) -> None:
        """The name is gone (d_delete)."""
        directory = dentry.parent.inode
        if directory is not None and directory.children is not None:
            directory.children.pop(dentry.name, None)
        dentry.cover(False)

    def move(self, dentry: Dentry, parent: Dentry, name: str) -> None:
        """The name has been renamed (d_move); what is below moves with it."""
        assert parent.inode is not None
        self.remove(dentry)
        dentry.parent, dentry.name = parent, name
        parent.inode.names()[name] = dentry

    # ---- opens

    def open(
        self, parent: Dentry, name: str, child: Any, flags: int, mode: int, cred: Cred,
        eadata: bytes = b"",
    ) -> Steps[tuple[Dentry, int, bool]]:  # fmt: skip
        """Open by name, creating it where `flags` (MDS_OPEN_*) say so: (dentry, handle, created).

        The handle is 0 for what a server does not open: links and special files.
        """
        assert parent.inode is not None
        check_name(name)
        mdc = self.llite.mdc(parent.inode.fid)
        intent = yield from mdc.open_intent(parent.inode, name, child, flags, mode, cred, eadata)
        created = intent.has(DISP_OPEN_CREATE) and intent.status == 0
        if intent.negative and not created and intent.status in (0, -ENOENT):
            self.negative(parent, name, intent)
            raise LustreError(ENOENT)
        self.check(intent)
        handle = opened(intent)
        return self.positive(parent, name, intent), handle, created

    def open_inode(self, dentry: Dentry, flags: int, cred: Cred, eadata: bytes = b"") -> Steps[int]:
        """Open what a dentry leads to, by FID; the handle."""
        inode, parent = dentry.inode, dentry.parent.inode
        assert inode is not None and parent is not None
        mdc = self.llite.mdc(inode.fid)
        intent = yield from mdc.open_intent(parent, "", inode.fid, flags, 0, cred, eadata)
        if intent.negative and intent.status >= 0:
            self.release(intent)
            self.remove(dentry)
            raise LustreError(ESTALE)
        self.check(intent)
        self.take(intent.reply)
        self.release(intent)
        return opened(intent)

    # ---- attributes

    def revalidate(self, inode: Inode, cred: Cred) -> Steps[None]:
        """Make the cached attributes true: by a lock that is there, or by asking (IT_GETATTR)."""
        lock = self.llite.match(inode.fid, ATTR_BITS)
        if lock is not None:
            self.llite.release(lock)
            return
        mdc = self.llite.mdc(inode.fid)
        intent = yield from mdc.lookup_intent(IT_GETATTR, inode, "", cred)
        if intent.negative:
            self.release(intent)
            raise LustreError(ESTALE)
        self.check(intent)
        self.take(intent.reply)
        self.release(intent)

    def take(self, reply: Any) -> Inode:
        """The inode that a reply is about, with the attributes, layout and ACL it brings."""
        body = reply["mdt_body"]
        inode: Inode = self.inodes.obtain(body)
        if inode.is_reg:
            if body.valid & OBD_MD_FLEASIZE:
                inode.layout = tobytes(reply.get("mdt_md") or b"")[: body.eadatasize]
            elif inode.layout is None:
                inode.layout = b""
        if body.valid & OBD_MD_FLACL:
            inode.acl = tobytes(reply.get("acl") or b"")[: body.aclsize]
        return inode

    def release(self, intent: Intent) -> None:
        """Drop the intent's reference on its lock; a lock like one that was there already goes."""
        lock = intent.lock
        if lock is None:
            return
        ns = self.llite.mdc(None).ldlm
        twin = ns.twin(lock)
        if twin is not None:
            ns.put(twin)
        ns.put(lock, cancel=twin is not None)


def opened(intent: Intent) -> int:
    """The open handle of a reply, 0 where the server opened nothing."""
    if not intent.has(DISP_OPEN_OPEN):
        return 0
    handle: int = intent.reply["mdt_body"].open_handle
    return handle


def check_name(name: str) -> None:
    """Raise ENAMETOOLONG for a name of more than 255 bytes."""
    if len(name) > NAME_MAX or len(name.encode("utf-8", "surrogateescape")) > NAME_MAX:
        raise LustreError(ENAMETOOLONG)

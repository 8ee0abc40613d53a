"""The extended attributes of an inode, kept while an XATTR lock covers them.

Knows locks and inodes, not system calls. Stands for llite/xattr_cache.c.

One intent brings all attributes of an inode with an XATTR inodebits lock. They are dropped when the
lock is called back. An inode may also lose them while the lock stays (the kernel shrank its inode
cache), so whoever looks for a lock asks first whether there is data under it.
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.ids import Fid
from labsim.base.payload import tobytes
from labsim.nodes.client.cred import Cred
from labsim.nodes.client.inode import Inode
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Mutex
from labsim.wire.constants import MDS_INODELOCK_XATTR

EIO, ERANGE = 5, 34

FILTERED = frozenset({"system.posix_acl_access", "security.selinux"})
"""Cached elsewhere: the access ACL with the attributes, the label by the security module."""


class XattrCache:
    """The xattr cache of one mount; the values themselves are in `Inode.xattrs`."""

    def __init__(self, llite: Any) -> None:
        self.llite = llite
        self._filling: dict[Fid, Mutex] = {}

    # ---- rules an overlay may replace

    def valid(self, inode: Inode) -> bool:
        """The cache-valid flag: there is data to use (ll_xattr_cache_valid)."""
        return inode.xattrs is not None

    def may_match(self, inode: Inode) -> bool:
        """Whether a lock this client already has will do: only with data under it."""
        return self.valid(inode)

    def without_data(self, inode: Inode) -> None:
        """A lock matched but nothing is cached: a parallel refill gave up meanwhile."""
        raise LustreError(EIO, f"xattrs of {inode.fid}: lock without data")

    # ---- use

    def get(self, inode: Inode, cred: Cred) -> Steps[dict[str, bytes] | None]:
        """All cached attributes; None where they are too large to cache: ask for the one wanted.

        Raises LustreError as the MDT answers, EIO where a lock was found without data.
        """
        if self.valid(inode):
            self.llite.stats.op("getxattr_hits")
            return inode.xattrs
        return (yield from self._refill(inode, cred))

    def drop(self, inode: Inode) -> None:
        """The lock is gone, or the inode is: forget the values (ll_xattr_cache_destroy)."""
        inode.xattrs = None

    # ---- filling

    def _refill(self, inode: Inode, cred: Cred) -> Steps[dict[str, bytes] | None]:
        """One at a time for each inode (lli_xattrs_enq_lock)."""
        mutex = self._filling.setdefault(inode.fid, Mutex(self.llite.env))
        yield from mutex.take()
        try:
            return (yield from self._fill(inode, cred))
        finally:
            mutex.give()
            if not mutex.locked:
                self._filling.pop(inode.fid, None)

    def _fill(self, inode: Inode, cred: Cred) -> Steps[dict[str, bytes] | None]:
        lock, reply = yield from self.find_lock(inode, cred)
        if lock is None:
            return None
        try:
            if self.valid(inode):
                self.llite.stats.op("getxattr_hits")
            elif reply is None:
                self.without_data(inode)
            else:
                inode.xattrs = unpack(reply)
            return inode.xattrs
        finally:
            self.llite.release(lock)

    def find_lock(self, inode: Inode, cred: Cred) -> Steps[tuple[Any, Any]]:
        """(lock, reply) of an XATTR lock: reply None where one matched that was there already."""
        if self.may_match(inode):
            lock = self.llite.match(inode.fid, MDS_INODELOCK_XATTR)
            if lock is not None:
                return lock, None
        return (yield from self.enqueue(inode, cred))

    def enqueue(self, inode: Inode, cred: Cred) -> Steps[tuple[Any, Any]]:
        """Ask the MDT for the lock and every attribute; (None, None) where they do not fit."""
        mdc = self.llite.mdc(inode.fid)
        intent = yield from mdc.getxattr_intent(inode, cred)
        if intent.status < 0:
            if intent.lock is not None:
                mdc.ldlm.put(intent.lock, cancel=True)
            if intent.status != -ERANGE:
                raise LustreError(-intent.status)
            return None, None
        return intent.lock, intent.reply


def unpack(reply: Any) -> dict[str, bytes]:
    """Name to value, from the three buffers of a getxattr intent's reply.

    EADATA has the names, each NUL terminated; EAVALS the values one after the other; EAVALS_LENS
    their lengths. Raises ProtocolError where they do not agree with the mdt_body.
    """
    body = reply["mdt_body"]
    names = tobytes(reply.get("eadata") or b"")[: body.eadatasize]
    values = tobytes(reply.get("eavals") or b"")[: body.aclsize]
    lengths = list(reply.get("eavals_lens") or ())[: body.max_mdsize]
    split = names.split(b"\0")[:-1]
    if len(split) != len(lengths) or sum(lengths) != len(values) or split.count(b""):
        raise ProtocolError(f"getxattr intent: {len(split)} names, {len(lengths)} lengths")
    cached, start = {}, 0
    for name, length in zip(split, lengths, strict=True):
        text = name.decode("utf-8", "surrogateescape")
        if text not in FILTERED:
            cached[text] = values[start : start + length]
        start += length
    return cached

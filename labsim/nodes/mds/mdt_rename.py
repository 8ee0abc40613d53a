"""mdt: rename: two directories, one or two objects, and no loops.

Knows the order of the locks; the rules are mdd's. Stands for mdt_reint_rename (mdt/mdt_reint.c).
"""

from __future__ import annotations

import errno
import stat
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.ldlm.server_lock import ServerLock
from labsim.net.ptlrpc import ServerRequest
from labsim.nodes.mds import objects
from labsim.nodes.mds.linkea import Link
from labsim.nodes.mds.mdd import Victim
from labsim.nodes.mds.mdt_locks import entry_hash
from labsim.nodes.mds.mdt_reint import UNLINK_BITS
from labsim.nodes.mds.mdt_setattr import MdtSetattr
from labsim.nodes.mds.points import MDS_RENAME, MDS_RENAME2
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    LCK_EX,
    LCK_PW,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_XATTR,
)
from labsim.wire.message import Message

MOVE_BITS = MDS_INODELOCK_LOOKUP | MDS_INODELOCK_XATTR
"""What a new place changes of an object: where it is found, and trusted.link."""


class MdtRename(MdtSetattr):
    """REINT_RENAME."""

    def rename(self, req: ServerRequest, record: Any) -> Steps[Message]:
        """Move a name; the reply tells what became of what it replaced."""
        source = Link(record.fid1, objects.encode_name(req["name"]))
        target = Link(record.fid2, objects.encode_name(req["symtgt"]))
        if not (objects.is_client_fid(source.parent) and objects.is_client_fid(target.parent)):
            raise LustreError(errno.EPERM, "rename outside the namespace")
        big = yield from self.lock_big()
        locks: list[ServerLock] = []
        try:
            yield from self._lock_parents(req, source, target, locks)
            yield from self.at(MDS_RENAME2)
            victim = yield from self._rename(req, record, source, target, locks)
        finally:
            self.unlock(req, locks)
            self.ldlm.release(big)
        self.count(req, "rename")
        place = "samedir" if source.parent == target.parent else "crossdir"
        self.count(req, f"{place}_rename")
        return req.reply(**self.tell_victim(victim))

    def _lock_parents(
        self, req: ServerRequest, source: Link, target: Link, locks: list[ServerLock]
    ) -> Steps[None]:
        """Lock both names; the directory that is above the other one first."""
        self.check_exists(source.parent)
        self.check_exists(target.parent)
        first, second = source, target
        if source.parent != target.parent and self.mdd.is_below(source.parent, target.parent):
            first, second = target, source
        locks += yield from self.lock_name(req, *first, write=True)
        yield from self.at(MDS_RENAME)
        if first.parent != second.parent:
            locks += yield from self.lock_name(req, *second, write=True)
        elif entry_hash(first.name) != entry_hash(second.name):
            locks.append((yield from self.lock_entry(req, *second, LCK_PW)))

    def _rename(
        self, req: ServerRequest, record: Any, source: Link, target: Link, locks: list[ServerLock]
    ) -> Steps[Victim | None]:
        cred = self.cred_of_record(req, record)
        self.name_version(req, 2, *source)
        fid = self.mdd.lookup(source.parent, source.name, cred)
        self.check_no_loop(fid, source, target)
        self.name_version(req, 3, *target)
        replaced = self._replaced(target)
        if replaced == fid:
            return None
        if replaced is not None:
            self.check_replaceable(fid, replaced, source, target)
        locks.append((yield from self.lock(req, fid, LCK_EX, MOVE_BITS)))
        if replaced is not None:
            locks.append((yield from self.lock(req, replaced, LCK_EX, UNLINK_BITS)))
        for place, one in enumerate((source.parent, target.parent, fid, replaced)):
            self.version(req, place, one)
        tx = self.begin(req, fid)
        open_ = replaced is not None and self.maybe_open(replaced)
        victim = self.mdd.rename(
            tx, source, target, fid, replaced, cred, self.now(record.time), open_
        )
        yield from self.commit(req, tx)
        return victim

    def _replaced(self, target: Link) -> Fid | None:
        found = self.mdd.find(target.parent, target.name)
        return found[0] if found else None

    def check_no_loop(self, fid: Fid, source: Link, target: Link) -> None:
        """EINVAL for a directory that would end up below itself."""
        if fid in (source.parent, target.parent) or self.mdd.is_below(target.parent, fid):
            raise LustreError(errno.EINVAL, f"{fid} would be below itself")
        if not objects.is_client_fid(fid):
            raise LustreError(errno.EPERM, f"{fid}")

    def check_replaceable(self, fid: Fid, replaced: Fid, source: Link, target: Link) -> None:
        """EISDIR for a file over a directory; ENOTEMPTY for a directory that holds the source."""
        if replaced in (source.parent, target.parent) or self.mdd.is_below(source.parent, replaced):
            raise LustreError(errno.ENOTEMPTY, f"{replaced} holds what is to replace it")
        folders = [stat.S_ISDIR(self.osd.attrs(one).mode) for one in (replaced, fid)]
        if folders == [True, False]:
            raise LustreError(errno.EISDIR, f"{replaced}")

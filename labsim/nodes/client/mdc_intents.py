"""Enqueues that carry an operation: lookup, getattr, open, getxattr in one round trip.

Knows the lock namespace and formats, not caches. Stands for mdc/mdc_locks.c.

The MDT does the operation and answers with a lock on what it found, so that the client may cache
the answer. `disposition` tells how far it came, `status` how that went.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from labsim.base.errors import LustreError
from labsim.base.ids import NO_FID, Fid
from labsim.base.units import NS_PER_S
from labsim.ldlm.desc import intent_result
from labsim.ldlm.resource import fid_resource
from labsim.nodes.client.cred import S_IFREG, Cred
from labsim.nodes.client.mdc_open import OpenTable
from labsim.nodes.client.mdc_reint import NO_GID, suppgid
from labsim.nodes.client.mdc_rooms import Rooms
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    DISP_LOOKUP_NEG,
    IT_CREAT,
    IT_GETATTR,
    IT_GETXATTR,
    IT_OPEN,
    LCK_CR,
    LCK_CW,
    LCK_EX,
    LCK_PR,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_UPDATE,
    MDS_INODELOCK_XATTR,
    MDS_OPEN_CREAT,
    MDS_OPEN_HAS_EA,
    OBD_MD_FLACL,
    OBD_MD_FLDIREA,
    OBD_MD_FLEASIZE,
    OBD_MD_FLGETATTR,
    OBD_MD_FLID,
    OBD_MD_FLMODEASIZE,
    OBD_MD_FLXATTR,
    OBD_MD_FLXATTRLS,
    OBD_MD_MEA,
    REINT_OPEN,
)
from labsim.wire.ldlm import LdlmIntent
from labsim.wire.mdt import MdtBody, MdtRecCreate

GETATTR_VALID = (
    OBD_MD_FLGETATTR | OBD_MD_FLEASIZE | OBD_MD_FLMODEASIZE | OBD_MD_FLDIREA | OBD_MD_MEA
    | OBD_MD_FLACL
)  # fmt: skip
"""What an intent asks to know of an inode."""


EIO, EINPROGRESS = 5, 115


class Intent(NamedTuple):
    """What came back: the lock (None: none granted), the reply, DISP_* bits, a status <= 0."""

    lock: Any
    reply: Any
    disposition: int
    status: int

    @property
    def negative(self) -> bool:
        """The name does not exist."""
        return bool(self.disposition & DISP_LOOKUP_NEG)

    def has(self, disposition: int) -> bool:
        """True where the operation reached that stage."""
        return bool(self.disposition & disposition)


class Intents(Rooms):
    """The intent enqueues of an Mdc."""

    ldlm: Any
    imp: Any
    env: Any
    clock: Any
    opens: OpenTable
    enqueue: Callable[..., Any]

    def _execute(self, resource: Any, mode: int, bits: int, **fields: Any) -> Steps[Intent]:
        """Send an intent; one that is told EINPROGRESS again, a second later each time.

        Until then it keeps a slot (max_mod_rpcs_in_flight). As long as the MDT has not evicted us
        meanwhile: that is EIO (mdc_enqueue_base).
        """
        generation, resends = self.imp.generation, 0
        while True:
            lock, reply = yield from self.enqueue(
                resource, mode, bits, delay_ns=resends * NS_PER_S, **fields
            )
            intent = result(lock, reply)
            if intent.status != -EINPROGRESS:
                return intent
            if self.imp.generation != generation:
                raise LustreError(EIO, "an intent from before an eviction")
            fields.pop("early", None)  # those locks have gone
            resends += 1

    def lookup_intent(
        self, operation: int, parent: Any, name: str, cred: Cred, child: Fid = NO_FID
    ) -> Steps[Intent]:
        """IT_LOOKUP or IT_GETATTR of a name; without one, of the inode `parent` itself."""
        body = MdtBody(
            fid1=parent.fid, fid2=child if name else parent.fid, valid=GETATTR_VALID | OBD_MD_FLID,
            eadatasize=self.default_easize, fsuid=cred.uid, fsgid=cred.gid,
            capability=cred.capability, suppgid=suppgid(parent, cred),
        )  # fmt: skip
        fields: dict[str, Any] = {"ldlm_intent": LdlmIntent(opc=operation), "mdt_body": body}
        if name:
            fields["name"] = name
        bits = MDS_INODELOCK_UPDATE if operation & IT_GETATTR else MDS_INODELOCK_LOOKUP
        intent = yield from self._execute(
            fid_resource(parent.fid), LCK_CR, bits,
            reply_sizes=self.getattr_sizes(self.default_easize), **fields,
        )  # fmt: skip
        self.learn_easize(intent.reply)
        return intent

    def open_intent(
        self, parent: Any, name: str, child: Fid, flags: int, mode: int, cred: Cred,
        eadata: bytes = b"",
    ) -> Steps[Intent]:  # fmt: skip
        """Open, and create where `flags` (MDS_FMODE_*, MDS_OPEN_*) say so.

        `child` is the FID to create with, or of the inode to open by FID (then without a name).
        """
        creating = bool(flags & MDS_OPEN_CREAT)
        if eadata:
            flags |= MDS_OPEN_HAS_EA
        record = MdtRecCreate(
            opcode=REINT_OPEN, cap=cred.capability, fsuid=cred.uid, fsgid=cred.gid,
            suppgid1=suppgid(parent, cred), suppgid2=NO_GID, fid1=parent.fid, fid2=child,
            time=self.clock.seconds(), mode=S_IFREG | mode & 0o7777,
            flags_l=flags & 0xFFFFFFFF, flags_h=flags >> 32, umask=cred.umask,
        )  # fmt: skip
        operation = IT_OPEN | IT_CREAT if creating else IT_OPEN
        fields: dict[str, Any] = {"ldlm_intent": LdlmIntent(opc=operation), "rec_reint": record}
        if name:
            fields["name"] = name
        if eadata:
            fields["eadata"] = eadata
        resource = fid_resource(parent.fid)
        if creating:
            fields["early"] = self.ldlm.take_early(resource, LCK_EX, MDS_INODELOCK_UPDATE)
        intent = yield from self._execute(
            resource, LCK_CW if creating else LCK_CR, MDS_INODELOCK_LOOKUP,
            modifying=True, on_answer=self.opens.answered, reply_sizes=self.open_sizes(),
            **fields,
        )  # fmt: skip
        self.learn_easize(intent.reply)
        return intent

    def getxattr_intent(self, inode: Any, cred: Cred) -> Steps[Intent]:
        """Every extended attribute under an XATTR lock; status -ERANGE where they do not fit."""
        body = MdtBody(
            fid1=inode.fid, valid=OBD_MD_FLXATTR | OBD_MD_FLXATTRLS | OBD_MD_FLID,
            eadatasize=self.xattr_room(), fsuid=cred.uid, fsgid=cred.gid,
            capability=cred.capability, suppgid=suppgid(inode, cred),
        )  # fmt: skip
        return (yield from self._execute(
            fid_resource(inode.fid), LCK_PR, MDS_INODELOCK_XATTR,
            ldlm_intent=LdlmIntent(opc=IT_GETXATTR), mdt_body=body,
            reply_sizes=self.xattr_sizes(),
        ))  # fmt: skip


def result(lock: Any, reply: Any) -> Intent:
    """Read the intent's outcome from the lock reply (lock_policy_res1 and _res2)."""
    disposition, errno = intent_result(reply)
    return Intent(lock, reply, disposition, -errno)

"""mdt: the intents that look: lookup, getattr, layout; and which method executes which intent.

Knows what a client may cache under the lock that comes with the answer. Stands for
mdt_intent_policy, mdt_intent_getattr with mdt_getattr_name_lock, and mdt_intent_layout
(mdt/mdt_handler.c).
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Mapping
from typing import Any, ClassVar

from labsim.base.errors import LustreError
from labsim.base.faults import Point
from labsim.base.ids import Fid
from labsim.ldlm.desc import first_handle, name_of
from labsim.ldlm.resource import fid_resource, resource_fid
from labsim.ldlm.server_lock import ServerLock
from labsim.net.ptlrpc import ServerRequest
from labsim.nodes.mds import objects
from labsim.nodes.mds.mdt_xattr import MdtXattrs
from labsim.nodes.mds.points import MDS_INTENT_DELAY, MDS_LDLM_REPLY_NET
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    DISP_IT_EXECD,
    DISP_LOOKUP_EXECD,
    DISP_LOOKUP_NEG,
    DISP_LOOKUP_POS,
    IT_CREAT,
    IT_GETATTR,
    IT_GETXATTR,
    IT_LAYOUT,
    IT_LOOKUP,
    IT_OPEN,
    LCK_PR,
    MDS_INODELOCK_LAYOUT,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_PERM,
    MDS_INODELOCK_UPDATE,
    OBD_CONNECT_LAYOUTLOCK,
)
from labsim.wire.mdt import MdtBody
from labsim.wire.message import Message


class MdtIntents(MdtXattrs):
    """Enqueues that carry an operation."""

    intents: ClassVar[Mapping[int, str]] = {
        IT_LOOKUP: "getattr_intent",
        IT_GETATTR: "getattr_intent",
        IT_OPEN: "open_intent",
        IT_OPEN | IT_CREAT: "open_intent",
        IT_GETXATTR: "getxattr_intent",
        IT_LAYOUT: "layout_intent",
    }
    """Which method executes an intent."""

    def intent(self, req: ServerRequest) -> Steps[Message]:
        """Execute the intent of an enqueue; EOPNOTSUPP for one that no MDT knows."""
        yield from self.at(MDS_INTENT_DELAY)
        method = self.intents.get(req["ldlm_intent"].opc)
        if method is None:
            raise LustreError(errno.EOPNOTSUPP, f"intent {req['ldlm_intent'].opc:#x}")
        reply = yield from getattr(self, method)(req)
        return (yield from self.answer(reply, MDS_LDLM_REPLY_NET))

    def answer(self, reply: Message, point: Point) -> Steps[Message]:
        """A reply that may get lost on its way: the operation stands, and is not done again."""
        yield from self.at(point)
        return reply

    def lock_for(
        self, req: ServerRequest, fid: Fid, mode: int, bits: int, optional: int = 0
    ) -> Steps[ServerLock]:
        """A lock for the client that asks; it is his once the reply hands it over."""
        self.check_exists(fid)
        return (
            yield from self.ldlm.acquire(
                fid_resource(fid), mode, bits=bits, optional=optional, export=req.export,
                client_cookie=first_handle(req["dlm_req"]),
            )
        )  # fmt: skip

    # ---- lookup and getattr

    def getattr_intent(self, req: ServerRequest) -> Steps[Message]:
        """Look a name up (or take fid2), and lock what was found for the client."""
        body = req["mdt_body"]
        disposition = DISP_IT_EXECD | DISP_LOOKUP_EXECD
        locks: list[ServerLock] = []
        try:
            fid = body.fid2
            if req.has("name"):
                name = objects.encode_name(req["name"])
                locks = yield from self.lock_name(req, body.fid1, name, write=False)
                fid = self.mdd.lookup(body.fid1, name, self.cred_of_body(req, body))
            self.check_exists(fid)
            disposition |= DISP_LOOKUP_POS
            return (yield from self._found(req, fid, disposition))
        except LustreError as error:
            return self._not_found(req, disposition, error)
        finally:
            self.unlock(req, locks)

    def _found(self, req: ServerRequest, fid: Fid, disposition: int) -> Steps[Message]:
        bits, optional = self.lookup_bits(req, fid)
        lock = yield from self.lock_for(req, fid, LCK_PR, bits, optional)
        try:
            fields = self.tell(req.export, fid, req["mdt_body"].valid)
        except BaseException:
            self.ldlm.release(lock)
            raise
        if req["ldlm_intent"].opc & IT_GETATTR:
            self.count(req, "getattr")
        return self.intent_reply(req, lock, disposition, **fields)

    def _not_found(self, req: ServerRequest, disposition: int, error: LustreError) -> Message:
        """No lock: the name is not there (which is no failure), or something else is wrong."""
        status = error.errno
        if status == errno.ENOENT and not disposition & DISP_LOOKUP_POS and req.has("name"):
            disposition |= DISP_LOOKUP_NEG
            status = 0
        return self.intent_reply(req, None, disposition, status, mdt_body=MdtBody())

    def lookup_bits(self, req: ServerRequest, fid: Fid) -> tuple[int, int]:
        """(bits, optional bits) of the lock on what a lookup or getattr has found.

        A lookup of something that nobody has changed for a while is followed by a getattr, so it
        gets the UPDATE bit as well (ns_ctime_age_limit).
        """
        attrs = self.osd.attrs(fid)
        bits = MDS_INODELOCK_LOOKUP | MDS_INODELOCK_PERM
        age = self.host.clock.seconds() - attrs.ctime
        if req["ldlm_intent"].opc & IT_GETATTR or age > self.ldlm.ctime_age_limit:
            bits |= MDS_INODELOCK_UPDATE
        layouts = req.export.granted(OBD_CONNECT_LAYOUTLOCK) and stat.S_ISREG(attrs.mode)
        return bits, MDS_INODELOCK_LAYOUT if layouts else 0

    # ---- layout

    def layout_intent(self, req: ServerRequest) -> Steps[Message]:
        """The layout of a file under a lock on it, as the lock's value block."""
        desc = req["dlm_req"].lock_desc
        fid = resource_fid(name_of(desc))
        lock = yield from self.lock_for(req, fid, desc.req_mode, MDS_INODELOCK_LAYOUT)
        fields: dict[str, Any] = {"dlm_lvb": self.ea(fid)}
        return self.intent_reply(req, lock, DISP_IT_EXECD, **fields)

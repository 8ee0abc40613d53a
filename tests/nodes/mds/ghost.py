"""A client that speaks bare protocol and remembers what it said, to say it again to an MDS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.ids import Nid
from labsim.base.units import NS_PER_S
from labsim.ldlm.desc import describe
from labsim.ldlm.policy import Ibits
from labsim.net.ptlrpc import Request
from labsim.scenario.topology import address, target_of
from labsim.wire.constants import (
    LDLM_FL_HAS_INTENT,
    MDC_REPLY_PORTAL,
    MDS_REQUEST_PORTAL,
    MSG_CONNECT_INITIAL,
    MSG_CONNECT_TRANSNO,
    MSG_LOCK_REPLAY_DONE,
    MSG_REPLAY,
    MSG_REQ_REPLAY_DONE,
    MSG_RESENT,
    OBD_CONNECT_ACL,
    OBD_CONNECT_ATTRFID,
    OBD_CONNECT_FID,
    OBD_CONNECT_FULL20,
    OBD_CONNECT_IBITS,
    OBD_CONNECT_MULTIMODRPCS,
    OBD_CONNECT_NODEVOH,
    OBD_CONNECT_VERSION,
    OBD_CONNECT_XATTR,
    PTL_RPC_MSG_REQUEST,
    SEQ_ALLOC_META,
    SEQ_METADATA_PORTAL,
)
from labsim.wire.ldlm import LdlmRequest
from labsim.wire.lu import LuSeqRange
from labsim.wire.lustre_msg import ObdConnectData, PtlrpcBody
from labsim.wire.message import Message
from labsim.wire.opcodes import (
    LDLM_ENQUEUE,
    MDS_CLOSE,
    MDS_CONNECT,
    MDS_DISCONNECT,
    OBD_PING,
    ROUTES,
    SEQ_QUERY,
    pb_version,
)

from .rig import RawClient
from .rig import World as RigWorld

FLAGS = (
    OBD_CONNECT_VERSION | OBD_CONNECT_ACL | OBD_CONNECT_XATTR | OBD_CONNECT_ATTRFID
    | OBD_CONNECT_IBITS | OBD_CONNECT_FID | OBD_CONNECT_FULL20 | OBD_CONNECT_NODEVOH
)  # fmt: skip
"""No layout locks: an open leaves none behind that could be called back."""


class Done:
    """One request that was answered."""

    def __init__(self, request: Request, xid: int, tag: int, reply: Message | None) -> None:
        self.request = request
        self.xid = xid
        self.tag = tag
        self.reply = reply

    @property
    def transno(self) -> int:
        return self.reply.body.transno if self.reply is not None else 0


class GhostImport:
    """What a raw client calls; nothing is sent twice unless a test says so."""

    def __init__(self, node: Any) -> None:
        self.node = node
        mdt = target_of(node.config.fs.fsname, "mdt", 0, address("mds", 0))
        self.uuid, self.nid = mdt.uuid, Nid.parse(mdt.nid)
        self.name = f"{mdt.name}-mdc-{node.host.name}"
        self.handle = self.conn_cnt = self.tags = 0
        self.flags = 0
        self.log: list[Done] = []

    def connect(self, transno: int = 0) -> Any:
        """Connect, or connect again; the reply."""
        self.conn_cnt += 1
        fresh = MSG_CONNECT_INITIAL if self.conn_cnt == 1 else 0
        data = self.node.want().replace(transno=transno)
        op_flags = fresh | (MSG_CONNECT_TRANSNO if transno else 0)
        request = Request(
            MDS_CONNECT, op_flags=op_flags, tgtuuid=self.uuid,
            cluuid=f"{self.node.host.name}-uuid", conn=0, connect_data=data,
        )  # fmt: skip
        reply = yield from self.send(request)
        self.handle = reply.body.handle
        self.flags = reply["connect_data"].connect_flags
        return reply

    def disconnect(self) -> Any:
        yield from self.send(Request(MDS_DISCONNECT))

    def call(self, request: Request) -> Any:
        """Send it with a tag of its own if it changes anything."""
        self.tags += 1
        return (yield from self.send(request, tag=self.tags))

    def send(
        self, request: Request, *, xid: int = 0, tag: int = 0, flags: int = 0, transno: int = 0,
        versions: tuple[int, ...] = (0, 0, 0, 0), wait_s: int = 30,
    ) -> Any:  # fmt: skip
        """Send a request as it is; ETIMEDOUT where no reply comes, else its status."""
        rpc = self.node.rpc
        xid = xid or rpc.next_xid()
        if not self.flags & OBD_CONNECT_MULTIMODRPCS:
            tag = 0
        body = PtlrpcBody(
            handle=self.handle, type=PTL_RPC_MSG_REQUEST, version=pb_version(request.opcode),
            opc=request.opcode, conn_cnt=self.conn_cnt, transno=transno, flags=flags,
            op_flags=request.op_flags, tag=tag, pre_versions=versions, timeout=wait_s,
        )  # fmt: skip
        message = Message(request.format, request.fields, body)
        route = ROUTES[request.opcode]
        arrived = rpc.env.event()
        entry = rpc.lnet.post(
            route.reply_portal or MDC_REPLY_PORTAL,
            xid,
            lambda one: None if arrived.triggered else arrived.succeed(one.payload),
        )
        portal = request.portal or route.request_portal or MDS_REQUEST_PORTAL
        rpc.lnet.put(self.nid, portal, xid, message)
        yield rpc.env.any_of([arrived, rpc.env.timeout(wait_s * NS_PER_S)])
        entry.unlink()
        reply = arrived.value if arrived.triggered else None
        if not flags:
            self.log.append(Done(request, xid, tag, reply))
        if reply is None:
            raise LustreError(110, f"opcode {request.opcode}")
        if reply.status < 0:
            raise LustreError(-reply.status, f"opcode {request.opcode}", reply)
        return reply

    # ---- again

    def replay(self, done: Done, flags: int = MSG_REPLAY) -> Any:
        """Say again what a restart may have lost; an open with what its reply brought."""
        assert done.reply is not None
        request = done.request
        if request.opcode == LDLM_ENQUEUE:
            body = done.reply["mdt_body"]
            record = request.fields["rec_reint"].replace(
                fid2=body.fid1, open_handle_old=body.open_handle
            )
            eadata = bytes(done.reply.get("mdt_md") or b"")
            request = Request(LDLM_ENQUEUE, **(request.fields | {"rec_reint": record,
                                                                 "eadata": eadata}))  # fmt: skip
        return (
            yield from self.send(
                request, xid=done.xid, tag=done.tag, flags=flags, transno=done.transno,
                versions=done.reply.body.pre_versions, wait_s=2000,
            )
        )  # fmt: skip

    def resend(self, done: Done) -> Any:
        """Ask again for what had no reply."""
        return (yield from self.send(done.request, xid=done.xid, tag=done.tag, flags=MSG_RESENT))

    def come_back(self, *again: Done, finish: bool = True) -> Any:
        """Reconnect, replay what is not committed, opens also if they are; the replies."""
        numbers = [done.transno for done in again]
        reply = yield from self.connect(min(numbers) if numbers else 0)
        committed = reply.body.last_committed
        replies = []
        for done in again:
            if done.transno <= committed and done.request.opcode != LDLM_ENQUEUE:
                continue
            replies.append((yield from self.replay(done)))
        if finish:
            done_flags = MSG_REQ_REPLAY_DONE | MSG_LOCK_REPLAY_DONE
            yield from self.send(Request(OBD_PING), flags=done_flags, wait_s=2000)
        return replies


class NoLocks:
    """Where a raw client enqueues: intents go out, locks are never kept."""

    def __init__(self, node: Any) -> None:
        self.node = node

    def enqueue(self, resource: Any, mode: int, *, bits: int, blocking: Any, **fields: Any) -> Any:
        dlm_req = LdlmRequest(
            lock_flags=LDLM_FL_HAS_INTENT, lock_count=1,
            lock_desc=describe(resource, mode, Ibits(bits)),
            lock_handle=(self.node.rpc.cookie(), 0),
        )  # fmt: skip
        reply = yield from self.node.imp.call(Request(LDLM_ENQUEUE, dlm_req=dlm_req, **fields))
        return None, reply


class Ghost(RawClient):
    """The node."""

    multi = OBD_CONNECT_MULTIMODRPCS

    def start(self) -> Any:
        self.imp = GhostImport(self)
        self.ns = NoLocks(self)
        self.called_back = []
        self.oid = 0
        yield from self.imp.connect()
        given = yield from self.imp.send(
            Request(SEQ_QUERY, portal=SEQ_METADATA_PORTAL, seq_opc=SEQ_ALLOC_META,
                    seq_range=LuSeqRange())
        )  # fmt: skip
        self.range = given["seq_range"]
        self.imp.log.clear()

    def want(self) -> ObdConnectData:
        flags = FLAGS | self.multi
        return ObdConnectData(connect_flags=flags, version=2 << 24, ibits_known=0x7F, maxmodrpcs=8)

    def last(self, opcode: int = 0) -> Done:
        """The last request, or the last with that opcode."""
        return next(done for done in reversed(self.imp.log)
                    if not opcode or done.request.opcode == opcode)  # fmt: skip


class OneAtATime(Ghost):
    """A client with a single slot (no MULTIMODRPCS)."""

    multi = 0


class World(RigWorld):
    """Ghosts around a real MDS."""

    def __init__(self, clients: int = 1, ghost: type = Ghost, **options: Any) -> None:
        made_of = {"client": f"{__name__}:{ghost.__name__}"}
        super().__init__(clients, made_of=made_of, **options)

    def commit(self) -> None:
        """Have the MDS commit now."""
        self.run(self.mdt.osd.sync())

    def restart(self, *names: str) -> None:
        """Power off and on."""
        for name in names or ("mds0",):
            self.run(self.cluster.node(name).kill())
        for name in names or ("mds0",):
            self.run(self.cluster.node(name).start())


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.cluster.close()


@pytest.fixture
def two() -> Iterator[World]:
    made = World(2)
    yield made
    made.cluster.close()


__all__ = ["MDS_CLOSE", "Done", "Ghost", "OneAtATime", "World", "two", "world"]

"""What an MDS answers to a peer that lies: each lie, and the function of Lustre that answers it.

Where a row's function is in angle brackets, labsim is stricter than Lustre, or knows less.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from struct import pack_into
from typing import Any, NamedTuple

import pytest

from labsim.base.ids import ROOT_FID, Fid, Nid
from labsim.net.lnet import PUT, Lnet, Packet
from labsim.net.ptlrpc import Request
from labsim.scenario.cluster import Cluster
from labsim.wire.constants import (
    ELDLM_NO_LOCK_DATA,
    LCK_EX,
    LCK_PR,
    LDLM_IBITS,
    MDC_REPLY_PORTAL,
    MDS_REQUEST_PORTAL,
    MSG_REPLAY,
    MSG_REQ_REPLAY_DONE,
    OBD_CONNECT_VERSION,
    REINT_SETATTR,
    REINT_UNLINK,
)
from labsim.wire.ldlm import LdlmInodebits, LdlmLockDesc, LdlmRequest, LdlmResourceDesc
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.mdt import MdtBody, MdtIoepoch, MdtRecSetattr, MdtRecUnlink
from labsim.wire.message import Message
from labsim.wire.opcodes import (
    LDLM_CANCEL,
    LDLM_CONVERT,
    LDLM_ENQUEUE,
    MDS_CLOSE,
    MDS_CONNECT,
    MDS_GETATTR,
    MDS_REINT,
    MDS_STATFS,
    OST_STATFS,
    ROUTES,
)

ENOTSUPP = 524
SILENCE: list[int] = []
Change = Callable[["World", Message], None]


class World:
    """Client c0 of a simulated cluster has its mouth held by somebody else."""

    def __init__(self) -> None:
        self.cluster = Cluster(clients=2, oss=1, osts=1)
        self.cluster.__enter__()
        self.env = self.cluster.env
        self.node = self.cluster.node("c0").machine.node
        self.imp = self.node.mdcs[0].imp
        self.mds = self.cluster.node("mds0").machine.node
        assert self.cluster.client(0).run("touch f").status == 0

    def say(
        self, request: Request, change: Change | None = None, raw: tuple[int, int] | None = None,
        xid: int = 0, portal: int = 0, source: Nid | None = None,
    ) -> list[int]:  # fmt: skip
        """Send a request as the import would, changed; the statuses of all replies to it."""
        match = xid or self.imp.rpc.next_xid()
        body = self.imp._body(request, 10**11)
        body.last_xid = match - 1 if not xid else 0
        message = Message(request.format, request.fields, body)
        if change is not None:
            change(self, message)
        payload: Any = message
        if raw is not None:
            data = bytearray(message.encode())
            pack_into("<I", data, raw[0], raw[1])
            payload = bytes(data)
        lnet = self.node.host.lnet
        if source is not None:
            lnet = Lnet(source)
            self.cluster._room.fabric.attach(lnet)
        answers: list[int] = []
        route = ROUTES[request.opcode]
        lnet.post(
            route.reply_portal or MDC_REPLY_PORTAL, match,
            lambda packet: answers.append(packet.payload.status),
        )  # fmt: skip
        portal = portal or route.request_portal or MDS_REQUEST_PORTAL
        assert lnet.lnd is not None
        size = len(payload) if raw else message.wire_size
        lnet.lnd.send(Packet(PUT, lnet.nid, self.imp.peer, portal, match, 0, payload, size))
        self.cluster.run(self.env.timeout(10**9))
        return answers

    def evicted(self) -> bool:
        """Has the MDT thrown c0 out?"""
        return self.imp.handle not in self.mds.rpc.exports


def body(**values: int) -> Change:
    def change(_: World, message: Message) -> None:
        message.body = message.body.replace(**values)

    return change


class Lie(NamedTuple):
    """One lie."""

    what: str
    source: str
    """The function of Lustre that answers."""
    answer: list[int]
    change: Change | None = None
    raw: tuple[int, int] | None = None
    request: Callable[[], Request] = lambda: Request(MDS_STATFS)
    portal: int = 0
    xid: int = 0
    nid: str = ""
    evicts: bool = False


def lock_request(opcode: int, **fields: Any) -> Callable[[], Request]:
    return lambda: Request(opcode, dlm_req=LdlmRequest(**fields))


def desc(kind: int = LDLM_IBITS, mode: int = LCK_PR) -> LdlmLockDesc:
    name = (0x200000007, 1, 0, 0)
    return LdlmLockDesc(
        resource=LdlmResourceDesc(type=kind, name=name), req_mode=mode,
        policy_data=LdlmInodebits(bits=2),
    )  # fmt: skip


def connect() -> Request:
    return Request(
        MDS_CONNECT, tgtuuid="lustre-MDT0007_UUID", cluuid="c0", conn=1,
        connect_data=ObdConnectData(connect_flags=OBD_CONNECT_VERSION),
    )  # fmt: skip


def close() -> Request:
    return Request(
        MDS_CLOSE,
        mdt_epoch=MdtIoepoch(open_handle=77),
        rec_reint=MdtRecSetattr(opcode=REINT_SETATTR),
    )


def getattr_of(fid: Fid) -> Callable[[], Request]:
    return lambda: Request(MDS_GETATTR, mdt_body=MdtBody(fid1=fid))


def unlink_of(name: str) -> Callable[[], Request]:
    record = MdtRecUnlink(opcode=REINT_UNLINK, fid1=ROOT_FID, fid2=ROOT_FID)
    return lambda: Request(MDS_REINT, rec_reint=record, name=name)


NOT_CONNECTED, BREACH = [-errno.ENOTCONN], [-errno.EPROTO]
UNPACK = "lustre_unpack_msg"
LIES = (
    Lie("lm_magic", "sptlrpc_svc_unwrap_request", SILENCE, raw=(8, 0x0BD00BD0)),
    Lie("lm_magic of a big-endian host", "<sptlrpc_svc_unwrap_request>", SILENCE,
        raw=(8, 0xD30BD00B)),
    Lie("lm_secflvr", "null_accept", SILENCE, raw=(4, 7)),
    Lie("lm_bufcount zero", UNPACK, SILENCE, raw=(0, 0)),
    Lie("lm_bufcount too large", UNPACK, SILENCE, raw=(0, 40)),
    Lie("lm_buflens beyond the end", UNPACK, SILENCE, raw=(32, 1 << 31)),
    Lie("a body that is too short", "lustre_unpack_req_ptlrpc_body", SILENCE, raw=(32, 8)),
    Lie("pb_version of ptlrpc", "lustre_unpack_req_ptlrpc_body", SILENCE, raw=(40 + 12, 0x40004)),
    Lie("pb_version of the target", "tgt_request_handle", [-errno.EINVAL], body(version=0x50003)),
    Lie("pb_type of a reply", "ptlrpc_server_handle_req_in", SILENCE, raw=(40 + 8, 4713)),
    Lie("pb_opc that nobody has", "tgt_handler_find_check", [-ENOTSUPP], body(opc=9999)),
    Lie("pb_opc of an OST", "tgt_handler_find_check", [-ENOTSUPP],
        request=lambda: Request(OST_STATFS), portal=MDS_REQUEST_PORTAL),
    Lie("pb_handle", "tgt_request_handle", NOT_CONNECTED, body(handle=1)),
    Lie("pb_handle of somebody else", "<class_conn2export>", NOT_CONNECTED, nid="10.1.0.99@tcp"),
    Lie("pb_conn_cnt of before", "ptlrpc_check_req", SILENCE, body(conn_cnt=0)),
    Lie("pb_flags: a replay, and nobody recovers", "ptlrpc_check_req", [-errno.ENODEV],
        body(flags=MSG_REPLAY), evicts=True),
    Lie("pb_flags: the end of a replay", "ptlrpc_check_req", [-errno.ENODEV],
        body(flags=MSG_REQ_REPLAY_DONE), evicts=True),
    Lie("pb_transno from the future", "ptlrpc_check_req", [-errno.ENODEV],
        body(transno=1 << 60), evicts=True),
    Lie("an xid that was answered", "process_req_last_xid", BREACH, xid=16),
    Lie("pb_last_xid beyond the xid", "process_req_last_xid", BREACH, body(last_xid=1 << 63)),
    Lie("a portal that nobody serves", "lnet_ptl_match_md", SILENCE, portal=60),
    Lie("an unknown target", "target_handle_connect", [-errno.ENODEV], request=connect),
    Lie("a FID that is no file's", "tgt_mdt_body_unpack", [-errno.ENOENT],
        request=getattr_of(Fid(0x200000401, 7, 0))),
    Lie("the name of the directory itself", "<mdt_reint_unlink>", [-errno.EINVAL],
        request=unlink_of(".")),
    Lie("the name of the directory above", "<mdt_reint_unlink>", [-errno.EINVAL],
        request=unlink_of("..")),
    Lie("a handle that is not open", "mdt_close", [0], request=close),
    Lie("a lock of an unknown type", "ldlm_handle_enqueue0", [-errno.EFAULT],
        request=lock_request(LDLM_ENQUEUE, lock_desc=desc(kind=9), lock_handle=(5, 0))),
    Lie("a lock of two modes", "ldlm_handle_enqueue0", [-errno.EFAULT],
        request=lock_request(LDLM_ENQUEUE, lock_desc=desc(mode=LCK_PR | LCK_EX),
                             lock_handle=(5, 0))),
    Lie("a cancel of an unknown lock", "ldlm_handle_cancel", [errno.ESTALE],
        request=lock_request(LDLM_CANCEL, lock_count=1, lock_handle=(4711, 0))),
    Lie("a convert of an unknown lock", "ldlm_handle_convert0", [ELDLM_NO_LOCK_DATA],
        request=lock_request(LDLM_CONVERT, lock_count=1, lock_desc=desc(), lock_handle=(4711, 0))),
)  # fmt: skip


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.cluster.__exit__(None, None, None)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.what.replace(" ", "-"))
def test_a_lie_gets_the_answer_of_lustre(world: World, lie: Lie) -> None:
    nid = Nid.parse(lie.nid) if lie.nid else None
    said = world.say(lie.request(), lie.change, lie.raw, lie.xid, lie.portal, nid)
    assert said == lie.answer
    assert world.evicted() is lie.evicts
    if not lie.evicts:
        assert world.say(Request(MDS_STATFS)) == [0]
    honest = world.cluster.client(1).run("stat -c %s f")
    assert (honest.status, honest.output.strip()) == (0, "0")

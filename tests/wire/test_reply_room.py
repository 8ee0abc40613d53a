"""The room that clients make for replies: what the formats tell, and never less than comes."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.net.lnet import PUT
from labsim.scenario.cluster import Cluster
from labsim.wire import opcodes as op
from labsim.wire.constants import LDLM_EXTENT, LDLM_IBITS
from labsim.wire.formats import FORMATS, format_of
from labsim.wire.ldlm import LdlmLockDesc, LdlmRequest, LdlmResourceDesc
from labsim.wire.mdt import MdtBody
from labsim.wire.message import Message
from labsim.wire.ost import NiobufRemote, ObdIoobj, Obdo, OstBody
from labsim.wire.reply_room import reply_room


def lock(kind: int) -> LdlmRequest:
    return LdlmRequest(lock_desc=LdlmLockDesc(resource=LdlmResourceDesc(type=kind)))


@pytest.mark.parametrize(
    ("opcode", "fields", "room"),
    [
        (op.OBD_PING, {}, 32 + 8 + 184),
        (op.OST_STATFS, {}, 32 + 8 + 184 + 144),
        (op.MDS_CONNECT, {}, 32 + 8 + 184 + 192 + 128),
        (op.OST_WRITE, {"ost_body": OstBody(oa=Obdo()), "obd_ioobj": [ObdIoobj()],
                        "niobuf_remote": [NiobufRemote(len=4096)] * 3}, 32 + 16 + 184 + 208 + 16),
        (op.LDLM_ENQUEUE, {"dlm_req": lock(LDLM_EXTENT)}, 32 + 16 + 184 + 112 + 56),
        (op.LDLM_ENQUEUE, {"dlm_req": lock(LDLM_IBITS)}, 32 + 16 + 184 + 112),
        (op.MDS_GETATTR, {"mdt_body": MdtBody()}, 0),
    ],
)  # fmt: skip
def test_what_the_formats_tell(opcode: int, fields: dict[str, Any], room: int) -> None:
    assert reply_room(format_of(opcode, fields), fields) == room


def test_every_reply_fits() -> None:
    """In a run of everything, what was announced as known was enough, and known for most."""
    asked: dict[tuple[Any, ...], Message] = {}
    known = unknown = 0

    def tap(packet: Any) -> None:
        nonlocal known, unknown
        message = packet.payload
        if packet.kind != PUT or not isinstance(message, Message):
            return
        if message.request:
            asked[packet.src, packet.dst, packet.match] = message
            return
        request = asked.get((packet.dst, packet.src, packet.match))
        if request is None or (packet.offset == 0 and message.bufcount == 1):
            return
        known += request.repsize > 0
        unknown += request.repsize == 0
        assert not request.repsize or message.wire_size <= request.repsize, message

    with Cluster(clients=1, oss=1, osts=2) as cluster:
        for name in ("c0", "mds0", "oss0"):
            cluster.node(name).machine.lnet.taps.append(tap)
        for line in (
            "mkdir d", "dd if=/dev/zero of=d/f bs=1M count=3", "sync", "echo small > d/g",
            "setfattr -n user.a -v 1 d/f", "getfattr -d d/f", "ls -l d", "mv d/f d/h", "rm d/h",
            "cat d/g", "df", "lfs df",
        ):  # fmt: skip
            result = cluster.client(0).run(line)
            assert result.status == 0, (line, result.output)
    assert known > 30
    assert known > unknown
    assert len(FORMATS) > 80

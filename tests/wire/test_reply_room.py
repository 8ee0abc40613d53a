"""The room that clients make for replies: as formats and callers tell, and enough."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.net.lnet import PUT
from labsim.scenario.cluster import Cluster
from labsim.wire import opcodes as op
from labsim.wire.constants import IT_OPEN, LDLM_EXTENT, LDLM_IBITS
from labsim.wire.eras import Era
from labsim.wire.formats import format_in, format_of
from labsim.wire.ldlm import LdlmIntent, LdlmLockDesc, LdlmRequest, LdlmResourceDesc
from labsim.wire.mdt import MdtBody
from labsim.wire.message import Message
from labsim.wire.ost import NiobufRemote, ObdIoobj, Obdo, OstBody
from labsim.wire.reply_room import announced, posted, reply_room


def lock(kind: int) -> LdlmRequest:
    return LdlmRequest(lock_desc=LdlmLockDesc(resource=LdlmResourceDesc(type=kind)))


HEAD = 32 + 184


@pytest.mark.parametrize(
    ("opcode", "fields", "sizes", "room"),
    [
        (op.OBD_PING, {}, {}, HEAD + 8),
        (op.OST_STATFS, {}, {}, HEAD + 8 + 144),
        (op.MDS_CONNECT, {}, {}, HEAD + 8 + 192 + 128),
        (op.OST_WRITE, {"ost_body": OstBody(oa=Obdo()), "obd_ioobj": [ObdIoobj()],
                        "niobuf_remote": [NiobufRemote(len=4096)] * 3}, {}, HEAD + 16 + 208 + 16),
        (op.LDLM_ENQUEUE, {"dlm_req": lock(LDLM_EXTENT)}, {}, HEAD + 16 + 112 + 56),
        (op.LDLM_ENQUEUE, {"dlm_req": lock(LDLM_IBITS)}, {}, HEAD + 16 + 112),
        (op.MDS_GETATTR, {"mdt_body": MdtBody()}, {}, 0),
        (op.MDS_GETATTR, {"mdt_body": MdtBody()}, {"mdt_md": 128, "acl": 260},
         HEAD + 24 + 216 + 128 + 264),
        (op.MDS_CLOSE, {}, {}, HEAD + 24 + 216 + 56 + 32),
    ],
)  # fmt: skip
def test_what_formats_and_callers_tell(
    opcode: int, fields: dict[str, Any], sizes: dict[str, int], room: int
) -> None:
    fmt = format_of(opcode, fields)
    assert reply_room(fmt, fields, sizes) == announced(fmt, room) == room


def test_the_buffer_is_a_power_of_two_with_room_for_an_early_reply() -> None:
    assert [posted(room) for room in (0, 64, 65, 320, 321, 65536)] == [
        256, 256, 512, 512, 1024, 131072,
    ]  # fmt: skip


def test_an_open_has_room_for_data_of_a_file_on_the_mdt() -> None:
    fields = {"ldlm_intent": LdlmIntent(opc=IT_OPEN), "dlm_req": lock(LDLM_IBITS)}
    fmt = format_of(op.LDLM_ENQUEUE, fields)
    small = reply_room(fmt, fields, {"mdt_md": 128, "acl": 4012})
    assert small > 8192 and announced(fmt, small) == posted(small) == 16384
    large = reply_room(fmt, fields, {"mdt_md": 128, "acl": 65536})
    assert large == HEAD + 32 + 112 + 216 + 128 + 65536 + 16
    assert announced(fmt, large) == posted(large) == 131072
    former = format_in(fmt, Era.V2_10)
    assert announced(former, reply_room(former, fields, {"mdt_md": 128, "acl": 260})) < 1024


def test_every_reply_fits() -> None:
    """In a run of everything, the room that was announced is known, and was enough."""
    asked: dict[tuple[Any, ...], Message] = {}
    told = 0

    def tap(packet: Any) -> None:
        nonlocal told
        message = packet.payload
        if packet.kind != PUT or not isinstance(message, Message):
            return
        if message.request:
            asked[packet.src, packet.dst, packet.match] = message
            return
        request = asked.get((packet.dst, packet.src, packet.match))
        if request is None or (packet.offset == 0 and message.bufcount == 1):
            return
        told += 1
        assert message.wire_size <= request.repsize, message

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
    assert told > 60

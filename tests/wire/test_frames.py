"""Byte streams of whole conversations, as a real client and server would have sent them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labsim.base.ids import Fid, Nid
from labsim.wire import opcodes as op
from labsim.wire.constants import (
    KSOCK_MSG_LNET,
    KSOCK_MSG_NOOP,
    LNET_PROTO_ACCEPTOR_MAGIC,
    LNET_PROTO_MAGIC,
    SOCKLND_CONN_CONTROL,
)
from labsim.wire.formats import FORMATS
from labsim.wire.lnet import (
    KsockHelloMsg,
    KsockMsg,
    LnetAcceptorConnreq,
    LnetAck,
    LnetGet,
    LnetPut,
    LnetReply,
)
from labsim.wire.lov import LovMdsMdV1
from labsim.wire.message import Message

FRAMES = {
    name: bytes.fromhex(text)
    for name, text in json.loads((Path(__file__).parent / "golden_frames.json").read_text()).items()
}
HEADER = 96
NO_RPC = {"acceptor request", "bulk reply", "ack of a reply"}
MESSAGES = [name for name in FRAMES if name.endswith(("request", "reply")) and name not in NO_RPC]
FORMAT = {
    "MDS_CONNECT": "MDS_CONNECT",
    "OBD_PING": "OBD_PING",
    "MDS_GETATTR": "MDS_GETATTR",
    "open intent": "LDLM_INTENT_OPEN",
    "OST_WRITE": "OST_BRW_WRITE",
    "MGS_CONFIG_READ": "MGS_CONFIG_READ",
}


def message(name: str) -> Message:
    what, direction = name.rsplit(" ", 1)
    raw = FRAMES[name][HEADER:]
    if direction == "request":
        return Message.decode_request(raw)
    return Message.decode_reply(raw, FORMATS[FORMAT[what]])


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_are_reproduced_to_the_byte(name: str) -> None:
    found = message(name)
    assert found.fmt.name == FORMAT[name.rsplit(" ", 1)[0]]
    assert found.encode() == FRAMES[name][HEADER:]


@pytest.mark.parametrize("name", [name for name, raw in FRAMES.items() if raw[0] == 0xC1])
def test_frame_headers_are_reproduced_to_the_byte(name: str) -> None:
    raw = FRAMES[name]
    frame = KsockMsg.unpack(raw)
    header = frame.lnetmsg.hdr
    assert frame.type == KSOCK_MSG_LNET
    assert frame.pack() == raw[:HEADER]
    if name != "bulk reply":
        assert header.payload_length == len(raw) - HEADER


def test_what_opens_a_connection() -> None:
    wanted = LnetAcceptorConnreq.unpack(FRAMES["acceptor request"])
    assert wanted.magic == LNET_PROTO_ACCEPTOR_MAGIC
    assert str(Nid(wanted.nid)) == "192.168.1.20@tcp"
    assert wanted.pack() == FRAMES["acceptor request"]
    hello = KsockHelloMsg.unpack(FRAMES["hello of the active side"])
    assert (hello.magic, hello.version, hello.ctype) == (LNET_PROTO_MAGIC, 3, SOCKLND_CONN_CONTROL)
    assert hello.pack() == FRAMES["hello of the active side"]


def test_a_noop_is_a_bare_prefix() -> None:
    raw = FRAMES["keepalive noop"]
    assert len(raw) == 24
    assert KsockMsg(type=KSOCK_MSG_NOOP, zc_cookies=(0, 1)).pack()[:24] == raw


def test_bulk_is_a_get_and_its_reply() -> None:
    get = KsockMsg.unpack(FRAMES["bulk get"]).lnetmsg.hdr
    assert isinstance(get.msg, LnetGet)
    assert (get.msg.ptl_index, get.msg.sink_length) == (op.OST_BULK_PORTAL, 4096)
    answer = KsockMsg.unpack(FRAMES["bulk reply"]).lnetmsg.hdr
    assert isinstance(answer.msg, LnetReply)
    assert answer.msg.dst_wmd == get.msg.return_wmd
    assert isinstance(KsockMsg.unpack(FRAMES["ack of a reply"]).lnetmsg.hdr.msg, LnetAck)


def test_a_request_goes_to_its_portal() -> None:
    put = KsockMsg.unpack(FRAMES["OST_WRITE request"]).lnetmsg.hdr.msg
    assert isinstance(put, LnetPut)
    write = message("OST_WRITE request")
    assert put.ptl_index == op.ROUTES[write.opcode].request_portal
    assert write.body.version == op.pb_version(write.opcode)


def test_the_fields_of_a_connect() -> None:
    connect = message("MDS_CONNECT request")
    assert connect["tgtuuid"] == "labfs-MDT0000_UUID"
    assert connect["connect_data"].brw_size == 4 << 20
    assert connect.body.jobid == "mount.0"


def test_the_fields_of_an_open() -> None:
    ask, answer = message("open intent request"), message("open intent reply")
    record = ask["rec_reint"]
    assert ask["name"] == "newfile"
    assert record.fid1 == Fid(0x200000007, 1, 0)
    assert answer["mdt_body"].fid1 == record.fid2
    layout = LovMdsMdV1.unpack(answer["mdt_md"])
    assert (layout.stripe_count, layout.stripe_size) == (1, 1 << 20)
    assert layout.objects[0].ost_oi.id == 0x21
    assert answer["mdt_body"].eadatasize == len(answer["mdt_md"])

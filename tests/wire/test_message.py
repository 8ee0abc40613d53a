"""Messages: every format survives the wire, sizes are exact, what does not fit is refused."""

from __future__ import annotations

import random
import stat
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labsim.base.errors import ProtocolError
from labsim.base.payload import Fill
from labsim.wire import opcodes as op
from labsim.wire.constants import (
    IT_CREAT,
    IT_OPEN,
    LUSTRE_MSG_MAGIC_V2_SWABBED,
    PTL_RPC_MSG_ERR,
    PTL_RPC_MSG_REPLY,
    PTL_RPC_MSG_REQUEST,
    REINT_CREATE,
    REINT_OPEN,
    REINT_SETATTR,
)
from labsim.wire.formats import FORMATS, Format, format_of
from labsim.wire.ldlm import LdlmIntent, LdlmRequest
from labsim.wire.lustre_msg import PtlrpcBody
from labsim.wire.mdt import MdtBody, MdtRecCreate, MdtRecSetattr
from labsim.wire.message import Message, body_checksum
from labsim.wire.ost import NiobufRemote, ObdIoobj, OstBody

from .wire_values import buffer
from .wire_values import struct as any_struct

VERSION = 3
some = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))


def request(opcode: int, **fields: Any) -> Message:
    body = PtlrpcBody(type=PTL_RPC_MSG_REQUEST, version=op.pb_version(opcode), opc=opcode)
    return Message(format_of(opcode, fields), fields, body)


def reply(to: Message, status: int = 0, **fields: Any) -> Message:
    body = PtlrpcBody(type=PTL_RPC_MSG_REPLY, version=VERSION, opc=to.opcode, status=status)
    return Message(to.fmt, fields, body, request=False)


def getattr_request() -> Message:
    return request(op.MDS_GETATTR, mdt_body=MdtBody(valid=7, eadatasize=128))


@st.composite
def messages(draw: st.DrawFn, fmt: Format, is_request: bool) -> Message:
    layout = fmt.request if is_request else fmt.reply
    fields = {one.key: draw(buffer(one)) for one in layout if draw(st.booleans())}
    body: PtlrpcBody = draw(any_struct(PtlrpcBody.table))
    body.type = PTL_RPC_MSG_REQUEST if is_request else PTL_RPC_MSG_REPLY
    body.version = body.version & 0xFFFF0000 | VERSION
    if not is_request:
        body.jobid = ""
    flags, repsize = draw(st.integers(0, 3)), draw(st.integers(0, 1 << 20))
    return Message(fmt, fields, body, flags, repsize, request=is_request)


@pytest.mark.parametrize("is_request", [True, False], ids=["request", "reply"])
@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS.keys())
@some
@given(data=st.data())
def test_every_format_survives_the_wire(fmt: Format, is_request: bool, data: st.DataObject) -> None:
    message = data.draw(messages(fmt, is_request))
    raw = message.encode()
    assert len(raw) == message.wire_size
    assert len(raw) % 8 == 0
    again = Message.decode(raw, is_request, fmt)
    assert again == message
    assert again.wire_size == len(raw)
    assert again.encode() == raw


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS.keys())
@some
@given(data=st.data())
def test_damaged_messages_are_refused_or_read(fmt: Format, data: st.DataObject) -> None:
    is_request = data.draw(st.booleans())
    raw = bytearray(data.draw(messages(fmt, is_request)).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    hint = data.draw(st.sampled_from([fmt, None]))
    cut = data.draw(st.sampled_from([len(raw), len(raw) - 8, len(raw) // 2]))
    try:
        message = Message.decode(bytes(raw[:cut]), is_request, hint)
    except ProtocolError as error:
        assert str(error)
    else:
        assert Message.decode(message.encode(), is_request, message.fmt) == message


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=600), st.booleans())
def test_random_bytes_are_no_message(raw: bytes, is_request: bool) -> None:
    with pytest.raises(ProtocolError):
        Message.decode(raw, is_request)


def test_damage_at_every_byte_is_survived() -> None:
    """A deterministic sweep: each byte of a busy request set to each of a few values."""
    record = MdtRecCreate(opcode=REINT_OPEN, mode=stat.S_IFREG)
    raw = request(
        op.LDLM_ENQUEUE,
        dlm_req=LdlmRequest(lock_count=1, lock_handle=(5,)),
        ldlm_intent=LdlmIntent(opc=IT_OPEN | IT_CREAT),
        rec_reint=record,
        name="f",
        eadata=b"123",
    ).encode()
    rng = random.Random(1)
    for at in range(len(raw)):
        for value in (0, 0xFF, 0x7F, rng.randrange(256)):
            damaged = bytearray(raw)
            damaged[at] = value
            try:
                Message.decode(bytes(damaged), request=True)
            except ProtocolError:
                continue
    for length in range(len(raw)):
        with pytest.raises(ProtocolError):
            Message.decode(raw[:length], request=True)


def test_sizes_are_counted_without_making_bytes() -> None:
    message = request(op.OBD_PING)
    assert message.wire_size == 32 + 8 + 184
    assert reply(message).wire_size == 32 + 8 + 152
    write = request(
        op.OST_WRITE,
        ost_body=OstBody(),
        obd_ioobj=[ObdIoobj(bufcnt=2)],
        niobuf_remote=[NiobufRemote(len=4096), NiobufRemote(offset=8192, len=1)],
        short_io=Fill(4097),
    )
    assert write.wire_size == 32 + 24 + 184 + 208 + 24 + 32 + 4104
    assert len(write.encode()) == write.wire_size


def test_early_cancels_make_a_lock_request_longer() -> None:
    handles = (1, 2, 3, 4, 5)
    message = request(op.LDLM_CANCEL, dlm_req=LdlmRequest(lock_count=5, lock_handle=handles))
    assert message.wire_size == 32 + 8 + 184 + 88 + 40
    assert Message.decode_request(message.encode())["dlm_req"].lock_handle == handles


def test_what_is_empty_is_not_there() -> None:
    message = request(op.MDS_GETXATTR, mdt_body=MdtBody(), name="user.a", eadata=b"", capa1=None)
    assert message.has("name")
    assert not message.has("eadata")
    assert message.get("eadata", b"-") == b"-"
    with pytest.raises(KeyError):
        message["eadata"]
    assert Message.decode_request(message.encode()) == message


def test_an_empty_string_is_there() -> None:
    message = request(op.MDS_GET_ROOT, mdt_body=MdtBody(), name="")
    assert Message.decode_request(message.encode())["name"] == ""


def test_a_failure_is_its_body_alone() -> None:
    ask = getattr_request()
    failure = reply(ask, -2)
    assert failure.wire_size == 32 + 8 + 152
    assert failure.status == -2
    again = Message.decode_reply(failure.encode(), ask.fmt)
    assert again == failure
    assert again.encode() == failure.encode()


def test_a_failure_may_carry_buffers() -> None:
    ask = getattr_request()
    failure = reply(ask, -34, mdt_body=MdtBody(eadatasize=99))
    failure.body.type = PTL_RPC_MSG_ERR
    again = Message.decode_reply(failure.encode(), ask.fmt)
    assert again["mdt_body"].eadatasize == 99
    assert again.status == -34


def test_fewer_buffers_than_the_format_has_are_kept_so() -> None:
    message = getattr_request()
    message.bufcount = 2
    raw = message.encode()
    again = Message.decode_request(raw)
    assert again.bufcount == 2
    assert again.encode() == raw
    assert again["mdt_body"] == message["mdt_body"]


def test_a_field_of_the_wrong_kind_is_our_fault() -> None:
    with pytest.raises(TypeError, match="mdt_body"):
        _ = request(op.MDS_GETATTR, mdt_body=OstBody()).wire_size
    with pytest.raises(TypeError, match="name"):
        _ = request(op.MDS_GETXATTR, name=b"user.a").wire_size
    with pytest.raises(TypeError, match="rec_reint"):
        record = MdtRecSetattr(opcode=REINT_CREATE)
        _ = Message(FORMATS["MDS_REINT"], {"rec_reint": record}, PtlrpcBody()).wire_size
    with pytest.raises(TypeError, match="niobuf_remote"):
        _ = request(op.OST_READ, niobuf_remote=[ObdIoobj()]).wire_size
    with pytest.raises(ValueError, match="OBD_PING has no buffer name"):
        _ = request(op.OBD_PING, name="x").wire_size


def test_messages_of_other_fields_differ() -> None:
    assert getattr_request() == getattr_request()
    assert getattr_request() != request(op.MDS_GETATTR, mdt_body=MdtBody())
    assert getattr_request() != 1
    assert "MDS_GETATTR request" in repr(getattr_request())
    assert "reply -2" in repr(reply(getattr_request(), -2))


def damaged(offset: int, value: int, message: Message | None = None) -> bytes:
    raw = bytearray((message or getattr_request()).encode())
    struct.pack_into("<I", raw, offset, value)
    return bytes(raw)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"", r"lustre_msg_v2.lm_bufcount at byte 0"),
        (damaged(8, 0x12345678), r"lm_magic at byte 8: 0x12345678"),
        (damaged(8, LUSTRE_MSG_MAGIC_V2_SWABBED), r"big-endian"),
        (damaged(4, 1), r"lm_secflvr at byte 4"),
        (damaged(0, 0), r"lm_bufcount at byte 0: 0"),
        (damaged(0, 40), r"lm_bufcount at byte 0: 40"),
        (damaged(0, 0xFFFFFFFF), r"lm_buflens at byte 32: 4294967295 of 4 bytes"),
        (damaged(36, 0xFFFFFFF0), r"lm_buflens\[1\]: 4294967280 bytes"),
        (damaged(32, 8), r"ptlrpc_body_v3: 8 bytes instead of 184|the buffers end"),
        (getattr_request().encode() + bytes(8), r"the buffers end at"),
        (damaged(48 + 8, 4713), r"ptlrpc_body_v3.pb_type at byte 8: 4713"),
        (damaged(48 + 12, 7), r"ptlrpc_body_v3.pb_version at byte 12: 0x7"),
        (damaged(48 + 16, 9999), r"9999 has no format"),
    ],
)
def test_what_is_wrong_is_named(raw: bytes, what: str) -> None:
    with pytest.raises(ProtocolError, match=what):
        Message.decode_request(raw)


def test_a_struct_that_does_not_fit_its_buffer_is_named() -> None:
    ask = getattr_request()
    short = Message(FORMATS["OST_GETATTR"], {"ost_body": OstBody()}, ask.body)
    with pytest.raises(ProtocolError, match=r"MDS_GETATTR request, buffer 1 \(mdt_body\): 208"):
        Message.decode_request(short.encode())


def test_more_buffers_than_the_format_has_are_refused() -> None:
    ask = request(op.MDS_GETXATTR, mdt_body=MdtBody(), name="user.a")
    ask.body.opc = op.MDS_SYNC
    with pytest.raises(ProtocolError, match="MDS_SYNC request: 5 buffers, the format has 3"):
        Message.decode_request(ask.encode())


def test_strings_end_with_their_only_nul() -> None:
    raw = request(op.MDS_GETXATTR, mdt_body=MdtBody(), name="abcdefg").encode()
    for given_bytes in (b"abcdefgh", b"abc\0efg\0"):
        with pytest.raises(ProtocolError, match=r"buffer 3 \(name\): a string"):
            Message.decode_request(raw.replace(b"abcdefg\0", given_bytes))
    with pytest.raises(ValueError, match="holds a NUL"):
        request(op.MDS_GETXATTR, mdt_body=MdtBody(), name="a\0b").encode()


def test_an_unknown_record_is_refused() -> None:
    raw = request(op.MDS_REINT, rec_reint=MdtRecSetattr(opcode=REINT_SETATTR)).encode()
    at = 32 + 32 + 184
    assert struct.unpack_from("<I", raw, at) == (REINT_SETATTR,)
    wrong = raw[:at] + struct.pack("<I", 77) + raw[at + 4 :]
    with pytest.raises(ProtocolError, match=r"buffer 1 \(rec_reint\): mdt_rec_reint.rr_opcode"):
        Message.decode_request(wrong)


def test_a_piece_of_an_array_element_is_refused() -> None:
    message = request(op.OST_READ, ost_body=OstBody(), niobuf_remote=[NiobufRemote(len=1)])
    raw = bytearray(message.encode())
    assert struct.unpack_from("<I", raw, 32 + 12) == (16,)
    struct.pack_into("<I", raw, 32 + 12, 12)
    with pytest.raises(ProtocolError, match=r"\(niobuf_remote\): 12 bytes are no multiple of 16"):
        Message.decode_request(bytes(raw))


def test_the_checksum_of_an_early_reply() -> None:
    from zlib import crc32

    early = reply(getattr_request())
    early.bufcount = 1
    early.body.timeout = 30
    early.cksum = body_checksum(early.body)
    raw = early.encode()
    assert len(raw) == 192
    assert early.cksum == crc32(raw[40:]) ^ 0xFFFFFFFF
    assert Message.decode_reply(raw, early.fmt).cksum == early.cksum

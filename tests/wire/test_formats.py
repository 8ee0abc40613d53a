"""Formats carry Lustre's buffers in Lustre's order, and are found by what a request carries."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from labsim.base.errors import ProtocolError
from labsim.wire import opcodes as op
from labsim.wire.buffers import BUFFERS, RECORD_OF_OP
from labsim.wire.constants import (
    IT_BRW,
    IT_CREAT,
    IT_GETATTR,
    IT_GETXATTR,
    IT_LAYOUT,
    IT_LOOKUP,
    IT_OPEN,
    IT_QUOTA_DQACQ,
    REINT_CREATE,
    REINT_MIGRATE,
    REINT_OPEN,
    REINT_SETATTR,
)
from labsim.wire.formats import FORMATS, format_of, request_format
from labsim.wire.ldlm import LdlmIntent
from labsim.wire.mdt import CloseData, MdtBody, MdtRecCreate
from labsim.wire.ost import LlFiemapInfoKey

GOLDEN = json.loads((Path(__file__).parent / "golden_formats.json").read_text())


def test_there_are_all_formats() -> None:
    assert sorted(FORMATS) == sorted(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_buffers_are_those_of_lustre(name: str) -> None:
    fmt = FORMATS[name]
    found = [" ".join(one.key for one in side) for side in (fmt.request, fmt.reply)]
    assert found == GOLDEN[name]
    assert fmt.name == name


def test_every_buffer_knows_its_key() -> None:
    assert all(key == one.key for key, one in BUFFERS.items())


def test_every_operation_that_is_sent_has_a_format() -> None:
    without = {op.opcode_name(code) for code in op.ROUTES if not has_format(code)}
    assert without == {"MGS_EXCEPTION", "MGS_TARGET_DEL"}


def has_format(code: int) -> bool:
    try:
        return format_of(code, {}) is not None
    except ProtocolError:
        return False


@pytest.mark.parametrize(
    ("intent", "name"),
    [
        (IT_OPEN, "LDLM_INTENT_OPEN"),
        (IT_OPEN | IT_CREAT, "LDLM_INTENT_OPEN"),
        (IT_CREAT, "LDLM_INTENT_CREATE"),
        (IT_LOOKUP, "LDLM_INTENT_GETATTR"),
        (IT_GETATTR, "LDLM_INTENT_GETATTR"),
        (IT_GETXATTR, "LDLM_INTENT_GETXATTR"),
        (IT_LAYOUT, "LDLM_INTENT_LAYOUT"),
        (IT_BRW, "LDLM_INTENT_BASIC"),
        (IT_QUOTA_DQACQ, "LDLM_INTENT_QUOTA"),
    ],
)
def test_an_enqueue_is_what_its_intent_is(intent: int, name: str) -> None:
    assert request_format(op.LDLM_ENQUEUE, intent_opc=intent).name == name
    assert format_of(op.LDLM_ENQUEUE, {"ldlm_intent": LdlmIntent(opc=intent)}).name == name


def test_an_enqueue_without_intent_is_plain() -> None:
    assert request_format(op.LDLM_ENQUEUE).name == "LDLM_ENQUEUE"
    with pytest.raises(ProtocolError, match="LDLM_ENQUEUE with operation 0x4000000"):
        request_format(op.LDLM_ENQUEUE, intent_opc=0x4000000)


@pytest.mark.parametrize("opcode", RECORD_OF_OP)
def test_every_reint_has_a_record_and_a_format(opcode: int) -> None:
    record = RECORD_OF_OP[opcode](opcode=opcode)
    assert format_of(op.MDS_REINT, {"rec_reint": record}) is request_format(
        op.MDS_REINT, reint_op=opcode
    )


def test_a_symlink_has_a_target_instead_of_a_layout() -> None:
    record = MdtRecCreate(opcode=REINT_CREATE, mode=stat.S_IFLNK | 0o777)
    assert format_of(op.MDS_REINT, {"rec_reint": record}).name == "MDS_REINT_CREATE_SYM"
    directory = record.replace(mode=stat.S_IFDIR | 0o755)
    assert format_of(op.MDS_REINT, {"rec_reint": directory}).name == "MDS_REINT_CREATE_ACL"
    opened = record.replace(opcode=REINT_OPEN)
    assert format_of(op.MDS_REINT, {"rec_reint": opened}).name == "MDS_REINT_OPEN"


def test_a_reint_without_operation_has_no_format() -> None:
    assert request_format(op.MDS_REINT, reint_op=REINT_SETATTR).name == "MDS_REINT_SETATTR"
    assert request_format(op.MDS_REINT, reint_op=REINT_MIGRATE).name == "MDS_REINT_MIGRATE"
    with pytest.raises(ProtocolError, match="MDS_REINT with operation 0x63 has no format"):
        request_format(op.MDS_REINT, reint_op=99)


@pytest.mark.parametrize(
    ("opcode", "fields", "name"),
    [
        (op.MDS_CLOSE, {}, "MDS_CLOSE"),
        (op.MDS_CLOSE, {"close_data": CloseData()}, "MDS_CLOSE_INTENT"),
        (op.MDS_STATFS, {}, "MDS_STATFS"),
        (op.MDS_STATFS, {"mdt_body": MdtBody()}, "MDS_STATFS_NEW"),
        (op.OST_SET_INFO, {"setinfo_key": b"grant_shrink\0"}, "OST_SET_GRANT_INFO"),
        (op.OST_SET_INFO, {"setinfo_key": b"evict_by_nid"}, "OBD_SET_INFO"),
        (op.OST_GET_INFO, {"getinfo_key": b"last_id\0"}, "OST_GET_INFO_LAST_ID"),
        (op.OST_GET_INFO, {"getinfo_key": b"last_fid"}, "OST_GET_INFO_LAST_FID"),
        (op.OST_GET_INFO, {"getinfo_key": b"other"}, "OST_GET_INFO"),
        (op.OST_GET_INFO, {"fiemap_key": LlFiemapInfoKey()}, "OST_GET_INFO_FIEMAP"),
        (op.LDLM_GL_CALLBACK, {}, "LDLM_GL_CALLBACK"),
        (op.LDLM_GL_CALLBACK, {"dlm_gl_desc": object()}, "LDLM_GL_CALLBACK_DESC"),
        (op.MGS_CONNECT, {}, "CONNECT"),
        (op.OST_WRITE, {}, "OST_BRW_WRITE"),
        (op.MDS_REINT, {}, "MDS_REINT"),
    ],
)
def test_what_a_request_carries_decides(opcode: int, fields: dict[str, object], name: str) -> None:
    assert format_of(opcode, fields).name == name


def test_an_unknown_operation_has_no_format() -> None:
    with pytest.raises(ProtocolError, match="9999 has no format"):
        format_of(9999, {})

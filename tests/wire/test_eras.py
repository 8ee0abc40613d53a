"""What 2.10 and 2.15 have otherwise, as declared, against what their headers and tables say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labsim.base.errors import ProtocolError
from labsim.wire import constants, describe, numbers_then, registry
from labsim.wire import opcodes as op
from labsim.wire.eras import DECLARED, V2_10, V2_12, V2_15, At, Era, era_of, exists, marked
from labsim.wire.formats import FORMATS, FORMATS_IN, format_in, format_of
from labsim.wire.ldlm import LdlmInodebits, LdlmLockDesc, LdlmRequest, LdlmResourceDesc
from labsim.wire.lustre_msg import PtlrpcBody
from labsim.wire.mdt import CloseData, CloseDataResyncDone, MdtBody, MdtIoepoch, MdtRecSetattr
from labsim.wire.message import Message
from labsim.wire.negotiate import in_era, without_unknown
from labsim.wire.obd_md import OBD_MD_LAYOUT_VERSION
from labsim.wire.ost import NiobufRemote, ObdIoobj, Obdo, OstBody
from labsim.wire.schema import REGISTERED, WireType

registry()
GOLDEN = json.loads((Path(__file__).parent / "golden_eras.json").read_text())
ERAS = {"2.10": V2_10, "2.15": V2_15}

NOT_HERE = {
    ("2.10", "lnet_ni_status"): "declared elsewhere then; peers have it",
    ("2.10", "lnet_ping_info"): "declared elsewhere then; peers have it",
    ("2.10", "lustre_cfg"): "declared elsewhere then; peers have it",
    ("2.10", "ldlm_wire_policy_data"): "a union: follows from ldlm_inodebits",
    ("2.10", "lquota_id"): "a union: one more name for the same bytes",
    ("2.15", "ldlm_wire_policy_data"): "a union: follows from ldlm_inodebits",
    ("2.15", "lmv_mds_md"): "a union: one more member, which nothing here sends",
    ("2.15", "ksock_hello_msg"): "declared elsewhere since; peers have it",
    ("2.15", "ksock_lnet_msg"): "declared elsewhere since; peers have it",
    ("2.15", "ksock_msg"): "declared elsewhere since; peers have it",
    ("2.15", "lnet_hdr"): "large NIDs only; over TCP the 72 bytes stay",
}
"""What the headers differ in, but not the protocol that is spoken here."""

STRUCTS = [
    (era, name)
    for era, found in GOLDEN["structs"].items()
    for name, row in found.items()
    if (era, name) not in NOT_HERE and row.get("status") != "added_vs_2.12"
]


def declared(era: str, name: str) -> dict[str, Any]:
    """A struct's differences in the words of the golden file."""
    cls: Any = REGISTERED[name]
    at: At = cls.differs.get(ERAS[era], At())
    if at.absent:
        return {"status": "absent"}
    rows = {op_.name: (op_.field, op_.offset, op_.size) for op_ in cls.table.ops}
    rows |= {row.field: tuple(row) for row in cls.second_names}
    gone = {**at.unknown, **at.renamed}
    here = [[new, *rows[key][1:]] for key, new in gone.items() if new]
    here += [[new, *place] for new, place in at.added.items()]
    found = {
        "size": at.size,
        "only_here": sorted(here),
        "only_2.12": sorted([list(rows[key]) for key in gone]),
        "moved": sorted([[key, *place] for key, place in at.moved.items()]),
    }
    return {key: value for key, value in found.items() if value}


@pytest.mark.parametrize(("era", "name"), STRUCTS)
def test_structs_differ_as_their_headers_do(era: str, name: str) -> None:
    assert declared(era, name) == GOLDEN["structs"][era][name]


def test_no_struct_differs_where_lustres_does_not() -> None:
    for name, cls in REGISTERED.items():
        if isinstance(cls, WireType):
            for era, at in cls.differs.items():
                if at == At(bits=at.bits):
                    continue
                assert name in GOLDEN["structs"][str(era)]


LAYOUT = "LDLM_INTENT_LAYOUT"
FORMATS_THEN = [
    (era, name) for era, found in GOLDEN["formats"].items() for name in found if name != LAYOUT
]


@pytest.mark.parametrize(("era", "name"), FORMATS_THEN)
def test_formats_differ_as_their_tables_do(era: str, name: str) -> None:
    row, known = GOLDEN["formats"][era][name], FORMATS_IN[ERAS[era]]
    assert (name in known) == (row.get("status") != "absent")
    if name in known:
        for side in ("request", "reply"):
            now = getattr(FORMATS.get(name), side, ())
            keys = row.get(side, " ".join(one.key for one in now))
            assert " ".join(one.key for one in getattr(known[name], side)) == keys


def test_a_layout_intent_had_no_layout_before() -> None:
    """2.10 declares this format in a way of its own; clients have asked so since layout locks."""
    fmt = FORMATS_IN[V2_10][LAYOUT]
    assert [one.key for one in fmt.request] == ["dlm_req", "ldlm_intent", "layout_intent"]


def test_all_other_formats_are_the_same() -> None:
    for era, found in GOLDEN["formats"].items():
        for name, fmt in FORMATS.items():
            if name not in found:
                assert FORMATS_IN[ERAS[era]][name] is fmt


def test_versions_make_eras() -> None:
    def version(*numbers: int) -> int:
        return int.from_bytes(bytes(numbers), "big")

    assert era_of(0) is DECLARED is V2_12
    assert era_of(version(2, 5, 3, 0)) is era_of(version(2, 11, 56, 0)) is V2_10
    assert era_of(version(2, 12, 0, 0)) is era_of(version(2, 14, 0, 0)) is V2_12
    assert era_of(version(2, 15, 0, 0)) is era_of(version(2, 16, 1, 0)) is V2_15
    assert era_of(version(3, 0, 0, 0)) is V2_15
    assert [str(era) for era in Era] == ["2.10", "2.12", "2.15"]


def test_marks_are_spans() -> None:
    words = "a b@2.12 c@-2.12 d@2.15 e@2.12-2.15"
    assert marked(words, V2_10) == ["a", "c"]
    assert marked(words, V2_12) == ["a", "b", "e"]
    assert marked(words, V2_15) == ["a", "b", "d"]
    assert exists("", V2_10)
    assert not exists("2.12", V2_10)


def request(opcode: int, **fields: Any) -> Message:
    body = PtlrpcBody(type=4711, version=op.pb_version(opcode), opc=opcode)
    return Message(format_of(opcode, fields), fields, body)


def test_a_field_that_the_peer_does_not_know_is_not_sent() -> None:
    message = request(op.MDS_GETATTR, mdt_body=MdtBody(size=7, dom_size=9, version=3, padding_8=5))
    old = in_era(message, V2_10)
    assert old["mdt_body"] == MdtBody(size=7, padding_8=5)
    assert message["mdt_body"].dom_size == 9
    assert Message.decode_request(old.encode()) == old
    assert in_era(message, V2_12) is message
    assert in_era(old, V2_10) is old


def test_unknown_fields_are_found_within_structs_unions_and_arrays() -> None:
    bits = LdlmInodebits(bits=1, try_bits=2)
    desc = LdlmLockDesc(resource=LdlmResourceDesc(type=13), policy_data=bits)
    lock = without_unknown(LdlmRequest(lock_desc=desc), V2_10)
    assert lock.lock_desc.policy_data == LdlmInodebits(bits=1)
    assert bits.try_bits == 2
    body = OstBody(oa=Obdo(size=1, layout_version=4))
    assert without_unknown(body, V2_10).oa == Obdo(size=1)
    assert without_unknown(body, V2_15) is body
    layout = OstBody(oa=Obdo(valid=OBD_MD_LAYOUT_VERSION | 1))
    assert without_unknown(layout, V2_10).oa.valid == 1
    done = CloseData(resync=CloseDataResyncDone(resync_count=3))
    assert without_unknown(done, V2_10).resync == CloseDataResyncDone()


def test_a_buffer_that_the_peer_does_not_know_is_not_sent() -> None:
    write = request(
        op.OST_WRITE, ost_body=OstBody(), obd_ioobj=[ObdIoobj()], niobuf_remote=[NiobufRemote()],
        short_io=b"data",
    )  # fmt: skip
    old = in_era(write, V2_10)
    assert not old.has("short_io")
    raw = old.encode()
    assert raw[0] == 5
    again = Message.decode_request(raw)
    assert again.fmt.name == "OST_BRW_WRITE"
    assert in_era(again, V2_10).encode() == raw
    assert write.has("short_io")


def test_a_newer_peer_gets_all_the_buffers_that_it_has() -> None:
    ask = request(op.MDS_GETXATTR, mdt_body=MdtBody(), name="user.a")
    new = in_era(ask, V2_15)
    raw = new.encode()
    assert raw[0] == 6
    again = Message.decode_request(raw)
    assert again == new
    assert again.fmt is format_in(ask.fmt, V2_15)
    assert format_in(again.fmt, V2_12) is ask.fmt


def test_formats_go_by_their_former_names() -> None:
    fields = {"mdt_epoch": MdtIoepoch(), "rec_reint": MdtRecSetattr(opcode=1)}
    close = request(op.MDS_CLOSE, **fields, close_data=CloseData())
    assert close.fmt.name == "MDS_CLOSE_INTENT"
    old = in_era(close, V2_10)
    assert old.fmt.name == "MDS_INTENT_CLOSE"
    assert len(old.layout) == 4


def test_what_an_era_does_not_have_stays_and_is_refused_by_the_peer() -> None:
    assert format_in(FORMATS["MDS_REINT_RESYNC"], V2_10) is FORMATS["MDS_REINT_RESYNC"]
    with pytest.raises(ProtocolError):
        format_of(op.MDS_REINT + 1000, {})


def test_numbers_differ_only_from_what_there_is() -> None:
    now = describe.numbers()
    for era in (V2_10, V2_15):
        assert numbers_then.WITHOUT[era] <= set(now)
        assert not set(numbers_then.ONLY[era]) & set(now)
        for name, then in numbers_then.OTHER[era].items():
            assert now.get(name) != then
    assert numbers_then.number_in("LCME_FL_STALE", V2_10, 1) == 2
    assert numbers_then.number_in("OST_SEEK", V2_15) == 23
    assert numbers_then.number_in("REINT_RESYNC", V2_10, 10) is None
    assert describe.number_then("MDS_INODELOCK_FULL") == "0x3f in 2.10"
    assert describe.number_then("MDS_GETATTR") == ""


@pytest.mark.parametrize("era", list(Era))
@pytest.mark.parametrize("name", FORMATS)
def test_every_message_survives_the_wire_in_every_era(name: str, era: Era) -> None:
    fmt = format_in(FORMATS[name], era)
    for is_request in (True, False):
        body = PtlrpcBody(type=4711 if is_request else 4713, version=3)
        message = Message(fmt, {}, body, request=is_request)
        raw = message.encode()
        assert len(raw) == message.wire_size
        assert Message.decode(raw, is_request, fmt) == message


def test_masks_hold_no_bit_of_another_era() -> None:
    """What is cut is what 2.12 has a name for and 2.10 has not."""
    names = vars(constants)
    for cls in REGISTERED.values():
        for era, at in getattr(cls, "differs", {}).items():
            for field, bits in at.bits.items():
                assert field in {op_.name for op_ in cls.table.ops}
                mine = [n for n, v in names.items() if isinstance(v, int) and v and not v & ~bits]
                assert any(numbers_then.number_in(n, era, names[n]) is None for n in mine)


def test_no_message_has_a_struct_of_another_length() -> None:
    """Where a struct's length differs, it travels in a union that keeps its own, or not at all."""
    lengths = {
        (str(era), name)
        for name, cls in REGISTERED.items()
        for era, at in getattr(cls, "differs", {}).items()
        if at.size
    }
    assert lengths == {
        ("2.10", "filter_fid"),  # an attribute of objects on disk
        ("2.10", "llog_cookie"),  # the buffer for them is always empty
        ("2.10", "ldlm_inodebits"), ("2.15", "ldlm_inodebits"),  # ldlm_wire_policy_data has 32
        ("2.15", "update_op"),  # in the update log on disk
    }  # fmt: skip

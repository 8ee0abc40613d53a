"""`labsim wire`: what it prints can be trusted, and the page is up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labsim.base.ids import Fid
from labsim.cli import invoke
from labsim.cli.wire_words import errno_of, said
from labsim.scenario import load, runner
from labsim.wire import describe
from labsim.wire.formats import FORMATS
from labsim.wire.lustre_msg import PtlrpcBody
from labsim.wire.mdt import MdtBody
from labsim.wire.message import Message
from labsim.wire.opcodes import MDS_GETATTR, pb_version
from labsim.wire.schema import REGISTERED, WireType

ROOT = Path(__file__).resolve().parents[2]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert invoke(["wire", *arguments]) == 0
    return capsys.readouterr().out


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(run(capsys, *arguments, "--json"))


def test_the_page_is_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["wire", "page", "--check", str(ROOT / "docs/protocol.md")]) == 0, (
        "run `labsim wire page`"
    )
    other = tmp_path / "page.md"
    assert invoke(["wire", "page", "--check", str(other)]) == 1
    assert "is not up to date" in capsys.readouterr().err
    assert invoke(["wire", "page", str(other)]) == 0
    assert invoke(["wire", "page", "--check", str(other)]) == 0


def test_the_page_holds_everything() -> None:
    text = (ROOT / "docs/protocol.md").read_text()
    for name in describe.structs():
        assert f"#### {name}\n" in text
    for name in [*describe.FORMATS, *describe.numbers()]:
        assert f"| {name} |" in text


def test_all_structs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(printed(capsys, "list", "structs")["structs"]) == 182
    assert {row["format"] for row in printed(capsys, "list")["formats"]} == set(FORMATS)
    assert "mdt_body" in run(capsys, "list")


def test_a_struct_is_shown_as_it_lies(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "show", "mdt_body")["struct"]
    assert found["size"] == 216
    rows = {row["field"]: (row["offset"], row["size"], row["type"]) for row in found["fields"]}
    assert rows["mbo_fid2"] == (16, 16, "lu_fid")
    assert rows["mbo_valid"] == (40, 8, "u64")
    assert "MDS_GETATTR request mdt_body" in found["carriers"]
    text = run(capsys, "show", "mdt_body")
    assert "mbo_padding_6" in text
    assert "unknown in 2.10" in text


def test_every_struct_says_what_it_is_for() -> None:
    for struct in describe.structs().values():
        cls = REGISTERED.get(struct.name)
        assert struct.about or not isinstance(cls, WireType), struct.name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MDS_GETATTR", "request: ptlrpc_body mdt_body capa1"),
        ("LDLM_INTENT_OPEN", "LDLM_ENQUEUE with intent 0x1"),
        ("OBD_MD_FLSIZE", "0x10"),
        ("MDS_ATTR_", "MDS_ATTR_MTIME_SET"),
        ("hsm_flags", "HS_NONE"),
        ("ldlm_wire_policy_data", "l_inodebits"),
        ("ldlm_lock_desc", "by resource.type"),
        ("lustre_msg_v2", "u32[bufcount]"),
        ("lu_fid", "f_oid"),
    ],
)
def test_anything_can_be_shown(name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert text in run(capsys, "show", name)


def test_what_is_not_there_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["wire", "show", "mdt_bdy"]) == 2
    assert "did you mean 'mdt_body'?" in capsys.readouterr().err


def getattr_request() -> Message:
    body = PtlrpcBody(type=4711, version=pb_version(MDS_GETATTR), opc=MDS_GETATTR)
    fields = {"mdt_body": MdtBody(fid1=Fid(0x200000401, 5, 0), valid=7)}
    return Message(FORMATS["MDS_GETATTR"], fields, body)


def test_bytes_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    raw = getattr_request().encode().hex()
    (found,) = printed(capsys, "decode", raw)["messages"]
    assert found["operation"] == "MDS_GETATTR"
    assert found["fields"]["mdt_body"] == {"mbo_fid1": "[0x200000401:0x5:0x0]", "mbo_valid": 7}
    assert "mbo_valid: 7" in run(capsys, "decode", raw)
    assert "mbo_size: 0" in run(capsys, "decode", raw, "--all")
    assert "opc: 3" in run(capsys, "decode", "03" + 7 * "00", "--as", "ldlm_intent")


@pytest.mark.parametrize(
    "arguments",
    [("nosuch.pcap",), ("0102",), ("01" * 64,), ("00", "--as", "nosuch"), ("00", "--as", "obdo")],
)
def test_what_cannot_be_read_is_said(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["wire", "decode", *arguments]) == 2
    assert capsys.readouterr().err.strip()


def test_a_capture_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.pcap"
    scenario = load.load(ROOT / "scenarios/xattr/lu_10787.yaml")
    runner.run(scenario, "2.12.0", pcap=str(path))
    found = printed(capsys, "decode", str(path))["messages"]
    assert not [line for line in found if line.get("error")]
    operations = [line.get("operation") for line in found if line.get("what") == "request"]
    assert operations.count("MDS_CONNECT") == 1
    assert "MDS_REINT" in operations
    assert "as MDS_REINT_SETXATTR" in run(capsys, "decode", str(path))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("pb_opc", 101, "101 (LDLM_ENQUEUE)"), ("pb_type", 4712, "4712 (PTL_RPC_MSG_ERR)"),
        ("pb_handle", 0x2A528049, "0x2a528049"), ("cr_mode", 0o100644, "0100644"),
        ("l_req_mode", 8, "8 (LCK_CW)"), ("opc", 3, "3 (IT_OPEN|IT_CREAT)"),
        ("lr_name", [0x200000401, 1, 0, 0], "[0x200000401, 1, 0, 0]"),
        ("cr_suppgid1", 0xFFFFFFFF, "-1"), ("cr_cap", 0xFFFFFFFF, "0xffffffff"),
        ("pb_transno", 4294967297, "4294967297"), ("pb_opc", 9999, "9999 (9999)"),
    ],
)  # fmt: skip
def test_values_are_printed_as_lustre_prints_them(field: str, value: Any, text: str) -> None:
    assert said(field, value) == text


def test_a_status_is_printed_with_its_errno() -> None:
    assert [errno_of(status) for status in (0, 301, -2, -524, "")] == [
        "0", "301", "-2 (ENOENT)", "-524 (ENOTSUPP)", "",
    ]  # fmt: skip

"""Every number has Lustre's value; names are found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labsim.base.ids import ROOT_FID
from labsim.wire import constants, fid_seq, opcodes
from labsim.wire.constants import flag_names

HERE = Path(__file__).parent
NUMBERS: dict[str, Any] = json.loads((HERE / "golden_numbers.json").read_text())
ROUTES: dict[str, list[int]] = json.loads((HERE / "golden_routes.json").read_text())


CONFIGURED = dict.fromkeys(
    ("OST_CONNECT_SUPPORTED", "MDT_CONNECT_SUPPORTED"), constants.OBD_CONNECT_LRU_RESIZE
)
"""Bits that a server has by how it was built: the headers alone do not say."""


def test_every_number_is_lustres() -> None:
    expected = NUMBERS | {name: NUMBERS[name] | bits for name, bits in CONFIGURED.items()}
    wrong = {
        name: (getattr(constants, name, None), value)
        for name, value in expected.items()
        if getattr(constants, name, None) != value
    }
    assert not wrong


@pytest.mark.parametrize("name", ROUTES)
def test_routes(name: str) -> None:
    code = opcodes.opcode_of(name)
    version, *ports = ROUTES[name]
    route = opcodes.ROUTES[code]
    assert opcodes.pb_version(code) == version
    assert [route.request_portal, route.reply_portal, route.bulk_portal] == ports


def test_opcodes_have_names() -> None:
    assert opcodes.opcode_name(36) == "MDS_REINT"
    assert opcodes.opcode_name(400) == "OBD_PING"
    assert opcodes.opcode_name(0) == "OST_REPLY"
    assert opcodes.opcode_name(77) == "77"
    assert opcodes.opcode_of("LDLM_ENQUEUE") == 101
    with pytest.raises(KeyError):
        opcodes.opcode_of("LDLM_NOTHING")


def test_portals_have_names() -> None:
    assert opcodes.portal_name(12) == "MDS_REQUEST_PORTAL"
    assert opcodes.portal_name(63) == "63"


def test_an_unknown_operation_has_the_bare_version() -> None:
    assert opcodes.pb_version(9999) == 3


def test_portals_of_an_import_hold_where_the_operation_has_none() -> None:
    assert opcodes.portals(opcodes.MDS_CLOSE, "mdc") == (23, 10)
    assert opcodes.portals(opcodes.OBD_PING, "mdc") == (12, 10)
    assert opcodes.portals(opcodes.LDLM_ENQUEUE, "osc") == (28, 4)


def test_the_root_is_in_its_sequence() -> None:
    assert ROOT_FID.seq == fid_seq.FID_SEQ_ROOT


def test_flags_have_names() -> None:
    assert flag_names("OBD_MD_", 5) == ["OBD_MD_FLID", "OBD_MD_FLMTIME"]
    assert flag_names("LDLM_FL_", 0) == []
    assert flag_names("MDS_INODELOCK_", 1 << 20 | 2)[-1] == "0x100000"

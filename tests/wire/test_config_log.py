"""Commands of configuration logs, byte for byte and back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsim.base.errors import ProtocolError
from labsim.wire import config_log
from labsim.wire.config_log import Command
from labsim.wire.llog_flags import CM_START, LCFG_ADD_UUID, LCFG_ATTACH, LCFG_MARKER


def test_attach_byte_for_byte() -> None:
    data = config_log.attach("lustre-clilov", "lov", "lustre-clilov_UUID").pack()
    head = struct.pack("<IIIIQII", 0x1CF60001, LCFG_ATTACH, 0, 0, 0, 0, 3)
    lengths = struct.pack("<III", 14, 4, 19) + bytes(4)
    bufs = (
        b"lustre-clilov".ljust(16, b"\0")
        + b"lov".ljust(8, b"\0")
        + b"lustre-clilov_UUID".ljust(24, b"\0")
    )
    assert data == head + lengths + bufs


def test_marker_and_add_uuid_have_an_empty_buffer_0() -> None:
    made = config_log.marker(3, CM_START, "lustre-OST0000", "add osc", 0x020C0000, 77)
    again = config_log.unpack(made.pack())
    assert again == made
    assert again.command == LCFG_MARKER
    assert again.bufs[0] == b""
    assert (again.marker.step, again.marker.tgtname) == (3, "lustre-OST0000")
    uuid = config_log.unpack(config_log.add_uuid("10.0.0.1@tcp", 0x200000A000001).pack())
    assert (uuid.command, uuid.nid) == (LCFG_ADD_UUID, 0x200000A000001)
    assert (uuid.text(0), uuid.text(1), uuid.text(5)) == ("", "10.0.0.1@tcp", "")


@given(
    st.integers(0, 2**32 - 1), st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 2**63)
)
def test_round_trip(command: int, bufs: list[bytes], nid: int) -> None:
    made = Command(command, tuple(bufs), nid)
    packed = made.pack()
    assert len(packed) % 8 == 0
    assert config_log.unpack(packed) == made


@given(st.data())
def test_damage_is_refused_or_read(data: st.DataObject) -> None:
    packed = bytearray(config_log.param("lustre-OST0000-osc", "osc.active=1").pack())
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(packed[: data.draw(st.integers(0, len(packed)))])
    try:
        config_log.unpack(cut)
    except ProtocolError:
        return


def test_lies_are_named() -> None:
    good = config_log.param("a", "b=c").pack()
    for at, value in ((0, 1), (28, 9), (32, 10_000)):
        bad = bytearray(good)
        bad[at : at + 4] = struct.pack("<I", value)
        with pytest.raises(ProtocolError, match="lustre_cfg"):
            config_log.unpack(bytes(bad))

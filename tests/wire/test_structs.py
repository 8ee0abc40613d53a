"""Every struct has Lustre's size, offsets and names, and survives the wire; bad bytes do not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labsim import wire
from labsim.base.errors import ProtocolError
from labsim.pure.codec import Kind
from labsim.wire.schema import Wire

from .wire_values import STRUCTS, struct

GOLDEN = json.loads((Path(__file__).parent / "golden_structs.json").read_text())
REGISTRY = {name: (size, rows) for name, size, rows in wire.registry()}
each_struct = pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.table.name)
quick = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))


def test_the_registry_is_complete() -> None:
    assert sorted(REGISTRY) == sorted(GOLDEN)
    assert [name for name, _, _ in wire.registry()] == sorted(REGISTRY)


@pytest.mark.parametrize("name", GOLDEN)
def test_size_and_offsets_are_those_of_lustre(name: str) -> None:
    size, rows = GOLDEN[name]
    found_size, found = REGISTRY[name]
    assert found_size == size
    plain = [list(row) for row in found if "." not in row[0]]
    assert sorted(plain) == sorted(rows)


def test_members_of_named_unions_are_listed_with_dots() -> None:
    rows = {field: (offset, size) for field, offset, size in REGISTRY["lnet_hdr"][1]}
    assert rows["msg"] == rows["msg.put"] == (32, 40)
    assert rows["msg.ack"] == (32, 28)
    assert ("oi.oi_seq", 8, 8) in REGISTRY["ost_id"][1]


@each_struct
def test_defaults_are_zeros(kind: type[Wire]) -> None:
    value = kind()
    assert value.pack() == bytes(value.packed_size())
    assert value == kind()
    assert repr(value) == f"{kind.__name__}()"


@each_struct
@quick
@given(data=st.data())
def test_what_is_packed_unpacks_the_same(kind: type[Wire], data: st.DataObject) -> None:
    value = data.draw(struct(kind.table))
    raw = value.pack()
    assert len(raw) == value.packed_size()
    assert kind.unpack(raw) == value
    assert kind.unpack(memoryview(raw)).pack() == raw
    assert value.replace() == value
    assert value.replace() is not value


@each_struct
@quick
@given(data=st.data())
def test_a_struct_is_found_at_its_offset(kind: type[Wire], data: st.DataObject) -> None:
    value = data.draw(struct(kind.table))
    before = data.draw(st.binary(max_size=20))
    assert kind.unpack(before + value.pack(), len(before)) == value


@each_struct
def test_one_byte_less_is_refused(kind: type[Wire]) -> None:
    if kind.table.size == 0:
        return
    raw = kind().pack()
    with pytest.raises(ProtocolError, match=f"^{kind.table.name}"):
        kind.unpack(raw[:-1])
    with pytest.raises(ProtocolError, match=f"^{kind.table.name}.*at byte 0"):
        kind.unpack(b"")


@each_struct
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_bytes_are_refused_or_read(kind: type[Wire], data: st.DataObject) -> None:
    size = kind.table.size
    length = data.draw(st.sampled_from([size, size + 1, size + 24, max(size - 1, 0), 0]))
    raw = data.draw(st.binary(min_size=min(length, 200), max_size=min(length, 200)))
    raw = raw.ljust(length, data.draw(st.sampled_from([b"\0", b"\xff"])))
    try:
        value = kind.unpack(raw)
    except ProtocolError as error:
        refusal = str(error)
        assert re.match(r"\w+\.\w+.* at byte \d+|\w+\.\w+.* = \d+: unknown", refusal)
    else:
        assert kind.unpack(value.pack()) == value


@each_struct
def test_a_field_that_does_not_fit_is_named(kind: type[Wire]) -> None:
    for op in kind.table.ops:
        if op.kind is Kind.INT and op.field:
            value = kind(**{op.name: 1 << 64})
            with pytest.raises(ValueError, match=f"{kind.table.name}.{op.field}"):
                value.pack()
        elif op.kind is Kind.TEXT:
            value = kind(**{op.name: "x" * (op.size + 1)})
            with pytest.raises(ValueError, match=f"{kind.table.name}.{op.field}"):
                value.pack()

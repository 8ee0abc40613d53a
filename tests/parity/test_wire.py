"""The native codec against its twins: the generated Python and the plain interpreter of rows."""

from __future__ import annotations

import copy
import gc
import importlib.util
import pickle
import random
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labsim import fast
from labsim.base.errors import ProtocolError
from labsim.base.ids import Fid
from labsim.pure import codec, interpret
from labsim.wire import registry
from labsim.wire.lustre_msg import LustreMsgV2
from labsim.wire.mdt import MdtBody
from labsim.wire.message import TWINS, Message
from labsim.wire.ost import Obdo, OstBody
from labsim.wire.schema import REGISTERED, OstId, WireType

from ..wire.wire_values import struct as any_struct
from . import wire_objects

registry()
STRUCTS: list[Any] = [one for one in REGISTERED.values() if isinstance(one, WireType)]
NAMES = [one.table.name for one in STRUCTS]
native = pytest.mark.skipif(fast.PURE, reason="LABSIM_PURE=1: there is only one codec")
some = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


def twins(cls: Any) -> tuple[Any, Any]:
    return codec.generate(cls.table, "pack"), codec.generate(cls.table, "unpack")


def outcome(work: Any) -> Any:
    try:
        return work()
    except (ProtocolError, ValueError, AttributeError, TypeError, struct.error) as error:
        return type(error), str(error)


@native
def test_every_struct_is_run_in_c() -> None:
    for cls in STRUCTS:
        assert type(cls.unpack).__name__ == "Unpacker", cls
        assert all(type(vars(cls)[op.name]).__name__ == "Field" for op in cls.table.ops), cls


@pytest.mark.parametrize("cls", STRUCTS, ids=NAMES)
def test_objects_of_both_kinds_hold_and_refuse_the_same(cls: Any) -> None:
    wire_objects.run(cls, random.Random(cls.table.name), steps=6)


@pytest.mark.parametrize("cls", STRUCTS, ids=NAMES)
@some
@given(data=st.data())
def test_all_three_agree_on_any_object(cls: Any, data: st.DataObject) -> None:
    value = data.draw(any_struct(cls.table))
    pack, unpack = twins(cls)
    raw = value.pack()
    assert raw == pack(value) == interpret.pack(cls.table, value)
    for given_raw, at in ((raw, 0), (b"12345" + raw, 5), (bytearray(raw), 0), (memoryview(raw), 0)):
        again = cls.unpack(given_raw, at)
        assert type(again) is cls
        assert again == value == unpack(given_raw, at) == interpret.unpack(cls.table, given_raw, at)


@pytest.mark.parametrize("cls", STRUCTS, ids=NAMES)
@some
@given(raw=st.binary(max_size=64), at=st.integers(-3, 9), filler=st.sampled_from([0, 1, 255]))
def test_all_three_agree_on_any_bytes(cls: Any, raw: bytes, at: int, filler: int) -> None:
    whole = raw + bytes([filler]) * max(cls.table.size - len(raw) + at, 0)
    _, unpack = twins(cls)
    found, twin = outcome(lambda: cls.unpack(whole, at)), outcome(lambda: unpack(whole, at))
    assert found == twin
    if at >= 0:
        rows = outcome(lambda: interpret.unpack(cls.table, whole, at))
        assert isinstance(rows, tuple) == isinstance(found, tuple)
        assert isinstance(rows, tuple) or rows == found


@pytest.mark.parametrize(
    "wrong",
    [-1, 1 << 64, 1.5, None, "7", b"7", True, object()],
    ids=["negative", "large", "float", "None", "str", "bytes", "bool", "object"],
)
def test_objects_that_do_not_fit_are_refused_alike(wrong: Any) -> None:
    pack, _ = twins(MdtBody)
    for name in ("size", "mode", "mtime", "fid1", "version"):
        value = MdtBody(**{name: wrong})
        assert outcome(value.pack) == outcome(lambda one=value: pack(one))


def test_tuples_and_nested_objects_of_other_kinds_are_refused_alike() -> None:
    for value in (
        MdtBody(fid1=(1, 2)), MdtBody(fid1=(1, 2, 3)), MdtBody(fid1=[1, 2, 3]), MdtBody(fid1=7),
        OstBody(oa=MdtBody()), OstBody(oa=None), OstBody(oa=7),
    ):  # fmt: skip
        pack, _ = twins(type(value))
        left, right = outcome(value.pack), outcome(lambda one=value, two=pack: two(one))
        assert left == right, value
    deleted = MdtBody(size=3)
    del deleted.size
    assert outcome(deleted.pack) == outcome(lambda: twins(MdtBody)[0](deleted))


def test_calls_that_are_unusual() -> None:
    raw = b"\1" * (MdtBody.size + 8)
    _, unpack = twins(MdtBody)
    assert MdtBody.unpack(raw, offset=8) == unpack(raw, 8)
    assert MdtBody.unpack(buffer=raw) == unpack(raw)
    assert MdtBody.unpack(raw, -MdtBody.size) == unpack(raw, -MdtBody.size)
    for bad in ((), (1,), (raw, None), (raw, 1 << 80), (raw, 0, 0), (None,), (raw, 1.0)):
        for call in (MdtBody.unpack, unpack):
            with pytest.raises((TypeError, ProtocolError, OverflowError, IndexError, ValueError)):
                call(*bad)
    assert MdtBody.pack(MdtBody(nlink=3)) == MdtBody(nlink=3).pack()
    with pytest.raises(TypeError):
        MdtBody().pack(1)
    with pytest.raises(TypeError):
        MdtBody(Fid(1, 2, 3))


def test_zeros_are_shared_only_where_they_cannot_change() -> None:
    one, two = MdtBody.unpack(bytes(MdtBody.size)), MdtBody.unpack(bytes(MdtBody.size))
    assert one.fid1 == Fid(0, 0, 0)
    assert isinstance(one.fid1, Fid)
    one.size = 5
    assert two.size == 0
    header = LustreMsgV2(bufcount=2, buflens=(1, 2))
    assert LustreMsgV2.unpack(header.pack()).buflens == (1, 2)


def test_a_struct_is_no_base_of_another() -> None:
    with pytest.raises(TypeError, match="Special: a struct is no base of another"):

        class Special(MdtBody, struct="special", prefix="mbo_", size=0):
            pass


@native
def test_an_object_whose_class_was_changed_is_not_read_as_the_other() -> None:
    value = MdtBody(size=1 << 40)
    value.__class__ = OstBody
    with pytest.raises((TypeError, AttributeError)):
        value.oa  # noqa: B018
    with pytest.raises((TypeError, AttributeError)):
        MdtBody.size.__get__(value)
    value.__class__ = MdtBody
    assert value.size == 1 << 40


def test_cycles_of_objects_are_collected() -> None:
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(200):
        one = OstBody()
        one.oa = one
        two = MdtBody()
        two.size = [two]
        del one, two
    gc.collect()
    assert sys.getallocatedblocks() - before < 100


def test_long_chains_of_objects_are_dropped() -> None:
    chain = OstBody()
    for _ in range(100_000):
        chain = OstBody(oa=chain)
    del chain


def test_copies_and_pickles() -> None:
    value = OstBody(oa=Obdo(oi=OstId(1, 2), size=1 << 63))
    for made in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert made == value
        assert made is not value
    assert copy.copy(value).oa is value.oa
    assert copy.deepcopy(value).oa is not value.oa


def test_bulk_data_stays_where_it_is() -> None:
    from labsim.wire.formats import FORMATS
    from labsim.wire.lustre_msg import PtlrpcBody

    body = PtlrpcBody(type=4711, version=3, opc=4)
    data = bytes(range(256)) * 16
    raw = Message(FORMATS["OST_BRW_WRITE"], {"short_io": data}, body).encode()
    for decode in (Message.decode, TWINS[2]):
        found = decode(raw, True, FORMATS["OST_BRW_WRITE"])["short_io"]
        assert isinstance(found, memoryview)
        assert found.obj is raw
        assert found == data


def fuzzer() -> Any:
    path = Path(__file__).with_name("wire_fuzz.py")
    spec = importlib.util.spec_from_file_location("wire_fuzz", path)
    assert spec is not None
    assert spec.loader is not None
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    return fuzz


@native
def test_mutations_of_frames_are_read_or_refused_alike() -> None:
    fuzz = fuzzer()
    assert fuzz.run(fuzz.Fuzzer(), seed=1, times=40_000) == 40_000


@native
def test_nothing_leaks_whatever_the_bytes() -> None:
    fuzz = fuzzer()
    made = fuzz.Fuzzer()
    fuzz.run(made, seed=2, times=10_000)  # fills what is kept once
    gc.collect()
    before = sys.getallocatedblocks()
    fuzz.run(made, seed=3, times=10_000)
    gc.collect()
    assert sys.getallocatedblocks() - before < 1000

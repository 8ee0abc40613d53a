"""Declaring structs: slots, defaults, copies, unions, tails, and what is refused."""

from typing import Annotated

import pytest

from labsim.base.errors import ProtocolError
from labsim.base.ids import Fid
from labsim.wire.constants import LDLM_EXTENT, LDLM_IBITS, LDLM_PLAIN, LNET_MSG_PUT
from labsim.wire.ldlm import (
    LdlmExtent,
    LdlmInodebits,
    LdlmLockDesc,
    LdlmRequest,
    LdlmResourceDesc,
)
from labsim.wire.lnet import LnetHdr, LnetPut
from labsim.wire.lov import LovMdsMdV1, LovOstDataV1, LovUserMdV1
from labsim.wire.mdt import MdtBody
from labsim.wire.ost import Obdo, OstBody
from labsim.wire.schema import REGISTERED, OstId, Wire, array, tail, u8, u32, u64


@pytest.fixture(autouse=True)
def _keep_the_registry() -> object:
    before = dict(REGISTERED)
    yield
    REGISTERED.clear()
    REGISTERED.update(before)


def declare(**given: object) -> type[Wire]:
    space = {"__annotations__": {"one": u32, "two": u64}, "__module__": __name__}
    return type(Wire)("Example", (Wire,), space, **given)  # type: ignore[return-value]


def test_a_wrong_size_is_refused_when_the_class_is_made() -> None:
    assert declare(struct="example", size=12).size == 12
    with pytest.raises(TypeError, match="example: fields take 12 bytes, 16 declared"):
        declare(struct="example", size=16)


def test_an_annotation_that_is_no_wire_type_is_refused() -> None:
    space = {"__annotations__": {"one": dict}}
    with pytest.raises(TypeError, match=r"example\.x_one"):
        type(Wire)("Example", (Wire,), space, struct="example", prefix="x_", size=4)


def test_a_field_called_size_and_the_size_of_the_class() -> None:
    body = MdtBody(size=77)
    assert (MdtBody.size, body.size) == (216, 77)
    assert OstBody.size == 208


def test_annotations_must_be_objects() -> None:
    with pytest.raises(TypeError, match="from __future__"):
        type(Wire)("Example", (Wire,), {"__annotations__": {"one": "u32"}}, struct="e", size=4)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(TypeError):
        MdtBody(colour=1)
    with pytest.raises(AttributeError):
        MdtBody().replace(colour=1)
    with pytest.raises(AttributeError):
        MdtBody().colour = 1


def test_each_object_gets_its_own_nested_structs() -> None:
    one, two = OstBody(), OstBody()
    one.oa.size = 5
    assert two.oa.size == 0
    assert one != two


def test_a_copy_differs_only_where_it_was_changed() -> None:
    body = MdtBody(fid1=Fid(1, 2, 3), size=4)
    copy = body.replace(size=5)
    assert (copy.fid1, copy.size, body.size) == (body.fid1, 5, 4)


def test_objects_of_other_classes_are_never_equal() -> None:
    assert MdtBody() != Obdo()
    assert MdtBody() != 0
    with pytest.raises(TypeError, match="unhashable"):
        hash(MdtBody())


def test_short_arrays_are_filled_up_with_zeros() -> None:
    assert LdlmResourceDesc(name=[7]).name == (7, 0, 0, 0)
    assert LdlmRequest(lock_handle=[5]).lock_handle == (5, 0)
    with pytest.raises(ValueError, match="too many values"):
        LdlmResourceDesc(name=(1, 2, 3, 4, 5)).pack()


def test_the_resource_type_chooses_the_policy() -> None:
    for kind, policy in (
        (LDLM_EXTENT, LdlmExtent(start=1, end=2)),
        (LDLM_IBITS, LdlmInodebits(bits=3)),
        (LDLM_PLAIN, None),
        (0, None),
    ):
        desc = LdlmLockDesc(resource=LdlmResourceDesc(type=kind), policy_data=policy)
        assert LdlmLockDesc.unpack(desc.pack()) == desc
    raw = LdlmLockDesc(resource=LdlmResourceDesc(type=99)).pack()
    with pytest.raises(ProtocolError, match=r"ldlm_lock_desc.resource.type = 99.*l_policy_data"):
        LdlmLockDesc.unpack(raw)


def test_the_message_type_chooses_the_member() -> None:
    header = LnetHdr(type=LNET_MSG_PUT, msg=LnetPut(match_bits=16, ptl_index=12))
    assert LnetHdr.unpack(header.pack()).msg.ptl_index == 12


def test_a_tail_takes_the_rest_or_refuses_it() -> None:
    layout = LovMdsMdV1(objects=[LovOstDataV1(ost_oi=OstId(33, 0), ost_idx=1)])
    raw = layout.pack()
    assert LovMdsMdV1.unpack(raw) == layout
    assert len(raw) == layout.packed_size() == 56
    with pytest.raises(ProtocolError, match=r"lmm_objects at byte 32: 25 bytes are no multiple"):
        LovMdsMdV1.unpack(raw + b"\0")


def test_a_counted_tail_must_be_there() -> None:
    class Counted(Wire, struct="counted", size=4):
        count: u32
        values: Annotated[tuple[int, ...], tail(u32, "count")]

    raw = Counted(count=3, values=(1, 2, 3)).pack()
    assert Counted.unpack(raw + b"more").values == (1, 2, 3)
    with pytest.raises(ProtocolError, match="3 of 4 bytes announced, 11 bytes are left"):
        Counted.unpack(raw[:-1])


def test_an_ost_id_is_a_fid_in_the_same_bytes() -> None:
    fid = Fid(0x200000401, 5, 7)
    assert OstId.of_fid(fid).fid == fid
    body = OstBody(oa=Obdo(oi=OstId.of_fid(fid)))
    assert body.pack()[8:24] == MdtBody(fid1=fid).pack()[:16]


def test_second_names_read_and_write_the_same_bytes() -> None:
    layout = LovUserMdV1(stripe_offset=3)
    assert layout.layout_gen == 3
    layout.layout_gen = 4
    assert layout.stripe_offset == 4
    assert Obdo(nlink=9).cksum == 9


def test_text_keeps_bytes_that_are_no_utf_8() -> None:
    from labsim.wire.lustre_msg import PtlrpcBody

    name = b"dd.\xff0".decode("utf-8", "surrogateescape")
    assert PtlrpcBody.unpack(PtlrpcBody(jobid=name).pack()).jobid == name


def test_small_integers_are_packed_without_gaps() -> None:
    class Padded(Wire, struct="padded", size=8):
        flag: u8
        rest: Annotated[tuple[int, ...], array(u8, 7)]

    assert Padded(flag=1, rest=(2,)).pack() == b"\1\2\0\0\0\0\0\0"

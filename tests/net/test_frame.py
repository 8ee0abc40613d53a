"""The bytes of LNet over TCP: recorded ones, random ones, broken ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labsim.base.errors import ProtocolError
from labsim.base.ids import Nid
from labsim.net.frame import decode, encode_header, payload_length
from labsim.net.lnet import ACK, GET, HEADER_SIZE, LNET_MTU, NO_HANDLE, PUT, REPLY, Packet
from labsim.wire.lnet import LnetHdr

CLIENT, MDS, OSS = (Nid.parse(f"192.168.1.{n}@tcp") for n in (10, 20, 30))
PREFIX = "c1" + "00" * 23

RECORDED = {
    "request": (
        Packet(PUT, CLIENT, MDS, 12, 0x1676000000000010, 5, bytes(0x208), 0x208),
        "1401a8c0000002000a01a8c00000020039300000393000000100000008020000"
        + "ff" * 16
        + "10000000000076160000000000000000" + "0c00000005000000",
    ),
    "reply that wants an ACK": (
        Packet(PUT, MDS, CLIENT, 10, 0x1676000000000010, 2, bytes(0x180), 0x180,
               handle=0x4D << 64 | 5),
        "0a01a8c0000002001401a8c00000020039300000393000000100000080010000"
        "4d000000000000000500000000000000"
        "10000000000076160000000000000000" "0a00000002000000",
    ),
    "ack": (
        Packet(ACK, CLIENT, MDS, 0, 0x1676000000000010, 0, b"", 0x180, handle=0x4D << 64 | 5),
        "1401a8c0000002000a01a8c00000020039300000393000000000000000000000"
        "4d000000000000000500000000000000" "1000000000007616" "80010000" + "00" * 12,
    ),
    "get": (
        Packet(GET, OSS, CLIENT, 8, 0x1676000000000050, 0, b"", 0x1000, handle=0x17A << 64 | 0x99),
        "0a01a8c0000002001e01a8c00000020039300000393000000200000000000000"
        "7a010000000000009900000000000000" "5000000000007616" "08000000" "00000000" "00100000"
        "00000000",
    ),
    "reply to a get": (
        Packet(REPLY, CLIENT, OSS, 0, 0, 0, b"A" * 0x1000, 0x1000, handle=0x17A << 64 | 0x99),
        "1e01a8c0000002000a01a8c00000020039300000393000000300000000100000"
        "7a010000000000009900000000000000" + "00" * 24,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDED)
def test_headers_are_those_of_a_real_cluster(name):
    packet, text = RECORDED[name]
    header = bytes.fromhex(PREFIX + text)
    assert len(header) == HEADER_SIZE
    assert encode_header(packet) == header
    assert payload_length(header) == len(packet.payload)
    assert decode(header, packet.payload) == packet


u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
handles = st.integers(0, 2**128 - 1)
nids = st.sampled_from([CLIENT, MDS, OSS])
portals = st.integers(0, 63)
payloads = st.binary(max_size=200)


@st.composite
def packets(draw):
    kind = draw(st.sampled_from([ACK, PUT, GET, REPLY]))
    src, dst, handle = draw(nids), draw(nids), draw(handles)
    if kind == PUT:
        payload = draw(payloads)
        return Packet(kind, src, dst, draw(portals), draw(u64), draw(u32), payload, len(payload),
                      draw(u64), handle)  # fmt: skip
    if kind == REPLY:
        payload = draw(payloads)
        return Packet(kind, src, dst, 0, 0, 0, payload, len(payload), 0, handle)
    length = draw(st.integers(0, LNET_MTU))
    if kind == GET:
        return Packet(kind, src, dst, draw(portals), draw(u64), draw(u32), b"", length, 0, handle)
    return Packet(kind, src, dst, 0, draw(u64), 0, b"", length, 0, handle)


@given(packets())
def test_what_was_encoded_decodes_to_the_same(packet):
    header = encode_header(packet)
    assert payload_length(header) == len(packet.payload)
    assert decode(header, packet.payload) == packet


@given(packets())
def test_the_declared_wire_structs_agree(packet):
    header = encode_header(packet)
    hdr = LnetHdr.unpack(header[24:])
    assert (hdr.src_nid, hdr.dest_nid, hdr.type) == (packet.src, packet.dst, packet.kind)
    assert hdr.payload_length == len(packet.payload)
    assert hdr.pack() == header[24:]


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_are_a_packet(data):
    try:
        length = payload_length(data)
        packet = decode(data, data[HEADER_SIZE:])
    except ProtocolError:
        return
    assert length == len(packet.payload)


@given(packets(), st.integers(0, HEADER_SIZE - 1), st.integers(0, 255))
def test_one_wrong_byte_never_harms(packet, at, value):
    header = bytearray(encode_header(packet))
    header[at] = value
    try:
        payload_length(header)
        decode(header, packet.payload)
    except ProtocolError:
        pass


def broken(at, value, packet=RECORDED["request"][0]):
    header = bytearray(encode_header(packet))
    header[at : at + len(value)] = value
    return header


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"", "header needs 96"),
        (bytes(95), "header needs 96"),
        (broken(0, b"\xc0"), "ksm_type at 0: 0xc0"),
        (broken(4, b"\x01"), "ksm_csum at 4"),
        (broken(40, b"\x00"), "dest_pid, src_pid at 40"),
        (broken(48, b"\x04"), "type at 48: 4"),
        (broken(52, b"\xff\xff\xff\xff"), "payload_length at 52: 4294967295"),
        (broken(48, b"\x02"), "payload_length at 52"),
    ],
)
def test_refusals_name_the_field(header, words):
    with pytest.raises(ProtocolError, match=words):
        payload_length(header)


def test_a_payload_of_another_length_is_refused():
    packet, _ = RECORDED["request"]
    with pytest.raises(ProtocolError, match="520, but 3 came"):
        decode(encode_header(packet), b"abc")


def test_a_portal_that_does_not_exist_is_refused():
    packet, _ = RECORDED["request"]
    header = bytearray(encode_header(packet))
    header[88] = 64
    with pytest.raises(ProtocolError, match="ptl_index: 64"):
        decode(header, packet.payload)


def test_a_greedy_get_is_refused():
    packet, _ = RECORDED["get"]
    with pytest.raises(ProtocolError, match="sink_length"):
        decode(encode_header(packet._replace(length=LNET_MTU + 1)), b"")


def test_no_ack_is_all_ones():
    packet, _ = RECORDED["request"]
    assert packet.handle == NO_HANDLE
    assert encode_header(packet)[56:72] == b"\xff" * 16

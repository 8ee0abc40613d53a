"""The bytes of LNet over TCP: socklnd's message prefix, the LNet header, the payload.

Does not know sockets. Stands for `ksock_msg` (socklnd.h: type, checksum, two zero-copy cookies) and
`lnet_hdr` (lnet-types.h: NIDs, PIDs, type, payload length, and one of four 40-byte tails). Both
are little endian here, as every host that runs Lustre today sends them. Decoding trusts nothing:
whatever does not fit is a ProtocolError that says which field was wrong.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from labsim.base.errors import ProtocolError
from labsim.base.ids import Nid
from labsim.base.payload import Payload
from labsim.net.lnet import ACK, GET, HEADER_SIZE, LNET_MTU, PUT, REPLY, Packet
from labsim.wire.lnet_flags import KSOCK_MSG_LNET, LNET_PID_LUSTRE

MAX_PORTALS = 64

HEADER = Struct("<IIQQQQIIII")
"""ksm_type, csum, two cookies; dest_nid, src_nid, dest_pid, src_pid, type, payload_length."""
PUT_TAIL = Struct("<QQQQII")
"""ack_wmd (interface and object cookie), match_bits, hdr_data, ptl_index, offset."""
GET_TAIL = Struct("<QQQIII4x")
"""return_wmd, match_bits, ptl_index, src_offset, sink_length."""
ACK_TAIL = Struct("<QQQI12x")
"""dst_wmd, match_bits, mlength."""
REPLY_TAIL = Struct("<QQ24x")
"""dst_wmd."""

_COOKIE = (1 << 64) - 1


def encode_header(packet: Packet) -> bytes:
    """The 96 bytes in front of a packet's payload."""
    kind = packet.kind
    length = packet.length if kind in (PUT, REPLY) else 0
    pid = LNET_PID_LUSTRE
    head = HEADER.pack(KSOCK_MSG_LNET, 0, 0, 0, packet.dst, packet.src, pid, pid, kind, length)
    interface, handle = packet.handle >> 64, packet.handle & _COOKIE
    if kind == PUT:
        portal, offset = packet.portal, packet.offset
        return head + PUT_TAIL.pack(
            interface, handle, packet.match, packet.hdr_data, portal, offset
        )
    if kind == GET:
        return head + GET_TAIL.pack(
            interface, handle, packet.match, packet.portal, packet.offset, packet.length
        )
    if kind == ACK:
        return head + ACK_TAIL.pack(interface, handle, packet.match, packet.length)
    return head + REPLY_TAIL.pack(interface, handle)


def encode(packet: Packet) -> tuple[bytes, Payload]:
    """The header, and the payload that follows it: bytes or patterns, nothing for ACK and GET."""
    header = encode_header(packet)
    if packet.kind in (ACK, GET) or not packet.length:
        return header, b""
    payload = packet.payload
    make = getattr(payload, "encode", None)
    data: Payload = make() if make is not None else payload
    assert len(data) == packet.length, f"{packet} has {len(data)} B"
    return header, data


def payload_length(frame: Any) -> int:
    """Bytes of payload that must follow the 96 of a header; checks all that frames share."""
    if len(frame) < HEADER_SIZE:
        raise ProtocolError(f"frame of {len(frame)} bytes: header needs {HEADER_SIZE}")
    kind, csum, _, _, _, _, dst_pid, src_pid, message, length = HEADER.unpack_from(frame)
    if kind != KSOCK_MSG_LNET:
        raise ProtocolError(f"ksock_msg.ksm_type at 0: {kind:#x} is not {KSOCK_MSG_LNET:#x}")
    if csum:
        raise ProtocolError(f"ksock_msg.ksm_csum at 4: {csum:#x}, checksums are off")
    if dst_pid != LNET_PID_LUSTRE or src_pid != LNET_PID_LUSTRE:
        raise ProtocolError(f"lnet_hdr.dest_pid, src_pid at 40: {dst_pid}, {src_pid}")
    if message > REPLY:
        raise ProtocolError(f"lnet_hdr.type at 48: {message}")
    if length > LNET_MTU or (length and message in (ACK, GET)):
        raise ProtocolError(f"lnet_hdr.payload_length at 52: {length} in a message {message}")
    return int(length)


def decode(frame: Any, payload: Any) -> Packet:
    """The packet of a header that `payload_length` has passed, and of its payload."""
    fields = HEADER.unpack_from(frame)
    dst, src, message, length = Nid(fields[4]), Nid(fields[5]), fields[8], fields[9]
    if len(payload) != length:
        raise ProtocolError(f"lnet_hdr.payload_length at 52: {length}, but {len(payload)} came")
    portal = match = offset = hdr_data = 0
    if message == PUT:
        interface, handle, match, hdr_data, portal, offset = PUT_TAIL.unpack_from(
            frame, HEADER.size
        )
    elif message == GET:
        interface, handle, match, portal, offset, length = GET_TAIL.unpack_from(frame, HEADER.size)
        if length > LNET_MTU:
            raise ProtocolError(f"lnet_hdr.msg.get.sink_length at 88: {length}")
    elif message == ACK:
        interface, handle, match, length = ACK_TAIL.unpack_from(frame, HEADER.size)
    else:
        interface, handle = REPLY_TAIL.unpack_from(frame, HEADER.size)
    if portal >= MAX_PORTALS:
        raise ProtocolError(f"lnet_hdr.msg.ptl_index: {portal} of {MAX_PORTALS}")
    handle |= interface << 64
    return Packet(message, src, dst, portal, match, offset, payload, length, hdr_data, handle)

"""LNet messages and their frames on a TCP socket.

Does not know sockets or match entries. Stands for lnet_hdr (lnet-types.h) and socklnd's
ksock_msg (socklnd.h).
"""

from typing import Annotated, TypeAlias

from labsim.wire.lnet_flags import (
    LNET_MSG_ACK,
    LNET_MSG_GET,
    LNET_MSG_HELLO,
    LNET_MSG_PUT,
    LNET_MSG_REPLY,
)
from labsim.wire.schema import Union, Wire, also, array, named, tail, u16, u32, u64


class LnetHandleWire(Wire, struct="lnet_handle_wire", prefix="wh_", size=16):
    """Names a memory descriptor of the peer, to be handed back."""

    interface_cookie: u64
    object_cookie: u64


class LnetAck(Wire, struct="lnet_ack", size=28):
    """Message: a PUT arrived."""

    dst_wmd: LnetHandleWire
    match_bits: u64
    mlength: u32


class LnetPut(Wire, struct="lnet_put", size=40):
    """Message: data to be put where the match bits say."""

    ack_wmd: LnetHandleWire
    match_bits: u64
    hdr_data: u64
    ptl_index: u32
    offset: u32


class LnetGet(Wire, struct="lnet_get", size=36):
    """Message: asks for the data the match bits name."""

    return_wmd: LnetHandleWire
    match_bits: u64
    ptl_index: u32
    src_offset: u32
    sink_length: u32


class LnetReply(Wire, struct="lnet_reply", size=16):
    """Message: the data a GET asked for."""

    dst_wmd: LnetHandleWire


class LnetHello(Wire, struct="lnet_hello", size=12):
    """Message: the first one of a connection."""

    incarnation: u64
    type: u32


LNET_MSG = Union("", 40, ack=LnetAck, put=LnetPut, get=LnetGet, reply=LnetReply, hello=LnetHello)
"""The part of a header that differs by message type."""

MEMBER_OF_TYPE = {
    LNET_MSG_ACK: "ack",
    LNET_MSG_PUT: "put",
    LNET_MSG_GET: "get",
    LNET_MSG_REPLY: "reply",
    LNET_MSG_HELLO: "hello",
}

LnetMsg: TypeAlias = LnetAck | LnetPut | LnetGet | LnetReply | LnetHello


class LnetHdr(Wire, struct="lnet_hdr", size=72):
    """The head of every LNet message."""

    dest_nid: u64
    src_nid: u64
    dest_pid: u32
    src_pid: u32
    type: u32
    payload_length: u32
    msg: Annotated[LnetMsg, LNET_MSG.by("type", MEMBER_OF_TYPE)]


class LnetMagicversion(Wire, struct="lnet_magicversion", size=8):
    """A protocol and its version, in place of a NID."""

    magic: u32
    version_major: u16
    version_minor: u16


class LnetAcceptorConnreq(Wire, struct="lnet_acceptor_connreq", prefix="acr_", size=16):
    """The first bytes of a connection: which NID is wanted."""

    magic: u32
    version: u32
    nid: u64


class LnetNiStatus(Wire, struct="lnet_ni_status", prefix="ns_", size=16):
    """One interface of a node, and whether it is up."""

    nid: u64
    status: u32
    unused: u32


class LnetPingInfo(Wire, struct="lnet_ping_info", prefix="pi_", size=16):
    """What a node answers to an LNet ping."""

    magic: u32
    features: u32
    pid: u32
    nnis: u32
    ni: Annotated[tuple[LnetNiStatus, ...], tail(LnetNiStatus, "nnis")]


class LnetProcessIdPacked(Wire, struct="lnet_process_id_packed", size=12):
    """A process of a node."""

    nid: u64
    pid: u32


class KsockHelloMsg(Wire, struct="ksock_hello_msg", prefix="kshm_", size=56):
    """What both sides of a new socket say first."""

    magic: u32
    version: u32
    src_nid: u64
    dst_nid: u64
    src_pid: u32
    dst_pid: u32
    src_incarnation: u64
    dst_incarnation: u64
    ctype: u32
    nips: u32
    ips: Annotated[tuple[int, ...], tail(u32, "nips")]


class KsockLnetMsg(Wire, struct="ksock_lnet_msg", prefix="ksnm_", size=72):
    """The LNet header inside a socket frame."""

    hdr: LnetHdr


class KsockMsg(Wire, struct="ksock_msg", prefix="ksm_", size=96):
    """The head of a socket frame: an LNet message, or only zero-copy acks."""

    type: u32
    csum: u32
    zc_cookies: Annotated[tuple[int, ...], array(u64, 2)]
    lnetmsg: Annotated[KsockLnetMsg, named("ksm_u"), also("ksm_u.lnetmsg", 72)]

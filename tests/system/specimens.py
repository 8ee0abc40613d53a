"""One request and one reply of every format, as plain as they can be, in a capture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labsim.base.ids import Fid, Nid
from labsim.net import frame
from labsim.net.conversations import Conversations
from labsim.net.lnet import PUT, Packet
from labsim.net.pcap import PcapFile
from labsim.storage.llog import pack_record
from labsim.wire import buffers as b
from labsim.wire import formats, mds_flags
from labsim.wire import opcodes as op
from labsim.wire.constants import PTL_RPC_MSG_REPLY, PTL_RPC_MSG_REQUEST
from labsim.wire.formats import FORMATS, Format
from labsim.wire.ldlm import LdlmIntent
from labsim.wire.llog import LlogLogHdr, LlogRecHdr, LlogRecTail
from labsim.wire.llog_flags import LLOG_HDR_MAGIC, LLOG_PAD_MAGIC
from labsim.wire.lustre_msg import ObdConnectData, PtlrpcBody
from labsim.wire.message import Message
from labsim.wire.obd_md import LADVISE_MAGIC
from labsim.wire.ost import LadviseHdr, LlFiemapInfoKey

CLIENT, SERVER = Nid.parse("10.1.0.1@tcp"), Nid.parse("10.0.0.1@tcp")
INTENT_OF = {fmt.name: code for code, fmt in formats._OF_INTENT.items()}
REINT_OF = {fmt.name: code for code, fmt in formats._OF_REINT.items()}
for _kind in ("CREATE", "CREATE_SYM", "CREATE_SLAVE"):
    REINT_OF[f"MDS_REINT_{_kind}"] = mds_flags.REINT_CREATE
REINT_OF["MDS_REINT_UNLINK"] = mds_flags.REINT_UNLINK
OPCODE_OF = {op.opcode_name(code): code for code in op.ROUTES}
OPCODE_OF |= {
    "OBD_SET_INFO": op.OST_SET_INFO, "SEC_CTX": op.SEC_CTX_INIT, "CONNECT": op.MGS_CONNECT,
    "OST_BRW_READ": op.OST_READ, "OST_BRW_WRITE": op.OST_WRITE, "MDS_STATFS_NEW": op.MDS_STATFS,
    "LDLM_ENQUEUE_LVB": op.LDLM_ENQUEUE, "LDLM_GL_CALLBACK_DESC": op.LDLM_GL_CALLBACK,
    "MDS_CLOSE_INTENT": op.MDS_CLOSE, "OST_SET_GRANT_INFO": op.OST_SET_INFO,
    "OST_GET_INFO_LAST_ID": op.OST_GET_INFO, "OST_GET_INFO_LAST_FID": op.OST_GET_INFO,
    "OST_GET_INFO_FIEMAP": op.OST_GET_INFO, "OST_SET_INFO_LAST_FID": op.OST_SET_INFO,
}  # fmt: skip
KEYS = {
    "OBD_SET_INFO": b"evict_by_nid\0", "OST_SET_GRANT_INFO": b"grant_shrink",
    "OST_GET_INFO": b"max_easize\0", "OST_GET_INFO_LAST_ID": b"last_id\0",
    "OST_GET_INFO_LAST_FID": b"last_fid\0", "OST_SET_INFO_LAST_FID": b"next_id\0",
    "MDS_GET_INFO": b"fid2path\0",
}  # fmt: skip
BYTES = {"dlm_lvb": bytes(56), "short_io": bytes(100), "setinfo_val": bytes(4), "acl": bytes(4)}
EADATA = {
    "LLOG_ORIGIN_HANDLE_NEXT_BLOCK": pack_record(1, LLOG_PAD_MAGIC, bytes(128)) + bytes(8040),
    "MDS_REINT_MIGRATE": bytes(16),
}
STRUCTS = {
    "connect_data": ObdConnectData(version=2 << 24 | 12 << 16),
    "ost_ladvise_hdr": LadviseHdr(magic=LADVISE_MAGIC, count=1),
    "fiemap_key": LlFiemapInfoKey(name="fiemap"),
    "llog_log_hdr": LlogLogHdr(
        hdr=LlogRecHdr(len=8192, type=LLOG_HDR_MAGIC), tail=LlogRecTail(len=8192)
    ),
}
UNSENT = ("MDS_REINT", "LDLM_INTENT")
"""Formats that stand for others until the record or the intent is known."""


def opcode_of(name: str) -> int:
    """An opcode whose RPCs have that format."""
    if name in OPCODE_OF:
        return OPCODE_OF[name]
    if name.startswith("LDLM_INTENT"):
        return op.LDLM_ENQUEUE
    return op.MDS_REINT if name.startswith("MDS_REINT") else op.LDLM_BL_CALLBACK


def value(one: Any, name: str) -> Any:
    """Something that may stand in a buffer of a message of that format."""
    match one:
        case b.One():
            if one.key == "ldlm_intent":
                return LdlmIntent(opc=INTENT_OF[name])
            return STRUCTS.get(one.key) or one.kind()
        case b.Several():
            return [one.kind()]
        case b.Number():
            return 1
        case b.Numbers():
            return [1]
        case b.Name():
            return Fid(0x200000401, 1, 0) if one.kind is Fid else one.kind(1, 0)
        case b.Text():
            return "name"
        case b.Uuid():
            return "lustre-MDT0000_UUID"
        case b.Bytes():
            if one.key.endswith("info_key"):
                return KEYS.get(name)
            return EADATA.get(name) if one.key == "eadata" else BYTES.get(one.key)
        case b.Reint():
            code = REINT_OF.get(name, mds_flags.REINT_OPEN if "INTENT" in name else 1)
            record = b.RECORD_OF_OP[code](opcode=code)
            if name == "MDS_REINT_CREATE_SYM":
                record.mode = 0o120777
            return record
    raise AssertionError(one)


def message(fmt: Format, request: bool) -> Message:
    """The message, with every buffer that is not free-form."""
    code = opcode_of(fmt.name)
    kind = PTL_RPC_MSG_REQUEST if request else PTL_RPC_MSG_REPLY
    body = PtlrpcBody(type=kind, version=op.pb_version(code) if request else 3, opc=code)
    layout = fmt.request if request else fmt.reply
    fields = {one.key: value(one, fmt.name) for one in layout}
    return Message(fmt, fields, body, request=request)


def write(path: Path) -> list[str]:
    """Capture all of them; the names of their formats in order."""
    out = PcapFile(str(path))
    conversations = Conversations(out)
    sent = [fmt for fmt in FORMATS.values() if fmt.name not in UNSENT]
    for number, fmt in enumerate(sent, start=1):
        route = op.ROUTES[opcode_of(fmt.name)]
        portal = route.request_portal or op.MDS_REQUEST_PORTAL
        _put(conversations, (CLIENT, SERVER), portal, number, message(fmt, True).encode())
        portal = route.reply_portal or op.MDC_REPLY_PORTAL
        _put(conversations, (SERVER, CLIENT), portal, number, message(fmt, False).encode())
    for portal in (op.OST_BULK_PORTAL, op.MDS_BULK_PORTAL, op.MGS_BULK_PORTAL):
        _put(conversations, (SERVER, CLIENT), portal, 0, b"data")
    out.close()
    return [fmt.name for fmt in sent]


def _put(
    conversations: Conversations, way: tuple[Nid, Nid], portal: int, number: int, payload: bytes
) -> None:
    packet = Packet(PUT, *way, portal, number * 16, 0, payload, len(payload))
    conversations.sent(number * 1000, packet, *frame.encode(packet))


def write_wrong(path: Path, name: str) -> None:
    """Capture one message that is not as it must be."""
    out = PcapFile(str(path))
    way, portal = (CLIENT, SERVER), op.MDS_REQUEST_PORTAL
    payload = bytearray(message(FORMATS["MDS_CONNECT"], True).encode())
    if name == "cut off":
        payload = payload[:300]
    elif name == "short names":
        del payload[56 + 184 + 24 : 56 + 184 + 40]
        payload[36] = 24
    elif name == "reply without request":
        way, portal = (SERVER, CLIENT), op.MDC_REPLY_PORTAL
        payload = bytearray(message(FORMATS["MDS_GETATTR"], False).encode())
    elif name == "no such opcode":
        payload[56 + 16] = 99
    _put(Conversations(out), way, portal, 1, bytes(payload))
    out.close()

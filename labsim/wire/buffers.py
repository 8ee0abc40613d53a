"""The kinds of buffer a message is made of, and every buffer by name.

Does not know which message carries which; `formats` does. Stands for the req_msg_fields of
ptlrpc/layout.c (RMF_*); a buffer's key is its name there in small letters, without RMF_.
"""

from __future__ import annotations

import struct
from typing import Any, Protocol

from labsim.base.errors import ProtocolError
from labsim.base.ids import Fid
from labsim.base.payload import Chain, Fill, tobytes
from labsim.pure.codec import bytes_of, text_of
from labsim.pure.messages import Part, Plan
from labsim.wire.dirs import IdxInfo
from labsim.wire.hsm import (
    HsmCurrentAction,
    HsmProgressKernel,
    HsmRequest,
    HsmStateSet,
    HsmUserItem,
    HsmUserState,
)
from labsim.wire.ldlm import LdlmGlLquotaDesc, LdlmIntent, LdlmReply, LdlmRequest
from labsim.wire.lfsck import LfsckReply, LfsckRequest
from labsim.wire.llog import LlogdBody, LlogdConnBody, LlogLogHdr
from labsim.wire.lu import LuSeqRange
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.mds_flags import (
    REINT_CREATE,
    REINT_LINK,
    REINT_MIGRATE,
    REINT_OPEN,
    REINT_RENAME,
    REINT_RESYNC,
    REINT_RMENTRY,
    REINT_SETATTR,
    REINT_SETXATTR,
    REINT_UNLINK,
)
from labsim.wire.mdt import (
    CloseData,
    LayoutIntent,
    MdcSwapLayouts,
    MdtBody,
    MdtIoepoch,
    MdtRecCreate,
    MdtRecLink,
    MdtRecRename,
    MdtRecResync,
    MdtRecSetattr,
    MdtRecSetxattr,
    MdtRecUnlink,
)
from labsim.wire.mgs import MgsConfigBody, MgsConfigRes, MgsSendParam, MgsTargetInfo
from labsim.wire.ost import (
    LadviseHdr,
    LlFiemapInfoKey,
    LuLadvise,
    NiobufRemote,
    ObdIoobj,
    ObdStatfs,
    OstBody,
)
from labsim.wire.quota import ObdQuotactl, QuotaBody
from labsim.wire.schema import OstId, Wire
from labsim.wire.update import OutUpdateBuffer

UUID_SIZE = 39
"""Bytes of a uuid buffer: the 40 of struct obd_uuid less its last NUL."""

Raw = bytes | memoryview


class Buffer(Protocol):
    """One buffer of a message. `measure` raises TypeError where a value is of the wrong kind."""

    key: str
    plan: Plan

    def measure(self, value: Any) -> int:
        """Bytes before padding."""

    def encode(self, value: Any) -> bytes:
        """The bytes before padding."""

    def decode(self, raw: Raw) -> Any:
        """The value; ProtocolError where it cannot be one. Never called with no bytes."""


def _wrong(key: str, value: Any, wanted: str) -> TypeError:
    return TypeError(f"{key}: {value!r} is no {wanted}")


def _exact(key: str, raw: Raw, size: int) -> None:
    if len(raw) != size:
        raise ProtocolError(f"{len(raw)} bytes instead of {size}")


class One:
    """Exactly one struct."""

    def __init__(self, key: str, kind: type[Wire]) -> None:
        self.key = key
        self.kind = kind
        self.bytes = kind.table.size
        self.open = kind.table.tail is not None and kind.table.tail.length > 0
        self.plan = Plan(Part.ONE, key, self.bytes, kind.table, open=self.open)

    def measure(self, value: Any) -> int:
        """Its size; with the elements that follow where the struct is open-ended."""
        if value.__class__ is not self.kind:
            raise _wrong(self.key, value, self.kind.__name__)
        return int(value.packed_size()) if self.open else self.bytes

    def encode(self, value: Any) -> bytes:
        """Pack it."""
        return bytes(value.pack())

    def decode(self, raw: Raw) -> Any:
        """Unpack it; the buffer must hold nothing else."""
        if not self.open:
            _exact(self.key, raw, self.bytes)
        return self.kind.unpack(raw)


class Several:
    """An array of structs, as many as fit; a list."""

    def __init__(self, key: str, kind: type[Wire]) -> None:
        self.key = key
        self.kind = kind
        self.bytes = kind.table.size
        self.plan = Plan(Part.SEVERAL, key, self.bytes, kind.table)

    def measure(self, value: Any) -> int:
        """All of them."""
        for one in value:
            if one.__class__ is not self.kind:
                raise _wrong(self.key, one, self.kind.__name__)
        return len(value) * self.bytes

    def encode(self, value: Any) -> bytes:
        """Pack one after the other."""
        return b"".join([one.pack() for one in value])

    def decode(self, raw: Raw) -> Any:
        """Unpack them; ProtocolError for a piece of one."""
        if len(raw) % self.bytes:
            raise ProtocolError(f"{len(raw)} bytes are no multiple of {self.bytes}")
        return [self.kind.unpack(raw, at) for at in range(0, len(raw), self.bytes)]


class Number:
    """One integer."""

    def __init__(self, key: str, code: str) -> None:
        self.key = key
        self.layout = struct.Struct("<" + code)
        self.plan = Plan(Part.NUMBER, key, self.layout.size, code=code)

    def measure(self, value: Any) -> int:
        """Four or eight."""
        if not isinstance(value, int):
            raise _wrong(self.key, value, "integer")
        return self.layout.size

    def encode(self, value: Any) -> bytes:
        """Pack it."""
        return self.layout.pack(value)

    def decode(self, raw: Raw) -> Any:
        """Unpack it."""
        _exact(self.key, raw, self.layout.size)
        return self.layout.unpack(raw)[0]


class Numbers:
    """An array of integers, as many as fit; a list."""

    def __init__(self, key: str, code: str) -> None:
        self.key = key
        self.code = code
        self.bytes = struct.calcsize("<" + code)
        self.plan = Plan(Part.NUMBERS, key, self.bytes, code=code)

    def measure(self, value: Any) -> int:
        """All of them."""
        return len(value) * self.bytes

    def encode(self, value: Any) -> bytes:
        """Pack one after the other."""
        return struct.pack(f"<{len(value)}{self.code}", *value)

    def decode(self, raw: Raw) -> Any:
        """Unpack them; ProtocolError for a piece of one."""
        count, odd = divmod(len(raw), self.bytes)
        if odd:
            raise ProtocolError(f"{len(raw)} bytes are no multiple of {self.bytes}")
        return list(struct.unpack(f"<{count}{self.code}", raw))


class Name:
    """A named tuple of integers: a FID, an object id."""

    def __init__(self, key: str, kind: Any, code: str) -> None:
        self.key = key
        self.kind = kind
        self.layout = struct.Struct("<" + code)
        self.plan = Plan(Part.NAME, key, self.layout.size, code=code, make=kind)

    def measure(self, value: Any) -> int:
        """Sixteen."""
        if not isinstance(value, self.kind):
            raise _wrong(self.key, value, self.kind.__name__)
        return self.layout.size

    def encode(self, value: Any) -> bytes:
        """Pack it."""
        return self.layout.pack(*value)

    def decode(self, raw: Raw) -> Any:
        """Unpack it."""
        _exact(self.key, raw, self.layout.size)
        return self.kind(*self.layout.unpack(raw))


class Text:
    """A string that ends with its only NUL."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.plan = Plan(Part.STRING, key)

    def measure(self, value: Any) -> int:
        """Its bytes and the NUL."""
        if not isinstance(value, str):
            raise _wrong(self.key, value, "string")
        return len(value.encode("utf-8", "surrogateescape")) + 1

    def encode(self, value: Any) -> bytes:
        """Its bytes and the NUL; ValueError where it has one inside."""
        raw = bytes(value.encode("utf-8", "surrogateescape"))
        if b"\0" in raw:
            raise ValueError(f"{self.key}: {value!r} holds a NUL")
        return raw + b"\0"

    def decode(self, raw: Raw) -> Any:
        """The string; ProtocolError where the NUL is missing or not at the end."""
        given = bytes(raw)
        if given.find(b"\0") != len(given) - 1:
            raise ProtocolError("a string that does not end with its only NUL")
        return given[:-1].decode("utf-8", "surrogateescape")


class Uuid:
    """A string in a buffer of fixed length, filled up with zeros."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.plan = Plan(Part.UUID, key, UUID_SIZE)

    def measure(self, value: Any) -> int:
        """Always the same."""
        if not isinstance(value, str):
            raise _wrong(self.key, value, "string")
        return UUID_SIZE

    def encode(self, value: Any) -> bytes:
        """Its bytes and zeros; ValueError where it is too long."""
        return bytes_of(value, UUID_SIZE, self.key).ljust(UUID_SIZE, b"\0")

    def decode(self, raw: Raw) -> Any:
        """The string up to its first NUL."""
        _exact(self.key, raw, UUID_SIZE)
        return text_of(bytes(raw))


class Bytes:
    """Any bytes, or a payload that stands for them. With `view` they are read without a copy."""

    def __init__(self, key: str, view: bool = False) -> None:
        self.key = key
        self.view = view
        self.plan = Plan(Part.BYTES, key, view=view)

    def measure(self, value: Any) -> int:
        """How many."""
        if not isinstance(value, (bytes, bytearray, memoryview, Fill, Chain)):
            raise _wrong(self.key, value, "bytes")
        return len(value)

    def encode(self, value: Any) -> bytes:
        """The payload's bytes."""
        return tobytes(value)

    def decode(self, raw: Raw) -> Any:
        """A copy, or the bytes where they lie."""
        return raw if self.view else bytes(raw)


RECORD_OF_OP: dict[int, type[Wire]] = {
    REINT_SETATTR: MdtRecSetattr,
    REINT_CREATE: MdtRecCreate,
    REINT_LINK: MdtRecLink,
    REINT_UNLINK: MdtRecUnlink,
    REINT_RENAME: MdtRecRename,
    REINT_OPEN: MdtRecCreate,
    REINT_SETXATTR: MdtRecSetxattr,
    REINT_RMENTRY: MdtRecUnlink,
    REINT_MIGRATE: MdtRecRename,
    REINT_RESYNC: MdtRecResync,
}
"""The record of each MDS_REINT operation."""


class Reint:
    """A reint record: which struct, its first word says."""

    size = 136

    def __init__(self, key: str) -> None:
        self.key = key
        records = {opcode: record.table for opcode, record in RECORD_OF_OP.items()}
        self.plan = Plan(Part.REINT, key, self.size, records=records)

    def measure(self, value: Any) -> int:
        """All records are of one size; TypeError where opcode and struct disagree."""
        if RECORD_OF_OP.get(value.opcode) is not value.__class__:
            raise _wrong(self.key, value, "record of its opcode")
        return self.size

    def encode(self, value: Any) -> bytes:
        """Pack it."""
        return bytes(value.pack())

    def decode(self, raw: Raw) -> Any:
        """Unpack the record that the opcode names; ProtocolError for an unknown one."""
        _exact(self.key, raw, self.size)
        opcode = int.from_bytes(raw[:4], "little")
        record = RECORD_OF_OP.get(opcode)
        if record is None:
            raise ProtocolError(f"mdt_rec_reint.rr_opcode at byte 0: {opcode} is no operation")
        return record.unpack(raw)


_SIZED: frozenset[Any] = frozenset({bytes, bytearray, memoryview, list, tuple, Fill, Chain})


def is_nothing(value: Any) -> bool:
    """True for what travels as a buffer of no bytes: None, no bytes, an empty list."""
    return value is None or (value.__class__ in _SIZED and not len(value))


_STRUCTS: dict[str, type[Wire]] = {
    "mgs_target_info": MgsTargetInfo,
    "mgs_send_param": MgsSendParam,
    "mgs_config_body": MgsConfigBody,
    "mgs_config_res": MgsConfigRes,
    "seq_range": LuSeqRange,
    "fld_mdfld": LuSeqRange,
    "mdt_body": MdtBody,
    "obd_quotactl": ObdQuotactl,
    "quota_body": QuotaBody,
    "mdt_epoch": MdtIoepoch,
    "close_data": CloseData,
    "obd_statfs": ObdStatfs,
    "llogd_body": LlogdBody,
    "llog_log_hdr": LlogLogHdr,
    "llogd_conn_body": LlogdConnBody,
    "connect_data": ObdConnectData,
    "dlm_req": LdlmRequest,
    "dlm_rep": LdlmReply,
    "ldlm_intent": LdlmIntent,
    "dlm_gl_desc": LdlmGlLquotaDesc,
    "layout_intent": LayoutIntent,
    "ost_body": OstBody,
    "fiemap_key": LlFiemapInfoKey,
    "idx_info": IdxInfo,
    "hsm_user_state": HsmUserState,
    "hsm_state_set": HsmStateSet,
    "mds_hsm_progress": HsmProgressKernel,
    "mds_hsm_current_action": HsmCurrentAction,
    "mds_hsm_request": HsmRequest,
    "swap_layouts": MdcSwapLayouts,
    "lfsck_request": LfsckRequest,
    "lfsck_reply": LfsckReply,
    "ost_ladvise_hdr": LadviseHdr,
}
_ARRAYS: dict[str, type[Wire]] = {
    "obd_ioobj": ObdIoobj,
    "niobuf_remote": NiobufRemote,
    "mds_hsm_user_item": HsmUserItem,
    "ost_ladvise": LuLadvise,
    "out_update_buf": OutUpdateBuffer,
}
_NUMBERS = {"seq_opc": "I", "fld_opc": "I", "getinfo_vallen": "I", "obd_id": "Q", "conn": "Q"}
_NUMBER_ARRAYS = {"u32": "I", "rcs": "i", "eavals_lens": "I", "mds_hsm_archive": "I"}
_STRINGS = ("name", "symtgt", "string", "file_secctx_name", "selinux_pol")
_BYTES = (
    *("generic_data", "setinfo_key", "setinfo_val", "getinfo_key", "getinfo_val", "file_secctx"),
    *("dlm_lvb", "mdt_md", "eadata", "eavals", "acl", "logcookies", "capa1", "capa2"),
    *("fiemap_val", "out_update", "out_update_reply", "out_update_header"),
    *("file_encctx", "default_mdt_md", "fid_array"),
)
_BULK = ("niobuf_inline", "short_io")
"""File data within a message: never copied."""

_ALL: list[Buffer] = [
    *[One(key, kind) for key, kind in _STRUCTS.items()],
    *[Several(key, kind) for key, kind in _ARRAYS.items()],
    *[Number(key, code) for key, code in _NUMBERS.items()],
    *[Numbers(key, code) for key, code in _NUMBER_ARRAYS.items()],
    *[Text(key) for key in _STRINGS],
    *[Bytes(key) for key in _BYTES],
    *[Bytes(key, view=True) for key in _BULK],
    Uuid("tgtuuid"),
    Uuid("cluuid"),
    Name("fid", Fid, "QII"),
    Name("ost_id", OstId, "QQ"),
    Reint("rec_reint"),
]
BUFFERS: dict[str, Buffer] = {buffer.key: buffer for buffer in _ALL}
"""Every buffer by its key, buffer 0 (the ptlrpc_body) excepted."""

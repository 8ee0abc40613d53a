"""How much room a client makes for a reply: lm_repsize of its request.

Does not know who sends what. Stands for ptlrpc_request_set_replen: the header and every buffer of
the reply's format, at the size of its struct or at the one that the caller has set. Where it is
unknown what the callers of 2.12 set (attributes of files, ACLs), the answer is zero; no server here
reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import calcsize
from typing import Any

from labsim.wire.buffers import Buffer, Number, One
from labsim.wire.formats import Format
from labsim.wire.ldlm_flags import LDLM_EXTENT
from labsim.wire.lustre_msg import LustreMsgV2, PtlrpcBody
from labsim.wire.obd_md import OBD_FL_SHORT_IO

CONNECT_GROWTH = 128
"""Bytes for what later releases may add to obd_connect_data (ptlrpc_connect_import)."""
OST_LVB_SIZE = 56
_PAD = 7


def reply_room(fmt: Format, fields: Mapping[str, Any]) -> int:
    """Bytes for the reply to a request with those fields; zero where that is unknown."""
    fixed, variable = _known(fmt)
    for key in variable:
        size = _asked(fmt, key, fields)
        if size is None:
            return 0
        fixed += size + _PAD & ~_PAD
    return fixed


@lru_cache(maxsize=512)
def _known(fmt: Format) -> tuple[int, tuple[str, ...]]:
    """Bytes of all that has one size, and the buffers whose size the request tells."""
    lengths = 4 * (len(fmt.reply) + 1) + _PAD & ~_PAD
    total = LustreMsgV2.table.size + lengths + PtlrpcBody.table.size
    variable = []
    for buffer in fmt.reply:
        size = _size(buffer)
        if size is None:
            variable.append(buffer.key)
        else:
            total += size + _PAD & ~_PAD
    return total, tuple(variable)


def _size(buffer: Buffer) -> int | None:
    if buffer.key == "connect_data":
        return buffer.plan.size + CONNECT_GROWTH
    if isinstance(buffer, One):
        return None if buffer.open else buffer.bytes
    if isinstance(buffer, Number):
        return calcsize("<" + buffer.plan.code)
    return 0 if buffer.key.startswith("capa") else None


def _asked(fmt: Format, key: str, fields: Mapping[str, Any]) -> int | None:
    """What the caller would set with req_capsule_set_size(RCL_SERVER); None: unknown."""
    niobufs, lock = fields.get("niobuf_remote"), fields.get("dlm_req")
    if key == "rcs" and niobufs:  # osc_brw_prep_request
        return 4 * len(niobufs)
    if key == "short_io" and niobufs:
        short = fields["ost_body"].oa.flags & OBD_FL_SHORT_IO
        return sum(niobuf.len for niobuf in niobufs) if short else 0
    if key == "dlm_lvb" and lock and not fmt.name.startswith("LDLM_INTENT"):
        return OST_LVB_SIZE if lock.lock_desc.resource.type == LDLM_EXTENT else 0
    if key == "eadata" and "llogd_body" in fields:  # llog_client_next_block
        return int(fields["llogd_body"].len)
    if key == "eadata" and fmt.name == "MDS_GETXATTR":
        return int(fields["mdt_body"].eadatasize)
    return None

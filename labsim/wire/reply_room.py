"""How much room a client makes for a reply: lm_repsize of its request, and the buffer it posts.

Does not know who sends what. Stands for ptlrpc_request_set_replen and null_alloc_repbuf: the header
and every buffer of the reply's format, at the size of its struct or at the one that its caller has
set; with that of an early reply, rounded up to a power of two. A format that nobody here sends may
have buffers of which that is unknown: its answer is zero, and its replies are not cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import calcsize
from typing import Any

from labsim.wire.buffers import Buffer, Number, One
from labsim.wire.formats import Format
from labsim.wire.ldlm_flags import LDLM_EXTENT
from labsim.wire.lov import LmvUserMdV1
from labsim.wire.lustre_msg import LustreMsgV2, PtlrpcBody
from labsim.wire.obd_md import OBD_FL_SHORT_IO

CONNECT_GROWTH = 128
"""Bytes for what later releases may add to obd_connect_data (ptlrpc_connect_import)."""
OST_LVB_SIZE = 56
MIN_MD_SIZE = 56
"""RMF_MDT_MD where nobody says more: a layout of one stripe."""
LOGCOOKIE_SIZE = 32
NIOBUF_SIZE = 16
EARLY_SIZE = 192
"""lustre_msg_early_size: where in the reply buffer the reply itself goes, behind early ones."""
DOM_INLINE = 8192
"""MDC_DOM_DEF_INLINE_REPSIZE: what an open wants free for data of a file on the MDT."""
DOM_LAYOUT = 32 + 48 + 32
"""What the layout of such a file takes (lov_comp_md_v1, one entry, lov_mds_md of no stripes)."""
DEFAULTS = {
    "mdt_md": MIN_MD_SIZE, "logcookies": LOGCOOKIE_SIZE, "niobuf_inline": NIOBUF_SIZE,
    "default_mdt_md": LmvUserMdV1.table.size, "file_secctx": 0, "file_encctx": 0,
}  # fmt: skip
"""Bytes of buffers whose size few callers set; the contexts are those of a file without any."""
NOTHING_SET: Mapping[str, int] = {}
_PAD = 7


def reply_room(fmt: Format, fields: Mapping[str, Any], sizes: Mapping[str, int]) -> int:
    """Bytes for the reply to a request with those fields (rq_replen); zero where unknown.

    `sizes` are what the caller has set (req_capsule_set_size with RCL_SERVER).
    """
    total, variable = _known(fmt)
    inline = False
    for key in variable:
        size = sizes.get(key)
        if size is None:
            size = _asked(fmt, key, fields)
            if size is None:
                return 0
        total += size + _PAD & ~_PAD
        inline = inline or key == "niobuf_inline"
    if inline:
        free = posted(total) - (total - sizes.get("mdt_md", MIN_MD_SIZE) + DOM_LAYOUT)
        total += max(DOM_INLINE - free, 0) + _PAD & ~_PAD
    return total


def posted(room: int) -> int:
    """The buffer for a reply of so many bytes, and for early ones before it (rq_repbuf_len)."""
    return 1 << (room + EARLY_SIZE - 1).bit_length()


def announced(fmt: Format, room: int) -> int:
    """lm_repsize: the reply's size; the whole buffer's where an MDT may fill it with file data."""
    return posted(room) if room and "niobuf_inline" in _known(fmt)[1] else room


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
    """What the request's fields tell of a buffer's size; None: nothing."""
    niobufs, lock = fields.get("niobuf_remote"), fields.get("dlm_req")
    if key == "rcs" and niobufs:  # osc_brw_prep_request
        return 4 * len(niobufs)
    if key == "short_io" and niobufs:
        short = fields["ost_body"].oa.flags & OBD_FL_SHORT_IO
        return sum(niobuf.len for niobuf in niobufs) if short else 0
    if key == "dlm_lvb" and lock:
        return OST_LVB_SIZE if lock.lock_desc.resource.type == LDLM_EXTENT else 0
    if key == "eadata" and "llogd_body" in fields:  # llog_client_next_block
        return int(fields["llogd_body"].len)
    if key == "eadata" and fmt.name == "MDS_GETXATTR":
        return int(fields["mdt_body"].eadatasize)
    return DEFAULTS.get(key)

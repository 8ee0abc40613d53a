"""Which buffers each request and reply is made of, as data.

Does not know how a buffer is packed; `buffers` does. Stands for the req_formats of ptlrpc/layout.c
(RQF_*) in their 2.12 shape; a format's name is its name there without RQF_. Buffer 0, the
ptlrpc_body, is in every message and not listed.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from labsim.base.errors import ProtocolError
from labsim.wire import mds_flags as md
from labsim.wire import opcodes as op
from labsim.wire.buffers import BUFFERS, Buffer
from labsim.wire.eras import DECLARED, Era, exists, marked


class Format(NamedTuple):
    """The buffers of one kind of RPC, after the ptlrpc_body."""

    name: str
    request: tuple[Buffer, ...]
    reply: tuple[Buffer, ...]


def _format(name: str, request: str, reply: str, when: str = "") -> None:
    """Declare a format; `key@2.15` is a buffer, `when` the span of a format, see `eras.marked`."""
    last = None
    for era, declared in FORMATS_IN.items():
        if exists(when, era):
            made = Format(
                name,
                tuple([BUFFERS[key] for key in marked(request, era)]),
                tuple([BUFFERS[key] for key in marked(reply, era)]),
            )
            last = declared[name] = last if last == made else made


FORMATS_IN: dict[Era, dict[str, Format]] = {era: {} for era in Era}
"""Every format of each era by name."""

_format("OBD_PING", "", "")
_format("OBD_SET_INFO", "setinfo_key setinfo_val", "")
_format("OBD_IDX_READ", "idx_info", "idx_info")
_format("SEC_CTX", "", "")
_format("MGS_TARGET_REG", "mgs_target_info", "mgs_target_info")
_format("MGS_SET_INFO", "mgs_send_param", "mgs_send_param")
_format("MGS_CONFIG_READ", "mgs_config_body", "mgs_config_res")
_format("SEQ_QUERY", "seq_opc seq_range", "seq_range")
_format("FLD_QUERY", "fld_opc fld_mdfld", "fld_mdfld")
_format("FLD_READ", "fld_mdfld", "generic_data")
_format("MDS_QUOTACTL", "obd_quotactl", "obd_quotactl")
_format("OST_QUOTACTL", "obd_quotactl", "obd_quotactl")
_format("QUOTA_DQACQ", "quota_body", "quota_body")
_format("LDLM_INTENT_QUOTA", "dlm_req ldlm_intent quota_body", "dlm_rep dlm_lvb quota_body")
_format("MDS_GET_ROOT", "mdt_body name", "mdt_body capa1")
_format("MDS_STATFS", "", "obd_statfs")
_format("MDS_STATFS_NEW", "mdt_body", "obd_statfs", "2.12")
_format("MDS_SYNC", "mdt_body capa1", "mdt_body")
_format("MDS_GETATTR", "mdt_body capa1", "mdt_body mdt_md acl capa1 capa2 file_encctx@2.15")
_format("MDS_GETXATTR", "mdt_body capa1 name eadata selinux_pol@2.15", "mdt_body eadata")
_format(
    "MDS_GETATTR_NAME", "mdt_body capa1 name", "mdt_body mdt_md acl capa1 capa2 file_encctx@2.15"
)
_format("MDS_REINT", "rec_reint", "mdt_body")
_format("MDS_REINT_CREATE", "rec_reint capa1 name", "mdt_body capa1")
_format(
    "MDS_REINT_CREATE_ACL",
    "rec_reint capa1 name eadata dlm_req file_secctx_name file_secctx "
    "selinux_pol@2.15 file_encctx@2.15",
    "mdt_body capa1",
)
_format("MDS_REINT_CREATE_SLAVE", "rec_reint capa1 name eadata dlm_req", "mdt_body capa1")
_format(
    "MDS_REINT_CREATE_SYM",
    "rec_reint capa1 name symtgt dlm_req file_secctx_name file_secctx "
    "selinux_pol@2.15 file_encctx@2.15",
    "mdt_body capa1",
)
_format(
    "MDS_REINT_OPEN",
    "rec_reint capa1 capa2 name eadata file_secctx_name file_secctx "
    "selinux_pol@2.15 file_encctx@2.15",
    "mdt_body mdt_md acl capa1 capa2",
)
_format(
    "MDS_REINT_UNLINK",
    "rec_reint capa1 name dlm_req selinux_pol@2.15",
    "mdt_body mdt_md logcookies capa1 capa2",
)
_format("MDS_REINT_LINK", "rec_reint capa1 capa2 name dlm_req selinux_pol@2.15", "mdt_body")
_format(
    "MDS_REINT_RENAME",
    "rec_reint capa1 capa2 name symtgt dlm_req selinux_pol@2.15",
    "mdt_body mdt_md logcookies capa1 capa2",
)
_format(
    "MDS_REINT_MIGRATE",
    "rec_reint capa1 capa2 name symtgt dlm_req selinux_pol@2.15 mdt_epoch close_data eadata@2.12",
    "mdt_body mdt_md logcookies capa1 capa2",
)
_format(
    "MDS_REINT_SETATTR",
    "rec_reint capa1 mdt_epoch eadata logcookies dlm_req",
    "mdt_body mdt_md acl capa1 capa2",
)
_format("MDS_REINT_SETXATTR", "rec_reint capa1 name eadata dlm_req selinux_pol@2.15", "mdt_body")
_format("MDS_REINT_RESYNC", "rec_reint dlm_req", "mdt_body", "2.12")
_format("MDS_CONNECT", "tgtuuid cluuid conn connect_data selinux_pol@2.15", "connect_data")
_format("MDS_DISCONNECT", "", "")
_format("MDS_GET_INFO", "getinfo_key getinfo_vallen", "getinfo_val")
_format("OUT_UPDATE", "out_update_header out_update_buf", "out_update_reply")
_format("LDLM_ENQUEUE", "dlm_req", "dlm_rep dlm_lvb")
_format("LDLM_ENQUEUE_LVB", "dlm_req", "dlm_rep dlm_lvb")
_format("LDLM_CONVERT", "dlm_req", "dlm_rep")
_format("LDLM_CANCEL", "dlm_req", "")
_format("LDLM_CALLBACK", "dlm_req", "")
_format("LDLM_CP_CALLBACK", "dlm_req dlm_lvb", "")
_format("LDLM_BL_CALLBACK", "dlm_req", "")
_format("LDLM_GL_CALLBACK", "dlm_req", "dlm_lvb")
_format("LDLM_GL_CALLBACK_DESC", "dlm_req dlm_gl_desc", "dlm_lvb", "2.12")
_format("LDLM_INTENT_BASIC", "dlm_req ldlm_intent", "dlm_rep dlm_lvb")
_format("LDLM_INTENT", "dlm_req ldlm_intent rec_reint", "dlm_rep mdt_body mdt_md acl")
_format("LDLM_INTENT_LAYOUT", "dlm_req ldlm_intent layout_intent eadata@2.12", "dlm_rep dlm_lvb")
_format(
    "LDLM_INTENT_GETATTR",
    "dlm_req ldlm_intent mdt_body capa1 name file_secctx_name@2.15",
    "dlm_rep mdt_body mdt_md acl capa1 file_secctx@2.15 default_mdt_md@2.15 file_encctx@2.15",
)
_format(
    "LDLM_INTENT_OPEN",
    "dlm_req ldlm_intent rec_reint capa1 capa2 name eadata file_secctx_name file_secctx "
    "selinux_pol@2.15 file_encctx@2.15",
    "dlm_rep mdt_body mdt_md acl capa1 capa2 niobuf_inline@2.12 file_secctx@2.15 file_encctx@2.15",
)
_format(
    "LDLM_INTENT_CREATE",
    "dlm_req ldlm_intent rec_reint capa1 name eadata file_secctx_name file_secctx "
    "selinux_pol@2.15 file_encctx@2.15",
    "dlm_rep mdt_body mdt_md acl capa1 file_secctx@2.15 default_mdt_md@2.15 file_encctx@2.15",
)
_format(
    "LDLM_INTENT_GETXATTR",
    "dlm_req ldlm_intent mdt_body capa1 selinux_pol@2.15",
    "dlm_rep mdt_body mdt_md acl eadata eavals eavals_lens",
)
_format("MDS_CLOSE", "mdt_epoch rec_reint capa1", "mdt_body mdt_md logcookies capa1 capa2")
_format(
    "MDS_CLOSE_INTENT",
    "mdt_epoch rec_reint capa1 close_data u32",
    "mdt_body mdt_md logcookies capa1 capa2",
    "2.12",
)
_format("MDS_READPAGE", "mdt_body capa1", "mdt_body")
_format("MDS_HSM_ACTION", "mdt_body capa1", "mdt_body mds_hsm_current_action")
_format("MDS_HSM_PROGRESS", "mdt_body mds_hsm_progress", "")
_format("MDS_HSM_CT_REGISTER", "mdt_body mds_hsm_archive", "")
_format("MDS_HSM_CT_UNREGISTER", "mdt_body", "")
_format("MDS_HSM_STATE_GET", "mdt_body capa1", "mdt_body hsm_user_state")
_format("MDS_HSM_STATE_SET", "mdt_body capa1 hsm_state_set", "")
_format("MDS_HSM_REQUEST", "mdt_body mds_hsm_request mds_hsm_user_item generic_data", "")
_format("MDS_SWAP_LAYOUTS", "mdt_body swap_layouts capa1 capa2 dlm_req", "")
_format("LLOG_ORIGIN_HANDLE_CREATE", "llogd_body name mdt_body@2.15", "llogd_body")
_format("LLOG_ORIGIN_HANDLE_NEXT_BLOCK", "llogd_body", "llogd_body eadata")
_format("LLOG_ORIGIN_HANDLE_PREV_BLOCK", "llogd_body", "llogd_body eadata")
_format("LLOG_ORIGIN_HANDLE_READ_HEADER", "llogd_body", "llog_log_hdr")
_format("CONNECT", "tgtuuid cluuid conn connect_data selinux_pol@2.15", "connect_data")
_format("OST_CONNECT", "tgtuuid cluuid conn connect_data selinux_pol@2.15", "connect_data")
_format("OST_DISCONNECT", "", "")
_format("OST_GETATTR", "ost_body capa1", "ost_body")
_format("OST_SETATTR", "ost_body capa1", "ost_body")
_format("OST_CREATE", "ost_body", "ost_body")
_format("OST_PUNCH", "ost_body capa1", "ost_body")
_format("OST_SYNC", "ost_body capa1", "ost_body")
_format("OST_DESTROY", "ost_body dlm_req capa1", "ost_body")
_format(
    "OST_BRW_READ", "ost_body obd_ioobj niobuf_remote capa1 short_io@2.12", "ost_body short_io@2.12"
)
_format("OST_BRW_WRITE", "ost_body obd_ioobj niobuf_remote capa1 short_io@2.12", "ost_body rcs")
_format("OST_STATFS", "", "obd_statfs")
_format("OST_SET_GRANT_INFO", "setinfo_key ost_body", "ost_body")
_format("OST_GET_INFO", "getinfo_key", "generic_data")
_format("OST_GET_INFO_LAST_ID", "getinfo_key", "obd_id")
_format("OST_GET_INFO_LAST_FID", "getinfo_key fid", "fid")
_format("OST_SET_INFO_LAST_FID", "setinfo_key setinfo_val", "")
_format("OST_GET_INFO_FIEMAP", "fiemap_key fiemap_val", "fiemap_val")
_format("LFSCK_NOTIFY", "lfsck_request", "")
_format("LFSCK_QUERY", "lfsck_request", "lfsck_reply")
_format("OST_LADVISE", "ost_body ost_ladvise_hdr ost_ladvise", "ost_body")
_format("LDLM_GL_DESC_CALLBACK", "dlm_req dlm_gl_desc", "dlm_lvb", "-2.12")
_format(
    "LDLM_INTENT_UNLINK",
    "dlm_req ldlm_intent rec_reint capa1 name",
    "dlm_rep mdt_body mdt_md acl",
    "-2.12",
)
_format("LLOG_ORIGIN_CONNECT", "llogd_conn_body", "", "-2.12")
_format("LLOG_ORIGIN_HANDLE_DESTROY", "llogd_body", "llogd_body", "-2.12")
_format("LOG_CANCEL", "logcookies", "", "-2.12")
_format(
    "MDS_INTENT_CLOSE",
    "mdt_epoch rec_reint capa1 close_data",
    "mdt_body mdt_md logcookies capa1 capa2",
    "-2.12",
)
_format("MDS_RMFID", "mdt_body fid_array capa1 capa2", "mdt_body fid_array rcs", "2.15")
_format("MDT_SET_INFO", "setinfo_key setinfo_val mdt_body", "", "2.15")
_format("OST_FALLOCATE", "ost_body capa1", "ost_body", "2.15")
_format("OST_SEEK", "ost_body", "ost_body", "2.15")

FORMATS: dict[str, Format] = FORMATS_IN[DECLARED]
"""Every format by name."""

FORMER = {
    "MDS_CLOSE_INTENT": "MDS_INTENT_CLOSE",
    "LDLM_GL_CALLBACK_DESC": "LDLM_GL_DESC_CALLBACK",
    "MDS_STATFS_NEW": "MDS_STATFS",
}
"""What stands for a format where it is not known yet."""


def format_in(fmt: Format, era: Era) -> Format:
    """The format of the same messages in another era; itself where that era has none."""
    known = FORMATS_IN[era]
    return known.get(fmt.name) or known.get(FORMER.get(fmt.name, "")) or fmt


_OF_INTENT = {
    md.IT_OPEN: FORMATS["LDLM_INTENT_OPEN"],
    md.IT_OPEN | md.IT_CREAT: FORMATS["LDLM_INTENT_OPEN"],
    md.IT_CREAT: FORMATS["LDLM_INTENT_CREATE"],
    md.IT_LOOKUP: FORMATS["LDLM_INTENT_GETATTR"],
    md.IT_GETATTR: FORMATS["LDLM_INTENT_GETATTR"],
    md.IT_GETXATTR: FORMATS["LDLM_INTENT_GETXATTR"],
    md.IT_LAYOUT: FORMATS["LDLM_INTENT_LAYOUT"],
    md.IT_READDIR: FORMATS["LDLM_INTENT_BASIC"],
    md.IT_GLIMPSE: FORMATS["LDLM_INTENT_BASIC"],
    md.IT_BRW: FORMATS["LDLM_INTENT_BASIC"],
    md.IT_QUOTA_DQACQ: FORMATS["LDLM_INTENT_QUOTA"],
    md.IT_QUOTA_CONN: FORMATS["LDLM_INTENT_QUOTA"],
}
_OF_REINT = {
    md.REINT_SETATTR: FORMATS["MDS_REINT_SETATTR"],
    md.REINT_CREATE: FORMATS["MDS_REINT_CREATE_ACL"],
    md.REINT_LINK: FORMATS["MDS_REINT_LINK"],
    md.REINT_UNLINK: FORMATS["MDS_REINT_UNLINK"],
    md.REINT_RENAME: FORMATS["MDS_REINT_RENAME"],
    md.REINT_OPEN: FORMATS["MDS_REINT_OPEN"],
    md.REINT_SETXATTR: FORMATS["MDS_REINT_SETXATTR"],
    md.REINT_RMENTRY: FORMATS["MDS_REINT_UNLINK"],
    md.REINT_MIGRATE: FORMATS["MDS_REINT_MIGRATE"],
    md.REINT_RESYNC: FORMATS["MDS_REINT_RESYNC"],
}
_SYMLINK = FORMATS["MDS_REINT_CREATE_SYM"]
_CODES = {code: op.opcode_name(code) for code in op.ROUTES}
_SHARED = {
    op.MGS_CONNECT: FORMATS["CONNECT"],
    op.MGS_DISCONNECT: FORMATS["OST_DISCONNECT"],
    op.OST_READ: FORMATS["OST_BRW_READ"],
    op.OST_WRITE: FORMATS["OST_BRW_WRITE"],
    op.OST_SET_INFO: FORMATS["OBD_SET_INFO"],
    op.MDS_SET_INFO: FORMATS["OBD_SET_INFO"],
    op.LDLM_SET_INFO: FORMATS["OBD_SET_INFO"],
    op.SEC_CTX_INIT: FORMATS["SEC_CTX"],
    op.SEC_CTX_INIT_CONT: FORMATS["SEC_CTX"],
    op.SEC_CTX_FINI: FORMATS["SEC_CTX"],
}
_OF_CODE = {
    **{code: FORMATS[name] for code, name in _CODES.items() if name in FORMATS},
    **_SHARED,
}


def request_format(
    opcode: int, intent_opc: int | None = None, reint_op: int | None = None
) -> Format:
    """The format of an operation, of an enqueue's intent (IT_*), of a reint (REINT_*).

    ProtocolError where there is none. A symlink's and some others' depend on more: `format_of`.
    """
    if opcode == op.LDLM_ENQUEUE and intent_opc is not None:
        found = _OF_INTENT.get(intent_opc)
    elif opcode == op.MDS_REINT and reint_op is not None:
        found = _OF_REINT.get(reint_op)
    else:
        found = _OF_CODE.get(opcode)
    if found is None:
        what = intent_opc if opcode == op.LDLM_ENQUEUE else reint_op
        detail = "" if what is None else f" with operation {what:#x}"
        raise ProtocolError(f"{op.opcode_name(opcode)}{detail} has no format")
    return found


def format_of(opcode: int, fields: Mapping[str, Any]) -> Format:
    """The format of a request by what it carries: the one rule for sending and for receiving.

    Looks at `ldlm_intent`, `rec_reint` and the keys of info requests in `fields`, and at which
    of the buffers that make the difference are there. ProtocolError where there is no format.
    """
    special = _SPECIAL.get(opcode)
    return request_format(opcode) if special is None else special(fields)


def _enqueue(fields: Mapping[str, Any]) -> Format:
    intent = fields.get("ldlm_intent")
    return request_format(op.LDLM_ENQUEUE, None if intent is None else intent.opc)


def _reint(fields: Mapping[str, Any]) -> Format:
    record = fields.get("rec_reint")
    if record is None:
        return FORMATS["MDS_REINT"]
    if record.opcode == md.REINT_CREATE and stat.S_ISLNK(record.mode):
        return _SYMLINK
    return request_format(op.MDS_REINT, reint_op=record.opcode)


def _key(fields: Mapping[str, Any], name: str) -> bytes:
    return bytes(fields.get(name, b"")).rstrip(b"\0")


def _get_info(fields: Mapping[str, Any]) -> Format:
    if "fiemap_key" in fields:
        return FORMATS["OST_GET_INFO_FIEMAP"]
    key = _key(fields, "getinfo_key")
    of_key = {b"last_id": "OST_GET_INFO_LAST_ID", b"last_fid": "OST_GET_INFO_LAST_FID"}
    return FORMATS[of_key.get(key, "OST_GET_INFO")]


def _set_info(fields: Mapping[str, Any]) -> Format:
    shrink = _key(fields, "setinfo_key") == b"grant_shrink"
    return FORMATS["OST_SET_GRANT_INFO" if shrink else "OBD_SET_INFO"]


def _with(key: str, name: str, without: str) -> Callable[[Mapping[str, Any]], Format]:
    """A choice by whether a buffer is there."""
    return lambda fields: FORMATS[name if key in fields else without]


_SPECIAL: dict[int, Callable[[Mapping[str, Any]], Format]] = {
    op.LDLM_ENQUEUE: _enqueue,
    op.MDS_REINT: _reint,
    op.OST_GET_INFO: _get_info,
    op.OST_SET_INFO: _set_info,
    op.MDS_CLOSE: _with("close_data", "MDS_CLOSE_INTENT", "MDS_CLOSE"),
    op.MDS_STATFS: _with("mdt_body", "MDS_STATFS_NEW", "MDS_STATFS"),
    op.LDLM_GL_CALLBACK: _with("dlm_gl_desc", "LDLM_GL_CALLBACK_DESC", "LDLM_GL_CALLBACK"),
}

PLAIN: dict[int, Format] = {code: fmt for code, fmt in _OF_CODE.items() if code not in _SPECIAL}
"""The format of each opcode that has only one."""

OPCODES, INTENTS, REINTS = _OF_CODE, _OF_INTENT, _OF_REINT
"""Formats by opcode, by an enqueue's intent (IT_*), by MDS_REINT operation (REINT_*)."""

_CLUES: dict[int, tuple[tuple[int, str], ...]] = {
    op.LDLM_ENQUEUE: ((2, "ldlm_intent"),),
    op.MDS_REINT: ((1, "rec_reint"),),
    op.OST_SET_INFO: ((1, "setinfo_key"),),
    op.MDS_CLOSE: ((4, "close_data"),),
    op.MDS_STATFS: ((1, "mdt_body"),),
    op.LDLM_GL_CALLBACK: ((2, "dlm_gl_desc"),),
}
"""Which buffers to read first to know a request's format: (index, key)."""


def recognise(opcode: int, raws: list[memoryview]) -> Format:
    """The format of a request whose buffers are still bytes; ProtocolError where there is none."""
    clues: dict[str, Any] = {}
    if opcode == op.OST_GET_INFO and len(raws) > 1:
        fiemap = bytes(raws[1][:7]) == b"fiemap\0"
        clues["fiemap_key" if fiemap else "getinfo_key"] = bytes(raws[1])
    for index, key in _CLUES.get(opcode, ()):
        if index < len(raws) and len(raws[index]):
            try:
                clues[key] = BUFFERS[key].decode(raws[index])
            except ProtocolError as error:
                name = op.opcode_name(opcode)
                raise ProtocolError(f"{name} request, buffer {index} ({key}): {error}") from None
    return format_of(opcode, clues)

"""The fault points of an MGS, with the numbers of obd_support.h. Rows only."""

from __future__ import annotations

from labsim.base.faults import Point
from labsim.wire import opcodes

MGS_ALL_REQUEST_NET = Point(0x901, "an MGS gets any request", "MGS_ALL_REQUEST_NET")
MGS_ALL_REPLY_NET = Point(
    0x902, "an MGS has done what was asked, its reply is lost", "MGS_ALL_REPLY_NET"
)
MGS_PAUSE_TARGET_REG = Point(
    0x905, "an MGS pauses before it registers a target", "MGS_PAUSE_TARGET_REG", "delay"
)
MGS_CONNECT_NET = Point(0x906, "a node connects to the MGS", "MGS_CONNECT_NET")
MGS_DISCONNECT_NET = Point(0x907, "a node disconnects from the MGS", "MGS_DISCONNECT_NET")
MGS_SET_INFO_NET = Point(0x908, "a node sets a parameter for all", "MGS_SET_INFO_NET")
MGS_TARGET_REG_NET = Point(0x90A, "a target registers with the MGS", "MGS_TARGET_REG_NET")
MGS_CONFIG_READ_NET = Point(0x90C, "the recover table is read", "MGS_CONFIG_READ_NET")
LLOG_ORIGIN_HANDLE_CREATE_NET = Point(
    0x1302, "a log is opened by its name", "LLOG_ORIGIN_HANDLE_CREATE_NET"
)
LLOG_ORIGIN_HANDLE_READ_HEADER_NET = Point(
    0x1304, "the header of a log is read", "LLOG_ORIGIN_HANDLE_READ_HEADER_NET"
)
LLOG_ORIGIN_HANDLE_NEXT_BLOCK_NET = Point(
    0x1305, "a block of a log is read", "LLOG_ORIGIN_HANDLE_NEXT_BLOCK_NET"
)

BY_OPCODE = {
    opcodes.MGS_CONNECT: MGS_CONNECT_NET,
    opcodes.MGS_DISCONNECT: MGS_DISCONNECT_NET,
    opcodes.MGS_SET_INFO: MGS_SET_INFO_NET,
    opcodes.MGS_TARGET_REG: MGS_TARGET_REG_NET,
    opcodes.MGS_CONFIG_READ: MGS_CONFIG_READ_NET,
    opcodes.LLOG_ORIGIN_HANDLE_CREATE: LLOG_ORIGIN_HANDLE_CREATE_NET,
    opcodes.LLOG_ORIGIN_HANDLE_READ_HEADER: LLOG_ORIGIN_HANDLE_READ_HEADER_NET,
    opcodes.LLOG_ORIGIN_HANDLE_NEXT_BLOCK: LLOG_ORIGIN_HANDLE_NEXT_BLOCK_NET,
}
"""Where each request is dropped when it comes (th_fail_id)."""

"""How values of decoded messages are printed for a person: flags in hex, modes in octal, names.

Does not know messages, only how Lustre calls its fields. Programs get plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

HEX = (
    "handle", "flags", "flags_l", "flags_h", "flags2", "valid", "bits", "cookie", "version",
    "ibits_known", "cksum_types", "policy_res1", "capability", "cap", "magic",
)  # fmt: skip
"""Ends of the names of fields that are sets of bits, or have no order."""
OCTAL = ("mode", "umask")
NOBODY = 0xFFFFFFFF
"""A group or an id that is not there."""


def said(field: str, value: Any) -> str:
    """A value as text; lists in brackets."""
    if isinstance(value, list):
        return f"[{', '.join(said(field, one) for one in value)}]"
    if not isinstance(value, int) or isinstance(value, bool):
        return str(value)
    if field in _NAMED:
        return f"{value} ({_NAMED[field](value)})"
    if value < 0:
        return str(value)
    if field.endswith(OCTAL):
        return f"0{value:o}" if value else "0"
    if field.endswith(HEX) or field == "lr_name":
        return f"{value:#x}" if value > 9 else str(value)
    return "-1" if value == NOBODY else str(value)


def _named(*names: str) -> Callable[[int], str]:
    """Tells which of these constants a number is."""

    def name(value: int) -> str:
        from labsim.wire import constants

        known = {getattr(constants, one): one for one in names}
        return known.get(value, "unknown")

    return name


def _operation(code: int) -> str:
    from labsim.wire.opcodes import opcode_name

    return opcode_name(code)


def _intent(value: int) -> str:
    from labsim.wire import mds_flags

    known = [one for one in INTENTS if getattr(mds_flags, one) & value]
    return "|".join(known) or "unknown"


INTENTS = (
    "IT_OPEN", "IT_CREAT", "IT_READDIR", "IT_GETATTR", "IT_LOOKUP", "IT_GETXATTR", "IT_LAYOUT",
    "IT_QUOTA_DQACQ", "IT_QUOTA_CONN", "IT_GLIMPSE", "IT_BRW",
)  # fmt: skip
_MODE = _named(
    "LCK_MINMODE", "LCK_EX", "LCK_PW", "LCK_PR", "LCK_CW", "LCK_CR", "LCK_NL", "LCK_GROUP",
    "LCK_COS",
)  # fmt: skip
_REINT = _named(
    "REINT_SETATTR", "REINT_CREATE", "REINT_LINK", "REINT_UNLINK", "REINT_RENAME", "REINT_OPEN",
    "REINT_SETXATTR", "REINT_RMENTRY", "REINT_MIGRATE", "REINT_RESYNC",
)  # fmt: skip
_NAMED: dict[str, Callable[[int], str]] = {
    "pb_opc": _operation,
    "pb_type": _named("PTL_RPC_MSG_REQUEST", "PTL_RPC_MSG_ERR", "PTL_RPC_MSG_REPLY"),
    "l_req_mode": _MODE,
    "l_granted_mode": _MODE,
    "lr_type": _named("LDLM_PLAIN", "LDLM_EXTENT", "LDLM_FLOCK", "LDLM_IBITS"),
    "opc": _intent,
    **dict.fromkeys(
        ("cr_opcode", "sa_opcode", "ul_opcode", "lk_opcode", "rn_opcode", "sx_opcode"), _REINT
    ),
}


def errno_of(status: Any) -> str:
    """A status with the name of its errno."""
    if not isinstance(status, int) or status >= 0:
        return str(status)
    from labsim.base.errors import LustreError

    return f"{status} ({LustreError(-status).name})"

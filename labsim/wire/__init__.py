"""The Lustre protocol, declared once: structs, message formats, numbers.

Knows no connection and no operation's meaning. Stands for the headers that Lustre's parts share
(lustre_idl.h, lnet-types.h) and for ptlrpc/layout.c.
"""

from __future__ import annotations

from importlib import import_module

_STRUCTS = (
    "labsim.wire.dirs",
    "labsim.wire.hsm",
    "labsim.wire.last_rcvd",
    "labsim.wire.ldlm",
    "labsim.wire.lfsck",
    "labsim.wire.llog",
    "labsim.wire.lnet",
    "labsim.wire.lov",
    "labsim.wire.lu",
    "labsim.wire.lustre_msg",
    "labsim.wire.mdt",
    "labsim.wire.mgs",
    "labsim.wire.ost",
    "labsim.wire.quota",
    "labsim.wire.unions",
    "labsim.wire.update",
)
"""The modules that declare structs."""


def registry() -> list[tuple[str, int, list[tuple[str, int, int]]]]:
    """Every struct and union as (name, bytes, [(field, offset, bytes)]), with Lustre's names.

    Bytes that a union names several times appear once per name. Sorted by name.
    """
    for module in _STRUCTS:
        import_module(module)
    from labsim.wire.schema import BASIC, REGISTERED

    return sorted(
        (name, one.size, [(row.field, row.offset, row.size) for row in one.rows()])
        for name, one in [*REGISTERED.items(), *BASIC.items()]
    )

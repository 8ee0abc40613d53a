"""The Lustre protocol, declared once: structs, message formats, numbers.

Knows no connection and no operation's meaning. Stands for the headers that Lustre's parts share
(lustre_idl.h, lib-types.h) and for ptlrpc/layout.c.
"""

from __future__ import annotations

from importlib import import_module

_STRUCTS = (
    "dirs",
    "hsm",
    "last_rcvd",
    "ldlm",
    "lfsck",
    "llog",
    "lnet",
    "lov",
    "lu",
    "lustre_msg",
    "mdt",
    "mgs",
    "ost",
    "quota",
    "unions",
    "update",
)
"""The modules that declare structs."""


def registry() -> list[tuple[str, int, list[tuple[str, int, int]]]]:
    """Every struct and union as (name, bytes, [(field, offset, bytes)]), with Lustre's names.

    Bytes that a union names several times appear once per name. Sorted by name.
    """
    for name in _STRUCTS:
        import_module(f"{__name__}.{name}")
    from labsim.wire.schema import BASIC, REGISTERED

    found = [
        (name, one.size, [tuple(row) for row in one.rows()])
        for name, one in [*REGISTERED.items(), *BASIC.items()]
    ]
    return sorted(found)

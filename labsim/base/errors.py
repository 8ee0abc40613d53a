"""The three kinds of failure, and the one for bad input.

Does not know who raises them. `LustreError` stands for the negative errno a Lustre handler returns;
an `assert` that fails is labsim's own defect and is not here.
"""

from __future__ import annotations

import errno as _errno
import os
from typing import Any

NAMES = {**_errno.errorcode, 35: "EDEADLK", 95: "EOPNOTSUPP", 524: "ENOTSUPP"}
"""Linux's names as strace prints them; 524 never leaves the kernel but in Lustre's own answers."""


class LabsimError(Exception):
    """Everything that labsim raises on purpose."""


class LustreError(LabsimError):
    """An operation failed with an errno, as a system call or an RPC reports it.

    `errno` is positive and Linux's (x86-64). `reply` holds the reply message where an RPC failed
    but its reply carries buffers.
    """

    def __init__(self, errno: int, what: str = "", reply: Any = None) -> None:
        super().__init__(errno, what)
        self.errno = abs(errno)
        self.what = what
        self.reply = reply

    @property
    def name(self) -> str:
        """The symbolic name, "ENOENT"; the bare number where Linux has none."""
        return NAMES.get(self.errno, str(self.errno))

    @property
    def message(self) -> str:
        """What strerror(3) says, as coreutils print it."""
        return os.strerror(self.errno)

    def __str__(self) -> str:
        return f"{self.name}: {self.what}" if self.what else self.name


class ProtocolError(LabsimError):
    """A peer sent what the protocol does not allow; names the struct, the field and the offset."""


class InputError(LabsimError):
    """A person gave bad input: one line says where, what, and what would be right (exit 2)."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(what, where)
        self.what = what
        self.where = where

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what

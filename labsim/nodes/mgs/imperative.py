"""Imperative recovery on the MGS: which state a file system is in, and how fast news get around.

Knows the table and who can follow it, not locks or requests. Stands for the imperative recovery
half of mgs_nids.c (enum of ir states, ir_state_graduate, mgs_fsc_attach) and its file under
mgs.MGS.live.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import lru_cache

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.base.params import Param
from labsim.base.units import NS_PER_S, NS_PER_US
from labsim.nodes.mgs.nidtbl import NidTable

FULL, STARTUP, DISABLED, PARTIAL = "full", "startup", "disabled", "partial"


class Imperative:
    """One file system's table of targets, and how it is used (struct fs_db).

    A target that comes up may rely on its clients hearing of it in the state "full" only: not while
    the MGS is young ("startup": not all clients may have come back to it), nor while it has a
    client that does not follow the table ("partial"). In "disabled" nobody is told.
    """

    def __init__(self, table: NidTable, starting: bool) -> None:
        self.table = table
        self.state = STARTUP if starting else FULL
        self.deaf: dict[int, None] = {}
        """Exports of clients that do not follow the table."""
        self.total_ns = self.longest_ns = self.count = 0

    def graduate(self, young: bool) -> None:
        """An MGS that is not young any more knows who its clients are."""
        if self.state == STARTUP and not young:
            self.state = PARTIAL if self.deaf else FULL

    def attach(self, cookie: int) -> None:
        """A client without OBD_CONNECT_IMP_RECOV uses this file system."""
        self.deaf[cookie] = None
        if self.state == FULL:
            self.state = PARTIAL

    def detach(self, cookie: int) -> None:
        """It has gone."""
        self.deaf.pop(cookie, None)
        if self.state == PARTIAL and not self.deaf:
            self.state = FULL

    def told(self, took_ns: int) -> None:
        """Everybody has given the lock back, and so will read the table."""
        self.count += 1
        self.total_ns += took_ns
        self.longest_ns = max(self.longest_ns, took_ns)

    def command(self, text: str) -> None:
        """What was written to the file: "state=full", "0" to clear the numbers; EINVAL."""
        for word in text.strip().split(";"):
            if word.startswith("state="):
                self._set_state(word.removeprefix("state="))
            elif word == "0":
                self.total_ns = self.longest_ns = self.count = 0
            else:
                raise LustreError(errno.EINVAL, word)

    def _set_state(self, state: str) -> None:
        if state not in (FULL, STARTUP, DISABLED, PARTIAL):
            raise LustreError(errno.EINVAL, state)
        self.state = PARTIAL if state == FULL and self.deaf else state

    def text(self) -> str:
        """The part of the file (lprocfs_rd_ir_state); the third name is misspelt there too."""
        return (
            "\nimperative_recovery_state:\n"
            f"    state: {self.state}\n"
            f"    nonir_clients: {len(self.deaf)}\n"
            f"    nidtbl_version: {self.table.version}\n"
            f"    notify_duration_total: {_seconds(self.total_ns)}\n"
            f"    notify_duation_max: {_seconds(self.longest_ns)}\n"
            f"    notify_count: {self.count}\n"
        )


def _seconds(ns: int) -> str:
    return f"{ns // NS_PER_S}.{ns % NS_PER_S // NS_PER_US:06}"


class MgsFiles(Component, tree="mgs.MGS"):
    """The parameters of the MGS itself."""

    ir_timeout = Param.seconds(
        400, help="how long a started MGS takes to be sure that it knows its clients"
    )

    def __init__(self, obd_timeout: int) -> None:
        self.ir_timeout = 4 * obd_timeout
        """OBD_IR_MGS_TIMEOUT."""


@lru_cache(maxsize=64)
def live_file(fsname: str) -> type[Component]:
    """The file of one file system under mgs.MGS.live (mgs_live_seq_show)."""

    class Live(Component, tree="mgs.MGS.live"):
        def __init__(self, head: Callable[[], str], imperative: Callable[[], Imperative]) -> None:
            self.head = head
            self.imperative = imperative

        @Param.computed(
            file=fsname, access="rw", help="the targets of a file system, and who recovers"
        )
        def live(self) -> str:
            """The file's text."""
            return self.head() + self.imperative().text()

        def command(self, text: str) -> None:
            """Take commands about imperative recovery."""
            self.imperative().command(text)

    setattr(Live, f"store_{Live.declared['live'].method}", Live.command)
    return Live


ANY_LIVE_FILE = live_file("*")
"""Stands for the file of any file system, where somebody wants to know which parameters exist."""

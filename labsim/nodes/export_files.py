"""What a target shows of its clients, by NID.

Does not know what requests do, only what they are called. Stands for struct nid_stat,
lprocfs_exp_setup and lprocfs_nid_stats_clear_seq_write (obdclass/lprocfs_status_server.c).
"""

from __future__ import annotations

from collections.abc import Callable
from sys import intern
from typing import Any, ClassVar

from labsim.base.component import Component
from labsim.base.ids import Nid
from labsim.base.params import Param
from labsim.base.stats import Stats
from labsim.net.ptlrpc import Export, ServerRequest
from labsim.nodes.config import TargetInfo
from labsim.nodes.node import Node
from labsim.nodes.target import Target
from labsim.runtime.ports import Steps
from labsim.wire.message import Message
from labsim.wire.opcodes import (
    LDLM_BL_CALLBACK,
    LDLM_CANCEL,
    LDLM_CONVERT,
    LDLM_CP_CALLBACK,
    LDLM_ENQUEUE,
    LDLM_GL_CALLBACK,
)

LDLM_NAMES = {
    LDLM_ENQUEUE: "ldlm_enqueue",
    LDLM_CONVERT: "ldlm_convert",
    LDLM_CANCEL: "ldlm_cancel",
    LDLM_BL_CALLBACK: "ldlm_bl_callback",
    LDLM_CP_CALLBACK: "ldlm_cp_callback",
    LDLM_GL_CALLBACK: "ldlm_gl_callback",
}
CLEAR = "Write into this file to clear all nid stats and stale nid entries"


class NidFiles(Component):
    """One directory exports/NID; it stays when the clients there have gone, until it is cleared."""

    ldlm_stats = Param.stats(
        help="lock requests of the clients at this NID, and callbacks to them",
        order=LDLM_NAMES.values(),
    )

    def __init__(self, target: Any, nid: int) -> None:
        self.target = target
        self.nid = nid

    def exports(self) -> list[Export]:
        """Who is connected from there."""
        return [one for one in self.target.exports if one.connected and one.nid == self.nid]

    @Param.computed(help="the clients at this NID")
    def uuid(self) -> str:
        """A line for each (lprocfs_exp_print_uuid)."""
        return "".join(f"{one.client_uuid}\n" for one in self.exports())

    @Param.computed(help="answers that are kept for these clients, and how they were let go")
    def reply_data(self) -> str:
        """A paragraph for each client (lprocfs_exp_print_replydata_seq)."""
        return "".join(
            f"reply_cnt: {one.replies_kept}\n"
            f"reply_max: {one.replies_max}\n"
            f"reply_released_by_xid: {one.released_by_xid}\n"
            f"reply_released_by_tag: {one.released_by_tag}\n\n"
            for one in self.exports()
        )


class ExportFiles(Target):
    """Base of Mdt and Ofd: counts what was done, as a whole and by NID."""

    nid_files: ClassVar[type[NidFiles]]
    """What a NID's directory holds."""

    def __init__(self, node: Node, info: TargetInfo) -> None:
        super().__init__(node, info)
        self.nids: dict[int, NidFiles | None] = {}
        """Who has ever connected; None where nobody has needed the directory yet."""
        self.host.params.on_look.append(self._every_nid)

    def totals(self) -> Stats:
        """The counters of the whole target."""
        raise NotImplementedError

    def count(self, req: ServerRequest, name: str, nbytes: int | None = None) -> None:
        """Something was done for a client: once, or with so many bytes (mdt_counter_incr)."""
        for stats in (self.totals(), self.at_nid(req.peer).stats):
            if nbytes is None:
                stats.tally(name)
            else:
                stats.add(name, nbytes, "bytes")

    def at_nid(self, nid: int) -> Any:
        """The directory of a NID; it is made when something is counted, or when somebody looks."""
        files = self.nids.get(nid)
        if files is None:
            files = self.nids[nid] = self.node.make(self.nid_files, self, nid)
            self.host.params.mount(files, name=self.name, nid=intern(str(Nid(nid))))
        return files

    def connect(self, req: ServerRequest) -> Steps[Message]:
        """A client comes, or comes back."""
        reply = yield from super().connect(req)
        if req.peer not in self.nids:
            self.nids[req.peer] = None
            self.host.params.changed()
        return reply

    def _every_nid(self) -> None:
        for nid in self.nids:
            self.at_nid(nid)

    def unmount(self) -> None:
        """The directories go with the target."""
        params = self.host.params
        params.on_look.remove(self._every_nid)
        for files in self.nids.values():
            if files is not None:
                params.unmount(files)
        self.nids = {}
        super().unmount()

    # ---- locks

    def handler(self, opcode: int) -> Callable[[Any], Any] | None:
        """As for any target; lock requests are counted."""
        handle = super().handler(opcode)
        name = LDLM_NAMES.get(opcode)
        if name is None or handle is None:
            return handle

        def counted(req: ServerRequest) -> Any:
            self.at_nid(req.peer).ldlm_stats.tally(name)
            return handle(req)

        return counted

    def called_back(self, nid: int, opcode: int) -> None:
        """A callback is on its way to a client."""
        self.at_nid(nid).ldlm_stats.tally(LDLM_NAMES[opcode])

    # ---- clearing

    @Param.computed(file="exports.clear", access="rw", help="clears what is counted by NID")
    def exports_clear(self) -> str:
        """What a write would do."""
        return CLEAR

    def store_exports_clear(self, text: str) -> None:
        """Any write: directories without clients go, elsewhere `stats` begins anew."""
        for nid in list(self.nids):
            files = self.at_nid(nid)
            if files.exports():
                files.stats.clear(self.host.params.wall_ns())
            else:
                self.host.params.unmount(files)
                del self.nids[nid]

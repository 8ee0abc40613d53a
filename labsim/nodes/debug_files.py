"""Files that a node keeps beside the file systems, in its /tmp: dumps for who looks for a bug.

Does not know what is dumped. Stands for debug_path of libcfs (libcfs_debug_file_path_arr), and for
dump_all_bulk_pages (osc_request.c, tgt_handler.c), which names a file after it.
"""

from __future__ import annotations

from labsim.base.component import Component
from labsim.base.ids import Fid
from labsim.base.params import Param
from labsim.base.payload import Payload
from labsim.runtime.ports import Host
from labsim.wire.constants import OBD_MD_FLFID
from labsim.wire.ost import Obdo

DEFAULT_PATH = "/tmp/lustre-log"
"""LIBCFS_DEBUG_FILE_PATH_DEFAULT."""


class DebugFiles(Component):
    """The part of a node's Globals that keeps such files."""

    host: Host
    debug_path = Param.text(DEFAULT_PATH, help="what the names of debug files begin with, or NONE")

    def keep_no_files(self) -> None:
        """To begin with."""
        self.files: dict[str, Payload] = {}
        """Their bytes, by path."""

    def dump(self, name: str, data: Payload) -> None:
        """Write a file of that name behind debug_path; one that is there stays as it is."""
        start = DEFAULT_PATH if self.debug_path.startswith("NONE") else self.debug_path
        path = f"{start}-{name}"
        if path not in self.files:
            self.files[path] = data
            self.host.trace.emit("debug.dump", path, len(data))


def checksum_dump(
    side: str, oa: Obdo, extent: tuple[int, int], client_cksum: int, server_cksum: int
) -> str:
    """What the dump of a damaged [start, end) of an object is called; "osc" or "ost" made it."""
    known = oa.valid & OBD_MD_FLFID
    fid = Fid(oa.parent_seq, oa.parent_oid, oa.parent_ver) if known else Fid(0, 0, 0)
    start, end = extent
    return f"checksum_dump-{side}-{fid}:[{start}-{end - 1}]-{client_cksum:x}-{server_cksum:x}"

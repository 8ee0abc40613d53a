"""One OST as a client sees it: objects, and the bulk RPCs that move their bytes.

Knows objects, not files or stripes. Stands for lustre/osc: connecting, attributes and parameters
are here (osc_request.c, lproc_osc.c), bytes in `osc_io`, dirty pages in `writeback` and
`osc_object`.
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import Nid
from labsim.base.params import Param
from labsim.base.units import MIB, NS_PER_S, PAGE_SIZE
from labsim.ldlm.client import ClientNamespace
from labsim.net.ptlrpc import Import, Request, State
from labsim.nodes.client import points
from labsim.nodes.client.dirty import PAGE_SHIFT
from labsim.nodes.client.grant import GrantAccount
from labsim.nodes.client.osc_files import OscFiles
from labsim.nodes.client.osc_io import OscIo
from labsim.nodes.client.osc_object import guards_nothing
from labsim.nodes.config import TargetInfo
from labsim.nodes.import_files import IdleFiles
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    OBD_CKSUM_ADLER,
    OBD_CONNECT2_LOCKAHEAD,
    OBD_CONNECT_AT,
    OBD_CONNECT_BRW_SIZE,
    OBD_CONNECT_BULK_MBITS,
    OBD_CONNECT_CANCELSET,
    OBD_CONNECT_CKSUM,
    OBD_CONNECT_EINPROGRESS,
    OBD_CONNECT_FID,
    OBD_CONNECT_FLAGS2,
    OBD_CONNECT_FULL20,
    OBD_CONNECT_GRANT,
    OBD_CONNECT_GRANT_PARAM,
    OBD_CONNECT_GRANT_SHRINK,
    OBD_CONNECT_INDEX,
    OBD_CONNECT_JOBSTATS,
    OBD_CONNECT_LRU_RESIZE,
    OBD_CONNECT_LVB_TYPE,
    OBD_CONNECT_MAXBYTES,
    OBD_CONNECT_REQPORTAL,
    OBD_CONNECT_SHORTIO,
    OBD_CONNECT_SRVLOCK,
    OBD_CONNECT_TRUNCLOCK,
    OBD_CONNECT_VERSION,
    OBD_MD_FLATIME,
    OBD_MD_FLBLOCKS,
    OBD_MD_FLCTIME,
    OBD_MD_FLGROUP,
    OBD_MD_FLHANDLE,
    OBD_MD_FLID,
    OBD_MD_FLMTIME,
    OBD_MD_FLSIZE,
    OBD_OBJECT_EOF,
    OSC_REPLY_PORTAL,
    OST_REQUEST_PORTAL,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.opcodes import (
    OST_CONNECT,
    OST_DISCONNECT,
    OST_PUNCH,
    OST_SETATTR,
    OST_STATFS,
    OST_SYNC,
)
from labsim.wire.ost import Obdo, ObdStatfs, OstBody
from labsim.wire.schema import OstId

EIO, ESHUTDOWN = 5, 108

MAX_BRW_PAGES = 16 * MIB // PAGE_SIZE
"""PTLRPC_MAX_BRW_PAGES: the most that any BRW may ask for."""

WANTED = (
    OBD_CONNECT_GRANT | OBD_CONNECT_INDEX | OBD_CONNECT_VERSION | OBD_CONNECT_REQPORTAL
    | OBD_CONNECT_BRW_SIZE | OBD_CONNECT_CANCELSET | OBD_CONNECT_FID | OBD_CONNECT_SRVLOCK
    | OBD_CONNECT_TRUNCLOCK | OBD_CONNECT_FULL20 | OBD_CONNECT_MAXBYTES | OBD_CONNECT_EINPROGRESS
    | OBD_CONNECT_LVB_TYPE | OBD_CONNECT_LRU_RESIZE | OBD_CONNECT_BULK_MBITS | OBD_CONNECT_FLAGS2
    | OBD_CONNECT_GRANT_SHRINK | OBD_CONNECT_AT | OBD_CONNECT_CKSUM | OBD_CONNECT_SHORTIO
    | OBD_CONNECT_JOBSTATS | OBD_CONNECT_GRANT_PARAM
)  # fmt: skip


class Osc(OscFiles, OscIo, IdleFiles, tree="osc.{name}"):
    """An object storage client: the way to one OST."""

    max_rpcs_in_flight = Param.count(
        8, low=1, high=256, unit="RPCs", help="bulk RPCs this OSC may have on the wire"
    )
    max_pages_per_rpc = Param.count(
        1024,
        low=1,
        high=lambda osc: osc.max_pages_bound(),
        unit="pages",
        help="pages that one bulk RPC may carry",
    )
    max_dirty_bytes = Param.size_mb(
        32 * MIB, low=1, high=2047, help="dirty data this OSC may hold before a writer waits"
    )
    active = Param.flag(True, help="whether the import may be used")
    resend_count = Param.count(10, unit="count", help="how often a failed bulk RPC is sent again")
    stats = Param.stats(
        help="one counter for each RPC of this OSC, and for the bytes of bulk RPCs",
        order=("req_waittime", "req_active", "read_bytes", "write_bytes"),
    )

    def __init__(self, node: Any, info: TargetInfo, name: str, client_uuid: str) -> None:
        self.node = node
        self.host = node.host
        self.info = info
        self.name = name
        self.grant = GrantAccount(node.globals)
        self.imp = Import(
            node.rpc,
            name=name,
            target_uuid=info.uuid,
            client_uuid=client_uuid,
            nids=[Nid.parse(info.nid)],
            portals=(OST_REQUEST_PORTAL, OSC_REPLY_PORTAL),
            opcodes=(OST_CONNECT, OST_DISCONNECT),
            want=self.wanted,
        )
        self.ldlm: ClientNamespace = node.make(ClientNamespace, node, self.imp, name)
        self.ldlm.guards_nothing = guards_nothing
        self.imp.on_active += (self._connected,)
        self.imp.on_evicted += (self._evicted,)
        self.imp.on_idle = self.grant.evicted
        self.imp.locks = self.ldlm.locks
        self.imp.idle_timeout_ns = self.host.kit.traits.osc_idle_s * NS_PER_S

    # ---- connecting

    def wanted(self) -> ObdConnectData:
        """What this client asks of the OST."""
        flags, kinds = WANTED, self.host.kit.traits.cksum_types
        if self.host.faults.hit(points.OSC_CONNECT_CKSUM):
            flags, kinds = flags & ~OBD_CONNECT_CKSUM, 0
        elif self.host.faults.hit(points.OSC_CKSUM_ADLER_ONLY):
            kinds = OBD_CKSUM_ADLER
        return ObdConnectData(
            connect_flags=flags & ~self.host.kit.traits.connect_unknown,
            connect_flags2=OBD_CONNECT2_LOCKAHEAD & ~self.host.kit.traits.connect_unknown2,
            version=self.host.kit.traits.ocd_version,
            index=self.info.index,
            brw_size=4 * MIB,
            cksum_types=kinds,
            grant_blkbits=PAGE_SHIFT,
            grant=self.grant.held - self.grant.lost or 2 * self.rpc_bytes(),
        )

    def _connected(self) -> None:
        granted = self.imp.connect_data
        self.grant.connected(granted)
        self.max_pages_per_rpc = min(self.max_pages_per_rpc, self.brw_pages() or 1)

    def close(self) -> None:
        """The mount goes."""
        self.stop_flusher()
        self.unwatch_grant()

    def _evicted(self) -> None:
        """What was dirty is lost; fsync will say so."""
        self.lose(EIO)

    def brw_pages(self) -> int:
        """Pages in the largest BRW that the server takes; 0 until it was asked."""
        return self.imp.connect_data.brw_size // PAGE_SIZE

    def max_pages_bound(self) -> int:
        """The largest max_pages_per_rpc: the server's BRW size, once that is known."""
        return self.brw_pages() or MAX_BRW_PAGES

    def rpc_bytes(self) -> int:
        """Bytes of one full BRW."""
        return self.max_pages_per_rpc * PAGE_SIZE

    @property
    def usable(self) -> bool:
        """Connected, and not switched off."""
        return self.active and self.imp.state is State.FULL

    # ---- calling

    def call(self, request: Request, counter: str) -> Steps[Any]:
        """Send a request and count it."""
        if not self.active:
            raise LustreError(ESHUTDOWN, f"{self.name} is not active")
        start_ns = self.host.env.now
        reply = yield from self.imp.call(request)
        usecs = (self.host.env.now - start_ns) // 1000
        self.stats.add("req_waittime", usecs)
        self.stats.add("req_active", max(len(self.imp.outstanding), 1), "reqs")
        self.stats.add(counter, usecs)
        return reply

    def _obdo(self, oi: OstId, **fields: Any) -> Obdo:
        valid = fields.pop("valid", 0) | OBD_MD_FLID | OBD_MD_FLGROUP
        return Obdo(valid=valid, oi=oi, **fields)

    # ---- attributes

    def punch(self, oi: OstId, handle: int, size: int, **times: int) -> Steps[Obdo]:
        """Make an object `size` bytes long."""
        yield from self._about_to_set()
        valid = OBD_MD_FLSIZE | OBD_MD_FLBLOCKS | OBD_MD_FLHANDLE | _valid_of(times)
        oa = self._obdo(oi, valid=valid, size=size, blocks=OBD_OBJECT_EOF, handle=handle, **times)
        reply = yield from self.call(Request(OST_PUNCH, ost_body=OstBody(oa=oa)), "ost_punch")
        return reply["ost_body"].oa

    def _about_to_set(self) -> Steps[None]:
        return self.host.faults.visit(points.OSC_DELAY_SETTIME)

    def setattr(self, oi: OstId, **times: int) -> Steps[None]:
        """Set atime, mtime and ctime of an object (seconds since 1970)."""
        yield from self._about_to_set()
        oa = self._obdo(oi, valid=_valid_of(times), **times)
        yield from self.call(Request(OST_SETATTR, ost_body=OstBody(oa=oa)), "ost_setattr")

    def sync(self, oi: OstId) -> Steps[None]:
        """Have the object's bytes on disk."""
        oa = self._obdo(oi, valid=OBD_MD_FLSIZE | OBD_MD_FLBLOCKS, blocks=OBD_OBJECT_EOF)
        yield from self.call(Request(OST_SYNC, ost_body=OstBody(oa=oa)), "ost_sync")

    def statfs(self) -> Steps[ObdStatfs]:
        """How full the OST is; not resent, so that a slow OST cannot hang it."""
        reply = yield from self.call(Request(OST_STATFS, no_resend=True), "ost_statfs")
        return reply["obd_statfs"]

    # ---- parameters

    @Param.computed(access="rw", help="bytes read and written without a lock of this client's")
    def osc_stats(self) -> str:
        """The file's text (osc_stats_seq_show); truncates always take a lock here."""
        return (
            f"{self._rpc_header()}lockless_write_bytes\t\t{self.lockless_written}\n"
            f"lockless_read_bytes\t\t{self.lockless_read}\nlockless_truncate\t\t0\n"
        )

    def store_osc_stats(self, text: str) -> None:
        """Any write clears them."""
        self.lockless_written = self.lockless_read = 0

    @Param.computed(unit="NID", help="where the OST is connected at")
    def ost_conn_uuid(self) -> str:
        """The NID in use."""
        return str(self.imp.peer)

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return {
            "name": self.name,
            "target": self.info.name,
            "state": self.imp.state.name,
            "grant": self.grant.held,
            "in_flight": len(self.imp.outstanding),
            "grants": self.grant.snapshot(),
            "objects": [obj.snapshot() for obj in self.objects.values()],
            "locks": self.ldlm.snapshot(),
        }


def _valid_of(times: dict[str, int]) -> int:
    bits = {"atime": OBD_MD_FLATIME, "mtime": OBD_MD_FLMTIME, "ctime": OBD_MD_FLCTIME}
    return sum(bits[name] for name in times)

"""The OST: its clients, the attributes of its objects, and their space.

Knows objects, not files, stripes or names; how objects come and go is in `ofd_objects`. Stands for
lustre/ofd (ofd_dev.c, ofd_obd.c).
"""

from __future__ import annotations

import errno
from typing import Any

import msgspec

from labsim.base.errors import LustreError
from labsim.base.params import Param
from labsim.base.stats import Stats
from labsim.base.units import MIB, PAGE_SIZE
from labsim.ldlm.policy import Extent
from labsim.ldlm.resource import ost_resource
from labsim.ldlm.server import ServerNamespace
from labsim.net.ptlrpc import Export, ServerRequest, handles
from labsim.nodes.config import TargetInfo
from labsim.nodes.export_files import NidFiles
from labsim.nodes.node import Node
from labsim.nodes.oss import points
from labsim.nodes.oss.grants import Grants
from labsim.nodes.oss.objects import (
    changes_of,
    describe,
    lvb_of,
)
from labsim.nodes.oss.ofd_objects import ObjectStore
from labsim.nodes.space_files import SpaceFiles
from labsim.runtime.ports import Steps
from labsim.storage.osd import Statfs
from labsim.wire.constants import (
    LCK_PW,
    OBD_CONNECT_BRW_SIZE,
    OBD_CONNECT_CKSUM,
    OBD_CONNECT_GRANT,
    OBD_CONNECT_GRANT_PARAM,
    OBD_CONNECT_INDEX,
    OBD_CONNECT_MAXBYTES,
    OBD_CONNECT_MDS,
    OBD_FL_SRVLOCK,
    OBD_MD_FLBLOCKS,
    OBD_MD_FLDATAVERSION,
    OBD_MD_FLFLAGS,
    OBD_MD_FLSIZE,
    OBD_OBJECT_EOF,
    OS_STATE_DEGRADED,
    OS_STATE_READONLY,
    OST_CONNECT_SUPPORTED,
    OST_CONNECT_SUPPORTED2,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.message import Message
from labsim.wire.opcodes import (
    OBD_PING,
    OST_GETATTR,
    OST_PUNCH,
    OST_SETATTR,
    OST_STATFS,
    OST_SYNC,
)
from labsim.wire.ost import Obdo, ObdStatfs, OstBody
from labsim.wire.schema import OstId

MAX_BRW = 4 * MIB
MAXBYTES = (1 << 32) - 1 << 12
"""The largest object of ldiskfs with 4 KiB blocks (s_maxbytes): a block less than 16 TiB."""
OWN_BYTES = 256 << 10
"""Kept for the OST's own files, which ldiskfs writes from its reserved blocks."""


COUNTED = ("read_bytes", "write_bytes", "getattr", "setattr", "punch", "sync", "destroy", "create",
           "statfs", "get_info", "set_info_async", "quotactl")  # fmt: skip


class OfdNidFiles(NidFiles, tree="obdfilter.{name}.exports.{nid}"):
    """The files of an OST's clients (ofd_export_stats_init)."""

    stats = Param.stats(help="requests of the clients at this NID", order=(*COUNTED, "ping"))


class ObjectHandlers(ObjectStore, SpaceFiles, tree="obdfilter.{name}"):
    """Creating, destroying and describing objects."""

    all_net = (points.OST_ALL_REQUEST_NET, points.OST_ALL_REPLY_NET)
    supported = OST_CONNECT_SUPPORTED
    supported2 = OST_CONNECT_SUPPORTED2
    stats = Param.stats(
        help="requests done, by kind; of reads and writes their bytes",
        order=COUNTED,
    )
    nid_files = OfdNidFiles

    def __init__(self, node: Node, info: TargetInfo) -> None:
        super().__init__(node, info)
        self.index = info.index
        self.grants = Grants()
        self._known: set[int] = set()
        """Cookies of clients that had their first grant."""
        self.ldlm = node.make(ServerNamespace, self)

    def unmount(self) -> None:
        """The locks go with the parameters."""
        self.ldlm.close()
        super().unmount()

    # ---- clients

    def connect(self, req: ServerRequest) -> Steps[Message]:
        """A client comes, or comes back."""
        yield from self.at(points.OST_CONNECT_NET)
        return (yield from super().connect(req))

    def disconnect(self, req: ServerRequest) -> Steps[Message]:
        """A client leaves."""
        yield from self.at(points.OST_DISCONNECT_NET)
        return super().disconnect(req)

    @handles(OBD_PING)
    def ping(self, req: ServerRequest) -> Steps[Message]:
        """A sign of life; it is counted by NID."""
        self.at_nid(req.peer).stats.tally("ping")
        return super().ping(req)

    def totals(self) -> Stats:
        """The file stats."""
        return self.stats

    def negotiate(
        self, export: Export, want: ObdConnectData, granted: ObdConnectData
    ) -> ObdConnectData:
        """Sizes, space and identity of this OST."""
        if granted.connect_flags & OBD_CONNECT_INDEX and want.index != self.index:
            raise LustreError(errno.EBADF, f"{self.name} is not index {want.index}")
        changes: dict[str, int] = {
            "instance": self.last_rcvd.mount_count,
            "version": self.host.kit.traits.ocd_version,
        }
        if granted.connect_flags & OBD_CONNECT_BRW_SIZE:
            changes["brw_size"] = min(want.brw_size, self.brw_size_bytes)
        if granted.connect_flags & OBD_CONNECT_CKSUM:
            changes["cksum_types"] = want.cksum_types & self.host.kit.traits.cksum_types
            if not changes["cksum_types"]:
                raise LustreError(errno.EPROTO, "no checksum that both sides know")
        if granted.connect_flags & OBD_CONNECT_MAXBYTES:
            changes["maxbytes"] = MAXBYTES
        if granted.connect_flags & OBD_CONNECT_GRANT_PARAM:
            terms = self.grants.terms
            changes |= {"grant_blkbits": terms.block_bits, "grant_inobits": terms.inode_bits,
                        "grant_tax_kb": terms.extent_tax >> 10,
                        "grant_max_blks": terms.extent_blocks}  # fmt: skip
        if granted.connect_flags & OBD_CONNECT_GRANT:
            changes |= self._first_grant(export, want.grant, granted.connect_flags, changes)
        return granted.replace(**changes)

    def _first_grant(
        self, export: Export, wanted: int, flags: int, changes: dict[str, int]
    ) -> dict[str, int]:
        """What a client holds from now on; nothing where it does not know the terms and must."""
        terms = bool(flags & OBD_CONNECT_GRANT_PARAM)
        if self.grants.compat_disable and not terms:
            return {"connect_flags": flags & ~OBD_CONNECT_GRANT, "grant": 0}
        held = self.grants.connect(
            export.cookie, wanted, self.available(), new=export.cookie not in self._known,
            brw=changes.get("brw_size", PAGE_SIZE), terms=terms, recovering=self.recovering,
        )  # fmt: skip
        self._known.add(export.cookie)
        return {"grant": held}

    def on_disconnect(self, export: Export) -> None:
        """A client's promised space is free again."""
        self._known.discard(export.cookie)
        self.grants.forget(export.cookie)

    def available(self) -> int:
        """Bytes that may still be written, promised or not; a little is kept for the OST's own."""
        statfs = self.osd.statfs()
        free: int = statfs.bavail * statfs.bsize - OWN_BYTES
        return max(free, 0)

    def lvb(self, resource: tuple[int, ...]) -> bytes:
        """The value block of an object's extent locks (ofd_lvbo_update); ENOENT."""
        return lvb_of(self.osd.attrs(self._there(OstId(id=resource[0], seq=resource[1])))).pack()

    # ---- attributes

    @handles(OST_GETATTR)
    def getattr(self, req: ServerRequest) -> Steps[Message]:
        """An object's attributes, and the transno of its last write or punch (o_data_version)."""
        yield from self.at(points.OST_GETATTR_NET)
        oa: Obdo = req["ost_body"].oa
        attrs = self.osd.attrs(self.fid(oa))
        self.count(req, "getattr")
        told = describe(oa, attrs).replace(data_version=attrs.version)
        return req.reply(ost_body=OstBody(oa=told.replace(valid=told.valid | OBD_MD_FLDATAVERSION)))

    @handles(OST_SETATTR)
    def setattr(self, req: ServerRequest) -> Steps[Message]:
        """Times and owner of an object; later of two ctimes wins, as ofd_attr_set has it.

        That is no new version of it (ofd_attr_set gives one only with a size). Versions are checked
        where a replay brings one: replies of an OST tell none since 2.6 (ofd_version_get_check).
        """
        yield from self.at(points.OST_SETATTR_NET)
        oa: Obdo = req["ost_body"].oa
        fid = yield from self.changing(req, oa)
        self.check_version(req, 0, self.osd.attrs(fid).version)
        changes = changes_of(oa)
        if changes and self.osd.attrs(fid).ctime <= changes.get("ctime", 1 << 62):
            tx = self.begin(req)
            tx.set_attrs(fid, **changes)
            yield from tx.stop()
        self.count(req, "setattr")
        return req.reply(ost_body=OstBody(oa=describe(oa, self.osd.attrs(fid))))

    @handles(OST_PUNCH)
    def punch(self, req: ServerRequest) -> Steps[Message]:
        """Cut an object, or make it longer: o_size to o_blocks (EOF) goes (ofd_punch_hdl)."""
        yield from self.at(points.OST_PUNCH_NET)
        oa: Obdo = req["ost_body"].oa
        wanted = OBD_MD_FLSIZE | OBD_MD_FLBLOCKS
        if oa.valid & wanted != wanted or oa.blocks != OBD_OBJECT_EOF:
            raise LustreError(errno.EPROTO, "a punch names its start, and ends at EOF")
        fid = yield from self.changing(req, oa)
        lock = None
        if oa.valid & OBD_MD_FLFLAGS and oa.flags & OBD_FL_SRVLOCK:
            start = oa.size - oa.size % PAGE_SIZE
            lock = yield from self.ldlm.acquire(
                ost_resource(oa.oi.id, oa.oi.seq), LCK_PW, extent=Extent(start, OBD_OBJECT_EOF)
            )
        try:
            self.check_version(req, 0, self.osd.attrs(fid).version)
            tx = self.begin(req, fid)
            tx.truncate(fid, oa.size)
            if changes := changes_of(oa):
                tx.set_attrs(fid, **changes)
            yield from tx.stop()
        finally:
            if lock is not None:
                self.ldlm.release(lock)
        self.count(req, "punch")
        return req.reply(ost_body=OstBody(oa=describe(oa, self.osd.attrs(fid))))

    # ---- the whole target

    @handles(OST_STATFS)
    def statfs(self, req: ServerRequest) -> Steps[Message]:
        """How full this OST is; to an MDT, what is kept for objects to be made is not free."""
        yield from self.at(points.OST_STATFS_NET)
        kept = self.grants.own.granted if req.export.granted(OBD_CONNECT_MDS) else 0
        now = self.space(kept)
        state = OS_STATE_DEGRADED if self.degraded else 0
        self.count(req, "statfs")
        return req.reply(
            obd_statfs=ObdStatfs(
                type=0xEF53,
                blocks=now.blocks,
                bfree=now.bfree,
                bavail=now.bavail,
                files=now.files,
                ffree=now.ffree,
                bsize=now.bsize,
                namelen=255,
                maxbytes=MAXBYTES,
                state=state | (OS_STATE_READONLY if self.osd.readonly else 0),
            )
        )

    def space(self, kept: int = 0) -> Statfs:
        """What clients hold dirty, and what is pending, is not available (ofd_statfs)."""
        now, grants = self.osd.statfs(), self.grants
        held = -(-(grants.tot_dirty + grants.tot_pending) // now.bsize) + kept // now.bsize
        return msgspec.structs.replace(now, bavail=max(now.bavail - held, 0))

    @handles(OST_SYNC)
    def sync(self, req: ServerRequest) -> Steps[Message]:
        """Everything that was answered so far is on disk when this is answered."""
        yield from self.at(points.OST_SYNC_NET)
        yield from self.osd.sync()
        self.count(req, "sync")
        return req.reply(ost_body=req["ost_body"])

    # ---- parameters

    degraded = Param.flag(False, help="new files pass it over where there are others")
    brw_size_bytes = Param.size_mb(
        MAX_BRW, file="brw_size", low=1, high=MAX_BRW // MIB, help="the largest BRW of new clients"
    )

    @Param.computed(file="last_id", help="the last object that was made, by sequence")
    def last_ids(self) -> str:
        """Of sequence 0, which has the objects of MDT0000."""
        return f"0x0:{self.last_id}\n"

    @Param.computed(unit="bytes", help="grant promised to clients")
    def tot_granted(self) -> int:
        """Bytes promised to clients."""
        return self.grants.tot_granted

    @Param.computed(unit="bytes", help="dirty data that clients said they hold")
    def tot_dirty(self) -> int:
        """Bytes that clients hold dirty."""
        return self.grants.tot_dirty

    @Param.computed(unit="bytes", help="grant in use by writes under way")
    def tot_pending(self) -> int:
        """Bytes of writes under way."""
        return self.grants.tot_pending

    @Param.computed(unit="bytes", help="grant kept for objects to be precreated")
    def grant_precreate(self) -> int:
        """Bytes that the OST granted itself."""
        return self.grants.own.granted

    grant_compat_disable = Param.flag(
        False, help="no grant for clients that do not know its terms (OBD_CONNECT_GRANT_PARAM)"
    )

    def set_grant_compat_disable(self, value: bool) -> None:
        """From now on; what they hold they keep."""
        self.grant_compat_disable = self.grants.compat_disable = value

    @Param.computed(unit="exports", help="clients connected to this OST")
    def num_exports(self) -> int:
        """Connected clients."""
        return len(self.exports)

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        objects = {
            str(fid.oid | (fid.seq & 0xFFFF) << 32): self.osd.attrs(fid).size
            for fid in self.osd.objects()
            if fid.seq >> 32 == 1 and fid.oid
        }
        return super().snapshot() | {
            "index": self.index,
            "last_id": self.last_id,
            "objects": objects,
            "grants": self._grants_told(),
            "locks": self.ldlm.snapshot(),
        }

    def _grants_told(self) -> dict[str, Any]:
        """The accounts by client."""
        told = self.grants.snapshot()
        names = {export.cookie: export.client_uuid for export in self.exports}
        accounts: Any = told.pop("exports")
        clients = {names.get(cookie, f"{cookie:#x}"): sums for cookie, sums in accounts.items()}
        return told | {"clients": clients}

"""The MDT: a target that serves the namespace of one file system, or its part of it.

Knows connections and the requests about the whole target; operations on files are in the modules
that this one builds on (mdt_*). Stands for struct mdt_device (mdt/mdt_handler.c).
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import ROOT_FID, Nid
from labsim.base.params import Param
from labsim.base.stats import Stats
from labsim.ldlm.server import ServerNamespace
from labsim.net.ptlrpc import Export, Request, ServerRequest, handles
from labsim.nodes.config import TargetInfo
from labsim.nodes.export_files import NidFiles
from labsim.nodes.jobs import JobStats
from labsim.nodes.mds import layout, mdt_jobs, objects, squash
from labsim.nodes.mds.cred import Cred
from labsim.nodes.mds.fld import FldServer
from labsim.nodes.mds.links import Link, Links
from labsim.nodes.mds.lod import Lod
from labsim.nodes.mds.mdd import Mdd
from labsim.nodes.mds.mdt_readdir import MdtReaddir
from labsim.nodes.mds.opens import OpenFiles
from labsim.nodes.mds.osp import Osp
from labsim.nodes.mds.points import (
    FLD_QUERY_NET,
    MDS_ALL_REPLY_NET,
    MDS_ALL_REQUEST_NET,
    MDS_CONNECT_NET,
    MDS_DISCONNECT_NET,
    MDS_GET_ROOT_NET,
    MDS_STATFS_NET,
    MDS_STATFS_PACK,
    MDS_SYNC_NET,
    SEQ_QUERY_NET,
)
from labsim.nodes.mds.seq import Controller, Sequences
from labsim.nodes.node import Node
from labsim.runtime.ports import Steps
from labsim.storage.osd import Attrs
from labsim.wire.constants import (
    FLD_LOOKUP,
    MDT_CONNECT_SUPPORTED,
    OBD_CONNECT2_FILE_SECCTX,
    OBD_CONNECT2_LOCK_CONVERT,
    OBD_CONNECT_BRW_SIZE,
    OBD_CONNECT_DIR_STRIPE,
    OBD_CONNECT_IBITS,
    OBD_CONNECT_IMP_RECOV,
    OBD_CONNECT_LFSCK,
    OBD_CONNECT_MAX_EASIZE,
    OBD_CONNECT_MULTIMODRPCS,
    OBD_MD_FLID,
    SEQ_ALLOC_META,
    SEQ_ALLOC_SUPER,
    SEQ_CONTROLLER_PORTAL,
)
from labsim.wire.lu import LuSeqRange
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.mdt import MdtBody
from labsim.wire.message import Message
from labsim.wire.opcodes import FLD_QUERY, MDS_GET_ROOT, MDS_STATFS, MDS_SYNC, SEQ_QUERY
from labsim.wire.ost import ObdStatfs

NOT_YET = OBD_CONNECT_DIR_STRIPE | OBD_CONNECT_IMP_RECOV | OBD_CONNECT_LFSCK
"""What a real MDT would grant and this one does not do."""

MAX_MOD_RPCS = 8
"""max_mod_rpcs_in_flight: modifying requests that one client may have under way."""
MAX_BRW = 1 << 20
IBITS_KNOWN = 0x3F
"""The inodebits that this MDT grants: all but those of data on the MDT."""
NAME_MAX = objects.NAME_MAX


COUNTED = ("open", "close", "mknod", "link", "unlink", "mkdir", "rmdir", "rename", "getattr",
           "setattr", "getxattr", "setxattr", "statfs", "sync", "samedir_rename",
           "crossdir_rename")  # fmt: skip


class MdtNidFiles(NidFiles, tree="mdt.{name}.exports.{nid}"):
    """The files of an MDT's clients (mdt_export_stats_init)."""

    stats = Param.stats(help="operations done for the clients at this NID", order=COUNTED)

    @Param.computed(help="the files that these clients have open")
    def open_files(self) -> str:
        """Their FIDs, one a line."""
        opens = [file for one in self.exports() for file in self.target.opens.of(one.cookie)]
        return "".join(f"{file.fid}\n" for file in opens)


class Mdt(MdtReaddir, JobStats, tree="mdt.{name}"):
    """One metadata target."""

    JOB_COUNTERS = mdt_jobs.COUNTERS

    all_net = (MDS_ALL_REQUEST_NET, MDS_ALL_REPLY_NET)
    supported = MDT_CONNECT_SUPPORTED & ~NOT_YET
    supported2 = OBD_CONNECT2_FILE_SECCTX | OBD_CONNECT2_LOCK_CONVERT

    md_stats = Param.stats(help="operations done, by kind", order=COUNTED)
    nid_files = MdtNidFiles

    root_squash = Param.text(
        "0:0", unit="uid:gid", help="who root of a client is on this file system; 0:0: root"
    )
    nosquash_nids = Param.text(
        "NONE", unit="NID list", help="clients whose root is root in spite of root_squash"
    )

    def __init__(self, node: Node, info: TargetInfo) -> None:
        super().__init__(node, info)
        self.osps: dict[int, Osp] = {}
        self._running = False
        self.ldlm = node.make(ServerNamespace, self)
        self.ldlm.on_wanted = self.own_lock_wanted
        self.lod = node.make(Lod, self.osd, self.osps)
        self.mdd = node.make(Mdd, self.osd, self.lod)
        self.opens = OpenFiles(self.host.rng)
        self.fld = FldServer(self.osd)
        self.controller = Controller(self.host.env, self.osd, self.fld)
        self.sequences = Sequences(self.host.env, self.osd, self._super_sequence)
        self.links = Links(self)
        self.mount()

    def mount(self) -> None:
        """Put the parameters of all parts into the node's tree."""
        params = self.host.params
        params.mount(self, name=self.name)
        params.mount(self.mdd, name=self.name)
        params.mount(self.lod, name=f"{self.name}-mdtlov")

    def unmount(self) -> None:
        """Take them away; the locks and the ways to the OSTs have gone."""
        self.ldlm.close()
        for part in (self.mdd, self.lod, *self.osps.values()):
            self.host.params.unmount(part)
        super().unmount()

    def moved(self, kind: str, index: int, nids: tuple[int, ...], instance: int) -> None:
        """A target has come up somewhere (mgc_apply_recover_logs)."""
        if kind == "mdt":
            for nid in nids:
                self.links.moved(index, nid, instance)
        osp = self.osps.get(index) if kind == "ost" else None
        if osp is not None:
            any(osp.imp.recover(nid, instance) for nid in nids)

    def add_target(self, kind: str, info: TargetInfo) -> Any:
        """The log names another target: an OST ("osc" there, an osp here), or an MDT ("osp")."""
        return self._add_ost(info) if kind == "osc" else self._add_link(info)

    def _add_link(self, info: TargetInfo) -> Link:
        return self.links.add(info, self._running)

    def _add_ost(self, info: TargetInfo) -> Osp:
        osp: Osp = self.node.make(Osp, self, info, [int(Nid.parse(info.nid))])
        self.osps[info.index] = osp
        self.host.params.mount(osp, name=osp.name)
        if self._running:
            osp.load()
            if not self.recovering:
                osp.mdt_recovered()
            osp.start()
        return osp

    # ---- life

    def start(self) -> Steps[None]:
        """Open the storage (or make it), begin to connect to the OSTs, take requests."""
        if not self.osd.exists(objects.FLD):
            yield from self._format()
        self.sequences.load()
        for osp in self.osps.values():
            osp.load()
        yield from super().start()
        self._running = True
        if not self.recovering:
            yield from self.on_recovered()
        self.links.start()
        for osp in self.osps.values():
            osp.start()

    def _format(self) -> Steps[None]:
        """Do mkfs: the objects that every MDT has, and the root on MDT0000."""
        tx = self.osd.transaction()
        for fid in (objects.FLD, objects.SEQ_CONTROLLER, objects.SEQ_SERVER, objects.ORPHANS,
                    objects.OBJIDS, objects.UNLINKED):  # fmt: skip
            tx.create(fid, Attrs(mode=0o100600))
        if self.info.index == 0:
            self.mdd.make_root(tx, self.host.clock.seconds())
        yield from tx.stop(sync=True)

    def on_recovered(self) -> Steps[None]:
        """Nobody comes back for files without a name; objects that no replay named may go."""
        tx = self.osd.transaction()
        for osp in self.osps.values():
            osp.give_up(tx)
            osp.mdt_recovered()
        yield from tx.stop()
        yield from self.destroy_orphans()

    def stop(self, failover: bool = True) -> Steps[None]:
        """Let the clients go, write back, take leave of the OSTs."""
        yield from super().stop(failover)
        for osp in self.osps.values():
            yield from osp.stop()
        yield from self.links.stop()

    # ---- clients

    def connect(self, req: ServerRequest) -> Steps[Message]:
        """A client comes, or comes back."""
        yield from self.at(MDS_CONNECT_NET)
        return (yield from super().connect(req))

    def disconnect(self, req: ServerRequest) -> Steps[Message]:
        """A client leaves."""
        yield from self.at(MDS_DISCONNECT_NET)
        return super().disconnect(req)

    def negotiate(
        self, export: Export, want: ObdConnectData, granted: ObdConnectData
    ) -> ObdConnectData:
        """Sizes and limits of this MDT."""
        flags = granted.connect_flags
        changes: dict[str, int] = {
            "instance": self.last_rcvd.mount_count,
            "version": self.host.kit.traits.ocd_version,
        }
        if flags & OBD_CONNECT_IBITS:
            changes["ibits_known"] = want.ibits_known & IBITS_KNOWN
        if flags & OBD_CONNECT_BRW_SIZE:
            changes["brw_size"] = min(want.brw_size, MAX_BRW)
        if flags & OBD_CONNECT_MAX_EASIZE:
            changes["max_easize"] = self.max_easize
        if flags & OBD_CONNECT_MULTIMODRPCS:
            changes["maxmodrpcs"] = MAX_MOD_RPCS
        return granted.replace(**changes)

    # ---- the whole target

    @handles(MDS_GET_ROOT)
    def get_root(self, req: ServerRequest) -> Steps[Message]:
        """The root's FID; ENOENT for a fileset, which this MDT has none of."""
        yield from self.at(MDS_GET_ROOT_NET)
        if req.get("name", "/").strip("/"):
            raise LustreError(errno.ENOENT, req["name"])
        return req.reply(mdt_body=MdtBody(fid1=ROOT_FID, valid=OBD_MD_FLID))

    @handles(MDS_STATFS)
    def statfs(self, req: ServerRequest) -> Steps[Message]:
        """How full the MDT is."""
        yield from self.at(MDS_STATFS_NET)
        yield from self.at(MDS_STATFS_PACK)
        self.count(req, "statfs")
        now = self.osd.statfs()
        told = ObdStatfs(
            type=0xEF53, blocks=now.blocks, bfree=now.bfree, bavail=now.bavail, files=now.files,
            ffree=now.ffree, bsize=now.bsize, namelen=NAME_MAX, maxbytes=1 << 63,
        )  # fmt: skip
        return req.reply(obd_statfs=told)

    @handles(MDS_SYNC)
    def sync(self, req: ServerRequest) -> Steps[Message]:
        """What was answered before is on disk when this is answered."""
        yield from self.at(MDS_SYNC_NET)
        body = req["mdt_body"]
        yield from self.osd.sync()
        self.count(req, "sync")
        known = body.fid1.seq and self.osd.exists(body.fid1)
        return req.reply(mdt_body=self.describe(body.fid1) if known else MdtBody())

    @handles(SEQ_QUERY)
    def query_sequence(self, req: ServerRequest) -> Steps[Message]:
        """A sequence of FIDs for a client, or from MDT0000 a super-sequence for a server."""
        yield from self.at(SEQ_QUERY_NET)
        if req["seq_opc"] == SEQ_ALLOC_SUPER and self.info.index == 0:
            asked: LuSeqRange = req["seq_range"]
            return req.reply(
                seq_range=(yield from self.controller.allocate(asked.index, asked.flags))
            )
        if req["seq_opc"] != SEQ_ALLOC_META:
            raise LustreError(errno.EINVAL, f"operation {req['seq_opc']}")
        taken = yield from self.sequences.take()
        given = LuSeqRange(start=taken, end=taken + 1, index=self.info.index)
        return req.reply(seq_range=given)

    def _super_sequence(self) -> Steps[LuSeqRange]:
        """A super-sequence for this MDT."""
        index = self.info.index
        if index == 0:
            return (yield from self.controller.allocate(0))
        asked = LuSeqRange(index=index)
        reply = yield from self.links.ask_master(
            Request(
                SEQ_QUERY, portal=SEQ_CONTROLLER_PORTAL, seq_opc=SEQ_ALLOC_SUPER, seq_range=asked
            )
        )
        given: LuSeqRange = reply["seq_range"]
        tx = self.osd.transaction()
        self.fld.insert(tx, given)
        yield from tx.stop()
        return given

    @handles(FLD_QUERY)
    def query_fld(self, req: ServerRequest) -> Steps[Message]:
        """Which target has a sequence; ENOENT. Only FLD_LOOKUP is answered, by MDT0000's book."""
        yield from self.at(FLD_QUERY_NET)
        if req["fld_opc"] != FLD_LOOKUP:
            raise LustreError(errno.EINVAL, f"operation {req['fld_opc']}")
        asked: LuSeqRange = req["fld_mdfld"]
        try:
            found = self.fld.answer(asked)
        except LustreError:
            if self.links.master is None:
                raise
            reply = yield from self.links.ask_master(
                Request(FLD_QUERY, fld_opc=FLD_LOOKUP, fld_mdfld=asked)
            )
            found = reply["fld_mdfld"]
        return req.reply(fld_mdfld=found)

    # ---- parameters

    def totals(self) -> Stats:
        """The file md_stats."""
        return self.md_stats

    def job_counters(self, req: ServerRequest, reply: Message) -> dict[str, int]:
        """What the request counts as."""
        return dict.fromkeys(mdt_jobs.counters_of(req), 0)

    @Param.computed(unit="exports", help="clients connected to this MDT")
    def num_exports(self) -> int:
        """Connected clients."""
        return len(self.exports)

    def store_root_squash(self, text: str) -> None:
        """Take "UID:GID"; 0:0 leaves root what it is."""
        uid, gid = squash.parse_ids(text)
        self.root_squash = f"{uid}:{gid}"

    def store_nosquash_nids(self, text: str) -> None:
        """Take NIDs and ranges of NIDs; NONE and clear for none."""
        self.nosquash_nids = " ".join(squash.parse_nids(text)) or squash.CLEAR[0]

    def squash(self, cred: Cred, nid: int) -> Cred:
        """Root of a client that is not exempt is the user of `root_squash`."""
        if cred.uid or self.root_squash == "0:0":
            return cred
        if squash.matches(squash.parse_nids(self.nosquash_nids), nid):
            return cred
        return squash.squashed(cred, *squash.parse_ids(self.root_squash))

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants: names, layouts, opens, locks."""
        return super().snapshot() | {
            "index": self.info.index,
            "namespace": self._namespace(),
            "orphans": [str(fid) for fid in self.mdd.orphans()],
            "opens": [
                {"fid": str(file.fid), "handle": file.handle, "flags": file.flags}
                for file in self.opens
            ],
            "locks": self.ldlm.snapshot(),
            "osps": [osp.snapshot() for osp in self.osps.values() if osp.makes_objects],
        }

    def _namespace(self) -> list[dict[str, Any]]:
        """Every object of the namespace: its names, link count, and objects on OSTs."""
        found = []
        for fid in self.osd.objects():
            if not objects.is_client_fid(fid):
                continue
            attrs = self.osd.attrs(fid)
            found.append({
                "fid": str(fid),
                "mode": attrs.mode,
                "nlink": attrs.nlink,
                "links": [
                    [str(link.parent), objects.decode_name(link.name)]
                    for link in self.mdd.links(fid)
                ],
                "entries": self._entries(fid, attrs),
                "stripes": self._stripes(fid, attrs),
            })  # fmt: skip
        return found

    def _entries(self, fid: Any, attrs: Attrs) -> dict[str, str]:
        if attrs.mode & 0o170000 != 0o040000:
            return {}
        return {
            objects.decode_name(entry.name): str(entry.fid) for entry in self.mdd.entries(fid, 0)
        }

    def _stripes(self, fid: Any, attrs: Attrs) -> list[list[int]]:
        if attrs.mode & 0o170000 != 0o100000:
            return []
        ea = self.ea(fid)
        return [[stripe.ost, stripe.oid] for stripe in layout.parse(ea)[1]] if ea else []

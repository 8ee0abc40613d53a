"""The client's device for one MDT: the requests it can send there.

Knows formats and how many requests may be under way, not paths or caches. Stands for lustre/mdc.
Changes are in `mdc_reint`, enqueues with an intent in `mdc_intents`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.base.histogram import Histogram, header, single_rows
from labsim.base.ids import NO_FID, Fid, Nid
from labsim.base.params import Param
from labsim.base.payload import Payload
from labsim.base.units import NS_PER_US
from labsim.ldlm.client import ClientNamespace
from labsim.ldlm.desc import cancelling
from labsim.ldlm.resource import fid_resource
from labsim.net.ptlrpc import Import, Request, Tags
from labsim.nodes.client import points
from labsim.nodes.client.cred import ROOT, Cred
from labsim.nodes.client.fids import FidAllocator
from labsim.nodes.client.fld import FldCache
from labsim.nodes.client.mdc_intents import Intents
from labsim.nodes.client.mdc_open import OpenTable
from labsim.nodes.client.mdc_reint import Reints, suppgid
from labsim.nodes.config import TargetInfo
from labsim.nodes.import_files import ImportFiles
from labsim.runtime.ports import Host, Steps
from labsim.runtime.sync import Permits
from labsim.wire.constants import (
    FLD_LOOKUP,
    LCK_EX,
    LCK_PR,
    LU_SEQ_RANGE_MDT,
    LUDA_FID,
    LUDA_TYPE,
    MDC_REPLY_PORTAL,
    MDS_INODELOCK_FULL,
    MDS_INODELOCK_UPDATE,
    MDS_INODELOCK_XATTR,
    MDS_REQUEST_PORTAL,
    OBD_CONNECT2_LOCK_CONVERT,
    OBD_CONNECT_64BITHASH,
    OBD_CONNECT_ACL,
    OBD_CONNECT_AT,
    OBD_CONNECT_ATTRFID,
    OBD_CONNECT_BRW_SIZE,
    OBD_CONNECT_BULK_MBITS,
    OBD_CONNECT_CANCELSET,
    OBD_CONNECT_DIR_STRIPE,
    OBD_CONNECT_DISP_STRIPE,
    OBD_CONNECT_EINPROGRESS,
    OBD_CONNECT_FID,
    OBD_CONNECT_FLAGS2,
    OBD_CONNECT_FLOCK_DEAD,
    OBD_CONNECT_FULL20,
    OBD_CONNECT_IBITS,
    OBD_CONNECT_JOBSTATS,
    OBD_CONNECT_LARGE_ACL,
    OBD_CONNECT_LAYOUTLOCK,
    OBD_CONNECT_LOV_V3,
    OBD_CONNECT_LRU_RESIZE,
    OBD_CONNECT_LVB_TYPE,
    OBD_CONNECT_MAX_EASIZE,
    OBD_CONNECT_MULTIMODRPCS,
    OBD_CONNECT_NODEVOH,
    OBD_CONNECT_OPEN_BY_FID,
    OBD_CONNECT_SUBTREE,
    OBD_CONNECT_UMASK,
    OBD_CONNECT_VERSION,
    OBD_CONNECT_XATTR,
    OBD_MD_FLID,
    SEQ_ALLOC_META,
)
from labsim.wire.lu import LuSeqRange
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.mdt import MdtBody
from labsim.wire.message import Message
from labsim.wire.opcodes import (
    FLD_QUERY,
    LDLM_ENQUEUE,
    MDS_CLOSE,
    MDS_CONNECT,
    MDS_DISCONNECT,
    MDS_GET_ROOT,
    MDS_GETATTR,
    MDS_GETATTR_NAME,
    MDS_GETXATTR,
    MDS_READPAGE,
    MDS_STATFS,
    MDS_SYNC,
    SEQ_METADATA_PORTAL,
    SEQ_QUERY,
    opcode_name,
)
from labsim.wire.ost import ObdStatfs

ESHUTDOWN = 108

READPAGE_BYTES = 1 << 20
"""How much of a directory one MDS_READPAGE asks for (MD_MAX_BRW_SIZE)."""


WANTED = (
    OBD_CONNECT_VERSION | OBD_CONNECT_ACL | OBD_CONNECT_XATTR | OBD_CONNECT_IBITS
    | OBD_CONNECT_ATTRFID | OBD_CONNECT_NODEVOH | OBD_CONNECT_BRW_SIZE | OBD_CONNECT_CANCELSET
    | OBD_CONNECT_LRU_RESIZE | OBD_CONNECT_FID | OBD_CONNECT_LOV_V3 | OBD_CONNECT_MAX_EASIZE
    | OBD_CONNECT_FULL20 | OBD_CONNECT_LAYOUTLOCK | OBD_CONNECT_64BITHASH | OBD_CONNECT_UMASK
    | OBD_CONNECT_EINPROGRESS | OBD_CONNECT_LVB_TYPE | OBD_CONNECT_DISP_STRIPE
    | OBD_CONNECT_OPEN_BY_FID | OBD_CONNECT_MULTIMODRPCS | OBD_CONNECT_DIR_STRIPE
    | OBD_CONNECT_SUBTREE | OBD_CONNECT_BULK_MBITS | OBD_CONNECT_FLAGS2 | OBD_CONNECT_AT
    | OBD_CONNECT_JOBSTATS | OBD_CONNECT_FLOCK_DEAD | OBD_CONNECT_LARGE_ACL
)  # fmt: skip


class Mdc(Intents, Reints, ImportFiles, Component, tree="mdc.{name}"):
    """One MDT as this client reaches it: the import, the locks, the limits."""

    max_rpcs_in_flight = Param.count(
        8, low=2, high=512, unit="RPCs", help="requests this device may have on the wire"
    )
    max_mod_rpcs_in_flight = Param.count(
        7, low=1, high=lambda self: self.mod_limit(), unit="RPCs",
        help="requests that change something which may be on the wire at once",
    )  # fmt: skip
    active = Param.flag(True, help="whether the import may be used")
    stats = Param.stats(help="requests by opcode, with the time until their reply")

    def __init__(self, node: Any, info: TargetInfo, name: str, client_uuid: str) -> None:
        self.host: Host = node.host
        self.env = node.host.env
        self.clock = node.host.clock
        self.info = info
        self.name = name
        self.imp = Import(
            node.rpc,
            name=name,
            target_uuid=info.uuid,
            client_uuid=client_uuid,
            nids=[Nid.parse(info.nid)],
            portals=(MDS_REQUEST_PORTAL, MDC_REPLY_PORTAL),
            opcodes=(MDS_CONNECT, MDS_DISCONNECT),
            want=self.wanted,
        )
        self.ldlm: ClientNamespace = node.make(ClientNamespace, node, self.imp, name)
        self.traits = node.host.kit.traits
        self.start_rooms()
        self.fids = FidAllocator(self.env, self.new_sequences)
        self.fld = FldCache(self.query_fld)
        self.blocking: Callable[[Any], Any] | None = None
        self.opens = OpenTable(self.imp)
        self.imp.on_active += (self._connected,)
        self._slots: Permits | None = None
        self._tags: Tags | None = None
        self._modifies: Histogram | None = None
        self._modifies_since_ns = 0

    # ---- connecting

    def wanted(self) -> ObdConnectData:
        """What this client asks of the MDT."""
        traits = self.host.kit.traits
        known = MDS_INODELOCK_FULL
        if not traits.xattr_cache:
            known &= ~MDS_INODELOCK_XATTR
        return ObdConnectData(
            connect_flags=WANTED & ~traits.connect_unknown,
            connect_flags2=OBD_CONNECT2_LOCK_CONVERT & ~traits.connect_unknown2,
            version=traits.ocd_version,
            brw_size=READPAGE_BYTES,
            ibits_known=known,
            maxmodrpcs=self.max_mod_rpcs_in_flight,
        )

    # ---- how many at once

    def mod_limit(self) -> int:
        """The largest max_mod_rpcs_in_flight: one less than all, and what the MDT allows."""
        limit = self.max_rpcs_in_flight - 1
        if self.imp.granted(OBD_CONNECT_MULTIMODRPCS):
            limit = min(limit, self.imp.connect_data.maxmodrpcs)
        return limit

    def set_max_rpcs_in_flight(self, value: int) -> None:
        """A new limit; it keeps one request free for those that change nothing."""
        self.max_rpcs_in_flight = value
        if self._slots is not None:
            self._slots.resize(value)
        if self.max_mod_rpcs_in_flight >= value:
            self.set_max_mod_rpcs_in_flight(value - 1)

    def set_max_mod_rpcs_in_flight(self, value: int) -> None:
        """A new limit for requests that change something."""
        self.max_mod_rpcs_in_flight = value
        if self._tags is not None:
            self._tags.resize(self._allowed_mods())

    def _connected(self) -> None:
        """Another MDT may allow another number of modifying requests."""
        if self._tags is not None:
            self._tags.resize(self._allowed_mods())

    def _allowed_mods(self) -> int:
        """One at a time, if the MDT cannot tell several apart."""
        several = self.imp.granted(OBD_CONNECT_MULTIMODRPCS)
        allowed = self.imp.connect_data.maxmodrpcs if several else 1
        return min(self.max_mod_rpcs_in_flight, allowed)

    @property
    def tags(self) -> Tags:
        """The tags of modifying requests."""
        if self._tags is None:
            self._tags = Tags(self.env, self._allowed_mods())
        return self._tags

    def _request_slots(self) -> Permits:
        if self._slots is None:
            self._slots = Permits(self.env, self.max_rpcs_in_flight)
        return self._slots

    @property
    def modifies(self) -> Histogram:
        """How many modifying requests were on the wire whenever one more was sent."""
        if self._modifies is None:
            self._modifies = Histogram()
        return self._modifies

    @Param.computed(access="rw", help="modifying requests by how many were in flight")
    def rpc_stats(self) -> str:
        """The file's text (mdc_rpc_stats_seq_show)."""
        busy = self._tags.taken if self._tags is not None else 0
        rows = single_rows(str, self.modifies)
        return (
            f"{self._snapshot_time()}modify_RPCs_in_flight:  {busy}\n"
            f"\n\t\t\tmodify\nrpcs in flight        rpcs   % cum %\n{rows}"
        )

    @Param.computed(unit="NID", help="where the MDT is connected at")
    def mds_conn_uuid(self) -> str:
        """The NID in use."""
        return str(Nid(self.imp.peer))

    def _snapshot_time(self) -> str:
        if self.mounted is None:
            return ""
        tree = self.mounted.tree
        style = tree.dialect.stats
        blanks = "mdc.*.rpc_stats" in style.blank_padded
        return header(tree.wall_ns(), self._modifies_since_ns, style, blanks)

    def store_rpc_stats(self, text: str) -> None:
        """Any write clears the histogram."""
        self.modifies.clear()
        if self.mounted is not None:
            self._modifies_since_ns = self.mounted.tree.wall_ns()

    # ---- sending

    def call(self, request: Request) -> Steps[Message]:
        """Send a request and wait for its reply; LustreError with its status where it failed."""
        if not self.active:
            raise LustreError(ESHUTDOWN, f"{self.name} is not active")
        started_ns = self.env.now
        try:
            return (yield from self.imp.call(request))
        finally:
            self._count(request.opcode, started_ns)

    def modify(self, request: Request) -> Steps[Message]:
        """As `call`, under the limits for requests that change something."""
        close = request.opcode == MDS_CLOSE
        request.tag = yield from self._begin(True, close)
        try:
            self.ldlm.pack_cancels(request)
            return (yield from self.call(request))
        finally:
            self._end(request.tag, close)

    def enqueue(
        self, resource: Any, mode: int, bits: int, modifying: bool = False, delay_ns: int = 0,
        **fields: Any,
    ) -> Steps[tuple[Any, Message]]:  # fmt: skip
        """Ask for an inodebits lock, with or without an intent; after a while, in its slot."""
        yield from self.host.faults.visit(points.MDC_ENQUEUE_PAUSE)
        tag = yield from self._begin(modifying)
        if tag:
            fields["tag"] = tag
        started_ns = self.env.now
        try:
            if delay_ns:
                yield self.env.timeout(delay_ns)
            return (yield from self.ldlm.enqueue(
                resource, mode, bits=bits, blocking=self.blocking, **fields
            ))  # fmt: skip
        finally:
            self._count(LDLM_ENQUEUE, started_ns)
            self._end(tag)

    def _begin(self, modifying: bool, close: bool = False) -> Steps[int]:
        """Wait until one more request may be on the wire; its tag, if it has one.

        Raises ESHUTDOWN on a device that is switched off.
        """
        if not self.active:
            raise LustreError(ESHUTDOWN, f"{self.name} is not active")
        tag = 0
        if modifying:
            tag = yield from self.tags.take(close)
            self.modifies.tally(self.tags.taken)
        yield from self._request_slots().take()
        return tag

    def _end(self, tag: int, close: bool = False) -> None:
        self._request_slots().give()
        if tag:
            self.tags.give(tag, close)

    def _count(self, opcode: int, started_ns: int) -> None:
        usecs = (self.env.now - started_ns) // NS_PER_US
        self.stats.add("req_waittime", usecs)
        self.stats.add("req_active", max(len(self.imp.outstanding), 1), "reqs")
        self.stats.add(opcode_name(opcode).lower(), usecs)

    def cancels(self, *wanted: tuple[Fid, int]) -> dict[str, Any]:
        """The dlm_req field, which gives back this client's own locks in the way."""
        handles: list[int] = []
        for fid, bits in wanted:
            handles += self.ldlm.take_early(fid_resource(fid), LCK_EX, bits)
        return {"dlm_req": cancelling(handles)}

    # ---- reading

    def get_root(self) -> Steps[Fid]:
        """The FID of the file system's root."""
        body = self.body(NO_FID, 0, ROOT)
        reply = yield from self.call(Request(MDS_GET_ROOT, mdt_body=body))
        fid: Fid = reply["mdt_body"].fid1
        return fid

    def getattr(self, inode: Any, valid: int, cred: Cred, room: int = 0) -> Steps[Message]:
        """Attributes, and an EA or a link's target of at most `room` bytes, without a lock."""
        body = self.body(inode.fid, valid, cred, inode, room)
        return (yield from self._ask(MDS_GETATTR, room, mdt_body=body))

    def getattr_name(self, parent: Any, name: str, valid: int, cred: Cred) -> Steps[Message]:
        """As `getattr`, by name."""
        room = self.default_easize
        body = self.body(parent.fid, valid, cred, parent, room)
        return (yield from self._ask(MDS_GETATTR_NAME, room, mdt_body=body, name=name))

    def _ask(self, opcode: int, room: int, **fields: Any) -> Steps[Message]:
        request = Request(opcode, reply_sizes=self.getattr_sizes(room), **fields)
        reply = yield from self.call(request)
        self.learn_easize(reply)
        return reply

    def getxattr(self, inode: Any, name: str, valid: int, room: int, cred: Cred) -> Steps[Message]:
        """One attribute, or with OBD_MD_FLXATTRLS and no name their names; room 0 asks the size."""
        body = self.body(inode.fid, valid, cred, inode, room)
        fields: dict[str, Any] = {"mdt_body": body}
        if name:
            fields["name"] = name
        return (yield from self.call(Request(MDS_GETXATTR, **fields)))

    def readpage(self, directory: Any, start: int, cred: Cred) -> Steps[Payload]:
        """Pages of directory entries from hash `start` on."""
        body = self.body(directory.fid, 0, cred).replace(
            size=start, nlink=READPAGE_BYTES, mode=LUDA_FID | LUDA_TYPE
        )
        request = Request(MDS_READPAGE, mdt_body=body, bulk_in=READPAGE_BYTES)
        yield from self.call(request)
        return request.data

    def read_lock(self, directory: Any) -> Steps[Any]:
        """An UPDATE lock on a directory, so that its entries may be kept."""
        lock, _ = yield from self.enqueue(fid_resource(directory.fid), LCK_PR, MDS_INODELOCK_UPDATE)
        return lock

    def statfs(self, lazy: bool = True) -> Steps[ObdStatfs]:
        """Space and inodes of the MDT; `lazy`: fails rather than waits for a reconnect."""
        request = Request(MDS_STATFS, no_resend=lazy, no_delay=lazy)
        reply = yield from self.call(request)
        answer: ObdStatfs = reply["obd_statfs"]
        return answer

    def sync(self, fid: Fid) -> Steps[None]:
        """Have the MDT write a file's metadata back (NO_FID: everything)."""
        yield from self.call(Request(MDS_SYNC, mdt_body=self.body(fid, 0, ROOT)))

    def new_sequences(self) -> Steps[LuSeqRange]:
        """A range of FID sequences for this client's own files."""
        request = Request(
            SEQ_QUERY, portal=SEQ_METADATA_PORTAL, seq_opc=SEQ_ALLOC_META, seq_range=LuSeqRange()
        )
        reply = yield from self.call(request)
        granted: LuSeqRange = reply["seq_range"]
        yield from self.fld.lookup(granted.start)
        return granted

    def query_fld(self, seq: int) -> Steps[LuSeqRange]:
        """Ask this MDT which one has a sequence."""
        asked = LuSeqRange(start=seq, flags=LU_SEQ_RANGE_MDT)
        request = Request(FLD_QUERY, fld_opc=FLD_LOOKUP, fld_mdfld=asked)
        reply = yield from self.call(request)
        found: LuSeqRange = reply["fld_mdfld"]
        return found

    def body(self, fid: Fid, valid: int, cred: Cred, inode: Any = None, room: int = 0) -> MdtBody:
        """The mdt_body of a request (mdc_pack_body)."""
        return MdtBody(
            fid1=fid, valid=valid | OBD_MD_FLID, eadatasize=room, fsuid=cred.uid,
            fsgid=cred.gid, capability=cred.capability, suppgid=suppgid(inode, cred),
        )  # fmt: skip

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return {
            "name": self.name,
            "target": self.info.name,
            "state": self.imp.state.name,
            "locks": self.ldlm.snapshot(),
        }

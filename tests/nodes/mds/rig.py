"""Clients that speak bare protocol to a real MDS, over the simulated network and with real OSTs."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from labsim.base.errors import LustreError
from labsim.base.ids import ROOT_FID, Fid, Nid
from labsim.base.payload import tobytes
from labsim.ldlm.client import ClientNamespace
from labsim.ldlm.desc import intent_result
from labsim.ldlm.resource import fid_resource
from labsim.net.ptlrpc import Import, Request
from labsim.nodes.mds.directory import END_HASH, LUDA_FID, LUDA_TYPE, PAGE_SIZE, read_page
from labsim.nodes.node import Node
from labsim.scenario.cluster import Cluster
from labsim.scenario.topology import address, target_of
from labsim.wire.constants import (
    IT_CREAT,
    IT_GETXATTR,
    IT_LAYOUT,
    IT_LOOKUP,
    IT_OPEN,
    LCK_CR,
    LCK_PR,
    LDLM_CB_REPLY_PORTAL,
    LDLM_CB_REQUEST_PORTAL,
    MDC_REPLY_PORTAL,
    MDS_FMODE_WRITE,
    MDS_INODELOCK_LAYOUT,
    MDS_INODELOCK_LOOKUP,
    MDS_INODELOCK_UPDATE,
    MDS_INODELOCK_XATTR,
    MDS_OPEN_CREAT,
    MDS_OPEN_HAS_EA,
    MDS_REQUEST_PORTAL,
    MDT_CONNECT_SUPPORTED,
    OBD_CONNECT_LIGHTWEIGHT,
    OBD_CONNECT_RDONLY,
    OBD_MD_FLACL,
    OBD_MD_FLEASIZE,
    OBD_MD_FLXATTR,
    OBD_MD_FLXATTRLS,
    OBD_MD_FLXATTRRM,
    REINT_CREATE,
    REINT_LINK,
    REINT_OPEN,
    REINT_RENAME,
    REINT_SETATTR,
    REINT_SETXATTR,
    REINT_UNLINK,
    SEQ_ALLOC_META,
    SEQ_METADATA_PORTAL,
)
from labsim.wire.ldlm import LdlmIntent
from labsim.wire.lu import LuSeqRange
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.mdt import (
    LayoutIntent,
    MdtBody,
    MdtIoepoch,
    MdtRecCreate,
    MdtRecLink,
    MdtRecRename,
    MdtRecSetattr,
    MdtRecSetxattr,
    MdtRecUnlink,
)
from labsim.wire.opcodes import (
    MDS_CLOSE,
    MDS_CONNECT,
    MDS_DISCONNECT,
    MDS_GETATTR,
    MDS_GETXATTR,
    MDS_READPAGE,
    MDS_REINT,
    SEQ_QUERY,
)

NO_GID = 0xFFFFFFFF
CREATE = MDS_FMODE_WRITE | MDS_OPEN_CREAT


class Answer:
    """What an intent brought: its lock, how far it came, the attributes."""

    def __init__(self, lock: Any, reply: Any) -> None:
        self.lock = lock
        self.reply = reply
        self.disposition, self.status = intent_result(reply)
        self.body = reply.get("mdt_body")

    def has(self, disposition: int) -> bool:
        return self.disposition & disposition == disposition

    @property
    def bits(self) -> int:
        return self.lock.policy.bits if self.lock else 0


class RawClient(Node):
    """A node with nothing but an import and locks."""

    kind = "client"
    uid = gid = 0
    flags = MDT_CONNECT_SUPPORTED & ~(OBD_CONNECT_RDONLY | OBD_CONNECT_LIGHTWEIGHT)

    def start(self) -> Any:
        self.serve("ldlm_cbd", LDLM_CB_REQUEST_PORTAL, LDLM_CB_REPLY_PORTAL)
        mdt = target_of(self.config.fs.fsname, "mdt", 0, address("mds", 0))
        self.imp = Import(
            self.rpc, name=f"{mdt.name}-mdc-{self.host.name}", target_uuid=mdt.uuid,
            client_uuid=f"{self.host.name}-uuid", nids=[Nid.parse(mdt.nid)],
            portals=(MDS_REQUEST_PORTAL, MDC_REPLY_PORTAL), opcodes=(MDS_CONNECT, MDS_DISCONNECT),
            want=self.want,
        )  # fmt: skip
        self.ns = ClientNamespace(self, self.imp, self.imp.name)
        self.called_back: list[tuple[int, ...]] = []
        self.oid = 0
        yield from self.imp.connect()
        given = yield from self.imp.call(
            Request(
                SEQ_QUERY, portal=SEQ_METADATA_PORTAL, seq_opc=SEQ_ALLOC_META,
                seq_range=LuSeqRange(),
            )
        )  # fmt: skip
        self.range = given["seq_range"]

    def want(self) -> ObdConnectData:
        return ObdConnectData(
            connect_flags=self.flags, version=2 << 24, ibits_known=0x7F, brw_size=4 << 20,
            maxmodrpcs=99, max_easize=1 << 20,
        )  # fmt: skip

    def new_fid(self) -> Fid:
        self.oid += 1
        return Fid(self.range.start, self.oid)

    @property
    def who(self) -> dict[str, int]:
        caps = 0xFFFFFFFF if self.uid == 0 else 0
        return {"fsuid": self.uid, "fsgid": self.gid, "cap": caps}

    def body(self, **fields: Any) -> MdtBody:
        who = self.who
        return MdtBody(
            fsuid=who["fsuid"], fsgid=who["fsgid"], capability=who["cap"], suppgid=NO_GID, **fields
        )

    # ---- reints

    def reint(self, record: Any, **fields: Any) -> Any:
        request = Request(MDS_REINT, rec_reint=record, **fields)
        return (yield from self.imp.call(request))

    def create(
        self,
        name: str,
        mode: int = stat.S_IFREG | 0o644,
        parent: Fid = ROOT_FID,
        target: str = "",
        **more: Any,
    ) -> Any:
        fid = self.new_fid()
        record = MdtRecCreate(
            opcode=REINT_CREATE, suppgid1=NO_GID, suppgid2=NO_GID, fid1=parent, fid2=fid,
            mode=mode, time=self.host.clock.seconds(), **self.who, **more,
        )  # fmt: skip
        fields = {"symtgt": target} if target else {}
        reply = yield from self.reint(record, name=name, **fields)
        assert reply["mdt_body"].fid1 == fid
        return fid

    def mkdir(self, name: str, perm: int = 0o755, parent: Fid = ROOT_FID) -> Any:
        return (yield from self.create(name, stat.S_IFDIR | perm, parent))

    def link(self, fid: Fid, name: str, parent: Fid = ROOT_FID) -> Any:
        record = MdtRecLink(
            opcode=REINT_LINK, suppgid1=NO_GID, suppgid2=NO_GID, fid1=fid, fid2=parent,
            time=self.host.clock.seconds(), **self.who,
        )  # fmt: skip
        return (yield from self.reint(record, name=name))

    def unlink(self, name: str, parent: Fid = ROOT_FID, folder: bool = False, **more: Any) -> Any:
        record = MdtRecUnlink(
            opcode=REINT_UNLINK, suppgid1=NO_GID, suppgid2=NO_GID, fid1=parent,
            mode=stat.S_IFDIR if folder else 0, time=self.host.clock.seconds(), **self.who,
        )  # fmt: skip
        return (yield from self.reint(record, name=name, **more))

    def rename(self, old: str, new: str, source: Fid = ROOT_FID, target: Fid = ROOT_FID) -> Any:
        record = MdtRecRename(
            opcode=REINT_RENAME, suppgid1=NO_GID, suppgid2=NO_GID, fid1=source, fid2=target,
            time=self.host.clock.seconds(), **self.who,
        )  # fmt: skip
        return (yield from self.reint(record, name=old, symtgt=new))

    def setattr(self, fid: Fid, valid: int, eadata: bytes = b"", **fields: Any) -> Any:
        record = MdtRecSetattr(
            opcode=REINT_SETATTR, suppgid=NO_GID, fid=fid, valid=valid, **self.who, **fields
        )
        return (yield from self.reint(record, eadata=eadata))

    def setxattr(
        self, fid: Fid, name: str, value: bytes, flags: int = 0, valid: int = OBD_MD_FLXATTR
    ) -> Any:
        record = MdtRecSetxattr(
            opcode=REINT_SETXATTR, suppgid1=NO_GID, suppgid2=NO_GID, fid=fid, valid=valid,
            flags=flags, time=self.host.clock.seconds(), **self.who,
        )  # fmt: skip
        return (yield from self.reint(record, name=name, eadata=value))

    def removexattr(self, fid: Fid, name: str) -> Any:
        return (yield from self.setxattr(fid, name, b"", valid=OBD_MD_FLXATTRRM))

    # ---- reading

    def getattr(self, fid: Fid, valid: int = 0, room: int = 0) -> Any:
        body = self.body(fid1=fid, valid=valid, eadatasize=room)
        return (yield from self.imp.call(Request(MDS_GETATTR, mdt_body=body)))

    def getxattr(self, fid: Fid, name: str, room: int = 1000) -> Any:
        """(length, value) of an attribute; of the list of names where `name` is empty."""
        valid = OBD_MD_FLXATTR if name else OBD_MD_FLXATTRLS
        fields = {"name": name} if name else {}
        body = self.body(fid1=fid, valid=valid, eadatasize=room)
        reply = yield from self.imp.call(Request(MDS_GETXATTR, mdt_body=body, **fields))
        return reply["mdt_body"].eadatasize, bytes(reply.get("eadata", b""))

    def readdir(self, fid: Fid = ROOT_FID, pages: int = 1) -> Any:
        """{name: entry}, read in transfers of that many pages."""
        found: dict[str, Any] = {}
        start = 0
        while start != END_HASH:
            body = self.body(
                fid1=fid, size=start, nlink=pages * PAGE_SIZE, mode=LUDA_FID | LUDA_TYPE
            )
            request = Request(MDS_READPAGE, mdt_body=body, bulk_in=pages * PAGE_SIZE)
            yield from self.imp.call(request)
            data = tobytes(request.data)
            for at in range(0, len(data), PAGE_SIZE):
                start, _, entries = read_page(data[at : at + PAGE_SIZE])
                found.update((entry.name.decode(), entry) for entry in entries)
        return found

    # ---- intents

    def enqueue(self, fid: Fid, mode: int, bits: int, **fields: Any) -> Any:
        def blocking(lock: Any) -> None:
            self.called_back.append((lock.resource[1], lock.policy.bits))

        return (
            yield from self.ns.enqueue(
                fid_resource(fid), mode, bits=bits, blocking=blocking, **fields
            )
        )

    def intent(self, operation: int, fid: Fid, bits: int, mode: int = LCK_CR, **fields: Any) -> Any:
        """Execute an intent, and keep the lock it brings in the LRU."""
        lock, reply = yield from self.enqueue(
            fid, mode, bits, ldlm_intent=LdlmIntent(opc=operation), **fields
        )
        if lock is not None:
            self.ns.put(lock)
        return Answer(lock, reply)

    def look(self, name: str, parent: Fid = ROOT_FID, operation: int = IT_LOOKUP) -> Any:
        body = self.body(fid1=parent, valid=OBD_MD_FLEASIZE | OBD_MD_FLACL)
        return (
            yield from self.intent(
                operation, parent, MDS_INODELOCK_LOOKUP, mdt_body=body, name=name
            )
        )

    def open(
        self,
        name: str,
        flags: int = MDS_FMODE_WRITE,
        perm: int = 0o644,
        parent: Fid = ROOT_FID,
        fid: Fid | None = None,
        eadata: bytes = b"",
    ) -> Any:
        flags |= MDS_OPEN_HAS_EA if eadata else 0
        record = MdtRecCreate(
            opcode=REINT_OPEN, suppgid1=NO_GID, suppgid2=NO_GID, fid1=parent,
            fid2=fid or self.new_fid(), mode=stat.S_IFREG | perm,
            time=self.host.clock.seconds(), flags_l=flags & 0xFFFFFFFF, flags_h=flags >> 32,
            **self.who,
        )  # fmt: skip
        operation = IT_OPEN | IT_CREAT if flags & MDS_OPEN_CREAT else IT_OPEN
        fields: dict[str, Any] = {"rec_reint": record, "eadata": eadata}
        if name:
            fields["name"] = name
        return (yield from self.intent(operation, parent, MDS_INODELOCK_LOOKUP, **fields))

    def close(self, handle: int, **fields: Any) -> Any:
        record = MdtRecSetattr(opcode=REINT_SETATTR, suppgid=NO_GID, **self.who, **fields)
        epoch = MdtIoepoch(open_handle=handle)
        request = Request(MDS_CLOSE, mdt_epoch=epoch, rec_reint=record)
        return (yield from self.imp.call(request))

    def all_xattrs(self, fid: Fid, room: int = 4096) -> Any:
        body = self.body(fid1=fid, valid=OBD_MD_FLXATTR | OBD_MD_FLXATTRLS, eadatasize=room)
        return (
            yield from self.intent(IT_GETXATTR, fid, MDS_INODELOCK_XATTR, LCK_PR, mdt_body=body)
        )

    def layout(self, fid: Fid) -> Any:
        return (
            yield from self.intent(
                IT_LAYOUT, fid, MDS_INODELOCK_LAYOUT, layout_intent=LayoutIntent()
            )
        )

    def cache_attributes(self, fid: Fid) -> Any:
        """A plain PR lock on UPDATE, as readdir takes it."""
        lock, _ = yield from self.enqueue(fid, LCK_PR, MDS_INODELOCK_UPDATE)
        self.ns.put(lock)
        return lock


class World:
    """A cluster of raw clients."""

    def __init__(self, clients: int = 1, **options: Any) -> None:
        options.setdefault("made_of", {"client": f"{__name__}:RawClient"})
        self.cluster = Cluster(clients=clients, **options)
        self.cluster.__enter__()
        self.env = self.cluster.env

    def node(self, name: str) -> Any:
        return self.cluster.node(name).machine.node

    @property
    def c0(self) -> RawClient:
        return self.node("c0")

    @property
    def c1(self) -> RawClient:
        return self.node("c1")

    @property
    def mdt(self) -> Any:
        return self.node("mds0").targets[0]

    def run(self, steps: Any) -> Any:
        return self.cluster.run(steps)

    def power_cycle(self, name: str) -> None:
        """Take a node's power, and start it again."""
        handle = self.cluster.node(name)
        self.run(handle.kill())
        self.run(handle.start())

    def later(self, ns: int) -> None:
        self.env.run(self.env.now + ns)

    def fault(self, point: Any, **more: Any) -> None:
        from labsim.base.faults import FAIL_ONCE, Armed

        self.mdt.host.faults.arm(Armed(point.number, FAIL_ONCE, **more))

    @contextmanager
    def fails(self, number: int) -> Iterator[None]:
        with pytest.raises(LustreError) as error:
            yield
        assert error.value.errno == number, error.value


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.cluster.close()


@pytest.fixture
def two() -> Iterator[World]:
    made = World(2, osts=3)
    yield made
    made.cluster.close()

"""osp: an MDT's way to one OST: objects made in advance, objects to be destroyed.

Does not know files or layouts. Stands for lustre/osp (osp_precreate.c, osp_sync.c).

An id is precreated by the OST, reserved for a file, used when the file's transaction joins. The
last id in use is stored with it, so that after a crash the OST can destroy what nobody uses. An
object that is to go is noted in the transaction that removes its file, and destroyed when that is
durable; the note goes when the OST has made its side durable.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from itertools import takewhile
from typing import Any

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.base.params import Param
from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc import Import, Request, State
from labsim.nodes.config import TargetInfo
from labsim.nodes.mds import objects, points
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Gate, Permits
from labsim.storage.osd import Tx
from labsim.wire.constants import (
    OBD_CONNECT_AT,
    OBD_CONNECT_FID,
    OBD_CONNECT_FULL20,
    OBD_CONNECT_INDEX,
    OBD_CONNECT_MDS,
    OBD_CONNECT_REQPORTAL,
    OBD_CONNECT_SKIP_ORPHAN,
    OBD_CONNECT_VERSION,
    OBD_FL_DELORPHAN,
    OBD_MD_FLBLOCKS,
    OBD_MD_FLFLAGS,
    OBD_MD_FLGROUP,
    OBD_MD_FLID,
    OBD_MD_FLSIZE,
    OBD_OBJECT_EOF,
    OSC_REPLY_PORTAL,
    OST_MAX_PRECREATE,
    OST_MIN_PRECREATE,
    OST_REQUEST_PORTAL,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.opcodes import (
    OST_CONNECT,
    OST_CREATE,
    OST_DESTROY,
    OST_DISCONNECT,
    OST_PUNCH,
    OST_SYNC,
)
from labsim.wire.ost import Obdo, OstBody, OstId

FLAGS = (
    OBD_CONNECT_INDEX
    | OBD_CONNECT_VERSION
    | OBD_CONNECT_REQPORTAL
    | OBD_CONNECT_AT
    | OBD_CONNECT_FID
    | OBD_CONNECT_FULL20
    | OBD_CONNECT_MDS
    | OBD_CONNECT_SKIP_ORPHAN
)
RETRY_NS = NS_PER_S
"""How long after a refusal an OST is asked again for objects."""

_INDEX = struct.Struct(">I")
_ID = struct.Struct("<Q")
_NOTE = struct.Struct(">IQ")


class Osp(Component, tree="osp.{name}"):
    """One OST, as one MDT sees it."""

    active = Param.flag(True, help="0: make no new objects on this OST")
    max_create_count = Param.count(
        OST_MAX_PRECREATE, high=OST_MAX_PRECREATE, unit="objects",
        help="most objects made in advance; 0 stops new objects",
    )  # fmt: skip
    create_count = Param.count(
        OST_MIN_PRECREATE, low=OST_MIN_PRECREATE, high=lambda self: self.max_create_count,
        unit="objects", help="objects asked for at a time; doubles when they are used up fast",
    )  # fmt: skip
    max_rpcs_in_flight = Param.count(
        8, low=1, unit="RPCs", help="objects being destroyed at a time"
    )

    def __init__(self, mdt: Any, info: TargetInfo, nids: list[int]) -> None:
        self.mdt = mdt
        self.osd = mdt.osd
        self.env = mdt.host.env
        self.index = info.index
        self.name = f"{info.name}-osc-{mdt.name.rsplit('-', 1)[1]}"
        self.imp = Import(
            mdt.rpc, name=self.name, target_uuid=info.uuid, client_uuid=f"{mdt.name}-mdtlov_UUID",
            nids=nids, portals=(OST_REQUEST_PORTAL, OSC_REPLY_PORTAL),
            opcodes=(OST_CONNECT, OST_DISCONNECT), want=self._want,
        )  # fmt: skip
        self.imp.on_active += (self._came_up,)
        self.status = 0
        self.free: deque[int] = deque()
        """Ids that exist on the OST and that no file has, lowest first."""
        self.reserved: dict[int, None] = {}
        """Ids set aside for files that are not made yet."""
        self.last_created = 0
        self.last_used = 0
        self._left_over: dict[int, None] = {}
        """Ids up to the last used one that no file had when that was noted."""
        self._durable_used = 0
        """The last used id that this life began with."""
        self._adopted: dict[int, None] = {}
        """Ids whose files were made again by replays."""
        self._clean = False
        self._creating = False
        self._slow = False
        self._confirming = False
        self._life = 0
        self._changed = Gate(self.env)
        self._recovered = Gate(self.env)
        self.slots = Permits(self.env, self.max_rpcs_in_flight)
        self.doomed: dict[int, int] = {}
        """Objects to be destroyed, by the number of their note."""
        self._leaving: dict[int, int] = {}
        """The same, as long as their files' removal is not durable."""
        self._asked: dict[int, None] = {}
        """Notes whose OST_DESTROY is under way; over a reconnect the import sends it again."""
        self._next_note = 1
        self._unconfirmed: dict[int, int] = {}
        """The OST's transno of a destruction that may not be durable there, by note."""
        self._earlier: dict[int, int] = {}
        """The same from before the last reconnect: the OST may have forgotten it, or not."""

    def _want(self) -> ObdConnectData:
        return ObdConnectData(
            connect_flags=FLAGS, version=self.mdt.host.kit.traits.ocd_version, index=self.index
        )

    def set_max_rpcs_in_flight(self, value: int) -> None:
        """Resize the permits together with the number."""
        self.max_rpcs_in_flight = value
        self.slots.resize(value)

    # ---- life

    def load(self) -> None:
        """Read what the last life left: the last id in use, and who is still to be destroyed."""
        value = self.osd.lookup(objects.OBJIDS, _INDEX.pack(self.index)) or _ID.pack(0)
        self.last_used, *left = (one for (one,) in _ID.iter_unpack(value))
        self._left_over = dict.fromkeys(left)
        self._durable_used = self.last_used
        for key, value in self.osd.iterate(objects.UNLINKED, _NOTE.pack(self.index, 0)):
            index, note = _NOTE.unpack(key)
            if index != self.index:
                break
            self.doomed[note] = _ID.unpack(value)[0]
            self._next_note = note + 1

    def start(self) -> None:
        """Begin to connect; files can be made as soon as that is done."""
        self.env.process(self._connect())

    def _connect(self) -> Steps[None]:
        try:
            yield from self.imp.connect()
        except LustreError as error:
            self.status = -error.errno

    def stop(self) -> Steps[None]:
        """Take leave of the OST."""
        self._life += 1
        yield from self.imp.disconnect()

    @property
    def connected(self) -> bool:
        """Can the OST be talked to?"""
        return self.imp.state is State.FULL

    @property
    def ready(self) -> bool:
        """Is there an object to be had without waiting?"""
        return bool(self.free) and self.connected and self.max_create_count > 0

    @property
    def able(self) -> bool:
        """May the OST make objects soon?"""
        return self.connected and self.status == 0 and self.max_create_count > 0

    # ---- making objects in advance

    def mdt_recovered(self) -> None:
        """Every client of the MDT has said which objects its lost files had."""
        self._recovered.open()

    def _came_up(self) -> None:
        """(Re)connected: sort out which objects are ours, then go on destroying."""
        self._life += 1
        self._clean = False
        self._earlier.update(self._unconfirmed)
        self._unconfirmed.clear()
        self.env.process(self._clean_up(self._life))

    def _clean_up(self, life: int) -> Steps[None]:
        """Have the OST destroy what nobody ever used (osp_precreate_cleanup_orphans).

        It makes again what it lost of the objects up to the last one used. As long as clients may
        replay creates to this MDT, that one is not known.
        """
        yield from self._recovered.passed()
        if life != self._life:
            return
        keep = max([self.last_used, *self.reserved])
        self.free = deque(oid for oid in self.free if oid <= keep)
        try:
            last = yield from self._create(keep, OBD_FL_DELORPHAN)
        except LustreError as error:
            self.status = -error.errno
            return
        if life != self._life:
            return
        self.last_created = max(last, keep)
        self._clean = True
        self.status = 0
        self._want_more()
        for note in list(self.doomed):
            self._doom(note)

    def _create(self, oid: int, flags: int = 0) -> Steps[int]:
        """One OST_CREATE; the OST's last id."""
        valid = OBD_MD_FLGROUP | OBD_MD_FLID | (OBD_MD_FLFLAGS if flags else 0)
        oa = Obdo(valid=valid, oi=OstId(id=oid, seq=0), flags=flags)
        request = Request(OST_CREATE, no_resend=True, no_delay=True, ost_body=OstBody(oa=oa))
        reply = yield from self.imp.call(request)
        last: int = reply["ost_body"].oa.oi.id
        return last

    def _want_more(self) -> None:
        """Ask for objects when less than half a batch is left (osp_precreate_near_empty)."""
        few = len(self.free) < self.create_count // 2
        able = self._clean and self.connected and self.max_create_count > 0
        if few and able and not self._creating:
            self._creating = True
            self.env.process(self._precreate(self._life))

    def _precreate(self, life: int) -> Steps[None]:
        yield from self.mdt.at(points.MDS_OSC_PRECREATE)
        try:
            count = min(self.create_count, self.max_create_count)
            last = yield from self._create(self.last_created + count)
            if life == self._life:
                self.free.extend(range(self.last_created + 1, last + 1))
                self._slow = last - self.last_created < count
                self.last_created = last
                self.status = -errno.ENOSPC if self._slow and not self.free else 0
        except LustreError as error:
            self.status = -error.errno
        self._creating = False
        self._changed.pulse()
        if self.status:
            yield self.env.timeout(RETRY_NS)
        self._want_more()

    def reserve(self) -> Steps[int]:
        """An object's id; waits for the OST. ENOSPC where it is full, ETIMEDOUT if away."""
        limit_ns = self.env.now + self.mdt.rpc.timeout_ns
        while not self.ready:
            if self.status == -errno.ENOSPC or self.max_create_count == 0:
                raise LustreError(errno.ENOSPC, f"{self.name} makes no objects")
            left_ns = limit_ns - self.env.now
            if left_ns <= 0:
                raise LustreError(errno.ETIMEDOUT, f"{self.name} is away")
            yield from self._wait(left_ns)
        oid = self.free.popleft()
        self.reserved[oid] = None
        self._grow()
        self._want_more()
        return oid

    def _grow(self) -> None:
        """Used up faster than a batch comes: ask for twice as many from the next one on."""
        if len(self.free) <= self.create_count // 4 + 1 and not self._slow:
            self._slow = True
            self.create_count = min(self.create_count * 2, self.max_create_count)

    def _wait(self, limit_ns: int) -> Steps[None]:
        event = self._changed.wait()
        deadline = self.mdt.rpc.deadlines.add(self.env.now + limit_ns, self._changed.pulse)
        yield event
        deadline.cancel()

    def give_back(self, oid: int) -> None:
        """A reserved object that no file got."""
        self.reserved.pop(oid, None)
        self.free.appendleft(oid)

    def throw_away(self, tx: Tx, oid: int) -> None:
        """A reserved object that no file got, and that none may get."""
        self.reserved.pop(oid, None)
        self.destroy(tx, oid)

    def use(self, tx: Tx, oid: int) -> None:
        """In the transaction that gives the object to a file: it is in use."""
        self.reserved.pop(oid, None)
        last = self.last_used = max(self.last_used, oid)
        unused = [one for one in self.reserved if one < last]
        unused += takewhile(last.__gt__, self.free)
        value = b"".join(map(_ID.pack, (last, *unused)))
        tx.insert(objects.OBJIDS, _INDEX.pack(self.index), value, replace=True)

    def adopt(self, tx: Tx, oid: int) -> None:
        """In the replay of such a transaction: the object was in use before a restart."""
        self._adopted[oid] = None
        self.use(tx, oid)

    def give_up(self, tx: Tx) -> None:
        """Clients have replayed: objects whose files a crash took, and nobody brought back, go.

        Lustre leaves those below the last one used to lfsck.
        """
        made = range(self._durable_used + 1, self.last_used + 1)
        for oid in dict.fromkeys([*self._left_over, *made]):
            if oid not in self._adopted:
                self.destroy(tx, oid)
        self._left_over.clear()
        self._adopted.clear()

    # ---- destroying

    def destroy(self, tx: Tx, oid: int) -> None:
        """In the transaction that removes a file: its object is to go once that is durable."""
        note = self._next_note
        self._next_note += 1
        tx.insert(objects.UNLINKED, _NOTE.pack(self.index, note), _ID.pack(oid))

        def durable() -> None:
            del self._leaving[note]
            self.doomed[note] = oid
            self._doom(note)

        tx.before_join(lambda: self._leaving.setdefault(note, oid))
        tx.on_commit(durable)

    def _doom(self, note: int) -> None:
        if self._clean:
            self.env.process(self._destroy(note, self._life))

    def _destroy(self, note: int, life: int) -> Steps[None]:
        yield from self.slots.take()
        try:
            if life == self._life and note in self.doomed and note not in self._asked:
                yield from self._ask_to_destroy(note)
        finally:
            self.slots.give()
        yield from self._forget()
        if self._unconfirmed and not self._confirming:
            self._confirming = True
            self.env.process(self._confirm())

    def _ask_to_destroy(self, note: int) -> Steps[None]:
        """OST_DESTROY; one that is gone already is as good."""
        oa = Obdo(valid=OBD_MD_FLID | OBD_MD_FLGROUP, oi=OstId(id=self.doomed[note], seq=0))
        self._asked[note] = None
        try:
            reply = yield from self.imp.call(Request(OST_DESTROY, ost_body=OstBody(oa=oa)))
            transno = reply.body.transno
        except LustreError as error:
            if error.errno != errno.ENOENT:
                return
            transno = self._earlier.get(note, 0)
        finally:
            del self._asked[note]
        if note in self.doomed:
            self._unconfirmed[note] = transno

    def _confirm(self) -> Steps[None]:
        """Pings tell what the OST has made durable, where nothing else is said."""
        while self._unconfirmed and not self.imp.closed:
            yield self.env.timeout(self.mdt.rpc.ping_interval_ns)
            yield from self._forget()
        self._confirming = False

    def _forget(self) -> Steps[None]:
        """Drop the notes of objects whose destruction is durable on the OST."""
        committed = self.imp.committed
        notes = [note for note, transno in self._unconfirmed.items() if transno <= committed]
        if not notes or self.imp.closed:  # then it is another MDS that has the disk, maybe
            return
        tx = self.osd.transaction()
        for note in notes:
            del self._unconfirmed[note], self.doomed[note]
            self._earlier.pop(note, None)
            tx.delete(objects.UNLINKED, _NOTE.pack(self.index, note))
        yield from tx.stop()

    def punch(self, oid: int, size: int) -> Steps[None]:
        """Make an object as long as its file was before it had one, and that durable."""
        oa = Obdo(
            valid=OBD_MD_FLID | OBD_MD_FLGROUP | OBD_MD_FLSIZE | OBD_MD_FLBLOCKS,
            oi=OstId(id=oid, seq=0), size=size, blocks=OBD_OBJECT_EOF,
        )  # fmt: skip
        yield from self.imp.call(Request(OST_PUNCH, ost_body=OstBody(oa=oa)))
        yield from self.imp.call(Request(OST_SYNC, ost_body=OstBody(oa=oa)))

    # ---- parameters

    @Param.computed(unit="object id", help="the next object that a file gets")
    def prealloc_next_id(self) -> int:
        """The lowest id in the pool."""
        return self.free[0] if self.free else self.last_created + 1

    @Param.computed(unit="object id", help="the last object made in advance")
    def prealloc_last_id(self) -> int:
        """The highest id on the OST."""
        return self.last_created

    @Param.computed(unit="sequence", help="the sequence that objects are made in")
    def prealloc_next_seq(self) -> str:
        """IDIF's sequence of this OST (fid_idif_seq)."""
        return f"{0x100000000 | self.index << 16:#x}"

    @Param.computed(unit="errno", help="0, or why no objects are made, as a negative errno")
    def prealloc_status(self) -> int:
        """What the last precreation said."""
        return self.status

    @Param.computed(unit="objects", help="objects destroyed or about to be")
    def destroys_in_flight(self) -> int:
        """How many notes are open."""
        return len(self.doomed)

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return {
            "name": self.name,
            "index": self.index,
            "last_used": self.last_used,
            "last_created": self.last_created,
            "free": sorted(self.free),
            "doomed": sorted([*self.doomed.values(), *self._leaving.values()]),
        }

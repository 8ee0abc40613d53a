"""The objects that an MDT keeps in store on one OST, and what it knows of that OST's space.

Does not know files, layouts or connections. Stands for osp/osp_precreate.c.

An id is precreated by the OST, reserved for a file, used when the file's transaction joins. The
last id in use is stored with it, so that after a crash the OST can destroy what nobody uses. What
is in store is given out also while the OST is away; who finds nothing waits for obd_timeout.
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
from labsim.base.units import MIB, NS_PER_S
from labsim.net.ptlrpc import Import, Request, State
from labsim.nodes.mds import objects
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Gate
from labsim.storage.osd import Tx
from labsim.wire.constants import (
    OBD_FL_DELORPHAN,
    OBD_MD_FLFLAGS,
    OBD_MD_FLGROUP,
    OBD_MD_FLID,
    OS_STATE_DEGRADED,
    OS_STATE_ENOINO,
    OS_STATE_ENOSPC,
    OS_STATE_READONLY,
    OST_MAX_PRECREATE,
    OST_MIN_PRECREATE,
)
from labsim.wire.opcodes import OST_CREATE, OST_STATFS
from labsim.wire.ost import Obdo, ObdStatfs, OstBody
from labsim.wire.schema import OstId

MAXAGE_NS = 5 * NS_PER_S
"""opd_statfs_maxage: how old what is known of an OST's space may be."""
STATFS_RETRY_NS = 10 * NS_PER_S
"""When an OST is asked again that did not say how full it is (osp_statfs_interpret)."""
CLEANUP_RETRY_NS = NS_PER_S
RESERVED_INODES = 32
"""An OST with fewer free inodes gets no new objects; with twice as many, again."""

PATIENT = frozenset(
    {0, -errno.ENOSPC, -errno.ENODEV, -errno.EAGAIN, -errno.ENOTCONN}
)  # fmt: skip
"""A status of precreation that may yet become good: who needs an object waits."""

_INDEX = struct.Struct(">I")
_ID = struct.Struct("<Q")


class Precreation(Component, tree="osp.{name}"):
    """What is in store on one OST."""

    max_create_count = Param.count(
        OST_MAX_PRECREATE, high=OST_MAX_PRECREATE, unit="objects",
        help="most objects made in advance; 0 stops new objects",
    )  # fmt: skip
    create_count = Param.count(
        OST_MIN_PRECREATE, low=OST_MIN_PRECREATE, high=lambda self: self.max_create_count,
        unit="objects", help="objects asked for at a time; doubles when they are used up fast",
    )  # fmt: skip
    reserved_mb_low = Param.count(
        0, unit="MiB", help="an OST with less free space gets no new objects; 0: a thousandth"
    )
    reserved_mb_high = Param.count(
        0, unit="MiB", help="an OST that was too full gets objects again with more free space"
    )

    mdt: Any
    osd: Any
    env: Any
    imp: Import
    index: int
    name: str
    doomed: dict[int, int]
    leaving: dict[int, int]

    def _empty(self) -> None:
        """Nothing is in store, and nothing known."""
        self.statfs = ObdStatfs()
        self.imp_active = False
        """Connected once, and not evicted or switched off since (opd_imp_active)."""
        self._status = -errno.EAGAIN
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
        self.clean = True
        """The OST has been told what is in use since it came back (not opd_pre_recovering)."""
        self._creating = False
        self._slow = False
        self.life = 0
        """Counts connections."""
        self._changed = Gate(self.env)
        self._recovered = Gate(self.env)
        self._ask_now = Gate(self.env)

    def _load_used(self) -> None:
        """Read what the last life left: the last id in use, and those below that are not."""
        value = self.osd.lookup(objects.OBJIDS, _INDEX.pack(self.index)) or _ID.pack(0)
        self.last_used, *left = (one for (one,) in _ID.iter_unpack(value))
        self._left_over = dict.fromkeys(left)
        self._durable_used = self.last_used

    # ---- how the OST is

    @property
    def makes_objects(self) -> bool:
        """Only MDT0000 does: others would need sequences of their own, and have no files here."""
        return bool(self.mdt.info.index == 0)

    @property
    def connected(self) -> bool:
        """Can the OST be talked to?"""
        return self.imp.state is State.FULL

    @property
    def status(self) -> int:
        """0, or why the OST makes no objects, as a negative errno (opd_pre_status)."""
        away = self.life and not (self.connected and self.imp_active)
        return -errno.ENODEV if away else self._status

    @property
    def precreated(self) -> int:
        """Objects to be had without waiting (os_fprecreated)."""
        return len(self.free)

    @property
    def degraded(self) -> bool:
        """Should others be preferred? (OS_STATE_DEGRADED)"""
        return bool(self.statfs.state & OS_STATE_DEGRADED)

    def unusable(self) -> int:
        """Why no object should be sought here: ENOTCONN, ENOSPC, EROFS; 0 (lod_statfs_and_check).

        ENOTCONN is for an OST that was never reached, has evicted this MDT, or is switched off. One
        that has gone away still counts, as long as nobody waits for it in vain.
        """
        if not self.imp_active:
            return errno.ENOTCONN
        state = self.statfs.state
        if state & OS_STATE_ENOSPC or (state & OS_STATE_ENOINO and not self.free):
            return errno.ENOSPC
        return errno.EROFS if state & OS_STATE_READONLY else 0

    def _watch(self, life: int) -> Steps[None]:
        """Ask how full the OST is, again and again."""
        while life == self.life and self.connected:
            pause_ns = MAXAGE_NS
            try:
                reply = yield from self.imp.call(Request(OST_STATFS, no_resend=True, no_delay=True))
                if life == self.life:
                    self._learn(reply["obd_statfs"])
            except LustreError:
                pause_ns = STATFS_RETRY_NS
            yield from self._pulsed(self._ask_now, pause_ns)

    def _learn(self, told: ObdStatfs) -> None:
        """Is there enough for new objects? Not again before there is more (osp_pre_update_msfs)."""
        before = self.statfs.state
        if not (self.reserved_mb_low or self.reserved_mb_high):
            self.reserved_mb_low = max((told.bsize >> 10) * told.blocks >> 20, 1)
            self.reserved_mb_high = 2 * self.reserved_mb_low + 1
        state, full = told.state, OS_STATE_ENOINO | OS_STATE_ENOSPC
        if told.ffree < RESERVED_INODES:
            state |= OS_STATE_ENOINO
        elif told.ffree <= 2 * RESERVED_INODES:
            state |= before & OS_STATE_ENOINO
        available_mb = told.bavail * told.bsize // MIB
        if available_mb < self.reserved_mb_low:
            state |= OS_STATE_ENOSPC
        elif available_mb <= self.reserved_mb_high:
            state |= before & OS_STATE_ENOSPC
        self.statfs = told.replace(state=state)
        if before & full and not state & full:
            self._slow = False
            self.create_count = min(OST_MIN_PRECREATE, self.max_create_count)
        self._became(-errno.ENOSPC if state & full else 0)

    def space_freed(self) -> None:
        """Objects were destroyed: an OST that was full may have room now (osp_statfs_need_now)."""
        if self._status == -errno.ENOSPC:
            self._ask_now.pulse()
            self._changed.pulse()

    def _became(self, status: int) -> None:
        """How precreation stands now (osp_pre_update_status)."""
        changed, self._status = status != self._status, status
        if changed:
            self._changed.pulse()
        self._want_more()

    # ---- from connection to connection

    def mdt_recovered(self) -> None:
        """Every client of the MDT has said which objects its lost files had."""
        self._recovered.open()

    def _clean_up(self, life: int) -> Steps[bool]:
        """Have the OST destroy what nobody ever used (osp_precreate_cleanup_orphans).

        It makes again what it lost of the objects up to the last one used. As long as clients may
        replay creates to this MDT, that one is not known. False where the connection is lost.
        """
        yield from self._recovered.passed()
        while life == self.life and self.connected:
            keep = max([self.last_used, *self.reserved])
            self.free = deque(oid for oid in self.free if oid <= keep)
            try:
                last = yield from self._create(keep, OBD_FL_DELORPHAN)
            except LustreError as error:
                if life == self.life:
                    self._became(-error.errno)
                    yield self.env.timeout(CLEANUP_RETRY_NS)
                continue
            if life != self.life:
                break
            self.last_created = max(last, keep)
            self.clean = True
            self._became(self._status if self._status == -errno.ENOSPC else 0)
            self._changed.pulse()
            return True
        return False

    def _create(self, oid: int, flags: int = 0) -> Steps[int]:
        """One OST_CREATE; the OST's last id."""
        valid = OBD_MD_FLGROUP | OBD_MD_FLID | (OBD_MD_FLFLAGS if flags else 0)
        oa = Obdo(valid=valid, oi=OstId(id=oid, seq=0), flags=flags)
        request = Request(OST_CREATE, no_resend=True, no_delay=True, ost_body=OstBody(oa=oa))
        reply = yield from self.imp.call(request)
        last: int = reply["ost_body"].oa.oi.id
        return last

    # ---- making objects in advance

    def _want_more(self) -> None:
        """Ask for objects when less than half a batch is left (osp_precreate_near_empty)."""
        few = len(self.free) < self.create_count // 2
        able = self.life and self.clean and self.status == 0 and self.max_create_count > 0
        if few and able and not self._creating:
            self._creating = True
            self.env.process(self._precreate(self.life))

    def _precreate(self, life: int) -> Steps[None]:
        """One batch (osp_precreate_send); a smaller one than asked for stops the growth."""
        status = 0
        try:
            count = min(self.create_count, self.max_create_count)
            last = yield from self._create(self.last_created + count)
            if life == self.life:
                made = last - self.last_created
                self.free.extend(range(self.last_created + 1, last + 1))
                self.last_created = last
                self._slow = made < count
                if self._slow:
                    low = min(OST_MIN_PRECREATE, self.max_create_count)
                    self.create_count = max(made, low)
        except LustreError as error:
            status = -error.errno
        self._creating = False
        if life == self.life:
            self._became(status)
        self._changed.pulse()

    def reserve(self) -> Steps[int]:
        """An object's id; waits for the OST at most obd_timeout (osp_precreate_reserve).

        ENOBUFS where none are wanted from this OST, ENOSPC where it is full and nothing is being
        destroyed, ETIMEDOUT where it is away, or whatever else it said.
        """
        limit_ns = self.env.now + self.mdt.rpc.timeout_ns
        if self.max_create_count == 0:
            raise LustreError(errno.ENOBUFS, f"{self.name} shall make no objects")
        synced = False
        while (status := self.status) in PATIENT:
            self._grow()
            if self.free and self.clean:
                oid = self.free.popleft()
                self.reserved[oid] = None
                self._want_more()
                return oid
            if status == -errno.ENOSPC:
                if not self.leaving and not self.doomed:
                    break
                if self.leaving and not synced:
                    self.osd.commit()
                    synced = True
            self._want_more()
            left_ns = limit_ns - self.env.now
            if left_ns <= 0:
                raise LustreError(errno.ETIMEDOUT, f"{self.name} is away")
            yield from self._pulsed(self._changed, left_ns)
        raise LustreError(-status, f"{self.name} makes no objects")

    def _grow(self) -> None:
        """Used up faster than a batch comes: ask for twice as many from the next one on."""
        grown = min(self.create_count * 2, self.max_create_count)
        few = len(self.free) <= self.create_count // 4 + 1
        if few and not self._slow and grown > self.create_count:
            self._slow = True
            self.create_count = grown

    def _pulsed(self, gate: Gate, limit_ns: int) -> Steps[None]:
        """Wait for a pulse, but not longer than so long."""
        event = gate.wait()
        deadline = self.mdt.rpc.deadlines.add(self.env.now + limit_ns, gate.pulse)
        yield event
        deadline.cancel()

    def give_back(self, oid: int) -> None:
        """A reserved object that no file got."""
        self.reserved.pop(oid, None)
        self.free.appendleft(oid)
        self._changed.pulse()

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

    def unclaimed(self) -> list[int]:
        """Clients have replayed: objects whose files a crash took, and nobody brought back.

        Lustre leaves those below the last one used to lfsck.
        """
        made = range(self._durable_used + 1, self.last_used + 1)
        found = [
            oid for oid in dict.fromkeys([*self._left_over, *made]) if oid not in self._adopted
        ]
        self._left_over.clear()
        self._adopted.clear()
        return list(found)

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
        """How precreation stands."""
        return self.status

    @Param.computed(unit="objects", help="objects set aside for files that are being made")
    def prealloc_reserved(self) -> int:
        """How many ids are reserved."""
        return len(self.reserved)

"""osp: an MDT's way to one OST, and the objects there that are to be destroyed.

Does not know files or layouts. Stands for lustre/osp (osp_dev.c, osp_sync.c); objects made in
advance are in `osp_precreate`.

An object that is to go is noted in the transaction that removes its file, and destroyed when that
is durable; the note goes when the OST has made its side durable.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.params import Param
from labsim.net.ptlrpc import Import, Request
from labsim.nodes.config import TargetInfo
from labsim.nodes.import_files import Switchable
from labsim.nodes.mds import objects
from labsim.nodes.mds.osp_precreate import Precreation
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Permits
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
    OBD_MD_FLBLOCKS,
    OBD_MD_FLGROUP,
    OBD_MD_FLID,
    OBD_MD_FLSIZE,
    OBD_OBJECT_EOF,
    OSC_REPLY_PORTAL,
    OST_REQUEST_PORTAL,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.opcodes import (
    OST_CONNECT,
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
_ID = struct.Struct("<Q")
_NOTE = struct.Struct(">IQ")


class Osp(Precreation, Switchable):
    """One OST, as one MDT sees it."""

    active = Param.flag(True, help="0: the OST is not to be used at all")
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
        self.imp.on_evicted += (self._inactive,)
        self._empty()
        self._confirming = False
        self.slots = Permits(self.env, self.max_rpcs_in_flight)
        self.doomed: dict[int, int] = {}
        """Objects to be destroyed, by the number of their note."""
        self.leaving: dict[int, int] = {}
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
        self._load_used()
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
            self._became(-error.errno)

    def stop(self) -> Steps[None]:
        """Take leave of the OST."""
        self.life += 1
        yield from self.imp.disconnect()

    def _inactive(self) -> None:
        """Evicted, or switched off (IMP_EVENT_INACTIVE)."""
        self.imp_active = False
        self._changed.pulse()

    def _came_up(self) -> None:
        """(Re)connected: sort out which objects are ours, then go on destroying."""
        self.life += 1
        self.imp_active = True
        self.clean = False
        self._earlier.update(self._unconfirmed)
        self._unconfirmed.clear()
        self.env.process(self._watch(self.life))
        self.env.process(self._go_on(self.life))

    def _go_on(self, life: int) -> Steps[None]:
        if self.makes_objects and (yield from self._clean_up(life)):
            for note in list(self.doomed):
                self._doom(note)

    # ---- destroying

    def throw_away(self, tx: Tx, oid: int) -> None:
        """A reserved object that no file got, and that none may get."""
        self.reserved.pop(oid, None)
        self.destroy(tx, oid)

    def give_up(self, tx: Tx) -> None:
        """Clients have replayed: what nobody brought back goes."""
        for oid in self.unclaimed():
            self.destroy(tx, oid)

    def destroy(self, tx: Tx, oid: int) -> None:
        """In the transaction that removes a file: its object is to go once that is durable."""
        note = self._next_note
        self._next_note += 1
        tx.insert(objects.UNLINKED, _NOTE.pack(self.index, note), _ID.pack(oid))

        def durable() -> None:
            del self.leaving[note]
            self.doomed[note] = oid
            self._doom(note)

        tx.before_join(self.leaving.setdefault, note, oid)
        tx.on_commit(durable)

    def _doom(self, note: int) -> None:
        if self.clean:
            self.env.process(self._destroy(note, self.life))

    def _destroy(self, note: int, life: int) -> Steps[None]:
        yield from self.slots.take()
        try:
            if life == self.life and note in self.doomed and note not in self._asked:
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
        self.space_freed()
        yield from tx.stop()

    def punch(self, oid: int, size: int) -> Steps[None]:
        """Make an object as long as its file was before it had one, and that durable.

        EINPROGRESS where the OST is away: the client asks again (osp_object_truncate).
        """
        oa = Obdo(
            valid=OBD_MD_FLID | OBD_MD_FLGROUP | OBD_MD_FLSIZE | OBD_MD_FLBLOCKS,
            oi=OstId(id=oid, seq=0), size=size, blocks=OBD_OBJECT_EOF,
        )  # fmt: skip
        for opcode in (OST_PUNCH, OST_SYNC):
            request = Request(opcode, no_resend=True, no_delay=True, ost_body=OstBody(oa=oa))
            try:
                yield from self.imp.call(request)
            except LustreError as error:
                if error.errno != errno.EAGAIN:
                    raise
                raise LustreError(errno.EINPROGRESS, f"{self.name} is away") from None

    # ---- parameters

    @Param.computed(unit="objects", access="rw", help="destructions that have not begun yet")
    def sync_changes(self) -> int:
        """Those whose files' removal is not on disk, and those that wait (opd_sync_changes)."""
        return len(self.leaving) + len(self.doomed) - self.sync_in_progress

    def store_sync_changes(self, text: str) -> None:
        """Any write begins a commit, so that they can go (sync_changes_store)."""
        self.osd.commit()

    @Param.computed(unit="RPCs", help="OST_DESTROYs on the wire")
    def sync_in_flight(self) -> int:
        """Without a reply yet (opd_sync_rpcs_in_flight)."""
        return len(self._asked)

    @Param.computed(unit="objects", help="destructions that the OST does not have on disk yet")
    def sync_in_progress(self) -> int:
        """Asked for, and not known to be committed (opd_sync_rpcs_in_progress)."""
        return len(self._asked) + sum(note not in self._asked for note in self._unconfirmed)

    @Param.computed(unit="objects", help="objects destroyed or about to be")
    def destroys_in_flight(self) -> int:
        """All of these."""
        return len(self.leaving) + len(self.doomed)

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return {
            "name": self.name,
            "index": self.index,
            "last_used": self.last_used,
            "last_created": self.last_created,
            "free": sorted(self.free),
            "doomed": sorted([*self.doomed.values(), *self.leaving.values()]),
        }

"""The objects of an OST: which there are, how they come and go.

Does not know their attributes or data. Stands for ofd_create_hdl, ofd_precreate_objects and
ofd_destroy_hdl (ofd/ofd_dev.c, ofd_objects.c).
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.base.payload import tobytes
from labsim.ldlm.policy import Extent
from labsim.ldlm.resource import ost_resource
from labsim.net.ptlrpc import ServerRequest, handles
from labsim.net.ptlrpc.points import TGT_DELAY_PRECREATE
from labsim.nodes.export_files import ExportFiles
from labsim.nodes.oss import points
from labsim.nodes.oss.grants import Grants
from labsim.nodes.oss.objects import last_id_fid, object_fid
from labsim.nodes.oss.sync_modes import SyncModes
from labsim.runtime.ports import Steps
from labsim.storage.osd import Attrs, Tx
from labsim.wire.constants import (
    LCK_PW,
    LDLM_FL_AST_DISCARD_DATA,
    OBD_FL_DELORPHAN,
    OBD_MD_FLFLAGS,
    OBD_MD_FLGROUP,
    OBD_MD_FLID,
    OST_MAX_PRECREATE,
)
from labsim.wire.message import Message
from labsim.wire.opcodes import OST_CREATE, OST_DESTROY
from labsim.wire.ost import Obdo, OstBody
from labsim.wire.schema import OstId

NEW_OBJECT = Attrs(mode=0o107666)
"""S_IFREG | S_ISUID | S_ISGID | 0666: an object that nobody has written to (ofd_objects.c)."""


class ObjectStore(SyncModes, ExportFiles):
    """Base of an OST: its objects by id."""

    index: int
    grants: Grants
    ldlm: Any
    last_id = 0
    _unsorted = False
    """Since a restart no MDT has said which objects are in use: a crash may have taken some."""

    def start(self) -> Steps[None]:
        """Open the storage; the last id says how far objects have been created."""
        yield from super().start()
        fid = last_id_fid(self.index)
        if self.osd.exists(fid):
            data = yield from self.osd.read(fid, 0, 8)
            self.last_id = int.from_bytes(tobytes(data), "little")
            self._unsorted = self.recovering
        else:
            tx = self.begin()
            tx.create(fid, Attrs(mode=0o100644))
            tx.write(fid, 0, bytes(8))
            yield from tx.stop()

    def available(self) -> int:
        """Bytes that may still be written."""
        raise NotImplementedError

    def fid(self, oa: Obdo) -> Fid:
        """The object that an obdo names; ENOENT where there is none."""
        return self._there(oa.oi)

    def _there(self, oi: OstId) -> Fid:
        """An object that a crash may have taken is asked for again later (EINPROGRESS).

        Its MDT has it made again as soon as it is back; Lustre says ENOENT in between, and what the
        client had written is lost.
        """
        fid = object_fid(oi, self.index)
        if not self.osd.exists(fid):
            taken = self._unsorted and oi.seq == 0 and self.last_id < oi.id < 1 << 48
            raise LustreError(errno.EINPROGRESS if taken else errno.ENOENT, f"object {oi.id}")
        return fid

    def changing(self, req: ServerRequest, oa: Obdo) -> Steps[Fid]:
        """The object that a change is about.

        A replay may be about one that a crash took, as it was made just before: it is made again
        with all up to it (ofd_preprw_write), and the MDT sorts out later which of them are used.
        """
        most = self.last_id + OST_MAX_PRECREATE
        if req.replay and oa.oi.seq == 0 and self.last_id < oa.oi.id <= most:
            tx = self.osd.transaction()
            self._make(tx, oa.oi.id)
            yield from tx.stop()
        return self.fid(oa)

    # ---- creating and destroying

    @handles(OST_CREATE)
    def create(self, req: ServerRequest) -> Steps[Message]:
        """Precreate up to an id, or destroy what is above one (ofd_create_hdl)."""
        yield from self.at(points.OST_CREATE_NET)
        yield from self.at(points.OST_PAUSE_CREATE)
        yield from self.at(TGT_DELAY_PRECREATE)
        oa: Obdo = req["ost_body"].oa
        if oa.oi.seq != 0:
            raise LustreError(errno.EINVAL, f"sequence {oa.oi.seq:#x}")
        if oa.valid & OBD_MD_FLFLAGS and oa.flags & OBD_FL_DELORPHAN:
            yield from self._destroy_orphans(req, oa.oi.id)
        else:
            yield from self._precreate(req, oa.oi.id)
        reply = oa.replace(
            oi=OstId(id=self.last_id, seq=0), valid=oa.valid | OBD_MD_FLID | OBD_MD_FLGROUP
        )
        self.count(req, "create")
        return req.reply(ost_body=OstBody(oa=reply))

    def _precreate(self, req: ServerRequest, wanted: int) -> Steps[None]:
        """Make the objects after the last id; fewer where there is no room for all."""
        wanted = min(wanted, self.last_id + OST_MAX_PRECREATE)
        if wanted <= self.last_id:
            return
        yield from self.at(points.OST_ENOINO)
        statfs = self.osd.statfs()
        if statfs.ffree == 0:
            raise LustreError(errno.ENOSPC, f"{self.name} has no free inode")
        wanted = min(wanted, self.last_id + statfs.ffree)
        pending = 0
        if not self.recovering:
            count, pending = self.grants.create(
                wanted - self.last_id, self.available(), statfs.blocks
            )
            wanted = self.last_id + count
        last_id = self.last_id
        tx = self.begin(req)
        try:
            self._make(tx, wanted)
            yield from tx.stop()
        except LustreError:
            self.last_id = last_id
            raise
        finally:
            self.grants.commit(self.grants.own, pending)

    def _destroy_orphans(self, req: ServerRequest, used: int) -> Steps[None]:
        """Destroy what was precreated and never used; ids are not used again (SKIP_ORPHAN).

        What a crash of this OST took of the objects in use is made again, empty. Done at once: the
        MDT uses later ids from now on, and would not ask for those between to be destroyed again.
        """
        if used > self.last_id:
            yield from self._precreate(req, used)
        if self.last_id - used > OST_MAX_PRECREATE:
            tx = self.begin(req)
            self._set_last_id(tx, self.last_id + 1)
            yield from tx.stop()
            self._unsorted = False
            return
        tx = self.begin(req)
        for oid in range(used + 1, self.last_id + 1):
            fid = object_fid(OstId(id=oid, seq=0), self.index)
            if self.osd.exists(fid):
                tx.destroy(fid)
        self._set_last_id(tx, max(used, self.last_id))
        yield from tx.stop(sync=True)
        self._unsorted = False

    def _make(self, tx: Tx, wanted: int) -> None:
        """The objects behind the last id, up to `wanted`."""
        for oid in range(self.last_id + 1, wanted + 1):
            tx.create(object_fid(OstId(id=oid, seq=0), self.index), NEW_OBJECT)
        self._set_last_id(tx, wanted)

    def _set_last_id(self, tx: Tx, last_id: int) -> None:
        self.last_id = last_id
        tx.write(last_id_fid(self.index), 0, last_id.to_bytes(8, "little"))

    @handles(OST_DESTROY)
    def destroy(self, req: ServerRequest) -> Steps[Message]:
        """Destroy an object, after its clients have thrown away what they cached of it."""
        yield from self.at(points.OST_DESTROY_NET)
        oa: Obdo = req["ost_body"].oa
        if (yield from self.hit(points.OST_NODESTROY)):
            return req.reply(ost_body=OstBody(oa=oa))
        fid = self.fid(oa)
        resource = ost_resource(oa.oi.id, oa.oi.seq)
        lock = yield from self.ldlm.acquire(
            resource, LCK_PW, extent=Extent(), flags=LDLM_FL_AST_DISCARD_DATA
        )
        try:
            tx = self.begin(req)
            tx.destroy(fid)
            yield from tx.stop()
        finally:
            self.ldlm.release(lock)
        self.count(req, "destroy")
        return req.reply(ost_body=OstBody(oa=oa))

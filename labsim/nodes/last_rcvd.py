"""last_rcvd: what a target remembers of its clients across a restart.

Does not know requests. Stands for the file of that name: lr_server_data at 0, a slot of 128 bytes
(lsd_client_data) for each client from byte 8192 on; and for tgt_server_data_init,
tgt_clients_data_init, tgt_client_new, tgt_client_del and tgt_boot_epoch_update (tgt_lastrcvd.c).
"""

from __future__ import annotations

from typing import Any

from labsim.base.ids import Fid
from labsim.base.payload import tobytes
from labsim.runtime.ports import Steps
from labsim.storage.osd import Attrs, Tx
from labsim.wire.constants import LR_CLIENT_SIZE, LR_CLIENT_START, LR_SERVER_SIZE
from labsim.wire.fid_seq import FID_SEQ_LOCAL_FILE
from labsim.wire.last_rcvd import LrServerData, LsdClientData

LAST_RCVD = Fid(FID_SEQ_LOCAL_FILE, 11)
"""LAST_RECV_OID in the sequence of local files (lustre_fid.h)."""

LR_EPOCH_BITS = 32
"""The high half of a transno is the epoch: each recovery begins a new one (lustre_disk.h)."""

OBD_COMPAT_OST, OBD_COMPAT_MDT = 0x2, 0x4
OBD_ROCOMPAT_LOVOBJID = 0x1
OBD_INCOMPAT_OST, OBD_INCOMPAT_MDT, OBD_INCOMPAT_COMMON_LR = 0x2, 0x4, 0x8
OBD_INCOMPAT_MULTI_RPCS = 0x400
"""Reply data of some client is in the file reply_data (lustre_disk.h)."""

FREE = bytes(LR_CLIENT_SIZE)


class Slot:
    """A client's slot: its last modifying request, and its last close (struct lsd_client_data).

    `multi` is not on disk: the client's requests are noted in reply_data instead (MULTIMODRPCS).
    """

    __slots__ = (
        "close_transno", "close_xid", "epoch", "generation", "index", "last_data", "last_transno",
        "last_xid", "multi", "pre_versions", "uuid",
    )  # fmt: skip

    def __init__(self, index: int, uuid: str, generation: int) -> None:
        self.index = index
        self.uuid = uuid
        self.generation = generation
        self.epoch = 0
        self.last_transno = 0
        self.last_xid = 0
        self.last_data = 0
        self.pre_versions = (0, 0, 0, 0)
        self.close_transno = 0
        self.close_xid = 0
        self.multi = False

    @classmethod
    def read(cls, index: int, data: LsdClientData) -> Slot:
        """The slot as a restart finds it."""
        slot = cls(index, data.uuid, data.generation)
        slot.epoch = data.last_epoch
        slot.last_transno, slot.last_xid = data.last_transno, data.last_xid
        slot.last_data, slot.pre_versions = data.last_data, tuple(data.pre_versions)
        slot.close_transno, slot.close_xid = data.last_close_transno, data.last_close_xid
        return slot

    def pack(self) -> bytes:
        """Its 128 bytes. Only what succeeded has a transno, so the results are always 0."""
        return LsdClientData(
            uuid=self.uuid, last_transno=self.last_transno, last_xid=self.last_xid,
            last_data=self.last_data, last_close_transno=self.close_transno,
            last_close_xid=self.close_xid, pre_versions=self.pre_versions,
            last_epoch=self.epoch, generation=self.generation,
        ).pack()  # fmt: skip

    @property
    def transno(self) -> int:
        """The client's last transno (tgt_lcd_last_transno)."""
        return max(self.last_transno, self.close_transno)


class LastRcvd:
    """The file, its head, and which of its slots are free. `kind` is mdt, ost or mgt."""

    def __init__(self, osd: Any, uuid: str, kind: str, index: int) -> None:
        self._osd = osd
        self._uuid = uuid
        self._kind = kind
        self._index = index
        self._free: list[int] = []
        self._count = 0
        self._incompat = 0
        self.last_transno = 0
        self.mount_count = 0
        self.epoch = 0
        self.generation = 0
        """Given to the last new client (lut_client_generation)."""
        self.clients: list[Slot] = []
        """Who was connected when the target went down."""

    # ---- mounting

    def open(self, keep: bool = True) -> Steps[None]:
        """Read the file, or make it, and count the mount; without `keep` the clients are dropped.

        All clients' slots are free for others before anybody connects if they are dropped.
        """
        tx = self._osd.transaction()
        if self._osd.exists(LAST_RCVD):
            yield from self._read()
        else:
            tx.create(LAST_RCVD, Attrs(mode=0o100644))
        self.mount_count += 1
        if not keep:
            self.clients, self._free, self._count = [], [], 0
            tx.truncate(LAST_RCVD, LR_CLIENT_START)
        tx.write(LAST_RCVD, 0, self._head())
        yield from tx.stop(sync=True)

    def _read(self) -> Steps[None]:
        head = LrServerData.unpack(
            tobytes((yield from self._osd.read(LAST_RCVD, 0, LR_SERVER_SIZE)))
        )
        self.last_transno = head.last_transno
        self.mount_count = head.mount_count
        self.epoch = head.start_epoch
        self._incompat = head.feature_incompat
        size = self._osd.attrs(LAST_RCVD).size - LR_CLIENT_START
        slots = tobytes((yield from self._osd.read(LAST_RCVD, LR_CLIENT_START, max(size, 0))))
        self._count = len(slots) // LR_CLIENT_SIZE
        for index in range(self._count):
            start = index * LR_CLIENT_SIZE
            data = LsdClientData.unpack(slots[start : start + LR_CLIENT_SIZE])
            if not data.uuid:
                self._free.append(index)
                continue
            slot = Slot.read(index, data)
            self.clients.append(slot)
            self.last_transno = max(self.last_transno, slot.transno)
            self.generation = max(self.generation, slot.generation)
        self._free.reverse()

    def _head(self) -> bytes:
        compat, rocompat, incompat = 0, 0, OBD_INCOMPAT_COMMON_LR
        if self._kind == "mdt":
            compat, rocompat = OBD_COMPAT_MDT, OBD_ROCOMPAT_LOVOBJID
            incompat |= OBD_INCOMPAT_MDT
        elif self._kind == "ost":
            compat, incompat = OBD_COMPAT_OST, incompat | OBD_INCOMPAT_OST
        return LrServerData(
            uuid=self._uuid, last_transno=self.last_transno, mount_count=self.mount_count,
            feature_compat=compat, feature_rocompat=rocompat,
            feature_incompat=incompat | self._incompat & OBD_INCOMPAT_MULTI_RPCS,
            server_size=LR_SERVER_SIZE, client_start=LR_CLIENT_START, client_size=LR_CLIENT_SIZE,
            osd_index=self._index, start_epoch=self.epoch,
        ).pack()  # fmt: skip

    # ---- clients come and go

    def new_client(self, uuid: str) -> Slot:
        """A slot for a client that was not known; it is on disk once `write` has been."""
        self.generation += 1
        if self._free:
            index = self._free.pop()
        else:
            index = self._count
            self._count += 1
        return Slot(index, uuid, self.generation)

    def write(self, tx: Tx, slot: Slot) -> None:
        """Note within `tx` what the slot says."""
        tx.write(LAST_RCVD, LR_CLIENT_START + slot.index * LR_CLIENT_SIZE, slot.pack())

    def remove(self, tx: Tx, slot: Slot) -> None:
        """A client has gone: its slot may be used again, and its transno is kept in the head."""
        self._free.append(slot.index)
        self.note_transno(tx, slot.transno)
        tx.write(LAST_RCVD, LR_CLIENT_START + slot.index * LR_CLIENT_SIZE, FREE)

    def multiple(self, tx: Tx) -> None:
        """From now on reply_data counts as well: releases without it must not mount this."""
        if not self._incompat & OBD_INCOMPAT_MULTI_RPCS:
            self._incompat |= OBD_INCOMPAT_MULTI_RPCS
            tx.write(LAST_RCVD, 0, self._head())

    # ---- numbers

    def note_transno(self, tx: Tx, transno: int) -> None:
        """Note within `tx` a transaction number that belongs to no client."""
        self.last_transno = max(self.last_transno, transno)
        tx.write(LAST_RCVD, 0, self._head())

    def new_epoch(self, tx: Tx, last_transno: int) -> int:
        """Begin the next epoch; the transno before its first (tgt_boot_epoch_update)."""
        self.epoch = (last_transno >> LR_EPOCH_BITS) + 1
        self.note_transno(tx, self.epoch << LR_EPOCH_BITS)
        return self.last_transno

"""last_rcvd: what a target remembers of its clients across a restart.

Does not know requests. Stands for the file of that name: lr_server_data at 0, a slot of 128 bytes
(lsd_client_data) for each client from byte 8192 on.
"""

from __future__ import annotations

from typing import Any

from labsim.base.ids import Fid
from labsim.base.payload import tobytes
from labsim.runtime.ports import Steps
from labsim.storage.osd import Attrs, Tx
from labsim.wire.constants import LR_CLIENT_SIZE, LR_CLIENT_START, LR_SERVER_SIZE
from labsim.wire.last_rcvd import LrServerData, LsdClientData

FID_SEQ_LOCAL_FILE = 0x200000001
LAST_RCVD = Fid(FID_SEQ_LOCAL_FILE, 11)
"""LAST_RECV_OID in the sequence of local files (lustre_fid.h)."""


class LastRcvd:
    """The file, and which of its slots are free."""

    def __init__(self, osd: Any, uuid: str) -> None:
        self._osd = osd
        self._uuid = uuid
        self._free: list[int] = []
        self._count = 0
        self.last_transno = 0
        self.mount_count = 0
        self.clients: list[str] = []
        """Who was connected when the target went down."""

    def open(self) -> Steps[None]:
        """Read the file, or make it; counts the mount and clears the slots of the last one."""
        tx = self._osd.transaction()
        if self._osd.exists(LAST_RCVD):
            yield from self._read()
        else:
            tx.create(LAST_RCVD, Attrs(mode=0o100644))
        self.mount_count += 1
        tx.truncate(LAST_RCVD, LR_CLIENT_START)
        tx.write(LAST_RCVD, 0, self._server_data())
        yield from tx.stop(sync=True)

    def _server_data(self) -> bytes:
        return LrServerData(
            uuid=self._uuid,
            last_transno=self.last_transno,
            mount_count=self.mount_count,
            server_size=LR_SERVER_SIZE,
            client_start=LR_CLIENT_START,
            client_size=LR_CLIENT_SIZE,
        ).pack()

    def _read(self) -> Steps[None]:
        head = tobytes((yield from self._osd.read(LAST_RCVD, 0, LR_SERVER_SIZE)))
        server = LrServerData.unpack(head)
        self.last_transno = server.last_transno
        self.mount_count = server.mount_count
        size = self._osd.attrs(LAST_RCVD).size - LR_CLIENT_START
        slots = tobytes((yield from self._osd.read(LAST_RCVD, LR_CLIENT_START, max(size, 0))))
        for start in range(0, len(slots), LR_CLIENT_SIZE):
            client = LsdClientData.unpack(slots[start : start + LR_CLIENT_SIZE])
            last = max(client.last_transno, client.last_close_transno)
            self.last_transno = max(self.last_transno, last)
            if client.uuid:
                self.clients.append(client.uuid)

    def take_slot(self) -> int:
        """A free slot for a new client."""
        if self._free:
            return self._free.pop()
        self._count += 1
        return self._count - 1

    def give_slot(self, slot: int) -> None:
        """A client has gone; its slot may be used again."""
        self._free.append(slot)

    def record(self, tx: Tx, slot: int, uuid: str, transno: int, xid: int, result: int) -> None:
        """Note within `tx` what a client's last modifying request was."""
        data = LsdClientData(uuid=uuid, last_transno=transno, last_xid=xid, last_result=result)
        tx.write(LAST_RCVD, LR_CLIENT_START + slot * LR_CLIENT_SIZE, data.pack())

    def note_transno(self, tx: Tx, transno: int) -> None:
        """Note within `tx` a transaction number that belongs to no client."""
        self.last_transno = max(self.last_transno, transno)
        tx.write(LAST_RCVD, 0, self._server_data())

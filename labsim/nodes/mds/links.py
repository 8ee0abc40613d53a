"""An MDT's ways to other MDTs.

Does not know what is asked there. Stands for the osp device that each MDT has for every other one
(lod_add_device), and the light one to MDT0000 that sequences come over (lustre_start_lwp, lwp_dev).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import Nid
from labsim.net.ptlrpc import Import, Request
from labsim.nodes.config import TargetInfo
from labsim.nodes.globals import Device
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    MDC_REPLY_PORTAL,
    MDS_INODELOCK_UPDATE,
    MDS_REQUEST_PORTAL,
    OBD_CONNECT_ACL,
    OBD_CONNECT_AT,
    OBD_CONNECT_BULK_MBITS,
    OBD_CONNECT_FID,
    OBD_CONNECT_FULL20,
    OBD_CONNECT_IBITS,
    OBD_CONNECT_INDEX,
    OBD_CONNECT_LIGHTWEIGHT,
    OBD_CONNECT_LRU_RESIZE,
    OBD_CONNECT_LVB_TYPE,
    OBD_CONNECT_MDS_MDS,
    OBD_CONNECT_VERSION,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.message import Message
from labsim.wire.opcodes import MDS_CONNECT, MDS_DISCONNECT

COMMON = (
    OBD_CONNECT_VERSION | OBD_CONNECT_INDEX | OBD_CONNECT_MDS_MDS | OBD_CONNECT_FID
    | OBD_CONNECT_AT | OBD_CONNECT_FULL20
)  # fmt: skip
FULL = COMMON | OBD_CONNECT_ACL | OBD_CONNECT_IBITS | OBD_CONNECT_BULK_MBITS
LIGHT = COMMON | OBD_CONNECT_LRU_RESIZE | OBD_CONNECT_LVB_TYPE | OBD_CONNECT_LIGHTWEIGHT


class Link:
    """One connection: a whole one, or a light one that the target keeps no slot for."""

    def __init__(self, mdt: Any, info: TargetInfo, light: bool = False) -> None:
        own = mdt.name.rsplit("-", 1)[1]
        self.mdt = mdt
        self.info = info
        self.light = light
        self.name = f"{info.name}-{'lwp' if light else 'osp'}-{own}"
        self.imp = Import(
            mdt.rpc, name=self.name, target_uuid=info.uuid,
            client_uuid=f"{self.name if light else f'{mdt.name}-mdtlov'}_UUID",
            nids=[int(Nid.parse(info.nid))], portals=(MDS_REQUEST_PORTAL, MDC_REPLY_PORTAL),
            opcodes=(MDS_CONNECT, MDS_DISCONNECT), want=self._wanted,
        )  # fmt: skip

    def _wanted(self) -> ObdConnectData:
        return ObdConnectData(
            connect_flags=LIGHT if self.light else FULL, index=self.info.index,
            version=self.mdt.host.kit.traits.ocd_version,
            ibits_known=0 if self.light else MDS_INODELOCK_UPDATE,
        )  # fmt: skip


class Links:
    """The ways of one MDT to all others."""

    def __init__(self, mdt: Any) -> None:
        self.mdt = mdt
        self.whole: dict[int, Link] = {}
        """By index."""
        self.master: Link | None = None
        """The light one to MDT0000."""

    def __iter__(self) -> Iterator[Link]:
        yield from self.whole.values()
        if self.master is not None:
            yield self.master

    def add(self, info: TargetInfo, running: bool) -> Link:
        """The log names another MDT."""
        link = self.whole[info.index] = Link(self.mdt, info)
        new = [link]
        if info.index == 0:
            self.master = Link(self.mdt, info, light=True)
            new.append(self.master)
        if running:
            self._start(new)
        return link

    def start(self) -> None:
        """Connect to all that are known."""
        self._start(list(self))

    def _start(self, links: list[Link]) -> None:
        for link in links:
            self.mdt.host.env.process(self._connect(link))

    def _connect(self, link: Link) -> Steps[None]:
        link.imp.conns.add(*self.whole[link.info.index].imp.conns.nids)
        try:
            yield from link.imp.connect()
        except LustreError as error:
            self.mdt.host.trace.emit("mdt.no_link", link.name, error.errno)

    def moved(self, index: int, nid: int, instance: int) -> None:
        """An MDT has come up somewhere."""
        for link in self:
            if link.info.index == index:
                link.imp.recover(nid, instance)

    def stop(self) -> Steps[None]:
        """Take leave of all."""
        for link in self:
            yield from link.imp.disconnect()

    def ask_master(self, request: Request) -> Steps[Message]:
        """Ask MDT0000; EINPROGRESS where it is not there yet, or has started anew meanwhile.

        Lustre lets the EIO of a light connection that was forgotten through to the client.
        """
        if self.master is None:
            raise LustreError(errno.EINPROGRESS, "MDT0000 has not registered yet")
        try:
            return (yield from self.master.imp.call(request))
        except LustreError as error:
            if error.errno == errno.EIO and error.reply is None:
                raise LustreError(errno.EINPROGRESS, "MDT0000 has started anew") from None
            raise

    def devices(self) -> list[Device]:
        """What `lctl dl` lists of them."""
        return [
            Device("lwp" if one.light else "osp", one.name, one.imp.client_uuid) for one in self
        ]

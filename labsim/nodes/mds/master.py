"""An MDT's way to MDT0000, which hands out super-sequences.

Does not know what is asked there. Stands for the osp device between two MDTs.
"""

from __future__ import annotations

from typing import Any

from labsim.base.ids import Nid
from labsim.net.ptlrpc import Import
from labsim.nodes.config import TargetInfo
from labsim.wire.constants import (
    MDC_REPLY_PORTAL,
    MDS_REQUEST_PORTAL,
    OBD_CONNECT_AT,
    OBD_CONNECT_FULL20,
    OBD_CONNECT_MDS,
    OBD_CONNECT_VERSION,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.opcodes import MDS_CONNECT, MDS_DISCONNECT

FLAGS = OBD_CONNECT_VERSION | OBD_CONNECT_AT | OBD_CONNECT_FULL20 | OBD_CONNECT_MDS


class MasterLink:
    """The import, under the device's name "lustre-MDT0000-osp-MDT0001"."""

    def __init__(self, mdt: Any, info: TargetInfo) -> None:
        self.mdt = mdt
        self.imp = Import(
            mdt.rpc, name=f"{info.name}-osp-{mdt.name.rsplit('-', 1)[1]}", target_uuid=info.uuid,
            client_uuid=f"{mdt.name}-mdtlov_UUID", nids=[int(Nid.parse(info.nid))],
            portals=(MDS_REQUEST_PORTAL, MDC_REPLY_PORTAL), opcodes=(MDS_CONNECT, MDS_DISCONNECT),
            want=self._wanted,
        )  # fmt: skip

    def _wanted(self) -> ObdConnectData:
        version = self.mdt.host.kit.traits.ocd_version
        return ObdConnectData(connect_flags=FLAGS, version=version)

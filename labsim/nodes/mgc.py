"""The MGC: how a node learns from the MGS what its file system is made of, and goes on learning.

Knows logs and the locks they are followed under, not what their commands do. Stands for lustre/mgc:
a log is read under a CR lock; when the MGS takes the lock back the log has grown, and the node
comes again and reads on from where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.component import Component
from labsim.base.errors import LustreError, ProtocolError
from labsim.base.ids import Nid
from labsim.base.params import Param
from labsim.base.payload import tobytes
from labsim.base.units import NS_PER_MS, NS_PER_S
from labsim.ldlm.client import ClientNamespace
from labsim.ldlm.resource import ResName, config_resource
from labsim.net.ptlrpc import Import, Request
from labsim.nodes.config import TargetInfo
from labsim.nodes.globals import Device
from labsim.runtime.ports import Host, Steps
from labsim.storage.llog import CHUNK, records_of
from labsim.wire import config_log
from labsim.wire.config_log import Command
from labsim.wire.constants import (
    LCK_CR,
    MGC_REPLY_PORTAL,
    MGS_REQUEST_PORTAL,
    OBD_CONNECT_AT,
    OBD_CONNECT_FULL20,
    OBD_CONNECT_IMP_RECOV,
    OBD_CONNECT_VERSION,
)
from labsim.wire.llog import LlogdBody, LlogLogid
from labsim.wire.llog_flags import (
    CM_SKIP,
    CM_START,
    CONFIG_T_PARAMS,
    CONFIG_T_RECOVER,
    LCFG_MARKER,
    LDD_F_IR_CAPABLE,
    LDD_F_OPC_READY,
    LDD_F_OPC_REG,
    LDD_F_SV_TYPE_MDT,
    LDD_F_SV_TYPE_OST,
    MTI_NIDS_MAX,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.mgs import MgsConfigBody, MgsNidtblEntry, MgsTargetInfo
from labsim.wire.opcodes import (
    LLOG_ORIGIN_HANDLE_CREATE,
    LLOG_ORIGIN_HANDLE_NEXT_BLOCK,
    LLOG_ORIGIN_HANDLE_READ_HEADER,
    MGS_CONFIG_READ,
    MGS_CONNECT,
    MGS_DISCONNECT,
    MGS_TARGET_REG,
)

ENOENT, ESHUTDOWN = 2, 108
PARAMS = "params"
"""The log of `lctl set_param -P`, which every node follows."""
WANTED = OBD_CONNECT_VERSION | OBD_CONNECT_FULL20 | OBD_CONNECT_AT | OBD_CONNECT_IMP_RECOV

REQUEUE_NS = NS_PER_MS
"""How long after its lock was taken back a log is read again: what mgc_requeue_timeout_min=0 means.

Lustre's own default is five seconds and a random time on top.
"""
RETRY_NS = 5 * NS_PER_S
"""How long after a failure."""
READ_BITS, READ_UNITS = 12, 4
"""The buffer of one MGS_CONFIG_READ: pages of 4 KiB (CONFIG_READ_NRPAGES)."""


class Followed:
    """A log that the node follows, and how far it has come (struct config_llog_data)."""

    __slots__ = ("apply", "index", "name", "offset", "resource", "skipping")

    def __init__(self, name: str, resource: ResName, apply: Callable[[Command], None]) -> None:
        self.name = name
        self.resource = resource
        self.apply = apply
        self.index = 0
        self.offset = CHUNK
        self.skipping = False


class Recover(Followed):
    """The recover table: `index` is the version that was seen last."""

    __slots__ = ()


class Mgc(Component, tree="mgc.{name}"):
    """A node's way to its MGS; `name` is MGCnid."""

    def __init__(self, node: Any, nid: str) -> None:
        self.host: Host = node.host
        self.env = node.host.env
        self.rpc = node.rpc
        self.name = f"MGC{nid}"
        self.uuid = f"{node.host.rng.getrandbits(64):016x}"
        self.imp = Import(
            node.rpc,
            name=self.name,
            target_uuid="MGS",
            client_uuid=self.uuid,
            nids=[Nid.parse(nid)],
            portals=(MGS_REQUEST_PORTAL, MGC_REPLY_PORTAL),
            opcodes=(MGS_CONNECT, MGS_DISCONNECT),
            want=self._wanted,
        )
        self.ldlm: ClientNamespace = node.make(ClientNamespace, node, self.imp, self.name)
        self.followed: list[Followed] = []
        self.versions: dict[str, int] = {}
        """By target: at which version of the recover table it was seen."""
        self._stopping = False
        self.host.params.mount(self, name=self.name)

    def _wanted(self) -> ObdConnectData:
        version = self.host.kit.traits.ocd_version
        return ObdConnectData(connect_flags=WANTED, version=version)

    @property
    def device(self) -> Device:
        """Its line in `lctl dl`."""
        return Device("mgc", self.name, self.uuid)

    # ---- life

    def start(self) -> Steps[None]:
        """Connect; waits for the MGS."""
        yield from self.imp.connect()

    def stop(self) -> Steps[None]:
        """Take leave of the MGS."""
        self._stopping = True
        yield from self.imp.disconnect()
        self.ldlm.close()
        self.host.params.unmount(self)

    # ---- servers

    def register(self, fsname: str, info: TargetInfo) -> Steps[None]:
        """A target is about to start: the MGS makes sure that others can find it."""
        yield from self._target_reg(fsname, info, LDD_F_OPC_REG)

    def ready(self, fsname: str, info: TargetInfo, instance: int) -> Steps[None]:
        """The target is up, for the `instance`th time."""
        yield from self._target_reg(fsname, info, LDD_F_OPC_READY, instance)

    def _target_reg(
        self, fsname: str, info: TargetInfo, flags: int, instance: int = 0
    ) -> Steps[None]:
        kind = LDD_F_SV_TYPE_MDT if info.kind == "mdt" else LDD_F_SV_TYPE_OST
        nids = (int(Nid.parse(info.nid)),)
        told = MgsTargetInfo(
            lustre_ver=self.host.kit.traits.ocd_version, stripe_index=info.index,
            flags=flags | kind | LDD_F_IR_CAPABLE, nid_count=len(nids), instance=instance,
            fsname=fsname, svname=info.name, uuid=info.uuid,
            nids=nids + (0,) * (MTI_NIDS_MAX - len(nids)),
        )  # fmt: skip
        yield from self.imp.call(Request(MGS_TARGET_REG, mgs_target_info=told))

    # ---- following logs

    def follow(self, name: str, apply: Callable[[Command], None]) -> Steps[None]:
        """Read a log to its end, `apply` each command, and go on doing so when it grows.

        ENOENT where the MGS has no such log; but the one of parameters may come later.
        """
        kind = CONFIG_T_PARAMS if name == PARAMS else 0
        log = Followed(name, config_resource(name.partition("-")[0], kind), apply)
        yield from self._first(log)

    def follow_recover(self, fsname: str) -> Steps[None]:
        """Keep the recover table of a file system."""
        resource = config_resource(fsname, CONFIG_T_RECOVER)
        yield from self._first(Recover(f"{fsname}-cliir", resource, _no_command))

    def _first(self, log: Followed) -> Steps[None]:
        self.followed.append(log)
        try:
            yield from self._update(log)
        except LustreError:
            self.followed.remove(log)
            raise

    def _update(self, log: Followed) -> Steps[None]:
        """Take the lock again, then read what is new (mgc_process_log)."""
        lock, _ = yield from self.ldlm.enqueue(
            log.resource, LCK_CR, blocking=self._called_back, data=log
        )
        assert lock is not None
        try:
            if isinstance(log, Recover):
                yield from self._read_table(log)
            else:
                yield from self._read_log(log)
        finally:
            self.ldlm.put(lock)

    def _called_back(self, lock: Any) -> None:
        """The log has changed, or the lock is lost: come again."""
        if not self._stopping and lock.data in self.followed:
            self.env.process(self._requeue(lock.data))

    def _requeue(self, log: Followed) -> Steps[None]:
        pause_ns = REQUEUE_NS
        while not self._stopping:
            yield self.env.timeout(pause_ns)
            try:
                yield from self._update(log)
                return
            except (LustreError, ProtocolError) as error:
                self.host.trace.emit("mgc.retry", log.name, str(error))
                pause_ns = RETRY_NS

    # ---- reading

    def _read_log(self, log: Followed) -> Steps[None]:
        """Open by name, read the header, then blocks until the last index."""
        body = LlogdBody(len=CHUNK)
        try:
            reply = yield from self.imp.call(
                Request(LLOG_ORIGIN_HANDLE_CREATE, llogd_body=body, name=log.name)
            )
        except LustreError as error:
            if error.errno == ENOENT and log.name == PARAMS:
                return
            raise
        logid: LlogLogid = reply["llogd_body"].logid
        body = body.replace(logid=logid)
        reply = yield from self.imp.call(Request(LLOG_ORIGIN_HANDLE_READ_HEADER, llogd_body=body))
        header = reply["llog_log_hdr"]
        while log.index < header.tail.index:
            wanted = body.replace(index=log.index + 1, saved_index=log.index, cur_offset=log.offset)
            reply = yield from self.imp.call(
                Request(LLOG_ORIGIN_HANDLE_NEXT_BLOCK, llogd_body=wanted)
            )
            self._take(log, header.bitmap, reply["llogd_body"], tobytes(reply["eadata"]))

    def _take(self, log: Followed, bitmap: bytes, told: LlogdBody, block: bytes) -> None:
        """Apply the live records of a block that are new."""
        if told.saved_index <= log.index:
            raise ProtocolError(f"llogd_body.lgd_saved_index: {told.saved_index}, no step forward")
        for record in records_of(block):
            live = bitmap[record.idx >> 3] >> (record.idx & 7) & 1
            if record.idx > log.index and live:
                self._execute(log, config_log.unpack(record.body))
        log.index, log.offset = told.saved_index, told.cur_offset

    def _execute(self, log: Followed, command: Command) -> None:
        """One command; what stands between markers that say so is passed over."""
        if command.command == LCFG_MARKER:
            flags = command.marker.flags
            log.skipping = bool(flags & CM_START and flags & CM_SKIP)
        elif not log.skipping:
            log.apply(command)

    def _read_table(self, log: Followed) -> Steps[None]:
        """Entries from the version after the last one on, until there are no more."""
        while True:
            body = MgsConfigBody(
                name=log.name, offset=log.index + 1, type=CONFIG_T_RECOVER, bits=READ_BITS,
                units=READ_UNITS,
            )  # fmt: skip
            request = Request(
                MGS_CONFIG_READ, mgs_config_body=body, bulk_in=READ_UNITS << READ_BITS
            )
            reply = yield from self.imp.call(request)
            told = reply["mgs_config_res"]
            self._take_entries(tobytes(request.data))
            log.index = max(told.offset, log.index)
            if told.offset >= told.size:
                return

    def _take_entries(self, data: bytes) -> None:
        at = 0
        while at + 24 <= len(data):
            entry = MgsNidtblEntry.unpack(data, at)
            if entry.length < 24 or at + entry.length > len(data):
                raise ProtocolError(f"mgs_nidtbl_entry.mne_length at {at}: {entry.length}")
            at += entry.length
            kind = "MDT" if entry.type & LDD_F_SV_TYPE_MDT else "OST"
            self.versions[f"{kind}{entry.index:04x}"] = entry.version

    # ---- parameters

    @Param.computed(help="whether servers that come back make themselves known, and what is known")
    def ir_state(self) -> str:
        """The file's text (lprocfs_mgc_rd_ir_state)."""
        on = "ENABLED" if self.imp.granted(OBD_CONNECT_IMP_RECOV) else "DISABLED"
        rows = [
            f"    - {{ client: {log.name.removesuffix('-cliir')}-client, "
            f"nidtbl_version: {log.index} }}\n"
            for log in self.followed
            if isinstance(log, Recover)
        ]
        return f"imperative_recovery: {on}\nclient_state:\n{''.join(rows)}"

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return {
            "name": self.name,
            "state": self.imp.state.name,
            "logs": {log.name: log.index for log in self.followed},
        }


def _no_command(command: Command) -> None:
    """The recover table has none."""

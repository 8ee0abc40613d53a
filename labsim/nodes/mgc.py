"""The MGC: how a node learns from the MGS what its file system is made of, and goes on learning.

Knows logs and the locks they are followed under, not what their commands do. Stands for lustre/mgc:
a log is read under a CR lock; when the MGS takes the lock back the log has changed, and some
seconds later the node comes again and reads on from where it was. A target that starts while the
MGS is away reads its own copy, and catches up later.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.ids import Nid, uuid_text
from labsim.base.params import Param
from labsim.base.units import NS_PER_MS, NS_PER_S
from labsim.ldlm.client import ClientNamespace
from labsim.ldlm.resource import config_resource
from labsim.net.ptlrpc import Import, Request, State
from labsim.nodes.config import TargetInfo
from labsim.nodes.config_copy import ConfigCopies
from labsim.nodes.config_reader import PARAMS, Followed, LogReader, Moved, Recover
from labsim.nodes.globals import Device
from labsim.nodes.import_files import ImportShown
from labsim.nodes.points import MGC_PAUSE_PROCESS_LOG
from labsim.runtime.ports import Host, Steps
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
from labsim.wire.llog_flags import (
    CONFIG_T_PARAMS,
    CONFIG_T_RECOVER,
    LDD_F_IR_CAPABLE,
    LDD_F_NO_PRIMNODE,
    LDD_F_OPC_READY,
    LDD_F_OPC_REG,
    LDD_F_SV_TYPE_MDT,
    LDD_F_SV_TYPE_OST,
    MTI_NIDS_MAX,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.mgs import MgsTargetInfo
from labsim.wire.opcodes import MGS_CONNECT, MGS_DISCONNECT, MGS_TARGET_REG

WANTED = OBD_CONNECT_VERSION | OBD_CONNECT_FULL20 | OBD_CONNECT_AT | OBD_CONNECT_IMP_RECOV

SERVER_LIMIT_NS = 5 * NS_PER_S
"""How long a server waits for the MGS before it reads its own copy (mgc_enqueue)."""
REG_LIMIT_NS = 10 * NS_PER_S
"""MGC_TARGET_REG_LIMIT: how long a target waits to be registered again."""
FIRST_LIMIT_NS = 60 * NS_PER_S
"""MGC_TARGET_REG_LIMIT_MAX (RECONNECT_DELAY_MAX): the same for one that has no copy yet."""


class Mgc(ImportShown, tree="mgc.{name}"):
    """A node's way to its MGS; `name` is MGCnid."""

    def __init__(self, node: Any, nid: str, requeue_min_s: int = 5) -> None:
        self.host: Host = node.host
        self.env = node.host.env
        self.rpc = node.rpc
        self.name = f"MGC{nid}"
        self.uuid = uuid_text(node.host.rng.getrandbits(128))
        self.requeue_min_s = requeue_min_s
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
        self.imp.on_active += (self._came_up,)
        self.followed: list[Followed] = []
        self.reader = LogReader(self.imp)
        self._lost: dict[Followed, None] = {}
        """Logs whose locks were taken back: to be read again."""
        self._requeueing = False
        self._waiting: list[Any] = []
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

    def start(self) -> None:
        """Begin to connect; who needs the MGS waits for it as long as is right for it."""
        self.env.process(self._connect())

    def _connect(self) -> Steps[None]:
        try:
            yield from self.imp.connect()
        except LustreError as error:
            self.host.trace.emit("mgc.refused", self.name, error.errno)

    def _came_up(self) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            if not event.triggered:
                event.succeed()

    def _reach(self, limit_ns: int | None = None) -> Steps[None]:
        """Wait until the MGS is connected; ETIMEDOUT where that takes too long."""
        limit = [] if limit_ns is None else [self.env.timeout(limit_ns)]
        while self.imp.state is not State.FULL:
            event = self.env.event()
            self._waiting.append(event)
            yield self.env.any_of([event, *limit])
            late = self._stopping or any(one.processed for one in limit)
            if late and self.imp.state is not State.FULL:
                raise LustreError(errno.ETIMEDOUT, f"{self.name} is {self.imp.state.name}")

    def stop(self) -> Steps[None]:
        """Take leave of the MGS."""
        self._stopping = True
        self._came_up()
        yield from self.imp.disconnect()
        self.ldlm.close()
        self.host.params.unmount(self)

    # ---- servers

    def register(self, fsname: str, info: TargetInfo, copies: ConfigCopies) -> Steps[None]:
        """A target is about to start: the MGS makes sure that others can find it.

        Raises what the MGS refuses it with. One that has a copy of its log starts without an MGS.
        """
        known = (yield from copies.read(info.name)) is not None
        try:
            yield from self._reach(REG_LIMIT_NS if known else FIRST_LIMIT_NS)
            yield from self._target_reg(fsname, info, LDD_F_OPC_REG)
        except LustreError as error:
            if not known or error.reply is not None:
                raise
            self.host.trace.emit("mgc.unregistered", info.name, error.errno)

    def ready(self, fsname: str, info: TargetInfo, instance: int) -> Steps[bool]:
        """The target is up, for the `instance`th time; whether clients are told of it.

        The answer is yes where the MGS knows all clients, and all of them take the news.
        """
        try:
            yield from self._reach(REG_LIMIT_NS)
            told = yield from self._target_reg(fsname, info, LDD_F_OPC_READY, instance)
        except LustreError as error:
            self.host.trace.emit("mgc.not_notified", info.name, error.errno)
            return False
        return bool(told.flags & LDD_F_IR_CAPABLE)

    def _target_reg(
        self, fsname: str, info: TargetInfo, opc: int, instance: int = 0
    ) -> Steps[MgsTargetInfo]:
        kind = LDD_F_SV_TYPE_MDT if info.kind == "mdt" else LDD_F_SV_TYPE_OST
        nids = (self.host.lnet.nid,)
        if info.service:
            kind |= LDD_F_NO_PRIMNODE
            if str(Nid(nids[0])) not in info.failover:
                raise LustreError(errno.EINVAL, f"this is no service node of {info.name}")
        told = MgsTargetInfo(
            lustre_ver=self.host.kit.traits.ocd_version, stripe_index=info.index,
            flags=opc | kind, nid_count=len(nids), instance=instance,
            fsname=fsname, svname=info.name, uuid=info.uuid,
            nids=nids + (0,) * (MTI_NIDS_MAX - len(nids)),
            params=" ".join(f"failover.node={nid}" for nid in info.failover),
        )  # fmt: skip
        request = Request(MGS_TARGET_REG, mgs_target_info=told, no_resend=True, no_delay=True)
        reply = yield from self.imp.call(request)
        answer: MgsTargetInfo = reply["mgs_target_info"]
        return answer

    # ---- following logs

    def follow(
        self, name: str, apply: Callable[[Command], None], copies: ConfigCopies | None = None
    ) -> Steps[Followed]:
        """Read a log to its end, `apply` each command, and go on doing so when it changes.

        With `copies` the log is copied there, and its copy serves while the MGS is away.
        ENOENT where the MGS has no such log (the one of parameters may come later), EIO where a
        client finds no MGS.
        """
        kind = CONFIG_T_PARAMS if name == PARAMS else 0
        log = Followed(name, config_resource(name.partition("-")[0], kind), apply, copies)
        yield from self._first(log)
        return log

    def follow_recover(self, fsname: str, of: str, moved: Moved) -> Steps[Followed]:
        """Keep the recover table of a file system for `of`, a client's log or an MDT.

        `moved` is called for each target that comes up.
        """
        label = "cliir" if of.endswith("-client") else "mdtir"
        resource = config_resource(fsname, CONFIG_T_RECOVER)
        log = Recover(f"{fsname}-{label}", resource, of, moved)
        yield from self._first(log)
        return log

    def leave(self, log: Followed) -> None:
        """Follow a log no more (lustre_end_log)."""
        self.followed.remove(log)
        self._lost.pop(log, None)
        for lock in self.ldlm.of(log.resource):
            if lock.data is log:
                self.ldlm.call_back(lock)

    def _first(self, log: Followed) -> Steps[None]:
        """The first time; without an MGS a table can wait, and a copy may be there."""
        self.followed.append(log)
        limit_ns = SERVER_LIMIT_NS if log.copies is not None else self._client_limit_ns()
        for retry_ns in (self.rpc.timeout_ns, None):
            try:
                yield from self._reach(limit_ns)
                yield from self._update(log)
                return
            except LustreError as error:
                if error.reply is None and (yield from self._without(log)):
                    self._lose(log)
                    return
                if error.reply is None and retry_ns is not None and self.imp.conn_cnt > 1:
                    limit_ns = retry_ns
                    continue
                self.followed.remove(log)
                if error.reply is None:
                    raise LustreError(errno.EIO, f"{self.name}: is the MGS running?") from error
                raise

    def _client_limit_ns(self) -> int:
        """MGC_ENQUEUE_LIMIT: a connect, and a ping interval for another try."""
        return self.rpc.connect_timeout_ns + self.rpc.ping_interval_ns

    def _without(self, log: Followed) -> Steps[bool]:
        """Do without the MGS, by a copy; False where that cannot be."""
        able: bool = yield from self.reader.read_copy(log)
        if able and log.index:
            self.host.trace.emit("mgc.local_copy", log.name, log.index)
        return able

    def _update(self, log: Followed) -> Steps[None]:
        """Take the lock again, then read what is new (mgc_process_log)."""
        yield from self.host.faults.visit(MGC_PAUSE_PROCESS_LOG)
        lock, _ = yield from self.ldlm.enqueue(
            log.resource, LCK_CR, blocking=self._called_back, data=log, no_resend=True,
            no_delay=True,
        )  # fmt: skip
        assert lock is not None
        try:
            yield from self.reader.read(log)
        finally:
            self.ldlm.put(lock)

    # ---- coming again

    def _called_back(self, lock: Any) -> None:
        """The log has changed, or the lock is lost: come again."""
        self._lose(lock.data)

    def _lose(self, log: Followed) -> None:
        if self._stopping or log not in self.followed:
            return
        self._lost[log] = None
        if not self._requeueing:
            self._requeueing = True
            self.env.process(self._requeue())

    def _requeue(self) -> Steps[None]:
        """Read again what was lost, not at once and not all nodes together (mgc_requeue_thread)."""
        while self._lost and not self._stopping:
            yield self.env.timeout(self._requeue_ns())
            lost, self._lost = list(self._lost), {}
            for log in lost:
                yield from self._again(log)
            if self._lost and self.imp.state is not State.FULL and not self._stopping:
                event = self.env.event()
                self._waiting.append(event)
                yield event
        self._requeueing = False

    def _requeue_ns(self) -> int:
        most_cs = 100 * max(self.requeue_min_s, 1)
        return self.requeue_min_s * NS_PER_S + self.host.rng.randrange(most_cs) * 10 * NS_PER_MS

    def _again(self, log: Followed) -> Steps[None]:
        if log not in self.followed or self._stopping:
            return
        try:
            yield from self._update(log)
        except (LustreError, ProtocolError) as error:
            self.host.trace.emit("mgc.retry", log.name, str(error))
            self._lost[log] = None

    # ---- parameters

    @Param.computed(help="whether servers that come back make themselves known, and what is known")
    def ir_state(self) -> str:
        """The file's text (lprocfs_mgc_rd_ir_state)."""
        on = "ENABLED" if self.imp.granted(OBD_CONNECT_IMP_RECOV) else "DISABLED"
        rows = [
            f"    - {{ client: {log.of}, nidtbl_version: {log.index} }}\n"
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

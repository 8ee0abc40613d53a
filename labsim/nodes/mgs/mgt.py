"""The management target: registers other targets, and serves configuration logs.

Does not know what the logs say. Stands for mgs_handler.c, and for the llog service on it
(llog_server.c). Whoever follows a log has a CR lock; a change takes it away from everybody for a
moment, so that they come and read on.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from functools import partial
from inspect import isgenerator
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.units import NS_PER_S
from labsim.ldlm.handlers import LdlmHandlers
from labsim.ldlm.resource import ResName, config_resource
from labsim.ldlm.server import ServerNamespace
from labsim.net.ptlrpc import ServerRequest, handles
from labsim.nodes.config import TargetInfo
from labsim.nodes.mgs import fsdb, points
from labsim.nodes.mgs.configs import DIRECTORY, Configs
from labsim.nodes.mgs.fsdb import PARAMS
from labsim.nodes.mgs.imperative import DISABLED, FULL, Imperative, MgsFiles, live_file
from labsim.nodes.mgs.nidtbl import NidTable
from labsim.nodes.node import Node
from labsim.nodes.target import Target
from labsim.runtime.ports import Steps
from labsim.storage.llog import CHUNK
from labsim.wire.connect import MGS_CONNECT_SUPPORTED
from labsim.wire.constants import LCK_EX, OBD_CONNECT_IMP_RECOV
from labsim.wire.fid_seq import FID_SEQ_LLOG_NAME
from labsim.wire.llog import LlogdBody, LlogLogid
from labsim.wire.llog_flags import (
    CONFIG_T_PARAMS,
    CONFIG_T_RECOVER,
    LDD_F_IR_CAPABLE,
    LDD_F_OPC_READY,
)
from labsim.wire.message import Message
from labsim.wire.mgs import MgsConfigBody, MgsConfigRes, MgsTargetInfo
from labsim.wire.opcodes import (
    LLOG_ORIGIN_HANDLE_CREATE,
    LLOG_ORIGIN_HANDLE_NEXT_BLOCK,
    LLOG_ORIGIN_HANDLE_PREV_BLOCK,
    LLOG_ORIGIN_HANDLE_READ_HEADER,
    MGS_CONFIG_READ,
    MGS_CONNECT,
    MGS_DISCONNECT,
    MGS_SET_INFO,
    MGS_TARGET_REG,
)
from labsim.wire.schema import OstId

_VERSION = struct.Struct("<Q")
MAX_READ = 1 << 20
"""The most that one MGS_CONFIG_READ brings."""


def resource_of(log: str) -> ResName:
    """The resource of the lock under which a log is followed (mgc_logname2resid)."""
    if log == PARAMS:
        return config_resource(PARAMS, CONFIG_T_PARAMS)
    return config_resource(log.partition("-")[0])


class MgsTarget(LdlmHandlers, Target):
    """The MGT of a management server."""

    supported = MGS_CONNECT_SUPPORTED
    replayable = False

    def __init__(self, node: Node, info: TargetInfo) -> None:
        super().__init__(node, info)
        self.ldlm = node.make(ServerNamespace, self)
        version = self.host.kit.traits.ocd_version
        self.configs = Configs(self.host.env, self.osd, self.host.clock, version)
        self.systems: dict[str, Imperative] = {}
        """By file system: where its targets are, and whether clients are told of changes."""
        self.files = MgsFiles(self.rpc.timeouts.timeout)
        self.host.params.mount(self.files)
        self._started_ns = 0
        self._revoking: dict[ResName, None] = {}

    def start(self) -> Steps[None]:
        """Read the logs, then take requests."""
        self._started_ns = self.host.env.now
        yield from self.configs.open()
        for log in self.configs.logs:
            fsname, dash, label = log.partition("-")
            if dash and label == "client":
                self._system(fsname)
        yield from super().start()

    @property
    def young(self) -> bool:
        """Not all clients need have come back yet."""
        age_ns = self.host.env.now - self._started_ns
        return age_ns < self.files.ir_timeout * NS_PER_S

    def handler(self, opcode: int) -> Callable[[Any], Any] | None:
        """Requests and replies may be lost on the way."""
        method = super().handler(opcode)
        if method is None:
            return None
        return partial(self._visited, method)

    def _visited(self, method: Callable[[Any], Any], req: ServerRequest) -> Steps[Message]:
        yield from self.at(points.MGS_ALL_REQUEST_NET)
        point = points.BY_OPCODE.get(req.opcode)
        if point is not None:
            yield from self.at(point)
        done = method(req)
        reply: Message = (yield from done) if isgenerator(done) else done
        yield from self.at(points.MGS_ALL_REPLY_NET)
        return reply

    # ---- clients

    @handles(MGS_CONNECT)
    def connect_mgc(self, req: ServerRequest) -> Steps[Message]:
        """A node comes, or comes back."""
        return (yield from self.connect(req))

    @handles(MGS_DISCONNECT)
    def disconnect_mgc(self, req: ServerRequest) -> Message:
        """A node leaves."""
        return self.disconnect(req)

    # ---- targets

    @handles(MGS_TARGET_REG)
    def target_reg(self, req: ServerRequest) -> Steps[Message]:
        """A target starts (LDD_F_OPC_REG), or is up (LDD_F_OPC_READY)."""
        info: MgsTargetInfo = req["mgs_target_info"]
        if info.flags & LDD_F_OPC_READY:
            fsdb.check(info)
            return req.reply(mgs_target_info=(yield from self._up(info)))
        yield from self.at(points.MGS_PAUSE_TARGET_REG)
        changed = yield from self.configs.register(info)
        self.revoke(*(resource_of(log) for log in changed))
        return req.reply(mgs_target_info=info)

    def _up(self, info: MgsTargetInfo) -> Steps[MgsTargetInfo]:
        """Note where a target is, and have clients told; the answer says whether all hear of it.

        EINVAL for one that does not say the how manieth time it is up (mgs_ir_update).
        """
        if not info.instance:
            raise LustreError(errno.EINVAL, f"{info.svname} has no instance")
        system = self._system(info.fsname)
        system.table.update(info)
        tx = self.osd.transaction()
        key, version = _table_key(info.fsname), _VERSION.pack(system.table.version)
        tx.insert(DIRECTORY, key, version, replace=True)
        yield from tx.stop(sync=True)
        system.graduate(self.young)
        if system.state != DISABLED:
            self.revoke(config_resource(info.fsname, CONFIG_T_RECOVER), told=system)
        capable = LDD_F_IR_CAPABLE if system.state == FULL else 0
        return info.replace(flags=info.flags & ~LDD_F_IR_CAPABLE | capable)

    def _system(self, fsname: str) -> Imperative:
        """A file system; its table goes on counting where it was in the last life."""
        system = self.systems.get(fsname)
        if system is None:
            kept = self.osd.lookup(DIRECTORY, _table_key(fsname))
            table = NidTable(_VERSION.unpack(kept)[0]) if kept else NidTable()
            system = self.systems[fsname] = Imperative(table, self.young)
            live = live_file(fsname)
            self.host.params.mount(live(partial(self._head, fsname), partial(self._now, fsname)))
        return system

    def _head(self, fsname: str) -> str:
        """How the file of a file system begins."""
        names = "".join(f"{name}\n" for name in self.configs.targets(fsname))
        return (
            f"fsname: {fsname}\nflags: 0x20     gen: {self.configs.step}\n{names}\n"
            "Secure RPC Config Rules:\n"
        )

    def _now(self, fsname: str) -> Imperative:
        """A file system as it is now."""
        system = self.systems[fsname]
        system.graduate(self.young)
        return system

    @handles(MGS_CONFIG_READ)
    def config_read(self, req: ServerRequest) -> Steps[Message]:
        """The part of the recover table behind a version (mgs_get_ir_logs)."""
        body: MgsConfigBody = req["mgs_config_body"]
        if body.type != CONFIG_T_RECOVER:
            raise LustreError(errno.EINVAL, f"configuration of type {body.type}")
        fsname = body.name.partition("-")[0]
        if fsname not in self.systems:
            raise LustreError(errno.ENOENT, fsname)
        table = self.systems[fsname].table
        room = min(body.units << body.bits, MAX_READ)
        data, last = table.read(body.offset, room)
        if data:
            yield from req.push(data)
        return req.reply(mgs_config_res=MgsConfigRes(offset=last, size=table.version))

    # ---- parameters

    @handles(MGS_SET_INFO)
    def set_info(self, req: ServerRequest) -> Steps[Message]:
        """A node sets a parameter for everybody."""
        param = req["mgs_send_param"]
        name, equals, value = param.param.partition("=")
        if not equals or not name:
            raise LustreError(errno.EINVAL, param.param)
        yield from self.set_param(name, value)
        return req.reply(mgs_send_param=param)

    def set_param(self, name: str, value: str) -> Steps[None]:
        """A parameter for every node and for good."""
        changed = yield from self.configs.set_param(name, value)
        self.revoke(*map(resource_of, changed))

    def conf_param(self, where: str, name: str, value: str) -> Steps[None]:
        """The same for one target or file system."""
        changed = yield from self.configs.conf_param(where, name, value)
        self.revoke(*map(resource_of, changed))

    # ---- telling who follows

    def revoke(self, *resources: ResName, told: Imperative | None = None) -> None:
        """Call back the locks on these, so that their holders read on (mgs_revoke_lock)."""
        for resource in dict.fromkeys(resources):
            if resource not in self._revoking:
                self._revoking[resource] = None
                self.host.env.process(self._revoke(resource, told))

    def _revoke(self, resource: ResName, told: Imperative | None) -> Steps[None]:
        begun_ns = self.host.env.now
        try:
            lock = yield from self.ldlm.acquire(resource, LCK_EX)
            self.ldlm.release(lock)
        finally:
            del self._revoking[resource]
        if told is not None:
            told.told(self.host.env.now - begun_ns)

    # ---- logs

    @handles(LLOG_ORIGIN_HANDLE_CREATE)
    def open_log(self, req: ServerRequest) -> Message:
        """Open a log by its name; ENOENT."""
        self._attach(req)
        log = self.configs.logs.get(req.get("name", ""))
        if log is None:
            raise LustreError(errno.ENOENT, req.get("name", ""))
        body: LlogdBody = req["llogd_body"]
        logid = LlogLogid(oi=OstId.of_fid(log.fid))
        return req.reply(llogd_body=body.replace(logid=logid))

    def _attach(self, req: ServerRequest) -> None:
        """Who opens a log uses its file system; can it be told of targets that come up?"""
        system = self.systems.get(req.get("name", "").rpartition("-")[0])
        export = req.export
        if system is None or export.granted(OBD_CONNECT_IMP_RECOV) or export.cookie in system.deaf:
            return
        system.attach(export.cookie)
        export.on_close += (lambda gone: system.detach(gone.cookie),)

    @handles(LLOG_ORIGIN_HANDLE_READ_HEADER)
    def read_header(self, req: ServerRequest) -> Message:
        """The header: which records are live."""
        return req.reply(llog_log_hdr=self._log(req).header())

    @handles(LLOG_ORIGIN_HANDLE_NEXT_BLOCK)
    def next_block(self, req: ServerRequest) -> Steps[Message]:
        """Records from one on; EIO, with the buffers, where there is none."""
        body: LlogdBody = req["llogd_body"]
        log = self._log(req)
        try:
            data, last, offset = yield from log.next_block(body.index, body.cur_offset)
        except LustreError as error:
            if error.errno != errno.EIO:
                raise
            return req.fail_reply(errno.EIO, llogd_body=body, eadata=bytes(body.len))
        told = body.replace(saved_index=last, cur_offset=offset)
        return req.reply(llogd_body=told, eadata=data.ljust(body.len, b"\0"))

    @handles(LLOG_ORIGIN_HANDLE_PREV_BLOCK)
    def prev_block(self, req: ServerRequest) -> Steps[Message]:
        """The chunk that holds a record."""
        body: LlogdBody = req["llogd_body"]
        data, last, offset = yield from self._log(req).prev_block(body.index)
        told = body.replace(saved_index=last, cur_offset=offset)
        return req.reply(llogd_body=told, eadata=data.ljust(body.len, b"\0"))

    def _log(self, req: ServerRequest) -> Any:
        """The log that a request names; EINVAL for a block that is none."""
        body: LlogdBody = req["llogd_body"]
        fid = body.logid.oi.fid
        if fid.seq != FID_SEQ_LLOG_NAME or body.len not in (0, CHUNK):
            raise LustreError(errno.EINVAL, f"{body.len} bytes of llog {fid}")
        return self.configs.of_fid(fid)

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the invariants."""
        return super().snapshot() | {
            "logs": {name: log.count - 1 for name, log in self.configs.logs.items()},
            "nidtbl": {fsname: one.table.version for fsname, one in self.systems.items()},
            "locks": self.ldlm.snapshot(),
        }


def _table_key(fsname: str) -> bytes:
    return f"nidtbl.{fsname}".encode()

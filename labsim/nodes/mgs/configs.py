"""The logs of an MGS by name, and how they are written: whole sections, durable, in one piece.

Does not know requests or locks, nor what the commands do. Stands for mgs_llog.c and the CONFIGS
directory of an MGT.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labsim.base.errors import LustreError
from labsim.base.ids import Fid
from labsim.nodes.mgs import config_text, fsdb
from labsim.nodes.mgs.fsdb import PARAMS, Section
from labsim.runtime.ports import Clock, Steps
from labsim.runtime.sync import Mutex
from labsim.storage.llog import Llog, Record
from labsim.storage.osd import Attrs, Osd, Tx
from labsim.wire import config_log
from labsim.wire.config_log import Command
from labsim.wire.fid_seq import FID_SEQ_LLOG_NAME, FID_SEQ_LOCAL_FILE
from labsim.wire.llog_flags import (
    CM_END,
    CM_SKIP,
    CM_START,
    LCFG_ADD_MDC,
    LCFG_LOV_ADD_OBD,
    LCFG_MARKER,
    OBD_CFG_REC,
)
from labsim.wire.mgs import MgsTargetInfo

DIRECTORY = Fid(FID_SEQ_LOCAL_FILE, 4119)
"""MGS_CONFIGS_OID: the names of the logs."""
_OID = struct.Struct("<I")


class Configs:
    """All logs of one MGS."""

    def __init__(self, env: Any, osd: Osd, clock: Clock, version: int) -> None:
        self.osd = osd
        self.clock = clock
        self.version = version
        self.logs: dict[str, Llog] = {}
        self.step = 0
        """Of the last marker written (fsdb_gen)."""
        self._mutex = Mutex(env)

    # ---- storage

    def open(self) -> Steps[None]:
        """Read what is there, or make the directory."""
        if not self.osd.exists(DIRECTORY):
            tx = self.osd.transaction()
            tx.create(DIRECTORY, Attrs(mode=0o040755))
            yield from tx.stop()
        yield from self._read()

    def _read(self) -> Steps[None]:
        self.logs.clear()
        for key, value in list(self.osd.iterate(DIRECTORY)):
            if len(value) != _OID.size:
                continue
            log = Llog(self.osd, Fid(FID_SEQ_LLOG_NAME, _OID.unpack(value)[0]))
            if (yield from log.open()):
                self.logs[key.decode()] = log
        for name in self.logs:
            for command in (yield from self.commands(name)):
                if command.command == LCFG_MARKER:
                    self.step = max(self.step, command.marker.step)

    def of_fid(self, fid: Fid) -> Llog:
        """The log that a llog_logid names; ENOENT."""
        for log in self.logs.values():
            if log.fid == fid:
                return log
        raise LustreError(errno.ENOENT, f"llog {fid}")

    def commands(self, name: str) -> Steps[list[Command]]:
        """The live commands of a log, markers included; nothing where there is no such log."""
        log = self.logs.get(name)
        records = (yield from log.records()) if log is not None else []
        return [config_log.unpack(record.body) for record in records]

    def _open_for(self, tx: Tx, name: str) -> Llog:
        """The log of that name; made within `tx` where there is none."""
        log = self.logs.get(name)
        if log is None:
            oid = len(self.logs) + 1
            log = self.logs[name] = Llog(self.osd, Fid(FID_SEQ_LLOG_NAME, oid))
            log.create(tx, self.clock.seconds(), "config_uuid")
            tx.insert(DIRECTORY, name.encode(), _OID.pack(oid))
        return log

    def _write(self, wanted: Mapping[str, Sequence[Section]], tx: Tx | None = None) -> Steps[None]:
        """Append sections to logs, all or nothing, on disk when this returns."""
        tx = tx or self.osd.transaction()
        try:
            for name, sections in wanted.items():
                commands = [one for section in sections for one in self._bracketed(section)]
                packed = [(OBD_CFG_REC, command.pack()) for command in commands]
                self._open_for(tx, name).append(tx, packed)
            yield from tx.stop(sync=True)
        except LustreError:
            yield from self._read()
            raise

    def _bracketed(self, section: Section) -> list[Command]:
        """A section's commands between its two markers."""
        self.step += 1
        start, end = (
            config_log.marker(
                self.step, flag, section.target, section.comment, self.version,
                self.clock.seconds(),
            )
            for flag in (CM_START, CM_END)
        )  # fmt: skip
        return [start, *section.commands, end]

    # ---- targets

    def mdts(self, fsname: str) -> list[str]:
        """The MDTs of a file system that have registered."""
        return sorted(name for name in self.logs if name.startswith(f"{fsname}-MDT"))

    def targets(self, fsname: str) -> list[str]:
        """All of its targets."""
        osts = sorted(name for name in self.logs if name.startswith(f"{fsname}-OST"))
        return [*self.mdts(fsname), *osts]

    def register(self, info: MgsTargetInfo) -> Steps[list[str]]:
        """A target starts; the names of the logs that have changed, none where it is known.

        EINVAL for what is no target, EADDRNOTAVAIL where it comes from a failover node first.
        """
        fsdb.check(info)
        yield from self._mutex.take()
        try:
            if info.svname in self.logs:
                return []
            fsdb.check_primary(info)
            mdt = fsdb.is_mdt(info)
            wanted = (yield from self._new_mdt(info)) if mdt else self._new_ost(info)
            yield from self._write(wanted)
            return list(wanted)
        finally:
            self._mutex.give()

    def _client(self, fsname: str) -> list[Section]:
        """What has to stand in the clients' log before anything else."""
        known = fsdb.client_log(fsname) in self.logs
        return [] if known else fsdb.new_client_log(fsname)

    def _new_ost(self, info: MgsTargetInfo) -> dict[str, list[Section]]:
        """Its own log; and every client and MDT is to know it."""
        fsname, ost = info.fsname, fsdb.known_of(info)
        wanted = {
            info.svname: [fsdb.add_ost(info)],
            fsdb.client_log(fsname): [*self._client(fsname), fsdb.client_osc(fsname, ost)],
        }
        for mdt in self.mdts(fsname):
            wanted[mdt] = [fsdb.mdt_osc(mdt, ost)]
        return wanted

    def _new_mdt(self, info: MgsTargetInfo) -> Steps[dict[str, list[Section]]]:
        """Its own log, with what clients know already; and clients are to know it.

        All MDTs are made known to one another (mgs_write_log_osp_to_mdt).
        """
        clients = fsdb.client_log(info.fsname)
        commands = yield from self.commands(clients)
        osts = fsdb.known_in(commands, LCFG_LOV_ADD_OBD)
        others = [mdt for mdt in fsdb.known_in(commands, LCFG_ADD_MDC) if mdt.name != info.svname]
        told = [*self._client(info.fsname), fsdb.add_mdc(info)]
        if info.stripe_index == 0:
            told.append(fsdb.mount_options(info.fsname))
        own = fsdb.add_mdt(info)
        own += [fsdb.mdt_osp(info.svname, other) for other in others]
        own += [fsdb.mdt_osc(info.svname, ost) for ost in osts]
        wanted = {info.svname: own, clients: told}
        for other in others:
            wanted[other.name] = [fsdb.mdt_osp(other.name, fsdb.known_of(info))]
        return wanted

    # ---- parameters

    def set_param(self, name: str, value: str) -> Steps[list[str]]:
        """`lctl set_param -P NAME=VALUE`: what was said before of NAME counts no more.

        An empty value only takes that back (-d); ENOENT where nothing was said.
        """
        setting = config_log.set_param(f"{name}={value}")
        return (yield from self._say({PARAMS: Section("general", name, (setting,))}, value))

    def conf_param(self, where: str, name: str, value: str) -> Steps[list[str]]:
        """`lctl conf_param WHERE.NAME=VALUE`, WHERE a target or a file system; EINVAL.

        An empty value only takes back what was said before (-d); ENOENT where nothing was.
        """
        fsname, _, label = where.partition("-")
        clients = fsdb.client_log(fsname)
        if clients not in self.logs or (label and where not in self.logs):
            raise LustreError(errno.EINVAL, f"no target {where}")
        kind = name.partition(".")[0]
        if name == fsdb.FAILOVER_NODE:
            kind = "osc" if label.startswith("OST") else "mdc"
            logs = fsdb.places(where, kind, self.mdts(fsname), self.targets(fsname))
            more = {log: fsdb.add_failnid(where, device, value) for log, device in logs.items()}
            return (yield from self._say(more, value, additive=True))
        logs = fsdb.places(where, kind, self.mdts(fsname), self.targets(fsname))
        said = {
            log: Section(where, name, (config_log.param(device, f"{name}={value}"),))
            for log, device in logs.items()
        }
        return (yield from self._say(said, value))

    def _say(
        self, said: Mapping[str, Section], value: str, additive: bool = False
    ) -> Steps[list[str]]:
        """Write sections, and unless they are `additive` skip the earlier ones of the same name."""
        yield from self._mutex.take()
        try:
            tx = self.osd.transaction()
            unsaid = 0
            for name, section in said.items():
                if not (additive and value):
                    unsaid += yield from self._unsay(tx, name, section)
            if not value and not unsaid:
                raise LustreError(errno.ENOENT, "it was never set")
            added = {name: [section] for name, section in said.items()} if value else {}
            yield from self._write(added, tx)
            return list(said)
        finally:
            self._mutex.give()

    def _unsay(self, tx: Tx, name: str, new: Section) -> Steps[int]:
        """Have readers skip an earlier section of the same name; how many markers (mgs_modify)."""
        log = self.logs.get(name)
        found = 0
        for record in (yield from log.records()) if log is not None else []:
            command = config_log.unpack(record.body)
            if log is not None and command.command == LCFG_MARKER:
                found += self._skip(tx, log, record, command, new)
        return found

    def _skip(self, tx: Tx, log: Llog, record: Record, command: Command, new: Section) -> bool:
        marker = command.marker
        same = (marker.tgtname, marker.comment) == (new.target[:63], new.comment[:63])
        if not same or marker.flags & CM_SKIP:
            return False
        skipped = marker.replace(flags=marker.flags | CM_SKIP, canceltime=self.clock.seconds())
        log.replace(tx, record, command._replace(bufs=(b"", skipped.pack())).pack())
        return True

    def clear(self, name: str) -> Steps[None]:
        """`lctl clear_conf`: write the logs of a file system, or one log, without what is skipped.

        ENOENT where there is none.
        """
        logs = [log for log in self.logs if name in (log, log.rpartition("-")[0])]
        if not logs:
            raise LustreError(errno.ENOENT, name)
        yield from self._mutex.take()
        try:
            for log in logs:
                yield from self._clear(log)
        finally:
            self._mutex.give()

    def _clear(self, name: str) -> Steps[None]:
        """One log, made anew: its records get new indices."""
        old = self.logs[name]
        kept = sections_that_count((yield from self.commands(name)))
        tx = self.osd.transaction()
        tx.destroy(old.fid)
        new = Llog(self.osd, old.fid)
        new.create(tx, self.clock.seconds(), "config_uuid")
        new.append(tx, [(OBD_CFG_REC, command.pack()) for command in kept])
        self.logs[name] = new
        yield from tx.stop(sync=True)

    def printed(self, name: str) -> Steps[str]:
        """`lctl llog_print`: the commands that count, one in a line; ENOENT."""
        log = self.logs.get(name)
        if log is None:
            raise LustreError(errno.ENOENT, name)
        records = [(one.idx, config_log.unpack(one.body)) for one in (yield from log.records())]
        return "".join(config_text.line(index, command) for index, command in records)

    def settings(self, name: str) -> Steps[list[tuple[str, str]]]:
        """The (name, value) pairs of a log of parameters that count."""
        found = []
        for command in counting((yield from self.commands(name))):
            key, equals, value = command.text(1).partition("=")
            if equals:
                found.append((key, value))
        return found


def sections_that_count(commands: Iterable[Command]) -> list[Command]:
    """The commands with their markers, without the sections that are to be skipped."""
    found: list[Command] = []
    skipping = False
    for command in commands:
        marker = command.command == LCFG_MARKER
        if marker and command.marker.flags & CM_START:
            skipping = bool(command.marker.flags & CM_SKIP)
        if not skipping:
            found.append(command)
    return found


def counting(commands: Iterable[Command]) -> list[Command]:
    """The commands outside of sections that are to be skipped, without markers."""
    found: list[Command] = []
    skipping = False
    for command in commands:
        if command.command == LCFG_MARKER:
            flags = command.marker.flags
            skipping = bool(flags & CM_START and flags & CM_SKIP)
        elif not skipping:
            found.append(command)
    return found

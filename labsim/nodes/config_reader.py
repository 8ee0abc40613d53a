"""Logs as the MGS hands them out: opened by name, read block by block, carried out once.

Knows requests and records, not locks, nor when to read. Stands for the reading half of
mgc_request.c (mgc_process_cfg_log, mgc_process_recover_nodemap_log) and for
class_config_parse_llog.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.payload import tobytes
from labsim.ldlm.resource import ResName
from labsim.net.ptlrpc import Import, Request
from labsim.nodes.config_copy import ConfigCopies
from labsim.runtime.ports import Steps
from labsim.storage.llog import CHUNK, Record, records_of
from labsim.wire import config_log
from labsim.wire.config_log import Command
from labsim.wire.llog import LlogdBody, LlogLogHdr, LlogLogid
from labsim.wire.llog_flags import (
    CM_SKIP,
    CM_START,
    CONFIG_T_RECOVER,
    LCFG_MARKER,
    LDD_F_SV_TYPE_MDT,
)
from labsim.wire.mgs import MgsConfigBody, MgsNidtblEntry
from labsim.wire.opcodes import (
    LLOG_ORIGIN_HANDLE_CREATE,
    LLOG_ORIGIN_HANDLE_NEXT_BLOCK,
    LLOG_ORIGIN_HANDLE_READ_HEADER,
    MGS_CONFIG_READ,
)

PARAMS = "params"
"""The log of `lctl set_param -P`, which every node follows."""
READ_BITS, READ_UNITS = 12, 4
"""The buffer of one MGS_CONFIG_READ: pages of 4 KiB (CONFIG_READ_NRPAGES)."""

Moved = Callable[[str, int, tuple[int, ...], int], None]
"""moved(kind, index, nids, instance): a target is up, for the `instance`th time."""


class Followed:
    """A log that the node follows, and how far it has come (struct config_llog_data)."""

    __slots__ = ("apply", "copies", "index", "name", "offset", "resource", "skipping")

    def __init__(
        self,
        name: str,
        resource: ResName,
        apply: Callable[[Command], None],
        copies: ConfigCopies | None = None,
    ) -> None:
        self.name = name
        self.resource = resource
        self.apply = apply
        self.copies = copies
        self.index = 0
        self.offset = CHUNK
        self.skipping = False


class Recover(Followed):
    """The recover table of a mount or an MDT: `index` is the version that was seen last."""

    __slots__ = ("moved", "of")

    def __init__(self, name: str, resource: ResName, of: str, moved: Moved) -> None:
        super().__init__(name, resource, _no_command)
        self.of = of
        self.moved = moved


class LogReader:
    """Reads over one import. A request that gets no answer fails: who reads decides what then."""

    def __init__(self, imp: Import) -> None:
        self.imp = imp
        self.versions: dict[str, int] = {}
        """By target: at which version of the recover table it was seen."""

    def read(self, log: Followed) -> Steps[None]:
        """Read what is new, and carry it out."""
        if isinstance(log, Recover):
            yield from self._read_table(log)
        else:
            yield from self._read_log(log)

    def read_copy(self, log: Followed) -> Steps[bool]:
        """Do without the MGS; False where that cannot be."""
        if isinstance(log, Recover):
            return True
        records = (yield from log.copies.read(log.name)) if log.copies is not None else None
        for record in records or []:
            self._execute(log, record)
        return records is not None or (log.copies is not None and log.name == PARAMS)

    # ---- logs

    def _call(self, opcode: int, **fields: Any) -> Steps[Any]:
        request = Request(opcode, no_resend=True, no_delay=True, **fields)
        return (yield from self.imp.call(request))

    def _read_log(self, log: Followed) -> Steps[None]:
        """Open by name, read the header, then blocks until the last index.

        Who keeps a copy reads from the start, and goes by the copy; else only what is new.
        """
        body = LlogdBody(len=CHUNK)
        try:
            reply = yield from self._call(LLOG_ORIGIN_HANDLE_CREATE, llogd_body=body, name=log.name)
        except LustreError as error:
            if error.errno == errno.ENOENT and log.name == PARAMS:
                return
            raise
        logid: LlogLogid = reply["llogd_body"].logid
        body = body.replace(logid=logid)
        reply = yield from self._call(LLOG_ORIGIN_HANDLE_READ_HEADER, llogd_body=body)
        header: LlogLogHdr = reply["llog_log_hdr"]
        if log.copies is None:
            yield from self._read_on(log, header, body)
            return
        data = yield from self._read_whole(header, body)
        yield from log.copies.write(log.name, data)
        for record in (yield from log.copies.read(log.name)) or []:
            self._execute(log, record)

    def _read_on(self, log: Followed, header: LlogLogHdr, body: LlogdBody) -> Steps[None]:
        """Apply the live records behind the last one that was seen."""
        while log.index < header.tail.index:
            told, block = yield from self._block(body, log.index, log.offset)
            for record in records_of(block):
                if header.bitmap[record.idx >> 3] >> (record.idx & 7) & 1:
                    self._execute(log, record)
            log.index, log.offset = told.saved_index, told.cur_offset

    def _read_whole(self, header: LlogLogHdr, body: LlogdBody) -> Steps[bytes]:
        """All bytes of a log."""
        pieces, index, offset = [header.pack()], 0, CHUNK
        while index < header.tail.index:
            told, block = yield from self._block(body, index, offset)
            pieces.append(block[: told.cur_offset - offset])
            index, offset = told.saved_index, told.cur_offset
        return b"".join(pieces)

    def _block(self, body: LlogdBody, index: int, offset: int) -> Steps[tuple[LlogdBody, bytes]]:
        """The block behind a record, and what the MGS says of it."""
        wanted = body.replace(index=index + 1, saved_index=index, cur_offset=offset)
        reply = yield from self._call(LLOG_ORIGIN_HANDLE_NEXT_BLOCK, llogd_body=wanted)
        told: LlogdBody = reply["llogd_body"]
        if told.saved_index <= index or told.cur_offset <= offset:
            raise ProtocolError(f"llogd_body.lgd_saved_index: {told.saved_index}, no step forward")
        return told, tobytes(reply["eadata"])

    def _execute(self, log: Followed, record: Record) -> None:
        """One record that is new; what stands between markers that say so is passed over."""
        if record.idx <= log.index:
            return
        log.index = record.idx
        command = config_log.unpack(record.body)
        if command.command == LCFG_MARKER:
            flags = command.marker.flags
            log.skipping = bool(flags & CM_START and flags & CM_SKIP)
        elif not log.skipping:
            log.apply(command)

    # ---- the recover table

    def _read_table(self, log: Recover) -> Steps[None]:
        """Entries from the version after the last one on, until there are no more."""
        while True:
            body = MgsConfigBody(
                name=log.name, offset=log.index + 1, type=CONFIG_T_RECOVER, bits=READ_BITS,
                units=READ_UNITS,
            )  # fmt: skip
            request = Request(
                MGS_CONFIG_READ, mgs_config_body=body, bulk_in=READ_UNITS << READ_BITS,
                no_resend=True, no_delay=True,
            )  # fmt: skip
            reply = yield from self.imp.call(request)
            told = reply["mgs_config_res"]
            log.index = told.offset
            self._take_entries(log, tobytes(request.data))
            if told.offset >= told.size:
                return

    def _take_entries(self, log: Recover, data: bytes) -> None:
        at = 0
        while at + 24 <= len(data):
            entry = MgsNidtblEntry.unpack(data, at)
            if entry.length < 24 or at + entry.length > len(data):
                raise ProtocolError(f"mgs_nidtbl_entry.mne_length at {at}: {entry.length}")
            at += entry.length
            kind = "mdt" if entry.type & LDD_F_SV_TYPE_MDT else "ost"
            self.versions[f"{kind.upper()}{entry.index:04x}"] = entry.version
            log.moved(kind, entry.index, entry.nids, entry.instance)


def _no_command(command: Command) -> None:
    """The recover table has none."""

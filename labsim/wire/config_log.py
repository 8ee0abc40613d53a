"""The commands of configuration logs: lustre_cfg with its buffers, as bytes.

Does not know who executes them. Stands for lustre_cfg.h (lustre_cfg_init, lustre_cfg_string) and
the record_* helpers of mgs_llog.c, which say which buffer holds what.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from labsim.base.errors import ProtocolError
from labsim.wire.llog_flags import (
    LCFG_ADD_CONN,
    LCFG_ADD_MDC,
    LCFG_ADD_UUID,
    LCFG_ATTACH,
    LCFG_LOV_ADD_OBD,
    LCFG_MARKER,
    LCFG_MOUNTOPT,
    LCFG_PARAM,
    LCFG_SET_PARAM,
    LCFG_SETUP,
    LUSTRE_CFG_MAX_BUFCOUNT,
    LUSTRE_CFG_VERSION,
)
from labsim.wire.mgs import CfgMarker, LustreCfg


class Command(NamedTuple):
    """One lustre_cfg: what to do, and its buffers; an empty buffer has length 0."""

    command: int
    bufs: tuple[bytes, ...] = ()
    nid: int = 0
    num: int = 0
    flags: int = 0

    def text(self, number: int) -> str:
        """A buffer as a string, without its NUL; empty where there is none."""
        words = _words(self.bufs)
        return words[number] if number < len(words) else ""

    @property
    def marker(self) -> CfgMarker:
        """The cfg_marker in buffer 1."""
        return CfgMarker.unpack(self.bufs[1])

    def pack(self) -> bytes:
        """Header, lengths, then each buffer; everything padded to 8."""
        lengths = tuple(len(buf) for buf in self.bufs)
        head = LustreCfg(
            version=LUSTRE_CFG_VERSION, command=self.command, num=self.num, flags=self.flags,
            nid=self.nid, bufcount=len(lengths), buflens=lengths,
        ).pack()  # fmt: skip
        return b"".join(part + bytes(-len(part) % 8) for part in (head, *self.bufs))


@lru_cache(maxsize=4096)
def _words(bufs: tuple[bytes, ...]) -> tuple[str, ...]:
    """Buffers as strings; a thousand clients that read the same log share them."""
    return tuple(buf.split(b"\0", 1)[0].decode("utf-8", "surrogateescape") for buf in bufs)


@lru_cache(maxsize=4096)
def unpack(data: bytes) -> Command:
    """Read a lustre_cfg; ProtocolError where version, counts or lengths cannot be."""
    if len(data) < LustreCfg.size:
        raise ProtocolError(f"lustre_cfg: {len(data)} bytes")
    version, command, num, flags, nid, _, count = struct.unpack_from("<IIIIQII", data)
    if version != LUSTRE_CFG_VERSION:
        raise ProtocolError(f"lustre_cfg.lcfg_version at 0: {version:#x}")
    if count > LUSTRE_CFG_MAX_BUFCOUNT or len(data) < LustreCfg.size + 4 * count:
        raise ProtocolError(f"lustre_cfg.lcfg_bufcount at 28: {count}")
    lengths = struct.unpack_from(f"<{count}I", data, LustreCfg.size)
    at = LustreCfg.size + 4 * count
    bufs = []
    for length in lengths:
        at += -at % 8
        if at + length > len(data):
            raise ProtocolError(f"lustre_cfg.lcfg_buflens: {length} bytes at {at}")
        bufs.append(data[at : at + length])
        at += length
    return Command(command, tuple(bufs), nid, num, flags)


def _command(command: int, *texts: str, nid: int = 0) -> Command:
    """A command of strings; an empty one is no buffer's worth (length 0)."""
    bufs = tuple(text.encode("utf-8", "surrogateescape") + b"\0" if text else b"" for text in texts)
    return Command(command, bufs, nid)


def marker(step: int, flags: int, target: str, comment: str, vers: int, seconds: int) -> Command:
    """Brackets the commands that belong together (record_marker)."""
    found = CfgMarker(
        step=step, flags=flags, vers=vers, createtime=seconds, tgtname=target, comment=comment
    )
    return Command(LCFG_MARKER, (b"", found.pack()))


def attach(device: str, kind: str, uuid: str) -> Command:
    """Make a device of that kind."""
    return _command(LCFG_ATTACH, device, kind, uuid)


def setup(device: str, *words: str, desc: bytes = b"") -> Command:
    """Set a device up: the target's uuid and the uuid of its node, or a lov's or lmv's desc."""
    made = _command(LCFG_SETUP, device, *words)
    return made._replace(bufs=(*made.bufs, desc)) if desc else made


def add_uuid(node: str, nid: int) -> Command:
    """Say that a node can be reached at a NID."""
    return _command(LCFG_ADD_UUID, "", node, nid=nid)


def add_conn(device: str, node: str) -> Command:
    """One more node that a device's target may be on."""
    return _command(LCFG_ADD_CONN, device, node)


def lov_add(lov: str, target: str, index: int) -> Command:
    """An OST that a lov (or an MDT's lod) stripes over."""
    return _command(LCFG_LOV_ADD_OBD, lov, target, str(index), "1")


def mdc_add(lmv: str, target: str, index: int, device_uuid: str) -> Command:
    """An MDT that an lmv spreads over."""
    return _command(LCFG_ADD_MDC, lmv, target, str(index), "1", device_uuid)


def mount_option(profile: str, lov: str, lmv: str = "") -> Command:
    """Which lov and lmv a mount of this profile uses."""
    words = (profile, lov, lmv) if lmv else (profile, lov)
    return _command(LCFG_MOUNTOPT, "", *words)


def param(device: str, setting: str) -> Command:
    """A parameter of one device: "osc.max_dirty_mb=64"."""
    return _command(LCFG_PARAM, device, setting)


def set_param(setting: str) -> Command:
    """A parameter by its full name, for every node: "osc.*.max_dirty_mb=64"."""
    return _command(LCFG_SET_PARAM, "general", setting)

"""The files of a client device about its import: what shows it, and what makes it connect anew.

Does not know what the device is for. Stands for lprocfs_import_seq_show (lprocfs_status.c) and
ldebugfs_import_seq_write (lproc_ptlrpc.c), shared by mgc, mdc and osc.
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.component import Component
from labsim.base.errors import InputError, LustreError
from labsim.base.grammar import kstrto
from labsim.base.ids import Nid
from labsim.base.params import Param
from labsim.base.stats import Counter
from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc import HISTORY, Import, Request, State
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    OBD_CONNECT_BRW_SIZE,
    OBD_CONNECT_CKSUM,
    OBD_CONNECT_GRANT,
    OBD_CONNECT_GRANT_PARAM,
    OBD_CONNECT_IBITS,
    OBD_CONNECT_INDEX,
    OBD_CONNECT_MAX_EASIZE,
    OBD_CONNECT_MAXBYTES,
    OBD_CONNECT_MDS,
    OBD_CONNECT_MULTIMODRPCS,
    OBD_CONNECT_TRANSNO,
    OBD_CONNECT_VERSION,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.opcodes import OBD_PING

CONNECTION = "connection="

FLAG_NAMES = (
    "read_only", "lov_index", "connect_from_mds", "write_grant", "server_lock", "version",
    "request_portal", "acl", "xattr", "large_acl", "truncate_lock", "initial_transno",
    "inode_bit_locks", "barrier", "getattr_by_fid", "no_oh_for_devices", "remote_client",
    "remote_client_by_force", "max_byte_per_rpc", "64bit_qdata", "mds_capability",
    "oss_capability", "early_lock_cancel", "som", "adaptive_timeouts", "lru_resize",
    "mds_mds_connection", "real_conn", "change_qunit_size", "alt_checksum_algorithm",
    "fid_is_enabled", "version_recovery", "pools", "grant_shrink", "skip_orphan", "large_ea",
    "full20", "layout_lock", "64bithash", "object_max_bytes", "imp_recov", "jobstats", "umask",
    "einprogress", "grant_param", "flock_owner", "lvb_type", "nanoseconds_times",
    "lightweight_conn", "short_io", "pingless", "flock_deadlock", "disp_stripe", "open_by_fid",
    "lfsck", "unknown", "unlink_close", "multi_mod_rpcs", "dir_stripe", "subtree", "lockahead",
    "bulk_mbits", "compact_obdo", "second_flags",
)  # fmt: skip
"""Names of the OBD_CONNECT_* flags from bit 0 on (obd_connect_names)."""
FLAG_NAMES2 = (
    "file_secctx", "lockaheadv2", "dir_migrate", "sum_statfs", "overstriping", "flr", "wbc",
    "lock_convert", "archive_id_array",
)  # fmt: skip
"""The same of OBD_CONNECT2_*."""


def flag_names(flags: int, flags2: int) -> list[str]:
    """The names of the connect flags that are set."""
    first = [name for bit, name in enumerate(FLAG_NAMES) if flags >> bit & 1]
    return first + [name for bit, name in enumerate(FLAG_NAMES2) if flags2 >> bit & 1]


def agreed(data: ObdConnectData) -> list[str]:
    """What was agreed on beside the flags (obd_connect_data_seqprint)."""
    version = ".".join(str(data.version >> shift & 255) for shift in (24, 16, 8, 0))
    rows = {
        OBD_CONNECT_VERSION: [f"target_version: {version}"],
        OBD_CONNECT_MDS: [f"mdt_index: {data.group}"],
        OBD_CONNECT_GRANT: [f"initial_grant: {data.grant}"],
        OBD_CONNECT_INDEX: [f"target_index: {data.index}"],
        OBD_CONNECT_BRW_SIZE: [f"max_brw_size: {data.brw_size}"],
        OBD_CONNECT_IBITS: [f"ibits_known: {data.ibits_known:#x}"],
        OBD_CONNECT_GRANT_PARAM: [
            f"grant_block_size: {1 << data.grant_blkbits}",
            f"grant_inode_size: {1 << data.grant_inobits}",
            f"grant_max_extent_size: {data.grant_max_blks << data.grant_blkbits}",
            f"grant_extent_tax: {data.grant_tax_kb << 10}",
        ],
        OBD_CONNECT_TRANSNO: [f"first_transno: {data.transno:#x}"],
        OBD_CONNECT_CKSUM: [f"cksum_types: {data.cksum_types:#x}"],
        OBD_CONNECT_MAX_EASIZE: [f"max_easize: {data.max_easize}"],
        OBD_CONNECT_MAXBYTES: [f"max_object_bytes: {data.maxbytes}"],
        OBD_CONNECT_MULTIMODRPCS: [f"max_mod_rpcs: {data.maxmodrpcs}"],
    }
    return [row for flag, told in rows.items() if data.connect_flags & flag for row in told]


def averages(way: str, counted: dict[str, Counter]) -> list[str]:
    """What bulk RPCs of one kind carried and took; nothing where there was none."""
    carried, took = counted.get(f"{way}_bytes"), counted.get(f"ost_{way}")
    if carried is None or took is None:
        return []
    size = carried.total // carried.samples
    rows = [f"    {way}_data_averages:\n", f"       bytes_per_rpc: {size}\n"]
    if took.total:
        usecs = took.total // took.samples
        rows.append(f"       usec_per_rpc: {usecs}\n")
        if usecs:
            whole, hundredths = size // usecs, 100 * size // usecs % 100
            rows.append(f"       MB_per_sec: {whole}.{hundredths:02}\n")
    return rows


class ImportShown(Component):
    """Shows `self.imp`."""

    imp: Import

    @Param.computed(help="what was agreed on when it connected")
    def connect_flags(self) -> str:
        """The numbers, then a name a line (lprocfs_connect_flags_seq_show)."""
        data, mounted = self.imp.connect_data, self.mounted
        rows = [f"flags={data.connect_flags:#x}"]
        if mounted is None or mounted.rule(self.declared["connect_flags"]).style != "single":
            rows.append(f"flags2={data.connect_flags2:#x}")
        rows += flag_names(data.connect_flags, data.connect_flags2)
        return "".join(f"{row}\n" for row in rows)

    @Param.trigger(help="ping the target")
    def ping(self, text: str) -> Steps[None]:
        """Whatever is written; EAGAIN where it is not connected (ptlrpc_obd_ping)."""
        yield from self.imp.call(Request(OBD_PING, no_resend=True, no_delay=True))

    @Param.computed(
        file="import", access="rw", help="the import: state, connect data, requests, transactions"
    )
    def import_text(self) -> str:
        """The file's text, YAML with four blanks where lprocfs puts them."""
        return "".join([*self._head(), *self._connection(), *self.rpcs()])

    def store_import(self, text: str) -> None:
        """Take connection=NID[::INSTANCE]: go to that node, unless there for that instance.

        What comes of it is not told (ldebugfs_import_seq_write).
        """
        if not text.startswith(CONNECTION) or text == CONNECTION:
            raise LustreError(errno.EINVAL, text)
        uuid, named, instance = text.removeprefix(CONNECTION).partition("::")
        there = self.imp.connect_data.instance
        if named and (not f"0{instance}".isdigit() or int(instance or 0) == there):
            return
        try:
            self.imp.reconnect(Nid.parse(uuid))
        except (LustreError, InputError) as error:
            self.imp.rpc.trace.emit("import.not_renewed", self.imp.name, str(error))

    @Param.computed(file="state", help="where the import stands, and where it has been")
    def state_text(self) -> str:
        """The last sixteen states and the dates of them (lprocfs_state_seq_show)."""
        rows = [f"current_state: {self.imp.state.name}\n", "state_history:\n"]
        for date_s, state in HISTORY.iter_unpack(self.imp.history):
            rows.append(f" - [ {date_s}, {State(state).name} ]\n")
        return "".join(rows)

    def rpcs(self) -> list[str]:
        """Rows about its requests, where they are counted."""
        return []

    def _head(self) -> list[str]:
        imp, data = self.imp, self.imp.connect_data
        names = flag_names(data.connect_flags, data.connect_flags2)
        return [
            "import:\n",
            f"    name: {imp.name}\n",
            f"    target: {imp.target_uuid}\n",
            f"    state: {imp.state.name}\n",
            f"    connect_flags: [ {', '.join(names)} ]\n",
            "    connect_data:\n",
            f"       flags: {data.connect_flags:#x}\n",
            f"       instance: {data.instance}\n",
            *(f"       {row}\n" for row in agreed(data)),
            f"    import_flags: [ {', '.join(self._flags())} ]\n",
        ]

    def _flags(self) -> list[str]:
        """What is true of the import, in Lustre's order (obd_import_flags2str)."""
        imp = self.imp
        flags = {
            "invalid": imp.invalid, "deactive": imp.deactivated, "replayable": imp.replayable,
            "vbr_failed": imp.vbr_failed, "pingable": imp.conn_cnt > 0,
            "connect_tried": imp.conn_cnt > 0,
        }  # fmt: skip
        return [name for name, yes in flags.items() if yes]

    def _connection(self) -> list[str]:
        imp = self.imp
        nids = ", ".join(str(Nid(nid)) for nid in imp.conns.nids)
        idle_s = (imp.rpc.env.now - imp.last_reply_ns) // NS_PER_S
        current = str(Nid(imp.peer)) if imp.state is not State.NEW else "<none>"
        return [
            "    connection:\n",
            f"       failover_nids: [ {nids} ]\n",
            f"       current_connection: {current}\n",
            f"       connection_attempts: {imp.conn_cnt}\n",
            f"       generation: {imp.generation}\n",
            "       in-progress_invalidations: 0\n",
            f"       idle: {idle_s} sec\n",
        ]


class Switchable(Component):
    """An import that its device's `active` file switches off and on (active_store)."""

    imp: Import
    active: bool

    def set_active(self, value: bool) -> None:
        """Switch the import off, failing what is under way; or on again, knowing nothing."""
        self.active = value
        if value:
            self.imp.activate()
        else:
            self.imp.deactivate()


class ImportFiles(ImportShown, Switchable):
    """Of an import that counts its requests in `self.stats` and may be switched off."""

    stats: Any

    @Param.computed(access="rw", unit="bool", help="connect anew whenever the connection is lost")
    def pinger_recov(self) -> int:
        """1, unless the pinger is to leave it alone (imp_no_pinger_recover)."""
        return int(self.imp.pinger_recovers)

    def store_pinger_recov(self, text: str) -> None:
        """0 or 1."""
        value = kstrto(text, 10, -(2**31), 2**31 - 1)
        if value not in (0, 1):
            raise LustreError(errno.EINVAL, text)
        self.imp.pinger_recovers = bool(value)

    def rpcs(self) -> list[str]:
        """What its requests took, by the counters of `stats`."""
        counted = dict(self.stats.items())
        waited = counted.get("req_waittime")
        average = waited.total // waited.samples if waited is not None else 0
        return [
            "    rpcs:\n",
            f"       inflight: {len(self.imp.outstanding)}\n",
            "       unregistering: 0\n",
            f"       timeouts: {self.imp.timeouts}\n",
            f"       avg_waittime: {average} usec\n",
            "    service_estimates:\n",
            f"       services: {self.imp.times.services_s()} sec\n",
            f"       network: {self.imp.times.latency_s()} sec\n",
            "    transactions:\n",
            f"       last_replay: {self.imp.last_replayed}\n",
            f"       peer_committed: {self.imp.committed}\n",
            f"       last_checked: {self.imp.committed}\n",
            *averages("read", counted),
            *averages("write", counted),
        ]

    @Param.computed(help="what requests took, by portal, and how far the server is")
    def timeouts(self) -> str:
        """The estimates of adaptive timeouts (lprocfs_timeouts_seq_show); dates in seconds."""
        imp = self.imp
        now_s = imp.rpc.now_s
        heard_s = now_s - (imp.rpc.env.now - imp.last_reply_ns) // NS_PER_S
        rows = [f"{'last reply':<10} : {heard_s}, {self._ago(now_s - heard_s)} ago\n"]
        shown = {"network": imp.times.network}
        shown |= {f"portal {portal:<2}": one for portal, one in imp.times.portals.items()}
        for name, one in shown.items():
            bins = "".join(f"{value:3} " for value in one.bins)
            when = f"(at {one.worst_at_s}, {self._ago(now_s - one.worst_at_s)} ago)"
            current = one.get(imp.rpc.timeouts)
            rows.append(f"{name:<10} : cur {current:3}  worst {one.worst:3} {when} {bins}\n")
        return "".join(rows)

    def _ago(self, seconds: int) -> str:
        """As 1034s, or 0d0h17m14s where the dialect says "dhms" (DHMS_FMT)."""
        mounted = self.mounted
        if mounted is None or mounted.rule(self.declared["timeouts"]).style != "dhms":
            return f"{seconds}s"
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours // 24}d{hours % 24}h{minutes:02}m{seconds:02}s"


class IdleFiles(ImportFiles):
    """Of an import that disconnects while nobody needs it (LUSTRE_RW_ATTR(idle_timeout))."""

    idle_timeout_ns = Param.seconds(
        20, high=50, help="an import that nothing is held over disconnects after this; 0: never"
    )

    def store_idle_timeout(self, text: str) -> None:
        """Take seconds; `debug` and `nodebug` only make the console say more or less."""
        if text.strip() not in ("debug", "nodebug"):
            self.declared["idle_timeout_ns"].store(self, text)

    def set_idle_timeout_ns(self, value: int) -> None:
        """Another time; an import that shall never be idle connects again at once."""
        self.idle_timeout_ns = self.imp.idle_timeout_ns = value
        if not value:
            self.imp.wake()

    @Param.trigger(help="connect an idle import again")
    def idle_connect(self, text: str) -> None:
        """Whatever is written."""
        self.imp.wake()

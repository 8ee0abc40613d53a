"""What the imports, exports and services of one node share.

Does not know any target. Stands for the module state of ptlrpc: the xid counter, the handle hash,
the obd timeouts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.errors import ProtocolError
from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc.bulk import BULK_OPS_COUNT
from labsim.net.ptlrpc.timeouts import DefaultTimeouts, Timeouts
from labsim.runtime.ports import Host
from labsim.runtime.sync import Deadlines
from labsim.wire.lustre_msg import ObdConnectData

NOTHING_GRANTED = ObdConnectData()
"""What an import or export has before it was connected; never changed in place."""


def xid_offset(nid: int) -> int:
    """Where in its second a node's xids begin (below 2^20, a multiple of 16).

    Lustre's nodes boot at different times. Here they all may in the same second, and two peers that
    count from the same number would use the same match bits for different RPCs at the same time.
    The factor keeps the nodes of a small cluster 1500 xids apart.
    """
    return (nid * 0x063199A3 >> 16 & 0xFFFF) * BULK_OPS_COUNT


class PtlRpc:
    """One node's ptlrpc."""

    def __init__(self, host: Host, timeouts: Timeouts | None = None) -> None:
        self.host = host
        self.env = host.env
        self.lnet = host.lnet
        self.trace = host.trace
        self.faults = host.faults
        self.timeouts: Timeouts = timeouts or DefaultTimeouts()
        self.deadlines = Deadlines(host.env)
        self.exports: dict[int, Any] = {}
        """Every export of the node's targets and callback services, by cookie."""
        self.targets: dict[str, Any] = {}
        """The node's targets by uuid, as connect requests name them."""
        self.jobid: Callable[[], str] = str
        """Tells the job that requests are sent for, where the server wants to know."""
        self.refused = 0
        """Messages that were no valid lustre_msg."""
        self._xid = (host.clock.seconds() << 20) + xid_offset(host.lnet.nid)

    def next_xid(self) -> int:
        """A fresh xid: a multiple of 16, shared by all imports of the node."""
        self._xid += BULK_OPS_COUNT
        return self._xid

    def cookie(self) -> int:
        """A handle that this node has not given out before (class_handle_hash)."""
        while True:
            cookie = self.host.rng.getrandbits(64)
            if cookie and cookie not in self.exports:
                return cookie

    @property
    def now_s(self) -> int:
        """The date, in seconds since 1970; what adaptive timeouts count in."""
        return self.host.clock.seconds()

    @property
    def timeout_ns(self) -> int:
        """obd_timeout."""
        return self.timeouts.timeout * NS_PER_S

    @property
    def ping_interval_ns(self) -> int:
        """PING_INTERVAL: a quarter of obd_timeout, a second at least."""
        return max(self.timeout_ns // 4, NS_PER_S)

    @property
    def short_interval_ns(self) -> int:
        """PING_INTERVAL_SHORT: how soon to ask for what should be committed, or to try again."""
        return min(self.ping_interval_ns, 7 * NS_PER_S)

    @property
    def connect_timeout_ns(self) -> int:
        """INITIAL_CONNECT_TIMEOUT: a twentieth of obd_timeout, 5 s at least."""
        return max(self.timeout_ns // 20, 5 * NS_PER_S)

    def refuse(self, peer: int, error: ProtocolError) -> None:
        """Count and record a message that does not fit the protocol."""
        self.refused += 1
        self.trace.emit("rpc.refused", peer, str(error))

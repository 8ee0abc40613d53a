"""The files of an OSC about its pages and its grant, and how grant is given back.

Knows sums of one OSC, not files. Stands for osc_cached_mb and the grant files of osc/lproc_osc.c,
and for osc_shrink_grant (osc_request.c): who has not written for long keeps less grant.
"""

from __future__ import annotations

import errno
from typing import Any

from labsim.base.component import Component
from labsim.base.errors import LustreError
from labsim.base.grammar import kstrto, strict_units
from labsim.base.params import Param
from labsim.base.units import MIB, NS_PER_S, PAGE_SIZE
from labsim.net.ptlrpc import Import, Request, State
from labsim.nodes.client.grant import GrantAccount
from labsim.nodes.client.osc_object import OscObject
from labsim.nodes.client.page_lru import PageLru
from labsim.runtime.ports import Host, Steps
from labsim.wire.constants import (
    KEY_GRANT_SHRINK,
    OBD_CONNECT_GRANT_SHRINK,
    OBD_FL_SHRINK_GRANT,
    OBD_MD_FLBLOCKS,
    OBD_MD_FLFLAGS,
    OBD_MD_FLGRANT,
)
from labsim.wire.opcodes import OST_SET_INFO
from labsim.wire.ost import Obdo, OstBody


class OscFiles(Component):
    """The part of an Osc that shows its cache and its grant, and gives grant back."""

    host: Host
    imp: Import
    grant: GrantAccount
    objects: dict[Any, OscObject]
    max_rpcs_in_flight: int
    active: bool
    wrote_ns: int
    """When grant was used last."""

    grant_shrink = Param.flag(True, help="give back grant that was not used for long")
    grant_shrink_interval = Param.seconds(
        1200, low=1, help="how long grant is not used before some is given back"
    )
    _shrink_timer: Any = None

    def rpc_bytes(self) -> int:
        """Bytes of one full BRW."""
        raise NotImplementedError

    def call(self, request: Request, counter: str) -> Steps[Any]:
        """Send a request and count it."""
        raise NotImplementedError

    # ---- sums

    @Param.computed(unit="count", help="objects that this OSC has destroyed right now")
    def destroys_in_flight(self) -> int:
        """None: MDTs destroy objects (cl_destroy_in_flight)."""
        return 0

    @Param.computed(unit="bytes", help="dirty data this OSC holds")
    def cur_dirty_bytes(self) -> int:
        """Bytes of dirty pages, also of those being written."""
        return self.grant.dirty

    @Param.computed(unit="bytes", help="grant that lies under dirty pages")
    def cur_dirty_grant_bytes(self) -> int:
        """Bytes of grant in use."""
        return self.grant.dirty_grant

    @Param.computed(unit="bytes", help="grant lost to pages never written, not yet given back")
    def cur_lost_grant_bytes(self) -> int:
        """Bytes of grant lost."""
        return self.grant.lost

    @Param.computed(access="rw", unit="bytes", help="grant this OSC holds")
    def cur_grant_bytes(self) -> int:
        """Bytes of grant."""
        return self.grant.avail

    def store_cur_grant_bytes(self, text: str) -> Steps[None] | None:
        """Give back what is above that number (osc_shrink_grant_to_target)."""
        target = max(kstrto(text, 10, 0, 2**63 - 1), self.rpc_bytes())
        return self._shrink_to(target) if target < self.grant.avail else None

    @Param.computed(access="rw", help="pages of this OSC's objects in the cache")
    def osc_cached_mb(self) -> str:
        """What is cached, how many pages cannot be dropped now, and how often room was made."""
        used, lru = sum(obj.bytes.total for obj in self.objects.values()), self._lru()
        reclaims = lru.reclaimed if lru is not None else 0
        busy = self.grant.dirty // PAGE_SIZE
        return f"used_mb: {used // MIB}\nbusy_cnt: {busy}\nreclaim: {reclaims}\n"

    def store_osc_cached_mb(self, text: str) -> None:
        """Throw clean pages out until so many MiB are left."""
        number = text.removeprefix("used_mb:").strip()
        limit, lru = strict_units(number, MIB), self._lru()
        if limit < 0:
            raise LustreError(errno.ERANGE)
        if lru is not None:
            lru.shrink(self, limit)

    def _lru(self) -> PageLru | None:
        """The cache that this OSC's objects are in."""
        obj = next(iter(self.objects.values()), None)
        return obj.lru if obj is not None else None

    # ---- giving grant back

    def watch_grant(self) -> None:
        """Look whether grant is used when it has had the time to be (osc_grant_work_handler)."""
        if self._shrink_timer is None:
            due_ns = self.wrote_ns + self.grant_shrink_interval * NS_PER_S
            self._shrink_timer = self.imp.rpc.deadlines.add(due_ns, self._look_at_grant)

    def unwatch_grant(self) -> None:
        """The OSC goes."""
        if self._shrink_timer is not None:
            self._shrink_timer.cancel()
            self._shrink_timer = None

    def _look_at_grant(self) -> None:
        """Shrink what was idle (osc_should_shrink_grant); then wait for the next interval."""
        self._shrink_timer = None
        idle_ns = self.host.env.now - self.wrote_ns
        if idle_ns >= self.grant_shrink_interval * NS_PER_S:
            self.wrote_ns = self.host.env.now
            allowed = self.grant_shrink and self.imp.granted(OBD_CONNECT_GRANT_SHRINK)
            if allowed and self.imp.state is State.FULL and self.grant.avail > self.rpc_bytes():
                self.host.env.process(self._shrink())
        self.watch_grant()

    def set_grant_shrink_interval(self, seconds: int) -> None:
        """Counts from the last write."""
        self.grant_shrink_interval = seconds
        if self._shrink_timer is not None:
            self.unwatch_grant()
            self.watch_grant()

    def _shrink(self) -> Steps[None]:
        """Keep what all RPCs in flight may need; less than that already: one RPC's worth."""
        target = (self.max_rpcs_in_flight + 1) * self.rpc_bytes()
        if self.grant.avail <= target:
            target = self.rpc_bytes()
        try:
            yield from self._shrink_to(target)
        except LustreError as error:
            self.host.trace.emit("grant.shrink_failed", error.errno)

    def _shrink_to(self, target: int) -> Steps[None]:
        """The OST takes it where space is scarce; what it does not take is kept."""
        given = self.grant.avail - target
        self.grant.avail = target
        oa = Obdo(
            valid=OBD_MD_FLFLAGS | OBD_MD_FLGRANT | OBD_MD_FLBLOCKS,
            flags=OBD_FL_SHRINK_GRANT,
            grant=given,
            blocks=self.grant.dirty_grant,
            misc=self.grant.announce(),
        )
        epoch, key = self.grant.epoch, KEY_GRANT_SHRINK.encode()
        try:
            request = Request(OST_SET_INFO, setinfo_key=key, ost_body=OstBody(oa=oa))
            reply = yield from self.call(request, "ost_set_info")
            given = reply["ost_body"].oa.grant
        finally:
            if epoch == self.grant.epoch:
                self.grant.avail += given

"""What the lock namespaces of clients and servers have in common: handles, counts, parameters.

Does not know which side it is on. Stands for struct ldlm_namespace and its files under
ldlm/namespaces/ (ldlm_resource.c).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labsim.base.component import Component
from labsim.base.faults import Point
from labsim.base.grammar import kstrto
from labsim.base.params import Param
from labsim.base.units import NS_PER_MS, NS_PER_S
from labsim.ldlm.pool import CLIENT_PERIOD_S, Pool
from labsim.net.ptlrpc import Handlers
from labsim.runtime.ports import Host, Steps

DEFAULT_LRU_SIZE = 100
"""LDLM_DEFAULT_LRU_SIZE, which Lustre multiplies with the number of CPUs."""


ENQUEUE_MIN_S = 100
"""LDLM_ENQUEUE_MIN: with adaptive timeouts a lock that is called back has at least so long."""


class Namespace(Handlers, Component, tree="ldlm.namespaces.{name}"):
    """Base of ClientNamespace and ServerNamespace; mounts its parameters when it is made."""

    lru_size = Param.count(0, unit="locks", help="unused locks to keep; 0: as many as age allows")
    lru_max_age = Param.count(
        0, high=2**63 - 1, unit="ms", help="an unused lock older than this is cancelled"
    )
    pool_recalc_period = Param.count(
        CLIENT_PERIOD_S, low=1, unit="s", file="pool.recalc_period",
        help="how often the pool reckons anew",
    )  # fmt: skip
    pool_lock_volume_factor = Param.count(
        1, unit="factor", file="pool.lock_volume_factor",
        help="how much sooner than the server asks for unused locks are given back",
    )  # fmt: skip
    pool_limit = Param.count(
        0, unit="locks", file="pool.limit", help="how many locks there may be in all"
    )
    server = False
    """Is it the namespace of a target?"""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.env = host.env
        self.name = name
        self.pool = Pool(self.server, self._now_s())
        self.pool_recalc_period = self.pool.period_s
        self.pool_limit = self.pool.limit
        self.lru_max_age = self.default_lru_max_age()
        host.params.mount(self, name=name)

    def unmount(self) -> None:
        """Take the parameters away; the namespace is no more."""
        self.host.params.unmount(self)

    def _now_s(self) -> int:
        return self.env.now // NS_PER_S

    def at(self, point: Point) -> Steps[None]:
        """Visit a fault point: pass, wait or raise."""
        return self.host.faults.visit(point)

    def new_cookie(self, taken: Callable[[int], bool]) -> int:
        """A lock handle that is not in use: 64 random bits."""
        while True:
            cookie = self.host.rng.getrandbits(64)
            if cookie and not taken(cookie):
                return cookie

    # ---- the pool

    def reckoned(self) -> Pool:
        """The pool as it stands now."""
        self.pool.turn(self._now_s())
        return self.pool

    def set_pool_recalc_period(self, seconds: int) -> None:
        """The pool's turns come at another pace."""
        self.reckoned().period_s = self.pool_recalc_period = seconds
        self.age_changed()

    def set_pool_lock_volume_factor(self, factor: int) -> None:
        """Unused locks weigh more, or less."""
        self.pool.factor = self.pool_lock_volume_factor = factor
        self.age_changed()

    def set_pool_limit(self, limit: int) -> None:
        """More or fewer locks in all."""
        self.reckoned().limit = self.pool_limit = limit

    def show_pool_limit(self) -> str:
        """A client's is what its server said."""
        return f"{self.pool.limit}\n"

    @Param.computed(file="pool.state", help="the pool's numbers, with their short names")
    def pool_state(self) -> str:
        """As lprocfs_pool_state_seq_show has it."""
        return self.reckoned().state(self.name)

    @Param.computed(file="pool.server_lock_volume", help="the server's lock volume (SLV)")
    def pool_server_lock_volume(self) -> int:
        """The volume that a client's locks may have."""
        return self.reckoned().volume

    @Param.computed(file="pool.granted", unit="locks", help="locks granted")
    def pool_granted(self) -> int:
        """Granted locks; file locks do not count."""
        return self.pool.granted

    @Param.computed(file="pool.grant_rate", unit="locks", help="granted in this period")
    def pool_grant_rate(self) -> int:
        """Locks granted since the pool's last turn."""
        return self.reckoned().grant_rate

    @Param.computed(file="pool.cancel_rate", unit="locks", help="cancelled in this period")
    def pool_cancel_rate(self) -> int:
        """Locks cancelled since the pool's last turn."""
        return self.reckoned().cancel_rate

    @Param.computed(file="pool.grant_speed", unit="locks", help="granted less cancelled")
    def pool_grant_speed(self) -> int:
        """How the number of locks has changed since the pool's last turn."""
        return self.reckoned().speed

    @Param.computed(file="pool.grant_plan", unit="locks", help="planned for the next period")
    def pool_grant_plan(self) -> int:
        """How many locks there shall be at the end of the next period."""
        return self.reckoned().plan

    # ---- lru_max_age: its unit is a rule of its own

    def default_lru_max_age(self) -> int:
        """What `lru_max_age` holds when the namespace is made."""
        return self.host.kit.traits.lru_max_age_s * 1000

    def max_age_ns(self) -> int:
        """How long an unused lock is kept."""
        return self.lru_max_age * NS_PER_MS

    def show_lru_max_age(self) -> str:
        """Milliseconds."""
        return f"{self.lru_max_age}\n"

    def store_lru_max_age(self, text: str) -> None:
        """A number of milliseconds, or of seconds where an "s" that is not of "ms" follows it."""
        digits, suffix = text.partition("ms")[:2]
        scale = 1
        if not suffix and "s" in text:
            digits, scale = text.partition("s")[0], 1000
        self.lru_max_age = kstrto(digits, 10, 0, 2**64 - 1) * scale
        self.age_changed()

    def age_changed(self) -> None:
        """The rule for old locks has changed."""

    # ---- what there is

    @Param.computed(unit="locks", help="locks in this namespace")
    def lock_count(self) -> int:
        """How many locks there are."""
        raise NotImplementedError

    @Param.computed(unit="locks", help="locks that nobody uses at present")
    def lock_unused_count(self) -> int:
        """How many of them are in the LRU; none on a server."""
        return 0

    @Param.computed(unit="resources", help="resources that have locks")
    def resource_count(self) -> int:
        """How many resources there are."""
        raise NotImplementedError

    def snapshot(self) -> list[dict[str, Any]]:
        """Every lock as plain data, for the invariants."""
        raise NotImplementedError

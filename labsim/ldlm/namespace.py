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
from labsim.base.units import NS_PER_MS
from labsim.net.ptlrpc import Handlers
from labsim.runtime.ports import Host, Steps

DEFAULT_LRU_SIZE = 100
"""LDLM_DEFAULT_LRU_SIZE, which Lustre multiplies with the number of CPUs."""

DEFAULT_RECALC_S = 10
"""LDLM_POOL_CLI_DEF_RECALC_PERIOD: how often a client looks for locks that are too old."""


class Namespace(Handlers, Component, tree="ldlm.namespaces.{name}"):
    """Base of ClientNamespace and ServerNamespace; mounts its parameters when it is made."""

    lru_size = Param.count(0, unit="locks", help="unused locks to keep; 0: as many as age allows")
    lru_max_age = Param.count(
        0, high=2**63 - 1, unit="ms", help="an unused lock older than this is cancelled"
    )
    pool_recalc_period = Param.count(
        DEFAULT_RECALC_S, low=1, unit="s", file="pool.recalc_period",
        help="how often unused locks are looked at",
    )  # fmt: skip

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.env = host.env
        self.name = name
        self.lru_max_age = self.default_lru_max_age()
        host.params.mount(self, name=name)

    def unmount(self) -> None:
        """Take the parameters away; the namespace is no more."""
        self.host.params.unmount(self)

    def at(self, point: Point) -> Steps[None]:
        """Visit a fault point: pass, wait or raise."""
        return self.host.faults.visit(point)

    def new_cookie(self, taken: Callable[[int], bool]) -> int:
        """A lock handle that is not in use: 64 bits that nobody can guess."""
        while True:
            cookie = self.host.rng.getrandbits(64)
            if cookie and not taken(cookie):
                return cookie

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

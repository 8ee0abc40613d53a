"""How many locks clients ought to keep: the server's lock volume, and a client's share of it.

Numbers only: no locks, no messages, no timers. Stands for struct ldlm_pool (ldlm_pool.c). A server
grows its volume (SLV) while clients leave part of the planned grants untaken, and lets it shrink
while they take more; every reply tells it. A client gives a lock back once its own volume, which is
age times unused locks times a factor, has come up to the server's.
"""

from __future__ import annotations

LOCKS_PER_MB = 50
SERVER_RAM_MB = 8192
"""The memory that a server is taken to have."""
HOST_LIMIT = SERVER_RAM_MB * LOCKS_PER_MB
"""LDLM_POOL_HOST_L."""
MAX_STEP, MIN_STEP = 30, 1
"""LDLM_POOL_MAX_GSP, LDLM_POOL_MIN_GSP: per cent of the free locks to be granted in a period."""
MAX_AGE_S = 36000
"""LDLM_POOL_MAX_AGE: at first one client may keep all locks for ten hours."""
SHIFT = 10
"""LDLM_POOL_SLV_SHIFT: the volume changes by 1024ths."""

SERVER_PERIOD_S, CLIENT_PERIOD_S = 1, 10


class Pool:
    """The account of one namespace; all times are whole seconds, by any clock."""

    __slots__ = (
        "_server", "_turn_s", "cancel_rate", "client_volume", "factor", "grant_rate", "granted",
        "limit", "period_s", "plan", "volume",
    )  # fmt: skip

    def __init__(self, server: bool, now_s: int) -> None:
        self._server = server
        self.limit = HOST_LIMIT if server else 0
        self.period_s = SERVER_PERIOD_S if server else CLIENT_PERIOD_S
        self.granted = self.grant_rate = self.cancel_rate = 0
        self.plan = HOST_LIMIT * MAX_STEP // 100
        self.volume = HOST_LIMIT * MAX_AGE_S if server else 0
        """SLV; on a client what the server said last, 0 where it has said nothing."""
        self.factor = 1
        self.client_volume = 0
        """CLV: that of the last lock which the client looked at."""
        self._turn_s = now_s

    @property
    def step(self) -> int:
        """GSP: per cent of the free locks that are planned to be granted in a period."""
        return MAX_STEP - (MAX_STEP - MIN_STEP >> (self.period_s >> 2))

    @property
    def speed(self) -> int:
        """GS: locks granted less locks cancelled in this period."""
        return self.grant_rate - self.cancel_rate

    def granted_one(self) -> None:
        """A lock has been granted."""
        self.granted += 1
        self.grant_rate += 1

    def cancelled_one(self) -> None:
        """A granted lock has gone."""
        self.granted -= 1
        self.cancel_rate += 1

    def turn(self, now_s: int) -> None:
        """Do what the pool thread does at the end of each period, for all that have passed."""
        passed = (now_s - self._turn_s) // self.period_s
        if passed <= 0:
            return
        self._turn_s += passed * self.period_s
        self.grant_rate = self.cancel_rate = 0
        for _ in range(passed if self._server else 0):
            before = self.volume, self.plan
            self._next_volume()
            self._next_plan()
            if before == (self.volume, self.plan):
                break  # and so for ever, until locks come or go

    def _next_volume(self) -> None:
        limit = max(self.limit, 1)
        usage = max(limit - (self.granted - self.plan), 1)
        volume = self.volume * ((usage << SHIFT) // limit)
        if self.granted < limit:
            volume += (1 << SHIFT) - 1
        self.volume = min(max(volume >> SHIFT, 1), limit * MAX_AGE_S)

    def _next_plan(self) -> None:
        free = (self.limit - self.granted) * self.step
        planned = self.granted + (free // 100 if free >= 0 else -(-free // 100))
        self.plan = min(planned, self.limit * 5 >> 2)

    # ---- a client's part

    def told(self, volume: int, limit: int) -> None:
        """A reply says what the server's volume is (pb_slv, pb_limit)."""
        self.volume, self.limit = volume, limit

    def keeps(self, unused: int, age_s: int) -> bool:
        """May a lock that was not used for so long stay among so many unused ones?"""
        self.client_volume = self.factor * age_s * unused
        return not self.volume or self.client_volume < self.volume

    def age_s(self, unused: int) -> int | None:
        """At which age the oldest of so many unused locks has to go; None: never for its volume."""
        if not (self.volume and unused and self.factor):
            return None
        return -(-self.volume // (self.factor * unused))

    def state(self, name: str) -> str:
        """The text of pool.state."""
        plan = f"  GSP: {self.step}%\n  GP:  {self.plan}\n" if self._server else ""
        return (
            f"LDLM pool state ({name}):\n  SLV: {self.volume}\n  CLV: {self.client_volume}\n"
            f"  LVF: {self.factor}\n{plan}  GR:  {self.grant_rate}\n  CR:  {self.cancel_rate}\n"
            f"  GS:  {self.speed}\n  G:   {self.granted}\n  L:   {self.limit}\n"
        )

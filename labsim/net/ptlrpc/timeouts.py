"""Adaptive timeouts: how long a request may take, learned from what requests took.

Rules and numbers, no messages and no timers. Stands for struct adaptive_timeout, struct imp_at and
at_measured (lustre_import.h, ptlrpc/import.c). Estimates are whole seconds, as they travel
(pb_timeout, pb_service_time); dates are seconds since 1970.
"""

from __future__ import annotations

from typing import Protocol

BINS = 4
"""AT_BINS: at_history is kept as the worst of each of its quarters."""
NOTHING = [0] * BINS
"""The history of what was never measured; never changed in place."""

SERVICE_GUESS_S = 10
"""What a service believes it takes before it has answered anything."""

SLACK_S = 3
"""A service time so much longer than the whole exchange is that of an earlier copy."""


class Timeouts(Protocol):
    """The global parameters that ptlrpc reads, in seconds."""

    timeout: int
    ldlm_timeout: int
    bulk_timeout: int
    at_min: int
    at_max: int
    at_history: int
    at_early_margin: int
    at_extra: int


class DefaultTimeouts:
    """Lustre's defaults (obd_support.h), where a node mounts no globals of its own."""

    timeout = 100
    ldlm_timeout = 20
    bulk_timeout = 100
    at_min = 0
    at_max = 600
    at_history = 600
    at_early_margin = 5
    at_extra = 30


def timeout_of(estimate_s: int) -> int:
    """What a client waits for a service that takes so long: a quarter and 5 s more."""
    return estimate_s + (estimate_s >> 2) + 5


class Estimate:
    """The longest that something took within at_history (struct adaptive_timeout).

    With `latest` only the last value counts, and the history is for show (AT_FLG_NOHIST).
    """

    __slots__ = ("_start_s", "bins", "current", "latest", "worst", "worst_at_s")

    def __init__(self, initial_s: int, now_s: int, latest: bool = False) -> None:
        self.current = initial_s
        self.latest = latest
        self.bins = NOTHING
        self.worst = initial_s
        self.worst_at_s = now_s
        self._start_s = 0

    def get(self, limits: Timeouts) -> int:
        """The estimate, at_min at least."""
        return max(self.current, limits.at_min)

    def measured(self, value_s: int, now_s: int, limits: Timeouts) -> None:
        """Take in that it took `value_s` just now; zero says nothing."""
        if not value_s:
            return
        width_s = max(limits.at_history // BINS, 1)
        if not self._start_s:
            self._start_s = now_s
            self.bins = [value_s, *NOTHING[1:]]
            self.current = self.worst = value_s
            self.worst_at_s = now_s
        elif now_s - self._start_s < width_s:
            if value_s > self.bins[0]:
                self.bins[0] = value_s
            elif value_s == self.current:
                return
            self.current = max(value_s, self.current)
        else:
            shift = (now_s - self._start_s) // width_s
            kept = self.bins[: max(BINS - shift, 0)]
            gone = [0] * (BINS - len(kept))
            self.bins = [value_s, *gone[1:], *kept]
            self.current = max(self.bins)
            self._start_s += shift * width_s
        if self.current > self.worst:
            self.worst, self.worst_at_s = self.current, now_s
        if self.latest:
            self.current = value_s
        if limits.at_max:
            self.current = min(self.current, limits.at_max)
        self.current = max(self.current, limits.at_min)

    def reset(self, value_s: int, now_s: int) -> None:
        """Believe this from now on (at_reset)."""
        self.current = self.worst = value_s
        self.worst_at_s = now_s


class PeerTimes:
    """What a sender knows of its peer: the network between them, and each portal's service."""

    __slots__ = ("_limits", "network", "portals")

    def __init__(self, limits: Timeouts, now_s: int) -> None:
        self._limits = limits
        self.network = Estimate(0, now_s)
        self.portals: dict[int, Estimate] = {}

    def portal(self, portal: int, now_s: int) -> Estimate:
        """The estimate of one portal's service; begins as INITIAL_CONNECT_TIMEOUT."""
        found = self.portals.get(portal)
        if found is None:
            first = max(self._limits.timeout // 20, 5)
            found = self.portals[portal] = Estimate(first, now_s, latest=True)
        return found

    def timeout_s(self, portal: int, now_s: int) -> int:
        """How long to wait for an answer from a portal, without the network."""
        return timeout_of(self.portal(portal, now_s).get(self._limits))

    def latency_s(self) -> int:
        """What the network adds."""
        return self.network.get(self._limits)

    def learn_service(self, portal: int, estimate_s: int, now_s: int) -> None:
        """A reply says what its service takes at most (pb_timeout)."""
        self.portal(portal, now_s).measured(estimate_s, now_s, self._limits)

    def learn_network(self, sent_s: int, service_s: int, now_s: int) -> None:
        """A reply says how long it took to serve (pb_service_time); the rest was the network."""
        took_s = now_s - sent_s
        if service_s <= took_s + SLACK_S:
            self.network.measured(max(took_s - service_s, 0) + 1, now_s, self._limits)

    def services_s(self) -> int:
        """The slowest portal."""
        return max((one.get(self._limits) for one in self.portals.values()), default=0)

"""What goes wrong during a random run, as steps of a scenario.

Does not know what the clients do. One thing breaks after the other, each for a while: the power of
servers and clients, partitions, lost, late, doubled and overtaking packets, disks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Literal, NamedTuple

from labsim.base.units import NS_PER_MS, NS_PER_S, format_duration
from labsim.scenario import model

State = Literal["slow", "full", "eio"]
Trouble = Callable[["Nemesis"], list[model.AnyStep]]


class Pace(NamedTuple):
    """How long it is quiet before a trouble, and how long a machine is off, in milliseconds."""

    pause: tuple[int, int] = (200, 4000)
    outage: tuple[int, int] = (100, 20_000)


USUAL = Pace()


class Nemesis:
    """Breaks a cluster: `troubles` makes so many."""

    def __init__(self, cluster: model.ClusterSpec, rng: Random, pace: Pace = USUAL) -> None:
        self.cluster = cluster
        self.rng = rng
        self.pace = pace
        roles = cluster.nodes()
        self.clients = [name for name, role in roles.items() if role == "client"]
        homes = cluster.targets().values()
        self.servers = [
            name for name, role in roles.items() if role in {"mds", "oss"} and name in homes
        ]

    def troubles(self, kinds: Sequence[str], count: int) -> list[list[model.AnyStep]]:
        """So many troubles of these kinds, each with the pause before it."""
        return [
            [self._pause(*self.pace.pause), *TROUBLES[self.rng.choice(kinds)](self)]
            for _ in range(count if kinds else 0)
        ]

    def _pause(self, low_ms: int, high_ms: int) -> model.Wait:
        pause = self.rng.randrange(low_ms, high_ms) * NS_PER_MS
        return model.Wait(time_ns=model.Nanoseconds(pause))

    def _pair(self) -> str:
        arrow = self.rng.choice(("|", "|", "->"))
        ends = [self.rng.choice(self.clients), self.rng.choice(self.servers)]
        if arrow == "->":
            self.rng.shuffle(ends)
        return f"{ends[0]} {arrow} {ends[1]}"

    def power_cycle(self) -> list[model.AnyStep]:
        """A server is off for a while."""
        node = self.rng.choice(self.servers)
        if self.rng.random() < 0.5:
            return [model.Power(node=node, action="power-cycle")]
        return [
            model.Power(node=node, action="kill"), self._pause(*self.pace.outage),
            model.Power(node=node, action="start"),
        ]  # fmt: skip

    def both_down(self) -> list[model.AnyStep]:
        """Two servers are off together."""
        nodes = self.rng.sample(self.servers, min(2, len(self.servers)))
        kills = [model.Power(node=node, action="kill") for node in nodes]
        starts = [model.Power(node=node, action="start") for node in nodes]
        return [*kills, self._pause(100, 5000), *starts]

    def client_death(self) -> list[model.AnyStep]:
        """A client loses its power with all it has cached, and comes back as another one."""
        node = self.rng.choice(self.clients)
        return [
            model.Power(node=node, action="kill"), self._pause(*self.pace.outage),
            model.Power(node=node, action="start"),
        ]  # fmt: skip

    def failover(self) -> list[model.AnyStep]:
        """A server's targets go to its partner, unmounted or after its power went, and back.

        Not before clients that have just come are on its disk: those would be evicted, rightly.
        """
        node = self.rng.choice(self.servers)
        partner = f"{node[:3]}{int(node[3:]) ^ 1}"
        kill = [model.Power(node=node, action="kill")] if self.rng.random() < 0.7 else []
        return [
            self._pause(6000, 9000), *kill,
            model.Failover(node=node, to=partner, text=f"{node} to {partner}"),
            self._pause(100, 20_000), model.Failover(node=node, text=f"{node} back"),
        ]  # fmt: skip

    def partition(self) -> list[model.AnyStep]:
        """A client and a server do not hear one another, sometimes only one way."""
        long = self.rng.random() < 0.2
        pause = self._pause(150_000, 250_000) if long else self._pause(100, 20_000)
        return [self._net(f"partition {self._pair()}"), pause, self._net("heal")]

    def loss(self) -> list[model.AnyStep]:
        """Packets are lost."""
        return self._rule(f"drop * -> * rate={self.rng.choice((0.02, 0.1, 0.3))}")

    def answers(self) -> list[model.AnyStep]:
        """What servers did is not answered."""
        what = self.rng.choice(("MDS_REINT", "MDS_REINT", "LDLM_ENQUEUE", "OST_WRITE", "MDS_CLOSE"))
        servers = ",".join(self.servers)
        return self._rule(f"drop {servers} -> * opc={what} rate={self.rng.choice((0.3, 1.0))}")

    def doubles(self) -> list[model.AnyStep]:
        """What servers send comes twice.

        Not what clients do: a request that is not marked as resent is executed again unless a
        later one has told that it was answered (process_req_last_xid), as LNet never doubles one.
        """
        servers, clients = ",".join(self.servers), ",".join(self.clients)
        return self._rule(f"duplicate {servers} -> {clients} {self._time()} rate=0.3")

    def disorder(self) -> list[model.AnyStep]:
        """Packets overtake one another."""
        return self._rule(f"reorder * -> * {self._time()} rate=0.5")

    def lateness(self) -> list[model.AnyStep]:
        """All that somebody sends is late."""
        node = self.rng.choice([*self.clients, *self.servers])
        return self._rule(f"delay {node} -> * {self._time()}")

    def disk(self) -> list[model.AnyStep]:
        """A server's disks are slow or full for a while, or fail: then its journals have ended.

        A disk fails for less than a client goes on trying for (resend_count). An MDT's is only
        slow: a close that it refuses is replayed by nobody, so that the file would be open for
        good, and what is replayed onto a disk that filled up after the power went is lost.
        """
        node = self.rng.choice(self.servers)
        states: tuple[State, ...] = ("slow", "full", "eio")
        state = self.rng.choice(states if node.startswith("oss") else states[:1])
        delay_ns = self.rng.choice((100, 1000, 5000)) * NS_PER_MS if state == "slow" else 0
        told = f"{state} {format_duration(delay_ns)}" if delay_ns else state
        anew = [model.Power(node=node, action="power-cycle")] if state == "eio" else []
        return [
            model.Disk(node=node, state=state, delay_ns=delay_ns, text=f"{node} {told}"),
            self._pause(500, 10_000),
            model.Disk(node=node, state="ok", text=f"{node} ok"), *anew,
        ]  # fmt: skip

    def _time(self) -> str:
        return format_duration(self.rng.choice((1, 20, 300, 2000)) * NS_PER_MS)

    def _rule(self, text: str) -> list[model.AnyStep]:
        return [self._net(text), self._pause(500, 15_000), self._net("heal")]

    def _net(self, text: str) -> model.Net:
        from labsim.scenario.net_words import net

        return model.Net(text=text, **net(text, self.cluster))


TROUBLES: dict[str, Trouble] = {
    "power": Nemesis.power_cycle,
    "both": Nemesis.both_down,
    "client": Nemesis.client_death,
    "failover": Nemesis.failover,
    "partition": Nemesis.partition,
    "drop": Nemesis.loss,
    "answers": Nemesis.answers,
    "duplicate": Nemesis.doubles,
    "reorder": Nemesis.disorder,
    "delay": Nemesis.lateness,
    "disk": Nemesis.disk,
}
"""By the name that `labsim stress --faults` has for each."""

QUIET_NS = 600 * NS_PER_S
"""After the last trouble, so long until all is in order again."""

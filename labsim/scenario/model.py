"""The model behind a scenario file; Python may build the same thing.

Does not know YAML (`load`), nor how a step is carried out (`runner`). All durations are int
nanoseconds. Fields that start with an underscore are filled in by `load`, never written.
"""

from __future__ import annotations

from typing import Any, Literal, NewType

import msgspec

from labsim.base.errors import InputError
from labsim.base.units import format_duration
from labsim.scenario.topology import Partners
from labsim.trees.history import History

UNDER_TEST = "under-test"
"""In place of a tree's name: the tree that the run is about."""

REFERENCE_TREE = "2.12.0"
"""What servers run unless a scenario says otherwise."""

STEP_TIMEOUT_NS = 300 * 1_000_000_000
"""How long a command may take where its step does not say `within`."""


Nanoseconds = NewType("Nanoseconds", int)
"""A duration; files write it with a unit: 30s."""


CoveredTest = NewType("CoveredTest", str)
"""A test of Lustre: replay-single 20b."""


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of everything here."""


class ClientSpec(Model, frozen=True, kw_only=True):
    """One client: which tree it runs, its kernel's HZ, whether it is mounted at the start."""

    tree: str = UNDER_TEST
    hz: int = 0
    mount: bool = True


class ServerSpec(Model, frozen=True, kw_only=True):
    """The servers: which tree they run."""

    tree: str = REFERENCE_TREE
    hz: int = 0


class ClusterSpec(Model, frozen=True, kw_only=True):
    """The cluster of a scenario: c0.., mds0, oss0.., mgs."""

    clients: list[ClientSpec] = msgspec.field(default_factory=lambda: [ClientSpec()])
    mds: int = 1
    """MDSs, with one MDT each."""
    oss: int = 1
    osts: int = 0
    """OSTs in all, dealt out round robin; 0: one on each OSS."""
    servers: ServerSpec = ServerSpec()
    hz: int = 1000
    options: list[str] = []
    """What the clients' mount -o is told: flock, localflock, noflock."""
    failover: Partners = ""
    """pairs: oss0 and oss1, mds0 and mds1 ... may serve each other's targets; who has no partner
    gets a spare node without targets. service: the same, with targets that were made with
    --servicenode and not with --failnode."""
    capacity_mb: int = 0
    """How large each disk is; 0: so large that nothing fills it."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        counts = {"clients": len(self.clients), "mds": self.mds, "oss": self.oss}
        for what, count in counts.items():
            if not 1 <= count <= 4096:
                raise InputError(f"'{what}' must be 1 to 4096, not {count}")
        if self.osts and self.osts < self.oss:
            what = f"'osts' must be one for each OSS at least ({self.oss}), not {self.osts}"
            raise InputError(what)
        if self.capacity_mb and not 8 <= self.capacity_mb <= 1 << 20:
            raise InputError(f"'capacity_mb' must be 8 to 1048576, not {self.capacity_mb}")
        for hz in [self.hz, self.servers.hz, *(client.hz for client in self.clients)]:
            if hz and not 10 <= hz <= 10000:
                raise InputError(f"'hz' must be 10 to 10000 ticks a second, not {hz}")

    @property
    def ost_count(self) -> int:
        """How many OSTs there are."""
        return self.osts or self.oss

    def role(self, node: str) -> str | None:
        """What kind of node a name is: client, mds, oss or mgs; None: there is none."""
        return self.nodes().get(node)

    def targets(self) -> dict[str, str]:
        """Every target's short name (OST0001) and the node that it is on by the plan."""
        osts = {f"OST{n:04x}": f"oss{n % self.oss}" for n in range(self.ost_count)}
        mdts = {f"MDT{n:04x}": f"mds{n}" for n in range(self.mds)}
        return {"MGS": "mgs"} | mdts | osts

    def nodes(self) -> dict[str, str]:
        """Every node's name and kind."""
        names = {f"c{n}": "client" for n in range(len(self.clients))}
        spare = 1 if self.failover else 0
        servers = self.mds + self.mds % 2 * spare
        names |= {"mgs": "mgs"} | {f"mds{n}": "mds" for n in range(servers)}
        return names | {f"oss{n}": "oss" for n in range(self.oss + self.oss % 2 * spare)}


class Outcome(Model, frozen=True, kw_only=True):
    """What a command shows: its output (exact, or /regex/), its errno, its exit status.

    What is not given is not looked at, but for success: without `errno` and `status` it is needed.
    """

    expect: str | None = None
    errno: str | None = None
    status: int | None = None

    @property
    def empty(self) -> bool:
        """True where nothing is said."""
        return self.expect is None and self.errno is None and self.status is None


class Step(Model, frozen=True, kw_only=True, tag=True):
    """One step; `_line` is where it stands in its file."""

    line: int = msgspec.field(name="_line", default=0)


class Command(Step, frozen=True, kw_only=True):
    """A command on a node, and what it must show."""

    node: str
    text: str
    shows: Outcome = Outcome()
    whatever: bool = False
    """It may show anything: what is right, the oracles say."""
    buggy: Outcome | None = None
    """What a tree with the bug shows here, where that differs."""
    within_ns: int | None = None
    user: str = ""
    save: str = ""
    background: str = ""
    """It goes on beside the steps that follow, and a wait for this name waits for its end."""

    @property
    def label(self) -> str:
        """The step as it is written."""
        return f"{self.node}: {self.text}"


class Wait(Step, frozen=True, kw_only=True):
    """Wait for a time, for a background step, or for a state: an import's, a parameter's text."""

    background: str = ""
    time_ns: Nanoseconds = Nanoseconds(0)
    import_: str = msgspec.field(name="import", default="")
    param: str = ""
    shows: str = msgspec.field(name="is", default="")
    on: str = ""
    target: str = ""
    within_ns: int = STEP_TIMEOUT_NS

    @property
    def label(self) -> str:
        """The step in short."""
        if self.import_:
            return f"wait: import {self.target or '*'} on {self.on} is {self.import_}"
        if self.param:
            return f"wait: {self.param} on {self.on} is {self.shows}"
        return f"wait: {self.background or format_duration(self.time_ns)}"


class Net(Step, frozen=True, kw_only=True):
    """A change to the network between nodes or NIDs, or heal all of it."""

    text: str
    action: Literal["partition", "drop", "delay", "duplicate", "reorder", "heal"]
    src: list[str] = []
    dst: list[str] = []
    both_ways: bool = False
    delay_ns: int = 0
    match: dict[str, Any] = {}
    """Fields of `net.rules.Rule` beyond the nodes: opc, portal, kind, rate, skip, count."""

    @property
    def label(self) -> str:
        """The step as it is written."""
        return f"net: {self.text}"


class Fault(Step, frozen=True, kw_only=True):
    """Arm a fault point on a node, or take it back (`cure`)."""

    on: str
    at: int
    name: str = ""
    do: str = ""
    """Reaction: delay, fail, drop, crash, hold; empty: what the point does by itself."""
    value: int = 0
    """Nanoseconds of a delay, errno of a failure."""
    bits: int = 0
    val: int = 0
    cure: bool = False

    @property
    def label(self) -> str:
        """The step in short."""
        verb = "cure" if self.cure else self.do or "arm"
        return f"fault: {verb} {self.name or hex(self.at)} on {self.on}"


class Race(Step, frozen=True, kw_only=True):
    """Two processes of a node meet: who is first at its point waits for the other at the other."""

    on: str
    at: tuple[int, int]
    names: tuple[str, str]

    @property
    def label(self) -> str:
        """The step in short."""
        return f"race: {' | '.join(self.names)} on {self.on}"


class Disk(Step, frozen=True, kw_only=True):
    """Disks of a server's targets that are slow, full, failing, or well again."""

    node: str
    targets: list[str] = []
    """Short names (OST0001); none: all of the node."""
    state: Literal["slow", "full", "eio", "readonly", "ok"]
    delay_ns: int = 0
    text: str

    @property
    def label(self) -> str:
        """The step as it is written."""
        return f"disk: {self.text}"


class ClockJump(Step, frozen=True, kw_only=True):
    """A node's date is set forwards or backwards; its timers do not notice."""

    node: str
    by_ns: int
    text: str

    @property
    def label(self) -> str:
        """The step as it is written."""
        return f"clock: {self.text}"


class Failover(Step, frozen=True, kw_only=True):
    """The targets of a server move to its partner, or (without one) back home."""

    node: str
    to: str = ""
    text: str

    @property
    def label(self) -> str:
        """The step as it is written."""
        return f"fail: {self.text}"


class Power(Step, frozen=True, kw_only=True):
    """Take a node's power, or Lustre on it, away or give it back."""

    node: str
    action: Literal["kill", "kill -9", "start", "power-cycle", "mount", "umount"]

    @property
    def label(self) -> str:
        """The step as it is written."""
        return f"{self.node}: {self.action}"


class Parallel(Step, frozen=True, kw_only=True):
    """Commands and power switches at once; the step ends with the last of them."""

    steps: list[Command | Power]

    @property
    def label(self) -> str:
        """The step in short."""
        return f"parallel: {len(self.steps)} steps"


class Sequence(Step, frozen=True, kw_only=True):
    """Steps one after the other, beside the steps that follow until a wait for its name."""

    steps: list[AnyStep]
    background: str
    for_ns: int = 0
    """After so long no further step of it is begun; 0: all are."""

    @property
    def label(self) -> str:
        """The step in short."""
        return f"sequence {self.background}: {len(self.steps)} steps"


AnyStep = (
    Command | Parallel | Wait | Net | Fault | Race | Disk | ClockJump | Failover | Power | Sequence
)


class Scenario(Model, frozen=True, kw_only=True):
    """One scenario: the story of a regression, of a behaviour, or any other sequence of steps."""

    ticket: str = ""
    title: str
    history: History | None = None
    covers: list[CoveredTest] = []
    """The tests of Lustre that a behaviour corresponds to, in place of ticket and history."""
    cluster: ClusterSpec = ClusterSpec()
    steps: list[AnyStep]
    virtual_time: bool = False
    """It needs virtual time (long waits), so that it does not run live."""
    strict: bool = False
    """No call may fail with EIO or the like but of a client that was evicted."""
    limit_ns: int = 0
    """After so long the run is over, and who is still busy is told; 0: there is no limit."""
    notes: str = ""
    name: str = msgspec.field(name="_name", default="")
    """"xattr/lu_10787": where it stands among the scenarios."""
    path: str = msgspec.field(name="_path", default="")

    @property
    def label(self) -> str:
        """What it is called in a table: its ticket, else its own name."""
        return self.ticket or self.name.rpartition("/")[2]

    @property
    def area(self) -> str:
        """The folder it stands in: xattr, sysfs, time, ..."""
        return self.name.rpartition("/")[0].rpartition("/")[2]

"""Random process programs for any kernel with SimPy's API, and what is seen while they run.

A program is plain data: resources, events that processes share, and per process a list of
steps. `trace` runs it and returns everything that can be told from outside, in order.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

PROCESSES, EVENTS = 5, 4

delays = st.one_of(st.integers(0, 6), st.sampled_from([0.5, 1.5, 2.0, 3]))
indices = st.integers(0, 3)

leaves = st.one_of(
    st.tuples(st.just("timeout"), delays),
    st.tuples(st.just("event"), indices),
    st.tuples(st.just("process"), st.integers(0, PROCESSES - 1)),
)
trees = st.recursive(
    leaves,
    lambda inner: st.tuples(
        st.sampled_from(["all", "any", "and", "or"]), st.lists(inner, max_size=3)
    ),
    max_leaves=5,
)

simple = st.one_of(
    st.tuples(st.just("wait"), trees),
    st.tuples(st.just("wait"), st.tuples(st.just("timeout"), delays)),
    st.tuples(st.just("succeed"), indices, st.integers(0, 9)),
    st.tuples(st.just("fail"), indices),
    st.tuples(st.just("defuse"), indices),
    st.tuples(st.just("trigger"), indices, indices),
    st.tuples(st.just("callback"), indices),
    st.tuples(st.just("interrupt"), st.integers(0, PROCESSES - 1)),
    st.tuples(st.just("schedule"), delays, st.integers(-2, 3)),
    st.tuples(st.just("put"), st.sampled_from(["store", "filter", "priority"]), st.integers(0, 5)),
    st.tuples(st.just("get"), st.sampled_from(["store", "filter", "priority"]), st.integers(0, 5)),
    st.tuples(st.just("pour"), st.integers(0, 4)),
    st.tuples(st.just("drain"), st.integers(0, 4)),
    st.tuples(st.just("release_early"), indices),
    st.tuples(st.just("raise")),
    st.tuples(st.just("yield_nonsense")),
    st.tuples(st.just("negative")),
)
steps = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.tuples(st.just("use"), st.integers(0, 2), st.integers(0, 3), st.booleans(), inner),
        st.tuples(st.just("spawn"), st.lists(inner, max_size=3), st.booleans()),
        st.tuples(st.just("try"), inner),
    ),
    max_leaves=4,
)
programs = st.fixed_dictionaries(
    {
        "start": st.sampled_from([0, 0, 0, 5, 0.25, 2**62, -3]),
        "capacity": st.integers(1, 3),
        "processes": st.lists(st.lists(steps, max_size=6), min_size=1, max_size=PROCESSES),
        "until": st.lists(st.integers(1, 9), max_size=2),
    }
)


class World:
    """What the processes of one run share."""

    def __init__(self, sim: Any, program: dict[str, Any]) -> None:
        self.sim = sim
        self.log: list[Any] = []
        self.env = env = sim.Environment(program["start"])
        capacity = program["capacity"]
        self.events = [env.event() for _ in range(EVENTS)]
        self.slots = [
            sim.Resource(env, capacity),
            sim.PriorityResource(env, capacity),
            sim.PreemptiveResource(env, capacity),
        ]
        self.stores = {
            "store": sim.Store(env, capacity),
            "filter": sim.FilterStore(env, capacity),
            "priority": sim.PriorityStore(env),
        }
        self.tank = sim.Container(env, 7, init=3)
        self.processes: list[Any] = []
        for number, todo in enumerate(program["processes"]):
            self.processes.append(env.process(self.process(f"p{number}", todo)))

    def note(self, *what: Any) -> None:
        self.log.append((repr(self.env.now), *(self.told(one) for one in what)))

    def told(self, value: Any) -> Any:
        """A value without addresses or the kernel's own names."""
        if isinstance(value, self.sim.Event):
            return (type(value).__name__, value.triggered, value.processed)
        if isinstance(value, self.sim.Interrupt):
            return ("Interrupt", self.told(value.cause))
        if isinstance(value, BaseException):
            return (type(value).__name__, [self.told(arg) for arg in value.args])
        if hasattr(value, "usage_since"):
            return ("Preempted", self.told(value.by), value.usage_since)
        if hasattr(value, "todict"):
            return [(self.told(event), self.told(got)) for event, got in value.todict().items()]
        return repr(value).split(" at 0x")[0]

    def process(self, name: str, todo: list[Any]) -> Any:
        for step in todo:
            try:
                yield from self.step(name, step)
            except self.sim.Interrupt as interrupt:
                self.note(name, "interrupted", interrupt)
            except RuntimeError as error:
                if "Invalid yield" in str(error):
                    raise
                self.note(name, "refused", str(error).split(" at 0x")[0])
        return name

    def awaited(self, tree: Any) -> Any:
        kind, what = tree
        if kind == "timeout":
            return self.env.timeout(what, value=what)
        if kind == "event":
            return self.events[what]
        if kind == "process":
            return self.processes[what % len(self.processes)]
        events = [self.awaited(one) for one in what]
        if kind in ("and", "or") and events:
            both = events[0]
            for event in events[1:]:
                both = both & event if kind == "and" else both | event
            return both
        return (self.env.all_of if kind in ("all", "and") else self.env.any_of)(events)

    def step(self, name: str, step: Any) -> Any:
        kind, *args = step
        yield from getattr(self, f"do_{kind}")(name, *args)
        self.note(name, kind)

    def do_wait(self, name: str, tree: Any) -> Any:
        try:
            got = yield self.awaited(tree)
        except (ValueError, KeyError) as error:
            self.note(name, "failed", error, error.__cause__)
        else:
            self.note(name, "got", got)

    def do_succeed(self, name: str, index: int, value: int) -> Any:
        self.events[index].succeed(value)
        yield from ()

    def do_fail(self, name: str, index: int) -> Any:
        self.events[index].fail(ValueError("failed by", name))
        yield from ()

    def do_defuse(self, name: str, index: int) -> Any:
        self.events[index].defused = True
        yield from ()

    def do_trigger(self, name: str, index: int, other: int) -> Any:
        if self.events[other].triggered and not self.events[index].triggered:
            self.events[index].trigger(self.events[other])
        yield from ()

    def do_callback(self, name: str, index: int) -> Any:
        event = self.events[index]
        self.note(name, "callbacks", event.callbacks is None)
        if event.callbacks is not None:
            event.callbacks.append(lambda event: self.note("called", name, event, event._value))
        yield from ()

    def do_interrupt(self, name: str, index: int) -> Any:
        self.processes[index % len(self.processes)].interrupt((name, index))
        yield from ()

    def do_schedule(self, name: str, delay: Any, priority: int) -> Any:
        event = self.env.event()
        event._ok, event._value = True, priority
        event.callbacks.append(lambda event: self.note("scheduled", event._value))
        self.env.schedule(event, priority=priority, delay=delay)
        yield from ()

    def do_put(self, name: str, store: str, item: int) -> Any:
        with self.stores[store].put(item) as put:
            yield put | self.env.timeout(3)
            self.note(name, "put", put)

    def do_get(self, name: str, store: str, item: int) -> Any:
        kind = self.stores[store]
        got = kind.get(lambda have: have >= item) if store == "filter" else kind.get()
        with got as get:
            yield get | self.env.timeout(4)
            self.note(name, "got", get, list(kind.items), len(kind.get_queue), len(kind.put_queue))

    def do_pour(self, name: str, amount: int) -> Any:
        try:
            with self.tank.put(amount) as put:
                yield put | self.env.timeout(2)
        except ValueError as error:
            self.note(name, error)
        self.note(name, "level", self.tank.level)

    def do_drain(self, name: str, amount: int) -> Any:
        try:
            with self.tank.get(amount) as get:
                yield get | self.env.timeout(2)
        except ValueError as error:
            self.note(name, error)
        self.note(name, "level", self.tank.level)

    def do_release_early(self, name: str, index: int) -> Any:
        slot = self.slots[index % 3]
        if slot.users:
            yield slot.release(slot.users[0])
        self.note(name, slot.count, len(slot.queue))

    def do_raise(self, name: str) -> Any:
        raise KeyError(name)
        yield

    def do_yield_nonsense(self, name: str) -> Any:
        yield name

    def do_negative(self, name: str) -> Any:
        try:
            yield self.env.timeout(-1)
        except ValueError as error:
            self.note(name, error)

    def do_use(self, name: str, which: int, priority: int, preempt: bool, inner: Any) -> Any:
        slot = self.slots[which]
        asked = slot.request() if which == 0 else slot.request(priority, preempt)
        with asked as request:
            yield request
            self.note(name, "uses", request.usage_since, slot.count, len(slot.queue))
            yield from self.step(name, inner)

    def do_spawn(self, name: str, todo: list[Any], wait: bool) -> Any:
        child = self.env.process(self.process(f"{name}.", todo))
        self.processes.append(child)
        if wait:
            try:
                self.note(name, "child", (yield child))
            except KeyError as error:
                self.note(name, "child failed", error, error.__cause__)

    def do_try(self, name: str, inner: Any) -> Any:
        try:
            yield from self.step(name, inner)
        except KeyError as error:
            self.note(name, "caught", error)


def _observe(world: World) -> None:
    """Note each step: SimPy's documented way to monitor an environment."""
    env, step = world.env, world.env.step

    def observed() -> None:
        if env._queue:
            at, priority, number, event = env._queue[0]
            world.log.append((repr(at), priority, number, type(event).__name__))
        step()

    env.step = observed


def trace(sim: Any, program: dict[str, Any], observe: bool) -> list[Any]:
    """Everything that a run of the program shows."""
    world = World(sim, program)
    if observe:
        _observe(world)
    for until in [*program["until"], None]:
        for _ in range(40):  # each failure that nobody handles ends the run
            try:
                at = None if until is None else world.env.now + until
                world.note("returned", world.env.run(at))
                break
            except Exception as error:
                text = str(error).replace("  ", " ").split(" at 0x")[0]
                world.note("stopped", type(error).__name__, text, error.__cause__)
    world.note("end", world.env._eid, world.env.peek(), world.env.active_process)
    return world.log

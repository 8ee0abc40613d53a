"""How the processes of one node wait for one another.

Does not know what they wait for, nor which runtime runs them. Stands for semaphores, mutexes,
completions, wait queues and kernel timers. Whoever waits is served in the order of arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Generic, TypeVar

from labsim.base.errors import LabsimError
from labsim.runtime.ports import Env, Steps

T = TypeVar("T")


class Permits:
    """A counting semaphore whose size may change while it is in use (max_rpcs_in_flight)."""

    def __init__(self, env: Env, size: int) -> None:
        assert size >= 0
        self._env = env
        self.size = size
        self.taken = 0
        self._waiting: deque[Any] = deque()

    @property
    def free(self) -> int:
        """Permits that nobody holds; negative just after a resize downward."""
        return self.size - self.taken

    @property
    def waiting(self) -> int:
        """How many wait for a permit."""
        return len(self._waiting)

    def try_take(self) -> bool:
        """Take a permit if one is free and nobody waits for it."""
        if self.taken >= self.size or self._waiting:
            return False
        self.taken += 1
        return True

    def take(self) -> Steps[None]:
        """Wait for a permit and hold it."""
        if self.taken < self.size and not self._waiting:
            self.taken += 1
            return
        event = self._env.event()
        self._waiting.append(event)
        try:
            yield event
        except BaseException:
            self._leave(event)
            raise

    def give(self) -> None:
        """Give a permit back; the first in the queue gets it."""
        assert self.taken > 0, "a permit was given back twice"
        self.taken -= 1
        self._admit()

    def resize(self, size: int) -> None:
        """Change how many there are; who holds one keeps it."""
        assert size >= 0
        self.size = size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.taken < self.size:
            self.taken += 1
            self._waiting.popleft().succeed()

    def _leave(self, event: Any) -> None:
        """The process was stopped while it waited: pass on what it may already hold."""
        if event in self._waiting:
            self._waiting.remove(event)
        elif event.triggered:
            self.give()


class Mutex(Permits):
    """One holder at a time."""

    def __init__(self, env: Env) -> None:
        super().__init__(env, 1)

    @property
    def locked(self) -> bool:
        """True while somebody holds it."""
        return self.taken > 0


NOBODY: list[Any] = []
"""Who waits at a gate where nobody does; never changed in place."""


class Gate:
    """Open or closed; who comes while it is closed waits until it opens."""

    __slots__ = ("_env", "_waiting", "opened")

    def __init__(self, env: Env, opened: bool = False) -> None:
        self._env = env
        self.opened = opened
        self._waiting = NOBODY

    @property
    def waiting(self) -> bool:
        """Does anybody wait?"""
        return bool(self._waiting)

    def open(self) -> None:
        """Let everybody through, from now on."""
        self.opened = True
        waiting, self._waiting = self._waiting, NOBODY
        for event in waiting:
            event.succeed()

    def close(self) -> None:
        """Make who comes from now on wait."""
        self.opened = False

    def pulse(self) -> None:
        """Let those through who wait now; the gate stays as it is."""
        waiting, self._waiting = self._waiting, NOBODY
        for event in waiting:
            event.succeed()

    def passed(self) -> Steps[None]:
        """Wait until it is open; it may have closed again when the caller runs."""
        if not self.opened:
            yield self.wait()

    def wait(self) -> Any:
        """An event for the next opening or pulse, also while it is open."""
        event = self._env.event()
        if self._waiting is NOBODY:
            self._waiting = []
        self._waiting.append(event)
        return event


class Interruptible:
    """A call whose waits a signal may end (l_wait_event with LWI_INTR)."""

    __slots__ = ("_asleep", "_env", "signalled")

    def __init__(self, env: Env) -> None:
        self._env = env
        self._asleep: Any = None
        self.signalled = False

    def signal(self) -> None:
        """A signal comes; a wait that begins later ends at once."""
        self.signalled = True
        if self._asleep is not None and not self._asleep.triggered:
            self._asleep.succeed()

    def wait(self, event: Any) -> Steps[bool]:
        """Wait for an event; False where a signal came before it."""
        if not (event.triggered or self.signalled):
            self._asleep = self._env.event()
            yield self._env.any_of([event, self._asleep])
            self._asleep = None
        return bool(event.triggered)


class Mailbox(Generic[T]):
    """A queue without bound: any process puts, any process gets, first come first served."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._items: deque[T] = deque()
        self._waiting: deque[Any] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Hand `item` to who waits longest, or keep it."""
        if self._waiting:
            self._waiting.popleft().succeed(item)
        else:
            self._items.append(item)

    def get(self) -> Steps[T]:
        """Wait for an item and take it."""
        if self._items:
            return self._items.popleft()
        event = self._env.event()
        self._waiting.append(event)
        try:
            item: T = yield event
        except BaseException:
            self._leave(event)
            raise
        return item

    def _leave(self, event: Any) -> None:
        if event in self._waiting:
            self._waiting.remove(event)
        elif event.triggered:
            self._items.appendleft(event.value)


class Deadline:
    """One pending callback of a `Deadlines` queue."""

    __slots__ = ("_queue", "at_ns", "callback")

    def __init__(self, queue: Deadlines, at_ns: int, callback: Callable[[], None]) -> None:
        self._queue = queue
        self.at_ns = at_ns
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Never call back; harmless when it has been called or cancelled already."""
        if self.callback is not None:
            self.callback = None
            self._queue.pending -= 1


class Deadlines:
    """Many deadlines on one timer: an RPC that is answered in time leaves nothing behind.

    The timer is armed for the earliest deadline only. Cancelled ones are skipped when their time
    comes, or swept when they are the larger part of the queue.
    """

    def __init__(self, env: Env) -> None:
        self._env = env
        self._heap: list[tuple[int, int, Deadline]] = []
        self._order = count()
        self._armed_ns: int | None = None
        self.pending = 0
        """Deadlines that may still call back."""

    def add(self, at_ns: int, callback: Callable[[], None]) -> Deadline:
        """Call `callback()` when the time is `at_ns` (at once, if that has passed)."""
        deadline = Deadline(self, at_ns, callback)
        heap = self._heap
        if len(heap) > 8 and len(heap) > 2 * self.pending:
            self._sweep()
            heap = self._heap
        heappush(heap, (at_ns, next(self._order), deadline))
        self.pending += 1
        if self._armed_ns is None or at_ns < self._armed_ns:
            self._arm(at_ns)
        return deadline

    def _sweep(self) -> None:
        self._heap = sorted(entry for entry in self._heap if entry[2].callback is not None)

    def _arm(self, at_ns: int) -> None:
        self._armed_ns = at_ns
        timer = self._env.timeout(max(at_ns - self._env.now, 0), at_ns)
        timer.callbacks.append(self._expired)

    def _expired(self, timer: Any) -> None:
        """Call back everything that is due, then arm for the next; stale timers do nothing.

        Nor does any on a node that has lost its power.
        """
        if timer.value != self._armed_ns or not getattr(self._env, "powered", True):
            return
        self._armed_ns = None
        now = self._env.now
        while self._heap:
            at_ns, _, deadline = self._heap[0]
            callback = deadline.callback
            if callback is not None and at_ns > now:
                break
            heappop(self._heap)
            if callback is not None:
                deadline.callback = None
                self.pending -= 1
                callback()
        if self._heap and (self._armed_ns is None or self._heap[0][0] < self._armed_ns):
            self._arm(self._heap[0][0])


def gather(env: Env, works: list[Steps[T]]) -> Steps[list[T]]:
    """Run several generators side by side; their results in order, or the first error in order.

    Returns when all have ended, so that nothing goes on behind the caller's back.
    """
    if len(works) == 1:
        return [(yield from works[0])]
    results: list[Any] = [None] * len(works)
    errors: list[Exception | None] = [None] * len(works)

    def one(number: int, work: Steps[T]) -> Steps[None]:
        try:
            results[number] = yield from work
        except LabsimError as error:
            errors[number] = error

    yield env.all_of([env.process(one(number, work)) for number, work in enumerate(works)])
    for error in errors:
        if error is not None:
            raise error
    return results

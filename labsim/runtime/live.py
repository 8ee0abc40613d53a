"""The live runtime: simpy's API on the wall clock, asleep in the ZeroMQ poller.

Does not know nodes or messages: sockets are watched by whoever opened them. Stands for the
kernel's scheduler, timers and socket wake-ups. Everything that is due runs first; then what was
queued for sending goes out, sockets are drained, and only then does the process sleep, because
waking up costs more than anything else here.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from queue import SimpleQueue
from socket import socket
from time import monotonic_ns
from typing import Any

import simpy
import zmq
from simpy.core import EmptySchedule, StopSimulation
from simpy.events import NORMAL

from labsim.base.units import NS_PER_MS

SPIN_NS = 0
"""How long to poll without sleeping before sleeping. Spinning takes the CPU from the thread or the
process that is waited for; it pays only where each of them has a CPU of its own."""
BURST = 128
"""Events in a row before the sockets are looked at all the same."""
LONGEST_SLEEP_MS = 60_000


class LiveEnvironment(simpy.Environment):
    """simpy's events on the wall clock; `now` is int nanoseconds since `origin_ns`.

    `origin_ns` is a reading of the monotonic clock, which all processes of a machine share, so
    that the nodes of one cluster agree on the time.
    """

    def __init__(self, origin_ns: int | None = None, spin_ns: int = SPIN_NS) -> None:
        super().__init__(0)
        self.origin_ns = monotonic_ns() if origin_ns is None else origin_ns
        self.spin_ns = spin_ns
        self._now = monotonic_ns() - self.origin_ns
        self.context = zmq.Context()
        self._poller = zmq.Poller()
        self._readers: dict[Any, Callable[[], None]] = {}
        self._flushers: list[Callable[[], None]] = []
        self._burst = 0
        self._helper: Helper | None = None

    @property
    def now(self) -> int:
        """Nanoseconds since the origin, read when the present step began."""
        return self._now  # type: ignore[return-value]

    def schedule(self, event: Any, priority: Any = NORMAL, delay: Any = 0) -> None:
        """As simpy's; a delay counts from the true present, not from when this step began."""
        at = monotonic_ns() - self.origin_ns + delay if delay else self._now
        heappush(self._queue, (at, priority, next(self._eid), event))

    def watch(self, source: Any, on_readable: Callable[[], None]) -> None:
        """Call `on_readable()` whenever a socket or file descriptor has something to read."""
        self._poller.register(source, zmq.POLLIN)
        key = source if isinstance(source, (int, zmq.Socket)) else source.fileno()
        self._readers[key] = on_readable

    def unwatch(self, source: Any) -> None:
        """Stop that."""
        key = source if isinstance(source, (int, zmq.Socket)) else source.fileno()
        if self._readers.pop(key, None) is not None:
            self._poller.unregister(source)

    def before_sleep(self, flush: Callable[[], None]) -> None:
        """Call `flush()` each time nothing more is due: the moment to send what was queued."""
        self._flushers.append(flush)

    def offload(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run `work()` on the helper thread, one at a time, in order; then `done(outcome)` here.

        The outcome is what `work` returned, or the exception that it raised.
        """
        if self._helper is None:
            self._helper = Helper(self)
        self._helper.submit(work, done)

    def free_port(self) -> int:
        """A TCP port of the loopback address that nobody listens on just now."""
        with socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    def step(self) -> None:
        """Run the next event, asleep until it is due or a frame brings an earlier one."""
        queue = self._queue
        self._burst += 1
        if self._burst >= BURST:
            self._flush()
            self._look(0)
        while True:
            now = monotonic_ns() - self.origin_ns
            if queue and queue[0][0] <= now:
                break
            self._sleep()
        self._now = now
        _, _, _, event = heappop(queue)
        callbacks, event.callbacks = event.callbacks, None
        try:
            for callback in callbacks:
                callback(event)
        except StopSimulation:
            event.callbacks = callbacks[callbacks.index(callback) + 1 :]
            self.schedule(event, -1)
            raise
        if not event._ok and not hasattr(event, "_defused"):
            raise event._value

    def run(self, until: Any = None) -> Any:
        """As simpy's. Without sockets or threads to wait for, an empty schedule ends the run."""
        if until is not None and not isinstance(until, simpy.Event):
            until = self.timeout(max(until - self._now, 1))
        if until is not None:
            if until.callbacks is None:
                return until.value
            until.callbacks.append(StopSimulation.callback)
        try:
            while True:
                self.step()
        except StopSimulation as stop:
            return stop.args[0]
        except EmptySchedule:
            if until is not None:
                raise RuntimeError("nothing is left that could end the wait") from None
            return None

    def _sleep(self) -> None:
        """Nothing is due: send what waits, then wait for a frame or for the next timer."""
        self._flush()
        if not self._queue and not self._readers:
            raise EmptySchedule
        spin_until = monotonic_ns() + self.spin_ns
        if not self.spin_ns:
            self._look(self._sleep_ms(spin_until))
            return
        while not self._look(0):
            now = monotonic_ns()
            if self._queue and self._queue[0][0] <= now - self.origin_ns:
                return
            if now >= spin_until:
                self._look(self._sleep_ms(now))
                return

    def _flush(self) -> None:
        for flush in self._flushers:
            flush()

    def _sleep_ms(self, now: int) -> int:
        if not self._queue:
            return LONGEST_SLEEP_MS
        left_ns = self._queue[0][0] - (now - self.origin_ns)
        return min(max(-(-left_ns // NS_PER_MS), 0), LONGEST_SLEEP_MS)

    def _look(self, timeout_ms: int) -> bool:
        """Drain the sockets that have something; True when one had."""
        self._burst = 0
        ready = self._poller.poll(timeout_ms)
        if not ready:
            return False
        self._now = monotonic_ns() - self.origin_ns
        for source, _ in ready:
            reader = self._readers.get(source)
            if reader is not None:
                reader()
        return True

    def close(self) -> None:
        """End the helper thread and the sockets' context, with what was left open."""
        if self._helper is not None:
            self._helper.close()
            self._helper = None
        self.context.destroy(linger=0)


class Helper:
    """One thread that does what would block, and says so through an inproc socket."""

    ADDRESS = "inproc://helper"

    def __init__(self, env: LiveEnvironment) -> None:
        self._env = env
        self._jobs: SimpleQueue[Any] = SimpleQueue()
        self._finished: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._wake = env.context.socket(zmq.PAIR)
        self._wake.linger = 0
        self._wake.bind(self.ADDRESS)
        env.watch(self._wake, self._collect)
        self._thread = threading.Thread(target=self._work, name="helper", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Queue a job."""
        self._jobs.put((work, done))

    def _work(self) -> None:
        signal = self._env.context.socket(zmq.PAIR)
        signal.linger = 0
        signal.connect(self.ADDRESS)
        while True:
            job = self._jobs.get()
            if job is None:
                break
            work, done = job
            try:
                outcome = work()
            except Exception as error:
                outcome = error
            self._finished.append((done, outcome))
            signal.send(b"")
        signal.close()

    def _collect(self) -> None:
        while self._wake.poll(0):
            self._wake.recv()
        while self._finished:
            done, outcome = self._finished.popleft()
            done(outcome)

    def close(self) -> None:
        """Let the jobs end, then the thread."""
        self._jobs.put(None)
        self._thread.join()
        self._env.unwatch(self._wake)
        self._wake.close()


class Switchboard:
    """The controller's end of the control channels: talks to each of its nodes by name.

    `on_message(name, data)` gets what a node says. The socket has mode 0600.
    """

    def __init__(
        self, env: LiveEnvironment, path: str, on_message: Callable[[str, bytes], None]
    ) -> None:
        self._env = env
        self._on_message = on_message
        self._socket = env.context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.bind(f"ipc://{path}")
        os.chmod(path, 0o600)
        env.watch(self._socket, self._readable)

    def send(self, name: str, data: bytes) -> None:
        """Say something to a node; lost when it is not there."""
        self._socket.send_multipart([name.encode(), data])

    def _readable(self) -> None:
        while not self._socket.closed and self._socket.poll(0):
            name, *parts = self._socket.recv_multipart()
            self._on_message(name.decode("ascii", "replace"), b"".join(parts))

    def close(self) -> None:
        """Hang up."""
        self._env.unwatch(self._socket)
        self._socket.close()


class Extension:
    """A node's end of its control channel."""

    def __init__(
        self, env: LiveEnvironment, path: str, name: str, on_message: Callable[[bytes], None]
    ) -> None:
        self._env = env
        self._on_message = on_message
        self._socket = env.context.socket(zmq.DEALER)
        self._socket.linger = 1000
        self._socket.setsockopt(zmq.ROUTING_ID, name.encode())
        self._socket.connect(f"ipc://{path}")
        env.watch(self._socket, self._readable)

    def send(self, data: bytes) -> None:
        """Say something to the controller."""
        self._socket.send(data)

    def _readable(self) -> None:
        while not self._socket.closed and self._socket.poll(0):
            self._on_message(b"".join(self._socket.recv_multipart()))

    def close(self) -> None:
        """Hang up, after what was said has gone out."""
        self._env.unwatch(self._socket)
        self._socket.close()

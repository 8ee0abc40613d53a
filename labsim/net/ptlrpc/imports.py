"""An import: a client's connection to one target.

Knows states, resends and deadlines, not what the requests do. Stands for struct obd_import and
ptlrpc/import.c. Replay of committed-but-lost requests has its states in the table; no server of
this package opens a recovery window yet, so they are not entered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc.connections import Connections
from labsim.net.ptlrpc.request import Request
from labsim.net.ptlrpc.rpc import NOTHING_GRANTED, PtlRpc
from labsim.net.ptlrpc.sender import Sender
from labsim.net.ptlrpc.states import State, after_connect, check_granted, follow
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Gate, Permits
from labsim.wire.constants import (
    MSG_CONNECT_INITIAL,
    MSG_RESENT,
    OBD_CONNECT_AT,
    OBD_CONNECT_JOBSTATS,
)
from labsim.wire.eras import era_of
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.message import Message
from labsim.wire.opcodes import OBD_PING

EIO, EAGAIN, EALREADY, EINPROGRESS, ENOTCONN, ETIMEDOUT = 5, 11, 114, 115, 107, 110
EBUSY, ENODEV, EPROTO, ESHUTDOWN = 16, 19, 71, 108

FOR_NOW = frozenset({ETIMEDOUT, EAGAIN, EALREADY, EBUSY, ENODEV})
"""A first connect that is refused with one of these is tried again; with any other it is over."""

CONNECT_STEP_NS = 5 * NS_PER_S
CONNECT_TIMEOUT_MAX_NS = 50 * NS_PER_S
RETRY_NS = 7 * NS_PER_S
"""PING_INTERVAL_SHORT: how long until a disconnected import tries again."""


Send: TypeAlias = Callable[[Request], Steps[Message]]
"""How a request goes out while the import recovers, and its reply comes back."""


class Import(Sender):
    """The way to one target, over one of the NIDs it may be at.

    `want` builds the obd_connect_data to ask for; `portals` are the default (request, reply) pair;
    `opcodes` are the (connect, disconnect) opcodes. `on_evicted` and `on_active` are plain
    functions that are called when the server has forgotten this client, and when the import is
    usable (again).
    """

    __slots__ = (
        "_free_tags", "_hurry", "_opcodes", "_pinger", "_recovering", "_usable", "_want",
        "callback_cookie", "client_uuid", "connect_data", "conns", "generation", "mod_slots",
        "name", "on_active", "on_evicted", "on_replay_locks", "state", "target_name",
        "target_uuid",
    )  # fmt: skip

    def __init__(
        self,
        rpc: PtlRpc,
        *,
        name: str,
        target_uuid: str,
        client_uuid: str,
        nids: list[int],
        portals: tuple[int, int],
        opcodes: tuple[int, int],
        want: Callable[[], ObdConnectData],
        callback_cookie: int = 0,
    ) -> None:
        super().__init__(rpc, nids[0], portals)
        self.name = name
        self.target_uuid = target_uuid
        self.target_name = target_uuid.removesuffix("_UUID")
        self.client_uuid = client_uuid
        self.conns = Connections(nids)
        self.state = State.NEW
        self.connect_data = NOTHING_GRANTED
        self.generation = 0
        self.callback_cookie = callback_cookie
        self.on_evicted: list[Callable[[], None]] = []
        self.on_active: list[Callable[[], None]] = []
        self.on_replay_locks: list[Callable[[Send], Steps[None]]] = []
        """What tells a server that has started anew of the locks held (REPLAY_LOCKS)."""
        self.mod_slots: Permits | None = None
        self._free_tags: list[int] = []
        self._want = want
        self._opcodes = opcodes
        self._usable = Gate(rpc.env)
        self._recovering = False
        self._hurry: Any = None
        self._pinger: Any = None

    # ---- calling

    def call(self, request: Request) -> Steps[Message]:
        """Send a request and wait for its reply, through reconnects where it may be resent.

        Raises LustreError with the reply's status where that is negative, EIO where the client was
        evicted meanwhile, ETIMEDOUT for a request that must not be resent.
        """
        yield from self._wait_usable(request)
        if request.modifying:
            yield from self._take_tag(request)
        try:
            delay_s = 1
            while True:
                reply: Message = yield from self._attempt(request)
                if reply.status != -EINPROGRESS:
                    break
                yield self.rpc.env.timeout(delay_s * NS_PER_S)
                delay_s += 1
                yield from self._wait_usable(request)
        finally:
            if request.tag:
                self._give_tag(request)
        if reply.status < 0:
            raise LustreError(-reply.status, f"{self.name} opcode {request.opcode}", reply)
        return reply

    def _attempt(self, request: Request) -> Steps[Message]:
        request.done = None
        request.flags = 0
        self.launch(request)
        try:
            reply: Message = yield request.done
        finally:
            self.retire(request)
        return reply

    def _wait_usable(self, request: Request) -> Steps[None]:
        """Wait for the connection; EIO where it comes back without what the caller had before."""
        generation = self.generation
        while self.state is not State.FULL:
            if self.state in (State.CLOSED, State.NEW):
                raise LustreError(ESHUTDOWN, f"{self.name} is not connected")
            if request.no_delay:
                raise LustreError(EAGAIN, f"{self.name} is {self.state.name}")
            yield from self._usable.passed()
        if self.generation != generation:
            raise LustreError(EIO, f"{self.name}: evicted")

    def _take_tag(self, request: Request) -> Steps[None]:
        """One tag for each modifying request under way (obd_get_mod_rpc_slot)."""
        if self.mod_slots is None:
            count = max(self.connect_data.maxmodrpcs, 1)
            self.mod_slots = Permits(self.rpc.env, count)
            self._free_tags = list(range(count, 0, -1))
        yield from self.mod_slots.take()
        request.tag = self._free_tags.pop()

    def _give_tag(self, request: Request) -> None:
        assert self.mod_slots is not None
        self._free_tags.append(request.tag)
        request.tag = 0
        self.mod_slots.give()

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self.state is State.CLOSED

    def granted(self, flag: int) -> bool:
        """True when the server granted the connect flag."""
        return bool(self.connect_data.connect_flags & flag)

    # ---- what replies and deadlines mean

    def answered(self, request: Request, reply: Message) -> None:
        """A reply; one that says the server does not know us starts a reconnect instead."""
        if reply.status in (-ENOTCONN, -ENODEV) and request.opcode not in self._opcodes:
            self._lost("not connected")
            return
        super().answered(request, reply)

    def expired(self, request: Request) -> None:
        """No reply in time: the connection is in doubt, so reconnect, then resend."""
        if request.no_resend:
            super().expired(request)
        if request.opcode not in self._opcodes:
            self._lost("timeout")

    def _lost(self, why: str) -> None:
        if self.state is State.FULL:
            self.rpc.trace.emit("import.lost", self.name, why)
            self._go(State.DISCON)
        if self.state is State.DISCON and not self._recovering:
            self._recovering = True
            self.rpc.env.process(self._reconnect())

    def _go(self, state: State) -> None:
        self.state = follow(self.state, state)
        self.rpc.trace.emit("import.state", self.name, state.name)
        if state is State.FULL:
            self._usable.open()
        else:
            self._usable.close()

    # ---- connecting

    def connect(self) -> Steps[None]:
        """Connect for the first time; keeps trying until the target answers.

        Raises LustreError where the target refuses for good.
        """
        yield from self._connect(first=True)
        self._schedule_ping()

    def _reconnect(self) -> Steps[None]:
        """Connect again; who is refused asks again later, as the pinger of Lustre does."""
        while self.state not in (State.FULL, State.CLOSED):
            try:
                yield from self._connect(first=False)
            except LustreError as error:
                self.rpc.trace.emit("import.refused", self.name, error.errno)
                yield from self._pause(RETRY_NS)
        self._recovering = False

    def _connect(self, first: bool) -> Steps[None]:
        timeout_ns = self.rpc.connect_timeout_ns
        while True:
            self._go(State.CONNECTING)
            if self.conns.select(self.rpc.env.now):
                timeout_ns = min(timeout_ns + CONNECT_STEP_NS, CONNECT_TIMEOUT_MAX_NS)
            self.peer = self.conns.current
            try:
                reply = yield from self._exchange(first, timeout_ns)
            except LustreError as error:
                if self.closed:
                    return
                self._go(State.DISCON)
                if first and error.errno not in FOR_NOW:
                    raise
                if error.errno in (EAGAIN, EBUSY):
                    self.conns.stay()
                pause_ns = min(RETRY_NS, self.rpc.ping_interval_ns)
                if error.errno != ETIMEDOUT:
                    yield from self._pause(pause_ns)
                if self.closed:
                    return
                continue
            if self.state is State.CONNECTING:
                self._connected(reply, first)
            return

    def _pause(self, pause_ns: int) -> Steps[None]:
        """Wait before the next attempt, unless it is known where the target has come up."""
        env = self.rpc.env
        self._hurry = env.event()
        yield env.any_of([self._hurry, env.timeout(pause_ns)])
        self._hurry = None

    def recover(self, nid: int, instance: int) -> bool:
        """The target is up on this node, for the `instance`th time: go there, without waiting.

        False where the import is there, or may not be on that node (ptlrpc_recover_import).
        """
        connected = self.connect_data.instance == instance
        if connected or self.state in (State.NEW, State.CLOSED) or not self.conns.prefer(nid):
            return False
        self._lost("moved")
        if self._hurry is not None and not self._hurry.triggered:
            self._hurry.succeed()
        return True

    def _exchange(self, first: bool, timeout_ns: int) -> Steps[Message]:
        """One connect request and its reply."""
        self.conn_cnt += 1
        request = Request(
            self._opcodes[0],
            no_resend=True,
            timeout_ns=timeout_ns,
            op_flags=MSG_CONNECT_INITIAL if first else 0,
            tgtuuid=self.target_uuid,
            cluuid=self.client_uuid,
            conn=self.callback_cookie,
            connect_data=self._want(),
        )
        self.launch(request)
        try:
            reply: Message = yield request.done
        finally:
            self.retire(request)
        if reply.status < 0:
            raise LustreError(-reply.status, f"{self.name}: connect refused")
        return reply

    def _connected(self, reply: Message, first: bool) -> None:
        granted: ObdConnectData = reply["connect_data"]
        try:
            check_granted(self._want().connect_flags, granted.connect_flags)
        except ProtocolError as error:
            self.rpc.refuse(self.peer, error)
            self._go(State.DISCON)
            raise LustreError(EPROTO, str(error)) from None
        self.conns.succeeded()
        same = reply.body.handle == self.handle
        self.handle = reply.body.handle
        self.connect_data = granted
        self.era = era_of(min(self._want().version, granted.version))
        self.at_granted = self.granted(OBD_CONNECT_AT)
        self.jobs_granted = self.granted(OBD_CONNECT_JOBSTATS)
        state = after_connect(reply.body.op_flags, first, same)
        self._go(state)
        if state is State.EVICTED:
            self._invalidate()
            self._go(State.RECOVER)
        if self.state is State.RECOVER:
            self._resend()
            self._go(State.FULL)
        for hook in self.on_active:
            hook()

    def _invalidate(self) -> None:
        """The server has forgotten us: what was under way fails, what was cached is void."""
        self.generation += 1
        for request in list(self.outstanding.values()):
            self.fail(request, LustreError(EIO, f"{self.name}: evicted"))
        for hook in self.on_evicted:
            hook()

    def _resend(self) -> None:
        """Send again, in xid order, what has had no reply (MSG_RESENT)."""
        for request in sorted(self.outstanding.values(), key=lambda one: one.xid):
            if request.done.triggered:
                continue
            if request.no_resend:
                self.fail(request, LustreError(ETIMEDOUT, f"{self.name}: not resent"))
                continue
            request.flags |= MSG_RESENT
            self.send(request, fresh_mbits=True)

    # ---- leaving

    def disconnect(self) -> Steps[None]:
        """Tell the target goodbye, and close; a target that does not answer is left alone."""
        if self.state is State.FULL:
            request = Request(self._opcodes[1], no_resend=True, no_delay=True)
            request.timeout_ns = self.rpc.connect_timeout_ns
            try:
                yield from self.call(request)
            except LustreError as error:
                self.rpc.trace.emit("import.goodbye", self.name, error.errno)
        self.close()

    def close(self) -> None:
        """Stop using the import; requests under way fail with ESHUTDOWN."""
        if self.state is not State.CLOSED:
            self._go(State.CLOSED)
        if self._pinger is not None:
            self._pinger.cancel()
            self._pinger = None
        for request in list(self.outstanding.values()):
            self.fail(request, LustreError(ESHUTDOWN, f"{self.name} was closed"))
        self._usable.pulse()

    # ---- pinging

    def _schedule_ping(self) -> None:
        due_ns = self.rpc.env.now + self.rpc.ping_interval_ns
        self._pinger = self.rpc.deadlines.add(due_ns, self._ping_due)

    def _ping_due(self) -> None:
        if self.state is State.CLOSED:
            return
        idle_ns = self.rpc.env.now - self.last_reply_ns
        if self.state is State.FULL and idle_ns >= self.rpc.ping_interval_ns:
            self.rpc.env.process(self._ping())
        self._schedule_ping()

    def _ping(self) -> Steps[None]:
        request = Request(OBD_PING, no_resend=True, no_delay=True)
        try:
            yield from self.call(request)
        except LustreError as error:
            self.rpc.trace.emit("import.ping", self.name, error.errno)

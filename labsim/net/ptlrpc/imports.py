"""An import: a client's connection to one target.

Knows states, resends and deadlines, not what the requests do. Stands for struct obd_import and
ptlrpc/import.c. What is kept for replay is in `replay`, pings and idling in `pinger`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from labsim.base.errors import LustreError, ProtocolError
from labsim.base.units import NS_PER_S
from labsim.net.ptlrpc import points
from labsim.net.ptlrpc.connections import Connections
from labsim.net.ptlrpc.faulty import slowly
from labsim.net.ptlrpc.pinger import Pinged
from labsim.net.ptlrpc.replay import GONE, Send
from labsim.net.ptlrpc.request import Request
from labsim.net.ptlrpc.rpc import NOTHING_GRANTED, PtlRpc
from labsim.net.ptlrpc.states import State, after_connect, check_granted, follow
from labsim.runtime.ports import Steps
from labsim.runtime.sync import Gate
from labsim.wire.constants import (
    MSG_CONNECT_INITIAL,
    MSG_CONNECT_RECONNECT,
    MSG_CONNECT_RECOVERING,
    MSG_CONNECT_REPLAYABLE,
    MSG_CONNECT_TRANSNO,
    OBD_CONNECT_AT,
    OBD_CONNECT_JOBSTATS,
    PTL_RPC_MSG_ERR,
)
from labsim.wire.eras import era_of
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.message import Message

EIO, EAGAIN, EALREADY, EINPROGRESS, ENOTCONN, ETIMEDOUT = 5, 11, 114, 115, 107, 110
ENOENT, EINVAL = 2, 22
EBUSY, ENODEV, EPROTO, ESHUTDOWN = 16, 19, 71, 108

FOR_NOW = frozenset({ETIMEDOUT, EAGAIN, EALREADY, EBUSY, ENODEV})
"""A first connect that is refused with one of these is tried again; with any other it is over."""

INTERRUPTED = frozenset({ETIMEDOUT, ENOTCONN, ENODEV})
"""How a recovery ends whose server has gone again; it begins anew, once a second at most."""

CONNECT_STEP_NS = 5 * NS_PER_S
CONNECT_TIMEOUT_MAX_NS = 50 * NS_PER_S
RETRY_NS = 7 * NS_PER_S
"""PING_INTERVAL_SHORT: how long until a disconnected import tries again."""

HISTORY = struct.Struct("<qB")
"""An entry of an import's history: the date, and the state it went to."""
HISTORY_LENGTH = 16
"""IMP_STATE_HIST_LEN."""

__all__ = ["HISTORY", "Import", "Send"]


class Import(Pinged):
    """The way to one target, over one of the NIDs it may be at.

    `want` builds the obd_connect_data to ask for; `portals` are the default (request, reply) pair;
    `opcodes` are the (connect, disconnect) opcodes. `on_evicted` and `on_active` are plain
    functions that are called when the server has forgotten this client, and when the import is
    usable (again); `on_idle` is one for when it has been given up as nobody needs it.
    """

    __slots__ = (
        "_hurry", "_opcodes", "_recovering", "_resumes_in", "_usable", "_waking", "_want",
        "callback_cookie", "client_uuid", "connect_data", "conns", "deactivated", "generation",
        "history", "invalid", "on_active", "on_evicted", "on_idle", "target_name",
        "target_uuid", "timeouts",
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
        self.history = b""
        self.connect_data = NOTHING_GRANTED
        self.generation = 0
        self.timeouts = 0
        """Requests that had no reply in time."""
        self.callback_cookie = callback_cookie
        self.deactivated = False
        """An administrator has switched the import off (imp_deactive)."""
        self.invalid = False
        """What it held was dropped without a word: a reconnect must be an eviction."""
        self.on_evicted: tuple[Callable[[], None], ...] = ()
        self.on_idle: Callable[[], None] | None = None
        self.on_active: tuple[Callable[[], None], ...] = ()
        self._want = want
        self._opcodes = opcodes
        self._usable = Gate(rpc.env)
        self._recovering = self._waking = False
        self._resumes_in = State.REPLAY
        self._hurry: Any = None

    # ---- calling

    def call(self, request: Request) -> Steps[Message]:
        """Send a request and wait for its reply, through reconnects where it may be resent.

        One that is told EINPROGRESS goes out again, a second later each time, up to its timeout
        (after_reply). Raises LustreError with the reply's status where that is negative, EIO where
        the client was evicted meanwhile, ETIMEDOUT for a request that must not be resent.
        """
        generation = self.generation
        delay_s = 0
        while True:
            if self.state is not State.FULL or self.deactivated:
                yield from self.wait_usable(request)
            if self.generation != generation:
                raise LustreError(EIO, f"{self.name}: evicted")
            request.done = None
            request.flags = 0
            self.launch(request)
            try:
                reply: Message = yield request.done
                if self.rpc.faults:
                    yield from slowly(self.rpc, request)
            finally:
                self.retire(request)
            if reply.body.status != -EINPROGRESS or request.no_resend or request.no_retry:
                break
            delay_s += 1
            yield self.rpc.env.timeout(min(delay_s * NS_PER_S, self.patience_ns(request)))
        if reply.body.status < 0:
            raise LustreError(-reply.body.status, f"{self.name} opcode {request.opcode}", reply)
        return reply

    def wait_usable(self, request: Request) -> Steps[None]:
        """Wait for the connection; an idle import gets one again."""
        if self.state is State.IDLE and not self.deactivated:
            self._wake()
        while self.state is not State.FULL or self.deactivated:
            if self.state in (State.CLOSED, State.NEW) or self.deactivated:
                raise LustreError(ESHUTDOWN, f"{self.name} is not connected")
            if request.no_delay and not self._waking:
                raise LustreError(EAGAIN, f"{self.name} is {self.state.name}")
            yield from self._usable.passed()

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
        body = reply.body
        if request.recovers:
            self.committed = max(self.committed, body.last_committed)
        elif body.type == PTL_RPC_MSG_ERR and body.status in GONE:
            self.lost("not connected")
            return
        else:
            self.learn(request, reply)
            if self.commit_expected:
                self.expect_commit()
        super().answered(request, reply)

    def expired(self, request: Request) -> None:
        """No reply in time: the connection is in doubt, so reconnect, then resend."""
        self.timeouts += 1
        if request.no_resend or request.recovers:
            super().expired(request)
        if not request.recovers:
            self.lost("timeout")

    def lost(self, why: str) -> None:
        """Connect anew, if that is not under way (ptlrpc_fail_import)."""
        if self.state is State.FULL:
            self.rpc.trace.emit("import.lost", self.name, why)
            self._go(State.DISCON)
        if self.state is State.DISCON:
            self._start_recovery()

    def _start_recovery(self) -> None:
        if not self._recovering and not self.deactivated:
            self._recovering = True
            self.rpc.env.process(self._recover())

    def _go(self, state: State) -> None:
        self.state = follow(self.state, state)
        self.rpc.trace.emit("import.state", self.name, state.name)
        entry = HISTORY.pack(self.rpc.now_s, state)
        self.history = self.history[-HISTORY.size * (HISTORY_LENGTH - 1) :] + entry
        if state >= State.REPLAY:
            waits = state is State.REPLAY_WAIT
            self._resumes_in = State.REPLAY_LOCKS if waits else State.REPLAY
        if state is State.FULL:
            self._waking = False
            self._usable.open()
            self.watch()
        else:
            self._usable.close()

    # ---- connecting

    def connect(self) -> Steps[None]:
        """Connect for the first time; keeps trying until the target answers.

        Raises LustreError where the target refuses for good.
        """
        self._recovering = True
        try:
            yield from self._bring_up(first=True)
        finally:
            self._recovering = False

    def _recover(self) -> Steps[None]:
        yield from self._bring_up(first=False)
        self._recovering = False

    def _bring_up(self, first: bool) -> Steps[None]:
        """Connect, and do what the server's state asks for, until the import is FULL.

        Whatever goes wrong on the way begins it again.
        """
        while not (self.closed or self.deactivated or self.state is State.FULL):
            began_ns = self.rpc.env.now
            try:
                yield from self._connect(first)
                yield from self._restore()
            except LustreError as error:
                if self.closed:
                    return
                if first and not self.handle:
                    raise
                self.rpc.trace.emit("import.refused", self.name, error.errno)
                if error.errno not in INTERRUPTED:
                    yield from self._pause(RETRY_NS)
                elif self.rpc.env.now - began_ns < NS_PER_S:
                    yield from self._pause(NS_PER_S)
                yield from self._held_off()

    def _connect(self, first: bool) -> Steps[None]:
        timeout_ns = self.rpc.connect_timeout_ns
        while True:
            if self.state is not State.CONNECTING:
                self._go(State.CONNECTING)
            if self.conns.select(self.rpc.env.now):
                timeout_ns = min(timeout_ns + CONNECT_STEP_NS, CONNECT_TIMEOUT_MAX_NS)
            self.peer = self.conns.current
            try:
                reply = yield from self._exchange(timeout_ns)
            except LustreError as error:
                if self.closed:
                    return
                self._go(State.DISCON)
                if first and error.errno not in FOR_NOW:
                    raise
                if error.errno in (EAGAIN, EBUSY):
                    self.conns.stay()
                if error.errno != ETIMEDOUT:
                    yield from self._pause(self.rpc.short_interval_ns)
                yield from self._held_off()
                if self.closed or self.deactivated:
                    return
                continue
            if self.state is State.CONNECTING:
                self._connected(reply)
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
        self._renew("moved")
        return True

    def reconnect(self, nid: int = 0) -> None:
        """Connect anew, to a node of its list or as before (ptlrpc_recover_import).

        EINVAL where it is switched off, ENOENT for any other node, EALREADY where it is under way.
        """
        if self.deactivated or self.state in (State.NEW, State.CLOSED):
            raise LustreError(EINVAL, f"{self.name} is not to connect")
        strange = bool(nid) and not self.conns.prefer(nid)
        under_way = self.state not in (State.FULL, State.DISCON)
        self._renew("told to")
        if strange or under_way:
            raise LustreError(ENOENT if strange else EALREADY, self.name)

    def _renew(self, why: str) -> None:
        self.lost(why)
        if self._hurry is not None and not self._hurry.triggered:
            self._hurry.succeed()

    def _held_off(self) -> Steps[None]:
        """No further attempt while the pinger is to leave the import alone."""
        hit = self.rpc.faults.hit
        while not self.closed and (not self.pinger_recovers or hit(points.PTLRPC_IMP_DEACTIVE)):
            yield from self._pause(RETRY_NS)

    def _exchange(self, timeout_ns: int) -> Steps[Message]:
        """One connect request and its reply; it says what the first replay would be."""
        self.conn_cnt += 1
        wanted = self._want()
        op_flags = 0 if self.handle else MSG_CONNECT_INITIAL
        if transno := self.first_transno:
            wanted = wanted.replace(transno=transno)
            op_flags |= MSG_CONNECT_TRANSNO
        request = Request(
            self._opcodes[0],
            no_resend=True,
            timeout_ns=timeout_ns,
            op_flags=op_flags,
            tgtuuid=self.target_uuid,
            cluuid=self.client_uuid,
            conn=self.callback_cookie,
            connect_data=wanted,
        )
        reply = yield from self.ask(request)
        if reply.status < 0:
            raise LustreError(-reply.status, f"{self.name}: connect refused")
        return reply

    def _connected(self, reply: Message) -> None:
        granted: ObdConnectData = reply["connect_data"]
        try:
            check_granted(self._want().connect_flags, granted.connect_flags)
        except ProtocolError as error:
            self.rpc.refuse(self.peer, error)
            self._go(State.DISCON)
            raise LustreError(EPROTO, str(error)) from None
        self.conns.succeeded()
        body = reply.body
        first, same = not self.handle, body.handle == self.handle
        self.handle = body.handle
        self.connect_data = granted
        self.era = era_of(min(self._want().version, granted.version))
        self.at_granted = self.granted(OBD_CONNECT_AT)
        self.jobs_granted = self.granted(OBD_CONNECT_JOBSTATS)
        if first:
            self.replayable = bool(body.op_flags & MSG_CONNECT_REPLAYABLE)
        if 0 < body.last_committed < self.committed:
            told = (self.committed, body.last_committed)
            self.rpc.trace.emit("import.back_in_time", self.name, *told)
        again = body.op_flags & MSG_CONNECT_RECONNECT
        if not again:
            self.life = self.conn_cnt
        state = after_connect(body.op_flags, first, same, self._resumes_in, self.invalid)
        if state is State.REPLAY and not again:
            self.prepare_replay()
        elif again and body.op_flags & MSG_CONNECT_RECOVERING:
            self.resume_replay()
        self._go(state)

    def _restore(self) -> Steps[None]:
        """From what the connect reply led to, up to FULL (ptlrpc_import_recovery_state_machine).

        Raises LustreError where the connection breaks on the way, or the server changes its mind.
        """
        if self.state is State.EVICTED:
            self._invalidate()
            self._go(State.RECOVER)
        if self.state is State.REPLAY:
            yield from self.replay()
            self._go(State.REPLAY_LOCKS)
            yield from self.replay_locks()
        if self.state is State.REPLAY_LOCKS:
            self._go(State.REPLAY_WAIT)
            yield from self.finish_replay()
            self._go(State.RECOVER)
        if self.state is State.RECOVER:
            self._resend()
            self._go(State.DISCON if self.deactivated else State.FULL)
        if self.state is State.FULL:
            self.invalid = False
            for hook in self.on_active:
                hook()

    def _invalidate(self) -> None:
        """The server has forgotten us: what was under way fails, what was cached is void."""
        if not self.invalid:
            self.generation += 1
            self.invalid = True
            for request in list(self.outstanding.values()):
                self.fail(request, LustreError(EIO, f"{self.name}: evicted"))
            self.lose_all()
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
            super().resend(request)

    def resend(self, request: Request) -> None:
        """Send a request again; without a connection it waits until there is one."""
        if self.state is State.FULL or request.recovers:
            super().resend(request)

    # ---- idling, and being switched off

    def retreat(self) -> Steps[None]:
        """Disconnect from a target that nobody needs (ptlrpc_disconnect_and_idle_import)."""
        yield from self.rpc.faults.visit(points.PTLRPC_IDLE_RACE)
        if self.state is not State.FULL or not self.idle:
            return
        self._go(State.CONNECTING)
        yield from self._say_goodbye()
        if self.closed:
            return
        self.handle = 0
        if self.on_idle is not None:
            self.on_idle()
        if self._usable.waiting:
            self._wake()
        else:
            self._go(State.IDLE)

    def _wake(self) -> None:
        """Somebody needs the connection again, and will wait for it."""
        self._waking = True
        self._start_recovery()

    def wake(self) -> None:
        """Connect an idle import again."""
        if self.state is State.IDLE:
            self._wake()

    def deactivate(self) -> None:
        """Switch the import off: what is under way fails, what is cached is dropped."""
        if not self.deactivated:
            self.deactivated = True
            self._invalidate()
            self._usable.pulse()

    def activate(self) -> None:
        """Switch it on again: it reconnects, and then knows nothing."""
        if self.deactivated:
            self.deactivated = False
            self.lost("switched on again")

    # ---- leaving

    def disconnect(self) -> Steps[None]:
        """Tell the target goodbye, and close; a target that does not answer is left alone."""
        if self.state is State.FULL:
            yield from self._say_goodbye()
        self.close()

    def _say_goodbye(self) -> Steps[None]:
        request = Request(self._opcodes[1], no_resend=True)
        request.timeout_ns = self.rpc.connect_timeout_ns
        try:
            yield from self.ask(request)
        except LustreError as error:
            self.rpc.trace.emit("import.goodbye", self.name, error.errno)

    def close(self) -> None:
        """Stop using the import; requests under way fail with ESHUTDOWN."""
        if self.state is not State.CLOSED:
            self._go(State.CLOSED)
        self.unwatch()
        for request in list(self.outstanding.values()):
            self.fail(request, LustreError(ESHUTDOWN, f"{self.name} was closed"))
        self._usable.pulse()

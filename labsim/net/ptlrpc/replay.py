"""What a client keeps of its requests until the server has them on disk, and plays again.

Knows transaction numbers, not connections nor what the requests do. Stands for imp_replay_list and
imp_committed_list with after_reply, ptlrpc_free_committed and ptlrpc_retain_replayable_request
(ptlrpc/client.c), and for ptlrpc_replay_next and ptlrpc_replay_interpret.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable
from operator import attrgetter
from typing import TypeAlias

from labsim.base.errors import LustreError
from labsim.net.ptlrpc import points
from labsim.net.ptlrpc.request import Request
from labsim.net.ptlrpc.rpc import PtlRpc
from labsim.net.ptlrpc.sender import Sender
from labsim.runtime.ports import Steps
from labsim.wire.constants import (
    MSG_LOCK_REPLAY_DONE,
    MSG_REPLAY,
    MSG_REQ_REPLAY_DONE,
    MSG_RESENT,
    PTL_RPC_MSG_ERR,
)
from labsim.wire.message import Message
from labsim.wire.opcodes import OBD_PING

ENODEV, EOVERFLOW, ENOTCONN = 19, 75, 107

GONE = frozenset({-ENOTCONN, -ENODEV})
"""What a server says that does not know us, or is not there (ptlrpc_recoverable_error)."""

Send: TypeAlias = Callable[[Request], Steps[Message]]
"""How a request goes out while the import recovers, and its reply comes back."""

NOTHING: list[Request] = []
"""The log of an import that never kept anything; never changed in place."""

_order = attrgetter("transno", "xid")
_transno = attrgetter("transno")


class Replaying(Sender):
    """The requests of an import that the server may still lose.

    `committed` is the highest last_committed seen; `uncommitted_bytes` counts the data that is
    kept for replay. `last_replayed` is the transno that a recovery under way has come to.
    """

    __slots__ = (
        "_kept", "_log", "_resume", "_to_replay", "committed", "last_replayed", "name",
        "on_replay_locks", "replayable", "replayed", "uncommitted_bytes", "vbr_failed",
    )  # fmt: skip

    def __init__(self, rpc: PtlRpc, peer: int, portals: tuple[int, int]) -> None:
        super().__init__(rpc, peer, portals)
        self.name = ""
        self.committed = 0
        self.replayable = False
        """The target said that it recovers (MSG_CONNECT_REPLAYABLE)."""
        self.uncommitted_bytes = 0
        self.last_replayed = 0
        self.replayed = 0
        """Requests played again so far, over all recoveries."""
        self.vbr_failed = False
        """A replay did not fit what the server has: it will evict us (imp_vbr_failed)."""
        self.on_replay_locks: tuple[Callable[[Send], Steps[None]], ...] = ()
        """What tells a server that has started anew of the locks held (REPLAY_LOCKS)."""
        self._log = NOTHING
        self._kept: dict[int, Request] | None = None
        self._to_replay: dict[int, None] | None = None
        self._resume = False

    @property
    def replay_list(self) -> list[Request]:
        """Everything that a replay would send now, in order."""
        return self._opens() + self._log

    def _opens(self) -> list[Request]:
        """Committed opens of files that stay open."""
        if not self._kept:
            return []
        return sorted((one for one in self._kept.values() if not one.closing), key=_order)

    @property
    def first_transno(self) -> int:
        """The lowest transno to replay; 0 where there is none (ptlrpc_first_transno)."""
        first = self._opens() or self._log
        return first[0].transno if first else 0

    @property
    def commit_expected(self) -> bool:
        """Is there a change that the server has not told to be on disk?"""
        return bool(self._log)

    # ---- keeping

    def learn(self, request: Request, reply: Message) -> None:
        """Take in the first reply to a request: what it changed, and what is committed by now."""
        body = reply.body
        if body.status >= 0:
            request.status = body.status
            if request.on_answer is not None:
                request.on_answer(request, reply)
            transno = body.transno
            if transno and self.replayable and (transno > body.last_committed or request.keep):
                request.transno = transno
                request.pre_versions = body.pre_versions
                self._retain(request)
            else:
                request.transno = transno
                for hook in request.on_commit:
                    hook()
        self.committed = max(self.committed, body.last_committed)
        if self._log and self._log[0].transno <= self.committed:
            self.free_committed()

    def _retain(self, request: Request) -> None:
        self.uncommitted_bytes += request.nbytes
        log = self._log
        if not log:
            self._log = [request]
        elif request.transno > log[-1].transno:
            log.append(request)
        else:
            insort(log, request, key=_order)

    def free_committed(self) -> None:
        """Let go of what is on the server's disk; opens stay, in the list of committed ones."""
        log = self._log
        count = bisect_right(log, self.committed, key=_transno)
        if not count:
            return
        done = log[:count]
        if count == len(log):
            self._log = NOTHING
        else:
            del log[:count]
        for request in done:
            self.uncommitted_bytes -= request.nbytes
            if request.keep:
                if self._kept is None:
                    self._kept = {}
                self._kept[request.xid] = request
            else:
                request.on_replay = None  # which holds the request
            for hook in request.on_commit:
                hook()

    def forget(self, request: Request, unneeded: bool = False) -> None:
        """Keep a request no longer than until it is committed; not even that if `unneeded`.

        An open that made nothing is `unneeded` once its file is closed.
        """
        request.keep = False
        if self._kept is not None and self._kept.pop(request.xid, None) is not None:
            request.on_replay = None
            return
        if not unneeded or not self._log:
            return
        at = bisect_right(self._log, _order(request), key=_order) - 1
        if at >= 0 and self._log[at] is request:
            del self._log[at]
            self.uncommitted_bytes -= request.nbytes
            request.on_replay = None

    def lose_all(self) -> None:
        """The client was evicted: nothing can be replayed, and whoever waits for it is told."""
        lost = [*(self._kept or {}).values(), *self._log]
        self._log, self._kept, self._to_replay = NOTHING, None, None
        self.uncommitted_bytes = 0
        self.vbr_failed = self._resume = False
        for request in lost:
            if request.on_lost is not None:
                request.on_lost(request)

    # ---- replaying

    def prepare_replay(self) -> None:
        """The server has started anew: everything that is kept counts as not replied to again."""
        self.last_replayed = 0
        self._resume = False
        self.free_committed()
        self._to_replay = dict.fromkeys(sorted(request.xid for request in self.replay_list))

    def resume_replay(self) -> None:
        """The connection broke during a replay, and the server still waits: go on where we were."""
        self._resume = True

    def known_replied(self) -> int:
        """As ever, where nothing that is still to be replayed counts as replied to."""
        if self._to_replay is None:
            return super().known_replied()
        return min([*self.outstanding, *self._to_replay]) - 1

    def replay(self) -> Steps[None]:
        """Send what is kept again, in the order of transaction numbers, one at a time.

        Raises LustreError where the connection is lost on the way.
        """
        while (request := self._next()) is not None:
            yield from self.rpc.faults.visit(points.PTLRPC_REPLAY_PAUSE)
            request.flags = MSG_REPLAY | (MSG_RESENT if self._resume else 0)
            self._resume = False
            tell = request.on_replay
            reply = yield from self.ask(request)
            self._replayed(request, reply)
            if tell is not None:
                tell(reply)
        self._resume = False

    def _next(self) -> Request | None:
        """The lowest that is not replayed yet; what has been committed meanwhile is not needed."""
        self.free_committed()
        last = self.last_replayed
        for request in self._opens():
            if request.transno > last:
                return request
        at = bisect_right(self._log, last, key=_transno)
        return self._log[at] if at < len(self._log) else None

    def _replayed(self, request: Request, reply: Message) -> None:
        status = reply.status
        self.replayed += 1
        self.last_replayed = request.transno
        if self._to_replay is not None:
            self._to_replay.pop(request.xid, None)
        trace = self.rpc.trace
        trace.emit("import.replayed", self.name, request.opcode, request.transno, status)
        if status == -EOVERFLOW:
            self.vbr_failed = True
            trace.emit("import.vbr_failed", self.name, request.transno)
        elif min(status, 0) != min(request.status, 0):
            trace.emit("import.replay_status", self.name, request.transno, status, request.status)

    def replay_locks(self) -> Steps[None]:
        """Have everybody who holds locks tell the server."""

        def send(request: Request) -> Steps[Message]:
            request.flags = MSG_REQ_REPLAY_DONE
            reply = yield from self.ask(request)
            if reply.status < 0:
                raise LustreError(-reply.status, f"{self.name}: lock replay", reply)
            return reply

        for hook in self.on_replay_locks:
            yield from hook(send)

    def finish_replay(self) -> Steps[None]:
        """Say that there is nothing more to replay; the answer comes when all clients are done.

        Raises LustreError where the server would not have us, or a replay has failed.
        """
        if not self.rpc.faults.hit(points.PTLRPC_FINISH_REPLAY):
            request = Request(OBD_PING)
            request.flags = MSG_LOCK_REPLAY_DONE | MSG_REQ_REPLAY_DONE
            reply = yield from self.ask(request)
            if reply.status < 0 or self.vbr_failed:
                errno = EOVERFLOW if self.vbr_failed else -reply.status
                raise LustreError(errno, f"{self.name}: recovery failed")
        self._to_replay = None

    def ask(self, request: Request) -> Steps[Message]:
        """Send a part of the recovery, and wait for its reply.

        Raises ETIMEDOUT where none comes, ENOTCONN or ENODEV where the server does not know us;
        then whatever else is under way for the recovery fails as well.
        """
        request.recovers = True
        request.done = self.rpc.env.event()
        self.outstanding[request.xid or self.fresh_xid(request)] = request
        self.send(request, fresh_mbits=True)
        try:
            reply: Message = yield request.done
        except LustreError as error:
            self.fail_recovery(error)
            raise
        finally:
            self.retire(request)
            if not self.outstanding:
                self.outstanding.clear()  # a dict that was emptied one by one keeps its memory
        if reply.body.type == PTL_RPC_MSG_ERR and reply.status in GONE:
            gone = LustreError(-reply.status, f"{self.name}: lost again")
            self.fail_recovery(gone)
            raise gone
        return reply

    def fail_recovery(self, error: LustreError) -> None:
        """Nothing that was sent for a recovery will be answered."""
        for request in list(self.outstanding.values()):
            if request.recovers:
                self.fail(request, error)

    def fresh_xid(self, request: Request) -> int:
        """Give a request its xid."""
        request.xid = self.rpc.next_xid()
        return request.xid

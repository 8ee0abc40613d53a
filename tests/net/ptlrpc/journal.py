"""A toy target that keeps what it is told only once it has committed it, and that can restart.

It does what a recovering server does for one client, and notes what reached it.
"""

from __future__ import annotations

from typing import Any

from labsim.base.errors import LustreError
from labsim.net.ptlrpc import Exports, Handlers, Request, handles
from labsim.wire.constants import (
    MSG_LOCK_REPLAY_DONE,
    MSG_REPLAY,
    MSG_REQ_REPLAY_DONE,
    MSG_RESENT,
    OBD_CONNECT_AT,
    OBD_CONNECT_VERSION,
)
from labsim.wire.lustre_msg import ObdConnectData
from labsim.wire.opcodes import (
    LDLM_ENQUEUE,
    OBD_PING,
    OST_CONNECT,
    OST_DISCONNECT,
    OST_SETATTR,
    OST_STATFS,
    OST_WRITE,
)
from labsim.wire.ost import NiobufRemote, ObdIoobj, Obdo, ObdStatfs, OstBody
from labsim.wire.schema import OstId

from .rig import World

ENOTCONN = 107


class Journal(Handlers):
    """Changes by number: `done` as of now, `last_committed` of them on disk."""

    name = "lustre-OST0000"
    recovering = False
    soft_s = 300

    def __init__(self, rpc: Any) -> None:
        self.rpc = rpc
        self.exports = Exports(rpc, self, self.negotiate, replayable=True)
        self.done: dict[int, Any] = {}
        self.last_committed = 0
        self.last_transno = 0
        self.seen: list[tuple[str, int, int]] = []
        """(what, transno or 0, flags) of every request."""
        self.asked: list[int] = []
        """ocd_transno of every connect."""
        self.versions: list[tuple[int, ...]] = []
        self.refuse: dict[int, int] = {}
        """An errno to answer the replay of a transno with."""
        self.hold: Any = None
        """An event that the reply to the last ping of a recovery waits for."""
        rpc.targets["lustre-OST0000_UUID"] = self

    def negotiate(self, export: Any, want: ObdConnectData) -> ObdConnectData:
        return want.replace(
            connect_flags=want.connect_flags & (OBD_CONNECT_VERSION | OBD_CONNECT_AT)
        )

    # ---- life

    def commit(self, transno: int | None = None) -> None:
        self.last_committed = self.last_transno if transno is None else transno
        for export in self.exports:
            export.last_committed = self.last_committed

    def restart(self, forget: bool = False) -> None:
        """The power went: what was not committed is gone, and the clients too if `forget`."""
        known = [] if forget else [export.client_uuid for export in self.exports]
        self.exports.recovery = None
        self.exports.close()
        for uuid in known:
            self.exports.remember(uuid)
        self.done = {key: value for key, value in self.done.items() if key <= self.last_committed}
        self.last_transno = self.last_committed
        self.recovering = bool(known)
        self.exports.recovery = self if known else None

    # ---- requests

    @handles(OST_CONNECT)
    def connect(self, req: Any) -> Any:
        self.asked.append(req["connect_data"].transno)
        reply = self.exports.connect(req)
        req.export.last_committed = self.last_committed
        return reply

    def heard(self, req: Any, **how: Any) -> None:
        pass

    def join(self, export: Any, transno: int) -> None:
        export.part = self

    def leave(self, export: Any) -> None:
        pass

    def take(self, service: Any, req: Any) -> Any:
        """Nobody else is waited for: everything is done as it comes."""
        service.run(req)
        return
        yield

    @handles(OST_DISCONNECT)
    def disconnect(self, req: Any) -> Any:
        self.exports.remove(req.export)
        return req.reply()

    @handles(OBD_PING)
    def ping(self, req: Any) -> Any:
        self.seen.append(("ping", 0, req.body.flags))
        if req.body.flags == MSG_LOCK_REPLAY_DONE | MSG_REQ_REPLAY_DONE:
            if self.hold is not None:
                yield self.hold
            self.recovering, self.exports.recovery = False, None
            req.export.part = None
        return req.reply()

    @handles(OST_STATFS)
    def statfs(self, req: Any) -> Any:
        self.seen.append(("statfs", 0, req.body.flags))
        return req.reply(obd_statfs=ObdStatfs())

    @handles(LDLM_ENQUEUE)
    def enqueue(self, req: Any) -> Any:
        self.seen.append(("lock", 0, req.body.flags))
        return req.reply()

    @handles(OST_SETATTR)
    def setattr(self, req: Any) -> Any:
        return self.change(req, "setattr", req["ost_body"].oa.oi.id, ost_body=req["ost_body"])

    @handles(OST_WRITE)
    def write(self, req: Any) -> Any:
        data = yield from req.pull(req["niobuf_remote"][0].len)
        return self.change(req, "write", data, ost_body=req["ost_body"], rcs=[0])

    def change(self, req: Any, what: str, value: Any, **fields: Any) -> Any:
        body = req.body
        self.seen.append((what, body.transno, body.flags))
        if body.flags & MSG_REPLAY:
            self.versions.append(body.pre_versions)
            if body.transno in self.refuse:
                raise LustreError(self.refuse.pop(body.transno), "refused")
            req.transno = body.transno
        elif self.recovering:
            raise LustreError(ENOTCONN, "a request in a recovery")
        else:
            req.transno = self.last_transno + 1
        self.last_transno = max(self.last_transno, req.transno)
        self.done[req.transno] = value
        req.pre_versions = (req.transno - 1, 0, 0, 0)
        return req.reply(**fields)


class JournalWorld(World):
    """One client of a Journal."""

    def __init__(self) -> None:
        super().__init__(OBD_CONNECT_VERSION | OBD_CONNECT_AT)
        self.toy = Journal(self.server)
        self.states: list[str] = []
        self.run(self.imp.connect())

    def setattr(self, number: int) -> Request:
        """A request that changes something; `number` tells it from others."""
        return Request(OST_SETATTR, ost_body=OstBody(oa=Obdo(oi=OstId(id=number))))

    def write(self, data: Any) -> Request:
        return Request(
            OST_WRITE,
            bulk_out=data,
            ost_body=OstBody(oa=Obdo()),
            obd_ioobj=[ObdIoobj(bufcnt=1)],
            niobuf_remote=[NiobufRemote(len=len(data))],
        )

    def change(self, *numbers: int) -> list[Request]:
        requests = [self.setattr(number) for number in numbers]
        for request in requests:
            self.run(self.imp.call(request))
        return requests

    def came_through(self) -> list[str]:
        """The states that the import went through since this was last called."""
        found = [e.fields[1] for e in self.trace.events if e.kind == "import.state"]
        fresh, self.states = found[len(self.states) :], found
        return fresh

    def seen(self, flag: int = MSG_REPLAY) -> list[tuple[str, int]]:
        """What reached the server with a flag: (what, transno), and forget it all."""
        found = [(what, transno) for what, transno, flags in self.toy.seen if flags & flag]
        self.toy.seen.clear()
        return found


__all__ = ["MSG_RESENT", "Journal", "JournalWorld"]

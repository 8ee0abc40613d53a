"""What the processes of a client asked of the file system, and what they were told.

Knows the calls of Vfs and wraps them; does not know what is right (`posix_model` does). Stands for
strace on every process of a client. A call is noted when it begins and again when it ends: one that
never ends may have happened or not.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import count
from typing import Any, Protocol

import msgspec

from labsim.base.errors import LabsimError, LustreError
from labsim.base.trace import Event
from labsim.nodes.client.lov import parse

FILES_OF_A_BOOT = 1_000_000
"""Keeps the numbers of open files apart that a client gave before and after it lost its power."""

NEVER = -1
"""When a call ended that did not."""

_order = count(1)
"""Counts what is noted in one operating system process: what came first within one nanosecond."""

LAST = (1 << 63) - 1
"""The place of what comes after all else of its nanosecond."""

PATHS = {
    "open": 1, "mkdir": 1, "mknod": 1, "symlink": 1, "link": 2, "unlink": 1, "rmdir": 1,
    "rename": 2, "readlink": 1, "readdir": 1, "stat": 1, "truncate": 1, "chmod": 1, "chown": 1,
    "setxattr": 1, "getxattr": 1, "removexattr": 1, "listxattr": 1, "setstripe": 1,
}  # fmt: skip
"""Calls by path that are noted, and how many of their first arguments are paths.

Of symlink the link's own path is noted first, then what it says.
"""
LOCKS = ("fcntl", "flock")
FILES = ("close", "read", "write", "fsync", "ftruncate", "fstat", "getdents", *LOCKS)
"""Calls on an open file that are noted; those that lock it."""


class Call(msgspec.Struct, kw_only=True, gc=False):
    """One system call of one process, with absolute paths.

    `file` numbers the open file that it is about, or that it made; `at` is the position at which a
    read or write began, `end` where the position stood after it; `data` is what was read or is to
    be written. `errno` 0 is success; without an end nothing is known of it. `begun` and `ended` are
    places among what happened in the same nanosecond: a cached call takes no time.
    """

    client: str
    number: int
    process: int
    uid: int
    name: str
    args: list[Any]
    begun_ns: int
    begun: int = 0
    ended_ns: int = NEVER
    ended: int = 0
    errno: int = 0
    value: Any = None
    file: int = 0
    fid: str = ""
    at: int = 0
    end: int = 0
    data: Any = None
    place: list[int] = []
    """Of an open: the file's stripe size, and the index of each stripe's OST."""


class Note(msgspec.Struct, kw_only=True, gc=False):
    """Something that happened to a client or server besides its calls: evicted, killed."""

    node: str
    what: str
    time_ns: int
    place: int = 0
    target: str = ""


class Log(msgspec.Struct):
    """Calls in the order they began, and notes in the order they came."""

    calls: list[Call] = []
    notes: list[Note] = []

    def begun(self, call: Call) -> None:
        """A call begins; how it ends will be noted in it."""
        self.calls.append(call)

    def ended(self, call: Call) -> None:
        """It has ended."""

    def noted(self, note: Note) -> None:
        """Something happened."""
        self.notes.append(note)


class Keeper(Protocol):
    """What keeps what is noted: a Log, or a Tape where the machine is a process of its own."""

    def begun(self, call: Call) -> None:
        """A call begins."""

    def ended(self, call: Call) -> None:
        """It has ended."""

    def noted(self, note: Note) -> None:
        """Something happened."""


class Recorder:
    """Notes the calls of one machine's processes; `now` is its clock."""

    def __init__(self, node: str, now: Callable[[], int], keeper: Keeper) -> None:
        self.node = node
        self.now = now
        self.keeper = keeper
        self._uuid = ""
        self._watched: _Watched | None = None
        self._calls = 0
        self._files = 0
        self._processes = 0

    def hear(self, event: Event) -> None:
        """Take an event of the trace: evictions and connections are worth a note."""
        if event.node != self.node:
            return
        if event.kind == "import.state":
            name, state = event.fields
            if state in ("EVICTED", "FULL"):
                self.note(state.lower(), event.time_ns, _target(name))
        elif event.kind == "import.replay_status":
            self.note("replay failed", event.time_ns, _target(event.fields[0]))
        elif event.kind == "export.evict":
            target, uuid, _ = event.fields
            found = Note(node=uuid, what="evicts", time_ns=event.time_ns, target=target)
            found.place = next(_order)
            self.keeper.noted(found)

    def note(self, what: str, time_ns: int, target: str = "") -> None:
        """Note what happened to the node."""
        self.keeper.noted(
            Note(node=self.node, what=what, time_ns=time_ns, place=next(_order), target=target)
        )

    def over(self, node: Any) -> Any:
        """The node with its processes watched."""
        uuid = getattr(node, "uuid", "")
        if uuid != self._uuid:
            self._uuid = uuid
            self.note("uuid", self.now(), uuid)
        if self._watched is None or self._watched._node is not node:
            self._watched = _Watched(node, self)
        return self._watched

    def process(self, vfs: Any) -> Any:
        """A process's calls, watched."""
        self._processes += 1
        return _Process(vfs, self, self._processes)

    def call(self, process: int, uid: int, name: str, args: list[Any]) -> Call:
        """A call that is about to begin."""
        self._calls += 1
        return Call(
            client=self.node, number=self._calls, process=process, uid=uid, name=name, args=args,
            begun_ns=self.now(), begun=next(_order),
        )  # fmt: skip

    def begin(self, call: Call) -> None:
        """It begins; what it asks is in it."""
        self.keeper.begun(call)

    def end(self, call: Call) -> None:
        """It ended; what it was told is in it."""
        call.ended_ns, call.ended = self.now(), next(_order)
        self.keeper.ended(call)

    def new_file(self) -> int:
        """A number for an open file."""
        self._files += 1
        return self._files


def _target(name: str) -> str:
    """The target in the name of a client's device: lustre-OST0000-osc-ffff8.."""
    return "-".join(name.split("-")[:2])


class _Watched:
    """A node whose processes are watched; all else is the node's."""

    def __init__(self, node: Any, recorder: Recorder) -> None:
        self._node = node
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def process(self, *args: Any, **kwargs: Any) -> Any:
        return self._recorder.process(self._node.process(*args, **kwargs))


class _Process:
    """The system calls of one process, each noted."""

    def __init__(self, vfs: Any, recorder: Recorder, number: int) -> None:
        self._vfs = vfs
        self._recorder = recorder
        self._number = number
        self._opened: dict[Any, int] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._vfs, name)
        if name in PATHS:
            return lambda *args, **kwargs: self._by_path(name, method, args, kwargs)
        if name in FILES:
            return lambda *args, **kwargs: self._by_file(name, method, args, kwargs)
        return method

    def _by_path(self, name: str, method: Any, args: Any, kwargs: Any) -> Generator[Any, Any, Any]:
        cwd = self._vfs.cwd
        named = (args[1], args[0], *args[2:]) if name == "symlink" else args
        told = [_absolute(cwd, arg) if n < PATHS[name] else _plain(arg)
                for n, arg in enumerate(named)]  # fmt: skip
        told += [[key, _plain(value)] for key, value in kwargs.items()]
        call = self._call(name, told)
        self._recorder.begin(call)

        def answered(value: Any) -> None:
            if name == "open":
                call.file = self._opened[value] = self._recorder.new_file()
                call.fid = str(value.inode.fid)
                call.place = _place(value.inode.layout)
            elif name == "stat":
                call.fid = str(value.fid)
                call.value = _stat(value)
            elif name == "readdir":
                call.value = [[entry, kind] for entry, kind, _ in value]
            elif name in ("readlink", "getxattr", "listxattr"):
                call.value = value

        return (yield from self._ended(call, method(*args, **kwargs), answered))

    def _by_file(self, name: str, method: Any, args: Any, kwargs: Any) -> Generator[Any, Any, Any]:
        file, *rest = args
        call = self._call(name, [])
        call.file, call.fid = self._opened.get(file, 0), str(file.inode.fid)
        if name in ("read", "write"):
            offset = kwargs.get("offset", rest[1] if len(rest) > 1 else None)
            call.at = file.pos if offset is None else offset
            call.args = [offset is not None, file.flags]
            if name == "read":
                call.args.append(rest[0])
            else:
                call.data = rest[0]
        elif name == "ftruncate":
            call.args = [rest[0]]
        elif name in LOCKS:
            call.args = list(rest)
        self._recorder.begin(call)

        def answered(value: Any) -> None:
            call.end = file.pos
            if name == "read":
                call.data = value
            elif name == "write":
                call.value = value
            elif name == "fstat":
                call.value = _stat(value)
            elif name == "getdents":
                call.value = [[entry, kind] for entry, kind, _ in value]
            elif name == "fcntl" and value is not None:
                call.value = list(value)

        return (yield from self._ended(call, method(*args, **kwargs), answered))

    def _call(self, name: str, args: list[Any]) -> Call:
        return self._recorder.call(self._number, self._vfs.cred.uid, name, args)

    def _ended(
        self, call: Call, steps: Any, answered: Callable[[Any], None]
    ) -> Generator[Any, Any, Any]:
        """Run the call and note how and when it ended."""
        try:
            value = yield from steps
        except LustreError as error:
            call.errno = error.errno
            self._recorder.end(call)
            raise
        answered(value)
        self._recorder.end(call)
        return value


def _place(layout: bytes | None) -> list[int]:
    """Where a file's data is, by its LOV EA; empty where that is not known or not so simple."""
    try:
        known = parse(layout or b"")
    except LabsimError:
        return []
    return [known.stripe_size, *(stripe.index for stripe in known.stripes)]


def _absolute(cwd: str, path: str) -> str:
    return path if path.startswith("/") else f"{cwd.rstrip('/')}/{path}"


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else value


def _stat(stat: Any) -> list[int]:
    """What the model knows of a stat: mode, nlink, uid, gid, size."""
    return [stat.mode, stat.nlink, stat.uid, stat.gid, stat.size]


class Archive:
    """What all machines of a cluster noted, over all their boots."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.notes: list[Note] = []
        self.undecided = False
        """The reference model could not say whether all is well."""
        self._uuids: dict[str, tuple[str, int]] = {}
        """Whose they are, and since when."""
        self._boots: dict[str, int] = {}

    def add(self, log: Log) -> None:
        """Take a log; what is noted of a client by its UUID gets its name."""
        for note in log.notes:
            if note.what == "uuid":
                self._uuids[note.target] = note.node, note.time_ns
        boots = self._boots
        for call in log.calls:
            call.file += boots.get(call.client, 0) * FILES_OF_A_BOOT if call.file else 0
        self.calls += log.calls
        self.notes += log.notes

    def power_off(self, spec: Any, time_ns: int) -> None:
        """A machine lost its power: a client with all it did, a server with what was not on disk.

        Files that it opens after its next boot are others.
        """
        self._boots[spec.name] = self._boots.get(spec.name, 0) + 1
        if spec.role == "client":
            self.notes.append(Note(node=spec.name, what="killed", time_ns=time_ns, place=LAST))
        for info in spec.targets:
            gone = Note(node=spec.name, what="power-off", time_ns=time_ns, place=LAST)
            gone.target = info.name
            self.notes.append(gone)

    def disk(self, spec: Any, targets: Sequence[str], state: str, time_ns: int) -> None:
        """Disks of a server are in trouble ("full", "eio", ..) or well again."""
        for info in spec.targets:
            if not targets or info.name.rpartition("-")[2] in targets:
                what = f"disk {state}"
                told = Note(node=spec.name, what=what, time_ns=time_ns, place=next(_order))
                told.target = info.name
                self.notes.append(told)

    def told(self) -> list[Note]:
        """All notes, with clients by name.

        What a server says of a client of before its last boot ("evicts") is about a dead one.
        """
        return [self._told(note) for note in self.notes]

    def _told(self, note: Note) -> Note:
        node, since_ns = self._uuids.get(note.node, (note.node, 0))
        later = [ns for name, ns in self._uuids.values() if name == node and ns > since_ns]
        dead = node != note.node and any(ns <= note.time_ns for ns in later)
        what = "buries" if dead and note.what == "evicts" else note.what
        return msgspec.structs.replace(note, node=node, what=what)

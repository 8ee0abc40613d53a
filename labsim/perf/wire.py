"""Benchmarks of the codec: C against its Python twin, round by round side by side.

The twin (`twin_ns`) is the Python that `pure.codec` writes from an op table, and for messages
the Python of `wire.message` on top; `rows_ns` is the plain interpreter of the same table. Two
processes, one on the native modules and one on the twins, take turns, so that a busy machine is
busy for both; a time is the median of its rounds, a ratio the median of the rounds' ratios.

The aim, ten times the twin, is that of `_pack` and `_unpack`. A native object keeps its fields as
the bytes they are on the wire, so that work is put off until a field is read or set: `_unpack_read`
reads each field once after unpacking, `_set_pack` sets each before packing, `_make` calls the class
with keywords. Reading and setting makes or takes a Python object in C as well, and has no aim.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from statistics import median
from time import process_time
from timeit import Timer
from typing import Any, NamedTuple

from labsim.base.ids import Fid
from labsim.perf.bench import BENCHES, Bench, Measured, at_least
from labsim.pure import interpret
from labsim.pure.codec import Kind, Table
from labsim.wire import constants as c
from labsim.wire.formats import FORMATS
from labsim.wire.ldlm import LdlmInodebits, LdlmLockDesc, LdlmReply, LdlmResourceDesc
from labsim.wire.lov import LovMdsMdV1, LovOstDataV1
from labsim.wire.lustre_msg import PtlrpcBody
from labsim.wire.mdt import MdtBody
from labsim.wire.message import Message
from labsim.wire.ost import Obdo
from labsim.wire.schema import OstId, Wire

ROUNDS = 25
ROUND_NS = 2_000_000
"""How long a round takes, of the processor's time: others on the machine do not count."""
AIM = 10
"""How many times the twin's speed packing and unpacking are to have."""

WAYS = ("pack", "unpack", "unpack_read", "set_pack", "make")


class Work(NamedTuple):
    """A statement, and what its names are."""

    statement: str
    names: dict[str, Any]


def _mdt_body() -> MdtBody:
    return MdtBody(
        fid1=Fid(0x200000401, 5, 0),
        valid=0x1FFFF,
        size=123456789,
        mtime=1600000000,
        atime=1600000000,
        ctime=1600000000,
        blocks=241136,
        mode=0o100644,
        nlink=1,
        uid=1000,
        gid=1000,
        eadatasize=56,
        max_mdsize=128,
    )


def _obdo() -> Obdo:
    return Obdo(
        valid=0x1FFF, oi=OstId(1234, 0), size=1 << 20, mtime=1600000000, atime=1600000000,
        ctime=1600000000, blocks=2048, grant=1 << 21, blksize=1 << 22, mode=0o100644, uid=1000,
        gid=1000,
    )  # fmt: skip


def _body() -> PtlrpcBody:
    return PtlrpcBody(
        handle=0x1234567890ABCDEF, type=c.PTL_RPC_MSG_REPLY, version=3, opc=c.LDLM_ENQUEUE,
        transno=4294967301, last_committed=4294967299, conn_cnt=1, timeout=6, service_time=1,
    )  # fmt: skip


def open_reply() -> Message:
    """The reply to an open that was granted a lock, with the layout of one stripe."""
    fid = Fid(0x200000401, 5, 0)
    lock = LdlmLockDesc(
        resource=LdlmResourceDesc(type=c.LDLM_IBITS, name=(fid.seq, fid.oid, 0, 0)),
        req_mode=c.LCK_CR,
        granted_mode=c.LCK_CR,
        policy_data=LdlmInodebits(bits=c.MDS_INODELOCK_OPEN),
    )
    layout = LovMdsMdV1(
        magic=c.LOV_MAGIC_V1,
        pattern=1,
        stripe_size=1 << 20,
        stripe_count=1,
        objects=(LovOstDataV1(ost_oi=OstId(1234, 0)),),
    )
    fields = {
        "dlm_rep": LdlmReply(lock_desc=lock, lock_handle=0x123456789, lock_policy_res1=3),
        "mdt_body": _mdt_body(),
        "mdt_md": layout.pack(),
    }
    return Message(FORMATS["LDLM_INTENT_OPEN"], fields, _body(), flags=3, request=False)


VALUES: dict[str, Callable[[], Any]] = {
    "mdt_body": _mdt_body,
    "obdo": _obdo,
    "ptlrpc_body": _body,
    "open_reply": open_reply,
}
"""What is measured, by name."""


def works() -> dict[str, Work]:
    """The pieces of work by name: VALUE_WAY, and for structs rows_VALUE_..."""
    found: dict[str, Work] = {}
    for name, make in VALUES.items():
        value = make()
        made = _message_works(value) if isinstance(value, Message) else _struct_works(value)
        for way, work in made.items():
            rows, _, way = way.rpartition(":")
            found[f"{rows}{name}_{way}"] = work
    return found


def _message_works(value: Message) -> dict[str, Work]:
    raw, fmt = value.encode(), value.fmt
    names = {"value": value, "decode": Message.decode_reply, "raw": raw, "fmt": fmt}
    reads = [path for path, _ in _fields(value.body.table, value.body, "body")]
    lines = ["found = decode(raw, fmt)", "body = found.body"]
    for key, held in value.fields.items():
        lines.append(f"{key} = found[{key!r}]")
        if isinstance(held, Wire):
            reads += [path for path, _ in _fields(type(held).table, held, key)]
    return {
        "pack": Work("value.encode()", names),
        "unpack": Work("decode(raw, fmt)", names),
        "unpack_read": Work("\n".join(lines + reads), names),
        "set_pack": Work("make().encode()", {"make": open_reply}),
        "make": Work("make()", {"make": open_reply}),
    }


def _struct_works(value: Wire) -> dict[str, Work]:
    kind = type(value)
    fields = dict(_fields(kind.table, value, "value"))
    held = {f"f{number}": one for number, one in enumerate(fields.values())}
    names = {"value": value, "kind": kind, "raw": value.pack(), "interpret": interpret, **held}
    sets = [f"{path} = {name}" for path, name in zip(fields, held, strict=True)]
    plain = kind()
    given = {
        op.name: getattr(value, op.name)
        for op in kind.table.ops
        if getattr(value, op.name) != getattr(plain, op.name)
    }
    made = ", ".join(f"{name}=given_{name}" for name in given)
    return {
        "pack": Work("value.pack()", names),
        "unpack": Work("kind.unpack(raw)", names),
        "unpack_read": Work("\n".join(["value = kind.unpack(raw)", *fields]), names),
        "set_pack": Work("\n".join([*sets, "value.pack()"]), names),
        "make": Work(
            f"kind({made})", {"kind": kind, **{f"given_{k}": v for k, v in given.items()}}
        ),
        "rows_:pack": Work("interpret.pack(kind.table, value)", names),
        "rows_:unpack": Work("interpret.unpack(kind.table, raw)", names),
    }


def _fields(table: Table, value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every field of an object as an expression, with what it holds; nested ones one by one."""
    for op in table.ops:
        here, held = f"{path}.{op.name}", getattr(value, op.name)
        if op.kind in (Kind.STRUCT, Kind.UNION) and held is not None:
            yield from _fields(type(held).table, held, here)
        else:
            yield here, held


def serve() -> None:
    """Do the work that each line of standard input names; answer with nanoseconds for one time."""
    known = works()
    times: dict[str, int] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in times:
            _timed(known[name], 10)
            times[name] = max(int(ROUND_NS / _timed(known[name], 50)), 10)
        print(_timed(known[name], times[name]), flush=True)


def _timed(work: Work, times: int) -> float:
    """Nanoseconds of this processor for one time."""
    timer = Timer(work.statement, timer=process_time, globals=dict(work.names))
    return timer.timeit(times) / times * 1e9


@contextmanager
def _worker(pure: bool) -> Iterator[Callable[[str], float]]:
    """A process that measures, with or without the native modules."""
    command = [sys.executable, "-c", "from labsim.perf.wire import serve; serve()"]
    environment = {**os.environ, "LABSIM_PURE": "1" if pure else "0"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        given, answers = process.stdin, process.stdout

        def ask(name: str) -> float:
            given.write(name + "\n")
            given.flush()
            return float(answers.readline())

        yield ask
        given.close()


@lru_cache
def _measured() -> dict[str, Measured]:
    """Everything, once: name to the median ratio, and the medians it is made of."""
    rounds: dict[str, list[tuple[float, float, float]]] = {}
    known = works()
    with _worker(pure=False) as native, _worker(pure=True) as twin:
        names = [f"{name}_{way}" for name in VALUES for way in WAYS]
        for number in range(ROUNDS + 1):
            for name in names:
                rows = twin(f"rows_{name}") if f"rows_{name}" in known else 0.0
                row = (native(name), twin(name), rows)
                if number:  # the first one warms up
                    rounds.setdefault(name, []).append(row)
    return {name: _summary(found) for name, found in rounds.items()}


def _summary(rounds: list[tuple[float, float, float]]) -> Measured:
    parts = {
        "native_ns": round(median(native for native, _, _ in rounds), 1),
        "twin_ns": round(median(twin for _, twin, _ in rounds), 1),
    }
    rows = median(rows for _, _, rows in rounds)
    if rows:
        parts["rows_ns"] = round(rows, 1)
        parts["times_rows"] = round(median(rows / native for native, _, rows in rounds), 1)
    return Measured(median(twin / native for native, twin, _ in rounds), parts)


def _register(name: str, aimed: bool) -> None:
    aim = at_least(AIM) if aimed else None
    what = "The codec in C against its Python twin, in turns."
    BENCHES[f"wire_{name}"] = Bench(lambda: _measured()[name], "x its Python twin", what, aim)


for _name in VALUES:
    for _way in WAYS:
        _register(f"{_name}_{_way}", _way in ("pack", "unpack"))

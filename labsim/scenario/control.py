"""What a controller and its live nodes say to one another, as msgpack of the structs below.

Does not know sockets or nodes. Stands for the ssh session of an administrator. Nothing here is
pickled or evaluated: what does not fit a struct is refused.
"""

from __future__ import annotations

from typing import Any

import msgspec

from labsim.base.errors import InputError, LabsimError, LustreError, ProtocolError
from labsim.net.rules import Rule
from labsim.nodes.config import FsConfig, TargetInfo
from labsim.scenario.topology import NodeSpec


class Birth(msgspec.Struct, frozen=True):
    """All that a new process needs to become a machine."""

    spec: NodeSpec
    directory: str
    """The cluster's: sockets, logs, disks."""
    endpoints: dict[int, str]
    """Where each NID listens."""
    origin_ns: int
    """When the run began, by the machine's monotonic clock."""
    incarnation: int
    log: str = ""
    """Where it writes what it sends, if there shall be a capture."""
    cpus: tuple[int, ...] = ()
    """Where it runs; empty: anywhere."""


# ---- controller to node


class Boot(msgspec.Struct, frozen=True, tag=True):
    """Make the node and start it."""

    fs: FsConfig
    incarnation: int


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    """Stop the node in order."""


class Command(msgspec.Struct, frozen=True, tag=True):
    """Run a command line; answered with its Result."""

    text: str
    values: dict[str, str] = {}
    user: str = ""


class AddTarget(msgspec.Struct, frozen=True, tag=True):
    """Serve one more target, on a new disk."""

    info: TargetInfo


class DropTarget(msgspec.Struct, frozen=True, tag=True):
    """Serve a target no more, and let go of its disk; with `failover` its clients are kept."""

    name: str
    failover: bool = True


class Arm(msgspec.Struct, frozen=True, tag=True):
    """Arm or disarm a fault point; see Machine.fault."""

    number: int
    bits: int = 0
    val: int = 0
    reaction: str | None = None
    value: int = 0


class Meet(msgspec.Struct, frozen=True, tag=True):
    """Have two processes meet at two fault points; see base.faults.Race."""

    first: int
    second: int


class DiskTrouble(msgspec.Struct, frozen=True, tag=True):
    """Have disks be slow, full, failing or well again; see Machine.disk_trouble."""

    targets: list[str]
    state: str
    delay_ns: int = 0


class SetClock(msgspec.Struct, frozen=True, tag=True):
    """Set the date forwards or backwards."""

    by_ns: int


class Watch(msgspec.Struct, frozen=True, tag=True):
    """Note from now on what processes ask of the file system; see `record`."""

    tape: str = ""
    """The file to write it to; empty: it is kept in memory."""


class Install(msgspec.Struct, frozen=True, tag=True):
    """Obey a packet rule."""

    rule: Rule


class Remove(msgspec.Struct, frozen=True, tag=True):
    """Forget a packet rule, or with an empty name all."""

    name: str


class Snapshot(msgspec.Struct, frozen=True, tag=True):
    """Answered with what Machine.snapshot says."""


class Quit(msgspec.Struct, frozen=True, tag=True):
    """End the process."""


Order = (
    Boot | Shutdown | Command | AddTarget | DropTarget | Arm | Meet | DiskTrouble | SetClock
    | Install | Remove | Watch | Snapshot | Quit
)  # fmt: skip


class Ask(msgspec.Struct, frozen=True):
    """One order; the answer carries its number."""

    number: int
    order: Order


# ---- node to controller


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The process is up and takes orders."""

    pid: int


class Answer(msgspec.Struct, frozen=True, tag=True):
    """An order was carried out; `value` is msgpack of what it gave."""

    number: int
    value: msgspec.Raw


class Failed(msgspec.Struct, frozen=True, tag=True):
    """An order failed: which kind of error, and its words."""

    number: int
    kind: str
    errno: int
    what: str


Word = Hello | Answer | Failed

POWER_LOSS_STATUS = 99
"""Exit status of a process whose fault point took the machine's power."""


_encoder = msgspec.msgpack.Encoder()
_asks = msgspec.msgpack.Decoder(Ask)
_words = msgspec.msgpack.Decoder(Word)
_births = msgspec.msgpack.Decoder(Birth)


def encode(message: Any) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def _decode(decoder: msgspec.msgpack.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"control message: {error}") from None


def decode_birth(data: bytes) -> Birth:
    """Read a Birth; ProtocolError for anything else."""
    birth: Birth = _decode(_births, data)
    return birth


def decode_ask(data: bytes) -> Ask:
    """Read an Ask; ProtocolError for anything else."""
    ask: Ask = _decode(_asks, data)
    return ask


def decode_word(data: bytes) -> Word:
    """Read what a node said; ProtocolError for anything else."""
    word: Word = _decode(_words, data)
    return word


def answer(number: int, value: Any) -> Answer:
    """The answer that carries `value`: plain data or structs; a name need not be UTF-8."""
    try:
        data = _encoder.encode(value)
    except UnicodeEncodeError:
        data = _encoder.encode(escaped(value))
    return Answer(number, msgspec.Raw(data))


def escaped(value: Any) -> Any:
    """`value` with backslashes for what is no text in its strings."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {escaped(key): escaped(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(one) for one in value]
    if isinstance(value, msgspec.Struct):
        return escaped(msgspec.structs.asdict(value))
    return value


def failed(number: int, error: Exception) -> Failed:
    """What becomes of an error on its way to the controller."""
    if isinstance(error, LustreError):
        return Failed(number, "LustreError", error.errno, error.what)
    if isinstance(error, InputError):
        return Failed(number, "InputError", 0, str(error))
    return Failed(number, type(error).__name__, 0, str(error))


class NodeFault(LabsimError):
    """A live node met a defect of labsim; the text says which."""


def error_of(message: Failed, node: str) -> Exception:
    """The error that a node reported, as if it had been raised here."""
    if message.kind == "LustreError":
        return LustreError(message.errno, message.what)
    if message.kind == "InputError":
        return InputError(message.what)
    return NodeFault(f"{node}: {message.kind}: {message.what}")

"""What the machine of a live cluster noted, in a file: kill -9 takes the machine, not the file.

Does not know what is noted (`record` does). A call is written before it is made and again when it
has been answered, each with one write(2): what the kernel has, no process can lose. So a call that
its client was killed in is there without an end, and one that was answered is there with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import Struct
from typing import Any

import msgspec

from labsim.base.payload import Chain, Fill, Payload, join, tobytes
from labsim.scenario.control import escaped
from labsim.scenario.record import Call, Log, Note

_HEAD = Struct("<I?")
"""Bytes that follow, and whether they are a call."""

_encoder = msgspec.msgpack.Encoder()


class Tape:
    """The writing end; a Keeper."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def begun(self, call: Call) -> None:
        """A call is about to be made."""
        self._put(call)

    def ended(self, call: Call) -> None:
        """It was answered."""
        self._put(call)

    def noted(self, note: Note) -> None:
        """Something happened."""
        self._put(note)

    def _put(self, what: Call | Note) -> None:
        is_call = isinstance(what, Call)
        if isinstance(what, Call) and what.data is not None:
            what = msgspec.structs.replace(what, data=_packed(what.data))
        try:
            data = _encoder.encode(what)
        except UnicodeEncodeError:
            data = _encoder.encode(escaped(what))
        left = memoryview(_HEAD.pack(len(data), is_call) + data)
        while left:
            left = left[os.write(self._file, left) :]


def read(path: str) -> Log:
    """All that is on a tape; what was cut off at its end is not."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return Log()
    log = Log()
    calls: dict[int, Call] = {}
    for is_call, frame in _frames(data):
        if is_call:
            call = msgspec.msgpack.decode(frame, type=Call)
            if call.data is not None:
                call.data = join(_unpacked(part) for part in call.data)
            calls[call.number] = call
        else:
            log.notes.append(msgspec.msgpack.decode(frame, type=Note))
    log.calls += calls.values()
    return log


def _frames(data: bytes) -> Iterator[tuple[bool, bytes]]:
    at = 0
    while at + _HEAD.size <= len(data):
        length, is_call = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if at + length > len(data):
            return
        yield is_call, data[at : at + length]
        at += length


def _packed(payload: Payload) -> list[Any]:
    if isinstance(payload, Fill):
        return [[payload.length, payload.seed, payload.offset]]
    if isinstance(payload, Chain):
        return [part for piece in payload.pieces for part in _packed(piece)]
    return [tobytes(payload)]


def _unpacked(part: Any) -> Payload:
    return part if isinstance(part, bytes) else Fill(*part)

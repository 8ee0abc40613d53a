"""A fuzzer of the codecs: whatever the bytes are, C and Python read the same, or refuse the same.

    python tests/parity/wire_fuzz.py --seconds 60 [--module build/fuzz/_wire...so]
    python tests/parity/wire_fuzz.py --atheris [libFuzzer's options]

Its seeds are messages that the project makes: one of each format, and structs of every kind. With
`--module` another build of labsim._wire is tested, one under AddressSanitizer for example. An input
of a third kind says what to do to an object of each codec (`wire_objects`).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import sys
import time
from pathlib import Path
from typing import Any

HEAD = 3
"""Bytes of an input that say what the rest is: a message or a struct, and of which kind."""


def load(path: str) -> None:
    """Take the native module from a file, before anything of labsim is imported."""
    spec = importlib.util.spec_from_file_location("labsim._wire", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["labsim._wire"] = module
    spec.loader.exec_module(module)


class Fuzzer:
    """One input at a time, through both codecs."""

    def __init__(self) -> None:
        from labsim.base.errors import ProtocolError
        from labsim.pure import codec
        from labsim.wire import registry
        from labsim.wire.formats import FORMATS
        from labsim.wire.message import TWINS, Message
        from labsim.wire.schema import REGISTERED, WireType

        registry()
        sys.path.insert(0, str(Path(__file__).parent))
        self.objects = importlib.import_module("wire_objects")
        sys.path.pop(0)
        self.refused = ProtocolError
        self.formats = list(FORMATS.values())
        self.structs: list[Any] = [one for one in REGISTERED.values() if isinstance(one, WireType)]
        self.twins = [codec.generate(one.table, "unpack") for one in self.structs]
        self.packers = [codec.generate(one.table, "pack") for one in self.structs]
        self.message = Message
        _, self.encode, self.decode = TWINS

    def _same(self, one: Any, two: Any) -> Any:
        """What both give, or None where both refuse; AssertionError where they differ."""
        answers = []
        for work in (one, two):
            try:
                answers.append((work(), None))
            except self.refused as error:
                answers.append((None, str(error)))
        (left, refused), (right, refused_too) = answers
        assert refused == refused_too, f"{refused} / {refused_too}"
        assert left == right, f"{left!r} / {right!r}"
        return left

    def one(self, data: bytes) -> None:
        """Run one input."""
        if len(data) < HEAD:
            return
        kind, low, high = data[:HEAD]
        number, rest = low | high << 8, data[HEAD:]
        if kind & 128:
            cls = self.structs[number % len(self.structs)]
            self.objects.run(cls, random.Random(rest), 1 + len(rest) % 6)
        elif kind & 1:
            self.struct(number % len(self.structs), rest, kind >> 1)
        else:
            hint = None if kind & 4 else self.formats[number % len(self.formats)]
            self.whole(rest, bool(kind & 2), hint)

    def struct(self, at: int, data: bytes, offset: int) -> None:
        """The bytes as a struct at an offset."""
        cls, twin, packer = self.structs[at], self.twins[at], self.packers[at]
        value = self._same(lambda: cls.unpack(data, offset), lambda: twin(data, offset))
        if value is not None:
            raw = value.pack()
            assert raw == packer(value)
            assert len(raw) == value.packed_size() or cls.table.tail is not None

    def whole(self, data: bytes, request: bool, hint: Any) -> None:
        """The bytes as a message."""
        found = self._same(
            lambda: self.message.decode(data, request, hint),
            lambda: self.decode(data, request, hint),
        )
        if found is not None:
            raw = found.encode()
            assert raw == self.encode(found)
            assert len(raw) == found.wire_size
            assert self.message.decode(raw, request, found.fmt) == found

    def seeds(self) -> list[bytes]:
        """One message of each format and direction, one struct of each kind, some deeds."""
        made = []
        for number, fmt in enumerate(self.formats):
            for request in (True, False):
                head = bytes([2 * request, number & 255, number >> 8])
                made.append(head + _specimen(self.message, fmt, request))
        for number, cls in enumerate(self.structs):
            made.append(bytes([1, number & 255, number >> 8]) + bytes(cls.table.size))
            if not number % 8:
                made.append(bytes([128, number & 255, number >> 8, 0]))
        return made


def _specimen(message: Any, fmt: Any, request: bool) -> bytes:
    from labsim.wire.lustre_msg import PtlrpcBody

    body = PtlrpcBody(type=4711 if request else 4713, version=3, opc=101)
    layout = fmt.request if request else fmt.reply
    fields = {one.key: _value(one.plan) for one in layout}
    return bytes(message(fmt, fields, body, 3, 4096, request=request).encode())


def _value(plan: Any) -> Any:
    """Something that a buffer can hold."""
    from labsim.pure.messages import Part

    match plan.part:
        case Part.ONE:
            return plan.table.factory()
        case Part.SEVERAL:
            return [plan.table.factory(), plan.table.factory()]
        case Part.NUMBER:
            return 7
        case Part.NUMBERS:
            return [1, 2, 3]
        case Part.NAME:
            return plan.make(*range(1, len(plan.code) + 1))
        case Part.STRING | Part.UUID:
            return "name"
        case Part.BYTES:
            return b"12345"
    opcode = min(plan.records)
    return plan.records[opcode].factory(opcode=opcode)


def mutate(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A seed with a few things changed: bits, bytes, words, lengths, pieces of other seeds."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(data)) if data else 0
        word = rng.choice((0, 1, 7, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, rng.getrandbits(32)))
        match rng.randrange(6):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at] = rng.randrange(256)
            case 2:
                data[at & ~3 : (at & ~3) + 4] = word.to_bytes(4, "little")
            case 3:
                del data[at:]
            case 4:
                other = rng.choice(seeds)
                data[at:at] = other[: rng.randrange(64)]
            case _:
                data += bytes(rng.randrange(64))
    return bytes(data)


def run(fuzzer: Fuzzer, seed: int, seconds: float = 0, times: int = 0) -> int:
    """Run mutations for so long, or so many; how many there were."""
    rng, seeds, done = random.Random(seed), fuzzer.seeds(), 0
    for data in seeds:
        fuzzer.one(data)
    end = time.monotonic() + seconds
    while done < times or (seconds and time.monotonic() < end):
        data = mutate(rng, seeds)
        try:
            fuzzer.one(data)
        except BaseException:
            print(f"seed {seed}, input {done}: {data.hex()}", file=sys.stderr)
            raise
        done += 1
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", default="")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", action="store_true")
    given, rest = parser.parse_known_args()
    if given.module:
        load(given.module)
    fuzzer = Fuzzer()
    if given.atheris:
        import atheris

        atheris.instrument_all()
        atheris.Setup([sys.argv[0], *rest], fuzzer.one)
        atheris.Fuzz()
        return
    done = run(fuzzer, given.seed, given.seconds)
    print(f"{done} inputs in {given.seconds:g} s, seed {given.seed}: both codecs agree")


if __name__ == "__main__":
    main()

"""Equal seeds, equal runs; and on the wire nothing is said that the bytes do not say.

Scenarios are run twice, and in other processes, in `tests/test_scenarios.py`; here are a storm with
faults and power cuts, and every scenario with each message made into bytes and read back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labsim.base.payload import tobytes
from labsim.net import frame
from labsim.net.lnd_sim import Port
from labsim.net.lnet import Packet
from labsim.scenario import kits, load
from labsim.scenario.runner import run
from labsim.wire.message import Message
from labsim.wire.opcodes import opcode_name

from . import storm

ROOT = Path(__file__).resolve().parents[2]
SEED = 7


class Wire:
    """Makes every packet of the simulated network into bytes, and delivers what they say."""

    def __init__(self) -> None:
        self.opcodes = Counter[str]()
        self.kinds = Counter[int]()

    def carry(self, packet: Packet) -> Packet:
        header, payload = frame.encode(packet)
        data = tobytes(payload)
        assert frame.payload_length(header) == len(data)
        self.kinds[packet.kind] += 1
        read = frame.decode(header, data)
        assert (read.kind, read.src, read.dst, read.length, read.handle) == (
            packet.kind, packet.src, packet.dst, packet.length, packet.handle,
        )  # fmt: skip
        if isinstance(packet.payload, Message):
            self.check(packet.payload, data)
        return read

    def check(self, sent: Message, data: bytes) -> None:
        """Bytes and size agree; what is read back is what was sent, and makes the same bytes."""
        assert len(data) == sent.wire_size
        read = Message.decode(data, request=sent.request, fmt=sent.fmt)
        assert read.encode() == data
        assert read.body == sent.body
        assert read == sent, f"{sent}\nread back: {read}"
        self.opcodes[opcode_name(sent.opcode)] += 1


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    made = Wire()
    send = Port.send

    def through(port: Port, packet: Packet, delay_ns: int = 0) -> None:
        send(port, made.carry(packet), delay_ns)

    monkeypatch.setattr(Port, "send", through)
    return made


@pytest.fixture(scope="module")
def calm() -> Any:
    """A storm as it goes without anybody watching."""
    return storm.run(SEED)


def test_a_storm_goes_the_same_way_twice(calm: Any) -> None:
    assert calm[1] > 1500
    assert calm[2] == []
    assert storm.run(SEED) == calm
    assert storm.run(SEED + 1)[0] != calm[0]


@pytest.mark.parametrize("hash_seed", ["0", "987"])
def test_a_storm_in_another_process(hash_seed: str, calm: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.storm", str(SEED)],
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == calm[0]


def test_without_native_modules_it_is_the_same_storm(calm: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.storm", str(SEED)],
        env=os.environ | {"LABSIM_PURE": "1"},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == calm[0]


def test_a_storm_of_bytes_is_the_same_storm(calm: Any, wire: Wire) -> None:
    assert storm.run(SEED) == calm
    assert len(wire.kinds) >= 3
    assert len(wire.opcodes) > 15, sorted(wire.opcodes)


@pytest.mark.parametrize("path", load.everything(), ids=load.name_of)
def test_a_scenario_of_bytes_is_the_same_scenario(path: Path, request: Any) -> None:
    """On the trees around its regression."""
    scenario = load.load(path)
    told = {tree: run(scenario, tree) for tree in kits.around(scenario)}
    seen: Wire = request.getfixturevalue("wire")
    for tree, objects in told.items():
        carried = run(scenario, tree)
        assert (carried.verdict, carried.broken) == (objects.verdict, objects.broken)
        assert carried.hash == objects.hash
    assert seen.opcodes

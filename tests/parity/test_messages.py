"""Every message of every scenario: its bytes say all of it, and are as many as was accounted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from labsim.net.lnet import Lnet, Packet
from labsim.scenario import kits, load, runner
from labsim.scenario.cluster import Cluster
from labsim.wire.formats import FORMER
from labsim.wire.message import TWINS, Message

SCENARIOS = load.everything()
NAMES = [load.name_of(path) for path in SCENARIOS]
_, pure_encode, pure_decode = TWINS


TOUR = (
    "touch f", "mkdir -p d/e", "ln f hard", "ln -s f soft", "ls -l", "stat f", "chmod 600 f",
    "dd if=/dev/zero of=g bs=1M count=3", "dd if=g of=/dev/null bs=1M", "truncate -s 100 g",
    "cat g", "setfattr -n user.a -v 1 f", "getfattr -d f", "setfattr -x user.a f", "mv f h",
    "mv h d/f", "rmdir d/e", "rm g", "df", "sync", "lfs setstripe -c 2 s", "lfs getstripe d/f",
    "createmany -o x%d 5", "unlinkmany x%d 5",
)  # fmt: skip
"""What makes clients send most kinds of RPCs that there are."""


class Tap:
    """Looks at each message as it is sent."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def attach(self, lnet: Lnet) -> None:
        lnet.taps.append(lambda packet: self.look(packet) if packet.src == lnet.nid else None)

    def look(self, packet: Packet) -> None:
        if isinstance(packet.payload, Message):
            check(packet.payload, packet.length)
            self.seen[packet.payload.fmt.name] += 1


def check(message: Message, accounted: int) -> None:
    raw = message.encode()
    assert len(raw) == message.wire_size == accounted, message
    assert pure_encode(message) == raw
    ways = [message.fmt, None] if message.request else [message.fmt]  # None: as a server reads it
    for fmt in ways:
        for decode in (Message.decode, pure_decode):
            again = decode(raw, message.request, fmt)
            assert again.wire_size == accounted
            assert again.encode() == raw
            if fmt is None:  # and before it knows which release the client is of
                assert again.fmt.name in (message.fmt.name, *FORMER)
                again.fmt = message.fmt
            assert again == message


@pytest.fixture
def tap(monkeypatch: pytest.MonkeyPatch) -> Tap:
    """Hears every LNet that is made from now on."""
    made, init = Tap(), Lnet.__init__

    def tapped(self: Lnet, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        made.attach(self)

    monkeypatch.setattr(Lnet, "__init__", tapped)
    return made


@pytest.mark.parametrize("path", SCENARIOS, ids=NAMES)
def test_every_message_of_a_scenario_survives_the_wire(path: Path, tap: Tap) -> None:
    scenario = load.load(path)
    for tree in kits.around(scenario):
        made = runner.run(scenario, tree)
        assert not made.broken, made.broken
    assert tap.seen["MDS_CONNECT"] >= 2
    assert sum(tap.seen.values()) > 20, tap.seen


def test_every_message_of_a_tour_survives_the_wire(tap: Tap) -> None:
    with Cluster(clients=2, oss=2, osts=2) as cluster:
        for line in TOUR:
            for number in (0, 1):  # the second finds what the first has locked
                cluster.client(number).run(line)
    assert len(tap.seen) >= 20, tap.seen
    for name in ("LDLM_INTENT_OPEN", "LDLM_BL_CALLBACK", "OST_BRW_WRITE", "MDS_REINT_RENAME"):
        assert tap.seen[name], name

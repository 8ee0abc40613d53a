"""Clients of one release on servers of another: nobody gets what it does not know."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from labsim.net.lnet import Lnet, Packet
from labsim.scenario.cluster import Cluster
from labsim.wire.eras import V2_10, V2_12, V2_15, Era, era_of
from labsim.wire.message import Message
from labsim.wire.negotiate import in_era
from labsim.wire.opcodes import MDS_CONNECT, MGS_CONNECT, OST_CONNECT

CONNECTS = (MDS_CONNECT, OST_CONNECT, MGS_CONNECT)
WORK = (
    "touch f", "dd if=/dev/zero of=f bs=4k count=3", "sync", "setfattr -n user.a -v 1 f", "ls -l f",
    "getfattr -d f", "mkdir d", "mv f d/f", "cat d/f", "rm d/f", "df",
)  # fmt: skip

PAIRS = [
    ("2.10.5", "2.12.0", V2_10),
    ("2.12.0", "2.10.5", V2_10),
    ("2.5.3", "2.15.0", V2_10),
    ("2.12.0", "2.12.0", V2_12),
    ("2.12.0", "2.15.0", V2_12),
    ("2.15.0", "2.15.0", V2_15),
]


class Tap:
    """What the client and its servers say to one another."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def hear(self, lnet: Lnet) -> None:
        def look(packet: Packet) -> None:
            if packet.src == lnet.nid and isinstance(packet.payload, Message):
                self.messages.append(packet.payload)

        lnet.taps.append(look)


@pytest.mark.parametrize(("client", "server", "era"), PAIRS)
def test_both_speak_what_both_know(
    client: str, server: str, era: Era, monkeypatch: pytest.MonkeyPatch
) -> None:
    tap, init = Tap(), Lnet.__init__

    def tapped(self: Lnet, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if str(self.nid).startswith("10.1."):
            tap.hear(self)

    monkeypatch.setattr(Lnet, "__init__", tapped)
    with Cluster(clients=1, oss=1, osts=1, tree=server, client_trees=(client,)) as cluster:
        for line in WORK:
            result = cluster.client(0).run(line)
            assert result.status == 0, (line, result.stderr)
    kinds: Counter[str] = Counter()
    for message in tap.messages:
        if message.opcode in CONNECTS:
            continue
        kinds[message.fmt.name] += 1
        assert in_era(message, era) is message, (message, era)
        raw = message.encode()
        assert Message.decode(raw, message.request, message.fmt) == message
        if message.request:
            assert in_era(Message.decode_request(raw), era) == message
    assert kinds["OST_BRW_WRITE"] >= 1
    buffers = {m.encode()[0] for m in tap.messages if m.fmt.name == "OST_BRW_WRITE" and m.request}
    assert buffers == {5 if era is V2_10 else 6}
    opens = {m.encode()[0] for m in tap.messages if m.fmt.name == "LDLM_INTENT_OPEN" and m.request}
    assert opens <= {12 if era is V2_15 else 10}


def test_a_version_is_what_connect_says() -> None:
    assert era_of(2 << 24 | 10 << 16 | 5 << 8) is V2_10

"""Packet rules: which messages a network loses, holds back, overtakes or sends twice.

Does not know nodes or time; sees packets, says what shall happen to them. The same rules work on
the simulated and on the live network, where they travel to each node as plain data. Stands for
LNet's fault injection (lnet/net_fault.c: drop and delay rules) and for pulled cables.

A rule acts where a packet leaves its sender. Rates are drawn from the rule's seed and from the
count of packets it has judged on that sender, so the same traffic meets the same fate again.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import msgspec

_MASK = (1 << 64) - 1
_WAITS = 0x5EED
"""Keeps the waits of a reorder apart from the draws that say which packets it hits."""


class Verdict(NamedTuple):
    """What happens to a packet: PASS, DROP, or `Delay(ns)` and a copy `copy_ns` behind it."""

    what: str
    ns: int = 0
    copy_ns: int | None = None
    """None: there is no copy."""


PASS: Final = Verdict("pass")
DROP: Final = Verdict("drop")


def Delay(ns: int) -> Verdict:  # noqa: N802 - reads as the third verdict
    """Hold a packet back for so many nanoseconds; those behind it may overtake."""
    return Verdict("delay", ns)


def Twice(ns: int, copy_ns: int) -> Verdict:  # noqa: N802
    """Send a packet after `ns`, and once more `copy_ns` after that."""
    return Verdict("duplicate", ns, copy_ns)


class Rule(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One rule: which packets, and what becomes of them. What is left out matches everything."""

    name: str
    """How it is removed; installing another of this name replaces it."""
    action: Literal["drop", "delay", "duplicate", "reorder"] = "drop"
    delay_ns: int = 0
    """Of a delay: how long. Of a duplicate: how far the copy is behind. Of a reorder: each packet
    that is hit waits for a time drawn from [0, delay_ns), and those behind it overtake."""
    src: tuple[int, ...] = ()
    """Sender NIDs; empty: any."""
    dst: tuple[int, ...] = ()
    """Receiver NIDs; empty: any."""
    both_ways: bool = False
    """Also match with sender and receiver exchanged."""
    portal: int | None = None
    kind: int | None = None
    """LNET_MSG_*: ACK 0, PUT 1, GET 2, REPLY 3."""
    opc: int | None = None
    """Opcode of the RPC; requests and replies carry it, bulk data does not."""
    rate: float = 1.0
    """Fraction of the matching packets that is hit."""
    skip: int = 0
    """Let so many matching packets of a sender pass first."""
    count: int | None = None
    """Hit so many packets of a sender, then do nothing more."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Keep NIDs as bare numbers, which is how a rule travels."""
        msgspec.structs.force_setattr(self, "src", tuple(map(int, self.src)))
        msgspec.structs.force_setattr(self, "dst", tuple(map(int, self.dst)))

    def matches(self, packet: Any) -> bool:
        """True when the packet is one of those that this rule is about."""
        if not self._between(packet.src, packet.dst):
            return False
        if self.portal is not None and packet.portal != self.portal:
            return False
        if self.kind is not None and packet.kind != self.kind:
            return False
        return self.opc is None or opcode(packet) == self.opc

    def _between(self, src: int, dst: int) -> bool:
        forth = (not self.src or src in self.src) and (not self.dst or dst in self.dst)
        if forth or not self.both_ways:
            return forth
        return (not self.src or dst in self.src) and (not self.dst or src in self.dst)

    def plain(self) -> dict[str, Any]:
        """The rule as plain data; `Rule.load` reads it back."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        return data

    @classmethod
    def load(cls, data: dict[str, Any]) -> Rule:
        """Read what `plain` wrote; msgspec.ValidationError for anything else."""
        return msgspec.convert(data, cls, strict=False)


def partition(
    name: str, side: tuple[int, ...], other: tuple[int, ...], one_way: bool = False
) -> Rule:
    """Nothing passes between the two sides; one way: nothing from `side` to `other`."""
    return Rule(name=name, src=side, dst=other, both_ways=not one_way)


def opcode(packet: Any) -> int | None:
    """The opcode of the RPC in a packet, None for bulk data and for what has no payload."""
    body = getattr(packet.payload, "body", None)
    opc: int | None = getattr(body, "opc", None)
    return opc


def draw(seed: int, index: int) -> float:
    """Number `index` of the sequence of `seed`, in [0, 1): splitmix64, the same everywhere."""
    value = (seed * 0xD1342543DE82EF95 + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return ((value ^ value >> 31) >> 11) / (1 << 53)


class _Installed:
    """A rule in use on one sender, with what it has counted there."""

    __slots__ = ("hits", "index", "rule", "seen")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.seen = 0
        self.index = 0
        self.hits = 0

    def hit(self, packet: Any) -> bool:
        rule = self.rule
        if not rule.matches(packet):
            return False
        index = self.index = self.seen
        self.seen += 1
        if index < rule.skip or (rule.count is not None and self.hits >= rule.count):
            return False
        if rule.rate < 1.0 and draw(rule.seed ^ int(packet.src), index) >= rule.rate:
            return False
        self.hits += 1
        return True

    def wait_ns(self, packet: Any) -> int:
        """How long the packet that was just hit is held back."""
        rule = self.rule
        if rule.action == "reorder":
            return int(draw(rule.seed ^ int(packet.src) ^ _WAITS, self.index) * rule.delay_ns)
        return rule.delay_ns


class Rules:
    """The rules that one sender obeys, in the order they were installed."""

    __slots__ = ("_installed", "active")

    def __init__(self) -> None:
        self._installed: dict[str, _Installed] = {}
        self.active = False
        """False while there is no rule, so that most packets cost nothing."""

    def install(self, rule: Rule) -> None:
        """Obey `rule` from now on."""
        self._installed[rule.name] = _Installed(rule)
        self.active = True

    def remove(self, name: str) -> None:
        """Forget the rule of that name; harmless when there is none."""
        self._installed.pop(name, None)
        self.active = bool(self._installed)

    def clear(self) -> None:
        """Forget all rules."""
        self._installed.clear()
        self.active = False

    def verdict(self, packet: Any) -> Verdict:
        """What happens to this packet: any drop wins, delays add up. A node's own never suffer."""
        if packet.src == packet.dst:
            return PASS
        delay_ns, copy_ns = 0, None
        for installed in self._installed.values():
            if installed.hit(packet):
                action = installed.rule.action
                if action == "drop":
                    return DROP
                if action == "duplicate":
                    copy_ns = installed.rule.delay_ns
                else:
                    delay_ns += installed.wait_ns(packet)
        if copy_ns is not None:
            return Twice(delay_ns, copy_ns)
        return Delay(delay_ns) if delay_ns else PASS

    def hits(self) -> dict[str, int]:
        """How many packets each rule has hit on this sender."""
        return {name: installed.hits for name, installed in self._installed.items()}

"""Packet rules are pure: packets in, verdicts out."""

from itertools import pairwise

import msgspec
import pytest

from labsim.base.ids import Nid
from labsim.net.lnet import GET, PUT, Packet
from labsim.net.rules import DROP, PASS, Delay, Rule, Rules, Twice, draw, partition

A, B, C = (Nid.parse(f"10.0.0.{n}@tcp") for n in (1, 2, 3))


class Body:
    def __init__(self, opc):
        self.opc = opc


class Message:
    def __init__(self, opc):
        self.body = Body(opc)


def packet(src=A, dst=B, kind=PUT, portal=12, payload=b""):
    return Packet(kind, src, dst, portal, 1, 0, payload, 0)


def rules(*installed):
    made = Rules()
    for rule in installed:
        made.install(rule)
    return made


def test_without_rules_everything_passes():
    made = Rules()
    assert not made.active
    assert made.verdict(packet()) is PASS


def test_a_partition_cuts_both_ways_and_heals():
    made = rules(partition("cut", (A,), (B, C)))
    assert made.active
    for src, dst in [(A, B), (B, A), (A, C), (C, A)]:
        assert made.verdict(packet(src, dst)) is DROP
    assert made.verdict(packet(B, C)) is PASS
    assert made.verdict(packet(A, A)) is PASS
    made.remove("cut")
    made.remove("cut")
    assert not made.active
    assert made.verdict(packet()) is PASS


def test_a_one_way_partition_lets_the_other_way_pass():
    made = rules(partition("cut", (A,), (B,), one_way=True))
    assert made.verdict(packet(A, B)) is DROP
    assert made.verdict(packet(B, A)) is PASS


def test_an_empty_side_is_everybody():
    made = rules(partition("alone", (A,), ()))
    assert made.verdict(packet(A, C)) is DROP
    assert made.verdict(packet(C, A)) is DROP
    assert made.verdict(packet(B, C)) is PASS


@pytest.mark.parametrize(
    ("match", "hit", "miss"),
    [
        ({"portal": 12}, packet(), packet(portal=10)),
        ({"kind": GET}, packet(kind=GET), packet()),
        ({"opc": 4}, packet(payload=Message(4)), packet(payload=Message(3))),
        ({"opc": 4}, packet(payload=Message(4)), packet(payload=b"bulk")),
        ({"src": (A,)}, packet(), packet(src=C)),
        ({"dst": (B,)}, packet(), packet(dst=C)),
    ],
)
def test_what_a_rule_matches(match, hit, miss):
    made = rules(Rule(name="r", **match))
    assert made.verdict(hit) is DROP
    assert made.verdict(miss) is PASS


def test_delays_add_up_and_a_drop_wins():
    made = rules(
        Rule(name="slow", action="delay", delay_ns=5),
        Rule(name="slower", action="delay", delay_ns=7, portal=12),
    )
    assert made.verdict(packet()) == Delay(12)
    assert made.verdict(packet(portal=9)) == Delay(5)
    made.install(Rule(name="none", portal=12))
    assert made.verdict(packet()) is DROP


def test_a_duplicate_comes_twice_and_a_drop_wins():
    made = rules(
        Rule(name="twice", action="duplicate", delay_ns=3),
        Rule(name="slow", action="delay", delay_ns=5, portal=12),
    )
    assert made.verdict(packet()) == Twice(5, 3)
    assert made.verdict(packet(portal=9)) == Twice(0, 3)
    made.install(Rule(name="none", portal=12))
    assert made.verdict(packet()) is DROP


def test_a_reorder_draws_a_wait_for_each_packet_and_always_the_same():
    first, again = (rules(Rule(name="r", action="reorder", delay_ns=1000, seed=7)) for _ in "ab")
    waits = [[made.verdict(packet()).ns for _ in range(500)] for made in (first, again)]
    assert waits[0] == waits[1]
    assert 0 <= min(waits[0]) < 10
    assert 990 < max(waits[0]) < 1000
    assert sum(late > early + 100 for late, early in pairwise(waits[0])) > 100


def test_skip_and_count():
    made = rules(Rule(name="third and fourth", skip=2, count=2))
    verdicts = [made.verdict(packet()) for _ in range(6)]
    assert verdicts == [PASS, PASS, DROP, DROP, PASS, PASS]
    assert made.hits() == {"third and fourth": 2}


def test_a_rate_hits_about_that_many_and_always_the_same():
    first = rules(Rule(name="r", rate=0.25, seed=7))
    again = rules(Rule(name="r", rate=0.25, seed=7))
    other = rules(Rule(name="r", rate=0.25, seed=8))
    fates = [[made.verdict(packet()) for _ in range(4000)] for made in (first, again, other)]
    assert fates[0] == fates[1] != fates[2]
    assert 900 < fates[0].count(DROP) < 1100


def test_draws_are_the_same_everywhere():
    assert [round(draw(0, n), 6) for n in range(3)] == [0.883311, 0.431528, 0.026434]
    assert 0.49 < sum(draw(n, 0) for n in range(10000)) / 10000 < 0.51


def test_a_rule_travels_as_plain_data():
    rule = Rule(name="r", src=(A,), portal=4, rate=0.5, action="delay", delay_ns=3)
    assert Rule.load(rule.plain()) == rule
    assert Rule.load(msgspec.json.decode(msgspec.json.encode(rule.plain()))) == rule
    with pytest.raises(msgspec.ValidationError, match="prtal"):
        Rule.load({"name": "r", "prtal": 4})


def test_a_rule_of_the_same_name_replaces_the_first():
    made = rules(Rule(name="r"), Rule(name="r", portal=4))
    assert made.verdict(packet()) is PASS

"""Which node an import asks next, when its target may be on several."""

from __future__ import annotations

from labsim.base.ids import Nid
from labsim.net.ptlrpc.connections import Connections

A, B, C = (int(Nid.parse(f"10.0.2.{n}@tcp")) for n in (1, 2, 3))


def asked(found: Connections, *times: int) -> list[int]:
    order = []
    for now in times:
        found.select(now)
        order.append(found.current)
    return order


def test_new_nodes_are_asked_in_order_then_the_one_longest_ago() -> None:
    assert asked(Connections([A, B, C]), 1, 2, 3, 4, 5) == [A, B, C, A, B]


def test_after_a_success_the_list_begins_anew() -> None:
    found = Connections([A, B])
    assert asked(found, 1, 2) == [A, B]
    found.succeeded()
    assert asked(found, 10, 11, 12) == [A, B, A]


def test_all_have_been_asked_when_the_first_comes_round_again() -> None:
    found = Connections([A, B])
    assert [found.select(now) for now in range(1, 7)] == [False, False, True, False, True, False]
    found.succeeded()
    assert not found.select(7)
    alone = Connections([A])
    assert [alone.select(now) for now in (1, 2, 3)] == [False, True, True]


def test_a_node_that_is_only_busy_is_asked_again() -> None:
    found = Connections([A, B])
    found.select(1)
    found.stay()
    assert asked(found, 2, 3) == [A, B]


def test_the_node_where_a_target_came_up_is_asked_first() -> None:
    found = Connections([A, B, C])
    asked(found, 1, 2, 3)
    assert found.prefer(C)
    assert asked(found, 4) == [C]
    assert not found.prefer(int(Nid.parse("10.0.9.9@tcp")))
    assert [str(nid) for nid in found.nids] == ["10.0.2.3@tcp", "10.0.2.1@tcp", "10.0.2.2@tcp"]


def test_a_node_that_is_known_already_keeps_its_place() -> None:
    found = Connections([A, B])
    found.add(B, C, A)
    assert found.nids == [A, B, C]

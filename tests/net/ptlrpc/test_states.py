"""The import's state table and what a connect reply means."""

from __future__ import annotations

import pytest

from labsim.base.errors import ProtocolError
from labsim.net.ptlrpc.states import FOLLOWS, State, after_connect, check_granted, follow
from labsim.wire.constants import MSG_CONNECT_RECONNECT, MSG_CONNECT_RECOVERING


@pytest.mark.parametrize(
    ("flags", "first", "same", "state"),
    [
        (0, True, False, State.FULL),
        (MSG_CONNECT_RECOVERING, True, False, State.REPLAY_LOCKS),
        (MSG_CONNECT_RECONNECT, False, True, State.RECOVER),
        (MSG_CONNECT_RECONNECT, False, False, State.EVICTED),
        (0, False, True, State.EVICTED),
        (MSG_CONNECT_RECOVERING, False, False, State.REPLAY),
        (MSG_CONNECT_RECOVERING | MSG_CONNECT_RECONNECT, False, True, State.REPLAY),
    ],
)
def test_what_a_connect_reply_means(flags: int, first: bool, same: bool, state: State) -> None:
    assert after_connect(flags, first, same) is state


def test_every_state_is_reachable_and_can_end() -> None:
    reached = {State.NEW}
    while True:
        more = {new for old in reached for new in FOLLOWS[old]} | reached
        if more == reached:
            break
        reached = more
    assert reached == set(State)
    assert all(State.CLOSED in FOLLOWS[state] for state in State if state is not State.CLOSED)


def test_a_forbidden_step_is_our_defect() -> None:
    with pytest.raises(AssertionError):
        follow(State.NEW, State.FULL)


def test_a_flag_nobody_asked_for_is_refused() -> None:
    check_granted(0b11, 0b10)
    with pytest.raises(ProtocolError, match="ocd_connect_flags"):
        check_granted(0b01, 0b11)

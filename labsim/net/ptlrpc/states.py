"""The life of an import, as a table.

Knows no time and no message; it only says which state follows. Stands for enum lustre_imp_state and
the decisions of ptlrpc_connect_interpret (ptlrpc/import.c).
"""

from __future__ import annotations

from enum import IntEnum

from labsim.base.errors import ProtocolError
from labsim.base.members import plain_members
from labsim.wire.constants import MSG_CONNECT_RECONNECT, MSG_CONNECT_RECOVERING


@plain_members
class State(IntEnum):
    """LUSTRE_IMP_*, with Lustre's numbers."""

    CLOSED = 1
    NEW = 2
    DISCON = 3
    CONNECTING = 4
    REPLAY = 5
    REPLAY_LOCKS = 6
    REPLAY_WAIT = 7
    RECOVER = 8
    FULL = 9
    EVICTED = 10
    IDLE = 11


FOLLOWS: dict[State, frozenset[State]] = {
    State.NEW: frozenset({State.CONNECTING, State.CLOSED}),
    State.CONNECTING: frozenset(
        {
            State.FULL,
            State.REPLAY,
            State.REPLAY_LOCKS,
            State.REPLAY_WAIT,
            State.RECOVER,
            State.EVICTED,
            State.DISCON,
            State.IDLE,
            State.CLOSED,
        }
    ),
    State.REPLAY: frozenset({State.REPLAY_LOCKS, State.CONNECTING, State.CLOSED}),
    State.REPLAY_LOCKS: frozenset({State.REPLAY_WAIT, State.CONNECTING, State.CLOSED}),
    State.REPLAY_WAIT: frozenset({State.RECOVER, State.CONNECTING, State.CLOSED}),
    State.RECOVER: frozenset({State.FULL, State.DISCON, State.CONNECTING, State.CLOSED}),
    State.FULL: frozenset({State.DISCON, State.CONNECTING, State.CLOSED}),
    State.EVICTED: frozenset({State.RECOVER, State.CLOSED}),
    State.DISCON: frozenset({State.CONNECTING, State.CLOSED}),
    State.IDLE: frozenset({State.CONNECTING, State.CLOSED}),
    State.CLOSED: frozenset({State.CONNECTING}),
}
"""Which states may follow which."""


def follow(old: State, new: State) -> State:
    """`new`, after checking that it may follow `old`."""
    assert new in FOLLOWS[old], f"import went from {old.name} to {new.name}"
    return new


def after_connect(
    op_flags: int,
    first: bool,
    same_handle: bool,
    resume: State = State.REPLAY,
    invalid: bool = False,
) -> State:
    """The state that a connect reply leads to.

    `op_flags` are the reply's MSG_CONNECT_*; `first` says that this import has no handle;
    `same_handle` that the server answers with the cookie it gave before. A server in its recovery
    window sends RECOVERING, with RECONNECT where it has seen this client in it before: then the
    replay goes on in the state `resume`. One that has forgotten this client sends neither flag.
    An `invalid` import has dropped what it held and cannot take part in a recovery.
    """
    recovering = bool(op_flags & MSG_CONNECT_RECOVERING)
    reconnect = bool(op_flags & MSG_CONNECT_RECONNECT)
    if first:
        return State.REPLAY_LOCKS if recovering else State.FULL
    if invalid:
        return State.EVICTED
    if reconnect and recovering:
        return resume
    if recovering:
        return State.REPLAY
    return State.RECOVER if reconnect and same_handle else State.EVICTED


def check_granted(wanted: int, granted: int) -> None:
    """Refuse a server that grants a connect flag which nobody asked for (EPROTO in Lustre)."""
    extra = granted & ~wanted
    if extra:
        raise ProtocolError(f"obd_connect_data.ocd_connect_flags at 0: flags {extra:#x} unasked")

"""A defect planted in the rules that keep data safe is caught by the oracles of random runs.

Each is a rule of Lustre turned off in one place. The seeds are among those of `labsim stress`; on a
cluster without the defect they are clean (`test_stress.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from labsim.ldlm.extent import ExtentResource
from labsim.ldlm.flock import FlockResource
from labsim.ldlm.resource import Resource
from labsim.net.ptlrpc.recovery import Waiting
from labsim.nodes.client.grant import GrantAccount
from labsim.nodes.client.osc_object import OscObject, span
from labsim.nodes.target import Target
from labsim.scenario import model, stress
from labsim.scenario.runner import run


def lock_compatibility(patch: pytest.MonkeyPatch) -> None:
    """A server grants whatever it is asked for."""
    for kind in (Resource, ExtentResource):
        patch.setattr(kind, "may_grant", lambda *_: True)


def file_locks(patch: pytest.MonkeyPatch) -> None:
    """An MDT sees no file lock in the way of another."""
    patch.setattr(FlockResource, "conflicting", lambda *_: iter(()))


def cancel_flush(patch: pytest.MonkeyPatch) -> None:
    """A client gives a lock back and drops what is dirty under it."""

    def blocking(self: OscObject, lock: Any) -> None:
        self.discard(*span(lock))
        self.uncover(lock)

    patch.setattr(OscObject, "blocking", blocking)


def grant_return(patch: pytest.MonkeyPatch) -> None:
    """A client forgets grant that it does not need any more in place of giving it back."""

    def announce(self: GrantAccount) -> int:
        self.lost = 0
        return 0

    patch.setattr(GrantAccount, "announce", announce)


def resend_check(patch: pytest.MonkeyPatch) -> None:
    """A server does again what it has done and answered, when the answer was lost."""
    patch.setattr(Target, "saved", lambda self, req: None)


def replay_order(patch: pytest.MonkeyPatch) -> None:
    """A server that restarted replays the last first."""
    patch.setattr(Waiting, "__lt__", lambda self, other: self.transno > other.transno)


def transno_assignment(patch: pytest.MonkeyPatch) -> None:
    """A server gives every other transaction the number of the one before."""
    number = Target._number
    count = [0]

    def wrong(self: Target, tx: Any, req: Any, changed: Any) -> None:
        count[0] += 1
        if req is not None and not req.body.transno and count[0] % 2:
            self.last_transno -= 1
        number(self, tx, req, changed)

    patch.setattr(Target, "_number", wrong)


class Show(NamedTuple):
    """Where a defect shows: what must break for it, in which runs."""

    plant: Callable[[pytest.MonkeyPatch], None]
    faults: tuple[str, ...]
    seeds: range
    calls: int = 60
    troubles: int = 4


SHOWS = (
    Show(lock_compatibility, (), range(1, 4)),
    Show(file_locks, (), range(1, 4)),
    Show(cancel_flush, (), range(1, 4)),
    Show(grant_return, (), range(1, 4)),
    Show(resend_check, ("answers",), range(2, 8), 100, 12),
    Show(replay_order, ("power",), range(2, 9)),
    Show(transno_assignment, ("power",), range(2, 9)),
)


def broken(show: Show, seed: int) -> list[str]:
    """What the oracles say of one run."""
    plan = stress.Plan(calls=show.calls, faults=show.faults, troubles=show.troubles)
    return run(stress.scenario(plan, seed), model.REFERENCE_TREE, seed=seed).broken


@pytest.mark.parametrize("show", SHOWS, ids=lambda show: show.plant.__name__)
def test_a_planted_defect_is_caught(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken(show, show.seeds[0]) == []
    show.plant(monkeypatch)
    assert any(broken(show, seed) for seed in show.seeds)

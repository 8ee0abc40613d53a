"""The file locks of random runs: who may not have had them, and who was refused them wrongly."""

from __future__ import annotations

import errno
from typing import Any

from labsim.nodes.client.flock import F_GETLK, F_RDLCK, F_SETLK, F_SETLKW, F_UNLCK, F_WRLCK
from labsim.nodes.client.vfs_locks import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN
from labsim.scenario import oracle
from labsim.scenario.record import NEVER

from .test_posix_model import SECOND, History


class Locks(History):
    """Calls for locks on one file; each client has it open as its file 1."""

    def fcntl(self, kind: int, *where: int, command: int = F_SETLK, **fields: Any) -> None:
        self._ask("fcntl", command, kind, *where, **fields)

    def flock(self, operation: int, **fields: Any) -> None:
        self._ask("flock", operation, **fields)

    def _ask(self, name: str, *args: int, **fields: Any) -> None:
        at = fields.pop("when", None)
        self.call(name, *args, **{"file": 1, "fid": "f", "at": at} | fields)

    @property
    def wrong(self) -> str:
        told = oracle.locks(self.archive)
        return told[0].splitlines()[0].rpartition(": ")[2] if told else ""


GOT = "c0 (process of boot 0 1) got it by #1"


def test_two_do_not_have_it_at_once() -> None:
    h = Locks()
    h.fcntl(F_WRLCK, 0, 10)
    h.fcntl(F_RDLCK, 10, 5, on="c1")
    h.fcntl(F_UNLCK, 2, 3)
    h.fcntl(F_WRLCK, 2, 3, on="c1")
    assert h.wrong == ""
    h.fcntl(F_RDLCK, 0, 3, on="c2")
    assert h.wrong == GOT


def test_readers_share_it() -> None:
    h = Locks()
    h.flock(LOCK_SH)
    h.flock(LOCK_SH, on="c1")
    assert h.wrong == ""
    h.flock(LOCK_EX, on="c2")
    assert h.wrong == "c0 (file 1) got it by #1"


def test_a_close_lets_go_of_it() -> None:
    h = Locks()
    h.fcntl(F_WRLCK)
    h.call("close", file=1, fid="f")
    h.flock(LOCK_EX, on="c1")
    h.flock(LOCK_UN, on="c1")
    h.flock(LOCK_EX, on="c2")
    assert h.wrong == ""


def test_a_refusal_has_a_cause() -> None:
    h = Locks()
    h.fcntl(F_WRLCK, 0, 10, when=(1, 5))
    h.fcntl(F_WRLCK, 9, 1, on="c1", when=(2, 3), errno=errno.EAGAIN)
    h.flock(LOCK_EX | LOCK_NB, on="c1", errno=errno.EAGAIN)
    assert h.wrong == ""
    h.fcntl(F_RDLCK, 10, 1, on="c1", errno=errno.EAGAIN)
    assert h.wrong == "expected success, nobody holds it"


def test_who_is_asked_knows_who_has_it() -> None:
    h = Locks()
    h.fcntl(F_WRLCK, 0, 10)
    h.fcntl(F_RDLCK, command=F_GETLK, on="c1", value=[F_WRLCK, 0, 10, 1])
    assert h.wrong == ""
    h.fcntl(F_RDLCK, 50, 1, command=F_GETLK, on="c1", value=[F_WRLCK, 0, 10, 1])
    assert h.wrong == "expected no lock in the way"


def test_a_deadlock_is_a_circle() -> None:
    h = Locks()
    h.fcntl(F_WRLCK, 0, 1)
    h.fcntl(F_WRLCK, 1, 1, on="c1")
    h.fcntl(F_WRLCK, 1, 1, command=F_SETLKW, when=(10, NEVER))
    h.fcntl(F_WRLCK, 0, 1, command=F_SETLKW, on="c1", when=(12, 13), errno=errno.EDEADLK)
    assert h.wrong == ""
    h.fcntl(F_WRLCK, 5, 1, on="c2")
    h.fcntl(F_WRLCK, 5, 1, command=F_SETLKW, on="c1", errno=errno.EDEADLK)
    assert h.wrong == "nobody who holds it waits for this one"


def test_a_client_that_is_gone_has_nothing() -> None:
    h = Locks()
    h.fcntl(F_WRLCK)
    h.note("killed", 5, target="")
    h.fcntl(F_WRLCK, on="c1", when=(6, 20))
    assert h.wrong == ""
    h.note("evicted", 30, node="c1", target="lustre-MDT0000")
    h.fcntl(F_WRLCK, on="c2", when=(31, 32))
    assert h.wrong == ""
    h.note("evicted", 40, node="c2")
    assert h.now * SECOND < 40 * SECOND
    h.fcntl(F_WRLCK, on="c3", when=(41, 42))
    assert h.wrong == "c2 (process of boot 0 1) got it by #3"

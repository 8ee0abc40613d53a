"""Make a failing random run smaller: fewer troubles, clients and calls that still show it.

Does not know how a run is made: `fails` runs a script and says what broke. Stands for delta
debugging (Zeller, "Simplifying and isolating failure-inducing input", 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from labsim.scenario.stress import Script

T = TypeVar("T")


class _Spent(Exception):
    """As many runs were made as there may be."""


class Shrinker:
    """Shrinks a script as long as `fails(script)` is what it was, in `most` runs."""

    def __init__(self, fails: Callable[[Script], str], most: int = 150) -> None:
        self.fails = fails
        self.left = most
        self.best: Script | None = None
        self._kind = ""

    def shrink(self, script: Script) -> Script:
        """The smallest script found that fails in the same way."""
        self._kind = self.fails(script)
        self.best = script
        try:
            while self._pass():
                continue
        except _Spent:
            pass
        return self.best

    def _pass(self) -> bool:
        """Try to do without each part once; True where some could go."""
        before = self.best
        self._with_fewer("troubles", self._now().troubles)
        for name in list(self._now().clients):
            self._without_client(name)
        for name in list(self._now().clients):
            self._fewer_calls(name)
        return self.best is not before

    def _now(self) -> Script:
        assert self.best is not None
        return self.best

    def _try(self, script: Script) -> bool:
        if not self.left:
            raise _Spent
        self.left -= 1
        if self.fails(script) != self._kind:
            return False
        self.best = script
        return True

    def _with_fewer(self, field: str, items: Sequence[Any]) -> None:
        self._minimised(
            items, lambda some: msgspec.structs.replace(self._now(), **{field: list(some)})
        )

    def _without_client(self, name: str) -> None:
        clients = self._now().clients
        if clients[name]:
            self._try(msgspec.structs.replace(self._now(), clients={**clients, name: []}))

    def _fewer_calls(self, name: str) -> None:
        def with_calls(some: Sequence[Any]) -> Script:
            clients = self._now().clients
            return msgspec.structs.replace(self._now(), clients={**clients, name: list(some)})

        self._minimised(self._now().clients[name], with_calls)

    def _minimised(self, items: Sequence[T], made: Callable[[Sequence[T]], Script]) -> None:
        """Leave out ever smaller runs of items as long as it fails."""
        size = max(len(items) // 2, 1)
        while items:
            at = 0
            while at < len(items):
                fewer = [*items[:at], *items[at + size :]]
                if self._try(made(fewer)):
                    items = fewer
                else:
                    at += size
            if size == 1:
                return
            size //= 2

"""Both kinds of OSD, for the suite that both must pass."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.storage.bench import Bench


@pytest.fixture(params=["mem", "lmdb"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Any, None, None]:
    """`bench(**options)` makes a `Bench`; all are closed at the end."""
    made: list[Bench] = []

    def make(**options: Any) -> Bench:
        made.append(Bench(request.param, tmp_path / str(len(made)), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()

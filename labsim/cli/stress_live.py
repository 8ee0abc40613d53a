"""Random runs on real processes, as a person follows them: a bar while they go on, a line for each.

Does not know how a run is made. The bar is for terminals only.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Any

import click

from labsim.base.units import NS_PER_S, format_duration
from labsim.scenario import stress
from labsim.scenario.model import REFERENCE_TREE
from labsim.scenario.runner import Listener, Run, run
from labsim.scenario.tables import console
from labsim.scenario.verdict import Shown

REFRESH_S = 0.5


class Followed(Listener):
    """Counts what is done, and shows it on standard error where that is a terminal."""

    def __init__(self, seed: int, plan: stress.Plan) -> None:
        self.calls = self.kills = 0
        self._seed = seed
        self._expected_s = (plan.for_ns + stress.LIVE_QUIET_NS) / NS_PER_S
        self._bar: Any = None
        self._task: Any = None
        self._started = self._shown = monotonic()

    def start(self) -> None:
        """Show the bar."""
        out = console(stderr=True)
        if out.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=out, transient=True, refresh_per_second=2)
            self._task = self._bar.add_task(self._words(), total=self._expected_s)
            self._bar.start()

    def stop(self) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.stop()

    def step(self, shown: Shown) -> None:
        """A call, a kill or something else is done."""
        if shown.label.endswith((": kill", ": power-cycle")):
            self.kills += 1
        elif not shown.label.startswith(("wait:", "net:")):
            self.calls += 1
        now = monotonic()
        if self._bar is not None and now - self._shown > REFRESH_S:
            self._shown = now
            done = min(now - self._started, self._expected_s)
            self._bar.update(self._task, description=self._words(), completed=done)

    def _words(self) -> str:
        kills = "1 kill" if self.kills == 1 else f"{self.kills} kills"
        return f"seed {self._seed}: {self.calls} calls, {kills}"

    def line(self, made: Run) -> str:
        """What came out, in one line."""
        took = format_duration(made.wall_ms // 1000 * NS_PER_S)
        return f"{self._words()} in {took}: {'clean' if made.ok else 'not clean'}"


def live(plan: stress.Plan, seeds: Iterable[int], check: bool) -> int:
    """Make the runs one after the other; the exit status."""
    bad = 0
    for seed in seeds:
        listener = Followed(seed, plan)
        try:
            listener.start()
            scenario = stress.scenario(plan, seed)
            made = run(scenario, REFERENCE_TREE, "live", seed, listener, check=check)
        finally:
            listener.stop()
        click.echo(click.style(listener.line(made), fg="green" if made.ok else "red"))
        for what in made.wrong:
            click.echo(what)
        bad += not made.ok
    return 1 if bad else 0

"""What a person reads of runs as they go: steps, verdicts, one line for all.

Does not know how a run is made. Colours go to terminals only. Tables are in `matrix`.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from labsim.base.units import format_duration
from labsim.scenario import model
from labsim.scenario.runner import Listener, Run
from labsim.scenario.verdict import Shown

COLOURS = {"pass": "green", "bug": "yellow", "fail": "red", "unknown": "bright_black"}


def _dim(text: str) -> str:
    return click.style(text, dim=True)


class Told(Listener):
    """Shows runs as they go; every step where `verbose` is set."""

    def __init__(self, verbose: bool) -> None:
        self.verbose = verbose

    def scenario(self, scenario: model.Scenario) -> None:
        """Ticket, title and name; or name, title and Lustre's tests."""
        click.echo(f"{click.style(scenario.ticket or scenario.name, bold=True)}  {scenario.title}")
        if scenario.covers:
            click.echo(_dim(f"  as in {', '.join(scenario.covers)}"))
        if scenario.ticket:
            click.echo(_dim(f"  {scenario.name}"))

    def tree(self, tree: str) -> None:
        """The tree's name, above its steps."""
        if self.verbose:
            click.echo(f"  {click.style(tree, bold=True)}")

    def step(self, shown: Shown) -> None:
        """One step: verdict, when, what; its output below."""
        if not self.verbose:
            return
        word = click.style(f"{shown.word:5}", fg=COLOURS[shown.word])
        at = _dim(f"{format_duration(shown.at_ns):>10}")
        click.echo(f"    {shown.step:>3} {word}{at}  {shown.label}")
        for line in shown.output.splitlines():
            click.echo(" " * 25 + _dim(line))
        if shown.differs:
            click.echo(" " * 25 + click.style(shown.differs, fg=COLOURS[shown.word]))

    def run(self, made: Run) -> None:
        """The verdict, whether it is as expected, and what broke."""
        verdict = click.style(f"{made.verdict:8}", fg=COLOURS[made.verdict])
        click.echo(f"  {made.tree:14}{verdict}{self._remark(made)}")
        if not made.ok and not self.verbose:
            for shown in made.steps:
                if shown.differs:
                    differs = click.style(shown.differs, fg="red")
                    click.echo(f"    line {shown.line}: {shown.label}: {differs}")
        for what in made.broken:
            click.echo(click.style(f"    {what}", fg="red"))

    def _remark(self, made: Run) -> str:
        if made.skipped:
            return _dim(made.skipped)
        took = f"{format_duration(made.virtual_ns)}, {made.wall_ms} ms here"
        expected = "as expected"
        if not made.ok:
            expected = click.style(f"expected {made.expected}", fg="red", bold=True)
        return f"{expected}  {_dim(f'{took}  {made.hash}'.rstrip())}"

    def summary(self, runs: Sequence[Run]) -> None:
        """One line for all."""
        ok = all(made.ok for made in runs)
        click.echo(click.style(verdict_line(runs), fg="green" if ok else "red", bold=True))


def verdict_line(runs: Sequence[Run]) -> str:
    """How many runs there were, and which were not as expected."""
    odd = [made for made in runs if not made.ok]
    unknown = sum(made.verdict == "unknown" for made in runs)
    counted = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    extra = f", {unknown} unknown" if unknown else ""
    if not odd:
        return f"{counted}: every verdict as expected{extra}"
    names = ", ".join(f"{made.scenario} on {made.tree}" for made in odd[:5])
    more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
    return f"{counted}: {len(odd)} not as expected{extra}: {names}{more}"

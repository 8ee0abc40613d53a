"""What a person reads: the steps of a run, its verdict, tables.

Does not know how a run is made. Colours and widths are the terminal's business, by rich.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from labsim.base.units import format_duration
from labsim.scenario import model
from labsim.scenario.runner import Run
from labsim.scenario.verdict import Shown

STYLES = {"pass": "green", "bug": "yellow", "fail": "bold red", "unknown": "dim"}


class Quiet:
    """Shows nothing: for --json."""

    def scenario(self, scenario: model.Scenario) -> None:
        """A scenario begins."""

    def tree(self, tree: str) -> None:
        """Its run on a tree begins."""

    def step(self, shown: Shown) -> None:
        """A step is done."""

    def run(self, made: Run) -> None:
        """The run is done."""

    def summary(self, runs: Sequence[Run]) -> None:
        """All runs are done."""


class Told(Quiet):
    """Shows runs as they go; every step where `verbose` is set."""

    def __init__(self, console: Console, verbose: bool) -> None:
        self.console = console
        self.verbose = verbose

    def _line(self, *parts: str | tuple[str, str]) -> None:
        self.console.print(Text.assemble(*parts), soft_wrap=True)

    def scenario(self, scenario: model.Scenario) -> None:
        """Ticket, title and name."""
        self._line((scenario.ticket or scenario.name, "bold"), "  ", scenario.title)
        if scenario.ticket:
            self._line((f"  {scenario.name}", "dim"))

    def tree(self, tree: str) -> None:
        """The tree's name, above its steps."""
        if self.verbose:
            self._line("  ", (tree, "bold"))

    def step(self, shown: Shown) -> None:
        """One step: verdict, when, what; its output below."""
        if not self.verbose:
            return
        at = format_duration(shown.at_ns)
        self._line(
            f"    {shown.step:>3} ",
            (f"{shown.word:5}", STYLES[shown.word]),
            (f"{at:>10}  ", "dim"),
            shown.label,
        )
        for line in shown.output.splitlines():
            self._line(" " * 25, (line, "dim"))
        if shown.differs:
            self._line(" " * 25, (shown.differs, STYLES[shown.word]))

    def run(self, made: Run) -> None:
        """The verdict, whether it is as expected, and what broke."""
        remark = "as expected" if made.ok else f"expected {made.expected}"
        if made.verdict == "unknown":
            remark = "its history does not tell, so it was not run"
        took = f"{format_duration(made.virtual_ns)}, {made.wall_ms} ms here"
        self._line(
            f"  {made.tree:14}",
            (f"{made.verdict:8}", STYLES[made.verdict]),
            (remark, "" if made.ok else "bold red"),
            (f"  {took}  {made.hash}" if made.steps else "", "dim"),
        )
        if not made.ok and not self.verbose:
            for shown in made.steps:
                if shown.differs:
                    where = f"    line {shown.line}: {shown.label}: "
                    self._line(where, (shown.differs, "red"))
        for what in made.broken:
            self._line("    ", (what, "bold red"))

    def summary(self, runs: Sequence[Run]) -> None:
        """One line for all."""
        self._line(*verdict_line(runs))


def verdict_line(runs: Sequence[Run]) -> list[Any]:
    """How many runs, and how many were not as expected."""
    odd = [made for made in runs if not made.ok]
    unknown = sum(made.verdict == "unknown" for made in runs)
    counted = f"{len(runs)} run{'s' * (len(runs) != 1)}"
    extra = f", {unknown} unknown" if unknown else ""
    if not odd:
        return [(f"{counted}: every verdict as expected{extra}", "bold green")]
    names = ", ".join(f"{made.scenario} on {made.tree}" for made in odd[:5])
    more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
    return [(f"{counted}: {len(odd)} not as expected{extra}: {names}{more}", "bold red")]


def console(stderr: bool = False) -> Console:
    """Where a person reads; text in a pipe is never wrapped."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=1000)


def text(verbose: bool) -> Told:
    """Runs for a person."""
    return Told(console(), verbose)


def quiet() -> Quiet:
    """Runs for a program."""
    return Quiet()


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    console().print(table)

"""The matrix: regressions by trees.

Does not know how a run is made. Each cell holds what the tree's history says and what the run
showed; the table groups point releases under their branch, one letter a tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from labsim import trees
from labsim.scenario import kits, model
from labsim.scenario.batch import Task, cores, in_parallel, one_by_one
from labsim.scenario.cluster import Runtime
from labsim.scenario.report import verdict_line
from labsim.scenario.runner import Run, capture_file
from labsim.scenario.tables import console, empty

LETTERS = {"pass": "·", "bug": "B", "fail": "F", "unknown": "?"}
STYLES = {"pass": "green", "bug": "yellow", "fail": "bold red", "unknown": "dim"}
Group = tuple[str, list[str]]
FEW = 8
"""Up to so many trees get a column with the verdict in full."""


class Matrix:
    """The finished matrix."""

    def __init__(
        self, scenarios: Sequence[model.Scenario], names: Sequence[str], runs: Sequence[Run]
    ) -> None:
        self.scenarios = scenarios
        self.trees = names
        self._cells = {(made.scenario, made.tree): made for made in runs}
        self.runs = [self.cell(s, tree) for s in scenarios for tree in names]

    def cell(self, scenario: model.Scenario, tree: str) -> Run:
        """The run of a scenario on a tree."""
        return self._cells[scenario.name, tree]

    @property
    def ok(self) -> bool:
        """True when every verdict is the one that the tree's history demands."""
        return all(made.ok for made in self.runs)

    def plain(self) -> dict[str, Any]:
        """What `matrix --json` prints."""
        rows = [
            {
                "ticket": scenario.ticket,
                "area": scenario.area,
                "title": scenario.title,
                "cells": {
                    tree: {
                        "present": kits.presence(scenario, tree),
                        "verdict": self.cell(scenario, tree).verdict,
                    }
                    for tree in self.trees
                },
                **_behaviour(scenario),
            }
            for scenario in self.scenarios
        ]
        return {"trees": list(self.trees), "rows": rows}

    def show(self) -> None:
        """Print the table, what was not as expected, and the verdict line."""
        out = console()
        for groups in chunks(grouped(self.trees), out.width - self._label_width()):
            out.print(self._table(groups), soft_wrap=True)
        for made in self.runs:
            if not made.ok:
                out.print(Text(f"{made.scenario} on {made.tree}: {why(made)}", "red"))
        if len(self.trees) > FEW:
            out.print(Text("· pass   B bug   F fail   ? its history does not tell", "dim"))
        for tree in map(trees.get, self.trees):
            if tree.approximated_by:
                out.print(Text(f"{tree.name} is approximated by {tree.approximated_by}", "dim"))
        style = "bold green" if self.ok else "bold red"
        out.print(Text(verdict_line(self.runs), style), soft_wrap=True)

    def _label_width(self) -> int:
        return sum(max(map(len, column)) + 2 for column in zip(*self._labels(), strict=True))

    def _labels(self) -> list[tuple[str, str]]:
        return [("area", "scenario"), *((s.area, s.label) for s in self.scenarios)]

    def _table(self, groups: list[Group]) -> Table:
        head, *labels = self._labels()
        table = empty([*head, *(label for label, _ in groups)])
        for scenario, label in zip(self.scenarios, labels, strict=True):
            table.add_row(*label, *(self._text(scenario, names) for _, names in groups))
        return table

    def _text(self, scenario: model.Scenario, names: list[str]) -> Text:
        made = [self.cell(scenario, name) for name in names]
        if len(self.trees) <= FEW:
            return Text(made[0].verdict, _style(made[0]))
        return Text.assemble(*((LETTERS[one.verdict], _style(one)) for one in made))


def _behaviour(scenario: model.Scenario) -> dict[str, Any]:
    """What a row without a ticket says more."""
    if not scenario.covers:
        return {}
    return {"scenario": scenario.name, "covers": list(scenario.covers)}


def _style(made: Run) -> str:
    return STYLES[made.verdict] if made.ok else "bold white on red"


def why(made: Run) -> str:
    """In one line, why a run is not as expected."""
    reasons = [*made.broken, *(f"line {s.line}: {s.differs}" for s in made.steps if s.differs)]
    first = reasons[0].splitlines()[0] if reasons else "nothing differed"
    return f"{made.verdict}, expected {made.expected}: {first}"


def grouped(names: Sequence[str]) -> list[Group]:
    """(column, trees in it): each tree where there are few, else the releases of one branch."""
    if len(names) <= FEW:
        return [(name, [name]) for name in names]

    def series(name: str) -> str:
        if not name[0].isdigit():
            return name.partition("-")[0]
        return ".".join(name.split(".")[:2])

    return [(label, list(members)) for label, members in groupby(names, series)]


def chunks(groups: list[Group], width: int) -> list[list[Group]]:
    """Groups of columns that fit side by side."""
    found: list[list[Group]] = [[]]
    left = width
    for label, names in groups:
        needed = 2 + max(len(label), len(names) if len(names) > 1 else len("unknown"))
        if needed > left and found[-1]:
            found.append([])
            left = width
        found[-1].append((label, names))
        left -= needed
    return found


def make(
    scenarios: Sequence[model.Scenario],
    names: Sequence[str],
    runtime: Runtime,
    seed: int,
    jobs: int | None = None,
    show_progress: bool = True,
    pcap: str | None = None,
    check: bool = False,
) -> Matrix:
    """Run every scenario on every tree, on all cores where nothing but memory is shared.

    `pcap` is the file that each run's capture is named after.
    """
    count = len(scenarios) * len(names)
    tasks = [
        Task(s.path, tree, runtime, seed, capture_file(pcap, s, tree, count), check=check)
        for s in scenarios
        for tree in names
    ]
    workers = min(jobs or cores(), len(tasks)) if runtime == "sim" else 1
    runs: list[Run] = []
    with progress(len(tasks), show_progress) as advance:

        def note(made: Run) -> None:
            runs.append(made)
            advance()

        if workers > 1:
            in_parallel(tasks, workers, note)
        else:
            for made in one_by_one(tasks):
                note(made)
    return Matrix(scenarios, names, runs)


@contextmanager
def progress(total: int, show: bool) -> Iterator[Callable[[], Any]]:
    """A progress bar on standard error, where that is a terminal."""
    out = console(stderr=True)
    if not (show and out.is_terminal):
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = ("runs", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("runs", total=total)
        yield lambda: bar.advance(task)

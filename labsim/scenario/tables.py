"""Tables in a terminal, by rich.

Does not know what is in them. Text in a pipe is never wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table

WIDE = 1000
"""Columns of what is no terminal."""


def console(stderr: bool = False) -> Console:
    """Where a person reads."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=WIDE)


def empty(head: Iterable[str]) -> Table:
    """A table without lines or rows."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, no_wrap=True)
    return table


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table; in a pipe without blanks at the ends of its lines."""
    table = empty(head)
    for row in rows:
        table.add_row(*row)
    screen = console()
    if screen.is_terminal:
        screen.print(table)
        return
    with screen.capture() as printed:
        screen.print(table)
    for line in printed.get().splitlines():
        click.echo(line.rstrip())

"""What several verbs share: options, choosing scenarios and trees, writing results.

Does not know what a run does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """--json: output for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(
        function
    )


def run_options(function: F) -> F:
    """Options of everything that runs scenarios."""
    for option in (
        click.option(
            "--pcap",
            type=click.Path(dir_okay=False),
            metavar="FILE",
            help="Capture the network into FILE; of several runs, into one each, named after it.",
        ),
        click.option("--check", is_flag=True, help="Look at the invariants all the time."),
        click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML to FILE."),
        click.option("--live", is_flag=True, help="Run on real processes, not simulated."),
        click.option("--seed", type=int, default=1, show_default=True, help="Seed of the runs."),
        click.option(
            "--tree", "trees", multiple=True, metavar="TREE", help="A tree to run on; repeatable."
        ),
    ):
        function = option(function)
    return function


def print_json(value: Any) -> None:
    """Print plain data as JSON, indented."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def write(path: Path, text: str) -> None:
    """Write a result file; InputError where that cannot be."""
    from labsim.base.errors import InputError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", str(path)) from None


def checked_trees(names: tuple[str, ...]) -> list[str]:
    """Tree names as given, each known and once; InputError with a did-you-mean otherwise."""
    from labsim import trees

    return list(dict.fromkeys(trees.get(name).name for name in names))
